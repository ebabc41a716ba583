//! What a user may do in a vhost: three patterns for names of queues and exchanges, and patterns for the routing keys
//! of topic exchanges. [`Permissions`] and [`TopicPermissions`] are what is asked for, [`Grants`] what is in force
//! for one user in one vhost, compiled once and shared by all of the user's channels there.

use std::collections::BTreeMap;
use std::fmt;

use fancy_regex::Regex;

use crate::error::BrokerError;
use crate::exchange::ExchangeType;
use crate::names::{ExchangeName, UserName, VhostName};
use crate::policy::compiled;

/// COMPAT: what the default exchange is called where permissions are concerned.
pub const DEFAULT_EXCHANGE: &str = "amq.default";

/// What is done to a queue or an exchange, as permissions tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Made or deleted.
    Configure,
    /// Given messages, or bound.
    Write,
    /// Messages taken from it, or bound to.
    Read,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

/// What is done it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queue => "queue",
            Self::Exchange => "exchange",
        })
    }
}

/// Permissions of a user in a vhost, as regular expressions that are found anywhere in a name unless they are
/// anchored; an empty one is found in no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Whose.
    pub user: UserName,
    /// Where.
    pub vhost: VhostName,
    /// Names of what may be made and deleted.
    pub configure: String,
    /// Names of what may be written to.
    pub write: String,
    /// Names of what may be read from.
    pub read: String,
}

/// Permissions of a user for the routing keys of one topic exchange; `{username}` and `{vhost}` in them stand for the
/// names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPermissions {
    /// Whose.
    pub user: UserName,
    /// Where.
    pub vhost: VhostName,
    /// Of which exchange.
    pub exchange: ExchangeName,
    /// Keys that may be published with.
    pub write: String,
    /// Keys that may be bound with.
    pub read: String,
}

/// A pattern that names are looked up in.
#[derive(Clone, Debug)]
enum Pattern {
    Nothing,
    // PERF: what most users have costs no search.
    Everything,
    Regex(Regex),
}

impl Pattern {
    fn compile(pattern: &str) -> Result<Self, BrokerError> {
        match pattern {
            // COMPAT: an empty pattern would be found in every name; it stands for none.
            "" => Ok(Self::Nothing),
            ".*" | "^.*" | ".*$" | "^.*$" => Ok(Self::Everything),
            _ => {
                compiled(pattern).map(Self::Regex).map_err(|reason| BrokerError::InvalidPermission { reason })
            }
        }
    }

    /// COMPAT: a pattern that takes too long over a name is not found in it.
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Regex(regex) => regex.is_match(name).unwrap_or(false),
        }
    }
}

#[derive(Clone, Debug)]
struct ActivePermissions {
    asked: Permissions,
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

#[derive(Clone, Debug)]
struct ActiveTopicPermissions {
    asked: TopicPermissions,
    write: Pattern,
    read: Pattern,
}

/// What one user may do in one vhost.
#[derive(Clone, Debug)]
pub struct Grants {
    /// Whose.
    pub user: UserName,
    /// Where.
    pub vhost: VhostName,
    permissions: Option<ActivePermissions>,
    topics: BTreeMap<ExchangeName, ActiveTopicPermissions>,
}

impl Grants {
    /// Nothing at all.
    #[must_use]
    pub fn none(user: UserName, vhost: VhostName) -> Self {
        Self { user, vhost, permissions: None, topics: BTreeMap::new() }
    }

    /// Whether nothing is known, so that nobody needs it.
    pub(super) fn is_empty(&self) -> bool {
        self.permissions.is_none() && self.topics.is_empty()
    }

    /// Whether the user may open the vhost: there are permissions, be it for nothing.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.permissions.is_some()
    }

    /// The permissions as they were set.
    #[must_use]
    pub fn permissions(&self) -> Option<&Permissions> {
        self.permissions.as_ref().map(|active| &active.asked)
    }

    /// The topic permissions as they were set, by the names of their exchanges.
    pub fn topic_permissions(&self) -> impl Iterator<Item = &TopicPermissions> {
        self.topics.values().map(|active| &active.asked)
    }

    pub(super) fn set(&mut self, asked: Permissions) -> Result<(), BrokerError> {
        let configure = Pattern::compile(&asked.configure)?;
        let (write, read) = (Pattern::compile(&asked.write)?, Pattern::compile(&asked.read)?);
        self.permissions = Some(ActivePermissions { asked, configure, write, read });
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.permissions = None;
    }

    pub(super) fn set_topic(&mut self, asked: TopicPermissions) -> Result<(), BrokerError> {
        let (write, read) = (self.topic_pattern(&asked.write)?, self.topic_pattern(&asked.read)?);
        self.topics.insert(asked.exchange.clone(), ActiveTopicPermissions { asked, write, read });
        Ok(())
    }

    /// Of one exchange, or of all; those that were there.
    pub(super) fn clear_topics(&mut self, exchange: Option<&str>) -> Vec<ExchangeName> {
        let names = self.topics.keys().filter(|name| exchange.is_none_or(|asked| asked == name.as_str()));
        let names: Vec<_> = names.cloned().collect();
        names.iter().for_each(|name| _ = self.topics.remove(name));
        names
    }

    /// Names stand for themselves, whatever characters are in them.
    fn topic_pattern(&self, pattern: &str) -> Result<Pattern, BrokerError> {
        let user = fancy_regex::escape(self.user.as_str());
        let vhost = fancy_regex::escape(self.vhost.as_str());
        // COMPAT: no AMQP 0-9-1 connection has a client id, so what stands for one stands for itself.
        let filled = pattern.replace("{username}", &user).replace("{vhost}", &vhost);
        Pattern::compile(&filled.replace("{client_id}", r"\{client_id\}"))
    }

