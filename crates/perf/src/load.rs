//! One measured load: declares, connects, starts a thread per producer and consumer, lets them warm
//! up, measures, stops them and cleans up. Called by `run`, `ceiling` and `suite` with a [`Load`];
//! the threads are `producer` and `consumer`.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use leveret_codec::method::queue;
use leveret_codec::table::FieldTable;

use crate::client::{Client, Exchange};
use crate::consumer::Consumer;
use crate::error::Error;
use crate::latency::{Clock, Latencies, LatencySummary};
use crate::message::{MessageProperties, MessageShape, RoutingKeys};
use crate::process::Process;
use crate::producer::{Pace, Producer};
use crate::uri::Uri;
use crate::wire::{COLD_BUFFER_BYTES, FrameReader, READ_BUFFER_BYTES, STAMP_BYTES};

/// A load with a message count ends in an error when nothing moves for this long.
const STALL_DEADLINE: Duration = Duration::from_secs(30);

/// Everything that describes a load.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// The broker.
    pub(crate) uri: Uri,
    /// Its process, for CPU time and memory.
    pub(crate) broker: Option<Process>,
    /// Publishing connections.
    pub(crate) producers: usize,
    /// Consuming connections.
    pub(crate) consumers: usize,
    /// Body size in octets.
    pub(crate) size: usize,
    /// Measured time.
    pub(crate) duration: Duration,
    /// Time before it.
    pub(crate) warmup: Duration,
    /// How each producer publishes.
    pub(crate) pace: Pace,
    /// Each producer ends after this many messages.
    pub(crate) producer_messages: Option<u64>,
    /// Each consumer ends after this many messages.
    pub(crate) consumer_messages: Option<u64>,
    /// Prefetch of each consumer; zero is no limit.
    pub(crate) prefetch: u16,
    /// Acknowledge every so many messages; zero is automatic.
    pub(crate) ack_every: u32,
    /// Persistent messages in durable queues.
    pub(crate) persistent: bool,
    /// The queues; producers and consumers take them in turn.
    pub(crate) queues: Vec<String>,
    /// How many of them each consumer takes, on one channel.
    pub(crate) queues_per_consumer: usize,
    /// `None` is the default exchange with the queue as routing key.
    pub(crate) exchange: Option<Exchange>,
    /// Routing keys of messages, if there is an exchange.
    pub(crate) routing_keys: RoutingKeys,
    /// Key of bindings; `%d` in it binds a queue with each of the routing keys' numbers that are its own.
    pub(crate) binding_key: String,
    /// Further properties of messages.
    pub(crate) properties: MessageProperties,
    /// How long messages are to stay in the broker; what is later than that is the latency.
    pub(crate) expected_delay: Duration,
    /// Do not declare, bind or delete anything.
    pub(crate) predeclared: bool,
    /// Declare the queues auto-delete.
    pub(crate) auto_delete: bool,
    /// Arguments of queue.declare.
    pub(crate) queue_arguments: FieldTable,
    /// Arguments of basic.consume.
    pub(crate) consumer_arguments: FieldTable,
}

/// What a load came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Measured time in seconds.
    pub(crate) seconds: f64,
    /// Messages published in that time.
    pub(crate) sent: u64,
    /// Messages delivered in that time.
    pub(crate) received: u64,
    /// Messages confirmed in that time.
    pub(crate) confirmed: u64,
    /// Latencies of the messages that were stamped.
    pub(crate) latency: Option<LatencySummary>,
    /// Time from a write to the confirm of its last message, of the writes that were timed.
    pub(crate) confirm_latency: Option<LatencySummary>,
    /// CPU time of the broker in that time, in seconds.
    pub(crate) broker_cpu: Option<f64>,
    /// Resident memory of the broker before the connections and at the end of that time.
    pub(crate) broker_resident: Option<(u64, u64)>,
    /// CPU time of the generator in that time, in seconds.
    pub(crate) own_cpu: f64,
    /// How often the broker blocked a publisher.
    pub(crate) blocked: u64,
}

impl Outcome {
    /// What CPU time is divided by: deliveries, or publishes if nobody consumes.
    pub(crate) fn moved(&self) -> u64 {
        if self.received > 0 { self.received } else { self.sent }
    }

    /// Broker CPU in microseconds per message.
    pub(crate) fn broker_us_per_message(&self) -> Option<f64> {
        self.broker_cpu.and_then(|seconds| per_message(seconds, self.moved()))
    }

    /// Generator CPU in microseconds per message.
    pub(crate) fn own_us_per_message(&self) -> Option<f64> {
        per_message(self.own_cpu, self.moved())
    }

