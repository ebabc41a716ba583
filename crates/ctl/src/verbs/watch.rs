//! `watch`: queues with their rates, refreshed until q or Ctrl-C. Without a terminal it prints one table and ends.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::{cursor, queue, style, terminal};
use serde_json::Value;

use super::{Verb, flag, option};
use crate::api::path;
use crate::call::Call;
use crate::failure::{Failure, OrMissing as _};
use crate::output::Table;

/// Time between two looks unless told otherwise. COMPAT: rates change no oftener than every five seconds.
const INTERVAL: Duration = Duration::from_secs(2);

/// Columns and lines of a terminal that does not tell.
const SIZE_UNKNOWN: (u16, u16) = (80, 24);

/// Columns: header, place in the row, width on the screen.
const COLUMNS: [(&str, &str, usize); 9] = [
    ("vhost", "/vhost", 12),
    ("name", "/name", 30),
    ("ready", "/messages_ready", 10),
    ("unacked", "/messages_unacknowledged", 10),
    ("consumers", "/consumers", 9),
    ("in/s", "/message_stats/publish_details/rate", 10),
    ("out/s", "/message_stats/deliver_get_details/rate", 10),
    ("ack/s", "/message_stats/ack_details/rate", 10),
    ("state", "/state", 8),
];

pub(super) const VERBS: &[Verb] = &[Verb {
    name: "watch",
    about: "Shows queues and their rates until q or Ctrl-C; without a terminal, once",
    arguments: |command| {
        command
            .arg(option("interval", "Time between two looks (else 2)").value_name("seconds"))
            .arg(
                option("sort", "What comes first: the most messages, rates, or the name")
                    .value_parser(["messages", "in", "out", "name"])
                    .default_value("messages"),
            )
            .arg(flag("all-vhosts", "The queues of all vhosts"))
            .arg(flag("once", "Print once and end"))
    },
    run: watch,
}];

fn watch(call: &mut Call<'_>) -> Result<(), Failure> {
    let seconds = call.number::<f64>("interval")?;
    let interval = match seconds.map(Duration::try_from_secs_f64) {
        None => INTERVAL,
        Some(Ok(interval)) if interval >= Duration::from_millis(100) => interval,
        Some(_) => return Err(Failure::usage("--interval: at least 0.1 seconds")),
    };
    if call.flag("once") || !call.terminal.sees_output() || call.output.format.is_for_programs() {
        let rows = queues(call)?;
        return call.table(&Table::plain(&COLUMNS.map(|(name, _, _)| name), rows));
    }
    let node = call.node()?;
    let screen = Screen::enter(&mut call.output.out)?;
    let result = refresh(call, &node, interval);
    screen.leave(&mut call.output.out)?;
    result
}

/// Draws and waits, until somebody has seen enough.
fn refresh(call: &mut Call<'_>, node: &str, interval: Duration) -> Result<(), Failure> {
    loop {
        let drawn = Instant::now();
        // Some lines that are no screens say that they have no size.
        let (columns, lines) = match terminal::size()? {
            (0, _) | (_, 0) => SIZE_UNKNOWN,
            size => size,
        };
        let screen = page(&queues(call)?, node, usize::from(columns), usize::from(lines));
        draw(&mut call.output.out, &screen)?;
        while let Some(left) = interval.checked_sub(drawn.elapsed()) {
            if !event::poll(left)? {
                break;
            }
            match event::read()? {
                Event::Key(key) if ends(key) => return Ok(()),
                Event::Resize(..) => break,
                _ => {}
            }
        }
    }
}

