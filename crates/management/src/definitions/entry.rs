//! One object of a document: its fields by name and type, and what it is called when something is wrong with it.

use serde_json::{Map, Value};

use super::ImportError;
use crate::json;
use leveret_codec::table::{FieldTable, FieldValue};

/// An object of one kind.
pub(super) struct Entry<'a> {
    kind: &'static str,
    fields: &'a Map<String, Value>,
}

type Read<T> = Result<T, ImportError>;

/// The entries of a section, which need not be there.
pub(super) fn section<'a>(
    document: &'a Map<String, Value>,
    key: &str,
    kind: &'static str,
) -> Read<Vec<Entry<'a>>> {
    let malformed = |reason: &str| ImportError::Malformed { what: key.to_owned(), reason: reason.to_owned() };
    let entries = match document.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(malformed("not a list")),
    };
    let entry = |entry: &'a Value| match entry {
        Value::Object(fields) => Ok(Entry { kind, fields }),
        _ => Err(malformed("holds something else than objects")),
    };
    entries.iter().map(entry).collect()
}

impl<'a> Entry<'a> {
    /// What it is called: its kind and its name, or what it has of one.
    pub(super) fn what(&self) -> String {
        let text = |key| self.fields.get(key).and_then(Value::as_str);
        let name = ["name", "user", "source"].into_iter().find_map(text).unwrap_or_default();
        match text("vhost") {
            Some(vhost) => format!("{} '{name}' in vhost '{vhost}'", self.kind),
            None => format!("{} '{name}'", self.kind),
        }
    }

    pub(super) fn malformed(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Malformed { what: self.what(), reason: reason.into() }
    }

    /// A field, unless it is missing or null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    /// A text that has to be there.
    pub(super) fn text(&self, key: &str) -> Read<String> {
        self.text_if_any(key)?.ok_or_else(|| self.malformed(format!("{key} is missing")))
    }

    /// A text that need not be there. COMPAT: Erlang's word for nothing counts as nothing.
    pub(super) fn text_if_any(&self, key: &str) -> Read<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if text == "undefined" && key != "name" => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.malformed(format!("{key} is not a text"))),
        }
    }

    /// A flag, or what it is if it is missing.
    pub(super) fn flag(&self, key: &str, otherwise: bool) -> Read<bool> {
        Ok(self.flag_if_any(key)?.unwrap_or(otherwise))
    }

    /// A flag that need not be there.
    pub(super) fn flag_if_any(&self, key: &str) -> Read<Option<bool>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.malformed(format!("{key} is not true or false"))),
        }
    }

    /// A whole number, or zero.
    pub(super) fn integer(&self, key: &str) -> Read<i64> {
        match self.get(key) {
            None => Ok(0),
            Some(value) => {
                value.as_i64().ok_or_else(|| self.malformed(format!("{key} is not a whole number")))
            }
        }
    }

    /// Words: a list of texts, or one text with commas.
    pub(super) fn words(&self, key: &str) -> Read<Vec<String>> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(text
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()),
            Some(Value::Array(words)) => {
                let word = |word: &Value| word.as_str().map(str::to_owned);
                let words: Option<_> = words.iter().map(word).collect();
                words.ok_or_else(|| self.malformed(format!("{key} holds something else than texts")))
            }
            Some(_) => Err(self.malformed(format!("{key} is not a list"))),
        }
    }

    /// An object, or what RabbitMQ 3 writes in its place: a list of keys with values.
    pub(super) fn object(&self, key: &str) -> Read<Map<String, Value>> {
        let pair = |pair: &Value| match pair.as_array().map(Vec::as_slice) {
            Some([Value::String(key), value]) => Some((key.clone(), value.clone())),
            _ => None,
        };
        let object = match self.get(key) {
            None => Some(Map::new()),
            Some(Value::Object(object)) => Some(object.clone()),
            Some(Value::Array(pairs)) => pairs.iter().map(pair).collect(),
            Some(_) => None,
        };
        object.ok_or_else(|| self.malformed(format!("{key} is not an object")))
    }

    /// An object as a table.
    pub(super) fn table(&self, key: &str) -> Read<FieldTable> {
        let table = json::table(&self.object(key)?);
        table.ok_or_else(|| self.malformed(format!("{key} is nested too deeply")))
    }

    /// A value of any kind, that has to be there.
    pub(super) fn value(&self, key: &str) -> Read<FieldValue> {
        let value = self.fields.get(key).ok_or_else(|| self.malformed(format!("{key} is missing")))?;
        json::field(value).ok_or_else(|| self.malformed(format!("{key} is nested too deeply")))
    }

    /// An object of this one, to be read like it.
    pub(super) fn inner<T>(&self, key: &str, read: impl FnOnce(&Entry<'_>) -> Read<T>) -> Read<T> {
        let mut fields = self.object(key)?;
        for name in ["name", "vhost"] {
            if let Some(value) = self.fields.get(name) {
                fields.entry(name).or_insert_with(|| value.clone());
            }
        }
        read(&Entry { kind: self.kind, fields: &fields })
    }

    /// A limit by its key, which need not be there.
    pub(super) fn limit(&self, key: &str) -> Read<Option<i64>> {
        self.get(key).map(|_| self.integer(key)).transpose()
    }
}
