//! What may stand in a policy, with RabbitMQ's texts, which one is in force, and what several together ask for.

use leveret_codec::table::FieldValue;
use proptest::prelude::*;

use super::*;
use crate::queue::arguments::QueueArguments;
use crate::queue::settings::{
    DELIVERY_LIMIT, DeadLetterStrategy, DelayedRetry, DelayedRetryType, Overflow, QueueSettings,
};

fn policy(name: &str, pattern: &str, priority: i64, definition: FieldTable) -> Policy {
    Policy {
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        apply_to: ApplyTo::All,
        priority,
        definition,
    }
}

fn one(key: &str, value: impl Into<FieldValue>) -> FieldTable {
    FieldTable::new().with(key, value)
}

/// Why a definition is refused; nothing if it is not.
fn refusal(kind: PolicyKind, definition: FieldTable) -> String {
    ActivePolicy::check(kind, policy("p", "", 0, definition)).err().map_or(String::new(), |e| e.to_string())
}

#[track_caller]
fn row(key: &str, good: &[FieldValue], bad: &[FieldValue], otherwise: &str) {
    for value in good {
        assert_eq!(refusal(PolicyKind::Policy, one(key, value.clone())), "", "{key}: {value:?}");
    }
    let bad = bad.iter().cloned().chain([FieldValue::Void]);
    for value in bad {
        let found = refusal(PolicyKind::Policy, one(key, value.clone()));
        let (_, words) = found.split_once(' ').unwrap_or_default();
        assert_eq!(words, otherwise, "{key}: {value:?}");
    }
}

#[test]
fn values_are_checked_key_by_key_with_rabbitmqs_texts() {
    let number = |number: i64| FieldValue::from(number);
    let text = |text: &str| FieldValue::from(text);
    let not_numbers = [number(-1), text("x"), 1.5.into(), true.into(), FieldValue::Array(vec![1.into()])];
    for (key, what) in [
        ("message-ttl", "message TTL"),
        ("max-length", "maximum length"),
        ("max-length-bytes", "maximum length in bytes"),
        ("max-in-memory-length", "maximum memory in bytes"),
        ("max-in-memory-bytes", "maximum memory in bytes"),
        ("consumer-timeout", "consumer timeout"),
        ("consumer-disconnected-timeout", "consumer disconnected timeout"),
        ("delayed-retry-min", "delayed retry minimum"),
        ("delayed-retry-max", "delayed retry maximum"),
        ("initial-cluster-size", "cluster size"),
    ] {
        row(
            key,
            &[number(0), number(i64::MAX), 7_u8.into()],
            &not_numbers,
            &format!("is not a valid {what}"),
        );
    }
    row("expires", &[number(1)], &[number(0), number(-1)], "is not a valid queue expiry");
    row("target-group-size", &[number(1)], &[number(0)], "is not a valid target group size");
    row("delivery-limit", &[number(-1), number(0)], &[text("x")], "is not a valid delivery limit");
    row("queue-version", &[number(1), number(2)], &[number(3)], "is not a valid queue-version value");
    let segment = "is not a valid segment size";
    row("stream-max-segment-size-bytes", &[number(0)], &[number(-1), number(3_000_000_001)], segment);
    row("stream-filter-size-bytes", &[number(16)], &[number(15)], "is not a valid filter size");
    row("max-age", &[text("1Y")], &[text("0Y"), text("1"), number(1)], "is not a valid max age");
    for (key, what) in [
        ("alternate-exchange", "alternate exchange name"),
        ("dead-letter-exchange", "dead letter exchange name"),
        ("dead-letter-routing-key", "dead letter routing key"),
        ("member-placement-tag", "member placement tag"),
    ] {
        row(key, &[text(""), text("x")], &[number(1)], &format!("is not a valid {what}"));
        let refused = |length| !refusal(PolicyKind::Policy, one(key, "x".repeat(length).as_str())).is_empty();
        assert_eq!((refused(255), refused(256)), (false, key != "member-placement-tag"), "{key}");
    }
    for (key, good, otherwise) in [
        ("overflow", "reject-publish-dlx", "is not a valid overflow value"),
        ("dead-letter-strategy", "at-least-once", "is not a valid dead letter strategy"),
        ("queue-mode", "lazy", "is not a valid queue-mode value"),
        ("queue-leader-locator", "balanced", "is not a valid queue leader locator value"),
        ("queue-master-locator", "min-masters", "invalid queue-master-locator value"),
        ("delayed-retry-type", "failed", "is not a valid delayed retry type"),
    ] {
        row(key, &[text(good)], &[text("x"), number(1)], otherwise);
    }
    for key in ["federation-upstream", "federation-upstream-set", "shards-per-node", "routing-key"] {
        assert_eq!(refusal(PolicyKind::Policy, one(key, "x")), "");
    }
}

