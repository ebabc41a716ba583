//! A consuming connection: counts deliveries, acknowledges, records latencies. Started by `load`
//! once basic.consume-ok is there. It looks for frame boundaries, the delivery tag and the stamp, and
//! at nothing else.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{close_parts, refuse_close};
use crate::error::Error;
use crate::latency::Latencies;
use crate::load::{Counter, Load, Phase, Shared, hot_parts};
use crate::wire::{BASIC_DELIVER, BODY, FrameReader, METHOD, is_not_yet, push_ack, read_stamp, write_while};

/// What was delivered already may still be on its way when the load ends.
pub(crate) const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// One consumer and all it needs.
#[derive(Debug)]
pub(crate) struct Consumer {
    stream: TcpStream,
    reader: FrameReader,
    shared: Arc<Shared>,
    counter: Arc<Counter>,
    latencies: Latencies,
    ack_every: u32,
    /// How long a message is to stay in the broker, in nanoseconds.
    expected_delay_ns: u64,
    /// Ends after so many.
    target: Option<u64>,
    received: u64,
    unacked: u32,
    last_tag: u64,
    /// The next body frame is the first of its message: the one with the stamp.
    body_begins: bool,
    acks: Vec<u8>,
}

impl Consumer {
    /// Takes over a connection that consumes on channel 1.
    pub(crate) fn new(
        client: crate::client::Client,
        load: &Load,
        shared: Arc<Shared>,
        counter: Arc<Counter>,
    ) -> Self {
        let (stream, reader) = hot_parts(client);
        Self {
            stream,
            reader,
            shared,
            counter,
            latencies: Latencies::new(),
            ack_every: load.ack_every,
            expected_delay_ns: u64::try_from(load.expected_delay.as_nanos()).unwrap_or(u64::MAX),
            target: load.consumer_messages,
            received: 0,
            unacked: 0,
            last_tag: 0,
            body_begins: false,
            acks: Vec::new(),
        }
    }

    /// Consumes until the load ends; returns what it recorded.
    pub(crate) fn run(mut self) -> Latencies {
        if let Err(error) = self.consume() {
            self.shared.fail(error);
        } else {
            close_parts(&mut self.stream, &mut self.reader, CLOSE_PATIENCE);
        }
        self.latencies
    }

    fn consume(&mut self) -> Result<(), Error> {
        while !self.shared.stopped() {
            // Frames may wait in the buffer already: the first came along with consume-ok.
            self.take_frames()?;
            if self.target.is_some_and(|target| self.received >= target) {
                self.acknowledge_rest();
                self.write_acks()?;
                self.shared.finished();
                return Ok(());
            }
            self.write_acks()?;
            match self.reader.fill(&mut self.stream) {
                Ok(_) => {}
                Err(error) if is_not_yet(&error) => {}
                Err(source) => return Err(Error::Io { doing: "consuming", source }),
            }
        }
        Ok(())
    }

    /// Goes through everything that was read. The time is taken once: all of it arrived with one read.
    fn take_frames(&mut self) -> Result<(), Error> {
        let recording = self.shared.phase() == Phase::Measure;
        let now = self.shared.clock.now();
        while let Some(frame) = self.reader.next()? {
            if frame.kind == BODY {
                if std::mem::take(&mut self.body_begins)
                    && recording
                    && let Some(sent) = read_stamp(frame.payload, self.shared.mark)
                {
                    self.latencies.record_late(now.saturating_sub(sent), self.expected_delay_ns);
                }
            } else if frame.kind == METHOD {
                if frame.method() != BASIC_DELIVER {
                    refuse_close(&frame)?;
                    continue;
                }
                self.received += 1;
                self.body_begins = true;
                if self.ack_every > 0 {
                    self.last_tag = frame.delivery_tag().unwrap_or(self.last_tag);
                    self.unacked += 1;
                    if self.unacked == self.ack_every {
                        push_ack(&mut self.acks, 1, self.last_tag, self.ack_every > 1);
                        self.unacked = 0;
                    }
                }
            }
        }
        self.counter.set(self.received);
        Ok(())
    }

    fn acknowledge_rest(&mut self) {
        if self.unacked > 0 {
            push_ack(&mut self.acks, 1, self.last_tag, true);
            self.unacked = 0;
        }
    }

    fn write_acks(&mut self) -> Result<(), Error> {
        if self.acks.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        write_while(&mut self.stream, &self.acks, || shared.stopped())
            .map_err(|source| Error::Io { doing: "acknowledging", source })?;
        self.acks.clear();
        Ok(())
    }
}
