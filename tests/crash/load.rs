//! The load of a round: publishers, consumers and those who declare and delete, each on a connection and a thread
//! of its own, until the broker is killed under them. What they know by then goes into the ledger.

mod consumer;
mod definer;
mod publisher;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use leveret_codec::method::{Method, MethodId, queue};
use leveret_codec::table::FieldValue;

use crate::ledger::{ConsumeLog, Definitions, Ledger, PublishLog, QueueEvent, Standing};
use crate::random::Random;
use crate::wire::{Wire, binding, durable_exchange, durable_queue};

use consumer::Manner;

/// Durable queues that are there from the first round on.
pub(crate) const QUEUES: [&str; 14] = [
    "direct-0",
    "direct-1",
    "requeued",
    "held",
    "untouched",
    "tx",
    "fan-0",
    "fan-1",
    "fan-2",
    SYNC_QUEUE,
    PRIORITY_QUEUE,
    QUORUM_QUEUE,
    EXPIRING_QUEUE,
    DEAD_QUEUE,
];

/// One of them, which is a quorum queue: it keeps transient messages too.
pub(crate) const QUORUM_QUEUE: &str = "quorum";

/// One whose messages expire soon, and are in the next one then.
pub(crate) const EXPIRING_QUEUE: &str = "expiring";

/// What has expired in the one before. A kill between the copy and the end of the original leaves both, so that a
/// message may be here twice.
pub(crate) const DEAD_QUEUE: &str = "dead";

/// Milliseconds that messages live there.
const EXPIRING_AFTER_MS: i32 = 200;

/// One of them, whose messages have priorities.
pub(crate) const PRIORITY_QUEUE: &str = "priorities";

/// The highest priority in it.
pub(crate) const PRIORITY_MAX: u8 = 9;

/// Where those publish who want to know that what they said before is safe.
pub(crate) const SYNC_QUEUE: &str = "sync";

/// A durable queue that is deleted, declared and purged with messages in it.
pub(crate) const CHURNED_QUEUE: &str = "churned";

/// Queues that must not outlive the broker.
pub(crate) const FLEETING_QUEUES: [&str; 2] = ["transient", "exclusive"];

/// A durable fanout to the queues fan-0 to fan-2.
pub(crate) const FANOUT: &str = "fan";

/// What a thread came to.
enum Log {
    Publish(PublishLog),
    Consume(ConsumeLog, PublishLog, Vec<String>),
    Define(Definitions),
    Churn(Vec<QueueEvent>, Standing),
    Fleeting,
}

/// Whether the broker is about to be killed; before that no connection may end.
#[derive(Default)]
pub(crate) struct Stage {
    killed: AtomicBool,
}

impl Stage {
    /// Why a connection ended, unless that is the kill.
    fn fault(&self, who: &str, ended: io::Result<()>) -> Option<String> {
        let error = ended.err()?;
        let is_kill = matches!(
            error.kind(),
            ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::BrokenPipe
                | ErrorKind::ConnectionAborted
        );
        let expected = is_kill && self.killed.load(Ordering::SeqCst);
        (!expected).then(|| format!("{who}: {error}"))
    }
}

/// Declares what every round expects to be there.
pub(crate) fn declare_topology(port: u16, definitions: &mut Definitions) -> io::Result<()> {
    let mut wire = Wire::open(port)?;
    for queue in QUEUES {
        let mut declaration = durable_queue(queue);
        let arguments = &mut declaration.arguments;
        match queue {
            PRIORITY_QUEUE => arguments.insert("x-max-priority", i32::from(PRIORITY_MAX)),
            QUORUM_QUEUE => arguments.insert("x-queue-type", FieldValue::from("quorum")),
            EXPIRING_QUEUE => {
                arguments.insert("x-message-ttl", EXPIRING_AFTER_MS);
                arguments.insert("x-dead-letter-exchange", FieldValue::from(""));
                arguments.insert("x-dead-letter-routing-key", FieldValue::from(DEAD_QUEUE));
            }
            _ => {}
        }
        wire.declare(declaration)?;
        definitions.set_queue(queue, Standing::There);
    }
    wire.call(&Method::ExchangeDeclare(durable_exchange(FANOUT, "fanout")), MethodId::EXCHANGE_DECLARE_OK)?;
    definitions.set_exchange(FANOUT, Standing::There);
    for queue in ["fan-0", "fan-1", "fan-2"] {
        wire.call(&binding(queue, FANOUT, ""), MethodId::QUEUE_BIND_OK)?;
    }
    wire.close()
}

/// A load that runs.
pub(crate) struct Running {
    stage: Arc<Stage>,
    threads: Vec<JoinHandle<(Log, Option<String>)>>,
}