    /// A count as a rate.
    #[expect(clippy::cast_precision_loss, reason = "a report of three digits")]
    pub(crate) fn rate(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a report of three digits")]
fn per_message(seconds: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| seconds * 1e6 / count as f64)
}

/// Where a load stands; only ever moves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Not counted yet.
    Warmup = 0,
    /// Counted.
    Measure = 1,
    /// Everybody goes home.
    Stop = 2,
}

/// What a thread tells the one that waits.
#[derive(Debug)]
pub(crate) enum Event {
    /// It reached its message count.
    Finished,
    /// It failed, and left the error in [`Shared`].
    Failed,
    /// The user wants to end early.
    Interrupted,
}

/// A counter that one thread writes and another reads now and then, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Called by the owner only, so a plain store does.
    #[inline]
    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// Adds one; for rare events that several threads count.
    pub(crate) fn bump(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the threads of one load share.
#[derive(Debug)]
pub(crate) struct Shared {
    phase: AtomicU8,
    /// Time since the load began.
    pub(crate) clock: Clock,
    /// Marks the bodies of this run: a queue may hold those of another.
    pub(crate) mark: u64,
    /// How often the broker said connection.blocked.
    pub(crate) blocked: Counter,
    /// The first failure, or a later one that explains more. A mutex: written at most once per thread.
    failure: Mutex<Option<Error>>,
    events: mpsc::Sender<Event>,
}

impl Shared {
    fn new(events: mpsc::Sender<Event>) -> Self {
        let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, reason = "any 64 bits that differ between runs")]
        let mark = since_1970.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        let clock = Clock::start();
        let phase = AtomicU8::new(Phase::Warmup as u8);
        Self { phase, clock, mark, blocked: Counter::default(), failure: Mutex::new(None), events }
    }

    /// Where the load stands.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Warmup,
            1 => Phase::Measure,
            _ => Phase::Stop,
        }
    }

    /// True once everybody should go home.
    #[inline]
    pub(crate) fn stopped(&self) -> bool {
        self.phase() == Phase::Stop
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// Ends the load because of an error.
    pub(crate) fn fail(&self, error: Error) {
        let mut failure = self.failure();
        // A socket error that follows from the stop itself, or from an earlier close, says nothing new.
        let better = failure.as_ref().is_none_or(|first| error.is_from_broker() && !first.is_from_broker());
        if better {
            *failure = Some(error);
        }
        drop(failure);
        self.enter(Phase::Stop);
        let _ = self.events.send(Event::Failed);
    }

    /// Tells that a thread reached its message count.
    pub(crate) fn finished(&self) {
        let _ = self.events.send(Event::Finished);
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of all threads, each owned by one of them.
#[derive(Debug, Default)]
struct Counters {
    sent: Vec<Arc<Counter>>,
    confirmed: Vec<Arc<Counter>>,
    received: Vec<Arc<Counter>>,
}

/// The counters and clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Snapshot {
    at: Instant,
    sent: u64,
    confirmed: u64,
    received: u64,
    own_cpu: f64,
    broker_cpu: Option<f64>,
}

impl Counters {
    fn snapshot(&self, broker: Option<Process>) -> Result<Snapshot, Error> {
        let sum = |counters: &[Arc<Counter>]| counters.iter().map(|counter| counter.get()).sum();
        Ok(Snapshot {
            at: Instant::now(),
            sent: sum(&self.sent),
            confirmed: sum(&self.confirmed),
            received: sum(&self.received),
            own_cpu: Process::own().cpu_seconds()?,
            broker_cpu: broker.map(Process::cpu_seconds).transpose()?,
        })
    }
}

/// A load whose threads are running.
struct Running<'a> {
    load: &'a Load,
    shared: Arc<Shared>,
    events: mpsc::Receiver<Event>,
    counters: Counters,
    consumers: Vec<JoinHandle<Latencies>>,
    producers: Vec<JoinHandle<Latencies>>,
}

/// What a run has declared so far.
#[derive(Debug, Clone, Copy, Default)]
struct Declared {
    exchange: bool,
    queues: usize,
}

impl Load {
    /// No producer, no consumer and no queue yet, nothing to declare: the rest is for the caller to say.
    pub(crate) fn idle(uri: Uri, broker: Option<Process>) -> Self {
        Self {
            uri,
            broker,
            producers: 0,
            consumers: 0,
            size: STAMP_BYTES,
            duration: Duration::ZERO,
            warmup: Duration::ZERO,
            pace: Pace::default(),
            producer_messages: None,
            consumer_messages: None,
            prefetch: 0,
            ack_every: 0,
            persistent: false,
            queues: Vec::new(),
            queues_per_consumer: 1,
            exchange: None,
            routing_keys: RoutingKeys::default(),
            binding_key: String::new(),
            properties: MessageProperties::default(),
            expected_delay: Duration::ZERO,
            predeclared: true,
            auto_delete: false,
            queue_arguments: FieldTable::new(),
            consumer_arguments: FieldTable::new(),
        }
    }

