//! Users: name, tags, password and limits.

use super::password::PasswordHash;
use crate::error::BrokerError;
use crate::limits::{NAME_BYTES_MAX, USER_TAGS_MAX};
use crate::names::UserName;

/// Who may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: UserName,
    /// What the user is to the management: administrator, monitoring, policymaker, management, impersonator, or words
    /// that others know. Each once, in the order in which they were given.
    pub tags: Vec<String>,
    /// None for a user who cannot log in by password.
    pub password: Option<PasswordHash>,
    /// How much the user may have open.
    pub limits: UserLimits,
}

/// How much a user may have open at a time. COMPAT: no more than that; any negative number is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Connections.
    pub max_connections: Option<i64>,
    /// Channels, over all connections.
    pub max_channels: Option<i64>,
}

/// How much there may be of something in a vhost. COMPAT: as for users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VhostLimits {
    /// Connections.
    pub max_connections: Option<i64>,
    /// Queues that clients declare.
    pub max_queues: Option<i64>,
}

/// The limit, if there are as many as it allows already.
#[must_use]
pub fn limit_reached(limit: Option<i64>, count: usize) -> Option<u64> {
    // A negative number is no limit.
    let limit = u64::try_from(limit?).ok()?;
    (u64::try_from(count).unwrap_or(u64::MAX) >= limit).then_some(limit)
}

impl User {
    /// A user without password, tags and limits.
    #[must_use]
    pub fn new(name: impl Into<UserName>) -> Self {
        Self { name: name.into(), tags: Vec::new(), password: None, limits: UserLimits::default() }
    }

    /// Whether the user has a tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|known| known == tag)
    }

    /// The same user once, with each tag once.
    ///
    /// # Errors
    /// A name or tag that is empty or too long, or more than 32 tags.
    pub(super) fn checked(mut self) -> Result<Self, BrokerError> {
        let refuse = |reason: String| Err(BrokerError::InvalidUser { reason });
        if !(1..=NAME_BYTES_MAX).contains(&self.name.as_str().len()) {
            return refuse(format!("a user's name has 1 to {NAME_BYTES_MAX} octets"));
        }
        let mut tags = Vec::new();
        for tag in std::mem::take(&mut self.tags) {
            if !(1..=NAME_BYTES_MAX).contains(&tag.len()) {
                return refuse(format!("a tag has 1 to {NAME_BYTES_MAX} octets"));
            }
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        if tags.len() > USER_TAGS_MAX {
            return refuse(format!("a user has at most {USER_TAGS_MAX} tags"));
        }
        Ok(Self { tags, ..self })
    }
}
