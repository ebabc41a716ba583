//! How evenly keys are spread, and what moves when destinations come and go.

use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef};
use proptest::prelude::*;

use super::*;
use crate::names::ExchangeName;

fn bound(name: &str) -> BoundDestination {
    BoundDestination { destination: Destination::Exchange(ExchangeName::from(name)), arguments: None }
}

fn bindings(source: HashSource, of: &[(&str, &str)]) -> HashBindings {
    let mut bindings = HashBindings::new(source);
    for (name, weight) in of {
        assert!(bindings.insert(weight, bound(name)).unwrap());
    }
    bindings
}

/// Where a message goes.
fn reached(bindings: &HashBindings, key: &str, properties: &Properties<'_>) -> String {
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let mut found = Vec::new();
    bindings.route(&Addressing::new(&[key], &encoded), &mut |destination| {
        found.push(destination.name().to_owned());
    });
    assert_eq!(found.len(), 1, "one destination");
    found.remove(0)
}

fn by_key(bindings: &HashBindings, key: &str) -> String {
    reached(bindings, key, &Properties::default())
}

#[test]
fn each_destination_gets_its_share_within_three_per_cent_of_its_weight() {
    const KEYS: usize = 200_000;
    let cases: [&[u16]; 4] = [&[1, 1, 1], &[1, 2, 3, 4], &[5000, 10_000], &[7; 8]];
    for weights in cases {
        let named: Vec<_> =
            weights.iter().enumerate().map(|(i, weight)| (format!("q{i}"), weight.to_string())).collect();
        let of: Vec<_> = named.iter().map(|(name, weight)| (name.as_str(), weight.as_str())).collect();
        let bindings = bindings(HashSource::RoutingKey, &of);
        let mut counts = std::collections::HashMap::<String, usize>::new();
        for key in 0..KEYS {
            *counts.entry(by_key(&bindings, &key.to_string())).or_default() += 1;
        }
        let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        for ((name, _), weight) in named.iter().zip(weights) {
            let share = (KEYS * usize::from(*weight)) as f64 / total as f64;
            let error = (counts[name] as f64 - share).abs() / share;
            assert!(error < 0.03, "{name} of {weights:?}: {} instead of {share}", counts[name]);
        }
    }
}

#[test]
fn the_lightest_binding_of_a_destination_counts() {
    let mut several = bindings(HashSource::RoutingKey, &[("a", "9"), ("a", "3"), ("b", "5")]);
    let one = bindings(HashSource::RoutingKey, &[("a", "3"), ("b", "5")]);
    let same = |one: &HashBindings, other: &HashBindings| {
        (0..2000).all(|key| by_key(one, &key.to_string()) == by_key(other, &key.to_string()))
    };
    assert!(same(&several, &one));
    assert!(several.remove("3", &bound("a")));
    assert!(!several.remove("3", &bound("a")));
    assert!(same(&several, &bindings(HashSource::RoutingKey, &[("b", "5"), ("a", "9")])));
    assert!(several.remove("9", &bound("a")));
    assert!(same(&several, &bindings(HashSource::RoutingKey, &[("b", "5")])));
}

#[test]
fn headers_and_properties_are_hashed_instead_of_the_key() {
    let of = [("a", "1"), ("b", "1"), ("c", "1")];
    let table = |value: i64| FieldTable::new().with("h", value).encoded();
    let by_header = bindings(HashSource::Header("h".into()), &of);
    let header = |key: &str, table: &[u8]| {
        let headers = FieldTableRef::parse(table).ok();
        reached(&by_header, key, &Properties { headers, ..Properties::default() })
    };
    let spread: std::collections::HashSet<_> = (0..50).map(|value| header("k", &table(value))).collect();
    assert_eq!(spread.len(), 3);
    assert_eq!(header("k", &table(7)), header("other", &FieldTable::new().with("h", 7_u8).encoded()));
    assert_eq!(by_key(&by_header, "k"), by_key(&by_header, "other"), "without the header, all the same");
    for source in [HashSource::CorrelationId, HashSource::MessageId, HashSource::Timestamp] {
        let bindings = bindings(source, &of);
        let with = |value: u64| {
            let text = value.to_string();
            let octets = Some(text.as_bytes());
            let properties = Properties {
                correlation_id: octets,
                message_id: octets,
                timestamp: Some(value),
                ..Properties::default()
            };
            reached(&bindings, &value.to_string(), &properties)
        };
        assert_eq!((0..50).map(with).collect::<std::collections::HashSet<_>>().len(), 3);
        assert_eq!(by_key(&bindings, "1"), by_key(&bindings, "2"));
    }
}

#[test]
fn keys_go_where_they_went_in_earlier_versions() {
    // A change of the hash would move the keys of everybody who updates.
    let bindings = bindings(HashSource::RoutingKey, &[("a", "1"), ("b", "2"), ("c", "2")]);
    let places: String = (0..24).map(|key| by_key(&bindings, &format!("key-{key}"))).collect();
    assert_eq!(places, "ccbbcbbbacbbcbcccbcacbcc");
}

#[test]
fn weights_are_checked() {
    let text = |key: &str| parse_weight(key).map_err(|error| error.to_string());
    assert_eq!(text("+1"), Ok(1));
    assert_eq!(text("010000"), Ok(10_000));
    for key in ["abc", "", " 1", "1 ", "1.5", "-", "0x1"] {
        let quoted = if key.is_empty() { String::new() } else { format!("\"{key}\"") };
        assert_eq!(text(key), Err(format!("The binding key must be an integer: <<{quoted}>>")));
    }
    for key in ["0", "-1", "-99999999999999999999"] {
        assert_eq!(text(key), Err("The binding key must be greater than 0".to_owned()));
    }
    for key in ["10001", "99999999999999999999"] {
        assert_eq!(text(key), Err("The binding key must not be greater than 10000".to_owned()));
    }
}

proptest! {
    #[test]
    fn only_the_share_of_what_comes_or_goes_moves(
        weights in prop::collection::vec(1_u16..=20, 1..12),
        added in 1_u16..=20,
        seed in any::<u64>(),
    ) {
        let mut places: Vec<_> =
            weights.iter().enumerate().map(|(i, weight)| (format!("q{i}-{seed}"), weight.to_string())).collect();
        let of = |places: &[(String, String)]| {
            let of: Vec<_> = places.iter().map(|(name, weight)| (name.as_str(), weight.as_str())).collect();
            bindings(HashSource::RoutingKey, &of)
        };
        let keys: Vec<_> = (0..300).map(|key: u32| key.to_string()).collect();
        let mut changing = of(&places);
        let before: Vec<_> = keys.iter().map(|key| by_key(&changing, key)).collect();
        let weight = added.to_string();
        prop_assert!(changing.insert(&weight, bound("new")).unwrap());
        // The order does not matter.
        places.push(("new".to_owned(), weight.clone()));
        places.reverse();
        let reversed = of(&places);
        for (key, old) in keys.iter().zip(&before) {
            let now = by_key(&changing, key);
            prop_assert!(now == *old || now == "new", "{key} moved from {old} to {now}");
            prop_assert_eq!(&now, &by_key(&reversed, key));
        }
        prop_assert!(changing.remove(&weight, &bound("new")));
        for (key, old) in keys.iter().zip(&before) {
            prop_assert_eq!(&by_key(&changing, key), old);
        }
    }
}
