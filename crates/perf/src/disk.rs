//! What the disk alone can do: one small write and one fdatasync at a time into a file that was filled before, as
//! a journal does it. A broker that syncs each confirm is measured against this. Called by `main`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::cli::seconds;
use crate::error::Error;
use crate::latency::{Clock, Latencies, LatencySummary};
use crate::report::{grouped, json, percentiles};

/// The file: as much as a journal file of the usual size, so that the head does not stay in one place.
const FILE_BYTES: usize = 64 * 1024 * 1024;
/// It is filled in pieces of this size.
const FILL_BYTES: usize = 1024 * 1024;

/// Flags of `disk`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DiskArgs {
    /// Directory on the disk in question.
    #[arg(long)]
    dir: PathBuf,
    /// Octets of each write.
    #[arg(short = 's', long, default_value_t = 512)]
    size: usize,
    /// Measured seconds.
    #[arg(short = 'z', long = "time", default_value_t = 5.0)]
    seconds: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What the disk came to.
#[derive(Debug, Serialize)]
struct DiskReport {
    bytes_per_write: usize,
    syncs_per_second: f64,
    sync: Option<LatencySummary>,
}

/// Measures and prints.
pub(crate) fn run(args: &DiskArgs) -> Result<(), Error> {
    let time = seconds(args.seconds, "-z")?;
    if args.size == 0 || args.size > FILL_BYTES {
        return Err(Error::Usage(format!("-s: a write has 1 to {FILL_BYTES} octets")));
    }
    let report = measure(&args.dir, args.size, time).map_err(|source| {
        let what = format!("writing to the disk of {}", args.dir.display());
        Error::System { what, source }
    })?;
    if args.json {
        println!("{}", json(&report)?);
    } else {
        println!(
            "syncs      {}/s of {} octets each",
            grouped(report.syncs_per_second),
            report.bytes_per_write
        );
        if let Some(sync) = &report.sync {
            println!("a sync     {}", percentiles(sync));
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a report of three digits")]
fn measure(dir: &Path, size: usize, time: Duration) -> io::Result<DiskReport> {
    let file = filled_file(dir)?;
    let block = vec![b'x'; size];
    let (clock, mut latencies) = (Clock::start(), Latencies::new());
    let (started, mut count, mut offset) = (Instant::now(), 0_u64, 0);
    while started.elapsed() < time {
        let before = clock.now();
        file.write_all_at(&block, offset as u64)?;
        file.sync_data()?;
        latencies.record(clock.now() - before);
        count += 1;
        offset += size;
        if offset + size > FILE_BYTES {
            offset = 0;
        }
    }
    let syncs_per_second = count as f64 / started.elapsed().as_secs_f64();
    Ok(DiskReport { bytes_per_write: size, syncs_per_second, sync: latencies.summary() })
}

/// A file of zeros that are on the disk. It has no name any more, so that it goes however this process ends.
fn filled_file(dir: &Path) -> io::Result<File> {
    let path = dir.join(format!("leveret-perf-disk-{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    let zeros = vec![0; FILL_BYTES];
    for piece in 0..FILE_BYTES / FILL_BYTES {
        file.write_all_at(&zeros, (piece * FILL_BYTES) as u64)?;
    }
    file.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sync_is_counted_and_nothing_is_left() {
        let dir = std::env::temp_dir().join(format!("leveret-perf-disk-test-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let report = measure(&dir, 512, Duration::from_millis(50)).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir(&dir).unwrap();
        assert!(report.syncs_per_second > 0.0, "{report:?}");
        assert!(report.sync.is_some_and(|sync| sync.samples > 0), "{report:?}");
    }

    #[test]
    fn a_directory_that_is_missing_is_an_error_with_its_name() {
        let args = DiskArgs { dir: "/no/such/place".into(), size: 512, seconds: 0.1, json: false };
        let error = run(&args).unwrap_err().to_string();
        assert!(error.contains("/no/such/place"), "{error}");
    }
}
