//! Lists as RabbitMQ gives them: columns that are wanted, an order, and pages. Only what is wanted is made: a page out
//! of a hundred thousand queues costs a look at their names, and an order by a field that field of each.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::Call;
use crate::pattern;

/// COMPAT: entries of a page, unless asked otherwise.
const PAGE_SIZE: usize = 100;

/// COMPAT: entries of a page, at most.
const PAGE_SIZE_MAX: usize = 500;

/// Which fields are wanted, each a path of keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns(Option<Vec<Vec<String>>>);

impl Columns {
    fn of(call: &Call) -> Self {
        let columns = call.query("columns").filter(|columns| !columns.is_empty());
        Self(columns.map(|columns| columns.split(',').map(path).collect()))
    }

    fn only(field: &[String]) -> Self {
        Self(Some(vec![field.to_vec()]))
    }

    fn wants(&self, key: &str) -> bool {
        self.0
            .as_ref()
            .is_none_or(|paths| paths.iter().any(|path| path.first().is_some_and(|first| first == key)))
    }

    /// Takes out of a wanted field what of it is not.
    fn narrow(&self, key: &str, value: Value) -> Value {
        let Some(paths) = &self.0 else { return value };
        let below = paths.iter().filter(|path| path.first().is_some_and(|first| first == key));
        let below: Vec<_> = below.filter_map(|path| path.get(1..)).collect();
        narrowed(value, &below)
    }
}

fn narrowed(value: Value, paths: &[&[String]]) -> Value {
    let Value::Object(object) = value else { return value };
    if paths.iter().any(|path| path.is_empty()) {
        return Value::Object(object);
    }
    let fields = object.into_iter().filter_map(|(key, value)| {
        let below = paths.iter().filter(|path| path.first() == Some(&key));
        let below: Vec<_> = below.filter_map(|path| path.get(1..)).collect();
        (!below.is_empty()).then(|| (key, narrowed(value, &below)))
    });
    Value::Object(fields.collect())
}

fn path(column: &str) -> Vec<String> {
    column.split('.').map(str::to_owned).collect()
}

/// An object that is being shown: fields that nobody wants are not made.
pub(crate) struct View<'a> {
    columns: &'a Columns,
    fields: Map<String, Value>,
}

impl View<'_> {
    /// Adds a field.
    pub(crate) fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.put_with(key, || value.into());
    }

    /// Adds a field that costs something to make.
    pub(crate) fn put_with(&mut self, key: &str, value: impl FnOnce() -> Value) {
        if self.columns.wants(key) {
            self.fields.insert(key.to_owned(), self.columns.narrow(key, value()));
        }
    }

    /// Whether a field is wanted.
    pub(crate) fn wants(&self, key: &str) -> bool {
        self.columns.wants(key)
    }
}

