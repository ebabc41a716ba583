//! Verifies everything that a broker which is not running has in its data directory, and says in plain lines what it
//! finds: `leveret check`. Every entry of the catalog, every block with each of its messages, every record of the
//! journal that a start would read, and files that nobody needs. Opens the database as a start does, and changes
//! nothing else but the lock file.
//!
//! What counts as damage is what a start would stop a queue for, refuse, or restore from elsewhere. The end of a write
//! that was cut off is none: nothing of it had been safe.

mod blocks;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use leveret_broker::access::permissions::{Permissions, TopicPermissions};
use leveret_broker::definition::{BindingSpec, Definition};
use leveret_broker::exchange::BindingTarget;
use leveret_broker::names::{QueueId, UserName, VhostName};
use leveret_broker::policy::ActivePolicy;

use crate::catalog::{CATALOG_NAME, CatalogError, SNAPSHOT_NAME, SledCatalog, read_snapshot};
use crate::disk::{Disk, SystemDisk};
use crate::entries::{self, Contents, Entries, EntryList};
use crate::journal::{Damage, ReplayError, Replayed};
use crate::lock::{DataDirLock, LockError};
use crate::ranges::Ranges;
use crate::records::{DEFINE, PUBLISH, RETURN, SETTLE, SHARE};
use crate::store::Layout;
use crate::survey::{Survey, Surveyed, survey};

/// Whoever is told of a check as it goes.
pub trait Reader {
    /// A line of what was found.
    fn line(&mut self, text: fmt::Arguments<'_>);

    /// What it is at now; told often.
    fn stage(&mut self, stage: Stage);
}

/// What a check is at that may take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It reads the catalog and its snapshot.
    Catalog,
    /// It reads the journal.
    Journal,
    /// It looks for blocks that no catalog tells of.
    Search,
    /// It reads blocks.
    Blocks {
        /// Those that were read.
        done: usize,
        /// All there are.
        all: usize,
    },
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Durable queues.
    pub queues: usize,
    /// Messages in blocks that are not settled.
    pub messages_in_blocks: u64,
    /// Messages that the journal alone holds.
    pub messages_in_journal: u64,
    /// Things that are not as they were written.
    pub damages: u64,
}

impl CheckReport {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages == 0
    }
}

/// Why a data directory cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Nothing in it is a broker's.
    #[error("there is nothing of a broker in it")]
    Empty,
    /// A broker has it open, or the system refuses the lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The catalog is of a later version, in use, or the disk fails.
    #[error("cannot read the catalog: {0}")]
    Catalog(CatalogError),
    /// The journal is of another version, or the disk fails.
    #[error("cannot read the journal: {0}")]
    Journal(#[from] ReplayError),
    /// The disk fails.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// What could not be read.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Verifies the data directory `data_dir` and tells `reader` what it finds as it goes.
///
/// # Errors
/// It cannot be checked; what was written until then still holds.
pub fn check(data_dir: &Path, reader: &mut dyn Reader) -> Result<CheckReport, CheckError> {
    let ours = [CATALOG_NAME, SNAPSHOT_NAME, "journal", "blocks"];
    if !ours.iter().any(|name| data_dir.join(name).exists()) {
        return Err(CheckError::Empty);
    }
    let _lock = DataDirLock::acquire(data_dir)?;
    let mut check = Check {
        disk: &SystemDisk,
        data_dir,
        reader,
        tallies: BTreeMap::new(),
        report: CheckReport::default(),
    };
    check.run()?;
    Ok(check.report)
}

/// A check on its way.
struct Check<'a> {
    disk: &'a dyn Disk,
    data_dir: &'a Path,
    reader: &'a mut dyn Reader,
    tallies: BTreeMap<QueueId, Tally>,
    report: CheckReport,
}

/// What is known of one queue.
#[derive(Debug, Default)]
struct Tally {
    in_blocks: u64,
    in_journal: u64,
    damage: Vec<String>,
}

impl Tally {
    fn add(&mut self, mut other: Self) {
        self.in_blocks += other.in_blocks;
        self.in_journal += other.in_journal;
        self.damage.append(&mut other.damage);
    }
}

/// What the catalog is to a start.
struct Catalog {
    entries: Entries,
    /// The database is lost: these are the snapshot's, and no block is among them.
    is_snapshot: bool,
}

