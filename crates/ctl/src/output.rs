//! What a verb prints: what it announces, lines, and tables in the format that was asked for. The one place that
//! knows the looks of each; what is in a cell comes as JSON from the broker.

mod erlang;

use std::io::Write;

use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// How tables are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Cells with tabs between them.
    Table,
    /// Comma-separated values, each quoted.
    Csv,
    /// A list of objects.
    Json,
    /// An object on each line.
    JsonStream,
    /// A table with lines around it, for eyes.
    PrettyTable,
}

impl Format {
    /// The names on the command line.
    pub(crate) const NAMES: [&'static str; 5] = ["table", "csv", "json", "json_stream", "pretty_table"];

    /// The format of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let formats = [Self::Table, Self::Csv, Self::Json, Self::JsonStream, Self::PrettyTable];
        Self::NAMES.iter().position(|known| *known == name).and_then(|index| formats.get(index).copied())
    }

    /// Whether programs read it, which want nothing but the rows.
    pub(crate) fn is_for_programs(self) -> bool {
        matches!(self, Self::Csv | Self::Json | Self::JsonStream)
    }
}

/// How a cell is shown where the format has text only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As it is; nothing for null.
    Plain,
    /// A table of AMQP: a list of pairs, in JSON with their types.
    Arguments,
    /// Keys and values: a list of pairs, in JSON an object.
    Pairs,
    /// A list of words, such as tags; some brokers send them with commas between them.
    Words,
    /// What each node says, as a list of pairs of words.
    States,
    /// JSON in a string, in all formats.
    JsonText,
    /// The protocol of a connection, in Erlang's notation.
    Protocol,
    /// The name of a connection or channel in place of its process.
    Process,
}

impl Shape {
    /// The text of a cell.
    fn text(self, value: &Value) -> String {
        match (self, value) {
            (_, Value::Null) => String::new(),
            (Self::Plain, Value::String(text)) => text.clone(),
            (Self::Plain, value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
            (Self::Plain | Self::Arguments | Self::Pairs, value) => erlang::term(value),
            (Self::Words, Value::Array(words)) => {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                format!("[{}]", words.join(", "))
            }
            (Self::Words, Value::String(words)) => {
                let words: Vec<&str> = words.split(',').filter(|word| !word.is_empty()).collect();
                format!("[{}]", words.join(", "))
            }
            (Self::States, Value::Object(states)) => {
                let pairs = states.iter().map(|(name, state)| {
                    format!("{{{name}, {}}}", state.as_str().map_or_else(|| state.to_string(), str::to_owned))
                });
                format!("[{}]", pairs.collect::<Vec<_>>().join(", "))
            }
            (Self::JsonText, value) => value.to_string(),
            (Self::Protocol, value) => match value.as_str() {
                Some("AMQP 0-9-1") => "{0,9,1}".to_owned(),
                Some("AMQP 0-9") => "{0,9,0}".to_owned(),
                Some("AMQP 1-0") => "{1,0}".to_owned(),
                Some(other) => other.to_owned(),
                None => value.to_string(),
            },
            (Self::Process, Value::String(name)) => process(name),
            (Self::Words | Self::States | Self::Process, value) => erlang::term(value),
        }
    }

    /// The value of a cell in JSON.
    fn json(self, value: &Value) -> Value {
        match (self, value) {
            // COMPAT: what is missing is an empty text.
            (_, Value::Null) => Value::String(String::new()),
            (Self::JsonText | Self::Protocol | Self::Process, value) => Value::String(self.text(value)),
            (Self::Arguments, Value::Object(pairs)) => triples(pairs),
            (_, value) => value.clone(),
        }
    }
}

/// The name of a connection or channel as scripts take a process: in one word, that lines can be cut at blanks.
pub(crate) fn process(name: &str) -> String {
    let name: String = name.chars().filter(|character| !character.is_whitespace()).collect();
    format!("<{name}>")
}

/// COMPAT: a table of AMQP in JSON, as name, type and value of each. The API says nothing of types: a number may
/// have been declared as any of those for numbers.
fn triples(pairs: &Map<String, Value>) -> Value {
    let triple = |(name, value): (&String, &Value)| {
        let (kind, value) = typed(value);
        json!([name, kind, value])
    };
    pairs.iter().map(triple).collect()
}

/// A value of AMQP with its type.
fn typed(value: &Value) -> (&'static str, Value) {
    match value {
        Value::Null => ("void", json!("undefined")),
        Value::Bool(_) => ("bool", value.clone()),
        Value::Number(number) if number.is_f64() => ("double", value.clone()),
        Value::Number(_) => ("long", value.clone()),
        Value::String(_) => ("longstr", value.clone()),
        Value::Array(items) => ("array", items.iter().map(|item| json!(typed(item))).collect()),
        Value::Object(pairs) => ("table", triples(pairs)),
    }
}

/// Rows under named columns.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Name and looks of each column.
    pub(crate) columns: Vec<(String, Shape)>,
    /// As many values as there are columns, for each row.
    pub(crate) rows: Vec<Vec<Value>>,
    /// What is printed in place of no rows: COMPAT: nothing for what RabbitMQ streams, an empty line or list for the
    /// rest.
    pub(crate) is_streamed: bool,
    /// The header is printed with `--formatter table`, too.
    pub(crate) has_header: bool,
}

impl Table {
    /// A table of plain columns.
    pub(crate) fn plain(columns: &[&str], rows: Vec<Vec<Value>>) -> Self {
        let columns = columns.iter().map(|&name| (name.to_owned(), Shape::Plain)).collect();
        Self { columns, rows, is_streamed: true, has_header: true }
    }

