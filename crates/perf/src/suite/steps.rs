//! Rows that take several steps: messages that all expire into another queue, messages that wait for their time, and
//! whether a broker knows duplicates and priorities. Called by `suite`, for one broker at a time.

use std::thread;
use std::time::{Duration, Instant};

use leveret_codec::method::{Method, MethodId, basic, queue};
use leveret_codec::properties::ContentHeader;
use leveret_codec::table::FieldTable;

use crate::client::{Client, Exchange};
use crate::error::Error;
use crate::load::Load;
use crate::message::{MessageProperties, Priorities, RoutingKeys};
use crate::probe::{Figure, Probe, given_back, mebibytes, moved, octets_each};
use crate::process::Process;
use crate::producer::Pace;
use crate::uri::Uri;
use crate::wire::{COLD_BUFFER_BYTES, FrameReader, HEADER, METHOD};

/// Unconfirmed messages while a queue is filled.
const WINDOW: usize = 1_000;
/// How often a queue's length is looked at: what a drain time is exact to.
const TICK: Duration = Duration::from_millis(2);
/// A drain in which nothing moves for so long has failed.
const STALL_DEADLINE: Duration = Duration::from_secs(30);
/// Longer than any run.
const DELAY_MS: i64 = 3_600_000;

/// What such a row works with.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    /// Where the broker is.
    pub(super) uri: &'a Uri,
    /// Its process.
    pub(super) process: Option<Process>,
    /// How many messages expire, or wait.
    pub(super) messages: u64,
}

impl Steps<'_> {
    fn probe(&self) -> Probe {
        Probe::new(self.process)
    }

    /// A load that fills something, confirmed to the last message.
    fn fill(&self, messages: u64) -> Load {
        Load {
            producers: 1,
            producer_messages: Some(messages),
            pace: Pace { confirm_window: WINDOW, ..Pace::default() },
            ..Load::idle(self.uri.clone(), self.process)
        }
    }
}

/// Transient messages in transient queues, dead-lettered.
pub(super) fn dead_letter_transient(steps: &Steps<'_>) -> Result<Vec<Figure>, Error> {
    dead_letter(steps, false)
}

/// Persistent messages in durable queues, dead-lettered.
pub(super) fn dead_letter_persistent(steps: &Steps<'_>) -> Result<Vec<Figure>, Error> {
    dead_letter(steps, true)
}

fn dead_letter(steps: &Steps<'_>, persistent: bool) -> Result<Vec<Figure>, Error> {
    let [source, target] = ["source", "target"].map(own_name);
    let mut control = connect(steps.uri)?;
    let arguments = FieldTable::new()
        .with("x-dead-letter-exchange", "")
        .with("x-dead-letter-routing-key", target.as_str());
    let declared = declare(&mut control, &target, persistent, FieldTable::new())
        .and_then(|()| declare(&mut control, &source, persistent, arguments));
    let measured = declared.and_then(|()| expire_all(steps, &mut control, &source, &target, persistent));
    let deleted = end(steps.uri, &[&source, &target], None);
    let figures = measured?;
    deleted?;
    Ok(figures)
}

/// A message that does not expire holds up those behind it, which all have by the time it is taken: so they leave at
/// one known moment, however long it took to publish them.
fn expire_all(
    steps: &Steps<'_>,
    control: &mut Client,
    source: &str,
    target: &str,
    persistent: bool,
) -> Result<Vec<Figure>, Error> {
    let count = steps.messages;
    let load = |messages| Load { queues: vec![source.to_owned()], persistent, ..steps.fill(messages) };
    load(1).run()?;
    let properties = MessageProperties { expiration: Some(1), ..MessageProperties::default() };
    let filled = Load { properties, ..load(count) }.run()?;
    let early = control.message_count(target)?;
    if early > 0 {
        return Err(Error::Protocol(format!("{early} messages expired behind one that had not")));
    }
    let probe = steps.probe();
    let before = probe.settled()?;
    let ((), step) = probe.measure(|| {
        take_head(control, source)?;
        wait_until_filled(control, target, count)
    })?;
    let kind = if persistent { "persistent" } else { "transient" };
    let mut figures = moved(&format!("{count} {kind} messages in, confirmed"), &filled);
    let what = format!("{count} expired messages to the other queue, time from expiry");
    figures.push(Figure::new(&what, step.seconds, "s"));
    figures.extend(step.figures("the same, rate", usize::try_from(count).unwrap_or(usize::MAX)));
    figures.extend(mebibytes("resident before", before));
    figures.extend(mebibytes("resident after", probe.settled()?));
    Ok(figures)
}

