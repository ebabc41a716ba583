//! Exchanges, queues and bindings: what exchange.* and queue.* ask the vhost for. They are answered when what
//! was asked for is safe.

use leveret_broker::access::permissions::{Permission, Resource};
use leveret_broker::exchange::BindingTarget;
use leveret_broker::reply_to::REPLY_TO;
use leveret_broker::store::JournalPosition;
use leveret_broker::vhost::{ExchangeDeclaration, QueueDeclaration};
use leveret_broker::{BrokerError, ExchangeName};
use leveret_codec::method::{Method, MethodId, exchange, queue};
use leveret_codec::table::FieldTable;

use super::{Channel, Outcome};
use crate::error::{AmqpError, ReplyCode};

/// Turns a refusal of the broker into the error of a method.
fn refused(method: MethodId) -> impl Fn(BrokerError) -> AmqpError {
    move |error| AmqpError::refused(&error, method)
}

/// COMPAT: line breaks in names are dropped.
fn stripped(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '\r' | '\n')).collect()
}

impl Channel {
    /// SPEC: an empty queue name is the queue declared last on the channel.
    pub(super) fn queue_name(&self, name: &str, method: MethodId) -> Result<String, AmqpError> {
        match (name, &self.last_queue) {
            ("", None) => Err(AmqpError::new(ReplyCode::NotFound, "no previously declared queue", method)),
            ("", Some(last)) => Ok(last.to_string()),
            (name, _) => Ok(stripped(name)),
        }
    }

    pub(super) fn recv_exchange_declare(&mut self, declare: exchange::Declare<'_>) -> Outcome {
        let refused = refused(MethodId::EXCHANGE_DECLARE);
        let name = stripped(declare.exchange);
        let grants = self.grants();
        let position = if declare.passive {
            if !name.is_empty() {
                // COMPAT: as of 4.3, so that names cannot be tried out.
                grants.check_any(Resource::Exchange, &name).map_err(&refused)?;
            }
            self.connection.vhost.find_exchange(&name).map_err(refused)?;
            JournalPosition::SAFE
        } else {
            let declaration = ExchangeDeclaration {
                name: &name,
                exchange_type: declare.exchange_type,
                durable: declare.durable,
                auto_delete: declare.auto_delete,
                internal: declare.internal,
                arguments: declare.arguments,
            };
            self.connection.vhost.declare_exchange_as(&grants, declaration).map_err(refused)?
        };
        if !declare.no_wait {
            self.send_when_safe(position, &Method::ExchangeDeclareOk(exchange::DeclareOk));
        }
        Ok(())
    }

    pub(super) fn recv_exchange_delete(&mut self, delete: &exchange::Delete<'_>) -> Outcome {
        let name = stripped(delete.exchange);
        // COMPAT: those that nobody may delete are told first.
        if !name.is_empty() && !name.starts_with("amq.") {
            self.check(Permission::Configure, Resource::Exchange, &name, MethodId::EXCHANGE_DELETE)?;
        }
        let deleted = self.connection.vhost.delete_exchange(&name, delete.if_unused);
        let position = deleted.map_err(refused(MethodId::EXCHANGE_DELETE))?;
        if !delete.no_wait {
            self.send_when_safe(position, &Method::ExchangeDeleteOk(exchange::DeleteOk));
        }
        Ok(())
    }

    pub(super) fn recv_exchange_bind(&mut self, bind: &exchange::Bind<'_>) -> Outcome {
        let target = BindingTarget::Exchange(ExchangeName::from(stripped(bind.destination)));
        let method = MethodId::EXCHANGE_BIND;
        let position = self.bind(bind.source, &target, bind.routing_key, &bind.arguments, method)?;
        if !bind.no_wait {
            self.send_when_safe(position, &Method::ExchangeBindOk(exchange::BindOk));
        }
        Ok(())
    }

    pub(super) fn recv_exchange_unbind(&mut self, unbind: &exchange::Unbind<'_>) -> Outcome {
        let target = BindingTarget::Exchange(ExchangeName::from(stripped(unbind.destination)));
        let method = MethodId::EXCHANGE_UNBIND;
        let position = self.unbind(unbind.source, &target, unbind.routing_key, &unbind.arguments, method)?;
        if !unbind.no_wait {
            self.send_when_safe(position, &Method::ExchangeUnbindOk(exchange::UnbindOk));
        }
        Ok(())
    }

    pub(super) fn recv_queue_declare(&mut self, declare: queue::Declare<'_>) -> Outcome {
        let refused = refused(MethodId::QUEUE_DECLARE);
        let grants = self.grants();
        let connection = &self.connection;
        let vhost = &connection.vhost;
        let name = stripped(declare.queue);
        if name.starts_with(REPLY_TO) {
            return self.declare_reply_queue(&name, declare.no_wait);
        }
        let (queue, position) = if declare.passive {
            grants.check_any(Resource::Queue, &name).map_err(&refused)?;
            // COMPAT: an empty name is not the last queue's here, as it is everywhere else.
            let queue = vhost.queue(&name, connection.id).map_err(refused)?;
            queue.note_declared();
            (queue, JournalPosition::SAFE)
        } else {
            let declaration = QueueDeclaration {
                name: &name,
                durable: declare.durable,
                exclusive: declare.exclusive,
                auto_delete: declare.auto_delete,
                arguments: declare.arguments,
            };
            let (queue, position) =
                vhost.declare_queue_as(&grants, declaration, connection.id).map_err(refused)?;
            if queue.spec.owner.is_some() {
                connection.own_queue(queue.spec.name.clone());
            }
            (queue, position)
        };
        self.last_queue = Some(queue.spec.name.clone());
        if !declare.no_wait {
            let snapshot = queue.snapshot();
            self.declare_ok(position, queue.spec.name.as_str(), snapshot.ready, snapshot.consumers);
        }
        Ok(())
    }

