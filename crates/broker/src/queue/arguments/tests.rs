//! Every argument with good values, wrong types, impossible values and on the wrong types of queues, with the texts.

use proptest::prelude::*;

use super::*;
use crate::queue::settings::{DELIVERY_LIMIT, Overflow};

const TYPES: [QueueType; 3] = [QueueType::Classic, QueueType::Quorum, QueueType::Stream];

fn of_type(queue_type: QueueType) -> FieldTable {
    FieldTable::new().with("x-queue-type", queue_type.as_str())
}

fn parse(table: FieldTable) -> Result<QueueArguments, String> {
    QueueArguments::parse(table, "q", "/").map_err(|error| error.to_string())
}

fn text(value: &str) -> FieldValue {
    value.into()
}

/// What RabbitMQ answers where only the type of a value is wrong.
fn wrong_integer(argument: &str, type_name: &str) -> String {
    format!("invalid arg '{argument}' for queue 'q' in vhost '/': \"expected integer, got {type_name}\"")
}

fn unacceptable(argument: &str, type_name: &str) -> String {
    format!("invalid arg '{argument}' for queue 'q' in vhost '/': {{unacceptable_type,{type_name}}}")
}

fn reason(argument: &str, reason: &str) -> String {
    format!("invalid arg '{argument}' for queue 'q' in vhost '/': {reason}")
}

/// Expects that an argument is there for these types alone, and takes and refuses these values.
#[track_caller]
fn row(argument: &str, types: &[QueueType], good: &[FieldValue], bad: &[(FieldValue, String)]) {
    for queue_type in TYPES {
        for value in good {
            let parsed = parse(of_type(queue_type).with(argument, value.clone()));
            match (types.contains(&queue_type), queue_type) {
                (false, _) => {
                    let module = queue_type.module();
                    let text =
                        format!("invalid arg '{argument}' for queue 'q' in vhost '/' of queue type {module}");
                    assert_eq!(parsed.unwrap_err(), text);
                }
                (true, QueueType::Stream) => {
                    let text = "queue type 'stream' is not supported by this version of Leveret";
                    assert_eq!(parsed.unwrap_err(), reason("x-queue-type", text), "{argument}: {value:?}");
                }
                (true, _) => assert!(parsed.is_ok(), "{argument}: {value:?}: {parsed:?}"),
            }
        }
        for (value, text) in bad.iter().filter(|_| types.contains(&queue_type)) {
            let table = of_type(queue_type).with(argument, value.clone());
            assert_eq!(&parse(table).unwrap_err(), text, "{argument}: {value:?} ({queue_type})");
        }
    }
}

/// As `row`, for an integer of at least `least`.
#[track_caller]
fn integer_row(argument: &str, types: &[QueueType], least: i64, most: i64, too_large: &str) {
    let mut bad: Vec<_> = [
        (text("x"), "longstr"),
        (true.into(), "bool"),
        (FieldValue::Void, "void"),
        (1.5_f64.into(), "double"),
        (FieldValue::Decimal { scale: 0, value: 10 }, "decimal"),
        (FieldValue::Timestamp(1), "timestamp"),
        (FieldValue::Array(Vec::new()), "array"),
        (FieldTable::new().into(), "table"),
        (FieldValue::Bytes(Vec::new()), "binary"),
    ]
    .into_iter()
    .map(|(value, type_name)| (value, wrong_integer(argument, type_name)))
    .collect();
    bad.push(((-1_i8).into(), reason(argument, "{value_negative,-1}")));
    if least == 1 {
        bad.push((0.into(), reason(argument, "{value_zero,0}")));
    }
    if let Some(above) = most.checked_add(1) {
        bad.push((above.into(), reason(argument, &too_large.replace("{}", &above.to_string()))));
    }
    let mut good = vec![least.into(), most.into()];
    if most > 100 {
        good.extend([
            100_u8.into(),
            FieldValue::from(100_i8),
            100_u16.into(),
            100_i16.into(),
            100_u32.into(),
        ]);
    }
    row(argument, types, &good, &bad);
}

