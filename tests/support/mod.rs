//! The harness of the tests that run real clients: starts a broker, runs other people's programs against it.
//!
//! `Broker::start` starts the real binary on a free port with its own data folder, or, with
//! `LEVERET_TEST_AMQP=host:port` in the environment, names a broker that runs already (the referee: the same
//! tests against RabbitMQ say whether the test or Leveret is wrong). `Broker::command` prepares a client that
//! finds its broker in the environment, `Running` runs it. Test binaries include this file through `#[path]`.
//! Every wait has a deadline, and what a failed program printed is in the panic message.
#![allow(dead_code, reason = "each test binary includes this module and uses its own part of it")]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pty::{self, OpenptFlags};

/// How long the broker may take from its start to the line `Server startup complete`.
const BROKER_START_MAX: Duration = Duration::from_secs(30);
/// How long fetching and compiling a client may take on a slow network and a busy machine.
pub(crate) const INSTALL_MAX: Duration = Duration::from_secs(900);
/// How long one client's whole story may take.
pub(crate) const STORY_MAX: Duration = Duration::from_secs(180);
/// How long a single small program may take to end, or to print the line that is waited for.
pub(crate) const PROGRAM_MAX: Duration = Duration::from_secs(30);

/// The steps every client goes through, in this order; it prints `ok <step>` after each.
pub(crate) const STORY: [&str; 24] = [
    "connect",
    "declare_exchanges",
    "declare_queues",
    "bind_and_route",
    "properties",
    "acknowledgements",
    "prefetch",
    "confirms",
    "mandatory_return",
    "transactions",
    "get",
    "rpc_direct_reply_to",
    "large_body",
    "server_sent_cancel",
    "channel_errors",
    "wrong_password",
    "heartbeats",
    "alternate_exchange",
    "cc_header",
    "consumer_tags",
    "purge",
    "delete_conditions",
    "exclusive_consumer",
    "recover",
];

/// Panics unless `output` says `ok <step>` for every step of the story but those the library cannot do.
pub(crate) fn assert_story(output: &str, unsupported: &[&str]) {
    let steps: Vec<&str> = STORY.into_iter().filter(|step| !unsupported.contains(step)).collect();
    assert_steps(output, &steps);
}

/// Panics unless `output` says `ok <step>` for each of these steps.
pub(crate) fn assert_steps(output: &str, steps: &[&str]) {
    for step in steps {
        let line = format!("ok {step}");
        assert!(output.lines().any(|l| l.trim_end() == line), "no line `{line}` in:\n{output}");
    }
}

/// A broker under test; one that was started here dies with this value.
pub(crate) struct Broker {
    pub(crate) host: String,
    pub(crate) port: u16,
    started: Option<(Running, PathBuf)>,
}

impl Broker {
    /// Starts the binary, or names the running broker in `LEVERET_TEST_AMQP`.
    pub(crate) fn start() -> Self {
        if let Ok(address) = std::env::var("LEVERET_TEST_AMQP") {
            let (host, port) = address.rsplit_once(':').expect("LEVERET_TEST_AMQP is host:port");
            let port = port.parse().expect("LEVERET_TEST_AMQP ends in a port number");
            return Self { host: host.to_owned(), port, started: None };
        }
        Self::start_with(&[])
    }

    /// Starts the binary with further flags, whatever `LEVERET_TEST_AMQP` names.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let data_dir = unique_dir("broker");
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command.arg("--data-dir").arg(&data_dir).env("NO_COLOR", "1");
        if !flags.contains(&"--amqp-listen") {
            command.args(["--amqp-listen", "127.0.0.1:0"]);
        }
        // The usual ports are one for all; flags go before the environment.
        command.env("LEVERET_MANAGEMENT_LISTEN", "none").env("LEVERET_METRICS_LISTEN", "none").args(flags);
        let mut running = Running::spawn(command);
        let deadline = Instant::now() + BROKER_START_MAX;
        let listening = running.wait_for_line("listening for AMQP connections", remaining(deadline));
        let port =
            listening_port(&listening).unwrap_or_else(|| panic!("no address=host:port in: {listening}"));
        running.wait_for_line("Server startup complete", remaining(deadline));
        Self { host: "127.0.0.1".to_owned(), port, started: Some((running, data_dir)) }
    }

    /// The process of a broker that was started here.
    pub(crate) fn process(&mut self) -> &mut Running {
        let Some((running, _)) = &mut self.started else { panic!("the broker was not started here") };
        running
    }

    /// The port of the TLS listener of a broker that was started here.
    pub(crate) fn tls_port(&mut self) -> u16 {
        let log = self.process().stderr_so_far();
        let line = log.lines().find(|line| line.contains("listening for AMQP connections with TLS"));
        line.and_then(listening_port).unwrap_or_else(|| panic!("no TLS listener in:\n{log}"))
    }

    /// The data folder of a broker that was started here.
    pub(crate) fn data_dir(&self) -> &Path {
        let Some((_, data_dir)) = &self.started else { panic!("the broker was not started here") };
        data_dir
    }

    /// The URI of the vhost `/` for the user guest.
    pub(crate) fn uri(&self) -> String {
        format!("amqp://guest:guest@{}:{}/%2F", self.host, self.port)
    }

    /// Whether this is Leveret: a broker that runs elsewhere is RabbitMQ 3.10, which lacks what came later.
    pub(crate) fn is_leveret(&self) -> bool {
        self.started.is_some()
    }

    /// A command that finds this broker in `AMQP_URI`, `AMQP_HOST` and `AMQP_PORT`.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = tool(program);
        command
            .env("AMQP_URI", self.uri())
            .env("AMQP_HOST", &self.host)
            .env("AMQP_PORT", self.port.to_string());
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some((mut running, data_dir)) = self.started.take() else { return };
        running.kill();
        if thread::panicking() {
            eprintln!("the broker's log:\n{}", running.output());
        }
        let _ = fs::remove_dir_all(data_dir);
    }
}

