//! Every listing: what it is called, where in the API its rows are, and its columns with their places in a row.
//! A new column is a line here and nothing elsewhere.

use crate::output::Shape;

/// A column of a listing.
#[derive(Debug)]
pub(crate) struct Column {
    /// Its name on the command line and in the header.
    pub(crate) name: &'static str,
    /// Where its value is in a row.
    pub(crate) source: Source,
    /// How the value is shown.
    pub(crate) shape: Shape,
}

/// Where a value comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A pointer into the row (RFC 6901).
    At(&'static str),
    /// It is the same in every row.
    Always(&'static str),
}

/// A listing of rows of one kind.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The verb.
    pub(crate) verb: &'static str,
    /// What it is for.
    pub(crate) about: &'static str,
    /// What is announced; `{vhost}` and `{user}` stand for what was given.
    pub(crate) banner: &'static str,
    /// Its path below `/api`, with the same places, escaped.
    pub(crate) path: &'static str,
    /// Rows of other vhosts are in it and left out.
    pub(crate) has_all_vhosts: bool,
    /// COMPAT: RabbitMQ prints its rows as they come: the wait is announced if it is for queues, and no header comes
    /// without a row.
    pub(crate) is_streamed: bool,
    /// Its columns.
    pub(crate) columns: &'static [Column],
    /// Those that are shown where none is named: the first so many.
    pub(crate) shown: usize,
    /// Columns may be named on the command line.
    pub(crate) takes_columns: bool,
    /// COMPAT: one listing of RabbitMQ has no header but in formats for programs.
    pub(crate) has_header: bool,
}

const fn column(name: &'static str, pointer: &'static str) -> Column {
    Column { name, source: Source::At(pointer), shape: Shape::Plain }
}

const fn shaped(name: &'static str, pointer: &'static str, shape: Shape) -> Column {
    Column { name, source: Source::At(pointer), shape }
}

/// All listings.
pub(crate) const LISTINGS: [&Listing; 18] = [
    &QUEUES,
    &EXCHANGES,
    &BINDINGS,
    &CONNECTIONS,
    &CHANNELS,
    &CONSUMERS,
    &USERS,
    &VHOSTS,
    &PERMISSIONS,
    &USER_PERMISSIONS,
    &TOPIC_PERMISSIONS,
    &USER_TOPIC_PERMISSIONS,
    &POLICIES,
    &OPERATOR_POLICIES,
    &PARAMETERS,
    &GLOBAL_PARAMETERS,
    &FEATURE_FLAGS,
    &DEPRECATED_FEATURES,
];

/// What those have in common that list all of something, with columns to choose from.
const CHOICE: Listing = Listing {
    verb: "",
    about: "",
    banner: "",
    path: "",
    has_all_vhosts: false,
    is_streamed: true,
    columns: &[],
    shown: 0,
    takes_columns: true,
    has_header: true,
};

/// What those have in common that always show the same columns.
const FIXED: Listing = Listing { is_streamed: false, takes_columns: false, ..CHOICE };

