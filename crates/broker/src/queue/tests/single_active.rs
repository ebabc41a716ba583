//! One consumer at a time: which one gets messages, who takes over and when, and that what its predecessor had comes
//! first if it came back.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// The queue with one active consumer; `by_priority` as on quorum queues.
fn single_active(by_priority: bool) -> Bench {
    let arguments = FieldTable::new().with("x-single-active-consumer", true);
    let arguments = QueueArguments::parse(arguments, "q", "/").unwrap();
    let bench = Bench::of(QueueSpec { arguments, ..spec(false) });
    bench.queue.state.lock().consumers = Consumers::new(Some(SingleActive::new(by_priority)));
    bench
}

fn activities(bench: &Bench) -> Vec<&'static str> {
    bench.queue.consumers().iter().map(|consumer| consumer.activity.as_str()).collect()
}

fn bodies(seen: &[Seen]) -> String {
    seen.iter().map(|seen| String::from_utf8_lossy(&seen.body).into_owned()).collect()
}

#[test]
fn the_next_consumer_goes_on_behind_what_a_cancelled_one_keeps() {
    let mut bench = single_active(false);
    let (first, _) = bench.consume_plain(false, 2, usize::MAX);
    let (second, _) = bench.consume_plain(false, 0, usize::MAX);
    [second, first].into_iter().for_each(|id| bench.queue.resume(id));
    bench.publish(&[b"a", b"b", b"c", b"d"]);
    let held = bench.seen();
    assert!(held.iter().all(|seen| seen.consumer == first));
    assert_eq!((bodies(&held), activities(&bench)), ("ab".to_owned(), vec!["single_active", "waiting"]));
    assert!(!bench.queue.cancel(first));
    let seen = bench.seen();
    assert!(seen.iter().all(|seen| seen.consumer == second));
    assert_eq!((bodies(&seen), activities(&bench)), ("cd".to_owned(), vec!["single_active"]));
    bench.queue.settle(Some(first), Settlement::Requeued, &[held[0].reference, held[1].reference]);
    let seen = bench.seen();
    assert_eq!((bodies(&seen), seen[0].redelivered), ("ab".to_owned(), true));
}

#[test]
fn what_came_back_before_the_next_consumer_took_over_comes_in_order() {
    let mut bench = single_active(false);
    let (first, sink) = bench.consume_plain(false, 2, usize::MAX);
    let (second, _) = bench.consume_plain(false, 0, usize::MAX);
    [first, second].into_iter().for_each(|id| bench.queue.resume(id));
    bench.publish(&[b"a", b"b", b"c"]);
    let held = bench.seen();
    // A channel that ends takes nothing more.
    *sink.room.lock() = 0;
    bench.queue.settle(Some(first), Settlement::Requeued, &[held[1].reference, held[0].reference]);
    assert!(bench.seen().is_empty());
    bench.queue.cancel(first);
    assert_eq!(bodies(&bench.seen()), "abc");
}

#[test]
fn the_highest_priority_takes_over_and_the_oldest_of_equals() {
    let bench = single_active(false);
    let ids: Vec<_> = [0, 0, 5, 5].map(|priority| bench.consume(true, 0, 9, priority).0).into();
    let active = || {
        let consumers = bench.queue.consumers();
        consumers.iter().find(|consumer| consumer.activity.is_active()).map(|consumer| consumer.id)
    };
    for index in [0, 2, 3, 1] {
        assert_eq!(active(), Some(ids[index]));
        bench.queue.cancel(ids[index]);
    }
    assert_eq!(active(), None);
}

#[test]
fn on_quorum_queues_a_higher_priority_takes_over_once_nothing_is_in_flight() {
    let mut bench = single_active(true);
    let (low, _) = bench.consume(false, 0, usize::MAX, 0);
    bench.queue.resume(low);
    bench.publish(&[b"a"]);
    let held = bench.seen();
    let (high, _) = bench.consume(false, 0, usize::MAX, 1);
    bench.queue.resume(high);
    bench.publish(&[b"b"]);
    assert!(bench.seen().is_empty(), "nothing while one makes way");
    assert_eq!(activities(&bench), ["single_active", "waiting"]);
    bench.queue.settle(Some(low), Settlement::Settled, &[held[0].reference]);
    let seen = bench.seen();
    assert_eq!((seen[0].consumer, bodies(&seen)), (high, "b".to_owned()));
    assert_eq!(activities(&bench), ["waiting", "single_active"]);
    // It goes without its delivery, and the other one is active again.
    bench.queue.cancel(high);
    bench.publish(&[b"c"]);
    assert_eq!(bench.seen()[0].consumer, low);
}

#[test]
fn the_active_one_goes_on_if_the_one_it_makes_way_for_leaves() {
    let mut bench = single_active(true);
    let (low, _) = bench.consume(false, 0, usize::MAX, 0);
    bench.queue.resume(low);
    bench.publish(&[b"a"]);
    let (high, _) = bench.consume(false, 0, usize::MAX, 1);
    bench.publish(&[b"b"]);
    assert_eq!(bodies(&bench.seen()), "a");
    bench.queue.cancel(high);
    assert_eq!(bodies(&bench.seen()), "b");
}

