//! What the user of a channel may do: the grants, taken again when they may have changed, and the checks in the order
//! in which RabbitMQ makes them.

use std::sync::Arc;

use leveret_broker::access::permissions::{Grants, Permission, Resource};
use leveret_broker::exchange::BindingTarget;
use leveret_broker::{Access, BrokerError, Vhost};
use leveret_codec::method::MethodId;

use super::{Channel, Outcome};
use crate::connection::Connection;
use crate::error::AmqpError;

/// A channel's grants.
pub(crate) struct ChannelAccess {
    /// Of [`Access`], when they were taken.
    generation: u64,
    grants: Arc<Grants>,
    // PERF: the exchange that was found permitted last, for routes that are looked up for each message.
    writable: Option<String>,
}

impl ChannelAccess {
    pub(super) fn of(connection: &Connection) -> Self {
        Self::of_user(connection.server.broker.access(), &connection.user, connection.vhost.name.as_str())
    }

    /// What a user may do in a vhost.
    pub(crate) fn of_user(access: &Access, user: &str, vhost: &str) -> Self {
        // Before the grants: what changes in between is seen the next time.
        let generation = access.generation();
        let grants = access.grants(user, vhost);
        Self { generation, grants, writable: None }
    }

    /// Takes the grants again if they may have changed; whether that was so.
    pub(super) fn refresh(&mut self, access: &Access) -> bool {
        let generation = access.generation();
        if generation == self.generation {
            return false;
        }
        self.generation = generation;
        self.grants = access.grants(self.grants.user.as_str(), self.grants.vhost.as_str());
        self.writable = None;
        true
    }

    /// Checks that a message may be published with these routing keys.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn check_publish(
        &mut self,
        vhost: &Vhost,
        exchange: &str,
        keys: &[&str],
    ) -> Result<(), BrokerError> {
        if self.writable.as_deref() != Some(exchange) {
            self.grants.check(Permission::Write, Resource::Exchange, exchange)?;
            self.writable = Some(exchange.to_owned());
        }
        check_topics(&self.grants, vhost, Permission::Write, exchange, keys)
    }
}

/// Checks routing keys if the exchange is one for which they matter; one that is missing is somebody else's business.
fn check_topics(
    grants: &Grants,
    vhost: &Vhost,
    permission: Permission,
    exchange: &str,
    keys: &[&str],
) -> Result<(), BrokerError> {
    if !grants.has_topics(exchange) {
        return Ok(());
    }
    match vhost.find_exchange(exchange) {
        Ok(spec) => grants.check_topics(permission, (exchange, spec.exchange_type), keys),
        Err(_) => Ok(()),
    }
}

impl Channel {
    /// What the user may do now.
    pub(super) fn grants(&mut self) -> Arc<Grants> {
        if self.access.refresh(self.connection.server.broker.access()) {
            self.routes.forget_routes();
        }
        Arc::clone(&self.access.grants)
    }

    /// Checks that the user may do this to a queue or exchange.
    pub(super) fn check(
        &mut self,
        permission: Permission,
        resource: Resource,
        name: &str,
        method: MethodId,
    ) -> Outcome {
        let checked = self.grants().check(permission, resource, name);
        checked.map_err(|error| AmqpError::refused(&error, method))
    }

    /// Checks that the user may bind or unbind. COMPAT: the destination is looked at first, then whether either end
    /// can be bound at all, then the source and the key.
    pub(super) fn check_binding(
        &mut self,
        source: &str,
        target: &BindingTarget,
        routing_key: &str,
    ) -> Result<(), BrokerError> {
        let grants = self.grants();
        match target {
            BindingTarget::Queue(name) => grants.check(Permission::Write, Resource::Queue, name.as_str()),
            BindingTarget::Exchange(name) => {
                grants.check(Permission::Write, Resource::Exchange, name.as_str())
            }
        }?;
        leveret_broker::vhost::refuse_ends(source, target)?;
        grants.check(Permission::Read, Resource::Exchange, source)?;
        check_topics(&grants, &self.connection.vhost, Permission::Read, source, &[routing_key])
    }
}

#[cfg(test)]
mod tests;