/// `list_queues`.
pub(crate) const QUEUES: Listing = Listing {
    verb: "list_queues",
    about: "Lists queues and their properties",
    banner: "Listing queues for vhost {vhost} ...",
    path: "queues/{vhost}",
    shown: 2,
    columns: &[
        column("name", "/name"),
        column("messages", "/messages"),
        column("durable", "/durable"),
        column("auto_delete", "/auto_delete"),
        shaped("arguments", "/arguments", Shape::Arguments),
        column("policy", "/policy"),
        column("operator_policy", "/operator_policy"),
        shaped("effective_policy_definition", "/effective_policy_definition", Shape::Pairs),
        // COMPAT: the API knows no processes; a connection goes by its name.
        Column { name: "pid", source: Source::Always(""), shape: Shape::Plain },
        shaped("owner_pid", "/owner_pid_details/name", Shape::Process),
        column("exclusive", "/exclusive"),
        Column { name: "exclusive_consumer_pid", source: Source::Always(""), shape: Shape::Plain },
        column("exclusive_consumer_tag", "/exclusive_consumer_tag"),
        column("messages_ready", "/messages_ready"),
        column("messages_unacknowledged", "/messages_unacknowledged"),
        column("messages_ready_ram", "/messages_ready_ram"),
        column("messages_unacknowledged_ram", "/messages_unacknowledged_ram"),
        column("messages_ram", "/messages_ram"),
        column("messages_persistent", "/messages_persistent"),
        column("message_bytes", "/message_bytes"),
        column("message_bytes_ready", "/message_bytes_ready"),
        column("message_bytes_unacknowledged", "/message_bytes_unacknowledged"),
        column("message_bytes_ram", "/message_bytes_ram"),
        column("message_bytes_persistent", "/message_bytes_persistent"),
        column("head_message_timestamp", "/head_message_timestamp"),
        column("disk_reads", "/message_stats/disk_reads"),
        column("disk_writes", "/message_stats/disk_writes"),
        column("consumers", "/consumers"),
        column("consumer_utilisation", "/consumer_utilisation"),
        column("consumer_capacity", "/consumer_capacity"),
        column("memory", "/memory"),
        // COMPAT: what scripts for mirrored queues of 3.x ask for; there are none.
        Column { name: "slave_pids", source: Source::Always(""), shape: Shape::Plain },
        Column { name: "synchronised_slave_pids", source: Source::Always(""), shape: Shape::Plain },
        column("state", "/state"),
        column("type", "/type"),
        column("leader", "/leader"),
        shaped("members", "/members", Shape::Words),
        shaped("online", "/online", Shape::Words),
    ],
    ..CHOICE
};

/// `list_exchanges`.
pub(crate) const EXCHANGES: Listing = Listing {
    verb: "list_exchanges",
    about: "Lists exchanges",
    banner: "Listing exchanges for vhost {vhost} ...",
    path: "exchanges/{vhost}",
    shown: 2,
    columns: &[
        column("name", "/name"),
        column("type", "/type"),
        column("durable", "/durable"),
        column("auto_delete", "/auto_delete"),
        column("internal", "/internal"),
        shaped("arguments", "/arguments", Shape::Arguments),
        column("policy", "/policy"),
    ],
    ..CHOICE
};

/// `list_bindings`.
pub(crate) const BINDINGS: Listing = Listing {
    verb: "list_bindings",
    about: "Lists all bindings in a vhost",
    banner: "Listing bindings for vhost {vhost}...",
    path: "bindings/{vhost}",
    shown: 6,
    columns: &[
        column("source_name", "/source"),
        Column { name: "source_kind", source: Source::Always("exchange"), shape: Shape::Plain },
        column("destination_name", "/destination"),
        column("destination_kind", "/destination_type"),
        column("routing_key", "/routing_key"),
        shaped("arguments", "/arguments", Shape::Arguments),
        column("vhost", "/vhost"),
    ],
    ..CHOICE
};

/// `list_connections`.
pub(crate) const CONNECTIONS: Listing = Listing {
    verb: "list_connections",
    about: "Lists AMQP connections",
    banner: "Listing connections ...",
    path: "connections",
    shown: 4,
    columns: &[
        column("user", "/user"),
        column("peer_host", "/peer_host"),
        column("peer_port", "/peer_port"),
        column("state", "/state"),
        // COMPAT: the API knows no processes; close_connection takes the name.
        shaped("pid", "/name", Shape::Process),
        column("name", "/name"),
        column("user_provided_name", "/user_provided_name"),
        column("node", "/node"),
        column("port", "/port"),
        column("host", "/host"),
        column("ssl", "/ssl"),
        column("ssl_protocol", "/ssl_protocol"),
        column("ssl_key_exchange", "/ssl_key_exchange"),
        column("ssl_cipher", "/ssl_cipher"),
        column("ssl_hash", "/ssl_hash"),
        column("peer_cert_subject", "/peer_cert_subject"),
        column("peer_cert_issuer", "/peer_cert_issuer"),
        column("peer_cert_serial_number", "/peer_cert_serial_number"),
        column("peer_cert_validity", "/peer_cert_validity"),
        column("channels", "/channels"),
        shaped("protocol", "/protocol", Shape::Protocol),
        column("auth_mechanism", "/auth_mechanism"),
        column("vhost", "/vhost"),
        column("container_id", "/container_id"),
        column("timeout", "/timeout"),
        column("frame_max", "/frame_max"),
        column("channel_max", "/channel_max"),
        shaped("client_properties", "/client_properties", Shape::Arguments),
        column("recv_oct", "/recv_oct"),
        column("recv_cnt", "/recv_cnt"),
        column("send_oct", "/send_oct"),
        column("send_cnt", "/send_cnt"),
        column("send_pend", "/send_pend"),
        column("connected_at", "/connected_at"),
    ],
    ..CHOICE
};

