//! Who may log in and what each may do: users, their permissions in vhosts, limits. Changed by administrators, durable
//! through the store like all definitions, told in the audit log.
//!
//! [`Access`] is all of it in one broker. Channels take the [`Grants`] of their user from it and keep them until
//! [`Access::generation`] moves, so that messages meet no lock and no lookup. Knows no mechanism of logging in.

pub mod password;
pub mod permissions;
pub mod user;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use leveret_codec::table::FieldTable;
use parking_lot::RwLock;
use tracing::info;

use crate::broker::Vhosts;
use crate::definition::Definition;
use crate::error::BrokerError;
use crate::events::Event;
use crate::names::{ExchangeName, UserName, VhostName};
use crate::queue::arguments::value_text;
use crate::services::Services;
use crate::store::JournalPosition;
use password::PasswordHash;
use permissions::{Grants, Permissions, TopicPermissions};
use user::{User, UserLimits};

/// Target of the audit log's lines.
pub const AUDIT: &str = "leveret::audit";

/// Who changes something, for the audit log.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    /// The administrator's name, or what part of the broker acts by itself.
    pub user: &'a str,
    /// Where from: an address, or how the broker was told.
    pub from: &'a str,
}

impl Actor<'_> {
    /// Writes a line of the audit log: what was done, and to what.
    pub fn note(self, name: &'static str, fields: &FieldTable) {
        // Quoted, since names are anything that somebody has sent.
        let what = fields
            .iter()
            .map(|(key, value)| format!("{}={:?}", key.as_str().unwrap_or_default(), value_text(value)));
        let what = what.collect::<Vec<_>>().join(" ");
        info!(target: AUDIT, by = self.user, from = self.from, %what, "{name}");
    }
}

/// What is gone, so that connections must go too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// A user.
    User(UserName),
    /// A vhost.
    Vhost(VhostName),
}

/// Ends the connections of what is gone. Called with nothing locked.
pub type GoneListener = Box<dyn Fn(&Gone) + Send + Sync>;

/// Users and permissions of a broker.
pub struct Access {
    /// Changed by administrators, read when somebody logs in, opens a vhost, or meets a new generation. Held before a
    /// shard of the directory of vhosts, and nothing else.
    state: RwLock<State>,
    /// Moves whenever grants have changed.
    generation: AtomicU64,
    vhosts: Arc<Vhosts>,
    services: Services,
    gone: OnceLock<GoneListener>,
}

#[derive(Default)]
struct State {
    /// Users were kept here before, be it that none are left: no default user is made again.
    has_begun: bool,
    users: BTreeMap<UserName, Arc<User>>,
    grants: BTreeMap<VhostName, BTreeMap<UserName, Arc<Grants>>>,
}

impl State {
    fn user(&self, name: &str) -> Result<&Arc<User>, BrokerError> {
        self.users.get(name).ok_or_else(|| BrokerError::UserNotFound { user: name.to_owned() })
    }

    fn grants(&self, vhost: &str, user: &str) -> Option<&Arc<Grants>> {
        self.grants.get(vhost)?.get(user)
    }

    /// The grants, to be changed; nothing else sees the change until they are put back.
    fn grants_mut(&self, vhost: &VhostName, user: &UserName) -> Grants {
        let known = self.grants(vhost.as_str(), user.as_str());
        known.map_or_else(|| Grants::none(user.clone(), vhost.clone()), |grants| Grants::clone(grants))
    }

    fn put_grants(&mut self, grants: Grants) {
        let of_vhost = self.grants.entry(grants.vhost.clone()).or_default();
        if grants.is_empty() {
            of_vhost.remove(&grants.user);
        } else {
            of_vhost.insert(grants.user.clone(), Arc::new(grants));
        }
    }
}

/// Asking.
impl Access {
    pub(crate) fn new(vhosts: Arc<Vhosts>, services: Services) -> Self {
        let state = RwLock::default();
        Self { state, generation: AtomicU64::new(0), vhosts, services, gone: OnceLock::new() }
    }