    /// The cells of a row as text.
    fn texts(&self, row: &[Value]) -> Vec<String> {
        self.columns.iter().zip(row).map(|((_, shape), value)| shape.text(value)).collect()
    }

    /// The same where a name must neither break a row nor speak to the terminal.
    fn safe_texts(&self, row: &[Value]) -> Vec<String> {
        self.texts(row).iter().map(|cell| without_controls(cell)).collect()
    }

    /// A row as an object.
    fn object(&self, row: &[Value]) -> Value {
        let pairs = self.columns.iter().zip(row);
        let object: Map<String, Value> =
            pairs.map(|((name, shape), value)| (name.clone(), shape.json(value))).collect();
        Value::Object(object)
    }
}

/// A text with escapes in place of control characters.
fn without_controls(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() { safe.extend(character.escape_default()) } else { safe.push(character) }
    }
    safe
}

/// The same for a text of several lines, with names in it that others have chosen.
pub(crate) fn lines_without_controls(text: &str) -> String {
    text.split('\n').map(without_controls).collect::<Vec<_>>().join("\n")
}

/// JSON in one line. Beyond what JSON itself escapes, some terminals obey the control characters from U+007F to U+009F.
fn json_text(value: &Value) -> String {
    let text = value.to_string();
    if !text.contains(char::is_control) {
        return text;
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        // INVARIANT: they are in strings, where such an escape means the same.
        match character.is_control() {
            true => safe.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => safe.push(character),
        }
    }
    safe
}

/// Where a verb prints, and how.
pub(crate) struct Output<'a> {
    /// Standard output.
    pub(crate) out: &'a mut dyn Write,
    /// The format of tables and of single values.
    pub(crate) format: Format,
    /// Nothing is announced.
    pub(crate) quiet: bool,
    /// Tables begin with the names of their columns.
    pub(crate) headers: bool,
    /// Headings are bold: eyes see them.
    pub(crate) bold: bool,
}

impl Output<'_> {
    /// Says what is about to be done.
    pub(crate) fn announce(&mut self, text: &str) -> Result<(), Failure> {
        if !self.quiet && !self.format.is_for_programs() {
            writeln!(self.out, "{text}")?;
            // What follows may take a while, or ask for a password.
            self.out.flush()?;
        }
        Ok(())
    }

    /// A line as it is.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// What a verb found, which is one sentence.
    pub(crate) fn say(&mut self, text: &str) -> Result<(), Failure> {
        match self.format {
            Format::Json | Format::JsonStream => self.json(&json!({"result": "ok", "message": text})),
            _ => self.line(text),
        }
    }

    /// One value as JSON.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(&json_text(value))
    }

    /// A heading and an empty line below it.
    pub(crate) fn heading(&mut self, text: &str) -> Result<(), Failure> {
        let (on, off) = if self.bold { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        Ok(writeln!(self.out, "{on}{text}{off}\n")?)
    }

    /// A table in the format that was asked for.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.tabs(table),
            Format::Csv => self.csv(table),
            Format::Json => self.list_of_objects(table),
            Format::JsonStream => table.rows.iter().try_for_each(|row| self.json(&table.object(row))),
            Format::PrettyTable => self.boxes(table),
        }
    }

    fn tabs(&mut self, table: &Table) -> Result<(), Failure> {
        if table.rows.is_empty() {
            return if table.is_streamed { Ok(()) } else { self.line("") };
        }
        if self.headers && table.has_header {
            let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
            self.line(&names.join("\t"))?;
        }
        table.rows.iter().try_for_each(|row| self.line(&table.safe_texts(row).join("\t")))
    }

    fn csv(&mut self, table: &Table) -> Result<(), Failure> {
        let quoted = |cells: &[String]| {
            let cells: Vec<String> =
                cells.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
            cells.join(",")
        };
        if self.headers && !table.rows.is_empty() {
            let names: Vec<String> = table.columns.iter().map(|(name, _)| name.clone()).collect();
            self.line(&quoted(&names))?;
        }
        table.rows.iter().try_for_each(|row| self.line(&quoted(&table.safe_texts(row))))
    }

    /// COMPAT: the comma begins the next line, so that rows can be printed as they come.
    fn list_of_objects(&mut self, table: &Table) -> Result<(), Failure> {
        if table.rows.is_empty() && !table.is_streamed {
            return self.line("[]");
        }
        self.line("[")?;
        for (index, row) in table.rows.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            self.line(&format!("{comma}{}", json_text(&table.object(row))))?;
        }
        self.line("]")
    }

    fn boxes(&mut self, table: &Table) -> Result<(), Failure> {
        if table.rows.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<Vec<String>> = table.rows.iter().map(|row| table.safe_texts(row)).collect();
        if self.headers {
            lines.insert(0, table.columns.iter().map(|(name, _)| name.clone()).collect());
        }
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..table.columns.len()).map(width).collect();
        let rule = |left: &str, middle: &str, right: &str| {
            let bars: Vec<String> = widths.iter().map(|width| "─".repeat(width.saturating_add(2))).collect();
            format!("{left}{}{right}", bars.join(middle))
        };
        self.line(&rule("┌", "┬", "┐"))?;
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                self.line(&rule("├", "┼", "┤"))?;
            }
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, &width)| format!(" {cell:<width$} ")).collect();
            self.line(&format!("│{}│", cells.join("│")))?;
        }
        self.line(&rule("└", "┴", "┘"))
    }
}
