//! Rounds of load, SIGKILL at a random moment, start, and survey. Several rounds share a data directory, so that
//! what survived one crash has to survive the next.

use crate::check::unsound;
use crate::ledger::{Definitions, Ledger};
use crate::load::{self, CHURNED_QUEUE, QUEUES};
use crate::node::{DataDir, Node, start_and_kill};
use crate::random::{Random, seed};
use crate::survey::survey;

/// Rounds if `LEVERET_CRASH_ROUNDS` does not say.
const ROUNDS: u64 = 12;

/// Rounds that share a data directory.
const ROUNDS_PER_LIFE: u64 = 4;

/// Faults that are printed: one is enough to begin with, and a lost queue brings thousands.
const FAULTS_SHOWN: usize = 30;

/// Settings that make checkpoints, page-outs and compaction happen within one round.
const SMALL: [[&str; 2]; 2] = [["--journal-bytes-max", "16MiB"], ["--message-cache-bytes", "4MiB"]];

/// A data directory and what must be on it.
struct Life {
    data_dir: DataDir,
    ledger: Ledger,
    definitions: Definitions,
    random: Random,
    /// Rounds so far.
    rounds: u64,
}

impl Life {
    fn new(random: Random) -> Self {
        let data_dir = DataDir::new("crash");
        Self { data_dir, ledger: Ledger::default(), definitions: Definitions::default(), random, rounds: 0 }
    }

    fn flags(&mut self) -> Vec<&'static str> {
        let mut flags: Vec<&str> = Vec::new();
        for setting in SMALL {
            // Now and then the defaults, which keep more in memory and in the journal.
            if !self.random.one_in(4) {
                flags.extend(setting);
            }
        }
        // The end of a process takes nothing that was confirmed, however the disk is synced.
        flags.extend(["--sync", *self.random.pick(&["always", "always", "interval", "os"])]);
        flags
    }

    /// One load up to the kill: what was wrong before it.
    fn load_and_kill(&mut self) -> Vec<String> {
        let flags = self.flags();
        let mut node = Node::start(self.data_dir.path(), &flags);
        if self.rounds == 0 {
            load::declare_topology(node.port, &mut self.definitions).expect("the queues can be declared");
        }
        self.rounds += 1;
        let running = load::Running::start(node.port, &mut self.ledger, &self.definitions, &mut self.random);
        let running = running.expect("the load can be started");
        // The moment is what is tested; nothing is waited for.
        std::thread::sleep(self.random.millis(20, 1_500));
        let faults = running.kill(|| node.kill(), &mut self.ledger, &mut self.definitions);
        node.assert_sane_log();
        faults
    }

    /// Kills brokers while they recover, before and after they take connections.
    fn kill_recoveries(&mut self) -> u32 {
        let mut kills = 0;
        while kills < 3 && self.random.one_in(2) {
            let (flags, after) = (self.flags(), self.random.millis(1, 300));
            start_and_kill(self.data_dir.path(), &flags, after);
            kills += 1;
        }
        kills
    }

    /// Starts a broker and compares: what is wrong, and what the broker says that it found.
    fn recover(&mut self) -> (Vec<String>, String) {
        let flags = self.flags();
        let mut node = Node::start(self.data_dir.path(), &flags);
        let faults = survey(node.port, &mut self.ledger, &mut self.definitions, &mut self.random);
        node.assert_sane_log();
        let mut recovered = node.recovered();
        if self.random.one_in(2) {
            node.stop();
            recovered.push_str("; then stopped");
        } else {
            node.kill();
            recovered.push_str("; then killed");
        }
        (faults, recovered)
    }
}

fn rounds_wanted() -> u64 {
    let given = std::env::var("LEVERET_CRASH_ROUNDS").ok();
    given.map_or(ROUNDS, |rounds| rounds.parse().expect("LEVERET_CRASH_ROUNDS is a number"))
}

#[test]
fn what_was_confirmed_survives_kills_at_random_moments() {
    let seed = seed("crash rounds");
    let rounds = rounds_wanted();
    let mut life = Life::new(Random::new(seed));
    for round in 0..rounds {
        if round > 0 && round.is_multiple_of(ROUNDS_PER_LIFE) {
            // A seed names all that follows: round 40 of seed 7 is round 0 of seed 47.
            life = Life::new(Random::new(seed + round));
        }
        let mut faults = life.load_and_kill();
        let (certain, uncertain) = life.ledger.totals();
        let kills = life.kill_recoveries();
        // A kill is no damage, wherever it came.
        faults.extend(unsound(life.data_dir.path()));
        let (found, recovered) = life.recover();
        faults.extend(found);
        println!(
            "round {round}: {certain} messages must be there, {uncertain} may; {kills} more kills; {recovered}"
        );
        let shown = faults.iter().take(FAULTS_SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(faults.is_empty(), "seed {seed}, round {round}: {} faults\n{shown}", faults.len());
    }
}

/// Who judges must be able to say no: a disk that forgets everything is noticed, queue by queue.
#[test]
fn a_broker_that_lost_everything_is_found_out() {
    let mut life = Life::new(Random::new(seed("lost disk")));
    let before = life.load_and_kill();
    assert!(before.is_empty(), "{before:?}");
    assert!(life.ledger.totals().0 > 0, "something was confirmed");
    let certain = life.ledger.totals().0;
    life.data_dir.wipe();
    let (faults, _) = life.recover();
    for queue in QUEUES {
        let lost = format!("queue {queue} was declared and is lost");
        assert!(faults.contains(&lost), "{queue}: {faults:?}");
    }
    let lost = faults.iter().filter(|fault| fault.ends_with("was confirmed and is lost")).count();
    assert_eq!(lost, certain, "each message is missed, those of {CHURNED_QUEUE} too");
    assert!(faults.contains(&"exchange fan was declared and is lost".to_owned()), "{faults:?}");
}
