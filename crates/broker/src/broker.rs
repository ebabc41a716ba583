//! The broker as a whole: its vhosts and what they share.

use std::sync::Arc;

use dashmap::DashMap;

use crate::error::BrokerError;
use crate::journal::Journal;
use crate::names::VhostName;
use crate::queue::messages::MemoryGauge;
use crate::vhost::Vhost;

/// All vhosts of one node.
pub struct Broker {
    vhosts: DashMap<VhostName, Arc<Vhost>>,
    journal: Arc<dyn Journal>,
    gauge: Arc<MemoryGauge>,
}

impl Broker {
    /// A broker without vhosts that keeps its promises by `journal`.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>) -> Self {
        Self { vhosts: DashMap::new(), journal, gauge: Arc::new(MemoryGauge::default()) }
    }

    /// Makes sure a vhost exists, with the exchanges that each has.
    pub fn create_vhost(&self, name: &str) -> Arc<Vhost> {
        let name = VhostName::from(name);
        let create =
            || Arc::new(Vhost::new(name.clone(), Arc::clone(&self.journal), Arc::clone(&self.gauge)));
        Arc::clone(&self.vhosts.entry(name.clone()).or_insert_with(create))
    }

    /// The vhost of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn vhost(&self, name: &str) -> Result<Arc<Vhost>, BrokerError> {
        let found = self.vhosts.get(name).map(|vhost| Arc::clone(&vhost));
        found.ok_or_else(|| BrokerError::VhostNotFound { vhost: name.to_owned() })
    }

    /// What guards confirms.
    #[must_use]
    pub fn journal(&self) -> &Arc<dyn Journal> {
        &self.journal
    }

    /// Memory that messages take.
    #[must_use]
    pub fn memory(&self) -> &Arc<MemoryGauge> {
        &self.gauge
    }
}