/// Takes the first message, and asks for the next: a broker that looks at expiry when it is asked does so now.
fn take_head(control: &mut Client, queue: &str) -> Result<(), Error> {
    let doing = "taking the message that holds up the others";
    let get = Method::BasicGet(basic::Get { queue, no_ack: true });
    control.push(1, &get);
    control.push(1, &get);
    control.flush(doing)?;
    for wanted in [MethodId::BASIC_GET_OK, MethodId::BASIC_GET_EMPTY] {
        let number = u32::from(wanted.class_id) << 16 | u32::from(wanted.method_id);
        let answer = control.wait_for(Instant::now() + STALL_DEADLINE, doing, |frame| {
            (frame.kind == METHOD && matches!(frame.method(), GET_OK | GET_EMPTY)).then(|| frame.method())
        })?;
        if answer != number {
            return Err(Error::Protocol(
                "basic.get gave an expired message, or none that had not".to_owned(),
            ));
        }
    }
    Ok(())
}

const GET_OK: u32 = 60 << 16 | 71;
const GET_EMPTY: u32 = 60 << 16 | 72;

fn wait_until_filled(control: &mut Client, queue: &str, count: u64) -> Result<(), Error> {
    let (mut last, mut moved_at) = (0, Instant::now());
    loop {
        let now = control.message_count(queue)?;
        if now >= count {
            return Ok(());
        }
        if now != last {
            (last, moved_at) = (now, Instant::now());
        } else if moved_at.elapsed() > STALL_DEADLINE {
            let doing = "waiting until all expired messages are in the other queue";
            return Err(Error::Timeout { doing, after: STALL_DEADLINE });
        }
        thread::sleep(TICK);
    }
}

/// Messages that wait for their time: what each of them takes.
pub(super) fn delayed_waiting(steps: &Steps<'_>) -> Result<Vec<Figure>, Error> {
    let (name, count) = (own_name("delayed"), steps.messages);
    let arguments = FieldTable::new().with("x-delayed-type", "direct");
    let exchange = Exchange { name: name.clone(), kind: "x-delayed-message".to_owned(), arguments };
    let mut control = connect(steps.uri)?;
    control.declare_exchange(&exchange).map_err(Error::of_declaration)?;
    let measured = declare(&mut control, &name, false, FieldTable::new())
        .and_then(|()| control.bind(&name, &name, &name))
        .and_then(|()| wait_in_exchange(steps, &exchange, count));
    let probe = steps.probe();
    let full = probe.settled()?;
    let deleted = end(steps.uri, &[&name], Some(&name));
    let (mut figures, before) = measured?;
    deleted?;
    figures.extend(octets_each("memory of a message that waits", before, full, count));
    figures.extend(mebibytes("resident before", before));
    figures.extend(mebibytes("resident with all that wait", full));
    figures.extend(given_back("given back with the exchange", [before, full, probe.settled()?]));
    Ok(figures)
}

type WithMemoryBefore = (Vec<Figure>, Option<u64>);

fn wait_in_exchange(steps: &Steps<'_>, exchange: &Exchange, count: u64) -> Result<WithMemoryBefore, Error> {
    let before = steps.probe().settled()?;
    let headers = FieldTable::new().with("x-delay", DELAY_MS);
    let filled = Load {
        routing_keys: RoutingKeys::one(&exchange.name),
        exchange: Some(exchange.clone()),
        properties: MessageProperties { headers, ..MessageProperties::default() },
        ..steps.fill(count)
    }
    .run()?;
    Ok((moved(&format!("{count} messages in that wait for an hour, confirmed"), &filled), before))
}

