//! A process that commits to a catalog is killed with SIGKILL: what it was told is committed is there, every batch
//! whole. The process is this test itself, started again.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use leveret_store::catalog::{Catalog, SledCatalog};
use leveret_store::entries::Change;

/// Tells the child where the catalog is.
const DIR: &str = "LEVERET_CATALOG_KILL_DIR";

const KEYS: u64 = 20;

#[test]
fn what_was_committed_before_a_kill_is_there() {
    if let Some(dir) = env::var_os(DIR) {
        commit_until_killed(Path::new(&dir));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path().join("catalog");
    let mut last = 0;
    for round in 0..8_u64 {
        let mut child = start_child(&dir);
        let stdout = child.0.stdout.take().expect("its output is piped");
        // The output of the test harness comes first, on a line of its own or before the first number.
        let committed = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| line.rsplit("committed ").next()?.parse::<u64>().ok())
            .nth(1 + usize::try_from(round * 7 % 12).expect("a small number"))
            .expect("the child commits until it is killed");
        drop(child);
        let found = check(&dir);
        assert!(found >= committed, "{committed} was committed, {found} found");
        assert!(found > last, "every round commits more");
        last = found;
    }
}

/// A process that is killed when this is dropped, by a failing test too.
struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        self.0.kill().expect("the child is running");
        self.0.wait().expect("the child can be waited for");
    }
}

fn start_child(dir: &Path) -> KilledOnDrop {
    let child = Command::new(env::current_exe().expect("the path of this test"))
        .args(["--exact", "what_was_committed_before_a_kill_is_there", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn();
    KilledOnDrop(child.expect("this test can be started again"))
}

/// Writes the number of the commit to every key, some of them large.
fn commit_until_killed(dir: &Path) -> ! {
    let (mut catalog, entries) = SledCatalog::open(dir).expect("the catalog opens after a kill");
    let mut number = entries.map_or(0, |entries| number_in(&entries));
    loop {
        number += 1;
        let changes: Vec<_> = (0..KEYS)
            .map(|key| {
                let mut value = number.to_le_bytes().to_vec();
                value.resize(8 + usize::try_from(number * key % 3000).expect("a small number"), 0);
                Change::put(key.to_be_bytes().map(|octet| octet + 1).to_vec(), value)
            })
            .collect();
        catalog.commit(&changes).expect("the disk works");
        println!("committed {number}");
        std::io::stdout().flush().expect("the parent listens");
    }
}

/// The number that all entries agree on.
fn check(dir: &Path) -> u64 {
    let (_, entries) = SledCatalog::open(dir).expect("the catalog opens after a kill");
    let entries = entries.expect("the catalog was made before the first commit");
    assert_eq!(entries.len() as u64, KEYS);
    number_in(&entries)
}

fn number_in(entries: &[(Vec<u8>, Vec<u8>)]) -> u64 {
    let numbers: Vec<_> = entries
        .iter()
        .map(|(_, value)| u64::from_le_bytes(*value.first_chunk().expect("values begin with a number")))
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]), "a batch is whole: {numbers:?}");
    numbers.first().copied().unwrap_or_default()
}
