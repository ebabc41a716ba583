//! What pages there are, and in which form.

use std::io::Read as _;

use flate2::read::GzDecoder;

use crate::scrape::Scraped;
use crate::text::Page;

/// What the official dashboard of RabbitMQ's overview asks for.
const DASHBOARD: [&str; 45] = [
    "rabbitmq_identity_info",
    "rabbitmq_build_info",
    "rabbitmq_erlang_uptime_seconds",
    "rabbitmq_channels",
    "rabbitmq_channels_opened_total",
    "rabbitmq_channels_closed_total",
    "rabbitmq_connections",
    "rabbitmq_connections_opened_total",
    "rabbitmq_connections_closed_total",
    "rabbitmq_queues",
    "rabbitmq_queues_created_total",
    "rabbitmq_queues_declared_total",
    "rabbitmq_queues_deleted_total",
    "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked",
    "rabbitmq_global_consumers",
    "rabbitmq_global_publishers",
    "rabbitmq_global_messages_received_total",
    "rabbitmq_global_messages_received_confirm_total",
    "rabbitmq_global_messages_routed_total",
    "rabbitmq_global_messages_confirmed_total",
    "rabbitmq_global_messages_unroutable_dropped_total",
    "rabbitmq_global_messages_unroutable_returned_total",
    "rabbitmq_global_messages_delivered_total",
    "rabbitmq_global_messages_delivered_consume_manual_ack_total",
    "rabbitmq_global_messages_delivered_consume_auto_ack_total",
    "rabbitmq_global_messages_delivered_get_manual_ack_total",
    "rabbitmq_global_messages_delivered_get_auto_ack_total",
    "rabbitmq_global_messages_get_empty_total",
    "rabbitmq_global_messages_redelivered_total",
    "rabbitmq_global_messages_acknowledged_total",
    "rabbitmq_disk_space_available_bytes",
    "rabbitmq_disk_space_available_limit_bytes",
    "rabbitmq_process_max_fds",
    "rabbitmq_process_open_fds",
    "rabbitmq_process_resident_memory_bytes",
    "rabbitmq_resident_memory_limit_bytes",
    "rabbitmq_message_size_bytes_bucket",
    "rabbitmq_message_size_bytes_count",
    "rabbitmq_message_size_bytes_sum",
    "rabbitmq_global_messages_dead_lettered_confirmed_total",
    "rabbitmq_global_messages_dead_lettered_delivery_limit_total",
    "rabbitmq_global_messages_dead_lettered_expired_total",
    "rabbitmq_global_messages_dead_lettered_maxlen_total",
    "rabbitmq_global_messages_dead_lettered_rejected_total",
];

#[test]
fn the_official_dashboard_finds_every_metric_with_its_labels() {
    let scraped = Scraped::start();
    let page = scraped.page("/metrics");
    for name in DASHBOARD {
        assert!(page.series(name).next().is_some(), "no series of {name}");
    }
    for bound in ["100.0", "1000.0", "10000.0", "100000.0", "1e+06", "1e+07", "5e+07", "1e+08", "+Inf"] {
        page.value(&format!("rabbitmq_message_size_bytes_bucket{{le=\"{bound}\"}}"));
    }
    for queue_type in ["rabbit_classic_queue", "rabbit_quorum_queue"] {
        page.value(&format!(
            "rabbitmq_global_messages_delivered_total{{protocol=\"amqp091\",queue_type=\"{queue_type}\"}}"
        ));
    }
    page.value("rabbitmq_global_messages_received_total{protocol=\"amqp091\"}");
    let (identity, one) = page.series("rabbitmq_identity_info").next().expect("there is an identity");
    assert!(one == 1.0 && identity.contains("rabbitmq_endpoint=\"aggregated\""), "{identity}");
    assert!(identity.contains("rabbitmq_node=\"leveret@"), "{identity}");
    assert_eq!(page.types["rabbitmq_identity_info"], "untyped");
    assert_eq!(page.value("rabbitmq_alarms_memory_used_watermark"), 0.0);
    assert_eq!(page.value("rabbitmq_alarms_free_disk_space_watermark"), 0.0);
    assert!(page.value("rabbitmq_process_resident_memory_bytes") > 1e6);
    assert!(page.value("rabbitmq_process_open_fds") > 3.0);
}

#[test]
fn each_page_says_which_it_is_and_others_are_not_found() {
    let scraped = Scraped::start();
    for (path, name) in [
        ("/metrics/per-object", "per-object"),
        ("/metrics/detailed", "detailed"),
        ("/metrics/memory-breakdown", "memory-breakdown"),
    ] {
        let page = scraped.page(path);
        let (identity, _) = page.series("rabbitmq_identity_info").next().expect("there is an identity");
        assert!(identity.contains(&format!("rabbitmq_endpoint=\"{name}\"")), "{identity}");
    }
    let memory = scraped.page("/metrics/memory-breakdown");
    assert!(memory.value("rabbitmq_memory_other_system_bytes") > 1e6);
    let unknown = scraped.ask("GET", "/metrics/nothing", "");
    assert_eq!((unknown.status, unknown.text().as_str()), (404, "Unknown Registry"));
    assert_eq!(scraped.ask("GET", "/", "").status, 404);
    assert_eq!(scraped.ask("POST", "/metrics", "Content-Length: 0\r\n").status, 405);
    let head = scraped.ask("HEAD", "/metrics", "");
    assert!(head.status == 200 && head.body.is_empty(), "{}", head.head);
}

#[test]
fn a_page_is_compressed_for_whoever_takes_that() {
    let scraped = Scraped::start();
    let zipped = scraped.ask("GET", "/metrics", "Accept-Encoding: deflate, gzip;q=0.5\r\n");
    assert!(zipped.head.contains("content-encoding: gzip"), "{}", zipped.head);
    let mut text = String::new();
    GzDecoder::new(&*zipped.body).read_to_string(&mut text).expect("it is gzip");
    assert!(Page::read(&text).values.len() > 100);
    for refuses in ["Accept-Encoding: gzip;q=0\r\n", "Accept-Encoding: br\r\n", ""] {
        let plain = scraped.ask("GET", "/metrics", refuses);
        assert!(!plain.head.contains("content-encoding"), "{}", plain.head);
        Page::read(&plain.text());
    }
}

#[test]
fn a_query_that_cannot_be_read_is_refused() {
    let scraped = Scraped::start();
    for large in ["(.%7B1000%7D)%7B1000%7D", &"x".repeat(1025)] {
        let path = format!("/metrics/detailed?family=queue_metrics&queue={large}");
        assert_eq!(scraped.ask("GET", &path, "").status, 400, "{large}");
    }
    // The last one counts, and the others are not looked at.
    let many = format!("/metrics/detailed?family=queue_metrics{}&queue=q", "&queue=%28".repeat(200));
    scraped.page(&many);
    let refused = scraped.ask("GET", "/metrics/detailed?family=queue_metrics&queue=%28", "");
    assert_eq!(refused.status, 400, "{}", refused.text());
    // Families that are not there are empty.
    let empty = scraped.page("/metrics/detailed?family=ra_metrics&other=x");
    assert!(empty.types.keys().all(|name| name.ends_with("_info")), "{:?}", empty.types);
}
