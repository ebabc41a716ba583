//! The command line: flags known to users of RabbitMQ's PerfTest, turned into a [`Load`].
//! Read by `main`, which hands the result to `run`, `ceiling`, `suite`, `grow` or `disk`.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use leveret_codec::table::{FieldTable, FieldValue};

use crate::client::Exchange;
use crate::disk::DiskArgs;
use crate::error::Error;
use crate::grow::GrowArgs;
use crate::load::Load;
use crate::message::{MessageProperties, Priorities, ROUTING_KEYS_MAX, RoutingKeys};
use crate::process::Process;
use crate::producer::Pace;
use crate::suite::SuiteArgs;
use crate::uri::Uri;

/// The broker that is meant when none is named.
pub(crate) const URI_DEFAULT: &str = "amqp://guest:guest@localhost:5672/%2f";

/// Load generator and benchmark for AMQP 0-9-1 brokers.
#[derive(Debug, Parser)]
#[command(name = "leveret-perf", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// What to measure; without one, `run`.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Flags of `run`.
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One load against one broker (the default).
    Run(RunArgs),
    /// The same load against a built-in sink: what generator and kernel can do with no broker between.
    Ceiling(RunArgs),
    /// The rows of the benchmark table, for one broker or several in alternation.
    Suite(SuiteArgs),
    /// How cost and memory grow with connections, queues, bindings, consumers and backlog.
    Grow(GrowArgs),
    /// How fast the disk syncs small writes, with no broker between.
    Disk(DiskArgs),
    /// The sink of `ceiling`, as the child process it runs in.
    #[command(hide = true)]
    Sink {
        /// Body size of the replayed message.
        #[arg(long)]
        size: usize,
        /// Relay what is published instead of replaying.
        #[arg(long)]
        relay: bool,
    },
}