    /// COMPAT: declaring a reply name asks whether the requester is still there.
    fn declare_reply_queue(&mut self, name: &str, no_wait: bool) -> Outcome {
        if name != REPLY_TO && !self.connection.vhost.has_reply_queue(name) {
            let error = BrokerError::QueueNotFound {
                queue: name.to_owned(),
                vhost: self.connection.vhost.name.to_string(),
            };
            return Err(AmqpError::refused(&error, MethodId::QUEUE_DECLARE));
        }
        if !no_wait {
            self.declare_ok(JournalPosition::SAFE, name, 0, 1);
        }
        Ok(())
    }

    fn declare_ok(&mut self, position: JournalPosition, queue: &str, messages: usize, consumers: usize) {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let declare_ok =
            queue::DeclareOk { queue, message_count: count(messages), consumer_count: count(consumers) };
        self.send_when_safe(position, &Method::QueueDeclareOk(declare_ok));
    }

    pub(super) fn recv_queue_bind(&mut self, bind: &queue::Bind<'_>) -> Outcome {
        let name = self.queue_name(bind.queue, MethodId::QUEUE_BIND)?;
        // SPEC: with neither queue nor key given, both are the last queue's name.
        let key = if bind.queue.is_empty() && bind.routing_key.is_empty() { &name } else { bind.routing_key };
        let target = BindingTarget::Queue(name.as_str().into());
        let position = self.bind(bind.exchange, &target, key, &bind.arguments, MethodId::QUEUE_BIND)?;
        if !bind.no_wait {
            self.send_when_safe(position, &Method::QueueBindOk(queue::BindOk));
        }
        Ok(())
    }

    pub(super) fn recv_queue_unbind(&mut self, unbind: &queue::Unbind<'_>) -> Outcome {
        let name = self.queue_name(unbind.queue, MethodId::QUEUE_UNBIND)?;
        let key =
            if unbind.queue.is_empty() && unbind.routing_key.is_empty() { &name } else { unbind.routing_key };
        let target = BindingTarget::Queue(name.as_str().into());
        let method = MethodId::QUEUE_UNBIND;
        let position = self.unbind(unbind.exchange, &target, key, &unbind.arguments, method)?;
        self.send_when_safe(position, &Method::QueueUnbindOk(queue::UnbindOk));
        Ok(())
    }

    fn bind(
        &mut self,
        source: &str,
        target: &BindingTarget,
        routing_key: &str,
        arguments: &FieldTable,
        method: MethodId,
    ) -> Result<JournalPosition, AmqpError> {
        let source = stripped(source);
        self.check_binding(&source, target, routing_key).map_err(refused(method))?;
        let bound = self.connection.vhost.bind(&source, target, routing_key, arguments, self.connection.id);
        bound.map_err(refused(method))
    }

    fn unbind(
        &mut self,
        source: &str,
        target: &BindingTarget,
        routing_key: &str,
        arguments: &FieldTable,
        method: MethodId,
    ) -> Result<JournalPosition, AmqpError> {
        let source = stripped(source);
        self.check_binding(&source, target, routing_key).map_err(refused(method))?;
        let vhost = &self.connection.vhost;
        let unbound = vhost.unbind(&source, target, routing_key, arguments, self.connection.id);
        unbound.map_err(refused(method))
    }

    pub(super) fn recv_queue_purge(&mut self, purge: &queue::Purge<'_>) -> Outcome {
        let refused = refused(MethodId::QUEUE_PURGE);
        let name = self.queue_name(purge.queue, MethodId::QUEUE_PURGE)?;
        self.check(Permission::Read, Resource::Queue, &name, MethodId::QUEUE_PURGE)?;
        let queue = self.connection.vhost.queue(&name, self.connection.id).map_err(&refused)?;
        let (purged, safe_at) = queue.purge().map_err(&refused)?;
        if !purge.no_wait {
            let message_count = u32::try_from(purged).unwrap_or(u32::MAX);
            self.send_when_safe(safe_at, &Method::QueuePurgeOk(queue::PurgeOk { message_count }));
        }
        Ok(())
    }

    pub(super) fn recv_queue_delete(&mut self, delete: &queue::Delete<'_>) -> Outcome {
        let name = self.queue_name(delete.queue, MethodId::QUEUE_DELETE)?;
        self.check(Permission::Configure, Resource::Queue, &name, MethodId::QUEUE_DELETE)?;
        let vhost = &self.connection.vhost;
        let deleted = vhost.delete_queue(&name, self.connection.id, delete.if_unused, delete.if_empty);
        let (deleted, position) = deleted.map_err(refused(MethodId::QUEUE_DELETE))?;
        self.connection.disown_queue(&name);
        if !delete.no_wait {
            let message_count = u32::try_from(deleted).unwrap_or(u32::MAX);
            self.send_when_safe(position, &Method::QueueDeleteOk(queue::DeleteOk { message_count }));
        }
        Ok(())
    }
}