    /// Whether users were ever kept here: if not, there is to be a default one.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.state.read().has_begun
    }

    /// Moves whenever grants taken before may have changed.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The user of that name. Each change makes another one: the same `Arc` is the same user with nothing changed.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.state.read().users.get(name).map(Arc::clone)
    }

    /// All users, sorted by name.
    #[must_use]
    pub fn users(&self) -> Vec<Arc<User>> {
        self.state.read().users.values().map(Arc::clone).collect()
    }

    /// What a user may do in a vhost; nothing if that was never said, or either is missing.
    #[must_use]
    pub fn grants(&self, user: &str, vhost: &str) -> Arc<Grants> {
        let found = self.state.read().grants(vhost, user).map(Arc::clone);
        found.unwrap_or_else(|| Arc::new(Grants::none(user.into(), vhost.into())))
    }

    /// The grants of all users in all vhosts, sorted by vhost and user.
    #[must_use]
    pub fn all_grants(&self) -> Vec<Arc<Grants>> {
        self.state.read().grants.values().flat_map(BTreeMap::values).map(Arc::clone).collect()
    }

    /// Has `listener` called after a user or vhost was deleted. Only the first call counts.
    pub fn when_gone(&self, listener: GoneListener) {
        // A second one has no effect, as documented.
        let _ = self.gone.set(listener);
    }
}

/// Changing. Each says where the change is safe.
impl Access {
    /// Adds a user, or replaces the one of that name, who keeps permissions and connections.
    ///
    /// # Errors
    /// A name or tags that are not possible.
    pub fn put_user(&self, by: Actor<'_>, user: User) -> Result<JournalPosition, BrokerError> {
        let user = user.checked()?;
        let mut state = self.state.write();
        let known = state.users.get(&user.name);
        let name = if known.is_some() { "user.tags.set" } else { "user.created" };
        let has_other_password = known.is_some_and(|known| known.password != user.password);
        let position = self.put(&mut state, user.clone());
        drop(state);
        let tags = user.tags.join(",");
        let fields = || FieldTable::new().with("name", user.name.as_str()).with("tags", tags.as_str());
        self.tell(by, name, fields());
        if has_other_password {
            self.tell_password(by, &user);
        }
        Ok(position)
    }

    /// Changes one thing of a user.
    fn change_user(
        &self,
        name: &str,
        change: impl FnOnce(&mut User),
    ) -> Result<(User, JournalPosition), BrokerError> {
        let mut state = self.state.write();
        let mut user = User::clone(state.user(name)?);
        change(&mut user);
        let user = user.checked()?;
        let position = self.put(&mut state, user.clone());
        Ok((user, position))
    }

    fn put(&self, state: &mut State, user: User) -> JournalPosition {
        let mut changes = Vec::new();
        if !std::mem::replace(&mut state.has_begun, true) {
            changes.push(Definition::BeginAccess);
        }
        changes.push(Definition::PutUser(user.clone()));
        state.users.insert(user.name.clone(), Arc::new(user));
        self.services.store.define(changes)
    }