impl Check<'_> {
    fn run(&mut self) -> Result<(), CheckError> {
        let Catalog { mut entries, is_snapshot } = self.catalog()?;
        let replay_from = Contents::of(&entries).meta.replay_from;
        self.reader.stage(Stage::Journal);
        let (survey, replayed) = survey(self.disk, &Layout::journal(self.data_dir), replay_from)?;
        self.journal(&survey, &replayed);
        entries::apply(&mut entries, survey.changes.iter().cloned());
        let contents = Contents::of(&entries);
        for error in &contents.errors {
            self.damage(format_args!("{error}"));
        }
        for (&queue, reason) in &contents.stopped {
            self.damage_of(queue, format!("it was stopped: {reason}"));
        }
        self.definitions(&contents.definitions);
        let defined: BTreeSet<QueueId> =
            contents.definitions.iter().flat_map(Definition::queue_ids).collect();
        if is_snapshot {
            self.blocks_without_index(&survey)?;
        } else {
            self.blocks(&contents, &survey, &defined)?;
        }
        self.messages_in_journal(&contents, &survey, &defined);
        self.files(&contents, is_snapshot)?;
        self.queues(&contents.definitions);
        Ok(())
    }

    fn say(&mut self, text: fmt::Arguments<'_>) {
        self.reader.line(text);
    }

    /// Something is not as it was written.
    fn damage(&mut self, text: fmt::Arguments<'_>) {
        self.report.damages += 1;
        self.say(format_args!("damage: {text}"));
    }

    /// Something of one queue is not as it was written; it is told with the queue.
    fn damage_of(&mut self, queue: QueueId, text: String) {
        self.report.damages += 1;
        self.tallies.entry(queue).or_default().damage.push(text);
    }

    fn note(&mut self, text: fmt::Arguments<'_>) {
        self.say(format_args!("note: {text}"));
    }

    fn catalog(&mut self) -> Result<Catalog, CheckError> {
        self.reader.stage(Stage::Catalog);
        let snapshot = self.snapshot()?;
        let path = self.data_dir.join(CATALOG_NAME);
        // Opening what is not there would make it.
        let opened = if path.join("db").exists() {
            SledCatalog::open(&path).map(|(_, entries)| entries.unwrap_or_default())
        } else {
            Err(CatalogError::Damaged("the database is missing".to_owned()))
        };
        let is_empty = snapshot.as_ref().is_none_or(Vec::is_empty);
        let damage = match opened {
            Ok(entries) if !entries.is_empty() || is_empty => {
                self.say(format_args!("catalog: {} entries", entries.len()));
                return Ok(Catalog { entries: entries.into_iter().collect(), is_snapshot: false });
            }
            Ok(_) => "the database is empty".to_owned(),
            Err(CatalogError::Damaged(damage)) => damage,
            Err(error) => return Err(CheckError::Catalog(error)),
        };
        self.damage(format_args!("catalog: {damage}"));
        match &snapshot {
            Some(_) => self.note(format_args!(
                "a start makes the catalog anew from the snapshot, the journal and the blocks that it finds; what of \
                 these was settled is not known any more"
            )),
            None => self.note(format_args!("without a snapshot of the catalog no broker starts here")),
        }
        let entries = snapshot.unwrap_or_default().into_iter().collect();
        Ok(Catalog { entries, is_snapshot: true })
    }

    fn snapshot(&mut self) -> Result<Option<EntryList>, CheckError> {
        match read_snapshot(self.disk, self.data_dir) {
            Ok(snapshot) => {
                match &snapshot {
                    Some(entries) => self.say(format_args!("snapshot: {} entries", entries.len())),
                    None => self.note(format_args!(
                        "there is no snapshot of the catalog; a running broker makes one"
                    )),
                }
                Ok(snapshot)
            }
            Err(CatalogError::Damaged(damage)) => {
                self.damage(format_args!("{damage}"));
                Ok(None)
            }
            Err(error) => Err(CheckError::Catalog(error)),
        }
    }

    fn journal(&mut self, survey: &Survey, replayed: &Replayed) {
        let (records, bytes, files) = (survey.records, replayed.bytes, replayed.files);
        let end = replayed.end.position.0;
        self.say(format_args!(
            "journal: {records} records, {bytes} octets in {files} files, up to position {end}"
        ));
        for damage in &replayed.damage {
            let text = text_of(damage);
            match damage.record {
                Some(record) if record.queue != 0 => self.damage_of(QueueId(record.queue), text),
                Some(record) if record.kind == SHARE => {
                    self.damage(format_args!("{text}; queues that need it are named below"))
                }
                _ => self.damage(format_args!("{text}; whose it was cannot be told: no broker starts here")),
            }
        }
        for unreadable in &survey.unreadable {
            let text = format!(
                "the journal's record at position {} does not read: {}",
                unreadable.position.0, unreadable.what
            );
            match unreadable.queue {
                QueueId(0) => self.damage(format_args!("{text}")),
                queue => self.damage_of(queue, text),
            }
        }
    }

    /// Everything that is bound exists, everything is in a vhost, and policies can be put in force.
    fn definitions(&mut self, definitions: &[Definition]) {
        let known = Names::of(definitions);
        let (mut exchanges, mut bindings, mut policies, mut permissions) = (0, 0, 0, 0);
        for definition in definitions {
            let missing = match definition {
                Definition::PutExchange(vhost, spec) => {
                    exchanges += 1;
                    known.without_vhost(vhost, &format!("exchange '{}'", spec.name))
                }
                Definition::PutQueue(_, spec) => {
                    known.without_vhost(&spec.vhost, &format!("queue '{}'", spec.name))
                }
                Definition::PutPolicy(vhost, kind, policy) => {
                    policies += 1;
                    let what = format!("policy '{}'", policy.name);
                    let refused = || ActivePolicy::check(*kind, policy.clone()).err();
                    let impossible = || Some(format!("{what} in vhost '{vhost}': {}", refused()?));
                    known.without_vhost(vhost, &what).or_else(impossible)
                }
                Definition::PutPermissions(Permissions { user, vhost, .. })
                | Definition::PutTopicPermissions(TopicPermissions { user, vhost, .. }) => {
                    permissions += 1;
                    let what = format!("a permission of user '{user}'");
                    known.without_vhost(vhost, &what).or_else(|| known.without_user(user, vhost))
                }
                Definition::Bind(vhost, binding) => {
                    bindings += 1;
                    known.without_end(vhost, binding)
                }
                _ => None,
            };
            if let Some(missing) = missing {
                self.damage(format_args!("{missing}"));
            }
        }
        let (users, vhosts, queues) = (known.users.len(), known.vhosts.len(), known.queues.len());
        self.say(format_args!("access: {users} users, {permissions} permissions"));
        self.say(format_args!(
            "definitions: {vhosts} vhosts, {exchanges} exchanges, {queues} durable queues, {bindings} bindings, \
             {policies} policies"
        ));
    }

    /// What the journal alone holds, and what it says was there and does not hold.
    fn messages_in_journal(&mut self, contents: &Contents, survey: &Survey, defined: &BTreeSet<QueueId>) {
        for (queue, surveyed) in &survey.queues {
            let Surveyed { messages, missing, settled, .. } = surveyed;
            if !defined.contains(queue) {
                continue;
            }
            let mut in_blocks = Ranges::default();
            for block in contents.blocks.get(queue).into_iter().flatten() {
                in_blocks
                    .add(block.first_position..block.first_position.saturating_add(u64::from(block.count)));
            }
            in_blocks.merge();
            let tally = self.tallies.entry(*queue).or_default();
            tally.in_journal = messages.without(&in_blocks).without(settled).count();
            let lost = missing.without(&in_blocks).without(settled);
            for range in lost.iter() {
                let text = format!(
                    "messages {} to {}: the journal's record that they share with other queues is not there",
                    range.start,
                    range.end - 1
                );
                self.damage_of(*queue, text);
            }
        }
    }

    /// What was found, queue by queue.
    fn queues(&mut self, definitions: &[Definition]) {
        let mut tallies = std::mem::take(&mut self.tallies);
        let mut queues: Vec<_> = queues_of(definitions).collect();
        queues.sort_by(|(_, one), (_, other)| (&one.vhost, &one.name).cmp(&(&other.vhost, &other.name)));
        self.report.queues = queues.len();
        for (id, spec) in queues {
            let mut tally = Tally::default();
            spec.level_ids(id).filter_map(|level| tallies.remove(&level)).for_each(|level| tally.add(level));
            self.report.messages_in_blocks += tally.in_blocks;
            self.report.messages_in_journal += tally.in_journal;
            self.queue(&format!("queue '{}' in vhost '{}'", spec.name, spec.vhost), &tally);
        }
        for (id, tally) in tallies {
            if !tally.damage.is_empty() {
                self.queue(&format!("queue {} that is defined nowhere", id.0), &tally);
            }
        }
        let CheckReport { queues, messages_in_blocks, messages_in_journal, damages } = self.report;
        self.say(format_args!(
            "{queues} queues with {} messages; damages: {damages}",
            messages_in_blocks + messages_in_journal
        ));
    }

    fn queue(&mut self, name: &str, Tally { in_blocks, in_journal, damage }: &Tally) {
        let what = if damage.is_empty() { "" } else { ", DAMAGED" };
        self.say(format_args!("{name}: {in_blocks} messages in blocks, {in_journal} in the journal{what}"));
        for text in damage {
            self.say(format_args!("  damage: {text}"));
        }
    }
}

