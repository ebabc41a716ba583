//! The sample of waiting times, with a clock of the test's.

use super::*;
use crate::histogram::BOUNDS_US;
use crate::time::{Clock, ManualClock};

fn bench() -> (Bench, Arc<ManualClock>) {
    let (store, clock) = (Arc::new(RecordingStore::default()), Arc::new(ManualClock::default()));
    let known: Arc<dyn Store> = Arc::<RecordingStore>::clone(&store);
    let services = Services::with_clock(known, Arc::<ManualClock>::clone(&clock) as Arc<dyn Clock>);
    let gauge = Arc::clone(&services.gauge);
    let queue = Queue::new(spec(false), &services, Weak::new());
    let bench = Bench { queue, store, gauge, services, log: Arc::default(), batch: MessageBatch::default() };
    (bench, clock)
}

/// How many were timed, and the milliseconds of all of them.
fn timed(bench: &Bench) -> (u64, u64) {
    let times = bench.services.waiting_times.snapshot();
    (times.count(), times.sum_ns / 1_000_000)
}

#[test]
fn the_first_batch_is_timed_and_then_one_in_64() {
    let (mut bench, clock) = bench();
    bench.publish(&[b"watched", b"behind it"]);
    clock.advance_ms(40);
    let (consumer, _) = bench.consume_plain(true, 0, usize::MAX);
    bench.queue.resume(consumer);
    assert_eq!(timed(&bench), (1, 40));
    let bound = BOUNDS_US.iter().position(|&bound| bound == 50_000).unwrap();
    assert_eq!(bench.services.waiting_times.snapshot().counts[bound], 1);
    for batches in 2..=200_u64 {
        bench.publish(&[b"at once"]);
        assert_eq!(timed(&bench), (batches.div_ceil(64), 40), "{batches} batches");
    }
}

#[test]
fn what_waits_behind_what_is_watched_is_not_timed_before_it_is_delivered() {
    let (mut bench, clock) = bench();
    (0..300).for_each(|_| bench.publish(&[b"waits"]));
    let (consumer, sink) = bench.consume_plain(true, 0, 0);
    bench.queue.resume(consumer);
    clock.advance_ms(7);
    assert_eq!(timed(&bench), (0, 0));
    *sink.room.lock() = 1;
    bench.queue.resume(consumer);
    assert_eq!(timed(&bench), (1, 7));
    *sink.room.lock() = usize::MAX;
    bench.queue.resume(consumer);
    assert_eq!(timed(&bench), (1, 7), "one at a time");
}

#[test]
fn what_was_fetched_or_purged_is_not_taken_for_delivered() {
    for purges in [true, false] {
        let (mut bench, clock) = bench();
        bench.publish(&[b"watched"]);
        if purges {
            bench.purge().unwrap();
        } else {
            assert!(bench.get(true).is_some());
        }
        clock.advance_ms(1000);
        let (consumer, _) = bench.consume_plain(true, 0, usize::MAX);
        bench.queue.resume(consumer);
        bench.publish(&[b"another"]);
        assert_eq!(timed(&bench), (0, 0));
        // It is not watched any more, so that another one can be.
        (0..64).for_each(|_| bench.publish(&[b"another"]));
        assert_eq!(timed(&bench), (1, 0));
    }
}