impl Running {
    /// Starts all threads; all of them are connected.
    pub(crate) fn start(
        port: u16,
        ledger: &mut Ledger,
        definitions: &Definitions,
        random: &mut Random,
    ) -> io::Result<Self> {
        let mut running = Self { stage: Arc::default(), threads: Vec::new() };
        running.start_consumers(port, ledger, random)?;
        let fans = ["fan-0", "fan-1", "fan-2"];
        let targets: [(&str, &str, &[&str]); 13] = [
            ("", "direct-0", &["direct-0"]),
            ("", "direct-0", &["direct-0"]),
            ("", "direct-1", &["direct-1"]),
            ("", "requeued", &["requeued"]),
            ("", "held", &["held"]),
            ("", "untouched", &["untouched"]),
            (FANOUT, "", &fans),
            ("", PRIORITY_QUEUE, &[PRIORITY_QUEUE]),
            ("", PRIORITY_QUEUE, &[PRIORITY_QUEUE]),
            ("", PRIORITY_QUEUE, &[PRIORITY_QUEUE]),
            ("", QUORUM_QUEUE, &[QUORUM_QUEUE]),
            ("", QUORUM_QUEUE, &[QUORUM_QUEUE]),
            ("", EXPIRING_QUEUE, &[DEAD_QUEUE]),
        ];
        for (exchange, routing_key, queues) in targets {
            let target = publisher::Target::new(exchange, routing_key, queues);
            let publisher =
                publisher::Publisher::confirming(port, ledger.new_publisher(), target, random.split())?;
            running.spawn("publisher", move |_| {
                let (log, ended) = publisher.run();
                (Log::Publish(log), ended)
            });
        }
        let target = publisher::Target::new("", "tx", &["tx"]);
        let transacted =
            publisher::Publisher::transacted(port, ledger.new_publisher(), target, random.split())?;
        running.spawn("publisher with transactions", move |_| {
            let (log, ended) = transacted.run_in_transactions();
            (Log::Publish(log), ended)
        });
        let definer = definer::Definer::open(port, definitions.clone(), random.split())?;
        running.spawn("definer", move |_| {
            let (definitions, ended) = definer.run();
            (Log::Define(definitions), ended)
        });
        // A block of numbers, as it is a new publisher for each life of the queue.
        let publishers = (0..definer::LIVES_MAX).map(|_| ledger.new_publisher()).collect();
        let standing = definitions.queue(CHURNED_QUEUE);
        let churner = definer::Churner::open(port, standing, publishers, random.split())?;
        running.spawn("churner", move |_| {
            let (events, standing, ended) = churner.run();
            (Log::Churn(events, standing), ended)
        });
        let mut fleeting = Wire::open_confirming(port)?;
        let publisher = ledger.new_publisher();
        running.spawn("owner of fleeting queues", move |_| {
            (Log::Fleeting, definer::keep_fleeting_queues(&mut fleeting, publisher))
        });
        Ok(running)
    }

    fn start_consumers(&mut self, port: u16, ledger: &mut Ledger, random: &mut Random) -> io::Result<()> {
        let consumers = [
            ("direct-0", Manner::AckEach),
            ("direct-1", Manner::AckMany),
            ("requeued", Manner::Requeue),
            ("held", Manner::Hold),
            ("tx", Manner::AckMany),
            ("fan-0", Manner::AckEach),
            ("fan-2", Manner::Hold),
            (PRIORITY_QUEUE, Manner::Requeue),
            (QUORUM_QUEUE, Manner::Requeue),
        ];
        for (queue, manner) in consumers {
            // Now and then a queue only grows.
            if random.one_in(4) {
                continue;
            }
            let publisher = ledger.new_publisher();
            let consumer = consumer::Consumer::open(port, queue, manner, publisher, random.split())?;
            self.spawn(&format!("consumer of {queue}"), move |_| {
                let (log, syncs, faults, ended) = consumer.run();
                (Log::Consume(log, syncs, faults), ended)
            });
        }
        Ok(())
    }

    fn spawn(&mut self, who: &str, run: impl FnOnce(&Stage) -> (Log, io::Result<()>) + Send + 'static) {
        let (who, stage) = (who.to_owned(), Arc::clone(&self.stage));
        self.threads.push(thread::spawn(move || {
            let (log, ended) = run(&stage);
            (log, stage.fault(&who, ended))
        }));
    }

    /// Kills the broker, and takes down all that the threads know: what was wrong already before the kill.
    pub(crate) fn kill(
        self,
        kill: impl FnOnce(),
        ledger: &mut Ledger,
        definitions: &mut Definitions,
    ) -> Vec<String> {
        self.stage.killed.store(true, Ordering::SeqCst);
        kill();
        let mut faults = Vec::new();
        let mut consumed = Vec::new();
        for thread in self.threads {
            let (log, fault) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            faults.extend(fault);
            match log {
                Log::Publish(log) => ledger.record_publishes(&log),
                Log::Consume(log, syncs, damaged) => {
                    ledger.record_publishes(&syncs);
                    faults.extend(damaged);
                    consumed.push(log);
                }
                Log::Define(known) => definitions.update(known),
                Log::Churn(events, standing) => {
                    ledger.record_queue(CHURNED_QUEUE, &events);
                    definitions.set_queue(CHURNED_QUEUE, standing);
                }
                Log::Fleeting => {}
            }
        }
        for log in consumed {
            faults.extend(
                ledger.record_deliveries(&log).iter().map(|finding| format!("while it ran: {finding}")),
            );
        }
        ledger.crash();
        for queue in FLEETING_QUEUES {
            definitions.set_queue(queue, Standing::Gone);
        }
        faults
    }
}

/// queue.declare for a queue that ends with its connection, or with the broker.
fn fleeting_queue(queue: &str) -> queue::Declare<'_> {
    let exclusive = queue == "exclusive";
    // Durable and exclusive: it goes all the same.
    queue::Declare { durable: exclusive, exclusive, ..durable_queue(queue) }
}
