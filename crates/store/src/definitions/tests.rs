//! Definitions of any names and arguments come back from their entries as they went in.

use leveret_broker::access::password::{HashAlgorithm, PasswordHash};
use leveret_broker::access::permissions::Permissions;
use leveret_broker::access::user::{User, UserLimits, VhostLimits};
use leveret_broker::queue::QueueType;
use leveret_broker::vhost::VhostSettings;
use leveret_codec::table::FieldValue;
use proptest::prelude::*;

use super::*;

/// Names as peers choose them: empty, with any characters, up to 255 octets.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{0,2}",
        any::<String>().prop_map(|mut name| {
            name.truncate(name.floor_char_boundary(255));
            name
        }),
        Just("x".repeat(255)),
        Just("\u{0}".to_owned()),
    ]
}

fn table() -> impl Strategy<Value = FieldTable> {
    let scalar = prop_oneof![
        any::<bool>().prop_map(FieldValue::from),
        any::<i32>().prop_map(FieldValue::from),
        any::<f64>().prop_map(FieldValue::from),
        any::<String>().prop_map(FieldValue::from),
        any::<u64>().prop_map(FieldValue::Timestamp),
        Just(FieldValue::Void),
    ];
    let value = scalar.prop_recursive(3, 12, 4, |inner| {
        let entries = prop::collection::vec((name(), inner.clone()), 0..4);
        let table = entries.prop_map(|entries| FieldValue::Table(table_of(&entries)));
        prop_oneof![table, prop::collection::vec(inner, 0..4).prop_map(FieldValue::from)]
    });
    prop::collection::vec((name(), value), 0..4).prop_map(|entries| table_of(&entries))
}

fn table_of(entries: &[(String, FieldValue)]) -> FieldTable {
    entries.iter().map(|(key, value)| (key.as_str(), value.clone())).collect()
}

fn exchange() -> impl Strategy<Value = ExchangeSpec> {
    let exchange_type = prop::sample::select(vec![
        ExchangeType::Direct,
        ExchangeType::Fanout,
        ExchangeType::Topic,
        ExchangeType::Headers,
        ExchangeType::ConsistentHash,
        ExchangeType::ModulusHash,
        ExchangeType::Random,
        ExchangeType::LocalRandom,
        ExchangeType::Delayed,
        ExchangeType::RecentHistory,
        ExchangeType::Deduplicating,
    ]);
    (name(), exchange_type, any::<bool>(), any::<bool>(), prop::option::of(name()), table()).prop_map(
        |(name, exchange_type, auto_delete, internal, alternate, arguments)| ExchangeSpec {
            name: name.into(),
            exchange_type,
            durable: true,
            auto_delete,
            internal,
            alternate: alternate.map(Into::into),
            arguments,
        },
    )
}

fn queue() -> impl Strategy<Value = QueueSpec> {
    let arguments =
        table().prop_filter_map("refused arguments", |table| QueueArguments::parse(table, "", "").ok());
    (name(), name(), any::<bool>(), arguments).prop_map(|(vhost, name, auto_delete, arguments)| QueueSpec {
        vhost: vhost.into(),
        name: name.into(),
        durable: true,
        owner: None,
        auto_delete,
        arguments,
    })
}

fn binding() -> impl Strategy<Value = BindingSpec> {
    let target = (any::<bool>(), name()).prop_map(|(to_queue, name)| match to_queue {
        true => BindingTarget::Queue(name.into()),
        false => BindingTarget::Exchange(name.into()),
    });
    (name(), target, name(), table()).prop_map(|(source, target, routing_key, arguments)| {
        let sorted = canonical(&arguments).unwrap_or_default();
        let arguments = FieldTable::decode(&sorted).unwrap();
        BindingSpec { source: source.into(), target, routing_key, arguments }
    })
}

fn kind() -> impl Strategy<Value = PolicyKind> {
    prop::sample::select(vec![PolicyKind::Policy, PolicyKind::Operator])
}

