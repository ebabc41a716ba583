//! How much memory this process may use: the machine's, or its control group's limit if that is lower.
//!
//! Asked where shares of the memory become octets: at the start, and when an operator changes a limit.

use std::fs;
use std::path::Path;

/// Taken for the machine's memory where it cannot be found out.
// COMPAT: RabbitMQ assumes as much on platforms it does not know.
const MEMORY_BYTES_ASSUMED: u64 = 1024 * 1024 * 1024;

/// Memory that this process may use.
pub(crate) fn total_bytes() -> u64 {
    total_bytes_below(Path::new("/"))
}

fn total_bytes_below(root: &Path) -> u64 {
    let machine = machine_bytes(root).unwrap_or(MEMORY_BYTES_ASSUMED);
    control_group_limits(root).into_iter().fold(machine, u64::min)
}

fn machine_bytes(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// The limits of the process's control group and of all groups around it, any of which may be the lowest.
fn control_group_limits(root: &Path) -> Vec<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut limits = Vec::new();
    for line in groups.lines() {
        // Lines are `number:controllers:path`; version 2 names no controllers.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (mount, file) = if controllers.is_empty() {
            ("sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        // In a container the path may be the host's and not exist here; then the mount is the group.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let limit = fs::read_to_string(root.join(mount).join(group).join(file)).ok();
            // The text "max" means no limit.
            limits.extend(limit.and_then(|limit| limit.trim().parse::<u64>().ok()));
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::TempDir;

    const MEMINFO: &str = "MemTotal:       2048 kB\nMemFree:        1024 kB\n";

    fn memory_of(files: &[(&str, &str)]) -> u64 {
        let root = TempDir::new();
        for (path, text) in files {
            root.write(path, text);
        }
        total_bytes_below(root.path())
    }

    #[test]
    fn without_a_control_group_the_machine_counts() {
        assert_eq!(memory_of(&[("proc/meminfo", MEMINFO)]), 2048 * 1024);
    }

    #[test]
    fn a_lower_limit_of_a_surrounding_group_counts() {
        let files = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/pod/broker\n"),
            ("sys/fs/cgroup/pod/broker/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/memory.max", "1000000\n"),
        ];
        assert_eq!(memory_of(&files), 1_000_000);
    }

    #[test]
    fn the_first_version_of_control_groups_is_understood() {
        let files = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "5:cpuset:/x\n4:hugetlb,memory:/not/visible/here\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500000\n"),
        ];
        assert_eq!(memory_of(&files), 500_000);
    }

    #[test]
    fn a_limit_above_the_machine_does_not_count() {
        let files = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "4:memory:/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(memory_of(&files), 2048 * 1024);
    }

    #[test]
    fn an_unknown_machine_is_taken_for_a_small_one() {
        assert_eq!(memory_of(&[]), MEMORY_BYTES_ASSUMED);
    }
}