/// Publishes the same message twice and counts.
pub(super) fn check_deduplication(uri: &Uri) -> Result<(), Error> {
    let name = own_name("dedup-check");
    let arguments = FieldTable::new().with("x-message-deduplication", true).with("x-cache-size", 10_i64);
    let exchange = Exchange { name: name.clone(), kind: "direct".to_owned(), arguments };
    let mut control = connect(uri)?;
    control.declare_exchange(&exchange).map_err(Error::of_declaration)?;
    let counted = declare(&mut control, &name, false, FieldTable::new())
        .and_then(|()| control.bind(&name, &name, &name))
        .and_then(|()| {
            let headers = FieldTable::new().with("x-deduplication-header", "same");
            let twice = Load {
                routing_keys: RoutingKeys::one(&name),
                exchange: Some(exchange),
                properties: MessageProperties { headers, ..MessageProperties::default() },
                ..Steps { uri, process: None, messages: 0 }.fill(2)
            };
            twice.run()?;
            control.message_count(&name)
        });
    let deleted = end(uri, &[&name], Some(&name));
    let count = counted?;
    deleted?;
    if count == 1 {
        Ok(())
    } else {
        Err(Error::NotSupported(format!("{count} of 2 duplicates came through")))
    }
}

/// Publishes a message of the lowest priority and one of the highest, and looks which comes first.
pub(super) fn check_priorities(uri: &Uri) -> Result<(), Error> {
    let name = own_name("priority-check");
    let mut control = connect(uri)?;
    let arguments = FieldTable::new().with("x-max-priority", 9_i64);
    let looked = declare(&mut control, &name, false, arguments).and_then(|()| {
        let properties =
            MessageProperties { priorities: Priorities::from([0, 9]), ..MessageProperties::default() };
        let both = Load {
            queues: vec![name.clone()],
            properties,
            ..Steps { uri, process: None, messages: 0 }.fill(2)
        };
        both.run()?;
        first_priority(&mut control, &name)
    });
    let deleted = end(uri, &[&name], None);
    let first = looked?;
    deleted?;
    match first {
        Some(9) => Ok(()),
        _ => Err(Error::NotSupported("a message of priority 0 came before one of priority 9".to_owned())),
    }
}

/// The priority of the message that basic.get brings; its body is read past by whatever is waited for next.
fn first_priority(control: &mut Client, queue: &str) -> Result<Option<u8>, Error> {
    let doing = "looking at the first message";
    control.push(1, &Method::BasicGet(basic::Get { queue, no_ack: true }));
    control.flush(doing)?;
    control.wait_for(Instant::now() + STALL_DEADLINE, doing, |frame| match frame.kind {
        HEADER => ContentHeader::decode(frame.payload).ok().map(|header| header.properties.priority),
        METHOD if frame.method() == GET_EMPTY => Some(None),
        _ => None,
    })
}

fn own_name(what: &str) -> String {
    format!("leveret-perf-{what}-{}", std::process::id())
}

fn connect(uri: &Uri) -> Result<Client, Error> {
    let mut client = Client::connect(uri, FrameReader::new(COLD_BUFFER_BYTES))?;
    client.open_channel(1)?;
    Ok(client)
}

fn declare(control: &mut Client, queue: &str, durable: bool, arguments: FieldTable) -> Result<(), Error> {
    let declare = queue::Declare {
        queue,
        passive: false,
        durable,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments,
    };
    control.declare_queue(declare).map_err(Error::of_declaration)
}

/// Deletes what a row declared; on a connection of its own, since a refusal ends the other.
fn end(uri: &Uri, queues: &[&str], exchange: Option<&str>) -> Result<(), Error> {
    let mut control = connect(uri)?;
    for queue in queues {
        control.delete_queue(queue)?;
    }
    if let Some(exchange) = exchange {
        control.delete_exchange(exchange)?;
    }
    control.close()
}