/// Whether a key says that it is enough.
fn ends(key: KeyEvent) -> bool {
    let is_interrupt =
        key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd'));
    key.kind != KeyEventKind::Release
        && (is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

/// The rows of all queues, in the order that was asked for.
fn queues(call: &mut Call<'_>) -> Result<Vec<Vec<Value>>, Failure> {
    let vhost = call.vhost();
    let place = if call.flag("all-vhosts") { "queues".to_owned() } else { path(&["queues", &vhost]) };
    let mut queues = call.client()?.list(&place).or_missing(|| Failure::no_such_vhost(&vhost))?;
    let number = |queue: &Value, pointer: &str| queue.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    // Names decide where the rest is equal, so that rows stay where they are.
    queues.sort_by_cached_key(|queue| queue.get("name").and_then(Value::as_str).map(str::to_owned));
    let pointer = match call.text("sort").as_str() {
        "in" => Some("/message_stats/publish_details/rate"),
        "out" => Some("/message_stats/deliver_get_details/rate"),
        "name" => None,
        _ => Some("/messages"),
    };
    if let Some(pointer) = pointer {
        queues.sort_by_cached_key(|queue| Reverse((number(queue, pointer) * 1000.0) as u64));
    }
    let cell = |queue: &Value, pointer: &str| match queue.pointer(pointer) {
        None | Some(Value::Null) if pointer.ends_with("/rate") => Value::from(0.0),
        value => value.cloned().unwrap_or_default(),
    };
    Ok(queues.iter().map(|queue| COLUMNS.map(|(_, pointer, _)| cell(queue, pointer)).to_vec()).collect())
}

/// What fits the screen: a line of sums, the names of columns, and as many queues as there is room for.
fn page(rows: &[Vec<Value>], node: &str, columns: usize, lines: usize) -> Vec<String> {
    // The sum of nothing is -0.
    let sum = |index: usize| 0.0 + rows.iter().filter_map(|row| row.get(index)?.as_f64()).sum::<f64>();
    let title = format!(
        "{node}: {} queues, {} ready, {} unacked, {:.1} in/s, {:.1} out/s   (q ends)",
        rows.len(),
        sum(2),
        sum(3),
        sum(5),
        sum(6)
    );
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(COLUMNS).map(|(cell, (_, _, width))| {
            let cell: String = cell.chars().filter(|character| !character.is_control()).take(width).collect();
            let is_text = matches!(width, 8 | 12 | 30);
            if is_text { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join(" ")
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or(0.0)),
        value => value.to_string(),
    };
    let mut page = vec![title, String::new(), line(&COLUMNS.map(|(name, _, _)| name.to_owned()))];
    page.truncate(lines);
    let room = lines.saturating_sub(page.len());
    page.extend(rows.iter().take(room).map(|row| line(&row.iter().map(text).collect::<Vec<_>>())));
    page.iter().map(|line| line.chars().take(columns).collect()).collect()
}

fn draw(out: &mut impl Write, page: &[String]) -> io::Result<()> {
    let clear = terminal::Clear(terminal::ClearType::UntilNewLine);
    for (row, line) in (0_u16..).zip(page) {
        queue!(out, cursor::MoveTo(0, row), style::Print(line), &clear)?;
    }
    queue!(out, terminal::Clear(terminal::ClearType::FromCursorDown))?;
    out.flush()
}

/// A terminal that shows a page instead of lines, until it is left or dropped.
struct Screen {
    is_left: bool,
}

impl Screen {
    fn enter(out: &mut impl Write) -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self { is_left: false };
        queue!(out, terminal::EnterAlternateScreen, cursor::Hide)?;
        out.flush()?;
        Ok(screen)
    }

    fn leave(mut self, out: &mut impl Write) -> io::Result<()> {
        queue!(out, cursor::Show, terminal::LeaveAlternateScreen)?;
        out.flush()?;
        self.is_left = true;
        terminal::disable_raw_mode()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if !self.is_left {
            // After a panic or a lost terminal: the best that can be done.
            let _ = terminal::disable_raw_mode();
        }
    }
}

#[test]
fn a_page_fits_the_screen() {
    let row = |name: &str| {
        let cells = ["/", name, "5", "0", "1"].map(|cell| Value::String(cell.to_owned()));
        let rates = [1.25, 0.0, 0.0].map(Value::from);
        [cells.as_slice(), &rates, &[Value::String("running".to_owned())]].concat()
    };
    let rows: Vec<Vec<Value>> = (0..100).map(|number| row(&format!("queue \u{1b}[31m{number}"))).collect();
    let page = page(&rows, "node", 60, 10);
    assert_eq!(page.len(), 10);
    assert!(page.iter().all(|line| line.chars().count() <= 60));
    // A name must not bring escapes to the terminal.
    assert!(page.iter().all(|line| !line.contains('\u{1b}')));
    for lines in 0..4 {
        assert_eq!(super::watch::page(&rows, "node", 60, lines).len(), lines);
    }
    let title = "node: 0 queues, 0 ready, 0 unacked, 0.0 in/s, 0.0 out/s   (q ends)";
    assert_eq!(super::watch::page(&[], "node", 80, 1), [title]);
}