/// Makes an object out of what `show` puts.
fn view(columns: &Columns, show: impl FnOnce(&mut View<'_>)) -> Value {
    let mut view = View { columns, fields: Map::new() };
    show(&mut view);
    Value::Object(view.fields)
}

/// One object with the columns that are wanted.
pub(crate) fn one(call: &Call, show: impl FnOnce(&mut View<'_>)) -> Answered {
    Ok(Answer::Json(view(&Columns::of(call), show)))
}

/// A list in the order of `items`, unless another is asked for; `name` is what names are filtered by.
pub(crate) fn list<T>(
    call: &Call,
    items: Vec<T>,
    name: impl Fn(&T) -> &str,
    show: impl Fn(&T, &mut View<'_>),
) -> Answered {
    let columns = Columns::of(call);
    let total = items.len();
    let page = Page::of(call)?;
    let mut items = match &page {
        Some(page) => page.filtered(items, name)?,
        None => items,
    };
    if let Some(field) = call.query("sort").filter(|field| !field.is_empty()) {
        sort(&mut items, &path(field), &show);
    }
    // COMPAT: all of it, what is equal too.
    if call.asks("sort_reverse") {
        items.reverse();
    }
    let shown = |items: &[T]| -> Vec<Value> {
        items.iter().map(|item| view(&columns, |view| show(item, view))).collect()
    };
    match page {
        None => Ok(Answer::Json(Value::Array(shown(&items)))),
        Some(page) => page.answer(total, &items, shown),
    }
}

/// A list of objects that are there already.
pub(crate) fn list_values(call: &Call, items: Vec<Value>) -> Answered {
    list(
        call,
        items,
        |item| item.get("name").and_then(Value::as_str).unwrap_or_default(),
        |item, view| {
            for (key, value) in item.as_object().into_iter().flatten() {
                view.put_with(key, || value.clone());
            }
        },
    )
}

fn sort<T>(items: &mut Vec<T>, field: &[String], show: &impl Fn(&T, &mut View<'_>)) {
    let columns = Columns::only(field);
    let mut keyed: Vec<_> = std::mem::take(items)
        .into_iter()
        .map(|item| {
            let shown = view(&columns, |view| show(&item, view));
            let found = field.iter().try_fold(&shown, |value, key| value.get(key));
            // COMPAT: what is not there counts as none.
            (found.cloned().unwrap_or(Value::from(0)), item)
        })
        .collect();
    keyed.sort_by(|(one, _), (other, _)| compare(one, other));
    items.extend(keyed.into_iter().map(|(_, item)| item));
}

/// COMPAT: Erlang's order of terms: numbers before the rest.
fn compare(one: &Value, other: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::Null => 1,
        Value::Bool(_) => 2,
        Value::Object(_) => 3,
        Value::Array(_) => 4,
        Value::String(_) => 5,
    };
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one.as_f64().unwrap_or_default().total_cmp(&other.as_f64().unwrap_or_default())
        }
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (one, other) => rank(one).cmp(&rank(other)),
    }
}

/// A page that is asked for.
struct Page {
    number: usize,
    size: usize,
    name: Option<String>,
    is_regex: bool,
}

impl Page {
    fn of(call: &Call) -> Result<Option<Self>, Refusal> {
        let number = |name: &str| match call.query(name) {
            None => Ok(None),
            Some(text) => text
                .parse::<i64>()
                .map(Some)
                .map_err(|_| Refusal::bad_request("Pagination parameters are invalid")),
        };
        let (page, size) = (number("page")?, number("page_size")?);
        let Some(page) = page else { return Ok(None) };
        let is_possible = page >= 1 && size.is_none_or(|size| (1..=PAGE_SIZE_MAX as i64).contains(&size));
        if !is_possible {
            let size = size.map_or("undefined".to_owned(), |size| size.to_string());
            return Err(Refusal::bad(
                "invalid_pagination_parameters",
                format!("Invalid pagination parameters: page number {page}, page size {size}"),
            ));
        }
        let size = size.and_then(|size| usize::try_from(size).ok()).unwrap_or(PAGE_SIZE);
        let number = usize::try_from(page).unwrap_or(usize::MAX);
        let name = call.query("name").filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Some(Self { number, size, name, is_regex: call.asks("use_regex") }))
    }

    fn filtered<T>(&self, mut items: Vec<T>, name: impl Fn(&T) -> &str) -> Result<Vec<T>, Refusal> {
        let Some(wanted) = &self.name else { return Ok(items) };
        if !self.is_regex {
            // COMPAT: whatever the case of the letters.
            let wanted = wanted.to_lowercase();
            items.retain(|item| name(item).to_lowercase().contains(&wanted));
            return Ok(items);
        }
        let Ok(pattern) = pattern::compiled(wanted, true) else {
            return Err(Refusal::bad_request("name is no regular expression, or too long"));
        };
        items.retain(|item| pattern.is_match(name(item)).unwrap_or(false));
        Ok(items)
    }

    fn answer<T>(&self, total: usize, items: &[T], shown: impl Fn(&[T]) -> Vec<Value>) -> Answered {
        let start = (self.number - 1).saturating_mul(self.size);
        if start >= items.len() && self.number > 1 {
            return Err(Refusal::bad(
                "page_out_of_range",
                format!(
                    "Page out of range, page: {} page size: {}, len: {}",
                    self.number,
                    self.size,
                    items.len()
                ),
            ));
        }
        let end = start.saturating_add(self.size).min(items.len());
        let on_page = shown(items.get(start..end).unwrap_or_default());
        Ok(Answer::Json(json!({
            "total_count": total,
            "item_count": on_page.len(),
            "filtered_count": items.len(),
            "page": self.number,
            "page_size": self.size,
            "page_count": items.len().div_ceil(self.size),
            "items": on_page,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_reach_into_objects() {
        let columns = Columns(Some(vec![path("name"), path("stats.publish.rate"), path("stats.ack")]));
        let shown = view(&columns, |view| {
            view.put("name", "q");
            view.put("other", 1);
            view.put("stats", json!({ "publish": { "rate": 1, "x": 2 }, "ack": { "rate": 3 }, "get": 4 }));
        });
        assert_eq!(
            shown,
            json!({ "name": "q", "stats": { "publish": { "rate": 1 }, "ack": { "rate": 3 } } })
        );
    }

    #[test]
    fn numbers_come_before_nothing_and_that_before_text() {
        let mut values = [json!("b"), json!(2), json!(null), json!("a"), json!(1.5)];
        values.sort_by(compare);
        assert_eq!(values, [json!(1.5), json!(2), json!(null), json!("a"), json!("b")]);
    }
}
