//! The endpoints of the HTTP API: which path leads to which function, and what a user must be for it. Each kind of
//! thing has a file, with what it looks like and what can be done with it.
//!
//! COMPAT: paths, fields and answers are those of RabbitMQ's management API, which tools are made for.

mod answer;
mod bindings;
mod body;
mod call;
mod channels;
mod connections;
mod consumers;
mod cors;
mod definitions;
mod exchanges;
mod health;
mod listing;
mod messages;
mod nodes;
mod overview;
mod own;
mod parameters;
mod permissions;
mod policies;
mod queues;
mod rates;
mod resource;
mod turns;
mod users;
mod vhosts;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::any;

use crate::access::{Authenticate, Tag};
use crate::answers::Answers;
use crate::http::HttpSettings;
use crate::node::Node;
use crate::statistics::Statistics;
use answer::Refusal;
use call::Call;
use resource::{Resource, serve};
pub(crate) use turns::THREADS;
use vhosts::administrators_only;

/// Octets of large answers that are being written.
const ANSWERS_BYTES_MAX: u32 = 128 << 20;

/// What endpoints work on.
pub(crate) struct Api {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) logins: Arc<dyn Authenticate>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) attempts: resource::Attempts,
    bodies: body::Bodies,
    turns: turns::Turns,
    answers: Answers,
    pub(crate) settings: HttpSettings,
}

impl Api {
    pub(crate) fn new(
        node: Arc<dyn Node>,
        logins: Arc<dyn Authenticate>,
        statistics: Arc<Statistics>,
        settings: HttpSettings,
    ) -> Self {
        Self {
            node,
            logins,
            statistics,
            attempts: resource::Attempts::default(),
            bodies: body::Bodies::default(),
            turns: turns::Turns::default(),
            answers: Answers::new(ANSWERS_BYTES_MAX, settings.timeout),
            settings,
        }
    }
}

/// All paths. What is percent-encoded in a segment is decoded when the segment has been told from the others.
pub(crate) fn router(api: Arc<Api>) -> Router {
    let mut router =
        Router::new().fallback(async || Refusal::no_object().into_response(false).map(Body::from));
    let prefix = api.settings.path_prefix.clone();
    for (path, resource) in resources() {
        // COMPAT: with a slash behind it a path is the same.
        for end in ["", "/"] {
            let api = Arc::clone(&api);
            router = router.route(
                &format!("{prefix}/api/{path}{end}"),
                any(move |request| serve(Arc::clone(&api), resource, request)),
            );
        }
    }
    router
}

fn resources() -> Vec<(&'static str, Resource)> {
    let mut all = of_the_node();
    all.extend(of_checks());
    all.extend(of_clients());
    all.extend(of_vhosts());
    all.extend(of_policies());
    all.extend(of_messages());
    all.extend(of_access());
    all.extend(of_settings());
    all
}