#[test]
fn an_exclusive_consumer_has_no_place_on_it() {
    let bench = single_active(false);
    let sink = Arc::new(RecordingSink { consumer: ConsumerId(0), room: Mutex::new(0), log: Arc::default() });
    let refused = bench.queue.consume(ConsumerSpec { exclusive: true, ..consumer(ConsumerId::next(), sink) });
    assert_eq!(refused.unwrap_err().to_string(), "queue 'q' in vhost '/' in exclusive use");
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Consume { no_ack: bool, prefetch: u16, priority: i64 },
    Resume(Index, usize),
    Cancel(Index),
    Settle(Settlement, Index),
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![Just(Settlement::Settled), Just(Settlement::Requeued)];
    prop_oneof![
        4 => (1..5_u8).prop_map(Step::Publish),
        2 => (any::<bool>(), 0..3_u16, -1..=1_i64)
            .prop_map(|(no_ack, prefetch, priority)| Step::Consume { no_ack, prefetch, priority }),
        4 => (any::<Index>(), 0..6_usize).prop_map(|(index, room)| Step::Resume(index, room)),
        2 => any::<Index>().prop_map(Step::Cancel),
        4 => (how, any::<Index>()).prop_map(|(how, index)| Step::Settle(how, index)),
    ]
}

struct Known {
    sink: Arc<RecordingSink>,
    no_ack: bool,
    prefetch: usize,
    /// Who came before goes before, among those of its priority.
    rank: (Reverse<i64>, u64),
    is_parked: bool,
    unacked: usize,
}

struct Model {
    bench: Bench,
    by_priority: bool,
    consumers: BTreeMap<ConsumerId, Known>,
    active: Option<ConsumerId>,
    held: Vec<(ConsumerId, MessageRef)>,
    ready: BTreeSet<u64>,
    published: u64,
    added: u64,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        let pick = |index: &Index, length: usize| (length > 0).then(|| index.index(length));
        match step {
            Step::Publish(count) => {
                self.ready.extend(self.published..self.published + u64::from(*count));
                self.published += u64::from(*count);
                self.bench.publish(&vec![&b"x"[..]; usize::from(*count)]);
            }
            &Step::Consume { no_ack, prefetch, priority } => {
                let (id, sink) = self.bench.consume(no_ack, prefetch, 0, priority);
                let (prefetch, rank) = (usize::from(prefetch), (Reverse(priority), self.added));
                self.added += 1;
                self.consumers
                    .insert(id, Known { sink, no_ack, prefetch, rank, is_parked: true, unacked: 0 });
            }
            Step::Resume(index, room) => {
                let Some(index) = pick(index, self.consumers.len()) else { return };
                let (id, known) = self.consumers.iter_mut().nth(index).unwrap();
                *known.sink.room.lock() = *room;
                known.is_parked = false;
                self.bench.queue.resume(*id);
            }
            Step::Cancel(index) => {
                let Some(index) = pick(index, self.consumers.len()) else { return };
                let id = *self.consumers.keys().nth(index).unwrap();
                self.consumers.remove(&id);
                if self.active == Some(id) {
                    self.active = None;
                }
                self.bench.queue.cancel(id);
            }
            Step::Settle(how, index) => {
                let Some(index) = pick(index, self.held.len()) else { return };
                let (id, reference) = self.held.swap_remove(index);
                if let Some(known) = self.consumers.get_mut(&id) {
                    known.unacked -= 1;
                }
                if *how == Settlement::Requeued {
                    self.ready.insert(reference.position);
                }
                self.bench.queue.settle(Some(id), *how, &[reference]);
            }
        }
        self.check();
    }

    fn best_waiting(&self) -> Option<ConsumerId> {
        let waiting = self.consumers.iter().filter(|(id, _)| self.active != Some(**id));
        waiting.min_by_key(|(_, known)| known.rank).map(|(id, _)| *id)
    }

    /// Whether the active one is to make way, and has nothing in flight.
    fn making_way(&self) -> (bool, bool) {
        let active = self.active.map(|id| &self.consumers[&id]);
        let best = self.best_waiting().map(|id| &self.consumers[&id]);
        match (active, best) {
            (Some(active), Some(best)) if self.by_priority => {
                (best.rank.0 < active.rank.0, active.unacked == 0)
            }
            _ => (false, false),
        }
    }

    fn choose(&mut self) {
        if self.active.is_none() || self.making_way() == (true, true) {
            self.active = self.best_waiting();
        }
    }

    fn check(&mut self) {
        self.choose();
        for seen in self.bench.seen() {
            assert_eq!(self.active, Some(seen.consumer), "another one is active");
            assert_eq!(self.ready.pop_first(), Some(seen.reference.position));
            let known = self.consumers.get_mut(&seen.consumer).unwrap();
            if !known.no_ack {
                known.unacked += 1;
                assert!(known.prefetch == 0 || known.unacked <= known.prefetch);
                self.held.push((seen.consumer, seen.reference));
            }
        }
        for known in self.consumers.values_mut() {
            known.is_parked |= *known.sink.room.lock() == 0;
        }
        let listed = self.bench.queue.consumers();
        let active = listed.iter().find(|consumer| consumer.activity.is_active()).map(|consumer| consumer.id);
        assert_eq!(active, self.active);
        if let (Some(active), false, false) = (self.active, self.making_way().0, self.ready.is_empty()) {
            let known = &self.consumers[&active];
            let has_credit = known.no_ack || known.prefetch == 0 || known.unacked < known.prefetch;
            assert!(known.is_parked || !has_credit, "a message and the active consumer both wait");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn one_consumer_at_a_time_gets_messages_in_order(
        by_priority in any::<bool>(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut model = Model {
            bench: single_active(by_priority),
            by_priority,
            consumers: BTreeMap::new(),
            active: None,
            held: Vec::new(),
            ready: BTreeSet::new(),
            published: 0,
            added: 0,
        };
        steps.iter().for_each(|step| model.apply(step));
    }
}
