//! A workload that meets everything the store does, once for each of its calls of the disk and for each way in which
//! that call can go wrong.

use super::super::*;
use super::world::{After, Below, Op, Which, World};
use crate::catalog::CommitFault;
use crate::disk::simulated::{Fault, Survival};

/// Small, and yet: records and groups of all kinds, several journal files, blocks in several files, partly settled
/// ones, compaction, messages shared before a checkpoint and published behind it, a queue declared anew.
fn workload() -> Vec<Op> {
    use Op::*;
    let small = || vec![0, 10, 300, 20];
    vec![
        Declare("a", true),
        Declare("b", true),
        Declare("t", false),
        DeclareExchange("x"),
        Bind("x", "a"),
        Bind("x", "b"),
        Bind("x", "t"),
        Step,
        Publish("a", small(), true),
        Publish("t", small(), false),
        Fanout("x", vec![50, 400, 17_000], true),
        Step,
        Get("a", 3),
        Ack("a", Which::Odd),
        Checkpoint(Below::Half),
        Fanout("x", small(), false),
        Publish("b", vec![900, 2_000, 1_200], true),
        Step,
        PageOut(0),
        Publish("a", vec![700; 4], false),
        Share("x", vec![33, 44]),
        Publish("a", vec![55], true),
        Step,
        Checkpoint(Below::All),
        PublishShared,
        Get("b", 6),
        Ack("b", Which::Last),
        Requeue("b", Which::First),
        Step,
        Checkpoint(Below::Same),
        Take("a", 6),
        Declare("c", true),
        Bind("x", "c"),
        Publish("c", vec![1_500; 5], true),
        Step,
        Checkpoint(Below::Due),
        Compact,
        Delete("c"),
        Checkpoint(Below::Same),
        Declare("c", true),
        Publish("c", small(), true),
        Ack("b", Which::All),
        Checkpoint(Below::All),
        Compact,
        Checkpoint(Below::All),
        Purge("t"),
        Restart,
        Get("c", 2),
        Publish("c", vec![2_500; 3], true),
        Unbind("x", "a"),
        PageOut(0),
        Step,
        Purge("b"),
        Publish("b", vec![1], true),
        Step,
        DeleteExchange("x"),
        Ack("c", Which::First),
        Checkpoint(Below::Half),
        Take("a", 3),
        Step,
    ]
}

/// Calls of the disk and commits when nothing goes wrong.
fn calls() -> (u64, u64) {
    let mut world = World::new(SyncMode::Always, After::Kill);
    world.start();
    world.run(&workload());
    let calls = (world.calls(), world.commits());
    world.finish();
    calls
}

/// Says which case it was if a check fails.
struct Case<T: std::fmt::Debug>(T);

impl<T: std::fmt::Debug> Drop for Case<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was case {:?}", self.0);
        }
    }
}

/// The workload with these faults at these calls, and what is left by a crash.
fn run_with(faults: &[(u64, Fault)], after: After) {
    let _case = Case((faults, after));
    let mut world = World::new(SyncMode::Always, after);
    faults.iter().for_each(|(call, fault)| world.plan(*call, *fault));
    world.start();
    world.run(&workload());
    world.finish();
}

fn crash_at_each_call(after: After) {
    for call in 1..=calls().0 {
        run_with(&[(call, Fault::Crash)], after);
    }
}

#[test]
fn the_workload_meets_what_it_is_to_meet() {
    let (calls, commits) = calls();
    assert!(calls > 200 && commits >= 9, "{calls} {commits}");
}

#[test]
fn an_error_at_any_call_that_goes_away_loses_nothing() {
    for fault in [Fault::Io, Fault::NoSpace, Fault::Short] {
        for call in 1..=calls().0 {
            run_with(&[(call, fault)], After::PowerLoss(Survival::DropAll));
        }
    }
}

#[test]
fn a_kill_at_any_call_loses_nothing_that_was_safe() {
    crash_at_each_call(After::Kill);
}

#[test]
fn a_power_loss_that_drops_all_loses_nothing_that_was_safe() {
    crash_at_each_call(After::PowerLoss(Survival::DropAll));
}

#[test]
fn a_power_loss_that_keeps_all_loses_nothing_that_was_safe() {
    crash_at_each_call(After::PowerLoss(Survival::KeepAll));
}

#[test]
fn a_power_loss_that_tears_the_last_write_loses_nothing_that_was_safe() {
    crash_at_each_call(After::PowerLoss(Survival::TearLast));
}

#[test]
fn a_power_loss_that_leaves_anything_loses_nothing_that_was_safe() {
    for seed in 0..3 {
        crash_at_each_call(After::PowerLoss(Survival::Random(seed)));
    }
}

#[test]
fn a_commit_that_goes_wrong_loses_nothing() {
    use CommitFault::*;
    for fault in [FailBefore, FailAfter, CrashBefore, CrashAfter] {
        for after in [After::Kill, After::PowerLoss(Survival::DropAll), After::PowerLoss(Survival::Random(9))]
        {
            for commit in 1..=calls().1 {
                let _case = Case((commit, fault, after));
                let mut world = World::new(SyncMode::Always, after);
                world.plan_commit(commit, fault);
                world.start();
                world.run(&workload());
                world.finish();
            }
        }
    }
}