    /// Gives a user another password, or none. Connections that are open stay so.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_password(
        &self,
        by: Actor<'_>,
        user: &str,
        password: Option<PasswordHash>,
    ) -> Result<JournalPosition, BrokerError> {
        let (user, position) = self.change_user(user, |user| user.password = password)?;
        self.tell_password(by, &user);
        Ok(position)
    }

    /// Gives a user these tags instead of the ones before.
    ///
    /// # Errors
    /// There is no such user, or the tags are not possible.
    pub fn set_tags(
        &self,
        by: Actor<'_>,
        user: &str,
        tags: Vec<String>,
    ) -> Result<JournalPosition, BrokerError> {
        let (user, position) = self.change_user(user, |user| user.tags = tags)?;
        let fields = FieldTable::new().with("name", user.name.as_str()).with("tags", user.tags.join(","));
        self.tell(by, "user.tags.set", fields);
        Ok(position)
    }

    /// Gives a user these limits instead of the ones before. What is open already stays so.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_user_limits(
        &self,
        by: Actor<'_>,
        user: &str,
        limits: UserLimits,
    ) -> Result<JournalPosition, BrokerError> {
        let (user, position) = self.change_user(user, |user| user.limits = limits)?;
        let fields =
            FieldTable::new().with("user_name", user.name.as_str()).with("limits", format!("{limits:?}"));
        self.tell(by, "user.limits.set", fields);
        Ok(position)
    }

    /// Deletes a user with all permissions, and has the connections closed.
    ///
    /// # Errors
    /// There is no such user.
    pub fn delete_user(&self, by: Actor<'_>, user: &str) -> Result<JournalPosition, BrokerError> {
        let mut state = self.state.write();
        let name = state.user(user)?.name.clone();
        state.users.remove(&name);
        let mut changes = Vec::new();
        for of_vhost in state.grants.values_mut() {
            if let Some(grants) = of_vhost.remove(&name) {
                changes.extend(deletions(&grants));
            }
        }
        changes.push(Definition::DeleteUser(name.clone()));
        let position = self.services.store.define(changes);
        self.grants_moved();
        drop(state);
        self.tell(by, "user.deleted", FieldTable::new().with("name", name.as_str()));
        self.tell_gone(&Gone::User(name));
        Ok(position)
    }

    /// Sets the permissions of a user in a vhost, in the place of the ones before.
    ///
    /// # Errors
    /// User or vhost are missing, or a pattern is no regular expression.
    pub fn set_permissions(
        &self,
        by: Actor<'_>,
        permissions: Permissions,
    ) -> Result<JournalPosition, BrokerError> {
        let mut state = self.state.write();
        let mut grants = self.grants_to_change(&state, &permissions.vhost, &permissions.user)?;
        grants.set(permissions.clone())?;
        state.put_grants(grants);
        let position = self.services.store.define(vec![Definition::PutPermissions(permissions.clone())]);
        self.grants_moved();
        drop(state);
        let fields = FieldTable::new()
            .with("user", permissions.user.as_str())
            .with("vhost", permissions.vhost.as_str())
            .with("configure", permissions.configure)
            .with("write", permissions.write)
            .with("read", permissions.read);
        self.tell(by, "permission.created", fields);
        Ok(position)
    }

    /// Takes the permissions of a user in a vhost away. Connections stay open, but are refused what they ask for next.
    ///
    /// # Errors
    /// User or vhost are missing.
    pub fn clear_permissions(
        &self,
        by: Actor<'_>,
        vhost: &str,
        user: &str,
    ) -> Result<JournalPosition, BrokerError> {
        let (vhost, user) = (VhostName::from(vhost), UserName::from(user));
        let mut state = self.state.write();
        let mut grants = self.grants_to_change(&state, &vhost, &user)?;
        grants.clear();
        state.put_grants(grants);
        let gone = Definition::DeletePermissions(vhost.clone(), user.clone());
        let position = self.services.store.define(vec![gone]);
        self.grants_moved();
        drop(state);
        let fields = FieldTable::new().with("user", user.as_str()).with("vhost", vhost.as_str());
        self.tell(by, "permission.deleted", fields);
        Ok(position)
    }

    /// Sets the permissions of a user for the routing keys of a topic exchange, which need not exist yet.
    ///
    /// # Errors
    /// User or vhost are missing, or a pattern is no regular expression.
    pub fn set_topic_permissions(
        &self,
        by: Actor<'_>,
        permissions: TopicPermissions,
    ) -> Result<JournalPosition, BrokerError> {
        let mut state = self.state.write();
        let mut grants = self.grants_to_change(&state, &permissions.vhost, &permissions.user)?;
        grants.set_topic(permissions.clone())?;
        state.put_grants(grants);
        let position = self.services.store.define(vec![Definition::PutTopicPermissions(permissions.clone())]);
        self.grants_moved();
        drop(state);
        let fields = topic_fields(&permissions.user, &permissions.vhost, &permissions.exchange)
            .with("write", permissions.write)
            .with("read", permissions.read);
        self.tell(by, "topic.permission.created", fields);
        Ok(position)
    }

    /// Takes a user's topic permissions in a vhost away, those of one exchange or all.
    ///
    /// # Errors
    /// User or vhost are missing.
    pub fn clear_topic_permissions(
        &self,
        by: Actor<'_>,
        vhost: &str,
        user: &str,
        exchange: Option<&str>,
    ) -> Result<JournalPosition, BrokerError> {
        let (vhost, user) = (VhostName::from(vhost), UserName::from(user));
        let mut state = self.state.write();
        let mut grants = self.grants_to_change(&state, &vhost, &user)?;
        let cleared = grants.clear_topics(exchange);
        state.put_grants(grants);
        let gone = |name: &ExchangeName| {
            Definition::DeleteTopicPermissions(vhost.clone(), user.clone(), name.clone())
        };
        let position = self.services.store.define(cleared.iter().map(gone).collect());
        self.grants_moved();
        drop(state);
        for exchange in cleared {
            self.tell(by, "topic.permission.deleted", topic_fields(&user, &vhost, &exchange));
        }
        Ok(position)
    }

    fn grants_to_change(
        &self,
        state: &State,
        vhost: &VhostName,
        user: &UserName,
    ) -> Result<Grants, BrokerError> {
        state.user(user.as_str())?;
        if !self.vhosts.contains_key(vhost) {
            return Err(BrokerError::VhostNotFound { vhost: vhost.to_string() });
        }
        Ok(state.grants_mut(vhost, user))
    }

    /// Forgets all permissions in a vhost that `remove` takes out of the directory; what the store is to be told of
    /// that, if it was there.
    pub(crate) fn forget_vhost<V>(
        &self,
        vhost: &str,
        remove: impl FnOnce() -> Option<V>,
    ) -> Option<(V, Vec<Definition>)> {
        let mut state = self.state.write();
        let removed = remove()?;
        let grants = state.grants.remove(vhost).unwrap_or_default();
        self.grants_moved();
        Some((removed, grants.values().flat_map(|grants| deletions(grants)).collect()))
    }

    fn grants_moved(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// Telling.
impl Access {
    /// Notes a change made by an administrator, and raises its event. COMPAT: RabbitMQ's names and fields.
    pub(crate) fn tell(&self, by: Actor<'_>, name: &'static str, fields: FieldTable) {
        by.note(name, &fields);
        self.services
            .events
            .raise(|| Event { name, fields: fields.with("user_who_performed_action", by.user) });
    }

    fn tell_password(&self, by: Actor<'_>, user: &User) {
        let name = if user.password.is_some() { "user.password.changed" } else { "user.password.cleared" };
        self.tell(by, name, FieldTable::new().with("name", user.name.as_str()));
    }

    pub(crate) fn tell_gone(&self, gone: &Gone) {
        if let Some(listener) = self.gone.get() {
            listener(gone);
        }
    }
}

/// Restoring: what the store kept was checked when it was set.
impl Access {
    pub(crate) fn restore_begun(&self) {
        self.state.write().has_begun = true;
    }

    pub(crate) fn restore_user(&self, user: User) {
        self.state.write().users.insert(user.name.clone(), Arc::new(user));
    }

    pub(crate) fn restore_permissions(&self, permissions: Permissions) -> Result<(), BrokerError> {
        let mut state = self.state.write();
        let mut grants = state.grants_mut(&permissions.vhost, &permissions.user);
        grants.set(permissions)?;
        state.put_grants(grants);
        Ok(())
    }

    pub(crate) fn restore_topic_permissions(&self, permissions: TopicPermissions) -> Result<(), BrokerError> {
        let mut state = self.state.write();
        let mut grants = state.grants_mut(&permissions.vhost, &permissions.user);
        grants.set_topic(permissions)?;
        state.put_grants(grants);
        Ok(())
    }
}

/// The changes that take all of these grants away.
fn deletions(grants: &Grants) -> Vec<Definition> {
    let (vhost, user) = (&grants.vhost, &grants.user);
    let permissions = grants.permissions();
    let permissions = permissions.map(|_| Definition::DeletePermissions(vhost.clone(), user.clone()));
    let topics = grants
        .topic_permissions()
        .map(|topic| Definition::DeleteTopicPermissions(vhost.clone(), user.clone(), topic.exchange.clone()));
    permissions.into_iter().chain(topics).collect()
}

fn topic_fields(user: &UserName, vhost: &VhostName, exchange: &ExchangeName) -> FieldTable {
    FieldTable::new()
        .with("user", user.as_str())
        .with("vhost", vhost.as_str())
        .with("exchange", exchange.as_str())
}

#[cfg(test)]
mod tests;
