//! Every example of `examples/`, in every language, against the real broker: what a reader runs is what is run here.
//!
//! One test per pattern, which runs it in Python, PHP and Rust. Receivers run until their line was seen and are
//! then killed; senders end by themselves.

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::{
    Broker, INSTALL_MAX, PROGRAM_MAX, Running, php_amqplib_installed, python_installed, python_with_pika,
    root_dir, tool,
};

#[derive(Clone, Copy)]
enum Language {
    Python,
    Php,
    Rust,
}

impl Language {
    /// All that can run here.
    fn installed() -> Vec<Self> {
        let mut languages = vec![Self::Rust];
        if python_installed() {
            languages.push(Self::Python);
        }
        if php_amqplib_installed() {
            languages.push(Self::Php);
        }
        languages
    }

    /// The command that runs an example with these arguments.
    fn command(self, broker: &Broker, example: &str, arguments: &[&str]) -> Command {
        let sources = root_dir().join("examples");
        let mut command = match self {
            Self::Python => {
                let mut command = broker.command(python_with_pika());
                command.arg("-B").arg(sources.join("python").join(example).with_extension("py"));
                command
            }
            Self::Php => {
                let mut command = broker.command("php");
                command.arg(sources.join("php").join(example).with_extension("php"));
                command
            }
            Self::Rust => broker.command(rust_examples().join(format!("rust_{example}"))),
        };
        command.args(arguments);
        command
    }

    /// Starts a receiving example and waits until it says that it waits.
    fn receive(self, broker: &Broker, example: &str, arguments: &[&str]) -> Running {
        let mut running = Running::spawn(self.command(broker, example, arguments));
        running.wait_for_line("Waiting for ", PROGRAM_MAX);
        running
    }

    /// Runs an example that ends by itself and checks all that it prints.
    fn run(self, broker: &Broker, example: &str, arguments: &[&str], expected: &str) {
        let output = Running::spawn(self.command(broker, example, arguments)).succeed(PROGRAM_MAX);
        assert_eq!(output.trim_end(), expected);
    }
}

/// The folder of the compiled examples. Cargo builds them before it runs all tests, but not before it runs
/// this one alone, so they are brought up to date here.
fn rust_examples() -> &'static Path {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        let test = std::env::current_exe().expect("the test knows where it is");
        let profile = test.parent().and_then(Path::parent).expect("the test is in <target>/<profile>/deps");
        let mut cargo = tool(env!("CARGO"));
        cargo.args(["build", "--quiet", "--examples", "--target-dir"]);
        cargo.arg(profile.parent().expect("the profile's folder is in the target folder"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        cargo.current_dir(root_dir());
        Running::spawn(cargo).succeed(INSTALL_MAX);
        profile.join("examples")
    })
}

#[test]
fn hello_goes_from_every_language_to_every_other() {
    let broker = Broker::start();
    for receiver in Language::installed() {
        let mut received = receiver.receive(&broker, "hello_receive", &[]);
        for sender in Language::installed() {
            sender.run(&broker, "hello_send", &[], "Sent Hello World!");
            received.wait_for_line("Received Hello World!", PROGRAM_MAX);
        }
    }
}

#[test]
fn the_work_queue_gives_the_task_of_a_worker_that_died_to_the_next() {
    let broker = Broker::start();
    for language in Language::installed() {
        let mut dies = language.receive(&broker, "worker", &[]);
        language.run(&broker, "new_task", &["slow", "task..."], "Sent slow task...");
        dies.wait_for_line("Received slow task...", PROGRAM_MAX);
        dies.kill();
        let mut lives = language.receive(&broker, "worker", &[]);
        lives.wait_for_line("Received slow task...", PROGRAM_MAX);
        lives.wait_for_line("Done slow task...", PROGRAM_MAX);
        language.run(&broker, "new_task", &["quick task"], "Sent quick task");
        lives.wait_for_line("Done quick task", PROGRAM_MAX);
    }
}

#[test]
fn publish_subscribe_reaches_every_receiver() {
    let broker = Broker::start();
    for language in Language::installed() {
        let mut receivers = [(); 2].map(|()| language.receive(&broker, "receive_logs", &[]));
        language.run(&broker, "emit_log", &["a line", "for all"], "Sent a line for all");
        for receiver in &mut receivers {
            receiver.wait_for_line("Received a line for all", PROGRAM_MAX);
        }
    }
}

#[test]
fn routing_gives_a_receiver_its_severities() {
    let broker = Broker::start();
    for language in Language::installed() {
        let mut receiver = language.receive(&broker, "receive_logs_direct", &["warning", "error"]);
        for severity in ["info", "warning", "error"] {
            let sent = format!("Sent {severity}: the line");
            language.run(&broker, "emit_log_direct", &[severity, "the", "line"], &sent);
        }
        receiver.wait_for_line("Received error: the line", PROGRAM_MAX);
        assert_received(&mut receiver, &["Received warning: the line", "Received error: the line"]);
    }
}

#[test]
fn topics_give_a_receiver_what_its_patterns_match() {
    let broker = Broker::start();
    for language in Language::installed() {
        let mut receiver = language.receive(&broker, "receive_logs_topic", &["kern.*", "#.critical"]);
        for key in ["kern.info", "mail.info", "kern.disk.info", "mail.disk.critical"] {
            language.run(&broker, "emit_log_topic", &[key, "line"], &format!("Sent {key}: line"));
        }
        receiver.wait_for_line("Received mail.disk.critical: line", PROGRAM_MAX);
        assert_received(&mut receiver, &["Received kern.info: line", "Received mail.disk.critical: line"]);
    }
}

#[test]
fn rpc_answers_the_client() {
    let broker = Broker::start();
    for language in Language::installed() {
        let mut server = language.receive(&broker, "rpc_server", &[]);
        language.run(&broker, "rpc_client", &["30"], "fib(30) = 832040");
        server.wait_for_line("Computing fib(30)", PROGRAM_MAX);
        language.run(&broker, "rpc_client", &["12"], "fib(12) = 144");
    }
}

#[test]
fn publisher_confirms_come_for_every_message() {
    let broker = Broker::start();
    for language in Language::installed() {
        language.run(&broker, "publisher_confirms", &[], "Confirmed 100 messages");
    }
}

fn assert_received(receiver: &mut Running, expected: &[&str]) {
    let output = receiver.output();
    let received: Vec<&str> = output.lines().filter(|line| line.starts_with("Received ")).collect();
    assert_eq!(received, expected);
}
