//! A publishing connection: writes batches of frames encoded beforehand, as fast as it can, at a
//! fixed rate, in a confirm window or in transactions. Started by `load`. A close from the broker is
//! noticed wherever answers are read, and by a thread that only reads where none are expected.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use leveret_codec::frame;
use leveret_codec::method::{Method, MethodId, tx};

use crate::client::{Client, SOCKET_TICK, close_connection, close_parts, refuse_close};
use crate::confirms::Unconfirmed;
use crate::consumer::CLOSE_PATIENCE;
use crate::error::Error;
use crate::latency::Latencies;
use crate::load::{Counter, Load, Phase, Shared, hot_parts};
use crate::message::{MessageBatch, MessageShape};
use crate::wire::{
    BASIC_ACK, BASIC_NACK, CONNECTION_BLOCKED, CONNECTION_CLOSE_OK, FrameReader, TX_COMMIT_OK, is_not_yet,
    write_while,
};

/// Prime, so that the sampled place wanders through batches of any size.
const SAMPLE_STRIDE: usize = 37;

/// A producer has so many bits of numbers before the next one's begin.
const PRODUCER_SHIFT: u32 = 40;

/// How a producer publishes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Pace {
    /// Messages per second; `None` is as fast as it goes.
    pub(crate) rate: Option<f64>,
    /// Unconfirmed messages at most; zero is no confirms.
    pub(crate) confirm_window: usize,
    /// Messages per transaction; zero is no transactions.
    pub(crate) tx_size: usize,
}

/// One producer and all it needs.
#[derive(Debug)]
pub(crate) struct Producer {
    stream: TcpStream,
    reader: FrameReader,
    batch: MessageBatch,
    pace: Pace,
    /// Which of how many producers: those with a rate take turns within one interval.
    place: (usize, usize),
    /// Messages still to send; `u64::MAX` is no limit.
    remaining: u64,
    unconfirmed: Unconfirmed,
    shared: Arc<Shared>,
    sent: Arc<Counter>,
    sent_count: u64,
    confirmed: Arc<Counter>,
    confirmed_count: u64,
    /// The last publish of a write and when it was written; one write at a time is timed.
    timed: Option<(u64, u64)>,
    /// From such a write to the confirm of its last publish.
    confirm_latencies: Latencies,
    /// The stop cut a message in two, so no further frame may follow.
    torn: bool,
}

impl Producer {
    /// Takes over a connection with channel 1 open and puts the channel into its mode.
    pub(crate) fn new(
        mut client: Client,
        load: &Load,
        shape: MessageShape,
        place: (usize, usize),
        shared: &Arc<Shared>,
        sent: Arc<Counter>,
        confirmed: Arc<Counter>,
    ) -> Result<Self, Error> {
        let pace = load.pace;
        if pace.confirm_window > 0 {
            client.select_confirms()?;
        }
        if pace.tx_size > 0 {
            let select = Method::TxSelect(tx::Select {});
            client.call(1, &select, MethodId::TX_SELECT_OK, "selecting transactions")?;
        }
        let count = (pace.tx_size > 0).then_some(pace.tx_size);
        let batch = MessageBatch::publishing(&shape, count);
        let (stream, reader) = hot_parts(client);
        Ok(Self {
            stream,
            reader,
            batch,
            pace,
            place,
            remaining: load.producer_messages.unwrap_or(u64::MAX),
            unconfirmed: Unconfirmed::new(pace.confirm_window),
            shared: Arc::clone(shared),
            sent,
            sent_count: 0,
            confirmed,
            confirmed_count: 0,
            timed: None,
            confirm_latencies: Latencies::new(),
            torn: false,
        })
    }

    /// Publishes until the load ends or its own messages are out; returns how long confirms took.
    pub(crate) fn run(mut self) -> Latencies {
        let published = if self.pace.tx_size > 0 {
            self.publish_in_transactions()
        } else if self.pace.confirm_window > 0 {
            self.publish_steadily()
        } else {
            self.run_watched();
            return Latencies::new();
        };
        match published {
            Ok(()) if self.remaining == 0 => self.shared.finished(),
            Ok(()) => {}
            Err(error) => {
                self.shared.fail(error);
                return self.confirm_latencies;
            }
        }
        if !self.torn {
            close_parts(&mut self.stream, &mut self.reader, CLOSE_PATIENCE);
        }
        self.confirm_latencies
    }