fn policy() -> impl Strategy<Value = Policy> {
    let apply_to = prop::sample::select(vec![
        ApplyTo::All,
        ApplyTo::Queues,
        ApplyTo::Exchanges,
        ApplyTo::ClassicQueues,
        ApplyTo::QuorumQueues,
        ApplyTo::Streams,
    ]);
    (name(), any::<String>(), apply_to, any::<i64>(), table()).prop_map(
        |(name, pattern, apply_to, priority, definition)| Policy {
            name,
            pattern,
            apply_to,
            priority,
            definition,
        },
    )
}

fn user() -> impl Strategy<Value = User> {
    let hash =
        (prop::sample::select(vec![(HashAlgorithm::Sha256, 36), (HashAlgorithm::Md5, 20)]), any::<u8>());
    let password = hash.prop_map(|((algorithm, length), octet)| {
        PasswordHash::imported(algorithm, vec![octet; length]).unwrap()
    });
    let limits = (any::<Option<i64>>(), any::<Option<i64>>());
    (name(), prop::collection::vec(name(), 0..3), prop::option::of(password), limits).prop_map(
        |(name, tags, password, (max_connections, max_channels))| User {
            name: name.into(),
            tags,
            password,
            limits: UserLimits { max_connections, max_channels },
        },
    )
}

fn settings() -> impl Strategy<Value = VhostSettings> {
    let queue_type = prop::sample::select(vec![QueueType::Classic, QueueType::Quorum, QueueType::Stream]);
    let limits = (any::<Option<i64>>(), any::<Option<i64>>());
    (name(), prop::collection::vec(name(), 0..3), prop::option::of(queue_type), limits, any::<bool>())
        .prop_map(|(description, tags, default_queue_type, (max_connections, max_queues), is_protected)| {
            VhostSettings {
                is_protected,
                description,
                tags,
                default_queue_type,
                limits: VhostLimits { max_connections, max_queues },
            }
        })
}

/// Any change of definitions.
pub(crate) fn definition() -> impl Strategy<Value = Definition> {
    let vhost = || name().prop_map(VhostName::from);
    prop_oneof![
        Just(Definition::BeginAccess),
        user().prop_map(Definition::PutUser),
        name().prop_map(|name| Definition::DeleteUser(name.into())),
        (vhost(), settings()).prop_map(|(vhost, settings)| Definition::PutVhost(vhost, settings)),
        vhost().prop_map(Definition::DeleteVhost),
        (name(), table())
            .prop_map(|(name, value)| { Definition::PutGlobalParameter(name, FieldValue::Table(value)) }),
        name().prop_map(Definition::DeleteGlobalParameter),
        [name(), name(), name(), name(), name()].prop_map(|[user, vhost, configure, write, read]| {
            let (user, vhost) = (user.into(), vhost.into());
            Definition::PutPermissions(Permissions { user, vhost, configure, write, read })
        }),
        (vhost(), name()).prop_map(|(vhost, user)| Definition::DeletePermissions(vhost, user.into())),
        [name(), name(), name(), name(), name()].prop_map(|[user, vhost, exchange, write, read]| {
            let (user, vhost, exchange) = (user.into(), vhost.into(), exchange.into());
            Definition::PutTopicPermissions(TopicPermissions { user, vhost, exchange, write, read })
        }),
        (vhost(), name(), name()).prop_map(|(vhost, user, exchange)| {
            Definition::DeleteTopicPermissions(vhost, user.into(), exchange.into())
        }),
        (vhost(), exchange()).prop_map(|(vhost, spec)| Definition::PutExchange(vhost, spec)),
        (vhost(), name()).prop_map(|(vhost, name)| Definition::DeleteExchange(vhost, name.into())),
        (any::<u64>(), queue()).prop_map(|(id, spec)| Definition::PutQueue(QueueId(id), spec)),
        (vhost(), name()).prop_map(|(vhost, name)| Definition::DeleteQueue(vhost, name.into())),
        (vhost(), binding()).prop_map(|(vhost, binding)| Definition::Bind(vhost, binding)),
        (vhost(), binding()).prop_map(|(vhost, binding)| Definition::Unbind(vhost, binding)),
        (vhost(), kind(), policy())
            .prop_map(|(vhost, kind, policy)| Definition::PutPolicy(vhost, kind, policy)),
        (vhost(), kind(), name()).prop_map(|(vhost, kind, name)| Definition::DeletePolicy(vhost, kind, name)),
    ]
}

