//! What listings show, and in which form they are asked for.

use serde_json::{Value, json};

use crate::amqp::Client;
use crate::http::Api;

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect()
}

#[test]
fn columns_order_and_pages_are_as_asked() {
    let api = Api::start();
    for number in 0..25 {
        let body = format!(r#"{{"arguments":{{"x-max-length":{}}}}}"#, 100 - number);
        api.expect(201, "PUT", &format!("queues/%2F/q{number:02}"), Some(&body));
    }
    let listed = api.fetch("queues?columns=name,arguments.x-max-length");
    assert_eq!(listed.as_array().map(Vec::len), Some(25));
    assert_eq!(listed[0], json!({ "name": "q00", "arguments": { "x-max-length": 100 } }));
    let sorted = api.fetch("queues?sort=arguments.x-max-length&columns=name");
    assert_eq!(names(&sorted)[0], "q24");
    let reversed = api.fetch("queues?sort=name&sort_reverse=true&columns=name");
    assert_eq!(names(&reversed)[0], "q24");
    let page = api.fetch("queues?page=3&page_size=10&columns=name");
    let count = |key: &str| page[key].as_u64().expect("a number");
    assert_eq!(
        (count("total_count"), count("filtered_count"), count("item_count"), count("page_count")),
        (25, 25, 5, 3)
    );
    assert_eq!(names(&page["items"]), ["q20", "q21", "q22", "q23", "q24"]);
    let filtered = api.fetch("queues?page=1&name=^q1[0-2]$&use_regex=true&columns=name");
    assert_eq!((&filtered["filtered_count"], &filtered["total_count"]), (&json!(3), &json!(25)));
    let found = api.fetch("queues?page=1&name=Q2&columns=name");
    assert_eq!(names(&found["items"]), ["q20", "q21", "q22", "q23", "q24"]);
    let none = api.fetch("queues?page=1&name=none");
    assert_eq!((&none["page_count"], &none["items"]), (&json!(0), &json!([])));
    // What is equal is turned round too, and what is not there is equal.
    let unknown = api.fetch("queues?sort=nosuch&sort_reverse=true&columns=name");
    assert_eq!((names(&unknown)[0], names(&unknown)[24]), ("q24", "q00"));
    let packed = api.request_with("GET", "queues", None, "Accept-Encoding: gzip\r\n");
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.starts_with(&[0x1F, 0x8B]));
    assert_eq!(packed.header("cache-control"), Some("no-cache"));
}

