//! One call of a verb: what was given, where to print, and the broker, which is asked for nothing before it is needed.

use std::cell::OnceCell;
use std::rc::Rc;

use serde_json::Value;

use crate::api::Client;
use crate::cli::Tool;
use crate::failure::{Exit, Failure, OrMissing as _};
use crate::output::{Output, Table};
use crate::settings::{self, Given};
use crate::{Environment, Terminal};

/// The default virtual host.
const VHOST: &str = "/";

/// A call of a verb.
pub(crate) struct Call<'a> {
    /// The tool it was called as.
    pub(crate) tool: Tool,
    /// Where it prints.
    pub(crate) output: Output<'a>,
    /// Who sits in front.
    pub(crate) terminal: &'a mut dyn Terminal,
    given: Given<'a>,
    vhost: Option<String>,
    environment: &'a Environment,
    client: Option<Rc<Client>>,
    overview: OnceCell<Value>,
}

impl<'a> Call<'a> {
    /// A call that has done nothing yet.
    pub(crate) fn new(
        tool: Tool,
        given: Given<'a>,
        environment: &'a Environment,
        output: Output<'a>,
        terminal: &'a mut dyn Terminal,
    ) -> Self {
        let vhost = None;
        Self { tool, output, terminal, given, vhost, environment, client: None, overview: OnceCell::new() }
    }

    /// The broker.
    ///
    /// # Errors
    /// The settings are wrong, or `--node` names another node than the one at the URL.
    pub(crate) fn client(&mut self) -> Result<Rc<Client>, Failure> {
        if let Some(client) = &self.client {
            return Ok(Rc::clone(client));
        }
        let endpoint = settings::endpoint(&self.given, self.environment, self.terminal)?;
        let client = Rc::new(Client::new(endpoint)?);
        self.client = Some(Rc::clone(&client));
        if let Some(wanted) = self.given.text("node").map(str::to_owned) {
            let node = self.node()?;
            if !is_same_node(&wanted, &node) {
                let text = format!("the broker at {} is node {node}, not {wanted}", client.url());
                return Err(Failure::new(Exit::Unavailable, text));
            }
        }
        Ok(client)
    }

    /// The overview of the broker, asked for once.
    pub(crate) fn overview(&mut self) -> Result<Value, Failure> {
        let client = self.client()?;
        // Asking for the client may have asked for the overview.
        if let Some(overview) = self.overview.get() {
            return Ok(overview.clone());
        }
        let overview = client.get("overview")?;
        Ok(self.overview.get_or_init(|| overview).clone())
    }

    /// The name of the node at the URL.
    pub(crate) fn node(&mut self) -> Result<String, Failure> {
        let overview = self.overview()?;
        let node = overview.get("node").and_then(Value::as_str);
        node.map(str::to_owned).ok_or_else(|| {
            Failure::new(Exit::Unavailable, "the overview of the broker does not say which node it is")
        })
    }

    /// An argument that the parser has made sure of.
    pub(crate) fn text(&self, name: &str) -> String {
        self.given.text(name).unwrap_or_default().to_owned()
    }

    /// An argument that may be missing.
    pub(crate) fn optional(&self, name: &str) -> Option<String> {
        self.given.text(name).map(str::to_owned)
    }

    /// All values of an argument.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let values = self.given.behind.try_get_many::<String>(name).ok().flatten();
        values.map(|values| values.cloned().collect()).unwrap_or_default()
    }

    /// A number, which the parser leaves to us.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let number = |text: &str| {
            text.parse()
                .map_err(|_| Failure::usage(format!("--{name}: '{text}' is not a number that will do")))
        };
        self.given.text(name).map(number).transpose()
    }

    /// Whether a flag was given.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.given.flag(name)
    }

    /// The virtual host.
    pub(crate) fn vhost(&self) -> String {
        let vhost = self.vhost.as_deref().or_else(|| self.given.text("vhost"));
        vhost.unwrap_or(VHOST).to_owned()
    }

    /// Turns to another virtual host than the one that was given.
    pub(crate) fn enter_vhost(&mut self, name: &str) {
        self.vhost = Some(name.to_owned());
    }

    /// Says what is about to be done; with `--dry-run` that was all.
    pub(crate) fn announce(&mut self, text: &str) -> Result<(), Failure> {
        self.output.announce(text)?;
        if self.flag("dry-run") { Err(Failure::DryRun) } else { Ok(()) }
    }

    /// Prints a table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<(), Failure> {
        self.output.table(table)
    }

    /// Fails unless the virtual host is there.
    pub(crate) fn require_vhost(&mut self, name: &str) -> Result<Value, Failure> {
        let client = self.client()?;
        client.get(&crate::api::path(&["vhosts", name])).or_missing(|| Failure::no_such_vhost(name))
    }

    /// Fails unless the user is there.
    pub(crate) fn require_user(&mut self, name: &str) -> Result<Value, Failure> {
        let client = self.client()?;
        client.get(&crate::api::path(&["users", name])).or_missing(|| Failure::no_such_user(name))
    }
}

/// Whether the node that somebody means is this one: by its name, or as the one on its machine, whose name scripts put
/// behind the `rabbit` that every RabbitMQ is by default.
fn is_same_node(wanted: &str, node: &str) -> bool {
    let (name, host) = wanted.split_once('@').unwrap_or((wanted, ""));
    let (own_name, own_host) = node.split_once('@').unwrap_or((node, ""));
    let short = |host: &str| host.split('.').next().unwrap_or("").to_ascii_lowercase();
    let is_its_machine = ["", "localhost"].contains(&host) || short(host) == short(own_host);
    wanted == node || (is_its_machine && [own_name, "rabbit", "leveret"].contains(&name))
}

#[test]
fn a_node_is_meant_by_its_name_or_as_the_one_here() {
    for wanted in [
        "leveret@box",
        "leveret",
        "leveret@localhost",
        "rabbit@localhost",
        "rabbit@box",
        "rabbit@Box.example.com",
    ] {
        assert!(is_same_node(wanted, "leveret@box"), "{wanted}");
    }
    for wanted in ["rabbit@other", "other@box", "other@localhost", "leveret@other", "rabbit@other.box"] {
        assert!(!is_same_node(wanted, "leveret@box"), "{wanted}");
    }
}
