//! Rows about what outlives the broker: a backlog that is deep, and many idle durable queues; what they take on the
//! disk, and how long a broker with them needs to come back. They run when they are named, since they take long
//! and, for their restarts, a broker that was started here.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use leveret_codec::method::queue;
use leveret_codec::table::FieldTable;

use crate::error::Error;
use crate::grow::Grow;
use crate::grow::messages::plain;
use crate::grow::server::Ending;
use crate::grow::topology::{declare_pipelined, delete_pipelined};
use crate::load::Load;
use crate::probe::{Figure, mebibytes, memory_each};
use crate::producer::Pace;

/// Unconfirmed messages while the backlog is made.
const WINDOW: usize = 1_000;
/// The first and the last of so many parts of the backlog are measured by themselves.
const PARTS: u64 = 10;
/// Prefetch and acks of the consumer that drains it.
const PREFETCH: u16 = 1_000;
const ACK_EVERY: u32 = 100;
/// A broker may give disk space back some time after the last ack.
const DISK_SETTLE_DEADLINE: Duration = Duration::from_secs(30);
const DISK_SETTLE_TICK: Duration = Duration::from_secs(1);

/// A durable queue that fills, the broker restarted with it, and the queue drained.
pub(super) fn deep(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let queue = grow.name("deep");
    let mut control = grow.connect_with_channel()?;
    control.declare_queue(queue::Declare {
        queue: &queue,
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: FieldTable::new(),
    })?;
    // Not kept open: it would not outlive a restart.
    control.close()?;
    let measured = fill_restart_drain(grow, &queue);
    let mut control = grow.connect_with_channel()?;
    let deleted = control.delete_queue(&queue).and_then(|()| control.close());
    let figures = measured?;
    deleted?;
    Ok(figures)
}

fn fill_restart_drain(grow: &Grow, queue: &str) -> Result<Vec<Figure>, Error> {
    let (count, size) = (grow.args.backlog, grow.args.size);
    let load = || Ok::<_, Error>(Load { queues: vec![queue.to_owned()], persistent: true, ..plain(grow)? });
    let fill = |messages: u64| {
        let pace = Pace { confirm_window: WINDOW, ..Pace::default() };
        Load { producers: 1, producer_messages: Some(messages), pace, ..load()? }.run()
    };
    let (memory_before, disk_before) = (grow.probe.settled()?, grow.disk_bytes());
    let part = (count / PARTS).max(1);
    let shallow = fill(part)?;
    if let Some(middle) = count.checked_sub(2 * part).filter(|&middle| middle > 0) {
        fill(middle)?;
    }
    let last = fill(part)?;
    let (memory_full, disk_full) = (grow.probe.settled()?, grow.disk_bytes());
    let [first_rate, last_rate] = [&shallow, &last].map(|outcome| outcome.rate(outcome.confirmed));
    let mut figures = vec![
        Figure::new(&format!("first {part} of {count} messages of {size} B in, confirmed"), first_rate, "/s"),
        Figure::new(&format!("last {part} of them"), last_rate, "/s"),
        Figure::new("last against first", 100.0 * last_rate / first_rate.max(1e-9), "%"),
    ];
    figures.extend(mebibytes("resident before", memory_before));
    figures.extend(mebibytes("resident with the backlog", memory_full));
    figures.extend(mebibytes("disk before", disk_before));
    figures.extend(mebibytes("disk with the backlog", disk_full));
    figures.extend(disk_each(disk_before, disk_full, count));
    figures.extend(restarts(grow)?);
    figures.extend(mebibytes("resident after the restarts", grow.probe.settled()?));
    let (prefetch, ack_every) = (PREFETCH, ACK_EVERY);
    let drain =
        Load { consumers: 1, consumer_messages: Some(count), prefetch, ack_every, ..load()? }.run()?;
    figures.push(Figure::new("the same out, acknowledged", drain.rate(drain.received), "/s"));
    figures.extend(mebibytes("resident after the drain", grow.probe.settled()?));
    figures.extend(mebibytes("disk after the drain", settled_disk(grow)));
    Ok(figures)
}

/// Many durable queues that nobody uses.
pub(super) fn idle_queues(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let (count, prefix) = (grow.args.queues, grow.name("durable"));
    let (memory_before, disk_before) = (grow.probe.settled()?, grow.disk_bytes());
    let mut client = grow.connect_with_channel()?;
    let ((), declared) = grow.probe.measure(|| declare_pipelined(&mut client, &prefix, 0..count, true))?;
    client.close()?;
    let (memory_full, disk_full) = (grow.probe.settled()?, grow.disk_bytes());
    let mut figures = declared.figures("declare a durable queue, pipelined", count);
    figures.extend(memory_each(
        &format!("memory of an idle durable queue ({count})"),
        memory_before,
        memory_full,
        count,
    ));
    figures.extend(disk_each(disk_before, disk_full, count as u64));
    figures.extend(restarts(grow)?);
    let again = grow.probe.settled()?;
    figures.extend(memory_each("memory of one after a restart", memory_before, again, count));
    let mut client = grow.connect_with_channel()?;
    let ((), deleted) = grow.probe.measure(|| delete_pipelined(&mut client, &prefix, 0..count))?;
    client.close()?;
    figures.extend(deleted.figures("delete a durable queue, pipelined", count));
    Ok(figures)
}

/// How long the broker takes to stop and to come back, if it was started here.
fn restarts(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let mut figures = Vec::new();
    for (ending, name) in [(Ending::Orderly, "SIGTERM"), (Ending::Killed, "SIGKILL")] {
        let Some(restart) = grow.restart(ending)? else { break };
        if ending == Ending::Orderly {
            figures.push(Figure::new("from SIGTERM to the end", restart.stop_seconds, "s"));
        }
        let what = format!("from start to the first channel, after {name}");
        figures.push(Figure::new(&what, restart.start_seconds, "s"));
    }
    Ok(figures)
}

#[expect(clippy::cast_precision_loss, reason = "a report of three digits")]
fn disk_each(before: Option<u64>, full: Option<u64>, count: u64) -> Option<Figure> {
    let (before, full) = before.zip(full)?;
    Some(Figure::new("disk of each", (full as f64 - before as f64) / count.max(1) as f64, "B each"))
}

/// What the data directory takes once that has stopped shrinking.
fn settled_disk(grow: &Grow) -> Option<u64> {
    let deadline = Instant::now() + DISK_SETTLE_DEADLINE;
    let mut least = grow.disk_bytes()?;
    let mut least_at = Instant::now();
    while Instant::now() < deadline && least_at.elapsed() < 5 * DISK_SETTLE_TICK {
        thread::sleep(DISK_SETTLE_TICK);
        let now = grow.disk_bytes()?;
        if now < least {
            (least, least_at) = (now, Instant::now());
        }
    }
    grow.disk_bytes()
}

/// What a directory takes on the disk, as du counts it. Files that go meanwhile count nothing.
pub(super) fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_takes_what_its_files_take() {
        let dir = std::env::temp_dir().join(format!("leveret-perf-du-test-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("below")).unwrap();
        std::fs::write(dir.join("below/one"), vec![1; 100_000]).unwrap();
        std::fs::write(dir.join("two"), vec![1; 100_000]).unwrap();
        // A hole takes nothing.
        std::fs::File::create(dir.join("three")).unwrap().set_len(1 << 30).unwrap();
        let used = disk_bytes(&dir);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!((200_000..400_000).contains(&used), "{used}");
        assert_eq!(disk_bytes(Path::new("/no/such/place")), 0);
    }
}
