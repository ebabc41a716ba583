//! Long random lives of a broker, with any faults at any time.

use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::world::{After, Below, Op, PRIORITY_QUEUE, Which, World};
use crate::catalog::CommitFault;
use crate::disk::simulated::{Fault, Survival};

fn queue() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "a", "b", "b", "c", "t", PRIORITY_QUEUE, PRIORITY_QUEUE])
}

fn exchange() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["x", "x", "y"])
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![8 => 0..200_usize, 4 => 200..3_000_usize, 1 => 16_000..40_000_usize];
    prop::collection::vec(size, 1..6)
}

fn which() -> impl Strategy<Value = Which> {
    prop::sample::select(vec![Which::First, Which::Last, Which::Odd, Which::All])
}

fn below() -> impl Strategy<Value = Below> {
    prop::sample::select(vec![Below::Same, Below::Due, Below::Half, Below::All])
}

fn survival() -> impl Strategy<Value = Survival> {
    prop_oneof![
        1 => Just(Survival::DropAll),
        1 => Just(Survival::KeepAll),
        1 => Just(Survival::TearLast),
        5 => any::<u64>().prop_map(Survival::Random),
    ]
}

fn after() -> impl Strategy<Value = After> {
    prop_oneof![1 => Just(After::Kill), 2 => survival().prop_map(After::PowerLoss)]
}

fn definition() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => queue().prop_map(|name| Op::Declare(name, name != "t")),
        1 => queue().prop_map(Op::Delete),
        2 => exchange().prop_map(Op::DeclareExchange),
        1 => exchange().prop_map(Op::DeleteExchange),
        4 => (exchange(), queue()).prop_map(|(exchange, queue)| Op::Bind(exchange, queue)),
        1 => (exchange(), queue()).prop_map(|(exchange, queue)| Op::Unbind(exchange, queue)),
    ]
}

fn traffic() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (queue(), sizes(), any::<bool>()).prop_map(|(queue, sizes, all)| Op::Publish(queue, sizes, all)),
        4 => (exchange(), sizes(), any::<bool>()).prop_map(|(to, sizes, all)| Op::Fanout(to, sizes, all)),
        1 => (exchange(), sizes()).prop_map(|(to, sizes)| Op::Share(to, sizes)),
        1 => Just(Op::PublishShared),
        5 => (queue(), 1..8_usize).prop_map(|(queue, count)| Op::Get(queue, count)),
        3 => (queue(), 1..8_usize).prop_map(|(queue, count)| Op::Take(queue, count)),
        5 => (queue(), which()).prop_map(|(queue, which)| Op::Ack(queue, which)),
        2 => (queue(), which()).prop_map(|(queue, which)| Op::Requeue(queue, which)),
        1 => queue().prop_map(Op::Purge),
    ]
}

fn upkeep() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => Just(Op::Step),
        4 => below().prop_map(Op::Checkpoint),
        3 => prop::sample::select(vec![0, 2_000, 20_000]).prop_map(Op::PageOut),
        3 => Just(Op::Compact),
        1 => Just(Op::Restart),
    ]
}

fn fault() -> impl Strategy<Value = Op> {
    let once =
        prop::sample::select(vec![Fault::Io, Fault::NoSpace, Fault::Short, Fault::Crash, Fault::Crash]);
    let lasting = prop::sample::select(vec![Fault::Io, Fault::NoSpace, Fault::Short]);
    let commit = prop::sample::select(vec![
        CommitFault::FailBefore,
        CommitFault::FailAfter,
        CommitFault::CrashBefore,
        CommitFault::CrashAfter,
    ]);
    prop_oneof![
        4 => (0..40_u64, once).prop_map(|(later, fault)| Op::Fault(later, fault)),
        1 => (0..2_u64, commit).prop_map(|(later, fault)| Op::FaultOfCommit(later, fault)),
        1 => lasting.prop_map(Op::FailAll),
        1 => (0..40_000_u64).prop_map(Op::Limit),
        3 => Just(Op::Heal),
        2 => after().prop_map(Op::Crash),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![2 => definition(), 12 => traffic(), 5 => upkeep(), 2 => fault()]
}

fn mode() -> impl Strategy<Value = SyncMode> {
    prop_oneof![
        4 => Just(SyncMode::Always),
        1 => Just(SyncMode::Interval(Duration::ZERO)),
        1 => Just(SyncMode::Interval(Duration::from_secs(3600))),
        1 => Just(SyncMode::Os),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_what_was_safe_comes_back_and_nothing_else(
        sync in mode(),
        after in after(),
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let mut world = World::new(sync, after);
        world.start();
        world.run(&[Op::Declare("a", true), Op::Declare("b", true), Op::DeclareExchange("x")]);
        world.run(&[Op::Bind("x", "a"), Op::Bind("x", "b"), Op::Declare("t", false)]);
        world.run(&[Op::Declare(PRIORITY_QUEUE, true), Op::Bind("x", PRIORITY_QUEUE)]);
        world.run(&ops);
        world.finish();
    }
}