/// The port in the log field `address=127.0.0.1:PORT`.
pub(crate) fn listening_port(line: &str) -> Option<u16> {
    let (_, address) = line.split_once("address=")?;
    let address = address.split_whitespace().next()?.trim_matches('"');
    address.rsplit_once(':')?.1.parse().ok()
}

/// A command in a process group of its own, so that `Running::kill` also reaches what it starts.
pub(crate) fn tool(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.process_group(0);
    command
}

/// One line a program printed, without its line end.
enum Line {
    Out(String),
    Err(String),
}

/// A program that runs; it is killed, with its children, when this value goes.
pub(crate) struct Running {
    name: String,
    child: Child,
    lines: Receiver<Line>,
    stdout: String,
    stderr: String,
}

/// What a program that ended left behind.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Running {
    /// Starts the command with nothing on its standard input.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stderr(Stdio::piped());
        Self::spawn_with(command, |child| child.stderr.take().expect("stderr is piped"))
    }

    /// Starts the command with a terminal as its standard error.
    pub(crate) fn spawn_on_terminal(mut command: Command) -> Self {
        let terminal = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        pty::grantpt(&terminal).expect("a terminal of this user's");
        pty::unlockpt(&terminal).expect("a terminal that opens");
        let path = pty::ptsname(&terminal, Vec::new()).expect("a terminal with a name");
        let path = path.into_string().expect("a plain name");
        command.stderr(File::options().read(true).write(true).open(path).expect("a terminal"));
        command.env_remove("NO_COLOR").env("TERM", "xterm");
        Self::spawn_with(command, |_| File::from(terminal))
    }

    fn spawn_with<E>(mut command: Command, stderr: impl FnOnce(&mut Child) -> E) -> Self
    where
        E: Read + Send + 'static,
    {
        let name = format!("{command:?}");
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let (sender, lines) = mpsc::channel();
        pump(child.stdout.take().expect("stdout is piped"), sender.clone(), Line::Out);
        pump(stderr(&mut child), sender, Line::Err);
        Self { name, child, lines, stdout: String::new(), stderr: String::new() }
    }

    /// Waits for a line on either stream that contains `text`, and gives it back.
    pub(crate) fn wait_for_line(&mut self, text: &str, max: Duration) -> String {
        let deadline = Instant::now() + max;
        loop {
            match self.next_line(deadline) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("no line `{text}` in {max:?}")),
                Err(RecvTimeoutError::Disconnected) => self.fail(&format!("ended before the line `{text}`")),
            }
        }
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self, max: Duration) -> Ended {
        let deadline = Instant::now() + max;
        loop {
            match self.next_line(deadline) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("did not end in {max:?}")),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // Both streams are closed: all that is left is the exit itself.
        let status = self.wait_for_exit(remaining(deadline));
        let (stdout, stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        Ended { status, stdout, stderr }
    }

    /// Waits for the end, panics unless it is a success, gives back the standard output.
    pub(crate) fn succeed(self, max: Duration) -> String {
        let name = self.name.clone();
        let Ended { status, stdout, stderr } = self.wait(max);
        assert!(status.success(), "{name}: {status}\n--- stdout\n{stdout}--- stderr\n{stderr}");
        stdout
    }

    /// Kills the program and its process group.
    pub(crate) fn kill(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        let group = format!("-{}", self.child.id());
        // The program leads no group of its own unless `tool` prepared it; then this names no process.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// All that was printed so far.
    pub(crate) fn output(&mut self) -> String {
        while self.next_line(Instant::now() + Duration::from_millis(50)).is_ok() {}
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that was printed to standard error and has reached this process, without waiting for more.
    pub(crate) fn stderr_so_far(&mut self) -> &str {
        while self.next_line(Instant::now()).is_ok() {}
        &self.stderr
    }

    /// Octets of memory the process has in use, as the kernel counts them; Linux only.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no VmRSS in {path}")) * 1024
    }

    /// Sends a signal by its name, as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot send SIG{name} to {}", self.name);
    }

    /// The exit status, once the process has ended.
    pub(crate) fn wait_for_exit(&mut self, max: Duration) -> ExitStatus {
        let deadline = Instant::now() + max;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status;
            }
            if Instant::now() >= deadline {
                self.fail(&format!("did not end in {max:?}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn next_line(&mut self, deadline: Instant) -> Result<String, RecvTimeoutError> {
        let (stream, line) = match self.lines.recv_timeout(remaining(deadline))? {
            Line::Out(line) => (&mut self.stdout, line),
            Line::Err(line) => (&mut self.stderr, line),
        };
        let _ = writeln!(stream, "{line}");
        Ok(line)
    }

    fn fail(&mut self, what: &str) -> ! {
        self.kill();
        let output = self.output();
        panic!("{}: {what}\n{output}", self.name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

fn pump(stream: impl Read + Send + 'static, sender: Sender<Line>, kind: fn(String) -> Line) {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        // A terminal ends with an error.
        while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) || !line.is_empty() {
            let text = String::from_utf8_lossy(&line);
            if sender.send(kind(text.trim_end_matches(['\r', '\n']).to_owned())).is_err() {
                return;
            }
            line.clear();
        }
    });
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Whether the test can go on: the program starts with this argument. A missing language is reported as
/// skipped, or is a failure where `LEVERET_TESTS_NO_SKIP=1` promises that all are there.
pub(crate) fn installed(language: &str, program: &str, version_argument: &str) -> bool {
    let mut command = tool(program);
    command.arg(version_argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    found(language, command.status().is_ok_and(|status| status.success()))
}

/// As `installed`, for what the caller looked for in its own way.
pub(crate) fn found(language: &str, found: bool) -> bool {
    go_on(&format!("{language} is not installed"), found)
}

/// As `installed`, for what the machine has to permit.
pub(crate) fn possible(what: &str, possible: bool) -> bool {
    go_on(&format!("{what} is not possible here"), possible)
}

fn go_on(obstacle: &str, go_on: bool) -> bool {
    if !go_on {
        let no_skip = std::env::var("LEVERET_TESTS_NO_SKIP").is_ok_and(|value| value == "1");
        assert!(!no_skip, "{obstacle}, and LEVERET_TESTS_NO_SKIP=1");
        println!("SKIPPED: {obstacle}");
    }
    go_on
}

/// The root of the repository.
pub(crate) fn root_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder that outlives the test run, for one language's downloads; locked while this value lives, so that
/// two tests do not install at the same time.
pub(crate) struct Cache {
    pub(crate) path: PathBuf,
    _lock: File,
}

impl Cache {
    /// Waits until no other test installs for this language.
    pub(crate) fn lock(language: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(language);
        fs::create_dir_all(&path).expect("the cache folder can be created");
        let lock = File::create(path.with_extension("lock")).expect("the lock file can be created");
        lock.lock().expect("the lock file can be locked");
        Self { path, _lock: lock }
    }

    /// Runs `install` unless it ran to its end before for the same `recipe` (versions, lock file contents).
    pub(crate) fn install_once(&self, recipe: &str, install: impl FnOnce(&Path)) {
        let marker = self.path.join("installed.txt");
        if fs::read_to_string(&marker).is_ok_and(|done| done == recipe) {
            return;
        }
        install(&self.path);
        fs::write(&marker, recipe).expect("the marker can be written");
    }
}

/// Whether there is a Python that can make a venv; see `installed`.
pub(crate) fn python_installed() -> bool {
    let mut command = tool("python3");
    command.args(["-c", "import venv, ensurepip"]).stdin(Stdio::null()).stderr(Stdio::null());
    found("Python", command.status().is_ok_and(|status| status.success()))
}

/// The interpreter of a venv that has the pinned pika.
pub(crate) fn python_with_pika() -> PathBuf {
    python_venv("pika")
}

/// The interpreter of a venv that has what `requirements.txt` in this client's folder pins.
pub(crate) fn python_venv(client: &str) -> PathBuf {
    let requirements = root_dir().join("tests/clients").join(client).join("requirements.txt");
    let recipe = fs::read_to_string(&requirements).expect("the requirements can be read");
    let cache = Cache::lock(&format!("python-{client}"));
    let python = cache.path.join("venv/bin/python");
    cache.install_once(&recipe, |cache_dir| {
        let mut venv = tool("python3");
        venv.args(["-m", "venv", "--clear"]).arg(cache_dir.join("venv"));
        Running::spawn(venv).succeed(INSTALL_MAX);
        let mut pip = tool(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements);
        Running::spawn(pip).succeed(INSTALL_MAX);
    });
    python
}

/// Whether there is a PHP that finds php-amqplib as the system packages install it; see `installed`.
pub(crate) fn php_amqplib_installed() -> bool {
    let mut command = tool("php");
    command.args(["-r", "require 'PhpAmqpLib/autoload.php';"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    found("PHP with php-amqplib", command.status().is_ok_and(|status| status.success()))
}

/// A new, empty folder for one test.
pub(crate) fn unique_dir(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", std::process::id()));
    fs::create_dir_all(&path).expect("a temp folder can be created");
    path
}