fn queues_of(
    definitions: &[Definition],
) -> impl Iterator<Item = (QueueId, &leveret_broker::queue::QueueSpec)> {
    definitions.iter().filter_map(|definition| match definition {
        Definition::PutQueue(id, spec) => Some((*id, spec)),
        _ => None,
    })
}

fn text_of(damage: &Damage) -> String {
    let what = match damage.record.map(|record| record.kind) {
        None => "what was there",
        Some(SHARE) => "a record of shared messages",
        Some(PUBLISH) => "a record of messages",
        Some(SETTLE) => "a record of settlements",
        Some(RETURN) => "a record of what came back",
        Some(DEFINE) => "a record of definitions",
        Some(_) => "a record",
    };
    let (file, begins_at, ends_at) = (damage.file.display(), damage.begins_at.0, damage.ends_at.0);
    format!("{what} is damaged, positions {begins_at} to {ends_at} in {file}")
}

/// What exists, by name.
#[derive(Default)]
struct Names<'a> {
    users: BTreeSet<&'a str>,
    vhosts: BTreeSet<&'a str>,
    exchanges: BTreeSet<(&'a str, &'a str)>,
    queues: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Names<'a> {
    fn of(definitions: &'a [Definition]) -> Self {
        let mut names = Self::default();
        for definition in definitions {
            match definition {
                Definition::PutUser(user) => _ = names.users.insert(user.name.as_str()),
                Definition::PutVhost(vhost, _) => _ = names.vhosts.insert(vhost.as_str()),
                Definition::PutExchange(vhost, spec) => {
                    names.exchanges.insert((vhost.as_str(), spec.name.as_str()));
                }
                Definition::PutQueue(_, spec) => {
                    names.queues.insert((spec.vhost.as_str(), spec.name.as_str()));
                }
                _ => {}
            }
        }
        names
    }

    fn without_vhost(&self, vhost: &VhostName, what: &str) -> Option<String> {
        let is_there = self.vhosts.contains(vhost.as_str());
        (!is_there).then(|| format!("{what} is in vhost '{vhost}', which does not exist"))
    }

    fn without_user(&self, user: &UserName, vhost: &VhostName) -> Option<String> {
        let is_there = self.users.contains(user.as_str());
        (!is_there)
            .then(|| format!("a permission in vhost '{vhost}' is of user '{user}', who does not exist"))
    }

    fn without_end(&self, vhost: &VhostName, binding: &BindingSpec) -> Option<String> {
        let has_exchange = |name: &str| {
            // Every vhost has these without their being kept.
            name.is_empty() || name.starts_with("amq.") || self.exchanges.contains(&(vhost.as_str(), name))
        };
        let (kind, target, has_target) = match &binding.target {
            BindingTarget::Queue(name) => {
                ("queue", name.as_str(), self.queues.contains(&(vhost.as_str(), name.as_str())))
            }
            BindingTarget::Exchange(name) => ("exchange", name.as_str(), has_exchange(name.as_str())),
        };
        let source = binding.source.as_str();
        let missing = match (has_exchange(source), has_target) {
            (true, true) => return None,
            (false, _) => format!("exchange '{source}'"),
            (true, false) => format!("{kind} '{target}'"),
        };
        let key = &binding.routing_key;
        let binding =
            format!("the binding of {kind} '{target}' to '{source}' with key '{key}' in vhost '{vhost}'");
        Some(format!("{binding}: {missing} does not exist"))
    }
}

#[cfg(test)]
mod tests;