fn of_the_node() -> Vec<(&'static str, Resource)> {
    use Tag::{Administrator, Management, Monitoring};
    vec![
        ("overview", Resource::of(Management).quick().get(overview::show)),
        (
            "cluster-name",
            Resource::of(Management)
                .checked(administrators_only)
                .get(overview::cluster_name)
                .put(overview::put_cluster_name),
        ),
        ("nodes", Resource::of(Monitoring).get(nodes::list)),
        ("nodes/{node}", Resource::of(Monitoring).get(nodes::show)),
        ("nodes/{node}/memory", Resource::of(Monitoring).get(nodes::memory)),
        ("nodes/{node}/memory/relative", Resource::of(Monitoring).get(nodes::memory_shares)),
        ("extensions", Resource::of(Management).quick().get(overview::extensions)),
        ("whoami", Resource::of(Management).quick().get(overview::who_am_i)),
        ("version", Resource::open().quick().get(overview::version)),
        ("feature-flags", Resource::of(Management).quick().get(overview::feature_flags)),
        ("feature-flags/{name}/enable", Resource::of(Administrator).put(overview::enable_feature_flag)),
        ("deprecated-features", Resource::of(Management).quick().get(overview::deprecated_features)),
        ("deprecated-features/used", Resource::of(Management).quick().get(overview::deprecated_features)),
        (
            "auth/attempts/{node}",
            Resource::of(Monitoring).get(overview::attempts).delete(overview::forget_attempts),
        ),
        (
            "auth/attempts/{node}/source",
            Resource::of(Monitoring).get(overview::attempts_by_source).delete(overview::forget_attempts),
        ),
        ("rebalance/queues", Resource::of(Administrator).post(overview::rebalance)),
        ("reset", Resource::of(Administrator).delete(overview::reset)),
        ("reset/{node}", Resource::of(Administrator).delete(overview::reset)),
        ("leveret/status", Resource::of(Monitoring).get(own::status)),
        (
            "leveret/limits",
            Resource::of(Monitoring).checked(administrators_only).get(own::limits).put(own::put_limits),
        ),
        (
            "leveret/redrive/{vhost}/{queue}",
            Resource::of(Management).checked(administrators_only).post(own::redrive),
        ),
    ]
}

fn of_checks() -> Vec<(&'static str, Resource)> {
    use Tag::Management;
    vec![
        ("aliveness-test/{vhost}", Resource::of(Management).get(health::aliveness)),
        ("healthchecks/node", Resource::of(Management).quick().get(health::node)),
        ("healthchecks/node/{node}", Resource::of(Management).quick().get(health::node)),
        ("health/checks/alarms", Resource::of(Management).quick().get(health::alarms)),
        ("health/checks/local-alarms", Resource::of(Management).quick().get(health::alarms)),
        (
            "health/checks/certificate-expiration/{within}/{unit}",
            Resource::of(Management).quick().get(health::certificates),
        ),
        ("health/checks/port-listener/{port}", Resource::of(Management).quick().get(health::port)),
        (
            "health/checks/protocol-listener/{protocols}",
            Resource::of(Management).quick().get(health::protocols),
        ),
        ("health/checks/virtual-hosts", Resource::of(Management).quick().get(health::vhosts)),
        (
            "health/checks/node-is-mirror-sync-critical",
            Resource::of(Management).quick().get(health::single_node),
        ),
        ("health/checks/node-is-quorum-critical", Resource::of(Management).quick().get(health::single_node)),
        (
            "health/checks/quorum-queues-without-elected-leaders/all-vhosts",
            Resource::of(Management).long().get(health::leaders),
        ),
        (
            "health/checks/quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}",
            Resource::of(Management).long().get(health::leaders),
        ),
        (
            "health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}",
            Resource::of(Management).long().get(health::leaders),
        ),
        (
            "health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}",
            Resource::of(Management).long().get(health::leaders),
        ),
        ("health/checks/metadata-store/initialized", Resource::of(Management).quick().get(health::serving)),
        (
            "health/checks/metadata-store/initialized/with-data",
            Resource::of(Management).quick().get(health::serving),
        ),
        ("health/checks/is-in-service", Resource::of(Management).quick().get(health::serving)),
        ("health/checks/ready-to-serve-clients", Resource::of(Management).quick().get(health::serving)),
        (
            "health/checks/below-node-connection-limit",
            Resource::of(Management).quick().get(health::below_connection_limit),
        ),
        (
            "health/checks/reached-target-cluster-size",
            Resource::of(Management).quick().get(health::cluster_size),
        ),
    ]
}