proptest! {
    #[test]
    fn a_definition_comes_back_as_it_went_in(definition in definition()) {
        let change = change_of(&definition);
        if let Some(value) = &change.value {
            let read = definition_of(&change.key, value).unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{definition:?}"));
            prop_assert_eq!(change_of(&read), change);
        }
    }

    #[test]
    fn deleting_names_the_entry_that_putting_made(
        vhost in name(), exchange in exchange(), queue in queue(), binding in binding(),
    ) {
        let vhost = VhostName::from(vhost);
        let pairs = [
            (
                Definition::PutExchange(vhost.clone(), exchange.clone()),
                Definition::DeleteExchange(vhost.clone(), exchange.name),
            ),
            (
                Definition::PutQueue(QueueId(1), queue.clone()),
                Definition::DeleteQueue(queue.vhost, queue.name),
            ),
            (Definition::Bind(vhost.clone(), binding.clone()), Definition::Unbind(vhost, binding)),
        ];
        for (put, delete) in pairs {
            let (put, delete) = (change_of(&put), change_of(&delete));
            prop_assert_eq!(put.key, delete.key);
            prop_assert!(put.value.is_some() && delete.value.is_none());
        }
    }

    #[test]
    fn things_of_different_names_have_different_entries(
        one in (name(), name(), name()), other in (name(), name(), name()),
    ) {
        let key = |(vhost, source, target): &(String, String, String)| {
            let target = BindingTarget::Queue(target.as_str().into());
            let (routing_key, arguments) = (String::new(), FieldTable::new());
            let binding = BindingSpec { source: source.as_str().into(), target, routing_key, arguments };
            binding_key(&vhost.as_str().into(), &binding)
        };
        prop_assert_eq!(one == other, key(&one) == key(&other));
    }

    #[test]
    fn reading_garbage_is_an_error_and_no_more(key: Vec<u8>, value: Vec<u8>, definition in definition()) {
        let _ = definition_of(&key, &value);
        let change = change_of(&definition);
        let _ = definition_of(&change.key, &value);
        let _ = definition_of(&key, &change.value.unwrap_or_default());
    }
}

#[test]
fn the_order_of_a_bindings_arguments_does_not_make_another_binding() {
    let binding = |arguments: &[(&str, &str)]| BindingSpec {
        source: "e".into(),
        target: BindingTarget::Queue("q".into()),
        routing_key: "k".to_owned(),
        arguments: arguments.iter().map(|&(key, value)| (key, value)).collect(),
    };
    let vhost = VhostName::from("/");
    let put = change_of(&Definition::Bind(vhost.clone(), binding(&[("a", "1"), ("b", "2")])));
    let delete = change_of(&Definition::Unbind(vhost, binding(&[("b", "2"), ("a", "1")])));
    assert_eq!(put.key, delete.key);
}

#[test]
fn a_queue_whose_arguments_are_refused_is_named() {
    let mut key = vec![KEY_QUEUE];
    put_sized(&mut key, b"/");
    put_sized(&mut key, b"orders");
    let mut value = vec![VALUE_VERSION];
    value.extend_from_slice(&[0; 9]);
    value.extend_from_slice(&FieldTable::new().with("x-queue-type", "novel").encoded());
    let error = definition_of(&key, &value).unwrap_err();
    assert_eq!(error.what, "queue 'orders' in vhost '/'");
    assert!(error.reason.contains("x-queue-type"), "{error}");
}

#[test]
fn a_value_of_a_newer_version_says_so() {
    let Change { key, .. } = change_of(&Definition::PutVhost("/".into(), VhostSettings::default()));
    let error = definition_of(&key, &[2]).unwrap_err();
    assert!(error.reason.contains("version 2"), "{error}");
}
