//! The broker as a whole: its vhosts and what they share.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use dashmap::DashMap;
use leveret_codec::table::FieldTable;

use crate::access::{Access, Actor, Gone};
use crate::counters::{Counters, QueueTotals};
use crate::definition::Definition;
use crate::error::BrokerError;
use crate::events::Events;
use crate::histogram::HistogramSnapshot;
use crate::names::{QueueId, VhostName};
use crate::parameters::GlobalParameters;
use crate::queue::Queue;
use crate::queue::memory::MemoryGauge;
use crate::queue::messages::PageOut;
use crate::queue::recovered::RecoveredMessages;
use crate::services::Services;
use crate::store::{BlockState, JournalPosition, Store};
use crate::time::Clock;
use crate::timers::Timers;
use crate::vhost::{Vhost, VhostSettings};

/// The vhosts by name.
pub(crate) type Vhosts = DashMap<VhostName, Arc<Vhost>>;

/// All vhosts of one node.
pub struct Broker {
    vhosts: Arc<Vhosts>,
    access: Access,
    pub(crate) parameters: GlobalParameters,
    services: Services,
}

impl Broker {
    /// A broker without vhosts that keeps its promises by `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::with(Services::new(store))
    }

    /// A broker without vhosts.
    #[must_use]
    pub fn with(services: Services) -> Self {
        let vhosts = Arc::new(Vhosts::new());
        let access = Access::new(Arc::clone(&vhosts), services.clone());
        Self { access, parameters: GlobalParameters::default(), vhosts, services }
    }

    /// Who may log in and do what.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Makes sure a vhost exists, with the exchanges that each has.
    pub fn create_vhost(&self, name: &str) -> Arc<Vhost> {
        self.vhost_or_else(name, Vhost::create)
    }

    /// Makes sure a vhost exists that the store knows: it is not told of it again.
    pub fn restore_vhost(&self, name: &str) -> Arc<Vhost> {
        self.vhost_or_else(name, Vhost::new)
    }

    /// Makes sure a vhost exists and has these settings; where that is safe, and whether it is new.
    ///
    /// # Errors
    /// A name or settings that are not possible.
    pub fn put_vhost(
        &self,
        by: Actor<'_>,
        name: &str,
        settings: VhostSettings,
    ) -> Result<(JournalPosition, bool), BrokerError> {
        settings.check(name)?;
        let is_new = !self.vhosts.contains_key(name);
        let vhost = self.create_vhost(name);
        if is_new {
            by.note("vhost.created", &FieldTable::new().with("name", name));
        }
        Ok((vhost.set_settings(&self.access, by, settings), is_new))
    }

    /// Deletes a vhost with all that is in it and all permissions there, and has its connections closed. Messages in it
    /// are lost; where that is safe.
    ///
    /// # Errors
    /// There is no such vhost, or it is protected.
    pub fn delete_vhost(&self, by: Actor<'_>, name: &str) -> Result<JournalPosition, BrokerError> {
        if self.vhost(name)?.settings().is_protected {
            return Err(BrokerError::VhostProtected { vhost: name.to_owned() });
        }
        let remove = || self.vhosts.remove(name).map(|(_, vhost)| vhost);
        let Some((vhost, forgotten)) = self.access.forget_vhost(name, remove) else {
            return Err(BrokerError::VhostNotFound { vhost: name.to_owned() });
        };
        let position = vhost.end(forgotten);
        self.access.tell(by, "vhost.deleted", FieldTable::new().with("name", name));
        self.access.tell_gone(&Gone::Vhost(vhost.name.clone()));
        Ok(position)
    }

    /// All vhosts, sorted by name.
    #[must_use]
    pub fn vhosts(&self) -> Vec<Arc<Vhost>> {
        let mut vhosts: Vec<_> = self.vhosts.iter().map(|vhost| Arc::clone(&vhost)).collect();
        vhosts.sort_by(|one, other| one.name.cmp(&other.name));
        vhosts
    }

    fn vhost_or_else(&self, name: &str, make: impl FnOnce(VhostName, Services) -> Arc<Vhost>) -> Arc<Vhost> {
        let name = VhostName::from(name);
        let make = || make(name.clone(), self.services.clone());
        Arc::clone(&self.vhosts.entry(name.clone()).or_insert_with(make))
    }

    /// Takes over what a store recovered. What refers to something that is not there is left out; the refusals say
    /// what that is.
    pub fn restore(
        &self,
        definitions: Vec<Definition>,
        mut messages: HashMap<QueueId, RecoveredMessages>,
    ) -> Vec<BrokerError> {
        let mut refused = Vec::new();
        for definition in definitions {
            match definition {
                Definition::BeginAccess => self.access.restore_begun(),
                Definition::PutUser(user) => self.access.restore_user(user),
                Definition::PutPermissions(permissions) => {
                    refused.extend(self.access.restore_permissions(permissions).err());
                }
                Definition::PutTopicPermissions(permissions) => {
                    refused.extend(self.access.restore_topic_permissions(permissions).err());
                }
                Definition::PutGlobalParameter(name, value) => self.restore_global_parameter(name, value),
                Definition::PutVhost(vhost, settings) => {
                    self.restore_vhost(vhost.as_str()).restore_settings(settings);
                }
                Definition::PutExchange(vhost, spec) => {
                    refused.extend(self.restore_vhost(vhost.as_str()).restore_exchange(spec).err());
                }
                Definition::PutQueue(id, spec) => {
                    let vhost = self.restore_vhost(spec.vhost.as_str());
                    let found = |(level, id)| Some((level, messages.remove(&id)?));
                    let recovered = spec.levels(id).filter_map(found).collect();
                    vhost.restore_queue(id, spec, recovered);
                }
                Definition::Bind(vhost, binding) => {
                    refused.extend(self.restore_vhost(vhost.as_str()).restore_binding(&binding).err());
                }
                Definition::PutPolicy(vhost, kind, policy) => {
                    refused.extend(self.restore_vhost(vhost.as_str()).restore_policy(kind, policy).err());
                }
                // What is deleted is not among what a store has.
                Definition::DeleteUser(..)
                | Definition::DeletePermissions(..)
                | Definition::DeleteTopicPermissions(..)
                | Definition::DeleteGlobalParameter(..)
                | Definition::DeleteVhost(..)
                | Definition::DeleteExchange(..)
                | Definition::DeleteQueue(..)
                | Definition::Unbind(..)
                | Definition::DeletePolicy(..) => {}
            }
        }
        refused
    }

    /// Time begins to count for what was restored: what has expired meanwhile goes. To be called when all is there,
    /// since dead letters go to exchanges and queues.
    pub fn begin(&self) {
        self.vhosts().iter().for_each(|vhost| vhost.begin());
        self.queues().iter().for_each(|queue| queue.begin());
    }

    /// Where its events go.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        &self.services.events
    }

    /// Whether there is any vhost.
    #[must_use]
    pub fn has_vhosts(&self) -> bool {
        !self.vhosts.is_empty()
    }

    /// The vhost of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn vhost(&self, name: &str) -> Result<Arc<Vhost>, BrokerError> {
        let found = self.vhosts.get(name).map(|vhost| Arc::clone(&vhost));
        found.ok_or_else(|| BrokerError::VhostNotFound { vhost: name.to_owned() })
    }

    /// What keeps messages and definitions.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.services.store
    }

    /// From now on, messages are to leave memory when they hold more than `bytes`; the store is asked to see to that
    /// if they do.
    pub fn limit_cache(&self, bytes: usize) {
        self.services.gauge.limit_cache(bytes);
        if self.services.gauge.bytes() > bytes {
            self.services.store.request_page_out();
        }
    }

    /// Moves messages to the disk until at most `limit` octets of memory are held, or as near as it comes: from the
    /// fullest queues first, and those last that consumers are about to get. Waits for the disk.
    ///
    /// # Errors
    /// There is no room on the disk, or it fails. Messages that could not be written are still in memory.
    pub fn page_out(&self, limit: usize) -> io::Result<()> {
        self.page_out_some(limit, usize::MAX, &|| true).map(|_| ())
    }

    /// The same in parts: about `part_bytes` of a queue, then of the next one for as long as `goes_on`; whether it got
    /// as near as it comes.
    ///
    /// # Errors
    /// As [`page_out`](Self::page_out).
    pub fn page_out_some(
        &self,
        limit: usize,
        part_bytes: usize,
        goes_on: &dyn Fn() -> bool,
    ) -> io::Result<bool> {
        for which in [PageOut::Far, PageOut::Near] {
            let mut queues: Vec<_> =
                self.queues().into_iter().map(|queue| (queue.memory_bytes(), queue)).collect();
            queues.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
            let mut is_part = false;
            for (bytes, queue) in queues {
                let excess = self.services.gauge.bytes().saturating_sub(limit);
                if excess == 0 {
                    return Ok(true);
                }
                if !goes_on() {
                    return Ok(false);
                }
                let wanted = excess.min(bytes);
                queue.page_out(which, wanted.min(part_bytes))?;
                // Where nothing could leave, nothing will with the next part.
                is_part |= wanted > part_bytes && queue.memory_bytes() < bytes;
            }
            if is_part {
                // What is needed later goes before what is needed soon.
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes messages as blocks that would otherwise need the journal below `position`. Waits for the disk.
    ///
    /// # Errors
    /// There is no room on the disk, or it fails.
    pub fn leave_journal(&self, position: JournalPosition) -> io::Result<()> {
        self.queues()
            .iter()
            .filter(|queue| queue.is_durable())
            .try_for_each(|queue| queue.leave_journal(position))
    }

    /// From where on some queue needs the journal; `JournalPosition::NEVER` if none does.
    #[must_use]
    pub fn needs_journal_from(&self) -> JournalPosition {
        let queues = self.queues();
        queues.iter().filter_map(|queue| queue.needs_journal_from()).min().unwrap_or(JournalPosition::NEVER)
    }

    /// What the store is to keep beside blocks and was not told yet.
    #[must_use]
    pub fn changed_blocks(&self) -> Vec<BlockState> {
        let mut states = Vec::new();
        self.queues()
            .iter()
            .filter(|queue| queue.is_durable())
            .for_each(|queue| queue.changed_blocks(&mut states));
        states
    }

    /// What has happened to messages of all queues that clients know, of those that are there no more as well. A queue
    /// that is deleted meanwhile may be missing, and is never counted twice.
    #[must_use]
    pub fn queue_totals(&self) -> QueueTotals {
        let mut totals = self.services.counters.of_deleted_queues();
        for vhost in self.vhosts() {
            vhost.for_each_queue(|queue| {
                totals.add(queue.spec.arguments.queue_type(), queue.snapshot().counters);
            });
        }
        totals
    }

    /// What comes and goes.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.services.counters
    }

    /// How long messages waited in queues until they were handed out; a sample.
    #[must_use]
    pub fn waiting_times(&self) -> HistogramSnapshot {
        self.services.waiting_times.snapshot()
    }

    /// The queues of all vhosts, hidden ones as well, the oldest first: what is done with them is done in the same
    /// order each time.
    #[must_use]
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        let mut queues: Vec<_> = self.vhosts.iter().flat_map(|vhost| vhost.all_queues()).collect();
        queues.sort_unstable_by_key(|queue| queue.id);
        queues
    }

    /// What time it is.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.services.clock
    }

    /// Who is to be called when: somebody has to drive them.
    #[must_use]
    pub fn timers(&self) -> &Arc<Timers> {
        &self.services.timers
    }

    /// Memory that messages take.
    #[must_use]
    pub fn memory(&self) -> &Arc<MemoryGauge> {
        &self.services.gauge
    }
}