/// Where the broker is and how the load looks.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Where the broker is.
    #[arg(long, default_value = URI_DEFAULT)]
    pub(crate) uri: Uri,
    /// Process id of the broker: its CPU time and memory are reported.
    #[arg(long)]
    pub(crate) broker_pid: Option<u32>,
    /// Producers, each with a connection of its own.
    #[arg(short = 'x', long, default_value_t = 1)]
    pub(crate) producers: usize,
    /// Consumers, each with a connection of its own.
    #[arg(short = 'y', long, default_value_t = 1)]
    pub(crate) consumers: usize,
    /// Body size in octets; from 16 on the body carries a time stamp.
    #[arg(short = 's', long, default_value_t = 16)]
    pub(crate) size: usize,
    /// Measured seconds.
    #[arg(short = 'z', long = "time", default_value_t = 10.0)]
    pub(crate) seconds: f64,
    /// Seconds before that are not measured.
    #[arg(long = "warmup", default_value_t = 1.0)]
    pub(crate) warmup_seconds: f64,
    /// Use confirms, with at most so many unconfirmed messages per producer.
    #[arg(short = 'c', long = "confirm", default_value_t = 0)]
    pub(crate) confirm_window: usize,
    /// Prefetch of each consumer; 0 is no limit.
    #[arg(short = 'q', long = "qos", default_value_t = 0)]
    pub(crate) prefetch: u16,
    /// Acknowledge every so many messages; 0 is automatic acknowledgement.
    #[arg(short = 'A', long = "multi-ack-every", default_value_t = 0)]
    pub(crate) ack_every: u32,
    /// Flags: `persistent` makes messages persistent and queues durable.
    #[arg(short = 'f', long = "flag", value_parser = ["persistent"])]
    pub(crate) flags: Vec<String>,
    /// Queue; default is a name of this run's own.
    #[arg(short = 'u', long = "queue")]
    pub(crate) queue: Option<String>,
    /// Several queues, `%d` being the number: perf-%d. Producers and consumers take them in turn.
    #[arg(long, requires_all = ["queue_pattern_from", "queue_pattern_to"], conflicts_with = "queue")]
    pub(crate) queue_pattern: Option<String>,
    /// How many of the queues each consumer takes, on one channel.
    #[arg(long, default_value_t = 1)]
    pub(crate) queues_per_consumer: usize,
    /// First number of the pattern.
    #[arg(long)]
    pub(crate) queue_pattern_from: Option<u32>,
    /// Last number of the pattern.
    #[arg(long)]
    pub(crate) queue_pattern_to: Option<u32>,
    /// Exchange to declare, bind every queue to and publish to; default is the default exchange.
    #[arg(short = 'e', long)]
    pub(crate) exchange: Option<String>,
    /// Type of the exchange.
    #[arg(short = 't', long = "type", alias = "exchange-type", default_value = "direct")]
    pub(crate) exchange_type: String,
    /// Arguments of the exchange: x-delayed-type=direct.
    #[arg(long = "exchange-args", requires = "exchange")]
    pub(crate) exchange_arguments: Option<String>,
    /// Routing key of messages, with -e; `%d` in it is a number below --routing-keys, the same for all producers.
    #[arg(short = 'k', long, default_value = "perf")]
    pub(crate) routing_key: String,
    /// How many routing keys messages take in turn.
    #[arg(long, default_value_t = 1)]
    pub(crate) routing_keys: usize,
    /// Key of bindings, with -e; default is the routing key. With `%d` each queue gets its share of the numbers.
    #[arg(long)]
    pub(crate) binding_key: Option<String>,
    /// Priority of messages, or several that they take in turn: 0-9 or 1,5,9.
    #[arg(long)]
    pub(crate) priority: Option<Priorities>,
    /// Expiration of messages in milliseconds.
    #[arg(long)]
    pub(crate) expiration: Option<u64>,
    /// Headers of messages: x-delay=1000,kind=order.
    #[arg(long)]
    pub(crate) headers: Option<String>,
    /// A header that has another value in each message: x-deduplication-header.
    #[arg(long)]
    pub(crate) unique_header: Option<String>,
    /// Milliseconds that messages are to stay in the broker; latency is what they are later than that.
    #[arg(long, default_value_t = 0)]
    pub(crate) expected_delay: u64,
    /// Messages per second of each producer; latency then counts from the intended time.
    #[arg(short = 'r', long)]
    pub(crate) rate: Option<f64>,
    /// Publish in transactions of so many messages.
    #[arg(long = "tx", short = 'm', default_value_t = 0)]
    pub(crate) tx_size: usize,
    /// Each producer ends after so many messages; replaces -z.
    #[arg(short = 'C', long = "pmessages")]
    pub(crate) producer_messages: Option<u64>,
    /// Each consumer ends after so many messages; replaces -z.
    #[arg(short = 'D', long = "cmessages")]
    pub(crate) consumer_messages: Option<u64>,
    /// The queues are there and stay: declare, bind and delete nothing.
    #[arg(short = 'p', long)]
    pub(crate) predeclared: bool,
    /// Declare the queues auto-delete.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) auto_delete: bool,
    /// Arguments of the queues: x-queue-type=stream,x-max-length=1000.
    #[arg(long = "queue-args")]
    pub(crate) queue_arguments: Option<String>,
    /// Arguments of the consumers: x-stream-offset=first.
    #[arg(long = "consumer-args")]
    pub(crate) consumer_arguments: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl RunArgs {
    /// The load these flags describe, if they go together.
    pub(crate) fn to_load(&self) -> Result<Load, Error> {
        self.check()?;
        Ok(Load {
            uri: self.uri.clone(),
            broker: self.broker_pid.map(Process::new),
            producers: self.producers,
            consumers: self.consumers,
            size: self.size,
            duration: seconds(self.seconds, "-z")?,
            warmup: seconds(self.warmup_seconds, "--warmup")?,
            pace: Pace { rate: self.rate, confirm_window: self.confirm_window, tx_size: self.tx_size },
            producer_messages: self.producer_messages,
            consumer_messages: self.consumer_messages,
            prefetch: self.prefetch,
            ack_every: self.ack_every,
            persistent: self.flags.iter().any(|flag| flag == "persistent"),
            queues: self.queue_names()?,
            queues_per_consumer: self.queues_per_consumer,
            exchange: self.exchange()?,
            routing_keys: RoutingKeys::numbered(&self.routing_key, self.routing_keys),
            binding_key: self.binding_key.as_ref().unwrap_or(&self.routing_key).clone(),
            properties: self.properties()?,
            expected_delay: Duration::from_millis(self.expected_delay),
            predeclared: self.predeclared,
            auto_delete: self.auto_delete,
            queue_arguments: arguments(self.queue_arguments.as_deref())?,
            consumer_arguments: arguments(self.consumer_arguments.as_deref())?,
        })
    }

    fn check(&self) -> Result<(), Error> {
        let usage = |text: &str| Err(Error::Usage(text.to_owned()));
        if self.producers == 0 && self.consumers == 0 {
            return usage("-x 0 -y 0: there is nothing to do");
        }
        if self.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
            return usage("-r: a rate is above zero");
        }
        if self.tx_size > 0 && (self.confirm_window > 0 || self.rate.is_some()) {
            return usage("--tx goes with neither -c nor -r");
        }
        if self.routing_keys == 0 || self.routing_keys > ROUTING_KEYS_MAX {
            return Err(Error::Usage(format!("--routing-keys: from 1 to {ROUTING_KEYS_MAX}")));
        }
        if (self.routing_keys > 1) != self.routing_key.contains("%d") {
            return usage("several --routing-keys and a %d in -k go together");
        }
        if self.queues_per_consumer == 0 {
            return usage("--queues-per-consumer: a consumer takes at least one");
        }
        if self.prefetch > 0 && self.ack_every > u32::from(self.prefetch) {
            return usage("-A above -q: the consumer would wait for ever");
        }
        if self.exchange.as_deref().is_some_and(|name| name.is_empty() || name.starts_with("amq.")) {
            return usage(
                "-e: the exchange is declared and deleted, so it cannot be one of the broker's own",
            );
        }
        Ok(())
    }

    fn exchange(&self) -> Result<Option<Exchange>, Error> {
        let arguments = arguments(self.exchange_arguments.as_deref())?;
        let kind = self.exchange_type.clone();
        Ok(self.exchange.clone().map(|name| Exchange { name, kind, arguments }))
    }

    fn properties(&self) -> Result<MessageProperties, Error> {
        Ok(MessageProperties {
            priorities: self.priority.clone().unwrap_or_default(),
            expiration: self.expiration,
            headers: arguments(self.headers.as_deref())?,
            unique_header: self.unique_header.clone(),
        })
    }

    fn queue_names(&self) -> Result<Vec<String>, Error> {
        if let Some(pattern) = &self.queue_pattern {
            let (from, to) =
                (self.queue_pattern_from.unwrap_or_default(), self.queue_pattern_to.unwrap_or_default());
            if from > to || !pattern.contains("%d") {
                return Err(Error::Usage("--queue-pattern needs a %d and a range that goes up".to_owned()));
            }
            return Ok((from..=to).map(|number| pattern.replace("%d", &number.to_string())).collect());
        }
        let own = || format!("leveret-perf-{}", std::process::id());
        Ok(vec![self.queue.clone().unwrap_or_else(own)])
    }
}