    /// Runs the load to its end.
    pub(crate) fn run(&self) -> Result<Outcome, Error> {
        let resident_before = self.broker.map(Process::resident_bytes).transpose()?;
        let mut control = self.control()?;
        let mut declared = Declared::default();
        if let Err(error) = self.declare(&mut control, &mut declared) {
            // The refusal is what there is to tell, whatever becomes of this.
            let _ = self.control().and_then(|mut control| self.clean_up(&mut control, declared));
            return Err(error.of_declaration());
        }
        let outcome = self.run_threads(resident_before);
        let cleaned = self.clean_up(&mut control, declared).and_then(|()| control.close());
        let outcome = outcome?;
        cleaned?;
        Ok(outcome)
    }

    fn run_threads(&self, resident_before: Option<u64>) -> Result<Outcome, Error> {
        let (sender, events) = mpsc::channel();
        let interrupt = sender.clone();
        crate::on_interrupt(move || {
            let _ = interrupt.send(Event::Interrupted);
        });
        let shared = Arc::new(Shared::new(sender));
        let (counters, consumers, producers) = (Counters::default(), Vec::new(), Vec::new());
        let mut running = Running { load: self, shared, events, counters, consumers, producers };
        let measured = running.start().and_then(|()| running.measure());
        let resident_after = self.broker.map(Process::resident_bytes).transpose();
        let (latencies, confirm_latencies) = running.stop();
        if let Some(error) = running.shared.failure().take() {
            return Err(error);
        }
        let (first, last) = measured?;
        Ok(Outcome {
            seconds: (last.at - first.at).as_secs_f64(),
            sent: last.sent - first.sent,
            received: last.received - first.received,
            confirmed: last.confirmed - first.confirmed,
            latency: latencies.summary(),
            confirm_latency: confirm_latencies.summary(),
            broker_cpu: first.broker_cpu.zip(last.broker_cpu).map(|(before, after)| after - before),
            broker_resident: resident_before.zip(resident_after?),
            own_cpu: last.own_cpu - first.own_cpu,
            blocked: running.shared.blocked.get(),
        })
    }

    /// A connection with a channel.
    fn control(&self) -> Result<Client, Error> {
        let mut control = Client::connect(&self.uri, FrameReader::new(COLD_BUFFER_BYTES))?;
        control.open_channel(1)?;
        Ok(control)
    }

    fn declare(&self, control: &mut Client, declared: &mut Declared) -> Result<(), Error> {
        if self.predeclared {
            return Ok(());
        }
        if let Some(exchange) = &self.exchange {
            control.declare_exchange(exchange)?;
            declared.exchange = true;
        }
        for (index, queue) in self.queues.iter().enumerate() {
            control.declare_queue(queue::Declare {
                queue,
                passive: false,
                durable: self.persistent,
                exclusive: false,
                auto_delete: self.auto_delete,
                no_wait: false,
                arguments: self.queue_arguments.clone(),
            })?;
            declared.queues += 1;
            if let Some(exchange) = &self.exchange {
                for key in self.binding_keys(index) {
                    control.bind(queue, &exchange.name, &key)?;
                }
            }
        }
        Ok(())
    }

    /// The keys that a queue is bound with: numbered ones are dealt to the queues in turn.
    fn binding_keys(&self, queue: usize) -> Vec<String> {
        if !self.binding_key.contains("%d") {
            return vec![self.binding_key.clone()];
        }
        let numbers = (queue..self.routing_keys.count()).step_by(self.queues.len().max(1));
        numbers.map(|number| self.routing_keys.fill(&self.binding_key, number)).collect()
    }

    fn clean_up(&self, control: &mut Client, declared: Declared) -> Result<(), Error> {
        for queue in self.queues.iter().take(declared.queues) {
            control.delete_queue(queue)?;
        }
        match &self.exchange {
            Some(exchange) if declared.exchange => control.delete_exchange(&exchange.name),
            _ => Ok(()),
        }
    }

    fn queue(&self, index: usize) -> &str {
        self.queues.get(index % self.queues.len().max(1)).map_or("", String::as_str)
    }

    fn shape(&self, index: usize, frame_max: u32) -> MessageShape {
        let (exchange, routing_keys) = match &self.exchange {
            Some(exchange) => (exchange.name.clone(), self.routing_keys.clone()),
            None => (String::new(), RoutingKeys::one(self.queue(index))),
        };
        MessageShape {
            exchange,
            routing_keys,
            size: self.size,
            persistent: self.persistent,
            properties: self.properties.clone(),
            frame_max,
        }
    }
}