/// As `row`, for a name out of several.
#[track_caller]
fn name_row(argument: &str, types: &[QueueType], names: &[&str], otherwise: &str) {
    let mut bad: Vec<_> = [(5.into(), "signedint"), (true.into(), "bool"), (FieldValue::Void, "void")]
        .into_iter()
        .map(|(value, type_name)| (value, unacceptable(argument, type_name)))
        .collect();
    bad.push((text("x"), reason(argument, &otherwise.replace("{}", "x"))));
    bad.push((text(""), reason(argument, &otherwise.replace("{}", ""))));
    let good: Vec<_> = names.iter().map(|name| text(name)).collect();
    row(argument, types, &good, &bad);
}

#[test]
fn delayed_retry_needs_to_know_how_long() {
    let retry = |which: &str| {
        FieldTable::new()
            .with("x-queue-type", FieldValue::from("quorum"))
            .with("x-delayed-retry-type", FieldValue::from(which))
    };
    let parse = |arguments| QueueArguments::parse(arguments, "q", "/").map_err(|error| error.to_string());
    for which in ["all", "failed", "returned"] {
        let error = parse(retry(which)).unwrap_err();
        assert_eq!(error, reason("x-delayed-retry-type", "delayed_retry_type_but_no_min_defined"));
        assert!(parse(retry(which).with("x-delayed-retry-min", 1)).is_ok());
    }
    assert!(parse(retry("disabled")).is_ok());
    let error = parse(retry("never")).unwrap_err();
    assert_eq!(error, reason("x-delayed-retry-type", "invalid_delayed_retry_type"));
}

#[test]
fn integers_are_taken_in_any_width_and_in_their_range() {
    use QueueType::{Classic, Quorum, Stream};
    let times = 315_360_000_000;
    integer_row("x-message-ttl", &[Classic, Quorum], 0, times, "{value_too_large,{}}");
    integer_row("x-expires", &[Classic, Quorum], 1, times, "{value_too_large,{}}");
    integer_row("x-max-length", &[Classic, Quorum], 0, i64::MAX, "");
    integer_row("x-max-length-bytes", &[Classic, Quorum, Stream], 0, i64::MAX, "");
    integer_row("x-max-in-memory-length", &[Quorum], 0, i64::MAX, "");
    integer_row("x-max-in-memory-bytes", &[Quorum], 0, i64::MAX, "");
    integer_row("x-max-priority", &[Classic], 0, 255, "{max_value_exceeded,{}}");
    integer_row("x-quorum-initial-group-size", &[Quorum], 1, i64::MAX, "");
    integer_row("x-initial-cluster-size", &[Stream], 1, i64::MAX, "");
    integer_row("x-consumer-timeout", &[Quorum], 0, i64::MAX, "");
    integer_row("x-consumer-disconnected-timeout", &[Quorum], 0, i64::MAX, "");
}

#[test]
fn names_are_those_that_are_known() {
    use QueueType::{Classic, Quorum, Stream};
    let overflow = ["drop-head", "reject-publish", "reject-publish-dlx"];
    name_row("x-overflow", &[Classic, Quorum], &overflow, "invalid_overflow");
    name_row("x-dead-letter-strategy", &[Quorum], &["at-most-once", "at-least-once"], "invalid_dlx_strategy");
    name_row("x-queue-mode", &[Classic], &["lazy", "default"], "\"unsupported queue mode '{}'\"");
    let leaders = ["client-local", "balanced", "random", "least-leaders"];
    name_row("x-queue-leader-locator", &[Classic, Quorum, Stream], &leaders, "invalid_queue_locator_arg");
    let masters = ["client-local", "min-masters", "random"];
    name_row("x-queue-master-locator", &[Classic], &masters, "invalid_queue_locator_arg");
    name_row("x-max-age", &[Stream], &["1Y", "10M", "007D", "1h", "30m", "1s"], "invalid_max_age");
}