#[test]
fn refusals_print_values_as_erlang_does() {
    let refused = |value: FieldValue| refusal(PolicyKind::Policy, one("message-ttl", value));
    assert_eq!(refused((-1).into()), "-1 is not a valid message TTL");
    assert_eq!(refused("x".into()), "<<\"x\">> is not a valid message TTL");
    assert_eq!(refused(1.5.into()), "1.5 is not a valid message TTL");
    assert_eq!(refused(true.into()), "true is not a valid message TTL");
    assert_eq!(refused(FieldValue::Void), "null is not a valid message TTL");
    assert_eq!(
        refused(FieldValue::Array(vec![1.into(), "a".into()])),
        "[1,<<\"a\">>] is not a valid message TTL"
    );
    assert_eq!(refused(one("a", 1).into()), "[{<<\"a\">>,1}] is not a valid message TTL");
}

#[test]
fn unknown_keys_are_named_all_after_values_that_are_not_possible() {
    let definition = || one("foo", 1).with("bar", "x").with("max-length", 4);
    let text = "[{<<\"foo\">>,1},{<<\"bar\">>,<<\"x\">>}] are not recognised policy settings";
    assert_eq!(refusal(PolicyKind::Policy, definition()), text);
    let definition = one("foo", 1).with("max-length", -1);
    assert_eq!(refusal(PolicyKind::Policy, definition), "-1 is not a valid maximum length");
    assert_eq!(refusal(PolicyKind::Policy, FieldTable::new()), "no policy provided");
    let twice = one("max-length", 1).with("max-length", 2);
    assert_eq!(refusal(PolicyKind::Policy, twice), "[<<\"max-length\">>] duplicate keys not allowed");
    let gone = refusal(PolicyKind::Policy, one("ha-mode", "all"));
    assert_eq!(gone, "[{<<\"ha-mode\">>,<<\"all\">>}] are not recognised policy settings");
}

#[test]
fn operator_policies_have_the_keys_that_limit() {
    for key in ["expires", "message-ttl", "max-length", "max-length-bytes", "delivery-limit", "queue-version"]
    {
        assert_eq!(refusal(PolicyKind::Operator, one(key, 1)), "");
    }
    for key in ["alternate-exchange", "dead-letter-exchange", "queue-mode", "consumer-timeout", "foo"] {
        let text = format!("[{{<<\"{key}\">>,1}}] are not recognised policy settings");
        assert_eq!(refusal(PolicyKind::Operator, one(key, 1)), text);
    }
}

