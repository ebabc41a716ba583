//! CPU time and resident memory of a process, from `/proc`. Asked by `load` before and after the
//! measured time, and by `grow` around each step.

use std::fs;
use std::io;

use crate::error::Error;

/// Linux reports times to user space in hundredths of a second on every architecture built today.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that is looked at from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: u32,
}

impl Process {
    /// The process with this id.
    pub(crate) fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// This process.
    pub(crate) fn own() -> Self {
        Self { pid: std::process::id() }
    }

    /// User and system time so far, in seconds.
    pub(crate) fn cpu_seconds(self) -> Result<f64, Error> {
        let stat = self.read("stat")?;
        parse_cpu_ticks(&stat)
            .map(|ticks| ticks / TICKS_PER_SECOND)
            .ok_or_else(|| self.failed("stat", io::ErrorKind::InvalidData.into()))
    }

    /// Resident memory in octets. `smaps_rollup` is exact; `status` may lag behind by some hundred
    /// KiB, and is what other users' processes show.
    pub(crate) fn resident_bytes(self) -> Result<u64, Error> {
        let exact = self.read("smaps_rollup").ok().and_then(|text| parse_kib(&text, "Rss:"));
        let kib = match exact {
            Some(kib) => Some(kib),
            None => parse_kib(&self.read("status")?, "VmRSS:"),
        };
        kib.map(|kib| kib * 1024).ok_or_else(|| self.failed("status", io::ErrorKind::InvalidData.into()))
    }

    fn read(self, file: &str) -> Result<String, Error> {
        fs::read_to_string(format!("/proc/{}/{file}", self.pid)).map_err(|source| self.failed(file, source))
    }

    fn failed(self, file: &str, source: io::Error) -> Error {
        Error::System { what: format!("reading {file} of process {}", self.pid), source }
    }
}

/// Lets sleeps of this thread, and of those it starts, end on time: the kernel's default slack of
/// 50 µs would show in every latency. Best effort, other systems have no such file.
pub(crate) fn wake_on_time() {
    let _ = fs::write("/proc/self/timerslack_ns", "1");
}

/// Sum of the fields utime and stime; the name before them may hold spaces and brackets.
fn parse_cpu_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(parse_cpu_ticks(stat), Some(200.0));
        assert_eq!(parse_cpu_ticks("42 (short) S"), None);
    }

    #[test]
    fn memory_is_found_by_its_key() {
        assert_eq!(parse_kib("Name:\tx\nVmRSS:\t  1234 kB\n", "VmRSS:"), Some(1234));
        assert_eq!(parse_kib("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn this_process_has_memory_and_time() {
        assert!(Process::own().resident_bytes().unwrap() > 100_000);
        assert!(Process::own().cpu_seconds().unwrap() >= 0.0);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error_with_its_number() {
        let error = Process::new(u32::MAX).cpu_seconds().unwrap_err();
        assert!(error.to_string().contains("4294967295"), "{error}");
    }
}
