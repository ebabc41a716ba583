//! Methods against literal octets of the specification: a sample of each class, and what is refused.

use super::{Method, MethodId, access, basic, channel, confirm, connection, exchange, queue, tx};
use crate::error::{DecodeError, DecodeErrorKind};
use crate::table::{FieldTable, FieldValue};

/// The octets are what the method is written as, and the method is what the octets are read as.
#[track_caller]
fn assert_wire(method: &Method<'_>, octets: &[u8]) {
    let mut written = Vec::new();
    method.encode(&mut written);
    assert_eq!(written, octets, "{} is written", method.name());
    assert_eq!(Method::decode(octets).as_ref(), Ok(method), "{} is read", method.name());
}

#[track_caller]
fn assert_refused(octets: &[u8], kind: DecodeErrorKind, offset: usize) {
    assert_eq!(Method::decode(octets), Err(DecodeError { kind, offset }));
}

#[test]
fn connection_start_carries_versions_table_and_two_long_strings() {
    let server_properties = FieldTable::new().with("product", "RabbitMQ");
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms: b"PLAIN AMQPLAIN",
        locales: b"en_US",
    };
    assert_wire(
        &Method::ConnectionStart(start),
        b"\0\x0a\0\x0a\0\x09\0\0\0\x15\x07productS\0\0\0\x08RabbitMQ\0\0\0\x0ePLAIN AMQPLAIN\0\0\0\x05en_US",
    );
}

#[test]
fn connection_start_ok_carries_the_sasl_response() {
    let start_ok = connection::StartOk {
        client_properties: FieldTable::new(),
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
    };
    assert_wire(
        &Method::ConnectionStartOk(start_ok),
        b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US",
    );
}

#[test]
fn connection_tune_open_and_close_match_the_specification() {
    assert_wire(
        &Method::ConnectionTuneOk(connection::TuneOk {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        }),
        b"\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\x3c",
    );
    assert_wire(&Method::ConnectionOpen(connection::Open { virtual_host: "/" }), b"\0\x0a\0\x28\x01/\0\0");
    assert_wire(&Method::ConnectionOpenOk(connection::OpenOk), b"\0\x0a\0\x29\0");
    assert_wire(
        &Method::ConnectionClose(connection::Close {
            reply_code: 320,
            reply_text: "CONNECTION_FORCED",
            class_id: 0,
            method_id: 0,
        }),
        b"\0\x0a\0\x32\x01\x40\x11CONNECTION_FORCED\0\0\0\0",
    );
    assert_wire(&Method::ConnectionCloseOk(connection::CloseOk), b"\0\x0a\0\x33");
}

#[test]
fn rabbitmqs_connection_extensions_match() {
    assert_wire(
        &Method::ConnectionBlocked(connection::Blocked { reason: "low on memory" }),
        b"\0\x0a\0\x3c\x0dlow on memory",
    );
    assert_wire(&Method::ConnectionUnblocked(connection::Unblocked), b"\0\x0a\0\x3d");
    assert_wire(
        &Method::ConnectionUpdateSecret(connection::UpdateSecret { new_secret: b"s3cret", reason: "expiry" }),
        b"\0\x0a\0\x46\0\0\0\x06s3cret\x06expiry",
    );
    assert_wire(&Method::ConnectionUpdateSecretOk(connection::UpdateSecretOk), b"\0\x0a\0\x47");
}

#[test]
fn channel_open_has_a_short_and_open_ok_a_long_reserved_string() {
    assert_wire(&Method::ChannelOpen(channel::Open), b"\0\x14\0\x0a\0");
    assert_wire(&Method::ChannelOpenOk(channel::OpenOk), b"\0\x14\0\x0b\0\0\0\0");
    assert_wire(&Method::ChannelFlow(channel::Flow { active: true }), b"\0\x14\0\x14\x01");
    assert_wire(
        &Method::ChannelClose(channel::Close {
            reply_code: 404,
            reply_text: "NOT_FOUND",
            class_id: 60,
            method_id: 40,
        }),
        b"\0\x14\0\x28\x01\x94\x09NOT_FOUND\0\x3c\0\x28",
    );
}

#[test]
fn access_request_packs_five_bits() {
    let request = access::Request {
        realm: "/data",
        exclusive: false,
        passive: true,
        active: true,
        write: true,
        read: true,
    };
    assert_wire(&Method::AccessRequest(request), b"\0\x1e\0\x0a\x05/data\x1e");
    assert_wire(&Method::AccessRequestOk(access::RequestOk { ticket: 1 }), b"\0\x1e\0\x0b\0\x01");
}

