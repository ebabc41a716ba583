//! Rows about queues and bindings: rates of declaring, memory of idle ones, and routing among many.

use std::ops::Range;
use std::time::{Duration, Instant};

use leveret_codec::method::{Method, MethodId, exchange, queue};
use leveret_codec::table::FieldTable;

use crate::cli::seconds;
use crate::client::{Client, bind, delete_queue};
use crate::error::Error;
use crate::grow::Grow;
use crate::message::{MessageBatch, MessageShape, RoutingKeys};
use crate::probe::{Figure, given_back, memory_each};

/// Methods that are written before their answers are waited for.
const PIPELINE: usize = 100;
/// Bindings between two waits; each wait shows that the broker has kept up.
const BINDING_BATCH: usize = 1_000;
/// A broker that binds slowly is measured with fewer bindings.
const BINDING_TIME_MAX: Duration = Duration::from_secs(60);

/// Declaring queues, each answer waited for and pipelined; memory of an idle one.
pub(super) fn queues(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let (count, durable) = (grow.args.queues, grow.persistent());
    let kind = if durable { "durable" } else { "transient" };
    let prefix = grow.name("idle");
    let before = grow.probe.settled()?;
    let mut client = grow.connect_with_channel()?;
    let sequential_count = count.div_ceil(5);
    let ((), sequential) = grow.probe.measure(|| {
        (0..sequential_count)
            .try_for_each(|index| client.declare_queue(declare(&format!("{prefix}-{index}"), durable)))
    })?;
    let ((), pipelined) =
        grow.probe.measure(|| declare_pipelined(&mut client, &prefix, sequential_count..count, durable))?;
    let declared = grow.probe.settled()?;
    let ((), deleted) = grow.probe.measure(|| delete_pipelined(&mut client, &prefix, 0..count))?;
    client.close()?;
    let after = grow.probe.settled()?;
    let mut figures =
        sequential.figures(&format!("declare a {kind} queue, one round trip"), sequential_count);
    figures
        .extend(pipelined.figures(&format!("declare a {kind} queue, pipelined"), count - sequential_count));
    figures.extend(deleted.figures(&format!("delete a {kind} queue, pipelined"), count));
    figures.extend(memory_each("memory of an idle queue", before, declared, count));
    figures.extend(given_back("given back after they are deleted", [before, declared, after]));
    Ok(figures)
}

/// Declares `prefix-number` for all numbers of the range, a hundred at a time.
pub(super) fn declare_pipelined(
    client: &mut Client,
    prefix: &str,
    numbers: Range<usize>,
    durable: bool,
) -> Result<(), Error> {
    in_batches(numbers, PIPELINE, |batch| {
        let size = batch.len();
        for index in batch {
            client.push(1, &Method::QueueDeclare(declare(&format!("{prefix}-{index}"), durable)));
        }
        client.flush("declaring queues")?;
        client.expect_all(MethodId::QUEUE_DECLARE_OK, size, "declaring queues")
    })
}

/// Deletes the same.
pub(super) fn delete_pipelined(
    client: &mut Client,
    prefix: &str,
    numbers: Range<usize>,
) -> Result<(), Error> {
    in_batches(numbers, PIPELINE, |batch| {
        let size = batch.len();
        for index in batch {
            client.push(1, &delete_queue(&format!("{prefix}-{index}"), false));
        }
        client.flush("deleting queues")?;
        client.expect_all(MethodId::QUEUE_DELETE_OK, size, "deleting queues")
    })
}

/// Declare, bind, publish, delete: the life of a reply queue.
pub(super) fn cycle(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let (cycles, name) = (grow.args.cycles, grow.name("cycle"));
    let mut client = grow.connect_with_channel()?;
    let message = one_message("amq.direct", &name, client.frame_max);
    let ((), sequential) = grow.probe.measure(|| {
        (0..cycles).try_for_each(|_| {
            client.declare_queue(declare(&name, false))?;
            client.bind(&name, "amq.direct", &name)?;
            client.push_octets(&message);
            client.delete_queue(&name)
        })
    })?;
    let ((), pipelined) = grow.probe.measure(|| {
        in_batches(0..cycles, PIPELINE, |batch| {
            let size = batch.len();
            for _ in batch {
                client.push(1, &Method::QueueDeclare(declare(&name, false)));
                client.push(1, &bind(&name, "amq.direct", &name, false));
                client.push_octets(&message);
                client.push(1, &delete_queue(&name, false));
            }
            client.flush("declaring, binding, publishing, deleting")?;
            client.expect_all(MethodId::QUEUE_DELETE_OK, size, "declaring, binding, publishing, deleting")
        })
    })?;
    client.close()?;
    let mut figures = sequential.figures("declare, bind, publish, delete, three round trips", cycles);
    figures.extend(pipelined.figures("declare, bind, publish, delete, pipelined", cycles));
    Ok(figures)
}

