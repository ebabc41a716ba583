//! The verbs that list: rows from the API, the columns that were asked for, one table. All they differ in
//! is in `columns`.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use serde_json::Value;

use super::{flag, required};
use crate::api::segment_of_path;
use crate::call::Call;
use crate::columns::{Column, Listing, Source};
use crate::failure::{Failure, OrMissing as _};
use crate::output::Table;

/// Flags of `list_queues` that choose queues by their state.
const QUEUE_FILTERS: [&str; 3] = ["online", "offline", "local"];

/// The parser of a listing's arguments.
pub(crate) fn command(listing: &'static Listing) -> Command {
    let mut command = Command::new(listing.verb).about(listing.about);
    if listing.path.contains("{user}") {
        command = command.arg(required("user"));
    }
    if listing.takes_columns {
        let names = PossibleValuesParser::new(listing.columns.iter().map(|column| column.name));
        let columns = Arg::new("columns").num_args(0..).value_delimiter(',').value_parser(names);
        command = command.arg(columns.help("Columns to show, in this order"));
    }
    if listing.verb == "list_queues" {
        let [online, offline, local] = QUEUE_FILTERS;
        command = command
            .arg(flag(online, "Only queues that can be used"))
            .arg(flag(offline, "Only queues that cannot be used").conflicts_with(online))
            .arg(flag(local, "Only queues of the node at the URL"));
    }
    command
}

/// Lists the columns that were asked for.
pub(crate) fn run(call: &mut Call<'_>, listing: &'static Listing) -> Result<(), Failure> {
    let columns = chosen(listing, &call.texts("columns"));
    list(call, listing, &columns)
}

/// Lists all columns there are.
pub(super) fn all_columns(call: &mut Call<'_>, listing: &'static Listing) -> Result<(), Failure> {
    list(call, listing, &listing.columns.iter().collect::<Vec<_>>())
}

fn list(call: &mut Call<'_>, listing: &Listing, columns: &[&Column]) -> Result<(), Failure> {
    let (vhost, user) = (call.vhost(), call.text("user"));
    if listing.verb == "list_queues" {
        let seconds = call.optional("timeout").map_or(Ok(60.0), |text| text.parse::<f64>());
        if let Some(seconds) = seconds.ok().filter(|seconds| seconds.is_finite()) {
            call.output.announce(&format!("Timeout: {seconds:?} seconds ..."))?;
        }
    }
    call.announce(&listing.banner.replace("{vhost}", &vhost).replace("{user}", &user))?;
    let path =
        listing.path.replace("{vhost}", &segment_of_path(&vhost)).replace("{user}", &segment_of_path(&user));
    if listing.has_all_vhosts {
        call.require_vhost(&vhost)?;
    }
    let rows = call.client()?.list(&path);
    let rows = match listing.path {
        path if path.contains("{user}") => rows.or_missing(|| Failure::no_such_user(&user))?,
        path if path.contains("{vhost}") => rows.or_missing(|| Failure::no_such_vhost(&vhost))?,
        _ => rows?,
    };
    let filters = QUEUE_FILTERS.map(|name| call.flag(name));
    let node = if call.flag("local") { Some(call.node()?) } else { None };
    let is_meant = |row: &&Value| {
        let is_online = row.get("state").and_then(Value::as_str).is_none_or(|state| state == "running");
        let is_here =
            node.as_deref().is_none_or(|node| row.get("node").and_then(Value::as_str) == Some(node));
        let [online, offline, _] = filters;
        let is_in_vhost = row.get("vhost").and_then(Value::as_str) == Some(vhost.as_str());
        (!online || is_online)
            && (!offline || !is_online)
            && is_here
            && (!listing.has_all_vhosts || is_in_vhost)
    };
    let rows =
        rows.iter().filter(is_meant).map(|row| columns.iter().map(|column| value(column, row)).collect());
    let table = Table {
        columns: columns.iter().map(|column| (column.name.to_owned(), column.shape)).collect(),
        rows: rows.collect(),
        is_streamed: listing.is_streamed,
        has_header: listing.has_header,
    };
    call.table(&table)
}

/// The columns that were named, else those that are always shown.
fn chosen(listing: &'static Listing, names: &[String]) -> Vec<&'static Column> {
    if names.is_empty() {
        return listing.columns.iter().take(listing.shown).collect();
    }
    names.iter().filter_map(|name| listing.columns.iter().find(|column| column.name == name)).collect()
}

/// The value of one cell.
fn value(column: &Column, row: &Value) -> Value {
    match column.source {
        Source::At(pointer) => row.pointer(pointer).cloned().unwrap_or(Value::Null),
        Source::Always(text) => Value::String(text.to_owned()),
    }
}