#[test]
fn exchange_declare_packs_passive_durable_auto_delete_internal_no_wait() {
    let declare = |passive, durable, auto_delete, internal, no_wait| {
        Method::ExchangeDeclare(exchange::Declare {
            exchange: "logs",
            exchange_type: "topic",
            passive,
            durable,
            auto_delete,
            internal,
            no_wait,
            arguments: FieldTable::new(),
        })
    };
    let octets = |bits| [b"\0\x28\0\x0a\0\0\x04logs\x05topic".as_slice(), &[bits], b"\0\0\0\0"].concat();
    assert_wire(&declare(true, false, false, false, false), &octets(1));
    assert_wire(&declare(false, true, false, false, false), &octets(2));
    assert_wire(&declare(false, false, true, false, false), &octets(4));
    assert_wire(&declare(false, false, false, true, false), &octets(8));
    assert_wire(&declare(false, false, false, false, true), &octets(16));
}

#[test]
fn exchange_unbind_ok_is_method_51() {
    assert_wire(&Method::ExchangeUnbindOk(exchange::UnbindOk), b"\0\x28\0\x33");
    assert_wire(&Method::ExchangeBindOk(exchange::BindOk), b"\0\x28\0\x1f");
    assert_wire(
        &Method::ExchangeUnbind(exchange::Unbind {
            destination: "d",
            source: "s",
            routing_key: "k",
            no_wait: true,
            arguments: FieldTable::new().with("x", FieldValue::Void),
        }),
        b"\0\x28\0\x28\0\0\x01d\x01s\x01k\x01\0\0\0\x03\x01xV",
    );
    assert_wire(
        &Method::ExchangeDelete(exchange::Delete { exchange: "e", if_unused: true, no_wait: true }),
        b"\0\x28\0\x14\0\0\x01e\x03",
    );
}

#[test]
fn queue_declare_packs_passive_durable_exclusive_auto_delete_no_wait() {
    let declare = |passive, durable, exclusive, auto_delete, no_wait| {
        Method::QueueDeclare(queue::Declare {
            queue: "q",
            passive,
            durable,
            exclusive,
            auto_delete,
            no_wait,
            arguments: FieldTable::new().with("x-max-length", 10),
        })
    };
    let octets = |bits| {
        [b"\0\x32\0\x0a\0\0\x01q".as_slice(), &[bits], b"\0\0\0\x12\x0cx-max-lengthI\0\0\0\x0a"].concat()
    };
    assert_wire(&declare(true, false, false, false, false), &octets(1));
    assert_wire(&declare(false, true, false, false, false), &octets(2));
    assert_wire(&declare(false, false, true, false, false), &octets(4));
    assert_wire(&declare(false, false, false, true, false), &octets(8));
    assert_wire(&declare(false, false, false, false, true), &octets(16));
}

#[test]
fn queue_methods_match_the_specification() {
    assert_wire(
        &Method::QueueDeclareOk(queue::DeclareOk { queue: "q", message_count: 3, consumer_count: 1 }),
        b"\0\x32\0\x0b\x01q\0\0\0\x03\0\0\0\x01",
    );
    assert_wire(
        &Method::QueueDelete(queue::Delete { queue: "q", if_unused: false, if_empty: true, no_wait: true }),
        b"\0\x32\0\x28\0\0\x01q\x06",
    );
    let unbind = queue::Unbind { queue: "q", exchange: "e", routing_key: "k", arguments: FieldTable::new() };
    assert_wire(&Method::QueueUnbind(unbind), b"\0\x32\0\x32\0\0\x01q\x01e\x01k\0\0\0\0");
}

#[test]
fn basic_methods_from_clients_match_the_specification() {
    assert_wire(
        &Method::BasicQos(basic::Qos { prefetch_size: 0, prefetch_count: 100, global: true }),
        b"\0\x3c\0\x0a\0\0\0\0\0\x64\x01",
    );
    let consume = basic::Consume {
        queue: "q",
        consumer_tag: "t",
        no_local: false,
        no_ack: true,
        exclusive: true,
        no_wait: false,
        arguments: FieldTable::new(),
    };
    assert_wire(&Method::BasicConsume(consume), b"\0\x3c\0\x14\0\0\x01q\x01t\x06\0\0\0\0");
    let publish = basic::Publish { exchange: "e", routing_key: "a.b", mandatory: true, immediate: false };
    assert_wire(&Method::BasicPublish(publish), b"\0\x3c\0\x28\0\0\x01e\x03a.b\x01");
    assert_wire(&Method::BasicGet(basic::Get { queue: "q", no_ack: true }), b"\0\x3c\0\x46\0\0\x01q\x01");
    assert_wire(
        &Method::BasicAck(basic::Ack { delivery_tag: 258, multiple: true }),
        b"\0\x3c\0\x50\0\0\0\0\0\0\x01\x02\x01",
    );
    assert_wire(
        &Method::BasicNack(basic::Nack { delivery_tag: 1, multiple: false, requeue: true }),
        b"\0\x3c\0\x78\0\0\0\0\0\0\0\x01\x02",
    );
    assert_wire(
        &Method::BasicReject(basic::Reject { delivery_tag: 1, requeue: true }),
        b"\0\x3c\0\x5a\0\0\0\0\0\0\0\x01\x01",
    );
}