/// A time span from the command line.
pub(crate) fn seconds(value: f64, flag: &str) -> Result<Duration, Error> {
    Duration::try_from_secs_f64(value).map_err(|_| Error::Usage(format!("{flag}: {value} is no time span")))
}

/// `key=value,key=value`; whole numbers and booleans become such, all else is text.
fn arguments(text: Option<&str>) -> Result<FieldTable, Error> {
    let mut table = FieldTable::new();
    for pair in text.into_iter().flat_map(|text| text.split(',')) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Error::Usage(format!("{pair:?} is not of the form key=value")))?;
        let value = match (value.parse::<i64>(), value.parse::<bool>()) {
            (Ok(number), _) => FieldValue::I64(number),
            (_, Ok(flag)) => FieldValue::Boolean(flag),
            _ => FieldValue::LongString(value.into()),
        };
        table.insert(key, value);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: &str) -> Result<Load, Error> {
        let cli = Cli::try_parse_from(format!("leveret-perf {flags}").split_whitespace()).unwrap();
        match cli.command {
            None => cli.run.to_load(),
            Some(Command::Run(run) | Command::Ceiling(run)) => run.to_load(),
            other => panic!("{other:?} is no load"),
        }
    }

    #[test]
    fn the_flags_of_perf_test_mean_the_same() {
        let load = load("-x 8 -y 4 -s 1024 -z 2.5 -c 1000 -q 100 -A 10 -f persistent -u orders").unwrap();
        assert_eq!((load.producers, load.consumers, load.size), (8, 4, 1024));
        assert_eq!(load.duration, Duration::from_millis(2500));
        assert_eq!((load.pace.confirm_window, load.prefetch, load.ack_every), (1000, 100, 10));
        assert!(load.persistent);
        assert_eq!(load.queues, ["orders"]);
        assert_eq!(load.exchange, None);
    }

    #[test]
    fn run_is_what_happens_without_a_command() {
        assert_eq!(load("-s 99").unwrap().size, load("run -s 99").unwrap().size);
        assert_eq!(load("").unwrap().ack_every, 0);
    }

    #[test]
    fn a_pattern_names_several_queues() {
        let load =
            load("--queue-pattern q-%d --queue-pattern-from 9 --queue-pattern-to 11 -e x -t fanout").unwrap();
        assert_eq!(load.queues, ["q-9", "q-10", "q-11"]);
        let exchange = load.exchange.unwrap();
        assert_eq!((exchange.name.as_str(), exchange.kind.as_str()), ("x", "fanout"));
    }

    #[test]
    fn properties_and_exchange_arguments_are_those_of_the_flags() {
        let load = load(
            "-e x --exchange-type x-delayed-message --exchange-args x-delayed-type=direct --expected-delay 5 \
             --headers x-delay=5,kind=order --priority 1,3 --expiration 700 --unique-header id",
        )
        .unwrap();
        let exchange = load.exchange.unwrap();
        assert_eq!(exchange.kind, "x-delayed-message");
        let direct = FieldValue::LongString(b"direct".to_vec());
        assert_eq!(exchange.arguments.get("x-delayed-type"), Some(&direct));
        let properties = load.properties;
        assert_eq!(properties.headers.get("x-delay"), Some(&FieldValue::I64(5)));
        assert_eq!(properties.priorities, "1,3".parse().unwrap());
        assert_eq!((properties.expiration, properties.unique_header.as_deref()), (Some(700), Some("id")));
        assert_eq!(load.expected_delay, Duration::from_millis(5));
    }

    #[test]
    fn arguments_keep_their_types() {
        let load = load("--queue-args x-queue-type=stream,x-max-length=5,x-on=true").unwrap();
        let table = load.queue_arguments;
        assert_eq!(table.get("x-queue-type"), Some(&FieldValue::LongString(b"stream".to_vec())));
        assert_eq!(table.get("x-max-length"), Some(&FieldValue::I64(5)));
        assert_eq!(table.get("x-on"), Some(&FieldValue::Boolean(true)));
    }

    #[test]
    fn flags_that_cannot_work_are_refused_with_a_reason() {
        for flags in [
            "-x 0 -y 0",
            "-r 0",
            "--tx 10 -c 5",
            "-q 10 -A 11",
            "-e amq.topic",
            "-z=-1",
            "--queue-args novalue",
            "-e x -k key --routing-keys 2",
            "-e x -k key-%d",
            "--routing-keys 0",
            "--queues-per-consumer 0",
            "--queue-pattern q --queue-pattern-from 1 --queue-pattern-to 2",
        ] {
            assert!(load(flags).is_err(), "{flags}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