/// Many bindings of one topic exchange: making them, what each takes, and routing among them.
pub(super) fn bindings(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let (queue, exchange) = (grow.name("bound"), grow.name("topic"));
    let before = grow.probe.settled()?;
    let mut client = grow.connect_with_channel()?;
    client.declare_queue(declare(&queue, false))?;
    client.call(1, &declare_topic(&exchange), MethodId::EXCHANGE_DECLARE_OK, "declaring an exchange")?;
    let (bound, step) =
        grow.probe.measure(|| bind_many(&mut client, &queue, &exchange, grow.args.bindings))?;
    let after = grow.probe.settled()?;
    let mut figures = step.figures("bind on a topic exchange, pipelined without answers", bound);
    figures.extend(memory_each(&format!("memory of a binding ({bound})"), before, after, bound));
    figures.extend(route(grow, &mut client, &queue, &exchange, bound)?);
    // The queue is exclusive and the exchange auto-delete, so both go with the connection. That the
    // broker may take longer over a hundred thousand bindings than an answer may take is no failure.
    match client.close() {
        Ok(()) | Err(Error::Timeout { .. }) => Ok(figures),
        Err(error) => Err(error),
    }
}

/// Makes the bindings, or as many as the time allows; returns how many there are.
fn bind_many(client: &mut Client, queue: &str, exchange: &str, count: usize) -> Result<usize, Error> {
    let deadline = Instant::now() + BINDING_TIME_MAX;
    let mut bound = 0;
    while bound < count && Instant::now() < deadline {
        let last = (bound + BINDING_BATCH).min(count) - 1;
        for index in bound..=last {
            // The last one of the batch is answered, after all before it are done.
            client.push(1, &bind(queue, exchange, &format!("{}.*", words(index)), index != last));
        }
        client.flush("binding")?;
        client.expect_all(MethodId::QUEUE_BIND_OK, 1, "binding")?;
        bound = last + 1;
    }
    Ok(bound)
}

/// Publishes with all the keys in turn, so that no cache of the last key hides the matching.
fn route(
    grow: &Grow,
    client: &mut Client,
    queue: &str,
    exchange: &str,
    bound: usize,
) -> Result<Vec<Figure>, Error> {
    let frame_max = client.frame_max;
    let batch = |first: usize| {
        let keys = (first..(first + BINDING_BATCH).min(bound)).map(|index| format!("{}.x", words(index)));
        let octets: Vec<u8> = keys.flat_map(|key| one_message(exchange, &key, frame_max)).collect();
        (octets, BINDING_BATCH.min(bound - first))
    };
    let batches: Vec<_> = (0..bound).step_by(BINDING_BATCH).map(batch).collect();
    let time = seconds(grow.args.seconds, "-z")?;
    let (routed, step) = grow.probe.measure(|| {
        let (started, mut routed) = (Instant::now(), 0);
        for (octets, count) in batches.iter().cycle() {
            if started.elapsed() >= time {
                break;
            }
            client.push_octets(octets);
            // The answer to a passive declaration comes after the messages before it are in.
            client.declare_queue(queue::Declare { passive: true, ..declare(queue, false) })?;
            routed += count;
        }
        Ok(routed)
    })?;
    let what = format!("route among {bound} topic bindings, one match, all keys in turn");
    Ok(step.figures(&what, routed))
}

/// Two words that differ in the first as well as in the second.
fn words(index: usize) -> String {
    format!("a{}.b{}", index / 1_000, index % 1_000)
}

fn one_message(exchange: &str, routing_key: &str, frame_max: u32) -> Vec<u8> {
    let (exchange, routing_keys) = (exchange.to_owned(), RoutingKeys::one(routing_key));
    let shape = MessageShape { exchange, routing_keys, size: 16, frame_max, ..MessageShape::default() };
    let batch = MessageBatch::publishing(&shape, Some(1));
    batch.octets(batch.range(0..1)).to_vec()
}

/// A durable queue that stays, or a transient one that goes with the connection.
fn declare(queue: &str, durable: bool) -> queue::Declare<'_> {
    queue::Declare {
        queue,
        passive: false,
        durable,
        exclusive: !durable,
        auto_delete: false,
        no_wait: false,
        arguments: FieldTable::new(),
    }
}

fn declare_topic(exchange: &str) -> Method<'_> {
    Method::ExchangeDeclare(exchange::Declare {
        exchange,
        exchange_type: "topic",
        passive: false,
        durable: false,
        auto_delete: true,
        internal: false,
        no_wait: false,
        arguments: FieldTable::new(),
    })
}

/// Hands out `range` in parts of at most `size`.
fn in_batches(
    range: Range<usize>,
    size: usize,
    mut each: impl FnMut(Range<usize>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut first = range.start;
    while first < range.end {
        let next = (first + size).min(range.end);
        each(first..next)?;
        first = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_the_range_once() {
        let mut seen = Vec::new();
        in_batches(3..10, 4, |batch| {
            seen.push(batch);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [3..7, 7..10]);
    }

    #[test]
    fn no_two_bindings_share_their_words() {
        let distinct: std::collections::HashSet<_> = (0..5_000).map(words).collect();
        assert_eq!(distinct.len(), 5_000);
    }
}