#[test]
fn basic_methods_from_the_server_match_the_specification() {
    let deliver = basic::Deliver {
        consumer_tag: "t",
        delivery_tag: 7,
        redelivered: true,
        exchange: "",
        routing_key: "q",
    };
    assert_wire(&Method::BasicDeliver(deliver), b"\0\x3c\0\x3c\x01t\0\0\0\0\0\0\0\x07\x01\0\x01q");
    let back = basic::Return { reply_code: 312, reply_text: "NO_ROUTE", exchange: "e", routing_key: "k" };
    assert_wire(&Method::BasicReturn(back), b"\0\x3c\0\x32\x01\x38\x08NO_ROUTE\x01e\x01k");
    let get_ok = basic::GetOk {
        delivery_tag: 1,
        redelivered: false,
        exchange: "e",
        routing_key: "k",
        message_count: 9,
    };
    assert_wire(&Method::BasicGetOk(get_ok), b"\0\x3c\0\x47\0\0\0\0\0\0\0\x01\0\x01e\x01k\0\0\0\x09");
    assert_wire(&Method::BasicGetEmpty(basic::GetEmpty), b"\0\x3c\0\x48\0");
}

#[test]
fn confirm_and_tx_match() {
    assert_wire(&Method::ConfirmSelect(confirm::Select { no_wait: true }), b"\0\x55\0\x0a\x01");
    assert_wire(&Method::ConfirmSelectOk(confirm::SelectOk), b"\0\x55\0\x0b");
    assert_wire(&Method::TxSelect(tx::Select), b"\0\x5a\0\x0a");
    assert_wire(&Method::TxCommitOk(tx::CommitOk), b"\0\x5a\0\x15");
    assert_wire(&Method::TxRollback(tx::Rollback), b"\0\x5a\0\x1e");
}

#[test]
fn ticket_and_reserved_arguments_are_read_and_ignored() {
    let purge = Method::decode(b"\0\x32\0\x1e\x12\x34\x01q\0");
    assert_eq!(purge, Ok(Method::QueuePurge(queue::Purge { queue: "q", no_wait: false })));
    let open = Method::decode(b"\0\x0a\0\x28\x01/\x02\xff\xff\x01");
    assert_eq!(open, Ok(Method::ConnectionOpen(connection::Open { virtual_host: "/" })));
}

#[test]
fn offsets_count_from_the_beginning_of_the_payload() {
    assert_refused(b"", DecodeErrorKind::Truncated, 0);
    assert_refused(b"\0\x3c\0", DecodeErrorKind::Truncated, 2);
    assert_refused(b"\0\x3c\0\x28\0\0\x05ab", DecodeErrorKind::Truncated, 7);
    assert_refused(b"\0\x3c\0\x28\0\0\x02\xff\xfe\0\0", DecodeErrorKind::InvalidUtf8, 6);
    assert_refused(b"\0\x5a\0\x0a\0", DecodeErrorKind::TrailingOctets, 4);
    let id = MethodId::new(60, 999);
    assert_refused(b"\0\x3c\x03\xe7", DecodeErrorKind::UnknownMethod(id), 0);
    let declare = b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\x0b\x01aF\0\0\0\x04\x01b?\0";
    assert_refused(declare, DecodeErrorKind::UnknownFieldType(b'?'), 22);
}

#[test]
fn short_strings_that_are_too_long_are_cut_at_a_character() {
    let name = "é".repeat(200);
    let mut out = Vec::new();
    Method::ConnectionOpen(connection::Open { virtual_host: &name }).encode(&mut out);
    let expected = "é".repeat(127);
    assert_eq!(
        Method::decode(&out),
        Ok(Method::ConnectionOpen(connection::Open { virtual_host: &expected }))
    );
}

#[test]
fn ids_print_their_name_or_their_numbers() {
    assert_eq!(MethodId::EXCHANGE_UNBIND_OK.to_string(), "exchange.unbind-ok");
    assert_eq!(MethodId::CONNECTION_UPDATE_SECRET_OK.to_string(), "connection.update-secret-ok");
    assert_eq!(MethodId::NONE.to_string(), "0.0");
    assert_eq!(MethodId::NONE.name(), None);
}
