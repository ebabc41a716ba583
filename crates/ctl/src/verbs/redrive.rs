//! `redrive`: has dead letters published again to where they died. In steps, so that progress is seen, and
//! Ctrl-C between two of them leaves nothing half done.

use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};

use super::policies::only_leveret;
use super::{Verb, option, required};
use crate::api::path;
use crate::call::Call;
use crate::failure::{Exit, Failure, OrMissing as _};

/// Messages of one step: many enough that the requests cost little, few enough that progress is seen.
const STEP_MESSAGES: u64 = 1000;

pub(super) const VERBS: &[Verb] = &[Verb {
    name: "redrive",
    about: "Moves dead letters back to the queues they died in (Leveret only)",
    arguments: |command| {
        command
            .arg(required("queue").help("The queue the dead letters lie in"))
            .arg(option("count", "How many at most (else all that are there now)").value_name("messages"))
            .arg(option("header", "Only those with this value in this header").value_name("name=value"))
    },
    run: redrive,
}];

fn redrive(call: &mut Call<'_>) -> Result<(), Failure> {
    let (queue, vhost) = (call.text("queue"), call.vhost());
    let header = call.optional("header").map(|header| parse_header(&header)).transpose()?;
    let count = call.number::<u64>("count")?;
    call.announce(&format!("Redriving messages of queue '{queue}' in vhost '{vhost}' ..."))?;
    let client = call.client()?;
    let missing = || Failure::new(Exit::Unavailable, format!("no queue '{queue}' in vhost '{vhost}'"));
    let known = client.get(&path(&["queues", &vhost, &queue])).or_missing(missing)?;
    // What dies again meanwhile is left for another time: without this end it might go round for ever.
    let there = known.get("messages_ready").and_then(Value::as_u64).unwrap_or(0);
    let wanted = count.unwrap_or(there).min(there);
    let seen = call.terminal.sees_errors() && !call.output.quiet;
    let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(Some(wanted), target);
    let (mut moved, mut left) = (0_u64, there);
    while moved < wanted {
        let step = wanted.saturating_sub(moved).min(STEP_MESSAGES);
        let body = json!({"count": step, "header": header});
        let place = path(&["leveret", "redrive", &vhost, &queue]);
        let answer = client.post(&place, &body).map_err(only_leveret)?;
        let number = |key: &str| answer.get(key).and_then(Value::as_u64);
        let Some(moved_now) = number("moved") else {
            return Err(Failure::new(
                Exit::Unavailable,
                "the broker does not say how many messages it moved",
            ));
        };
        left = number("left").unwrap_or(left);
        moved = moved.saturating_add(moved_now);
        progress.set_position(moved);
        // Fewer than asked for: the rest is not meant, or has nowhere to go.
        if moved_now < step {
            break;
        }
    }
    progress.finish_and_clear();
    call.output.say(&format!("Moved {moved} messages, {left} are left"))
}

/// A header and the text in it.
fn parse_header(text: &str) -> Result<Value, Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(json!({ name: value })),
        _ => Err(Failure::usage(format!("--header {text}: a name and a value, with = between them"))),
    }
}