/// `list_channels`.
pub(crate) const CHANNELS: Listing = Listing {
    verb: "list_channels",
    about: "Lists all channels",
    banner: "Listing channels ...",
    path: "channels",
    shown: 4,
    columns: &[
        shaped("pid", "/name", Shape::Process),
        column("user", "/user"),
        column("consumer_count", "/consumer_count"),
        column("messages_unacknowledged", "/messages_unacknowledged"),
        shaped("connection", "/connection_details/name", Shape::Process),
        column("name", "/name"),
        column("number", "/number"),
        column("vhost", "/vhost"),
        column("transactional", "/transactional"),
        column("confirm", "/confirm"),
        column("messages_uncommitted", "/messages_uncommitted"),
        column("acks_uncommitted", "/acks_uncommitted"),
        column("messages_unconfirmed", "/messages_unconfirmed"),
        column("prefetch_count", "/prefetch_count"),
        column("global_prefetch_count", "/global_prefetch_count"),
        column("state", "/state"),
    ],
    ..CHOICE
};

/// `list_consumers`.
pub(crate) const CONSUMERS: Listing = Listing {
    verb: "list_consumers",
    about: "Lists all consumers of a vhost",
    banner: "Listing consumers in vhost {vhost} ...",
    path: "consumers/{vhost}",
    shown: 7,
    columns: &[
        column("queue_name", "/queue/name"),
        shaped("channel_pid", "/channel_details/name", Shape::Process),
        column("consumer_tag", "/consumer_tag"),
        column("ack_required", "/ack_required"),
        column("prefetch_count", "/prefetch_count"),
        column("active", "/active"),
        shaped("arguments", "/arguments", Shape::Arguments),
        column("activity_status", "/activity_status"),
    ],
    ..CHOICE
};

const USERS: Listing = Listing {
    verb: "list_users",
    about: "Lists users and their tags",
    banner: "Listing users ...",
    path: "users",
    shown: 2,
    columns: &[column("user", "/name"), shaped("tags", "/tags", Shape::Words)],
    ..FIXED
};

const VHOSTS: Listing = Listing {
    verb: "list_vhosts",
    about: "Lists virtual hosts",
    banner: "Listing vhosts ...",
    path: "vhosts",
    shown: 1,
    columns: &[
        column("name", "/name"),
        column("description", "/description"),
        shaped("tags", "/tags", Shape::Words),
        column("default_queue_type", "/default_queue_type"),
        column("protected_from_deletion", "/protected_from_deletion"),
        column("tracing", "/tracing"),
        shaped("cluster_state", "/cluster_state", Shape::States),
        shaped("metadata", "/metadata", Shape::Pairs),
    ],
    ..CHOICE
};

/// `list_permissions`.
pub(crate) const PERMISSIONS: Listing = Listing {
    verb: "list_permissions",
    about: "Lists the permissions of users in a vhost",
    banner: "Listing permissions for vhost \"{vhost}\" ...",
    path: "vhosts/{vhost}/permissions",
    shown: 4,
    columns: &[
        column("user", "/user"),
        column("configure", "/configure"),
        column("write", "/write"),
        column("read", "/read"),
    ],
    ..FIXED
};

const USER_PERMISSIONS: Listing = Listing {
    verb: "list_user_permissions",
    about: "Lists the permissions of a user in all vhosts",
    banner: "Listing permissions for user \"{user}\" ...",
    path: "users/{user}/permissions",
    shown: 4,
    columns: &[
        column("vhost", "/vhost"),
        column("configure", "/configure"),
        column("write", "/write"),
        column("read", "/read"),
    ],
    ..FIXED
};