impl Running<'_> {
    /// Connects everybody, consumers first, so that the first message finds them.
    fn start(&mut self) -> Result<(), Error> {
        let load = self.load;
        for index in 0..load.consumers {
            let mut client = Client::connect(&load.uri, FrameReader::new(COLD_BUFFER_BYTES))?;
            client.open_channel(1)?;
            for part in 0..load.queues_per_consumer {
                let queue = load.queue(index * load.queues_per_consumer + part);
                let (tag, arguments) = (format!("c{index}-{part}"), load.consumer_arguments.clone());
                client.consume(queue, &tag, load.ack_every == 0, load.prefetch, arguments)?;
            }
            let counter = Arc::default();
            self.counters.received.push(Arc::clone(&counter));
            let consumer = Consumer::new(client, load, Arc::clone(&self.shared), counter);
            self.consumers.push(thread::spawn(move || consumer.run()));
        }
        let mut producers = Vec::new();
        for index in 0..load.producers {
            let mut client = Client::connect(&load.uri, FrameReader::new(COLD_BUFFER_BYTES))?;
            client.open_channel(1)?;
            let shape = load.shape(index, client.frame_max);
            let (sent, confirmed) = (Arc::default(), Arc::default());
            self.counters.sent.push(Arc::clone(&sent));
            self.counters.confirmed.push(Arc::clone(&confirmed));
            let place = (index, load.producers);
            producers.push(Producer::new(client, load, shape, place, &self.shared, sent, confirmed)?);
        }
        self.producers =
            producers.into_iter().map(|producer| thread::spawn(move || producer.run())).collect();
        Ok(())
    }

    fn measure(&mut self) -> Result<(Snapshot, Snapshot), Error> {
        let counted = self.load.producer_messages.is_some() || self.load.consumer_messages.is_some();
        if counted {
            self.shared.enter(Phase::Measure);
            // Counters start at zero, and a short load may be half over by now.
            let mut first = self.counters.snapshot(self.load.broker)?;
            (first.sent, first.confirmed, first.received) = (0, 0, 0);
            self.wait_for_counts()?;
            return Ok((first, self.counters.snapshot(self.load.broker)?));
        }
        self.wait_for(self.load.warmup)?;
        let first = self.counters.snapshot(self.load.broker)?;
        self.shared.enter(Phase::Measure);
        self.wait_for(self.load.duration)?;
        Ok((first, self.counters.snapshot(self.load.broker)?))
    }

    /// Waits a fixed time; a failure or the user cuts it short.
    fn wait_for(&self, time: Duration) -> Result<(), Error> {
        match self.events.recv_timeout(time) {
            Ok(Event::Interrupted) => Err(interrupted()),
            // The failure itself is taken from where it was left.
            Ok(Event::Failed | Event::Finished) | Err(_) => Ok(()),
        }
    }

    /// Waits until each thread that has a message count has reached it.
    fn wait_for_counts(&self) -> Result<(), Error> {
        let producers = self.load.producer_messages.map_or(0, |_| self.load.producers);
        let consumers = self.load.consumer_messages.map_or(0, |_| self.load.consumers);
        let mut missing = producers + consumers;
        let (mut moved, mut moved_at) = (0, Instant::now());
        while missing > 0 {
            match self.events.recv_timeout(Duration::from_secs(1)) {
                Ok(Event::Finished) => missing -= 1,
                Ok(Event::Interrupted) => return Err(interrupted()),
                Ok(Event::Failed) | Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let now = self.counters.snapshot(None)?;
                    if moved != now.sent + now.received + now.confirmed {
                        (moved, moved_at) = (now.sent + now.received + now.confirmed, Instant::now());
                    } else if moved_at.elapsed() > STALL_DEADLINE {
                        let doing = "waiting for the next message or confirm";
                        return Err(Error::Timeout { doing, after: STALL_DEADLINE });
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends all threads; each of their waits looks at the phase. Latencies of messages and of confirms.
    fn stop(&mut self) -> (Latencies, Latencies) {
        self.shared.enter(Phase::Stop);
        let (mut latencies, mut confirm_latencies) = (Latencies::new(), Latencies::new());
        for producer in self.producers.drain(..) {
            match producer.join() {
                Ok(recorded) => confirm_latencies.merge(&recorded),
                Err(_) => self.shared.fail(Error::Protocol("a producer thread panicked".to_owned())),
            }
        }
        for consumer in self.consumers.drain(..) {
            match consumer.join() {
                Ok(recorded) => latencies.merge(&recorded),
                Err(_) => self.shared.fail(Error::Protocol("a consumer thread panicked".to_owned())),
            }
        }
        (latencies, confirm_latencies)
    }
}

fn interrupted() -> Error {
    Error::Usage("interrupted; what was declared has been deleted".to_owned())
}

/// The socket and the read buffer of a connection that is about to be hot.
pub(crate) fn hot_parts(client: Client) -> (std::net::TcpStream, FrameReader) {
    let (stream, mut reader) = client.into_parts();
    reader.grow(READ_BUFFER_BYTES);
    (stream, reader)
}