#[test]
fn arguments_with_rules_of_their_own_follow_them() {
    use QueueType::{Classic, Quorum, Stream};
    let version = |number: i64| {
        let text = format!("\"unsupported queue version '{number}'\"");
        (number.into(), reason("x-queue-version", &text))
    };
    let not_integer = (text("2"), wrong_integer("x-queue-version", "longstr"));
    row("x-queue-version", &[Classic], &[2.into()], &[version(0), version(1), version(3), not_integer]);
    let bad = [(text("true"), "longstr"), (1.into(), "signedint"), (FieldValue::Void, "void")];
    let bad = bad.map(|(value, name)| (value, unacceptable("x-single-active-consumer", name)));
    row("x-single-active-consumer", &[Classic, Quorum], &[true.into(), false.into()], &bad);
    let anything = [3.into(), (-1).into(), text("three"), FieldValue::Void];
    row("x-delivery-limit", &[Quorum], &anything, &[]);
    let bad = [(5.into(), unacceptable("x-member-placement-tag", "signedint"))];
    row("x-member-placement-tag", &[Quorum], &[text("rack-1")], &bad);
    let exceeded = "Exceeded max value for x-stream-max-segment-size-bytes".to_owned();
    let good = [0.into(), 3_000_000_000_i64.into()];
    row("x-stream-max-segment-size-bytes", &[Stream], &good, &[(3_000_000_001_i64.into(), exceeded)]);
    let value = "Invalid value for x-stream-filter-size-bytes".to_owned();
    let other = "Invalid type for x-stream-filter-size-bytes".to_owned();
    let bad = [(15.into(), value.clone()), (256.into(), value), (text("16"), other)];
    row("x-stream-filter-size-bytes", &[Stream], &[16.into(), 255.into()], &bad);
    for age in ["0Y", "10x", "1", "Y", "-1D", "1.5D", "1 D", "1d"] {
        let error = parse(of_type(Stream).with("x-max-age", age)).unwrap_err();
        assert_eq!(error, reason("x-max-age", "invalid_max_age"));
    }
}

#[test]
fn dead_letter_arguments_are_texts_and_a_key_needs_an_exchange() {
    for queue_type in TYPES {
        let error = parse(of_type(queue_type).with("x-dead-letter-exchange", 5)).unwrap_err();
        let wrong = "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'";
        assert_eq!(error, wrong);
    }
    let key = FieldTable::new().with("x-dead-letter-routing-key", "k");
    let no_exchange = reason("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined");
    assert_eq!(parse(key.clone()).unwrap_err(), no_exchange);
    assert_eq!(
        parse(FieldTable::new().with("x-dead-letter-routing-key", 5)).unwrap_err(),
        unacceptable("x-dead-letter-routing-key", "signedint")
    );
    let arguments = parse(key.with("x-dead-letter-exchange", "")).unwrap();
    let requested = arguments.requested();
    assert_eq!(requested.dead_letter_exchange, Some("".into()));
    assert_eq!(requested.dead_letter_routing_key.as_deref(), Some("k"));
}

#[test]
fn queue_type_is_one_of_three() {
    let of = |value: FieldValue| parse(FieldTable::new().with("x-queue-type", value));
    assert_eq!(of(5.into()).unwrap_err(), unacceptable("x-queue-type", "signedint"));
    let unknown = reason("x-queue-type", "\"unsupported queue type 'novel'\"");
    assert_eq!(of(text("novel")).unwrap_err(), unknown);
    assert_eq!(of(text("quorum")).unwrap().queue_type(), QueueType::Quorum);
    let classic = parse(FieldTable::new()).unwrap();
    assert_eq!(classic.queue_type(), QueueType::Classic);
    assert_eq!(classic.shown(), of_type(QueueType::Classic));
    assert!(classic.table().is_empty());
}

