//! Policies take effect at once on what is there, and on what is declared later; they come back with a restart.

use super::definitions::Recorded;
use super::*;
use crate::Broker;
use crate::limits::POLICIES_MAX;
use crate::message::{Body, MessageBatch, MessageView};
use crate::policy::{ApplyTo, Policy, PolicyKind};
use crate::time::{Clock, ManualClock};

fn policy(name: &str, pattern: &str, key: &str, value: impl Into<FieldValue>) -> Policy {
    Policy {
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        apply_to: ApplyTo::All,
        priority: 0,
        definition: arguments(key, value),
    }
}

impl Vhost {
    #[track_caller]
    fn set(&self, policy: Policy) {
        self.set_policy(PolicyKind::Policy, policy).unwrap();
    }

    fn max_length(&self, queue: &str) -> Option<u64> {
        self.queue(queue, OWNER).unwrap().settings().max_length
    }
}

fn publish(queue: &Queue, bodies: &[&str]) {
    let mut batch = MessageBatch::default();
    for body in bodies {
        batch.push(&MessageView {
            names: b"\0\x01q",
            properties: &[0, 0],
            body: Body::Small(body.as_bytes()),
            persistent: false,
            extras: &[],
        });
    }
    queue.publish(&mut batch);
}

#[test]
fn a_policy_is_in_force_at_once_when_set_changed_and_cleared() {
    let vhost = vhost();
    vhost.add_queues(&["orders", "other"]);
    vhost.set(policy("limit", "^orders$", "max-length", 5));
    assert_eq!((vhost.max_length("orders"), vhost.max_length("other")), (Some(5), None));
    vhost.set(policy("limit", "^o", "max-length", 7));
    assert_eq!((vhost.max_length("orders"), vhost.max_length("other")), (Some(7), Some(7)));
    let settings = vhost.queue("other", OWNER).unwrap().settings();
    assert_eq!(settings.policies.policy_name(), Some("limit"));
    assert_eq!(*settings.policies.effective_definition(), arguments("max-length", 7));
    vhost.clear_policy(PolicyKind::Policy, "limit").unwrap();
    assert_eq!(vhost.max_length("other"), None);
    assert!(vhost.queue("other", OWNER).unwrap().settings().policies.is_empty());
    let missing = vhost.clear_policy(PolicyKind::Policy, "limit");
    assert_eq!(text(missing), "no policy 'limit' in vhost '/'");
}

#[test]
fn what_is_declared_later_is_under_the_policies_there_are() {
    let vhost = vhost();
    vhost.set(policy("limit", "", "max-length", 5));
    let operator = policy("cap", "", "max-length", 3);
    vhost.set_policy(PolicyKind::Operator, operator).unwrap();
    let with = QueueDeclaration { arguments: arguments("x-max-length", 4), ..queue("with") };
    let queue = vhost.add_queue(with, OWNER);
    assert_eq!(queue.settings().max_length, Some(3));
    vhost.clear_policy(PolicyKind::Operator, "cap").unwrap();
    assert_eq!(vhost.max_length("with"), Some(4));
}

#[test]
fn messages_that_are_too_many_under_a_new_policy_go_at_once_to_its_dead_letter_exchange() {
    let vhost = vhost();
    vhost.add_queues(&["q", "dead"]);
    let queue = vhost.queue("q", OWNER).unwrap();
    publish(&queue, &["one", "two", "three"]);
    let definition =
        arguments("max-length", 1).with("dead-letter-exchange", "").with("dead-letter-routing-key", "dead");
    vhost.set(Policy { definition, ..policy("limit", "^q$", "max-length", 1) });
    assert_eq!(queue.snapshot().ready, 1);
    assert_eq!(vhost.queue("dead", OWNER).unwrap().snapshot().ready, 2);
    publish(&queue, &["four"]);
    assert_eq!(vhost.queue("dead", OWNER).unwrap().snapshot().ready, 3);
    vhost.clear_policy(PolicyKind::Policy, "limit").unwrap();
    publish(&queue, &["five"]);
    assert_eq!(queue.snapshot().ready, 2);
}

#[test]
fn a_queue_expires_by_a_policy_set_while_it_lies_unused() {
    let clock = Arc::new(ManualClock::default());
    let store = Arc::new(MemoryStore::default());
    let broker = Broker::with(Services::with_clock(store, Arc::<ManualClock>::clone(&clock)));
    let vhost = broker.create_vhost("/");
    vhost.add_queue(queue("q"), OWNER);
    vhost.set(policy("unused", "", "expires", 1000));
    clock.advance_ms(999);
    broker.timers().run(clock.now());
    assert!(vhost.queue("q", OWNER).is_ok());
    clock.advance_ms(1);
    broker.timers().run(clock.now());
    assert!(vhost.queue("q", OWNER).is_err());
}

