//! `report`: all that a broker says of itself, one listing after the other, for whoever is asked for help.

use serde_json::Value;

use super::{Verb, listing, node, none};
use crate::call::Call;
use crate::columns::{self, Listing};
use crate::failure::Failure;
use crate::output::Format;

pub(super) const VERBS: &[Verb] = &[Verb {
    name: "report",
    about: "Prints status, configuration and all listings of all vhosts, to send to who is asked for help",
    arguments: none,
    run: report,
}];

/// What the broker has once.
const OF_BROKER: [&Listing; 3] = [&columns::CONNECTIONS, &columns::CHANNELS, &columns::GLOBAL_PARAMETERS];

/// What each vhost has.
const OF_VHOST: [&Listing; 8] = [
    &columns::QUEUES,
    &columns::EXCHANGES,
    &columns::BINDINGS,
    &columns::CONSUMERS,
    &columns::PERMISSIONS,
    &columns::POLICIES,
    &columns::OPERATOR_POLICIES,
    &columns::PARAMETERS,
];

fn report(call: &mut Call<'_>) -> Result<(), Failure> {
    if call.output.format != Format::Table {
        return Err(Failure::usage("Only the report formatter is supported"));
    }
    let name = call.node()?;
    call.announce(&format!("Reporting server status of node {name} ...\n"))?;
    // What follows makes no sense without saying what it is.
    call.output.quiet = false;
    for part in [node::status, node::cluster_status, node::environment] {
        part(call)?;
        call.output.line("")?;
    }
    for listing in OF_BROKER {
        listing::all_columns(call, listing)?;
        call.output.line("")?;
    }
    let vhosts = call.client()?.list("vhosts")?;
    for vhost in vhosts.iter().filter_map(|vhost| vhost.get("name").and_then(Value::as_str)) {
        call.enter_vhost(vhost);
        for listing in OF_VHOST {
            listing::all_columns(call, listing)?;
            call.output.line("")?;
        }
    }
    Ok(())
}