#[test]
fn what_a_client_does_is_listed_counted_and_can_be_ended() {
    let api = Api::start();
    let client = Client::connect(api.amqp_port);
    client.use_once();
    let connections = api.fetch("connections");
    assert_eq!(connections[0]["user_provided_name"], "the shape of things");
    assert_eq!(connections[0]["channels"], 1);
    let channels = api.fetch("channels");
    assert_eq!((&channels[0]["consumer_count"], &channels[0]["prefetch_count"]), (&json!(1), &json!(5)));
    assert_eq!(channels[0]["message_stats"]["publish"], 3);
    assert_eq!(channels[0]["message_stats"]["drop_unroutable"], 1);
    let consumers = api.fetch("consumers");
    assert_eq!(
        (&consumers[0]["consumer_tag"], &consumers[0]["queue"]["name"]),
        (&json!("tag"), &json!("shapes"))
    );
    let queue = api.fetch("queues/%2F/shapes");
    assert_eq!((&queue["messages"], &queue["messages_unacknowledged"]), (&json!(1), &json!(1)));
    assert_eq!((&queue["message_bytes"], &queue["message_stats"]["deliver_get"]), (&json!(10), &json!(1)));
    assert_eq!(queue["consumer_details"][0]["consumer_tag"], "tag");
    let mine = api.fetch("queues/%2F/mine");
    assert_eq!(mine["owner_pid_details"]["name"], connections[0]["name"]);
    api.expect(400, "DELETE", "queues/%2F/mine", None);
    let exchange = api.fetch("exchanges/%2F/shapes.topic");
    assert_eq!(exchange["message_stats"]["publish_in"], 1);
    let totals = &api.fetch("overview")["object_totals"];
    assert_eq!(
        *totals,
        json!({ "connections": 1, "channels": 1, "consumers": 1, "exchanges": 8, "queues": 3 })
    );
    // Two samples, and what was published between them.
    api.wait_for("overview?msg_rates_age=60&msg_rates_incr=5", "a rate", |overview| {
        client.use_once();
        let details = &overview["message_stats"]["publish_details"];
        let samples = details["samples"].as_array().map_or(0, Vec::len);
        samples >= 2 && details["rate"].as_f64().is_some_and(|rate| rate > 0.0)
    });
    let name = connections[0]["name"].as_str().expect("a name");
    let path = format!("connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
    assert_eq!(api.fetch(&format!("{path}/channels")).as_array().map(Vec::len), Some(1));
    let closed = api.request_with("DELETE", &path, None, "X-Reason: for the test\r\n");
    assert_eq!(closed.status, 204);
    api.wait_for("connections", "the end of the connection", |list| *list == json!([]));
    client.wait_until_closed();
    api.expect(404, "DELETE", &path, None);
}

#[test]
fn checks_say_what_is_well_and_what_is_not() {
    let api = Api::start();
    for path in [
        "aliveness-test/%2F",
        "healthchecks/node",
        "health/checks/alarms",
        "health/checks/local-alarms",
        "health/checks/virtual-hosts",
        "health/checks/node-is-quorum-critical",
        "health/checks/is-in-service",
        "health/checks/certificate-expiration/1/months",
        "health/checks/protocol-listener/amqp091,http",
        "health/checks/quorum-queues-without-elected-leaders/all-vhosts",
        "health/checks/quorum-queues-without-elected-leaders/vhost/%2F/pattern/q",
        "health/checks/below-node-connection-limit",
    ] {
        assert_eq!(api.fetch(path)["status"], "ok", "{path}");
    }
    let port = format!("health/checks/port-listener/{}", api.amqp_port);
    assert_eq!(api.fetch(&port)["port"], api.amqp_port);
    let failed = api.expect(503, "GET", "health/checks/port-listener/1", None).json();
    assert_eq!((&failed["status"], &failed["missing"]), (&json!("failed"), &json!(1)));
    api.expect(503, "GET", "health/checks/protocol-listener/mqtt", None);
    api.expect(400, "GET", "health/checks/port-listener/x", None);
    for (period, reason) in [
        ("x/days", "Invalid expiration value."),
        ("1.5/days", "Invalid expiration value."),
        ("1/day", "Time unit not recognised. Supported units: days, weeks, months, years."),
    ] {
        let path = format!("health/checks/certificate-expiration/{period}");
        assert_eq!(api.expect(400, "GET", &path, None).reason(), reason);
    }
}

#[test]
fn paths_have_the_prefix_that_is_set_and_no_other() {
    let api = Api::start_with(&["--management-path-prefix", "/a/rabbit"]);
    let status = |path: &str| {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\n{}Connection: close\r\n\r\n", api.login_header());
        api.raw(head.as_bytes(), false)
    };
    let overview = status("/a/rabbit/api/overview");
    assert_eq!(overview.status, 200);
    assert_eq!(overview.json()["contexts"][0]["path"], "/a/rabbit");
    for path in ["/api/overview", "/rabbit/api/overview", "/a/rabbit/overview", "/a%2Frabbit/api/overview"] {
        assert_eq!(status(path).status, 404, "{path}");
    }
}

#[test]
fn pages_of_the_sites_that_are_named_may_use_the_api() {
    let api = Api::start_with(&["--management-cors-allow-origins", "http://a.example,https://b.example"]);
    let origin =
        |name: &str| format!("Origin: {name}\r\nAccess-Control-Request-Headers: authorization, x\r\n");
    let get = api.request_with("GET", "cluster-name", None, &origin("https://b.example"));
    assert_eq!(get.header("access-control-allow-origin"), Some("https://b.example"));
    assert_eq!(get.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(get.header("access-control-allow-methods"), None, "only who asks is told");
    assert!(get.header("vary").is_some_and(|vary| vary.contains("origin")));
    let ask = format!("OPTIONS /api/cluster-name HTTP/1.1\r\nHost: x\r\n{}\r\n", origin("http://a.example"));
    let asked = api.raw(ask.as_bytes(), false);
    assert_eq!((asked.status, asked.header("allow")), (200, Some("HEAD, GET, PUT, OPTIONS")));
    assert_eq!(asked.header("access-control-allow-origin"), Some("http://a.example"));
    assert_eq!(asked.header("access-control-allow-methods"), Some("HEAD, GET, PUT, OPTIONS"));
    assert_eq!(asked.header("access-control-allow-headers"), Some("authorization, x"));
    assert_eq!(asked.header("access-control-max-age"), Some("1800"));
    let refused =
        api.as_user("guest", "wrong").request_with("GET", "cluster-name", None, &origin("http://a.example"));
    assert_eq!(
        (refused.status, refused.header("access-control-allow-origin")),
        (401, Some("http://a.example"))
    );
    for other in ["http://c.example", "https://a.example", "http://a.example.org", "null"] {
        let answer = api.request_with("GET", "cluster-name", None, &origin(other));
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None), "{other}");
    }

    let open = Api::start_with(&["--management-cors-allow-origins", "*"]);
    let answer = open.request_with("GET", "cluster-name", None, &origin("http://c.example"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://c.example"));
    assert_eq!(answer.header("access-control-allow-credentials"), None, "no page has another's login");
    let closed = Api::start();
    let answer = closed.request_with("GET", "cluster-name", None, &origin("http://a.example"));
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn who_wants_no_numbers_gets_none_or_those_of_messages_alone() {
    let api = Api::start();
    api.expect(201, "PUT", "queues/%2F/q", Some("{}"));
    let shown = json!({
        "name": "q", "vhost": "/", "type": "classic", "durable": false, "auto_delete": false, "exclusive": false,
        "arguments": {}, "node": api.fetch("overview")["node"], "state": "running", "policy": null,
        "operator_policy": null, "effective_policy_definition": {},
    });
    assert_eq!(api.fetch("queues?disable_stats=true"), json!([shown]));
    assert_eq!(api.fetch("queues/%2F/q?disable_stats=true"), shown);
    let totals = api.fetch("queues?disable_stats=true&enable_queue_totals=true&columns=messages,memory");
    assert_eq!(totals, json!([{ "messages": 0 }]));
    let overview = api.fetch("overview?disable_stats=true");
    assert_eq!(overview["disable_stats"], true);
    assert!(overview.get("message_stats").is_none() && overview.get("queue_totals").is_none());
    let overview = api.fetch("overview?disable_stats=true&enable_queue_totals=true");
    assert_eq!(overview["queue_totals"]["messages"], 0);
    assert!(api.fetch("vhosts/%2F?disable_stats=true").get("messages").is_none());
}

#[test]
fn values_over_time_that_cannot_be_shown_are_refused() {
    let api = Api::start();
    for (query, reason) in [
        ("lengths_age=0&lengths_incr=5", "Invalid range parameters: age 0, incr 5"),
        ("msg_rates_age=60&msg_rates_incr=-1", "Invalid range parameters: age 60, incr -1"),
        ("data_rates_age=100000&data_rates_incr=1", "Invalid range parameters: age 100000, incr 1"),
    ] {
        assert_eq!(api.expect(400, "GET", &format!("overview?{query}"), None).reason(), reason);
    }
    for query in ["lengths_age=60", "lengths_age=x&lengths_incr=5", "lengths_age=500&lengths_incr=1"] {
        api.expect(200, "GET", &format!("overview?{query}"), None);
    }
}

#[test]
fn a_path_may_end_with_a_slash_and_a_header_may_name_no_vhost() {
    let api = Api::start();
    api.expect(201, "PUT", "queues/%2F/q", Some("null"));
    api.expect(204, "PUT", "queues/%2F/q/", None);
    for path in ["queues/", "queues/%2F/", "queues/%2F/q/", "overview/", "exchanges/%2F/", "vhosts/%2F/"] {
        api.expect(200, "GET", path, None);
    }
    api.expect(404, "GET", "queues//", None);
    api.expect(405, "PUT", "queues/%2F/", Some("{}"));
    let listed = |header: &str| api.request_with("GET", "queues?columns=name", None, header);
    assert_eq!(listed("X-Vhost: \r\n").json(), json!([{ "name": "q" }]));
    assert_eq!(listed("X-Vhost: none\r\n").status, 404);
    // Line breaks in names are dropped, as over AMQP.
    api.expect(204, "PUT", "queues/%2F/%0Aq%0D", Some("{}"));
    api.expect(201, "PUT", "exchanges/%2F/a%0Ae", Some("{}"));
    assert_eq!(api.fetch("exchanges/%2F/ae")["name"], "ae");
}