fn of_clients() -> Vec<(&'static str, Resource)> {
    use Tag::Management;
    vec![
        ("connections", Resource::of(Management).long().get(connections::list)),
        (
            "connections/{connection}",
            Resource::of(Management).get(connections::show).delete(connections::close),
        ),
        ("connections/{connection}/channels", Resource::of(Management).long().get(channels::of_connection)),
        ("connections/{connection}/sessions", Resource::of(Management).get(connections::sessions)),
        (
            "connections/username/{user}",
            Resource::of(Management).long().get(connections::of_user).delete(connections::close_of_user),
        ),
        ("vhosts/{vhost}/connections", Resource::of(Management).long().get(connections::list)),
        ("channels", Resource::of(Management).long().get(channels::list)),
        ("channels/{channel}", Resource::of(Management).get(channels::show)),
        ("vhosts/{vhost}/channels", Resource::of(Management).long().get(channels::list)),
        ("consumers", Resource::of(Management).long().get(consumers::list)),
        ("consumers/{vhost}", Resource::of(Management).long().get(consumers::list)),
    ]
}

fn of_vhosts() -> Vec<(&'static str, Resource)> {
    use Tag::{Administrator, Management};
    vec![
        ("vhosts", Resource::of(Management).long().get(vhosts::list)),
        (
            "vhosts/{vhost}",
            Resource::of(Management)
                .checked(administrators_only)
                .get(vhosts::show)
                .put(vhosts::put)
                .delete(vhosts::delete),
        ),
        ("exchanges", Resource::of(Management).long().get(exchanges::list)),
        ("exchanges/{vhost}", Resource::of(Management).long().get(exchanges::list)),
        (
            "exchanges/{vhost}/{exchange}",
            Resource::of(Management)
                .checked(exchanges::may_declare)
                .get(exchanges::show)
                .put(exchanges::declare)
                .delete(exchanges::delete),
        ),
        (
            "exchanges/{vhost}/{exchange}/bindings/source",
            Resource::of(Management).long().get(bindings::from_exchange),
        ),
        (
            "exchanges/{vhost}/{exchange}/bindings/destination",
            Resource::of(Management).long().get(bindings::to_exchange),
        ),
        ("queues", Resource::of(Management).long().get(queues::list)),
        ("queues/detailed", Resource::of(Management).long().get(queues::list)),
        ("queues/{vhost}", Resource::of(Management).long().get(queues::list)),
        (
            "queues/{vhost}/{queue}",
            Resource::of(Management)
                .checked(queues::may_declare)
                .get(queues::show)
                .put(queues::declare)
                .delete(queues::delete),
        ),
        ("queues/{vhost}/{queue}/bindings", Resource::of(Management).long().get(bindings::to_queue)),
        ("queues/{vhost}/{queue}/contents", Resource::of(Management).delete(queues::purge)),
        ("queues/{vhost}/{queue}/actions", Resource::of(Administrator).post(queues::act)),
        ("bindings", Resource::of(Management).long().get(bindings::list)),
        ("bindings/{vhost}", Resource::of(Management).long().get(bindings::list)),
        (
            "bindings/{vhost}/e/{source}/{kind}/{destination}",
            Resource::of(Management).checked(in_vhost).get(bindings::between).post(bindings::bind),
        ),
        (
            "bindings/{vhost}/e/{source}/{kind}/{destination}/{properties}",
            Resource::of(Management).get(bindings::show).delete(bindings::unbind),
        ),
    ]
}

fn of_policies() -> Vec<(&'static str, Resource)> {
    use Tag::{Administrator, Management, Policymaker};
    vec![
        ("policies", Resource::of(Management).long().get(policies::list)),
        ("policies/{vhost}", Resource::of(Management).long().get(policies::list)),
        (
            "policies/{vhost}/{name}",
            Resource::of(Policymaker)
                .checked(in_vhost)
                .get(policies::show)
                .put(policies::put)
                .delete(policies::delete),
        ),
        ("operator-policies", Resource::of(Management).long().get(policies::list_operator)),
        ("operator-policies/{vhost}", Resource::of(Management).long().get(policies::list_operator)),
        (
            "operator-policies/{vhost}/{name}",
            Resource::of(Administrator)
                .get(policies::show_operator)
                .put(policies::put_operator)
                .delete(policies::delete_operator),
        ),
    ]
}

