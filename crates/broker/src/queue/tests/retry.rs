//! Delayed retry, beside a model that knows who waits until when.

use std::collections::VecDeque;

use proptest::prelude::*;
use proptest::sample::Index;

use super::quorum::{publish, take};
use super::*;
use crate::queue::settings::{DelayedRetry, DelayedRetryType};
use crate::time::{Clock, ManualClock};

/// A quorum queue with these arguments beside its type, and its clock.
fn bench(arguments: FieldTable) -> (Bench, Arc<ManualClock>) {
    let arguments = QueueArguments::parse(arguments, "q", "/").unwrap();
    let (store, clock) = (Arc::new(RecordingStore::default()), Arc::new(ManualClock::default()));
    let known: Arc<dyn Store> = Arc::<RecordingStore>::clone(&store);
    let services = Services::with_clock(known, Arc::<ManualClock>::clone(&clock) as Arc<dyn Clock>);
    let gauge = Arc::clone(&services.gauge);
    let queue = Queue::new(QueueSpec { arguments, ..spec(true) }, &services, Weak::new());
    let bench = Bench { queue, store, gauge, services, log: Arc::default(), batch: MessageBatch::default() };
    (bench, clock)
}

fn retrying(which: &str, min_ms: i32) -> FieldTable {
    let arguments = quorum().with("x-delayed-retry-type", FieldValue::from(which));
    arguments.with("x-delayed-retry-min", min_ms)
}

impl Bench {
    fn advance(&self, clock: &ManualClock, milliseconds: u64) {
        clock.advance_ms(milliseconds);
        self.services.timers.run(clock.now());
    }
}

#[test]
fn a_message_waits_longer_each_time_it_fails_up_to_the_maximum() {
    let (mut bench, clock) = bench(retrying("all", 100).with("x-delayed-retry-max", 250));
    publish(&mut bench, 4, &[b"m"]);
    let (hows, delays) = ([Settlement::Requeued, Settlement::Failed, Settlement::Failed], [100, 100, 200]);
    let more = [(Settlement::Requeued, 200), (Settlement::Failed, 250), (Settlement::Failed, 250)];
    for (how, delay) in hows.into_iter().zip(delays).chain(more) {
        let taken = take(&bench, 1);
        bench.queue.settle(None, how, &taken);
        let snapshot = bench.queue.snapshot();
        assert_eq!((snapshot.ready, snapshot.delayed, snapshot.unacked), (0, 1, 0));
        bench.advance(&clock, delay - 1);
        assert_eq!(bench.get(false), None);
        bench.advance(&clock, 1);
    }
    assert_eq!(take(&bench, 1).len(), 1);
    assert_eq!(bench.services.timers.next(), None, "nobody waits");
}

#[test]
fn only_what_is_to_wait_waits() {
    for (which, failed_waits, returned_waits) in
        [("disabled", 0, 0), ("failed", 1, 0), ("returned", 0, 1), ("all", 1, 1)]
    {
        for (how, waits) in [(Settlement::Failed, failed_waits), (Settlement::Requeued, returned_waits)] {
            let (mut bench, _) = bench(retrying(which, 100));
            publish(&mut bench, 4, &[b"m"]);
            let taken = take(&bench, 1);
            bench.queue.settle(None, how, &taken);
            assert_eq!(bench.queue.snapshot().delayed, waits, "{which}, {how:?}");
        }
    }
}

#[test]
fn what_waits_has_a_place_in_the_queue() {
    let overflow = FieldValue::from("reject-publish");
    let arguments = retrying("all", 100).with("x-max-length", 2).with("x-overflow", overflow);
    let (mut bench, clock) = bench(arguments);
    publish(&mut bench, 4, &[b"0", b"1"]);
    let taken = take(&bench, 2);
    bench.queue.settle(None, Settlement::Failed, &taken);
    let mut refused = Vec::new();
    bench.batch = MessageBatch::for_level(&bench.queue.spec, 4);
    bench.push(b"2", true);
    bench.queue.publish_or_refuse(&mut bench.batch, &mut refused);
    assert_eq!((refused.len(), bench.purge()), (1, Ok(0)), "purging leaves them");
    bench.advance(&clock, 100);
    assert_eq!(bench.purge(), Ok(2));
}