#[test]
fn first_mistake_in_rabbitmqs_order_is_named() {
    let order = |tables: &[(&str, FieldValue)]| {
        let table =
            tables.iter().fold(FieldTable::new(), |table, (key, value)| table.with(key, value.clone()));
        parse(table).unwrap_err()
    };
    let ttl = ("x-message-ttl", FieldValue::from(-1));
    let error = order(&[ttl.clone(), ("x-expires", 0.into())]);
    assert_eq!(error, reason("x-expires", "{value_zero,0}"));
    // What is wrong with its own arguments comes before those it does not have.
    let error = order(&[("x-delivery-limit", 3.into()), ttl.clone()]);
    assert_eq!(error, reason("x-message-ttl", "{value_negative,-1}"));
    let error = order(&[("x-queue-type", text("novel")), ttl.clone()]);
    assert_eq!(error, reason("x-queue-type", "\"unsupported queue type 'novel'\""));
    let error = order(&[("x-queue-type", 5.into()), ("x-dead-letter-exchange", 5.into())]);
    assert!(error.starts_with("invalid type 'signedint' for arg 'x-dead-letter-exchange'"), "{error}");
    let error = order(&[("x-message-deduplication", true.into()), ttl]);
    assert_eq!(error, reason("x-message-ttl", "{value_negative,-1}"));
}

#[test]
fn the_header_of_ids_is_the_usual_one_or_that_which_is_named() {
    let header = |table| parse(table).unwrap().deduplication_header().map(str::to_owned);
    let on = || FieldTable::new().with("x-message-deduplication", true);
    assert_eq!(header(FieldTable::new().with("x-message-deduplication", false)), None);
    // COMPAT: these are for exchanges.
    let on_with_cache = on().with("x-cache-size", 0).with("x-cache-ttl", "x");
    assert_eq!(header(on_with_cache).as_deref(), Some("x-deduplication-header"));
    assert_eq!(header(on().with("x-deduplication-header", "id")).as_deref(), Some("id"));
    let error = parse(on().with("x-deduplication-header", 7)).unwrap_err();
    assert_eq!(error, reason("x-deduplication-header", "{unacceptable_type,signedint}"));
    let error = parse(FieldTable::new().with("x-message-deduplication", "yes")).unwrap_err();
    assert_eq!(error, reason("x-message-deduplication", "{unacceptable_type,longstr}"));
}

#[test]
fn values_are_in_typed_fields() {
    let table = FieldTable::new()
        .with("x-message-ttl", 1)
        .with("x-expires", 2_u8)
        .with("x-max-length", 3_i64)
        .with("x-max-length-bytes", 4_u32)
        .with("x-overflow", "reject-publish-dlx")
        .with("x-max-priority", 9)
        .with("x-single-active-consumer", true);
    let arguments = parse(table).unwrap();
    assert_eq!(arguments.max_priority(), Some(9));
    assert!(arguments.single_active_consumer());
    let settings = arguments.settings(&RequestedSettings::NONE);
    let numbers =
        (settings.message_ttl_ms, settings.expires_ms, settings.max_length, settings.max_length_bytes);
    assert_eq!(numbers, (Some(1), Some(2), Some(3), Some(4)));
    assert_eq!(settings.overflow, Overflow::RejectPublishDlx);
    assert_eq!(settings.delivery_limit, None);
}

#[test]
fn delivery_limit_of_a_quorum_queue_is_twenty_unless_said_otherwise() {
    let limit = |value: Option<FieldValue>| {
        let mut table = of_type(QueueType::Quorum);
        value.into_iter().for_each(|value| table.insert("x-delivery-limit", value));
        parse(table).unwrap().settings(&RequestedSettings::NONE).delivery_limit
    };
    assert_eq!(limit(None), Some(DELIVERY_LIMIT));
    assert_eq!(limit(Some(3.into())), Some(3));
    assert_eq!(limit(Some((-1).into())), None);
    assert_eq!(limit(Some(text("three"))), None);
}