const TOPIC_PERMISSIONS: Listing = Listing {
    verb: "list_topic_permissions",
    about: "Lists the permissions of users for routing keys in a vhost",
    banner: "Listing topic permissions for vhost \"{vhost}\" ...",
    path: "vhosts/{vhost}/topic-permissions",
    shown: 4,
    columns: &[
        column("user", "/user"),
        column("exchange", "/exchange"),
        column("write", "/write"),
        column("read", "/read"),
    ],
    ..FIXED
};

const USER_TOPIC_PERMISSIONS: Listing = Listing {
    verb: "list_user_topic_permissions",
    about: "Lists the permissions of a user for routing keys in all vhosts",
    banner: "Listing topic permissions for user \"{user}\" ...",
    path: "users/{user}/topic-permissions",
    shown: 4,
    has_header: false,
    columns: &[
        column("vhost", "/vhost"),
        column("exchange", "/exchange"),
        column("write", "/write"),
        column("read", "/read"),
    ],
    ..FIXED
};

const POLICY_COLUMNS: &[Column] = &[
    column("vhost", "/vhost"),
    column("name", "/name"),
    column("pattern", "/pattern"),
    column("apply-to", "/apply-to"),
    shaped("definition", "/definition", Shape::JsonText),
    column("priority", "/priority"),
];

/// `list_policies`.
pub(crate) const POLICIES: Listing = Listing {
    verb: "list_policies",
    about: "Lists the policies of a vhost",
    banner: "Listing policies for vhost \"{vhost}\" ...",
    path: "policies/{vhost}",
    shown: 6,
    columns: POLICY_COLUMNS,
    ..FIXED
};

/// `list_operator_policies`.
pub(crate) const OPERATOR_POLICIES: Listing = Listing {
    verb: "list_operator_policies",
    about: "Lists the operator policies of a vhost",
    banner: "Listing operator policy overrides for vhost \"{vhost}\" ...",
    path: "operator-policies/{vhost}",
    shown: 6,
    columns: POLICY_COLUMNS,
    ..FIXED
};

/// `list_parameters`.
pub(crate) const PARAMETERS: Listing = Listing {
    verb: "list_parameters",
    about: "Lists the runtime parameters of a vhost",
    banner: "Listing runtime parameters for vhost \"{vhost}\" ...",
    path: "parameters",
    has_all_vhosts: true,
    shown: 3,
    columns: &[
        column("component", "/component"),
        column("name", "/name"),
        shaped("value", "/value", Shape::JsonText),
    ],
    ..FIXED
};

/// `list_global_parameters`.
pub(crate) const GLOBAL_PARAMETERS: Listing = Listing {
    verb: "list_global_parameters",
    about: "Lists the runtime parameters of the broker",
    banner: "Listing global runtime parameters ...",
    path: "global-parameters",
    shown: 2,
    columns: &[column("name", "/name"), shaped("value", "/value", Shape::JsonText)],
    ..FIXED
};

const FEATURE_FLAGS: Listing = Listing {
    verb: "list_feature_flags",
    about: "Lists feature flags",
    banner: "Listing feature flags ...",
    path: "feature-flags",
    shown: 2,
    is_streamed: false,
    columns: &[
        column("name", "/name"),
        column("state", "/state"),
        column("stability", "/stability"),
        column("provided_by", "/provided_by"),
        column("desc", "/desc"),
        column("doc_url", "/doc_url"),
    ],
    ..CHOICE
};

const DEPRECATED_FEATURES: Listing = Listing {
    verb: "list_deprecated_features",
    about: "Lists what RabbitMQ is about to give up",
    banner: "Listing deprecated features ...",
    path: "deprecated-features",
    shown: 3,
    is_streamed: false,
    columns: &[
        column("name", "/name"),
        column("deprecation_phase", "/deprecation_phase"),
        column("state", "/state"),
        column("provided_by", "/provided_by"),
        column("desc", "/desc"),
        column("doc_url", "/doc_url"),
    ],
    ..CHOICE
};

#[test]
fn no_listing_has_a_column_twice() {
    for listing in LISTINGS {
        let mut names: Vec<&str> = listing.columns.iter().map(|column| column.name).collect();
        names.sort_unstable();
        let columns = names.len();
        names.dedup();
        assert_eq!(names.len(), columns, "{}", listing.verb);
        assert!(listing.shown >= 1 && listing.shown <= columns, "{}", listing.verb);
    }
}