#[test]
fn a_consumer_gets_what_waited_when_it_is_due() {
    let (mut bench, clock) = bench(retrying("failed", 1000));
    let (id, _) = bench.consume_plain(false, 0, usize::MAX);
    bench.queue.resume(id);
    publish(&mut bench, 4, &[b"m"]);
    let seen = bench.seen();
    bench.queue.settle(Some(id), Settlement::Failed, &[seen[0].reference]);
    bench.advance(&clock, 999);
    assert!(bench.seen().is_empty());
    bench.queue.page_out(PageOut::All, usize::MAX).unwrap();
    bench.advance(&clock, 1);
    bench.store.memory.load_requested();
    let seen = bench.seen();
    assert_eq!((seen.len(), seen[0].returns), (1, Returns { acquired: 1, failed: 1 }));
}

#[test]
fn what_waits_goes_on_to_wait_when_a_policy_ends_it_for_others() {
    let (mut bench, clock) = bench(quorum());
    let retry = DelayedRetry { which: DelayedRetryType::All, min_ms: 100, max_ms: None };
    bench.queue.apply(QueueSettings { delayed_retry: Some(retry), ..bench.queue.settings() });
    publish(&mut bench, 4, &[b"0", b"1"]);
    let taken = take(&bench, 2);
    bench.queue.settle(None, Settlement::Requeued, &taken[..1]);
    bench.queue.apply(QueueSettings { delayed_retry: None, ..bench.queue.settings() });
    bench.queue.settle(None, Settlement::Requeued, &taken[1..]);
    assert_eq!((bench.queue.snapshot().ready, bench.queue.snapshot().delayed), (1, 1));
    bench.advance(&clock, 100);
    assert_eq!((bench.queue.snapshot().ready, bench.queue.snapshot().delayed), (2, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Publish,
    Get,
    Settle(Settlement, Vec<Index>),
    Advance(u64),
    PageOut,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![Just(Settlement::Failed), Just(Settlement::Requeued), Just(Settlement::Settled)];
    prop_oneof![
        2 => Just(Step::Publish),
        4 => Just(Step::Get),
        4 => (how, prop::collection::vec(any::<Index>(), 1..4)).prop_map(|(how, picks)| Step::Settle(how, picks)),
        3 => (0..30_u64).prop_map(Step::Advance),
        1 => Just(Step::PageOut),
    ]
}

/// A message by its number, and how often it failed.
type Known = (u64, u64);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nobody_comes_before_its_time_nor_out_of_turn(steps in prop::collection::vec(step(), 1..80)) {
        let (mut bench, clock) = bench(retrying("all", 10).with("x-delivery-limit", -1));
        let (mut fresh, mut returned) = (VecDeque::<Known>::new(), VecDeque::<Known>::new());
        let mut held = Vec::<(Known, MessageRef)>::new();
        // By when they are due, and when they came back.
        let mut waiting = BTreeMap::<(u64, usize), Known>::new();
        let mut numbers = 0..;
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Publish => {
                    let number: u64 = numbers.next().unwrap();
                    publish(&mut bench, 4, &[&number.to_le_bytes()]);
                    fresh.push_back((number, 0));
                }
                Step::Get => {
                    let expected = returned.pop_front().or_else(|| fresh.pop_front());
                    let got = bench.get(false);
                    let number = got.as_ref().map(|(_, _, body, _)| u64::from_le_bytes(body[..].try_into().unwrap()));
                    prop_assert_eq!(number, expected.map(|(number, _)| number));
                    held.extend(expected.into_iter().zip(got.map(|got| got.0)));
                }
                Step::Settle(how, picks) => for (nth, pick) in picks.iter().enumerate() {
                    if held.is_empty() {
                        break;
                    }
                    let ((number, failed), reference) = held.remove(pick.index(held.len()));
                    bench.queue.settle(None, *how, &[reference]);
                    let failed = failed + u64::from(*how == Settlement::Failed);
                    let due = clock.now().0 + 10 * failed.max(1);
                    if *how != Settlement::Settled {
                        waiting.insert((due, index * 10 + nth), (number, failed));
                    }
                },
                Step::Advance(milliseconds) => {
                    bench.advance(&clock, *milliseconds);
                    let later = waiting.split_off(&(clock.now().0 + 1, 0));
                    returned.extend(std::mem::replace(&mut waiting, later).into_values());
                }
                Step::PageOut => bench.queue.page_out(PageOut::All, usize::MAX).unwrap(),
            }
            let snapshot = bench.queue.snapshot();
            prop_assert_eq!((snapshot.ready, snapshot.delayed), (fresh.len() + returned.len(), waiting.len()));
        }
        bench.queue.delete(false, false).unwrap();
        bench.queue.let_go_of_all();
        prop_assert_eq!((bench.gauge.bytes(), bench.queue.snapshot().delayed), (0, 0));
    }
}