#[test]
fn patterns_are_regular_expressions_of_bounded_size() {
    let refused = |pattern: &str| {
        let found = ActivePolicy::check(PolicyKind::Policy, policy("p", pattern, 0, one("max-length", 1)));
        found.err().map(|error| error.to_string())
    };
    for pattern in ["(", "[", "*", "a)", "\\"] {
        let text = refused(pattern).unwrap();
        assert!(text.starts_with("pattern should be regular expression but is invalid: "), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
    let text = refused("abc(").unwrap();
    assert!(text.contains("position 4") || text.contains("position 3"), "{text}");
    assert!(refused(&"(.{1000}){1000}".repeat(2)).is_some());
    assert!(refused(&"a".repeat(PATTERN_BYTES_MAX + 1)).unwrap().contains("longer than"));
    for pattern in ["", ".*", "^a$", "^(?!amq\\.).*", "(a|b)\\1", "a++"] {
        assert_eq!(refused(pattern), None, "{pattern}");
    }
}

fn set(policies: impl IntoIterator<Item = Policy>) -> PolicySet {
    let mut set = PolicySet::default();
    for policy in policies {
        set.put(PolicyKind::Policy, ActivePolicy::check(PolicyKind::Policy, policy).unwrap());
    }
    set
}

#[test]
fn patterns_are_found_anywhere_unless_anchored_and_may_look_around() {
    let matches = |pattern: &str, name: &str| {
        !set([policy("p", pattern, 0, one("max-length", 1))]).of_queue(name, QueueType::Classic).is_empty()
    };
    assert!(matches("b", "abc") && matches("", "abc") && matches("^abc$", "abc"));
    assert!(!matches("^b", "abc") && !matches("d", "abc"));
    assert!(matches("^(?!amq\\.)", "orders") && !matches("^(?!amq\\.)", "amq.gen-1"));
    // Takes a step back for each of very many ways: no match, and no matter.
    assert!(!matches("^(?=(a*)*c)(a*)*\\1$", &"a".repeat(255)));
}

#[test]
fn highest_priority_that_matches_is_in_force_and_of_equal_ones_the_first_name() {
    let definition = || one("max-length", 1);
    let set = set([
        policy("low", "", 1, definition()),
        policy("zebra", "^a", 5, definition()),
        policy("ant", "^a", 5, definition()),
        policy("high", "^ab", 9, definition()),
        Policy { apply_to: ApplyTo::QuorumQueues, ..policy("quorum", "", 20, definition()) },
        Policy { apply_to: ApplyTo::Exchanges, ..policy("exchange", "", 7, definition()) },
    ]);
    let name = |applied: AppliedPolicies| applied.policy_name().unwrap_or_default().to_owned();
    let of_classic = |queue: &str| name(set.of_queue(queue, QueueType::Classic));
    assert_eq!([of_classic("b"), of_classic("a"), of_classic("ab")], ["low", "ant", "high"]);
    assert_eq!(name(set.of_queue("b", QueueType::Quorum)), "quorum");
    assert_eq!(name(set.of_exchange("b")), "exchange");
    assert_eq!(name(set.of_exchange("ab")), "high");
}

#[test]
fn putting_a_name_again_replaces_it_and_kinds_do_not_mix() {
    let mut set = set([policy("p", "", 0, one("max-length", 1)), policy("p", "", 3, one("max-length", 2))]);
    assert_eq!(set.of_kind(PolicyKind::Policy).len(), 1);
    let operator = policy("p", "", 0, one("max-length", 3));
    set.put(PolicyKind::Operator, ActivePolicy::check(PolicyKind::Operator, operator).unwrap());
    let applied = set.of_queue("q", QueueType::Classic);
    assert_eq!((applied.policy_name(), applied.operator_policy_name()), (Some("p"), Some("p")));
    assert_eq!(*applied.effective_definition(), one("max-length", 2_i64));
    assert!(set.of_exchange("e").operator_policy_name().is_none());
    assert!(set.remove(PolicyKind::Policy, "p") && !set.remove(PolicyKind::Policy, "p"));
    assert_eq!(set.of_kind(PolicyKind::Operator).len(), 1);
}

#[test]
fn names_of_what_policies_are_for_are_rabbitmqs() {
    for name in ["all", "queues", "exchanges", "classic_queues", "quorum_queues", "streams"] {
        assert_eq!(ApplyTo::named(name).unwrap().as_str(), name);
    }
    assert_eq!(ApplyTo::named("everything"), None);
}

/// What is in force for a queue with these arguments under these policies.
fn in_force(
    arguments: FieldTable,
    user: Option<&FieldTable>,
    operator: Option<&FieldTable>,
) -> QueueSettings {
    let arguments = QueueArguments::parse(arguments, "q", "/").unwrap();
    let mut set = PolicySet::default();
    for (kind, definition) in [(PolicyKind::Policy, user), (PolicyKind::Operator, operator)] {
        if let Some(definition) = definition {
            let active = ActivePolicy::check(kind, policy("p", "", 0, definition.clone())).unwrap();
            set.put(kind, active);
        }
    }
    set.of_queue("q", arguments.queue_type()).settings(&arguments)
}

#[test]
fn each_key_of_a_policy_does_what_the_argument_of_its_name_does() {
    let classic = FieldTable::new();
    let quorum = one("x-queue-type", "quorum");
    let rows: [(&FieldTable, &str, FieldValue); 12] = [
        (&classic, "message-ttl", 7_i64.into()),
        (&classic, "expires", 7_i64.into()),
        (&classic, "max-length", 7_i64.into()),
        (&classic, "max-length-bytes", 7_i64.into()),
        (&classic, "overflow", "reject-publish-dlx".into()),
        (&classic, "dead-letter-exchange", "x".into()),
        (&classic, "dead-letter-routing-key", "k".into()),
        (&quorum, "dead-letter-strategy", "at-least-once".into()),
        (&quorum, "delivery-limit", 7_i64.into()),
        (&quorum, "consumer-timeout", 7_i64.into()),
        (&quorum, "overflow", "reject-publish".into()),
        (&quorum, "message-ttl", 7_i64.into()),
    ];
    for (queue, key, value) in rows {
        // A key for dead letters is refused as an argument where there is no exchange for them.
        let queue = match key {
            "dead-letter-routing-key" => queue.clone().with("x-dead-letter-exchange", "x"),
            _ => queue.clone(),
        };
        let by_argument = in_force(queue.clone().with(&format!("x-{key}"), value.clone()), None, None);
        let by_policy = in_force(queue.clone(), Some(&one(key, value)), None);
        let found = QueueSettings { policies: AppliedPolicies::default(), ..by_policy };
        assert_eq!(found, by_argument, "{key}");
        assert_ne!(found, in_force(queue, None, None), "{key}");
    }
}

#[test]
fn arguments_come_before_policies_where_they_are_not_numbers() {
    let user = one("dead-letter-exchange", "of-policy")
        .with("dead-letter-routing-key", "of-policy")
        .with("overflow", "reject-publish-dlx");
    let exchange = |settings: &QueueSettings| {
        let key = settings.dead_letter_routing_key.as_deref().unwrap_or_default().to_owned();
        (settings.dead_letter_exchange.clone().unwrap_or("".into()).to_string(), key)
    };
    let found = in_force(FieldTable::new(), Some(&user), None);
    assert_eq!(exchange(&found), ("of-policy".to_owned(), "of-policy".to_owned()));
    assert_eq!(found.overflow, Overflow::RejectPublishDlx);
    let arguments = one("x-dead-letter-exchange", "of-argument").with("x-overflow", "drop-head");
    let found = in_force(arguments.clone(), Some(&user), None);
    assert_eq!(exchange(&found), ("of-argument".to_owned(), "of-policy".to_owned()));
    assert_eq!(found.overflow, Overflow::DropHead);
    // Over a quorum queue's overflow the policy decides, and it has no reject-publish-dlx.
    let quorum = arguments.with("x-queue-type", "quorum");
    let user = one("overflow", "reject-publish");
    assert_eq!(in_force(quorum, Some(&user), None).overflow, Overflow::RejectPublish);
    let quorum = one("x-queue-type", "quorum").with("x-overflow", "reject-publish-dlx");
    assert_eq!(in_force(quorum, None, None).overflow, Overflow::DropHead);
}

#[test]
fn settings_of_quorum_queues_are_for_them_alone() {
    let user = one("delivery-limit", 3)
        .with("dead-letter-strategy", "at-least-once")
        .with("delayed-retry-type", "all")
        .with("delayed-retry-min", 100)
        .with("delayed-retry-max", 500);
    let classic = in_force(FieldTable::new(), Some(&user), None);
    assert_eq!(classic.delivery_limit, None);
    assert_eq!(classic.dead_letter_strategy, DeadLetterStrategy::AtMostOnce);
    assert_eq!(classic.delayed_retry, None);
    let quorum = in_force(one("x-queue-type", "quorum"), Some(&user), None);
    assert_eq!(quorum.delivery_limit, Some(3));
    assert_eq!(quorum.dead_letter_strategy, DeadLetterStrategy::AtLeastOnce);
    let retry = DelayedRetry { which: DelayedRetryType::All, min_ms: 100, max_ms: Some(500) };
    assert_eq!(quorum.delayed_retry, Some(retry));
    let operator = one("delayed-retry-min", 200).with("delayed-retry-max", 300).with("delivery-limit", -1);
    let both = in_force(one("x-queue-type", "quorum"), Some(&user), Some(&operator));
    assert_eq!(both.delayed_retry, Some(DelayedRetry { min_ms: 200, max_ms: Some(300), ..retry }));
    assert_eq!(both.delivery_limit, Some(3));
    // Without a least delay there is none.
    let user = one("delayed-retry-type", "all");
    assert_eq!(in_force(one("x-queue-type", "quorum"), Some(&user), None).delayed_retry, None);
}

fn limit() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(prop_oneof![1_i64..20, Just(i64::MAX)])
}

fn delivery_limit() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(-3_i64..30)
}