    /// No answers are expected, so a second thread reads: a close must not go unnoticed. It also sees
    /// the close-ok, by which the broker says that it has taken everything before.
    fn run_watched(mut self) {
        let stream = match self.stream.try_clone() {
            Ok(stream) => stream,
            Err(source) => return self.shared.fail(Error::Io { doing: "publishing", source }),
        };
        let reader = std::mem::replace(&mut self.reader, FrameReader::new(0));
        let mut watch = Watch { stream, reader, shared: Arc::clone(&self.shared) };
        let watching = thread::spawn(move || watch.run());
        let published = self.publish_steadily();
        if self.torn || published.is_err() || !send_close(&mut self.stream) {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        if let Err(error) = published {
            self.shared.fail(error);
        }
        if watching.join().is_ok() && self.remaining == 0 {
            self.shared.finished();
        }
    }

    fn publish_steadily(&mut self) -> Result<(), Error> {
        let started = self.shared.clock.now();
        let schedule = self.pace.rate.map(|rate| Schedule::new(started, rate, self.place));
        let mut sample = 0;
        while self.remaining > 0 && !self.shared.stopped() {
            let room = self.room();
            if room == 0 {
                self.read_answers()?;
                continue;
            }
            let now = self.shared.clock.now();
            let count = match &schedule {
                Some(schedule) => {
                    let due = schedule.due(now, self.sent_count).min(room);
                    if due == 0 {
                        thread::sleep(schedule.wait(now, self.sent_count).min(SOCKET_TICK));
                        continue;
                    }
                    for index in 0..due {
                        let intended = schedule.time_of(self.sent_count + index as u64);
                        self.batch.stamp(self.batch.cursor() + index, intended, self.shared.mark);
                    }
                    due
                }
                None => {
                    sample = self.stamp_one(sample, room, now);
                    room
                }
            };
            let messages = self.batch.cursor()..self.batch.cursor() + count;
            self.make_unique(messages.clone());
            self.write(self.batch.range(messages), count)?;
            self.batch.advance(count);
        }
        while self.unconfirmed.outstanding() > 0 && !self.shared.stopped() {
            self.read_answers()?;
        }
        Ok(())
    }

    /// At full speed one message of each write carries the time: a different place each time, so that
    /// neither the first nor the last of a batch stands for all.
    fn stamp_one(&mut self, previous: usize, count: usize, now: u64) -> usize {
        self.batch.stamp(previous, 0, self.shared.mark);
        let index = self.batch.cursor() + (previous + SAMPLE_STRIDE) % count;
        self.batch.stamp(index, now, self.shared.mark);
        index
    }

    /// Numbers that no other producer and no other run has: they begin at a place of this producer's own.
    fn make_unique(&mut self, messages: Range<usize>) {
        let own = self.shared.mark.wrapping_add((self.place.0 as u64) << PRODUCER_SHIFT);
        self.batch.make_unique(messages, own.wrapping_add(self.sent_count));
    }

    /// How many messages may go out with the next write; zero until a worthwhile part of the window is
    /// free, because a write per confirm would measure system calls.
    fn room(&self) -> usize {
        let most = (self.batch.count - self.batch.cursor())
            .min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let window = self.pace.confirm_window;
        if window == 0 {
            return most;
        }
        let worthwhile = if self.pace.rate.is_some() { 1 } else { (window / 4).clamp(1, most) };
        match self.unconfirmed.room() {
            room if room < worthwhile => 0,
            room => room.min(most),
        }
    }

    fn publish_in_transactions(&mut self) -> Result<(), Error> {
        let mut commit = Vec::new();
        frame::encode_method(&mut commit, 1, &Method::TxCommit(tx::Commit {}));
        self.batch.append(&commit);
        let mut sample = 0;
        while self.remaining > 0 && !self.shared.stopped() {
            let count = self.batch.count.min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
            sample = self.stamp_one(sample, count, self.shared.clock.now());
            self.make_unique(0..count);
            if count == self.batch.count {
                self.write(self.batch.range_with_appended(), count)?;
            } else {
                self.write(self.batch.range(0..count), count)?;
                self.write(self.batch.range_of_appended(), 0)?;
            }
            let committed = self.confirmed_count + count as u64;
            while self.confirmed_count < committed && !self.shared.stopped() {
                self.read_answers()?;
            }
        }
        Ok(())
    }

    /// Writes a part of the batch that holds `count` messages.
    fn write(&mut self, range: Range<usize>, count: usize) -> Result<(), Error> {
        let started = (self.pace.confirm_window > 0).then(|| self.shared.clock.now());
        let octets = self.batch.octets(range);
        let shared = &self.shared;
        let written = write_while(&mut self.stream, octets, || shared.stopped())
            .map_err(|source| Error::Io { doing: "publishing", source });
        let written = match written {
            Ok(written) => written,
            Err(error) => return Err(self.last_words().unwrap_or(error)),
        };
        let whole = written == octets.len();
        self.torn |= !whole;
        let count = if whole { count } else { written / self.batch.message_bytes() };
        self.sent_count += count as u64;
        self.sent.set(self.sent_count);
        if self.remaining != u64::MAX {
            self.remaining -= count as u64;
        }
        if let Some(started) = started {
            self.unconfirmed.published(count);
            if self.timed.is_none() && whole {
                self.timed = Some((self.sent_count, started));
            }
        }
        Ok(())
    }

    /// Why a write failed, if the broker said so before it hung up.
    fn last_words(&mut self) -> Option<Error> {
        match self.read_answers() {
            Err(error) if error.is_from_broker() => Some(error),
            _ => None,
        }
    }

    /// One read, and what it brought: confirms, commits, a close.
    fn read_answers(&mut self) -> Result<(), Error> {
        match self.reader.fill(&mut self.stream) {
            Ok(_) => {}
            Err(error) if is_not_yet(&error) => return Ok(()),
            Err(source) => return Err(Error::Io { doing: "waiting for confirms", source }),
        }
        while let Some(frame) = self.reader.next()? {
            match frame.method() {
                BASIC_ACK | BASIC_NACK => {
                    let (tag, multiple) = frame.settlement().unwrap_or_default();
                    self.confirmed_count += self.unconfirmed.settled(tag, multiple) as u64;
                }
                TX_COMMIT_OK => self.confirmed_count = self.sent_count,
                CONNECTION_BLOCKED => self.shared.blocked.bump(),
                _ => refuse_close(&frame)?,
            }
        }
        self.confirmed.set(self.confirmed_count);
        self.record_confirm();
        Ok(())
    }

    /// Notes how long the timed write has taken, once all of it is confirmed.
    fn record_confirm(&mut self) {
        let Some((last, started)) = self.timed else { return };
        if self.unconfirmed.oldest() > last {
            self.timed = None;
            if self.shared.phase() == Phase::Measure {
                self.confirm_latencies.record(self.shared.clock.now().saturating_sub(started));
            }
        }
    }
}

/// Reads beside a producer that expects nothing to read.
#[derive(Debug)]
struct Watch {
    stream: TcpStream,
    reader: FrameReader,
    shared: Arc<Shared>,
}

impl Watch {
    /// Until the close-ok, the end of the stream, or too long after the load has stopped.
    fn run(&mut self) {
        let mut stopped_at = None;
        loop {
            match self.reader.fill(&mut self.stream) {
                Ok(_) => {}
                Err(error) if is_not_yet(&error) => {}
                Err(source) => {
                    if !self.shared.stopped() {
                        self.shared.fail(Error::Io { doing: "publishing", source });
                    }
                    return;
                }
            }
            match self.take_frames() {
                Ok(false) => {}
                Ok(true) => return,
                Err(error) => return self.shared.fail(error),
            }
            if self.shared.stopped() {
                let since = *stopped_at.get_or_insert_with(Instant::now);
                if since.elapsed() > CLOSE_PATIENCE {
                    return;
                }
            }
        }
    }