#[test]
fn server_names_need_a_classic_queue_and_a_short_prefix() {
    let name = |table: &FieldTable| server_name(table, "/").map_err(|error| error.to_string());
    assert!(name(&FieldTable::new()).unwrap().starts_with("amq.gen-"));
    let error = "Cannot declare a server-named queue for type rabbit_quorum_queue";
    assert_eq!(name(&of_type(QueueType::Quorum)).unwrap_err(), error);
    let prefix = |prefix: &str| FieldTable::new().with("x-name-prefix", prefix);
    let named = name(&prefix(&"p".repeat(64))).unwrap();
    assert!(named.starts_with(&format!("{}-", "p".repeat(64))), "{named}");
    let error = format!("Queue name prefix '{}' exceeds the 64-byte limit", "p".repeat(65));
    assert_eq!(name(&prefix(&"p".repeat(65))).unwrap_err(), error);
    assert!(name(&prefix("amq.mine")).unwrap_err().contains("reserved prefix"));
    let error = "invalid type 'signedint' for arg 'x-name-prefix' in queue '' in vhost '/'";
    assert_eq!(name(&FieldTable::new().with("x-name-prefix", 5)).unwrap_err(), error);
}

#[test]
fn consumer_arguments_are_those_of_the_queues_type() {
    let consumer = |queue_type, argument: &str, value: FieldValue| {
        let table = FieldTable::new().with(argument, value);
        ConsumerArguments::parse(&table, queue_type, "q", "/").map_err(|error| error.to_string())
    };
    for queue_type in [QueueType::Classic, QueueType::Quorum] {
        assert_eq!(consumer(queue_type, "x-priority", (-5_i8).into()).unwrap().priority, -5);
        let error = consumer(queue_type, "x-priority", text("5")).unwrap_err();
        assert_eq!(error, wrong_integer("x-priority", "longstr"));
        for argument in ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"] {
            let error = consumer(queue_type, argument, 5.into()).unwrap_err();
            let module = queue_type.module();
            let text = format!("invalid arg '{argument}' for queue 'q' in vhost '/' of queue type {module}");
            assert_eq!(error, text);
        }
        assert_eq!(consumer(queue_type, "x-nobody-knows", 5.into()).unwrap(), ConsumerArguments::default());
    }
    let timeout = "x-consumer-timeout";
    assert_eq!(consumer(QueueType::Quorum, timeout, 500.into()).unwrap().timeout_ms, Some(500));
    let error = consumer(QueueType::Quorum, timeout, (-1).into()).unwrap_err();
    assert_eq!(error, reason(timeout, "{value_negative,-1}"));
    let error = consumer(QueueType::Classic, timeout, 500.into()).unwrap_err();
    assert!(error.ends_with("of queue type rabbit_classic_queue"), "{error}");
    let error = consumer(QueueType::Stream, "x-priority", 5.into()).unwrap_err();
    assert!(error.ends_with("of queue type rabbit_stream_queue"), "{error}");
}

