//! `sh -c`, in an image that has no shell: what health checks and probes say, such as
//! `rabbitmq-diagnostics -q ping || exit 1`. Runs the tools that this program is, and knows `&&`, `||`, `;`, quotes,
//! `exit` and where output goes. It is no shell: other programs, files, variables and pipes are refused.

use std::io::{self, Write};
use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

use crate::cli::Tool;
use crate::{Environment, Terminal};

/// The names of shells that this answers to.
const NAMES: [&str; 2] = ["sh", "bash"];

/// COMPAT: the exit code of shells for a script they do not understand.
const NOT_UNDERSTOOD: u8 = 2;

/// COMPAT: the exit code of shells for a program that is not there.
const NOT_FOUND: u8 = 127;

/// What a script is made of.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// Output (1) or errors (2), and where that goes.
    Redirect(u8, Target),
    Joint(Joint),
}

/// What stands between two commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joint {
    And,
    Or,
    Then,
}

/// Where output or errors go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Output,
    Errors,
    Nowhere,
}

/// One command, and what stands before it.
#[derive(Debug)]
struct Command {
    joint: Joint,
    words: Vec<String>,
    output: Target,
    errors: Target,
}

/// Whether the first word of a command line names a shell.
pub(crate) fn is_meant(word: &str) -> bool {
    Path::new(word).file_name().and_then(|name| name.to_str()).is_some_and(|name| NAMES.contains(&name))
}

/// Runs `sh -c SCRIPT` and returns its exit code.
pub(crate) fn run(
    arguments: &[String],
    environment: &Environment,
    out: &mut dyn Write,
    errors: &mut dyn Write,
    terminal: &mut dyn Terminal,
) -> u8 {
    let commands = match script(arguments) {
        Ok((script, ends_at_failure)) => commands(&script).map(|commands| (commands, ends_at_failure)),
        Err(problem) => Err(problem),
    };
    let (commands, ends_at_failure) = match commands {
        Ok(commands) => commands,
        Err(problem) => {
            // Nothing is left to say where even this cannot be said.
            let _ = writeln!(
                errors,
                "Error:\n{problem}\nThere is no shell here: leveretctl and its verbs are all there is."
            );
            return NOT_UNDERSTOOD;
        }
    };
    let mut code = 0;
    for (index, command) in commands.iter().enumerate() {
        let is_meant = match command.joint {
            Joint::And => code == 0,
            Joint::Or => code != 0,
            Joint::Then => true,
        };
        if !is_meant {
            continue;
        }
        if let [exit, rest @ ..] = command.words.as_slice()
            && exit == "exit"
        {
            return rest.first().and_then(|text| text.parse().ok()).unwrap_or(code);
        }
        code = command.run(environment, out, errors, terminal);
        let is_last = commands.get(index.saturating_add(1)).is_none_or(|next| next.joint == Joint::Then);
        if ends_at_failure && is_last && code != 0 {
            break;
        }
    }
    code
}

/// The script among the arguments, and whether it ends with the first command that fails.
fn script(arguments: &[String]) -> Result<(String, bool), String> {
    let mut ends_at_failure = false;
    let mut arguments = arguments.iter().skip(1);
    while let Some(argument) = arguments.next() {
        let Some(flags) = argument.strip_prefix('-') else { break };
        ends_at_failure |= flags.contains('e');
        if !flags.chars().all(|flag| "cel".contains(flag)) {
            return Err(format!("{argument}: not among -c, -e and -l"));
        }
        if flags.contains('c') {
            let script = arguments.next().ok_or("no command behind -c")?;
            return Ok((script.clone(), ends_at_failure));
        }
    }
    Err("only commands behind -c are run".to_owned())
}

/// The commands of a script.
fn commands(script: &str) -> Result<Vec<Command>, String> {
    let mut commands = Vec::new();
    let start = |joint| Command { joint, words: Vec::new(), output: Target::Output, errors: Target::Errors };
    let mut command = start(Joint::Then);
    for token in tokens(script)? {
        match token {
            Token::Word(word) => command.words.push(word),
            Token::Redirect(stream, target) => {
                let target = match target {
                    Target::Output => command.output,
                    Target::Errors => command.errors,
                    Target::Nowhere => Target::Nowhere,
                };
                if stream == 2 { command.errors = target } else { command.output = target }
            }
            Token::Joint(joint) => {
                let before = std::mem::replace(&mut command, start(joint));
                match (before.words.is_empty(), joint) {
                    (false, _) => commands.push(before),
                    (true, Joint::Then) if before.joint == Joint::Then => {}
                    (true, _) => return Err("a command is missing".to_owned()),
                }
            }
        }
    }
    match (command.words.is_empty(), command.joint) {
        (false, _) => commands.push(command),
        (true, Joint::Then) => {}
        (true, _) => return Err("a command is missing".to_owned()),
    }
    Ok(commands)
}