/// Published behind others that came to the queue after it was shared: the journal is needed from where it was shared.
#[test]
fn what_was_shared_before_the_rest_of_its_queue_keeps_the_journal_from_there_on() {
    let mut world = World::new(SyncMode::Always, After::Kill);
    world.start();
    world.run(&[Op::Declare("a", true), Op::Declare("b", true), Op::Declare("c", true)]);
    world.run(&[Op::DeclareExchange("x"), Op::Bind("x", "a"), Op::Bind("x", "b"), Op::Step]);
    world.run(&[Op::Checkpoint(Below::All), Op::Share("x", vec![10, 20]), Op::Step]);
    world.run(&[Op::Publish("c", vec![30_000], true), Op::Step]);
    world.run(&[Op::Publish("a", vec![5], true), Op::Publish("b", vec![5], true), Op::PublishShared]);
    world.run(&[Op::Step, Op::Checkpoint(Below::Half), Op::Crash(After::Kill)]);
    world.finish();
}

/// The catalog must not forget a block before it is safe in the journal that all of it is settled.
#[test]
fn what_was_shared_below_the_journal_and_is_settled_is_not_missing() {
    let mut world = World::new(SyncMode::Always, After::Kill);
    world.start();
    world.run(&[Op::Declare("a", true), Op::Declare("b", true), Op::DeclareExchange("x")]);
    world.run(&[Op::Bind("x", "a"), Op::Bind("x", "b"), Op::Step, Op::Checkpoint(Below::All)]);
    world.run(&[Op::Fanout("x", vec![3_000], true), Op::Step, Op::Checkpoint(Below::Half)]);
    world.run(&[Op::Take("a", 1), Op::Checkpoint(Below::Same), Op::Crash(After::Kill)]);
    world.finish();
}

/// A crash, and another one at every call of the start that follows.
#[test]
fn a_crash_at_any_call_of_a_recovery_loses_nothing_that_was_safe() {
    let survivals = [Survival::DropAll, Survival::KeepAll, Survival::Random(1), Survival::Random(2)];
    let afters = [After::Kill].into_iter().chain(survivals.map(After::PowerLoss));
    for (first, after) in
        (1..=calls().0).step_by(41).flat_map(|call| afters.clone().map(move |after| (call, after)))
    {
        let recover_with_crash_at = |call: u64| {
            let _case = Case((first, call, after));
            let mut world = World::new(SyncMode::Always, after);
            world.plan(first, Fault::Crash);
            world.plan(first + call, Fault::Crash);
            world.start();
            let calls = world.run_to_first_recovery(&workload());
            world.finish();
            calls
        };
        let calls = recover_with_crash_at(1_000);
        (1..=calls).for_each(|call| _ = recover_with_crash_at(call));
    }
}

/// What only the catalog knows to be settled would be back once its block is forgotten.
#[test]
fn what_is_settled_after_one_crash_is_settled_after_the_next() {
    let mut world = World::new(SyncMode::Always, After::Kill);
    world.start();
    world.run(&[Op::Declare("a", true), Op::Publish("a", vec![1, 2], true), Op::Get("a", 1), Op::Step]);
    world.run(&[Op::PageOut(0), Op::Ack("a", Which::First), Op::Checkpoint(Below::Same)]);
    world.run(&[Op::Crash(After::Kill), Op::Take("a", 1), Op::Checkpoint(Below::Same)]);
    world.run(&[Op::Crash(After::Kill)]);
    world.finish();
}

/// Once the last message of a block is settled nothing says so but that the block is gone: a checkpoint that learned of
/// neither would let go of the journal, and the messages come back.
#[test]
fn a_block_that_ends_while_a_checkpoint_gathers_is_forgotten() {
    let mut world = World::new(SyncMode::Always, After::Kill);
    world.start();
    world.run(&[Op::Declare("a", true), Op::Publish("a", vec![1, 2], true), Op::Get("a", 2), Op::Step]);
    world.run(&[Op::PageOut(0), Op::Checkpoint(Below::All), Op::Ack("a", Which::First)]);
    let blocks = world.running().broker.changed_blocks();
    assert_eq!(blocks.len(), 1, "the one with what was acknowledged");
    world.run(&[Op::Ack("a", Which::All)]);
    let changes = world.running().keeper.gather(blocks, JournalPosition::SAFE);
    let mut entries = world.catalog.entries().unwrap().into_iter().collect();
    assert_eq!(Contents::of(&entries).blocks.len(), 1);
    entries::apply(&mut entries, changes);
    assert!(Contents::of(&entries).blocks.is_empty());
}

/// A deletion that was not safe when the process ended leaves the queue as it was.
#[test]
fn a_queue_whose_deletion_is_lost_comes_back_with_its_delivery_marks() {
    let mut world = World::new(SyncMode::Always, After::Kill);
    world.start();
    world.run(&[Op::Declare("a", true), Op::Publish("a", vec![1, 2], true), Op::Get("a", 1), Op::Step]);
    world.run(&[Op::Delete("a"), Op::Crash(After::Kill)]);
    world.finish();
}

#[test]
fn a_queue_that_is_stopped_can_be_deleted_while_a_message_is_on_its_way_to_it() {
    let mut world = World::new(SyncMode::Always, After::Kill);
    world.start();
    world.run(&[Op::Declare("a", true), Op::Declare("b", true), Op::DeclareExchange("x")]);
    world.run(&[Op::Bind("x", "a"), Op::Bind("x", "b"), Op::Publish("a", vec![3_000; 5], true), Op::Step]);
    world.run(&[Op::Checkpoint(Below::All), Op::PageOut(0), Op::Share("x", vec![10])]);
    world.running().queue("a").stop("it is damaged".to_owned());
    world.has_failed = true;
    world.run(&[Op::Delete("a"), Op::PublishShared]);
    world.finish();
}