    /// Checks that the user may do this to a queue or exchange.
    ///
    /// # Errors
    /// The user may not.
    pub fn check(&self, permission: Permission, resource: Resource, name: &str) -> Result<(), BrokerError> {
        let name = match (resource, name) {
            (Resource::Exchange, "") => DEFAULT_EXCHANGE,
            _ => name,
        };
        if self.allows(permission, name) {
            return Ok(());
        }
        Err(BrokerError::AccessRefused { permission, resource, name: name.to_owned(), whose: self.whose() })
    }

    /// Checks that the user may do anything at all to a queue or exchange. COMPAT: what a passive declare asks for.
    ///
    /// # Errors
    /// The user may not.
    pub fn check_any(&self, resource: Resource, name: &str) -> Result<(), BrokerError> {
        let any = [Permission::Write, Permission::Read].into_iter().any(|one| self.allows(one, name));
        if any { Ok(()) } else { self.check(Permission::Configure, resource, name) }
    }

    fn allows(&self, permission: Permission, name: &str) -> bool {
        let Some(active) = &self.permissions else { return false };
        match permission {
            Permission::Configure => active.configure.matches(name),
            Permission::Write => active.write.matches(name),
            Permission::Read => active.read.matches(name),
        }
    }

    /// Whether routing keys matter for this exchange, should it be a topic exchange.
    #[must_use]
    pub fn has_topics(&self, exchange: &str) -> bool {
        self.topics.contains_key(exchange)
    }

    /// Checks that the user may publish or bind with these routing keys. Exchanges of other types, and those for
    /// which there are no topic permissions, take any key.
    ///
    /// # Errors
    /// The user may not.
    pub fn check_topics(
        &self,
        permission: Permission,
        (exchange, exchange_type): (&str, ExchangeType),
        keys: &[&str],
    ) -> Result<(), BrokerError> {
        let Some(active) = self.topics.get(exchange).filter(|_| exchange_type == ExchangeType::Topic) else {
            return Ok(());
        };
        let pattern = if permission == Permission::Read { &active.read } else { &active.write };
        match keys.iter().find(|key| !pattern.matches(key)) {
            None => Ok(()),
            Some(&key) => Err(BrokerError::TopicAccessRefused {
                permission,
                routing_key: key.to_owned(),
                exchange: exchange.to_owned(),
                whose: self.whose(),
            }),
        }
    }

    fn whose(&self) -> Whose {
        Whose { user: self.user.to_string(), vhost: self.vhost.to_string() }
    }
}

/// A user in a vhost, as refusals name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(configure: &str, write: &str, read: &str) -> Grants {
        let mut grants = Grants::none("u".into(), "/".into());
        let asked = Permissions {
            user: "u".into(),
            vhost: "/".into(),
            configure: configure.to_owned(),
            write: write.to_owned(),
            read: read.to_owned(),
        };
        grants.set(asked).unwrap();
        grants
    }

    #[test]
    fn patterns_are_found_anywhere_and_an_empty_one_nowhere() {
        let grants = grants("", "mid", "^only$");
        let is_allowed = |permission, name| grants.check(permission, Resource::Queue, name).is_ok();
        assert!(!is_allowed(Permission::Configure, "") && !is_allowed(Permission::Configure, "x"));
        assert!(is_allowed(Permission::Write, "a-mid-b") && !is_allowed(Permission::Write, "other"));
        assert!(is_allowed(Permission::Read, "only") && !is_allowed(Permission::Read, "only one"));
    }

    #[test]
    fn the_default_exchange_goes_by_its_own_name() {
        let grants = grants("", "^amq\\.default$", "");
        assert!(grants.check(Permission::Write, Resource::Exchange, "").is_ok());
        let refused = grants.check(Permission::Read, Resource::Exchange, "").unwrap_err().to_string();
        assert_eq!(refused, "read access to exchange 'amq.default' in vhost '/' refused for user 'u'");
        assert!(grants.check(Permission::Write, Resource::Queue, "").is_err());
    }

    #[test]
    fn names_in_topic_permissions_stand_for_themselves() {
        let mut grants = Grants::none("a.b".into(), "/".into());
        let topics = |write: &str| TopicPermissions {
            user: "a.b".into(),
            vhost: "/".into(),
            exchange: "x".into(),
            write: write.to_owned(),
            read: String::new(),
        };
        grants.set_topic(topics("^{username}-{vhost}\\.[0-9]{2}$")).unwrap();
        fn check(grants: &Grants, key: &str) -> bool {
            grants.check_topics(Permission::Write, ("x", ExchangeType::Topic), &[key]).is_ok()
        }
        assert!(check(&grants, "a.b-/.42") && !check(&grants, "aXb-/.42"));
        assert!(grants.check_topics(Permission::Read, ("x", ExchangeType::Topic), &["a"]).is_err());
        assert!(grants.check_topics(Permission::Read, ("x", ExchangeType::Fanout), &["a"]).is_ok());
        assert!(grants.check_topics(Permission::Read, ("y", ExchangeType::Topic), &["a"]).is_ok());
        assert!(grants.set_topic(topics("(")).is_err(), "no regular expression");
        assert!(check(&grants, "a.b-/.42"), "what was in force still is");
    }
}