#[test]
fn declaring_again_compares_what_the_type_of_queue_knows() {
    let differs = |current: &[(&str, FieldValue)], received: &[(&str, FieldValue)]| {
        let table = |entries: &[(&str, FieldValue)]| {
            entries.iter().fold(FieldTable::new(), |table, (key, value)| table.with(key, value.clone()))
        };
        let found = parse(table(current)).unwrap().inequivalent(&table(received));
        found.map(|(argument, detail)| format!("{argument}: {detail}"))
    };
    let ttl = |value: FieldValue| [("x-message-ttl", value)];
    let ten = || ttl(10.into());
    let expect = |detail: &str| Some(format!("x-message-ttl: {detail}"));
    for same in [10_u8.into(), 10_i64.into(), FieldValue::Decimal { scale: 1, value: 100 }] {
        assert_eq!(differs(&ten(), &ttl(same)), None);
    }
    assert_eq!(differs(&ten(), &ttl(11_i64.into())), expect("received '11' but current is '10'"));
    assert_eq!(differs(&ten(), &ttl(10.0_f64.into())), expect("received '10' but current is '10'"));
    assert_eq!(differs(&ten(), &ttl(text("10"))), expect("received '10' but current is '10'"));
    assert_eq!(differs(&ten(), &ttl(true.into())), expect("received 'true' but current is '10'"));
    assert_eq!(differs(&ten(), &ttl(FieldValue::Void)), expect("received none but current is '10'"));
    let none = "received none but current is the value '10' of type 'signedint'";
    assert_eq!(differs(&ten(), &[]), expect(none));
    let none = "received the value '10' of type 'signedint' but current is none";
    assert_eq!(differs(&[], &ten()), expect(none));
    let none = "received the value 'undefined' of type 'void' but current is none";
    assert_eq!(differs(&[], &ttl(FieldValue::Void)), expect(none));
    // Arguments of other types of queues, of plugins, and unknown ones are not looked at.
    for argument in ["x-delivery-limit", "x-max-age", "x-message-deduplication", "x-name-prefix", "x-any"] {
        assert_eq!(differs(&[], &[(argument, 7.into())]), None);
    }
    let quorum = ("x-queue-type", text("quorum"));
    let limit = |limit: i32| [quorum.clone(), ("x-delivery-limit", limit.into())];
    let detail = differs(&limit(3), &limit(4)).unwrap();
    assert_eq!(detail, "x-delivery-limit: received '4' but current is '3'");
    let priority = [quorum.clone(), ("x-max-priority", 4.into())];
    assert_eq!(differs(std::slice::from_ref(&quorum), &priority), None);
    // Not said is classic.
    let classic = ("x-queue-type", text("classic"));
    assert_eq!(differs(&[], std::slice::from_ref(&classic)), None);
    assert_eq!(differs(&[classic], &[]), None);
    let detail = differs(&[], std::slice::from_ref(&quorum)).unwrap();
    assert_eq!(detail, "x-queue-type: received 'quorum' but current is 'classic'");
    let detail = differs(&[quorum], &[]).unwrap();
    assert_eq!(detail, "x-queue-type: received 'classic' but current is 'quorum'");
}

/// A value of any type.
fn value() -> impl Strategy<Value = FieldValue> {
    prop_oneof![
        any::<bool>().prop_map(FieldValue::from),
        any::<i64>().prop_map(FieldValue::from),
        (-300_i32..300).prop_map(FieldValue::from),
        any::<f64>().prop_map(FieldValue::from),
        "[a-z-]{0,8}".prop_map(FieldValue::from),
        prop::sample::select(vec!["quorum", "classic", "drop-head", "lazy", "all"])
            .prop_map(FieldValue::from),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, value)| FieldValue::Decimal { scale, value }),
        Just(FieldValue::Void),
    ]
}

fn table() -> impl Strategy<Value = FieldTable> {
    let mut names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
    names.extend(["x-queue-type", "x-nobody-knows"]);
    let entries = prop::collection::vec((prop::sample::select(names), value()), 0..4);
    entries.prop_map(|entries| entries.into_iter().collect())
}

proptest! {
    #[test]
    fn what_was_accepted_is_accepted_again_and_is_equivalent_to_itself(table in table()) {
        if let Ok(arguments) = parse(table.clone()) {
            prop_assert_eq!(arguments.inequivalent(&table), None);
            prop_assert_eq!(arguments.inequivalent(&arguments.shown()), None);
            let again = parse(arguments.table().clone());
            prop_assert_eq!(again.as_ref(), Ok(&arguments));
        }
    }

    #[test]
    fn difference_goes_both_ways(one in value(), other in value()) {
        let there = difference(Some(&one), Some(&other));
        let back = difference(Some(&other), Some(&one));
        prop_assert_eq!(there.is_some(), back.is_some());
        prop_assert_eq!(difference(Some(&one), Some(&one)), None);
    }
}
