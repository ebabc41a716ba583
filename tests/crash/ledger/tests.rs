//! The judge is judged: each kind of fault is found, and what is no fault is none.

use std::collections::BTreeSet;

use super::findings::Kind;
use super::*;

fn content(sequence: u32, persistent: bool) -> Content {
    Content { key: Key { publisher: 1, sequence }, size: 10, persistent }
}

fn key(sequence: u32) -> Key {
    content(sequence, true).key
}

/// Messages 1 to 3 are confirmed, 4 is not, 5 is transient, 6 was rolled back.
fn published() -> Ledger {
    let mut ledger = Ledger::default();
    let published = vec![
        (content(1, true), Answer::Confirmed),
        (content(2, true), Answer::Confirmed),
        (content(3, true), Answer::Confirmed),
        (content(4, true), Answer::Awaited),
        (content(5, false), Answer::Confirmed),
        (content(6, true), Answer::Withdrawn),
    ];
    ledger.record_publishes(&PublishLog { queues: vec!["q".to_owned()], published });
    ledger
}

fn found(sequence: u32, redelivered: bool) -> Found {
    Found { content: Ok(content(sequence, true)), redelivered }
}

fn kinds(ledger: &Ledger, found: &[Found]) -> Vec<Kind> {
    ledger.compare("q", found).into_iter().map(|finding| finding.kind).collect()
}

fn fresh(sequences: &[u32]) -> Vec<Found> {
    sequences.iter().map(|&sequence| found(sequence, false)).collect()
}

#[test]
fn what_was_confirmed_must_be_there_and_what_was_awaited_may() {
    let mut ledger = published();
    ledger.crash();
    assert_eq!(kinds(&ledger, &fresh(&[1, 2, 3])), []);
    assert_eq!(kinds(&ledger, &fresh(&[1, 2, 3, 4])), []);
    assert_eq!(kinds(&ledger, &fresh(&[1, 3])), [Kind::Lost(key(2))]);
    assert_eq!(kinds(&ledger, &[]), [1, 2, 3].map(|number| Kind::Lost(key(number))));
    assert_eq!(ledger.totals(), (3, 1));
}

#[test]
fn what_comes_twice_or_out_of_order_or_from_nowhere_is_found() {
    let mut ledger = published();
    ledger.crash();
    assert_eq!(kinds(&ledger, &fresh(&[1, 2, 2, 3])), [Kind::Twice(key(2))]);
    assert_eq!(kinds(&ledger, &fresh(&[1, 3, 2])), [Kind::OutOfOrder(key(2))]);
    assert_eq!(kinds(&ledger, &fresh(&[1, 2, 3, 9])), [Kind::NeverPublished(key(9))]);
    let damaged = Found { content: Err("octets".to_owned()), redelivered: false };
    assert!(kinds(&ledger, &[damaged]).contains(&Kind::Damaged("octets".to_owned())));
    assert_eq!(ledger.compare("other", &fresh(&[1])).len(), 1);
}

#[test]
fn what_died_may_be_there_twice_but_must_be_there() {
    let mut ledger = Ledger::default();
    let published = [1, 2, 3].map(|number| (content(number, true), Answer::Confirmed)).to_vec();
    ledger.record_publishes(&PublishLog { queues: vec![DEAD_QUEUE.to_owned()], published });
    ledger.crash();
    let kinds = |sequences: &[u32]| -> Vec<Kind> {
        let findings = ledger.compare(DEAD_QUEUE, &fresh(sequences));
        findings.into_iter().map(|finding| finding.kind).collect()
    };
    assert_eq!(kinds(&[1, 2, 1, 2, 3]), []);
    assert_eq!(kinds(&[1, 3, 3]), [Kind::Lost(key(2))]);
    assert_eq!(kinds(&[1, 3, 2]), [Kind::OutOfOrder(key(2))]);
}

#[test]
fn a_quorum_queue_keeps_what_is_transient() {
    let mut ledger = Ledger::default();
    let published = vec![(content(1, false), Answer::Confirmed)];
    ledger.record_publishes(&PublishLog { queues: vec![QUORUM_QUEUE.to_owned()], published });
    ledger.crash();
    let findings = ledger.compare(QUORUM_QUEUE, &[]);
    assert_eq!(findings.into_iter().map(|finding| finding.kind).collect::<Vec<_>>(), [Kind::Lost(key(1))]);
}

