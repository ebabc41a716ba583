//! JSON in Erlang's notation, as RabbitMQ's tools show arguments in tables.

use serde_json::Value;

/// A value as Erlang would write it.
pub(super) fn term(value: &Value) -> String {
    match value {
        Value::Null => "undefined".to_owned(),
        Value::Bool(_) => value.to_string(),
        Value::Number(number) => match number.as_f64() {
            // Erlang's floats have a point.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
                format!("{float:.1}")
            }
            _ => number.to_string(),
        },
        Value::String(text) => string(text),
        Value::Array(items) => list(items.iter().map(term)),
        Value::Object(pairs) => {
            list(pairs.iter().map(|(name, value)| format!("{{{},{}}}", string(name), term(value))))
        }
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A text in quotation marks, on one line.
fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len().saturating_add(2));
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[test]
fn arguments_are_lists_of_pairs() {
    let arguments =
        serde_json::json!({"x-queue-type": "quorum", "n": 5, "f": 1.0, "t": {"b": true}, "l": ["a\"b"]});
    let shown = r#"[{"x-queue-type","quorum"},{"n",5},{"f",1.0},{"t",[{"b",true}]},{"l",["a\"b"]}]"#;
    assert_eq!(term(&arguments), shown);
    assert_eq!(term(&serde_json::json!({})), "[]");
}
