//! What the keeper has to do by itself, since whoever waits for it does not ask: publishers are held up.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::super::*;
use super::world::{After, Op, World};
use crate::disk::simulated::Fault;
use crate::keeper::Task;

/// What the keeper does comes within a few seconds, where it comes at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Octets that messages may take in memory.
const CACHE_BYTES: usize = 100_000;

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A broker with its keeper, and a queue of transient messages: no record of the journal asks for anything.
fn kept() -> (World, Arc<DurableStore>, Arc<Broker>) {
    let mut world = World::new(SyncMode::Always, After::Kill);
    world.start();
    let running = world.running();
    let (store, broker) = (Arc::clone(&running.store), Arc::clone(&running.broker));
    broker.limit_cache(CACHE_BYTES);
    store.run(Arc::clone(&broker)).unwrap();
    world.run(&[Op::Declare("t", false)]);
    (world, store, broker)
}

#[test]
fn when_a_full_disk_has_room_again_publishers_go_on_and_messages_leave_memory() {
    let (mut world, store, broker) = kept();
    let (told, heard) = mpsc::channel();
    store.when_out_of_room(Box::new(move |on| told.send(on).unwrap()));
    let reserve = world.disk.clone();
    wait_until("the reserve is there", || reserve.content("/data/reserve".as_ref()).is_some());
    world.run(&[Op::Limit(0), Op::Publish("t", vec![10_000; 20], false)]);
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(true), "there is no room for messages on the disk");
    assert!(broker.memory().bytes() > CACHE_BYTES);
    world.heal();
    assert_eq!(heard.recv_timeout(PATIENCE), Ok(false), "there is");
    wait_until("messages leave memory", || broker.memory().bytes() <= CACHE_BYTES);
    store.close().unwrap();
}

/// A broker whose keeper does what it is told, with more messages in memory than there should be.
fn crowded(trouble: &[Op]) -> World {
    let mut world = World::new(SyncMode::Always, After::Kill);
    world.start();
    world.running().broker.limit_cache(CACHE_BYTES);
    world.run(&[Op::Declare("t", false), Op::Step]);
    perform(&mut world, Task::Settle);
    world.run(trouble);
    world.run(&[Op::Publish("t", vec![10_000; 20], false)]);
    world
}

/// Has the keeper do one thing; what it is to do then.
fn perform(world: &mut World, task: Task) -> Vec<Task> {
    let running = world.running.as_mut().unwrap();
    running.store.requests.take_all();
    running.keeper.perform(task);
    running.store.requests.take_all()
}

fn is_crowded(world: &World) -> bool {
    world.running().broker.memory().bytes() > CACHE_BYTES
}

#[test]
fn while_there_is_no_room_it_is_looked_for_and_messages_are_not_forgotten() {
    let mut world = crowded(&[Op::Limit(0)]);
    for task in [Task::PageOut, Task::PageOut, Task::Settle, Task::Checkpoint] {
        let then = perform(&mut world, task);
        assert!(world.running().store.room.is_on() && is_crowded(&world));
        assert!(then.contains(&Task::Settle), "after {task:?}: {then:?}");
        assert_eq!(then.contains(&Task::PageOut), task == Task::PageOut, "after {task:?}: {then:?}");
    }
    world.heal();
    perform(&mut world, Task::Settle);
    assert!(!world.running().store.room.is_on());
    perform(&mut world, Task::PageOut);
    assert!(!is_crowded(&world));
    world.finish();
}

#[test]
fn messages_wait_in_memory_for_a_journal_that_cannot_be_written() {
    let mut world = crowded(&[Op::FailAll(Fault::Io), Op::Declare("d", true), Op::Step]);
    assert_eq!(perform(&mut world, Task::PageOut), [Task::PageOut]);
    assert!(is_crowded(&world));
    world.run(&[Op::Heal, Op::Step]);
    assert_eq!(perform(&mut world, Task::PageOut), []);
    assert!(!is_crowded(&world));
    world.finish();
}

#[test]
fn what_the_disk_refuses_is_asked_for_again() {
    let mut world = crowded(&[Op::FailAll(Fault::Io)]);
    for task in [Task::PageOut, Task::Checkpoint, Task::Settle] {
        assert_eq!(perform(&mut world, task), [task]);
    }
    world.heal();
    assert_eq!(perform(&mut world, Task::PageOut), []);
    assert!(!is_crowded(&world));
    world.finish();
}

#[test]
fn messages_leave_memory_in_parts_so_that_other_work_has_its_turn() {
    let mut world = crowded(&[]);
    // A batch leaves as a whole.
    (0..5).for_each(|_| world.run(&[Op::Publish("t", vec![10_000; 5], false)]));
    let broker = Arc::clone(&world.running().broker);
    let held = || broker.memory().bytes();
    let all = held();
    assert!(!broker.page_out_some(0, 50_000, &|| false).unwrap() && held() == all, "no time");
    let mut parts = 1;
    while !broker.page_out_some(0, 50_000, &|| true).unwrap() {
        parts += 1;
        assert!(held() < all && parts < 10, "{} of {all} octets after {parts} parts", held());
    }
    assert!(held() == 0 && parts > 2, "{} octets after {parts} parts", held());
    world.finish();
}

#[test]
fn a_limit_of_memory_that_is_lowered_holds_for_messages_that_are_there() {
    let (mut world, store, broker) = kept();
    world.run(&[Op::Publish("t", vec![10_000; 8], false)]);
    assert!(broker.memory().bytes() > 20_000);
    broker.limit_cache(20_000);
    wait_until("messages leave memory", || broker.memory().bytes() <= 20_000);
    store.close().unwrap();
}

#[test]
fn files_of_transient_messages_go_when_these_are_consumed() {
    let mut world = crowded(&[]);
    perform(&mut world, Task::PageOut);
    assert!(world.running().store.segments.usage().files > 0);
    world.run(&[Op::Take("t", 20)]);
    assert!(world.running().store.requests.take_all().contains(&Task::Settle));
    perform(&mut world, Task::Settle);
    assert_eq!(world.running().store.segments.usage().files, 0);
    world.finish();
}