    /// True once the broker has agreed to close.
    fn take_frames(&mut self) -> Result<bool, Error> {
        while let Some(frame) = self.reader.next()? {
            match frame.method() {
                CONNECTION_CLOSE_OK => return Ok(true),
                CONNECTION_BLOCKED => self.shared.blocked.bump(),
                _ => refuse_close(&frame)?,
            }
        }
        Ok(false)
    }
}

/// When each message of a producer with a rate should go out. Latency counts from these times, not
/// from when the message did go out: a broker that stalls the producer must not hide it.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    start: f64,
    interval: f64,
}

impl Schedule {
    #[expect(clippy::cast_precision_loss, reason = "exact for the first hundred days")]
    fn new(now: u64, rate: f64, (index, producers): (usize, usize)) -> Self {
        let interval = 1e9 / rate;
        Self { start: now as f64 + interval * index as f64 / producers.max(1) as f64, interval }
    }

    /// The time of the message with this number, from zero.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "exact for the first hundred days, and never negative"
    )]
    fn time_of(&self, number: u64) -> u64 {
        (self.start + self.interval * number as f64) as u64
    }

    /// How many are due and not sent yet.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "exact for the first hundred days; a negative value becomes zero, as it should"
    )]
    fn due(&self, now: u64, sent: u64) -> usize {
        let elapsed = now as f64 - self.start;
        let due = if elapsed < 0.0 { 0 } else { (elapsed / self.interval) as u64 + 1 };
        usize::try_from(due.saturating_sub(sent)).unwrap_or(usize::MAX)
    }

    /// Time until the next one.
    fn wait(&self, now: u64, sent: u64) -> Duration {
        Duration::from_nanos(self.time_of(sent).saturating_sub(now).max(1))
    }
}

fn send_close(stream: &mut TcpStream) -> bool {
    let mut out = Vec::new();
    frame::encode_method(&mut out, 0, &close_connection());
    stream.write_all(&out).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_producer_catches_up_from_the_intended_times() {
        let schedule = Schedule::new(1_000, 1_000_000.0, (0, 1));
        assert_eq!(schedule.due(1_000, 0), 1);
        assert_eq!(schedule.due(1_000, 1), 0);
        assert_eq!(schedule.wait(1_400, 1), Duration::from_nanos(600));
        assert_eq!(schedule.due(11_000, 1), 10);
        assert_eq!(schedule.time_of(5), 6_000);
    }

    #[test]
    fn producers_with_a_rate_take_turns() {
        let second = Schedule::new(0, 1_000_000.0, (1, 2));
        assert_eq!(second.time_of(0), 500);
        assert_eq!(second.due(499, 0), 0);
        assert_eq!(second.due(500, 0), 1);
    }
}
