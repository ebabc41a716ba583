//! A RabbitMQ with its management plugin, on ports and in folders of its own, where it is installed.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::http::Api;
use crate::support::{Running, found, tool, unique_dir};

/// Where distributions put the server's own script, which takes its settings from the environment alone.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// How long it may take to start on a busy machine.
const START_MAX: Duration = Duration::from_secs(120);

/// One that runs until this goes.
pub(crate) struct RabbitMq {
    pub(crate) api: Api,
    /// Kept alive.
    _server: Running,
    folder: PathBuf,
}

impl RabbitMq {
    /// Starts one with these plugins beside that of the API; none where it is not installed.
    pub(crate) fn start(plugins: &[&str]) -> Option<Self> {
        if !found("RabbitMQ", Path::new(PROGRAM).is_file()) {
            return None;
        }
        let folder = unique_dir("rabbitmq");
        let [amqp_port, port, distribution_port] = free_ports();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).expect("a file can be written");
            path
        };
        let plugins = [&["rabbitmq_management"], plugins].concat().join(",");
        let plugins = write("enabled_plugins", &format!("[{plugins}].\n"));
        let settings = write(
            "rabbitmq.conf",
            &format!("listeners.tcp.1 = 127.0.0.1:{amqp_port}\nmanagement.tcp.port = {port}\n"),
        );
        let mut command = tool(PROGRAM);
        command
            .env("RABBITMQ_NODENAME", format!("shape{port}@localhost"))
            .env("RABBITMQ_NODE_PORT", amqp_port.to_string())
            .env("RABBITMQ_DIST_PORT", distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", plugins)
            .env("RABBITMQ_CONFIG_FILE", settings)
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("HOME", &folder);
        let mut server = Running::spawn(command);
        server.wait_for_line("completed with", START_MAX);
        let api = Api::at(port, amqp_port);
        api.wait_for("overview", "RabbitMQ's overview", |overview| overview["node"].is_string());
        Some(Self { api, _server: server, folder })
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        // The script starts others that live in a group of their own.
        if let Ok(pid) = fs::read_to_string(self.folder.join("pid")) {
            let _ = Command::new("kill").arg(pid.trim()).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Ports that were free a moment ago.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("there are free ports"));
    listeners.map(|listener| listener.local_addr().expect("it has an address").port())
}