fn table(prefix: &str, limits: &[(&str, Option<i64>)]) -> FieldTable {
    let entries = limits.iter().filter_map(|(key, value)| Some((format!("{prefix}{key}"), (*value)?)));
    entries.fold(FieldTable::new(), |table, (key, value)| table.with(&key, value))
}

proptest! {
    #[test]
    fn of_three_sides_the_lowest_limit_is_in_force(
        ttl in prop::array::uniform3(prop::option::of(1_i64..20)),
        length in prop::array::uniform3(limit()),
        bytes in prop::array::uniform3(limit()),
        deliveries in prop::array::uniform3(delivery_limit()),
        is_quorum in any::<bool>(),
    ) {
        let side = |prefix: &str, side: usize| table(prefix, &[
            ("message-ttl", ttl[side]), ("expires", ttl[side]), ("max-length", length[side]),
            ("max-length-bytes", bytes[side]), ("delivery-limit", deliveries[side]),
        ]);
        let mut arguments = side("x-", 0);
        if is_quorum {
            arguments.insert("x-queue-type", "quorum");
        } else {
            arguments.remove("x-delivery-limit");
        }
        let policies = [side("", 1), side("", 2)].map(|table| Some(table).filter(|table| !table.is_empty()));
        let found = in_force(arguments, policies[0].as_ref(), policies[1].as_ref());
        let lowest = |limits: [Option<i64>; 3]| limits.into_iter().flatten().min().map(i64::cast_unsigned);
        prop_assert_eq!(found.message_ttl_ms, lowest(ttl));
        prop_assert_eq!(found.expires_ms, lowest(ttl));
        prop_assert_eq!(found.max_length, lowest(length));
        prop_assert_eq!(found.max_length_bytes, lowest(bytes));
        // Two at a time: the policies first. No limit gives way to one.
        let both = |one: Option<i64>, other: Option<i64>| match (one, other) {
            (Some(one), Some(other)) if one >= 0 && other >= 0 => Some(one.min(other)),
            (one, other) => one.max(other),
        };
        let deliveries = both(deliveries[0], both(deliveries[1], deliveries[2]));
        let expected = match deliveries {
            _ if !is_quorum => None,
            None => Some(DELIVERY_LIMIT),
            Some(limit) => u32::try_from(limit).ok(),
        };
        prop_assert_eq!(found.delivery_limit, expected);
    }

    #[test]
    fn an_operator_policy_never_widens_a_limit(user in limit(), operator in 1_i64..20) {
        let user = table("", &[("max-length", user), ("expires", Some(5))]);
        let operator = one("max-length", operator);
        let without = in_force(FieldTable::new(), Some(&user), None).max_length;
        let with = in_force(FieldTable::new(), Some(&user), Some(&operator)).max_length;
        prop_assert!(with.is_some());
        prop_assert!(without.is_none() || with <= without);
    }

    #[test]
    fn any_pattern_is_compiled_or_refused_in_bounded_time(
        pattern in "[a-c()*+?|{}0-9^$.\\\\\\[\\]]{0,24}",
        name in ".{0,40}",
    ) {
        if let Ok(active) =
            ActivePolicy::check(PolicyKind::Policy, policy("p", &pattern, 0, one("max-length", 1)))
        {
            let _ = active.matches(&name);
        }
    }
}
