//! The process itself: signals under load, and starts that cannot succeed.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Ended, PROGRAM_MAX, Running, unique_dir};
use crate::target::Target;
use crate::wire::{End, Wire, publish_frames};

/// How long a broker may take to say goodbye to clients that answer.
const GOODBYE_MAX: Duration = Duration::from_secs(10);

#[test]
fn sigterm_under_load_says_320_to_everybody_and_exits_with_0() {
    let mut target = Target::start(&[]);
    let mut loads = Vec::new();
    for number in 0..6 {
        let mut wire = Wire::open(target.port);
        let queue = format!("load-{number}");
        wire.declare(&queue);
        wire.consume(&queue, true);
        let mut stream = wire.stream.try_clone().expect("the socket can be shared");
        let message = publish_frames(1, "", &queue, &[b'x'; 500]);
        let publisher = std::thread::spawn(move || while stream.write_all(&message).is_ok() {});
        assert_eq!(wire.delivery().body.len(), 500, "the load runs");
        loads.push((publisher, std::thread::spawn(move || wire.end())));
    }
    let start = Instant::now();
    target.broker.process().signal("TERM");
    for (publisher, reader) in loads {
        match reader.join().expect("the reader sees an end") {
            End::Close(320, text) => assert!(text.contains("shutdown"), "{text}"),
            other => panic!("{other:?}"),
        }
        publisher.join().expect("the publisher ends");
    }
    let status = target.broker.process().wait_for_exit(GOODBYE_MAX);
    println!("ended {:?} after the signal", start.elapsed());
    assert_eq!(status.code(), Some(0));
    target.assert_sane_log();
}

#[test]
fn a_second_sigterm_ends_the_broker_at_once() {
    let mut target = Target::start(&[]);
    // It never reads, so its close-ok never comes.
    let _deaf = Wire::open(target.port);
    let _stranger = Wire::dial(target.port);
    target.broker.process().signal("TERM");
    target.broker.process().wait_for_line("shutting down", PROGRAM_MAX);
    let start = Instant::now();
    target.broker.process().signal("TERM");
    let status = target.broker.process().wait_for_exit(Duration::from_secs(5));
    println!("ended {:?} after the second signal", start.elapsed());
    assert_eq!(status.code(), Some(0));
    target.assert_sane_log();
}

#[test]
fn sigint_ends_a_broker_without_clients_at_once() {
    let mut target = Target::start(&[]);
    target.broker.process().signal("INT");
    assert_eq!(target.broker.process().wait_for_exit(Duration::from_secs(5)).code(), Some(0));
    target.assert_sane_log();
}

#[test]
fn a_broker_that_logs_warnings_only_runs_until_it_is_told_to_stop() {
    let data_dir = unique_dir("quiet");
    // It does not log the port it picks: one that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("there is a free port");
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["--amqp-listen", &address.to_string(), "--management-listen", "none", "--log", "warn"]);
    command.arg("--data-dir").arg(&data_dir);
    command.env("LEVERET_METRICS_LISTEN", "none");
    let mut quiet = Running::spawn(command);
    let deadline = Instant::now() + PROGRAM_MAX;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "{}", quiet.output());
    }
    let mut wire = Wire::open(address.port());
    assert_eq!(wire.declare("q"), 0);
    wire.close();
    quiet.signal("TERM");
    assert_eq!(quiet.wait_for_exit(GOODBYE_MAX).code(), Some(0));
    let _ = fs::remove_dir_all(data_dir);
}

/// Runs the broker with these flags until it ends by itself.
fn run(flags: &[&str]) -> Ended {
    let data_dir = unique_dir("refused");
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("--data-dir").arg(&data_dir).args(flags).env("NO_COLOR", "1");
    command.env("LEVERET_METRICS_LISTEN", "none");
    let ended = Running::spawn(command).wait(PROGRAM_MAX);
    let _ = fs::remove_dir_all(data_dir);
    ended
}

/// The one line on standard error of a start that failed with this code.
fn refusal(ended: &Ended, code: i32) -> String {
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    ended.stderr.trim_end().to_owned()
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let target = Target::start(&[]);
    let address = format!("127.0.0.1:{}", target.port);
    let line = refusal(&run(&["--amqp-listen", &address, "--management-listen", "none"]), 1);
    assert!(line.contains(&address) && line.contains("in use"), "{line}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_one_clear_line() {
    let data_dir = unique_dir("taken");
    let file = data_dir.join("file");
    fs::write(&file, "not a directory").expect("a file can be written");
    let path = file.display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(["--amqp-listen", "127.0.0.1:0", "--management-listen", "none", "--data-dir", &path]);
    command.env("LEVERET_METRICS_LISTEN", "none");
    let line = refusal(&Running::spawn(command).wait(PROGRAM_MAX), 1);
    assert!(line.contains(&path), "{line}");
    let _ = fs::remove_dir_all(data_dir);
}

#[test]
fn a_wrong_flag_names_the_nearest() {
    let ended = run(&["--amqp-lisen", "127.0.0.1:0"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("--amqp-listen"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
}

#[test]
fn a_wrong_key_in_the_file_names_its_line_and_the_nearest() {
    let data_dir = unique_dir("config");
    let file = data_dir.join("leveret.toml");
    let path = file.display().to_string();
    fs::write(&file, "channel_max = 5\nframe_maximum = 9000\n").expect("a file can be written");
    let line = refusal(&run(&["--config", &path]), 2);
    assert!(line.contains("leveret.toml:2") && line.contains("did you mean frame_max?"), "{line}");
    fs::write(&file, "frame_max = 1\n").expect("a file can be written");
    let line = refusal(&run(&["--config", &path]), 2);
    assert!(line.contains("leveret.toml:1") && line.contains("frame_max = 1"), "{line}");
    fs::write(&file, "frame_max = = 1\n").expect("a file can be written");
    let line = refusal(&run(&["--config", &path]), 2);
    assert!(line.contains("leveret.toml:1"), "{line}");
    fs::remove_file(&file).expect("the file can be removed");
    let line = refusal(&run(&["--config", &path]), 2);
    assert!(line.contains("leveret.toml"), "{line}");
    let _ = fs::remove_dir_all(data_dir);
}

#[test]
fn a_wrong_variable_and_a_wrong_value_are_one_clear_line() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.env("LEVERET_FRAME_MX", "1");
    let line = refusal(&Running::spawn(command).wait(PROGRAM_MAX), 2);
    assert!(line.contains("LEVERET_FRAME_MAX"), "{line}");
    let line = refusal(&run(&["--heartbeat-s", "-1"]), 2);
    assert!(line.contains("--heartbeat-s") && line.contains("seconds"), "{line}");
    let line = refusal(&run(&["--amqp-listen", "nowhere"]), 2);
    assert!(line.contains("--amqp-listen"), "{line}");
}
