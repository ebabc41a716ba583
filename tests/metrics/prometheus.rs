//! Prometheus itself: its checker reads the pages, and the real one scrapes the broker.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::scrape::Scraped;
use crate::support::{PROGRAM_MAX, Running, installed, root_dir, tool};

#[test]
fn promtool_reads_every_page() {
    if !installed("promtool", "promtool", "--version") {
        return;
    }
    let scraped = Scraped::start();
    for path in ["/metrics", "/metrics/per-object", "/metrics/memory-breakdown"] {
        let text = scraped.ask("GET", path, "").text();
        let mut promtool = Command::new("promtool");
        promtool
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut promtool = promtool.spawn().expect("promtool starts");
        let mut input = promtool.stdin.take().expect("stdin is piped");
        input.write_all(text.as_bytes()).expect("promtool reads");
        drop(input);
        let ended = promtool.wait_with_output().expect("promtool ends");
        let said = String::from_utf8_lossy(&ended.stderr);
        // What it would have named otherwise are RabbitMQ's names.
        assert!(ended.status.code().is_some_and(|code| code == 0 || code == 3), "{path}: {said}");
        assert!(said.lines().all(|line| !line.contains("leveret_")), "{path}: {said}");
    }
}

#[test]
fn a_real_prometheus_scrapes_the_broker() {
    if !installed("Prometheus", "prometheus", "--version") {
        return;
    }
    let scraped = Scraped::start();
    let folder = crate::support::unique_dir("prometheus");
    fs::create_dir_all(&folder).expect("a folder can be made");
    // The configuration that is shipped, but for the address.
    let shipped = root_dir().join("docker/prometheus/prometheus.yml");
    let config = fs::read_to_string(shipped).expect("the configuration is there");
    assert!(config.contains("leveret:15692"));
    let config = config.replace("leveret:15692", &format!("127.0.0.1:{}", scraped.port));
    let path = folder.join("prometheus.yml");
    fs::write(&path, config.replace("15s", "1s").replace("10s", "1s")).expect("it can be written");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = free.expect("there is a free port").port();
    let mut prometheus = tool("prometheus");
    prometheus
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let mut prometheus = Running::spawn(prometheus);
    let other = Scraped { port, ..scraped };
    let deadline = Instant::now() + PROGRAM_MAX;
    let query = "/api/v1/query?query=rabbitmq_connections%20*%20on(instance,job)\
                 %20group_left(rabbitmq_cluster)%20rabbitmq_identity_info";
    loop {
        let answers = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let answer = answers.then(|| other.ask("GET", query, "Connection: close\r\n").text());
        if answer.as_ref().is_some_and(|answer| answer.contains("\"rabbitmq_cluster\":\"leveret@")) {
            break;
        }
        assert!(Instant::now() < deadline, "{answer:?}\n{}", prometheus.output());
        std::thread::sleep(Duration::from_millis(100));
    }
    prometheus.kill();
    let _ = fs::remove_dir_all(folder);
}