/// The parts of a script.
fn tokens(script: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = script.chars().peekable();
    while let Some(&next) = rest.peek() {
        match next {
            ' ' | '\t' | '\r' => _ = rest.next(),
            ';' | '\n' => {
                rest.next();
                tokens.push(Token::Joint(Joint::Then));
            }
            '|' => {
                rest.next();
                rest.next_if_eq(&'|').ok_or("there are no pipes")?;
                tokens.push(Token::Joint(Joint::Or));
            }
            '&' => {
                rest.next();
                match rest.next() {
                    Some('&') => tokens.push(Token::Joint(Joint::And)),
                    Some('>') => {
                        let target = target(&mut rest)?;
                        tokens.extend([Token::Redirect(1, target), Token::Redirect(2, Target::Output)]);
                    }
                    _ => return Err("nothing runs in the background".to_owned()),
                }
            }
            '>' => {
                rest.next();
                tokens.push(Token::Redirect(1, target(&mut rest)?));
            }
            _ => {
                let word = word(&mut rest)?;
                match (word.as_str(), rest.peek()) {
                    ("1" | "2", Some('>')) => {
                        rest.next();
                        let stream = if word == "2" { 2 } else { 1 };
                        tokens.push(Token::Redirect(stream, target(&mut rest)?));
                    }
                    _ => tokens.push(Token::Word(word)),
                }
            }
        }
    }
    Ok(tokens)
}

/// Where what is behind `>` leads.
fn target(rest: &mut Peekable<Chars<'_>>) -> Result<Target, String> {
    let is_stream = rest.next_if_eq(&'&').is_some();
    while rest.next_if(|next| *next == ' ').is_some() {}
    match (is_stream, word(rest)?.as_str()) {
        (true, "1") => Ok(Target::Output),
        (true, "2") => Ok(Target::Errors),
        (false, "/dev/null") => Ok(Target::Nowhere),
        (_, place) => Err(format!("output goes to no other place than /dev/null, not to '{place}'")),
    }
}

/// A word, whose quotes are taken away.
fn word(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut word = String::new();
    let mut quote = None;
    while let Some(&next) = rest.peek() {
        match (quote, next) {
            (None, ' ' | '\t' | '\r' | '\n' | ';' | '|' | '&' | '>') => break,
            (None, '\'' | '"') => quote = Some(next),
            (Some(open), _) if next == open => quote = None,
            (None | Some('"'), '\\') => {
                rest.next();
                word.extend(rest.peek());
            }
            (None | Some('"'), '$' | '`') => {
                return Err("there are no variables, and no output of commands".to_owned());
            }
            (None, '<' | '(' | ')' | '*' | '?' | '#') => return Err(format!("'{next}' is not understood")),
            _ => word.push(next),
        }
        rest.next();
    }
    if quote.is_some() { Err("a quotation mark is missing".to_owned()) } else { Ok(word) }
}

impl Command {
    fn run(
        &self,
        environment: &Environment,
        out: &mut dyn Write,
        errors: &mut dyn Write,
        terminal: &mut dyn Terminal,
    ) -> u8 {
        if (self.output, self.errors) == (Target::Output, Target::Errors) {
            return self.run_tool(environment, out, errors, terminal);
        }
        let (mut own_out, mut own_errors) = (Vec::new(), Vec::new());
        let code = self.run_tool(environment, &mut own_out, &mut own_errors, terminal);
        for (text, target) in [(own_out, self.output), (own_errors, self.errors)] {
            let written = match target {
                Target::Output => out.write_all(&text),
                Target::Errors => errors.write_all(&text),
                Target::Nowhere => io::Result::Ok(()),
            };
            // Whoever does not read what a health check prints gets its exit code all the same.
            drop(written);
        }
        code
    }

    fn run_tool(
        &self,
        environment: &Environment,
        out: &mut dyn Write,
        errors: &mut dyn Write,
        terminal: &mut dyn Terminal,
    ) -> u8 {
        let name = self.words.first().map_or("", String::as_str);
        match name {
            "true" | ":" => 0,
            "false" => 1,
            _ if is_meant(name) => run(&self.words, environment, out, errors, terminal),
            _ if Tool::is_known(name) => crate::run(&self.words, environment, out, errors, terminal),
            _ => {
                let _ = writeln!(
                    errors,
                    "{name}: not found; there are leveretctl and the tools of RabbitMQ that it is"
                );
                NOT_FOUND
            }
        }
    }
}

#[test]
fn scripts_are_taken_apart() {
    let words = |script| -> Vec<Vec<String>> {
        commands(script).unwrap().into_iter().map(|command| command.words).collect()
    };
    assert_eq!(words("a -q 'b c' \"d\\\"e\" || exit 1"), [vec!["a", "-q", "b c", "d\"e"], vec!["exit", "1"]]);
    assert_eq!(words(" a;\nb;; "), [["a"], ["b"]]);
    assert!(words("").is_empty());
    let nowhere = |script| {
        let command = commands(script).unwrap().remove(0);
        (command.words.len(), command.output, command.errors)
    };
    assert_eq!(nowhere("a 1"), (2, Target::Output, Target::Errors));
    assert_eq!(nowhere("a >/dev/null 2>&1"), (1, Target::Nowhere, Target::Nowhere));
    assert_eq!(nowhere("a 2>&1 > /dev/null"), (1, Target::Nowhere, Target::Output));
    assert_eq!(nowhere("a &>/dev/null"), (1, Target::Nowhere, Target::Nowhere));
    assert_eq!(nowhere("a>&2"), (1, Target::Errors, Target::Errors));
    for wrong in
        ["a | b", "a & b", "a > file", "a $B", "a `b`", "a < b", "&& a", "a &&", "a 'b", "(a)", "a || ; b"]
    {
        assert!(commands(wrong).is_err(), "{wrong}");
    }
}