#[test]
fn what_must_be_gone_is_found_when_it_is_back() {
    let mut ledger = published();
    ledger.crash();
    let back = kinds(&ledger, &fresh(&[1, 2, 3, 5, 6]));
    assert_eq!(back, [Kind::Back(key(5), "it was transient"), Kind::Back(key(6), "it was never committed")]);
}

#[test]
fn an_ack_that_is_not_safe_may_be_forgotten_but_not_that_the_message_was_seen() {
    let mut ledger = published();
    let deliveries = vec![
        (content(1, true), false, Settled::Safe),
        (content(2, true), false, Settled::Sent),
        (content(3, true), false, Settled::No),
    ];
    let queue = "q".to_owned();
    assert_eq!(ledger.record_deliveries(&ConsumeLog { queue, deliveries }), []);
    ledger.crash();
    assert_eq!(kinds(&ledger, &[found(3, true)]), []);
    assert_eq!(kinds(&ledger, &[found(2, true), found(3, true)]), []);
    assert_eq!(kinds(&ledger, &[found(2, false), found(3, true)]), [Kind::NotMarked(key(2))]);
    assert_eq!(kinds(&ledger, &[found(3, false)]), [Kind::NotMarked(key(3))]);
    assert_eq!(kinds(&ledger, &[found(2, true)]), [Kind::Lost(key(3))]);
    let back = kinds(&ledger, &[found(1, true), found(3, true)]);
    assert_eq!(back, [Kind::Back(key(1), "its ack was safe")]);
}

#[test]
fn a_mark_without_a_delivery_is_found() {
    let mut ledger = published();
    ledger.crash();
    assert_eq!(kinds(&ledger, &[found(1, true), found(2, false), found(3, false)]), [Kind::Marked(key(1))]);
}

#[test]
fn deliveries_are_judged_while_the_broker_runs() {
    let deliver = |deliveries: Vec<(Content, bool, Settled)>| {
        let log = ConsumeLog { queue: "q".to_owned(), deliveries };
        let findings = published().record_deliveries(&log);
        findings.into_iter().map(|finding| finding.kind).collect::<Vec<_>>()
    };
    let first = |sequence, settled| (content(sequence, true), false, settled);
    let again = |sequence, settled| (content(sequence, true), true, settled);
    assert_eq!(deliver(vec![first(1, Settled::No), first(2, Settled::No), again(1, Settled::No)]), []);
    assert_eq!(deliver(vec![first(2, Settled::No), first(1, Settled::No)]), [Kind::OutOfOrder(key(1))]);
    let twice = deliver(vec![first(1, Settled::No), first(1, Settled::No)]);
    assert_eq!(twice, [Kind::OutOfOrder(key(1)), Kind::NotMarked(key(1))]);
    let settled = deliver(vec![first(1, Settled::Safe), again(1, Settled::No)]);
    assert_eq!(settled, [Kind::Back(key(1), "its ack was safe")]);
    assert_eq!(deliver(vec![first(9, Settled::No)]), [Kind::NeverPublished(key(9))]);
}

#[test]
fn what_was_found_is_what_must_be_there_after_the_next_crash() {
    let mut ledger = published();
    ledger.crash();
    let there = fresh(&[1, 2, 3]);
    ledger.resolve("q", &there, &BTreeSet::from([key(2)]));
    ledger.crash();
    assert_eq!(ledger.totals(), (2, 0));
    assert_eq!(kinds(&ledger, &[found(1, true), found(3, true)]), []);
    assert_eq!(kinds(&ledger, &fresh(&[1, 3])), [Kind::NotMarked(key(1)), Kind::NotMarked(key(3))]);
    let back = kinds(&ledger, &[found(1, true), found(2, true), found(3, true), found(4, true)]);
    assert_eq!(
        back,
        [Kind::Back(key(2), "its ack was safe"), Kind::Back(key(4), "it was missing after an earlier crash")]
    );
}

#[test]
fn a_queue_that_was_deleted_holds_nothing_of_what_it_held() {
    let mut ledger = published();
    ledger.record_queue("q", &[QueueEvent::Dropping]);
    assert_eq!(kinds(&ledger, &fresh(&[1, 3])), []);
    let again =
        PublishLog { queues: vec!["q".to_owned()], published: vec![(content(7, true), Answer::Confirmed)] };
    ledger.record_queue("q", &[QueueEvent::Dropped, QueueEvent::Published(again)]);
    assert_eq!(kinds(&ledger, &fresh(&[7])), []);
    assert_eq!(
        kinds(&ledger, &fresh(&[1])),
        [Kind::Back(key(1), "its queue was emptied"), Kind::Lost(key(7))]
    );
}
