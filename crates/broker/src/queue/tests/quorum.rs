//! What sets quorum queues apart, beside what the model covers.

use super::*;

/// A quorum queue with these arguments beside its type.
fn bench(arguments: FieldTable) -> Bench {
    let arguments = QueueArguments::parse(arguments, "q", "/").unwrap();
    Bench::of(QueueSpec { arguments, ..spec(true) })
}

pub(super) fn publish(bench: &mut Bench, level: u8, bodies: &[&[u8]]) {
    bench.batch = MessageBatch::for_level(&bench.queue.spec, level);
    bodies.iter().for_each(|body| bench.push(body, true));
    bench.flush();
}

pub(super) fn take(bench: &Bench, count: usize) -> Vec<MessageRef> {
    (0..count).map(|_| bench.get(false).expect("a message").0).collect()
}

/// Bodies of all messages, in the order in which they come.
fn drained(bench: &Bench) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| bench.get(true)).map(|(_, _, body, _)| body).collect()
}

#[test]
fn what_came_back_is_served_first_and_in_that_order_whatever_its_priority() {
    let mut bench = bench(quorum());
    publish(&mut bench, 9, &[b"high 0", b"high 1", b"high 2"]);
    publish(&mut bench, 1, &[b"low 0", b"low 1"]);
    let taken = take(&bench, 4);
    for index in [3, 1, 0] {
        bench.queue.settle(None, Settlement::Requeued, &[taken[index]]);
    }
    publish(&mut bench, 31, &[b"highest"]);
    bench.queue.page_out(PageOut::All, usize::MAX).unwrap();
    assert_eq!(drained(&bench), [&b"low 0"[..], b"high 1", b"high 0", b"highest", b"low 1"]);
}

#[test]
fn a_turn_left_behind_is_no_turn() {
    let mut bench = bench(quorum());
    publish(&mut bench, 4, &[b"0", b"1", b"2"]);
    let taken = take(&bench, 3);
    bench.queue.settle(None, Settlement::Requeued, &taken);
    // As redriving does: by position.
    let mut again = Vec::new();
    let all = (4, 0..3);
    bench.queue.take_from(all, 2, Box::new(|| {}), |reference, _| again.push(reference)).unwrap();
    bench.queue.settle(None, Settlement::Requeued, &[again[1], again[0]]);
    assert_eq!(drained(&bench), [b"2", b"1", b"0"]);
    publish(&mut bench, 4, &[b"3"]);
    let taken = take(&bench, 1);
    bench.queue.settle(None, Settlement::Requeued, &taken);
    assert_eq!(bench.purge(), Ok(1));
    publish(&mut bench, 4, &[b"4"]);
    assert_eq!(drained(&bench), [b"4"]);
}

#[test]
fn many_messages_that_come_back_and_are_taken_otherwise_leave_no_memory_behind() {
    let mut bench = bench(quorum());
    publish(&mut bench, 4, &[b"0", b"1"]);
    let taken = take(&bench, 2);
    bench.queue.settle(None, Settlement::Requeued, &taken);
    for _ in 0..10_000 {
        let mut again = Vec::new();
        let second = (4, 1..2);
        bench.queue.take_from(second, 1, Box::new(|| {}), |reference, _| again.push(reference)).unwrap();
        bench.queue.settle(None, Settlement::Requeued, &again);
    }
    assert!(bench.queue.state.lock().messages.turns() < 16);
    assert_eq!(drained(&bench), [b"0", b"1"]);
}
