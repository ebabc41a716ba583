//! Priority levels, beside what the model covers: reading ahead over levels, turns, and what levels cost that are not
//! used.

use super::*;

fn leveled(durable: bool, max: u8) -> Bench {
    let arguments = FieldTable::new().with("x-max-priority", i32::from(max));
    let arguments = QueueArguments::parse(arguments, "q", "/").unwrap();
    Bench::of(QueueSpec { arguments, ..spec(durable) })
}

fn publish(bench: &mut Bench, level: u8, bodies: &[&[u8]]) {
    bench.batch = MessageBatch::for_level(&bench.queue.spec, level);
    bodies.iter().for_each(|body| bench.push(body, true));
    bench.flush();
}

#[test]
fn a_lower_level_is_read_ahead_however_much_is_unacked_of_a_higher_one() {
    let mut bench = leveled(true, 9);
    publish(&mut bench, 0, &[&b"low"[..]; 3]);
    bench.queue.page_out(PageOut::All, usize::MAX).unwrap();
    let body = vec![7; LARGE_BODY_BYTES - 1];
    for _ in 0..10 {
        publish(&mut bench, 5, &[&body[..]; 20]);
    }
    let (id, _) = bench.consume_plain(false, 0, usize::MAX);
    bench.queue.resume(id);
    assert_eq!(bench.seen().len(), 200, "the others are on disk");
    assert!(bench.gauge.bytes() > 2 << 20);
    bench.store.memory.load_requested();
    assert_eq!(positions(&bench.seen()), [0, 1, 2]);
}

#[test]
fn the_highest_message_is_delivered_first_even_if_it_has_to_be_read() {
    let mut bench = leveled(true, 255);
    publish(&mut bench, 255, &[b"high"]);
    bench.queue.page_out(PageOut::All, usize::MAX).unwrap();
    publish(&mut bench, 1, &[b"low"]);
    let (id, _) = bench.consume_plain(true, 0, usize::MAX);
    bench.queue.resume(id);
    assert!(bench.seen().is_empty());
    bench.store.memory.load_requested();
    let bodies: Vec<_> = bench.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, [&b"high"[..], b"low"]);
    assert_eq!(bench.settled(), [0, 0], "one of each level");
}

#[test]
fn consumers_take_turns_over_levels() {
    let mut bench = leveled(false, 3);
    for level in 0..4 {
        publish(&mut bench, level, &[b"x", b"x"]);
    }
    let consumers: Vec<_> = (0..2).map(|_| bench.consume_plain(true, 0, usize::MAX).0).collect();
    // The first one takes all there is until the other is there.
    bench.queue.resume(consumers[1]);
    let seen = bench.seen();
    assert_eq!(seen.iter().map(|seen| seen.reference.level).collect::<Vec<_>>(), [3, 3, 2, 2, 1, 1, 0, 0]);
    bench.queue.resume(consumers[0]);
    publish(&mut bench, 2, &[b"x", b"x", b"x", b"x"]);
    let takers: Vec<_> = bench.seen().iter().map(|seen| seen.consumer).collect();
    assert_eq!(takers, [consumers[1], consumers[0], consumers[1], consumers[0]]);
}

#[test]
fn levels_that_were_not_used_take_no_memory_and_are_told_to_nobody() {
    let mut bench = leveled(true, 255);
    publish(&mut bench, 200, &[b"x"]);
    assert!(bench.gauge.bytes() <= FIRST_CHUNK_BYTES);
    assert_eq!(bench.queue.state.lock().messages.ids().count(), 2);
    assert_eq!(bench.purge(), Ok(1));
    assert_eq!(bench.settled(), [0]);
    assert_eq!(bench.get(true), None);
}