/// Who may not go into the vhost need not say what for.
fn in_vhost(call: &Call) -> Result<(), Refusal> {
    call.vhost().map(drop)
}

fn of_messages() -> Vec<(&'static str, Resource)> {
    use Tag::Management;
    vec![
        (
            "exchanges/{vhost}/{exchange}/publish",
            Resource::of(Management).takes_large().checked(messages::may_publish).post(messages::publish),
        ),
        (
            "queues/{vhost}/{queue}/get",
            Resource::of(Management).long().checked(messages::may_get).post(messages::get),
        ),
    ]
}

fn of_access() -> Vec<(&'static str, Resource)> {
    let users = Resource::of(Tag::Administrator);
    vec![
        ("users", users.get(users::list)),
        ("users/without-permissions", users.get(users::without_permissions)),
        ("users/bulk-delete", users.post(users::delete_several)),
        ("users/{user}", users.get(users::show).put(users::put).delete(users::delete)),
        ("users/{user}/permissions", users.get(permissions::list)),
        ("users/{user}/topic-permissions", users.get(permissions::list_topics)),
        ("vhosts/{vhost}/permissions", users.get(permissions::list)),
        ("vhosts/{vhost}/topic-permissions", users.get(permissions::list_topics)),
        ("permissions", users.get(permissions::list)),
        (
            "permissions/{vhost}/{user}",
            users.get(permissions::show).put(permissions::put).delete(permissions::delete),
        ),
        ("topic-permissions", users.get(permissions::list_topics)),
        (
            "topic-permissions/{vhost}/{user}",
            users
                .get(permissions::show_topics)
                .put(permissions::put_topics)
                .delete(permissions::delete_topics),
        ),
        (
            "topic-permissions/{vhost}/{user}/{exchange}",
            users.get(permissions::show_topics).delete(permissions::delete_topics),
        ),
        ("user-limits", Resource::of(Tag::Management).get(users::list_limits)),
        ("user-limits/{user}", Resource::of(Tag::Management).get(users::list_limits)),
        ("user-limits/{user}/{name}", users.put(users::put_limit).delete(users::delete_limit)),
        ("auth/hash_password/{password}", users.get(users::hash_password)),
    ]
}

fn of_settings() -> Vec<(&'static str, Resource)> {
    use Tag::{Administrator, Management, Policymaker};
    let (all, settings) = (Resource::of(Administrator), Resource::of(Policymaker));
    vec![
        ("definitions", all.long().takes_large().get(definitions::show).post(definitions::add)),
        ("all-configuration", all.long().takes_large().get(definitions::show).post(definitions::add)),
        (
            "definitions/{vhost}",
            all.long().takes_large().get(definitions::show_vhost).post(definitions::add_to_vhost),
        ),
        ("parameters", settings.get(parameters::list)),
        ("parameters/{component}", settings.get(parameters::list)),
        ("parameters/{component}/{vhost}", settings.get(parameters::list)),
        (
            "parameters/{component}/{vhost}/{name}",
            settings.get(parameters::show).put(parameters::put).delete(parameters::delete),
        ),
        ("global-parameters", settings.get(parameters::list_global)),
        (
            "global-parameters/{name}",
            settings
                .get(parameters::show_global)
                .put(parameters::put_global)
                .delete(parameters::delete_global),
        ),
        ("vhosts/{vhost}/deletion/protection", all.post(vhosts::protect).delete(vhosts::unprotect)),
        ("vhosts/{vhost}/start/{node}", all.post(vhosts::start)),
        ("vhost-limits", Resource::of(Management).get(vhosts::list_limits)),
        ("vhost-limits/{vhost}", Resource::of(Management).get(vhosts::list_limits)),
        ("vhost-limits/{vhost}/{name}", all.put(vhosts::put_limit).delete(vhosts::delete_limit)),
    ]
}
