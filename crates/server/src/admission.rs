//! How many connections and channels users and vhosts have open, for the limits that administrators set. A place is
//! taken before it is used and given back when its holder is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use leveret_broker::access::user::{User, UserLimits, VhostLimits, limit_reached};
use leveret_broker::{UserName, Vhost, VhostName};
use parking_lot::Mutex;

/// Counts what is open.
#[derive(Default)]
pub(crate) struct Admission {
    /// Locked alone, for a few steps when a connection or channel comes or goes.
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    connections_of_vhost: HashMap<VhostName, usize>,
    connections_of_user: HashMap<UserName, usize>,
    channels_of_user: HashMap<UserName, usize>,
}

/// A limit that leaves no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// As many connections as the vhost may have.
    Vhost(u64),
    /// As many connections as the user may have.
    User(u64),
}

/// The place of a connection.
pub(crate) struct ConnectionPlace {
    admission: Arc<Admission>,
    user: UserName,
    vhost: VhostName,
    is_given_back: AtomicBool,
}

/// The place of a channel.
pub(crate) struct ChannelPlace {
    admission: Arc<Admission>,
    user: UserName,
}

impl Admission {
    /// Takes the place of a connection.
    ///
    /// # Errors
    /// There is none. COMPAT: the vhost's limit is looked at first.
    pub(crate) fn connection(self: &Arc<Self>, user: &User, vhost: &Vhost) -> Result<ConnectionPlace, Full> {
        let VhostLimits { max_connections: of_vhost, .. } = vhost.settings().limits;
        let UserLimits { max_connections: of_user, .. } = user.limits;
        let mut counts = self.counts.lock();
        let count = count_of(&counts.connections_of_vhost, vhost.name.as_str());
        if let Some(limit) = limit_reached(of_vhost, count) {
            return Err(Full::Vhost(limit));
        }
        let count = count_of(&counts.connections_of_user, user.name.as_str());
        if let Some(limit) = limit_reached(of_user, count) {
            return Err(Full::User(limit));
        }
        *counts.connections_of_vhost.entry(vhost.name.clone()).or_default() += 1;
        *counts.connections_of_user.entry(user.name.clone()).or_default() += 1;
        Ok(ConnectionPlace {
            admission: Arc::clone(self),
            user: user.name.clone(),
            vhost: vhost.name.clone(),
            is_given_back: AtomicBool::new(false),
        })
    }
}

impl ConnectionPlace {
    /// Takes the place of one of its channels.
    ///
    /// # Errors
    /// The user has as many as this already.
    pub(crate) fn channel(&self, limits: UserLimits) -> Result<ChannelPlace, u64> {
        let mut counts = self.admission.counts.lock();
        let count = count_of(&counts.channels_of_user, self.user.as_str());
        if let Some(limit) = limit_reached(limits.max_channels, count) {
            return Err(limit);
        }
        *counts.channels_of_user.entry(self.user.clone()).or_default() += 1;
        Ok(ChannelPlace { admission: Arc::clone(&self.admission), user: self.user.clone() })
    }
}

impl ConnectionPlace {
    /// Gives the place back before it is dropped.
    pub(crate) fn give_back(&self) {
        if self.is_given_back.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut counts = self.admission.counts.lock();
        give_back(&mut counts.connections_of_vhost, &self.vhost);
        give_back(&mut counts.connections_of_user, &self.user);
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Drop for ChannelPlace {
    fn drop(&mut self) {
        give_back(&mut self.admission.counts.lock().channels_of_user, &self.user);
    }
}

fn count_of<Name: std::borrow::Borrow<str> + Eq + std::hash::Hash>(
    counts: &HashMap<Name, usize>,
    name: &str,
) -> usize {
    counts.get(name).copied().unwrap_or_default()
}

fn give_back<Name: Eq + std::hash::Hash>(counts: &mut HashMap<Name, usize>, name: &Name) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use leveret_broker::store::MemoryStore;
    use leveret_broker::{Actor, Broker, VhostSettings};

    use super::*;

    #[test]
    fn places_are_taken_up_to_the_limits_and_given_back() {
        let broker = Broker::new(Arc::new(MemoryStore::default()));
        let limits = VhostLimits { max_connections: Some(2), max_queues: None };
        let settings = VhostSettings { limits, ..VhostSettings::default() };
        broker.put_vhost(Actor { user: "admin", from: "test" }, "v", settings).unwrap();
        let vhost = broker.vhost("v").unwrap();
        let limits = UserLimits { max_connections: Some(1), max_channels: Some(1) };
        let (one, free) = (User { limits, ..User::new("one") }, User::new("free"));
        let admission = Arc::new(Admission::default());
        let first = admission.connection(&one, &vhost).unwrap();
        assert_eq!(admission.connection(&one, &vhost).err(), Some(Full::User(1)));
        let second = admission.connection(&free, &vhost).unwrap();
        assert_eq!(admission.connection(&free, &vhost).err(), Some(Full::Vhost(2)));
        let channel = first.channel(one.limits).unwrap();
        assert_eq!(first.channel(one.limits).err(), Some(1));
        drop(channel);
        assert!(first.channel(one.limits).is_ok());
        let none = UserLimits { max_channels: Some(0), ..UserLimits::default() };
        assert_eq!(second.channel(none).err(), Some(0));
        assert!(second.channel(UserLimits { max_channels: Some(-1), ..none }).is_ok());
        drop((first, second));
        assert!(admission.counts.lock().connections_of_vhost.is_empty());
    }
}