#[test]
fn an_alternate_exchange_comes_by_policy_unless_an_argument_names_one() {
    let vhost = vhost();
    vhost.add_queues(&["unrouted", "by-argument"]);
    for (name, queue) in [("lost", "unrouted"), ("found", "by-argument")] {
        vhost.add_exchange(name, "fanout");
        vhost.add_binding(name, &to_queue(queue), "");
    }
    vhost.add_exchange("early", "direct");
    vhost.add_with_alternate("argued", "found");
    let generation = vhost.generation();
    vhost.set(policy("alternate", "^(early|late|argued)$", "alternate-exchange", "lost"));
    assert!(vhost.generation() > generation, "cached routes are looked up again");
    vhost.add_exchange("late", "direct");
    for exchange in ["early", "late"] {
        assert_eq!(vhost.reached(exchange, &["k"]), (names(&["unrouted"]), true));
        let policies = vhost.exchange_policies(exchange).unwrap();
        assert_eq!(policies.policy_name(), Some("alternate"));
    }
    assert_eq!(vhost.reached("argued", &["k"]), (names(&["by-argument"]), true));
    vhost.clear_policy(PolicyKind::Policy, "alternate").unwrap();
    assert_eq!(vhost.reached("early", &["k"]), (names(&[]), false));
}

#[test]
fn the_store_is_told_of_policies_and_brings_them_back_before_what_they_are_for() {
    let recorded = Recorded::begun();
    let vhost = &recorded.vhost;
    vhost.add_queue(queue("q"), OWNER);
    recorded.told();
    vhost.set(policy("limit", "", "max-length", 5));
    vhost.set_policy(PolicyKind::Operator, policy("limit", "", "max-length", 3)).unwrap();
    vhost.set(policy("gone", "", "max-length", 5));
    vhost.clear_policy(PolicyKind::Policy, "gone").unwrap();
    assert!(vhost.set_policy(PolicyKind::Policy, policy("bad", "(", "max-length", 5)).is_err());
    let mut changes: Vec<_> = recorded.store.told.lock().iter().flatten().cloned().collect();
    let told = ["Policy limit", "Operator limit", "Policy gone", "no Policy gone"];
    assert_eq!(recorded.told(), told);
    // What a store has of this, in the order in which it gives it.
    changes.truncate(2);
    let spec = vhost.queue("q", OWNER).unwrap().spec.clone();
    changes.push(Definition::PutQueue(crate::names::QueueId::next(), spec));
    let broker = Broker::new(Arc::new(MemoryStore::default()));
    assert_eq!(broker.restore(changes, std::collections::HashMap::new()), []);
    assert_eq!(broker.vhost("/").unwrap().max_length("q"), Some(3));
}

#[test]
fn a_vhost_has_so_many_policies_and_no_more() {
    let vhost = vhost();
    for number in 0..POLICIES_MAX {
        vhost.set(policy(&format!("p{number}"), "^none$", "max-length", 1));
    }
    let one_more = |name: &str| vhost.set_policy(PolicyKind::Policy, policy(name, "", "max-length", 1));
    assert_eq!(text(one_more("one more")), format!("a vhost has at most {POLICIES_MAX} policies"));
    // One in the place of another is no more.
    assert!(one_more("p7").is_ok());
    assert!(vhost.set_policy(PolicyKind::Operator, policy("o", "", "max-length", 1)).is_ok());
    vhost.clear_policy(PolicyKind::Policy, "p8").unwrap();
    assert!(one_more("one more").is_ok());
}

#[test]
fn a_policy_that_cannot_be_read_any_more_is_told_of_and_left_out() {
    let broker = Broker::new(Arc::new(MemoryStore::default()));
    let bad = Definition::PutPolicy("/".into(), PolicyKind::Policy, policy("p", "(", "max-length", 1));
    let refused = broker.restore(vec![bad], std::collections::HashMap::new());
    assert!(matches!(refused.as_slice(), [BrokerError::InvalidPolicy { .. }]), "{refused:?}");
    assert!(broker.vhost("/").unwrap().policies().of_kind(PolicyKind::Policy).is_empty());
}

#[test]
fn what_is_declared_while_policies_change_ends_up_under_the_last_ones() {
    let vhost = vhost();
    let declaring = |number: usize| {
        let vhost = Arc::clone(&vhost);
        move || {
            for index in 0..200 {
                vhost.add_queue(queue(&format!("q-{number}-{index}")), OWNER);
                vhost.add_exchange(&format!("x-{number}-{index}"), "fanout");
            }
        }
    };
    let changing = |name: &'static str| {
        let vhost = Arc::clone(&vhost);
        move || (1..50).for_each(|limit| vhost.set(policy(name, "", "max-length", limit)))
    };
    std::thread::scope(|scope| {
        (0..2).for_each(|number| _ = scope.spawn(declaring(number)));
        for name in ["a", "b"] {
            scope.spawn(changing(name));
        }
    });
    for number in 0..2 {
        for index in 0..200 {
            let policies = vhost.exchange_policies(&format!("x-{number}-{index}")).unwrap();
            assert_eq!(*policies.effective_definition(), arguments("max-length", 49));
            assert_eq!(policies.policy_name(), Some("a"));
        }
    }
    let queues = vhost.queues();
    assert_eq!(queues.len(), 400);
    for queue in queues {
        let settings = queue.settings();
        assert_eq!((settings.max_length, settings.policies.policy_name()), (Some(49), Some("a")));
    }
}
