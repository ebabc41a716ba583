//! Who uses the HTTP API. Users and permissions are the broker's; whether a password is right the server finds out,
//! since it bounds how many are looked at, for connections and requests together.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

/// Checks logins.
pub trait Authenticate: Send + Sync {
    /// Lets somebody in who comes from `peer`, or not.
    fn log_in(&self, user: String, password: Vec<u8>, peer: SocketAddr) -> LoggingIn<'_>;
}

/// A login that is being checked.
pub type LoggingIn<'a> = Pin<Box<dyn Future<Output = Result<User, LoginRefusal>> + Send + 'a>>;

/// Why a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginRefusal {
    /// Unknown user or wrong password, or too many of these.
    WrongCredentials,
    /// A user that may come from this machine alone.
    NotFromHere,
}

/// Somebody who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// What the user may see and change here.
    pub tags: Vec<String>,
}

/// What an endpoint asks of a user's tags. Each is also had by those who have a later one, but that monitors may not
/// set policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// Any tag of the management API.
    Management,
    /// Policies and parameters.
    Policymaker,
    /// All that can be seen.
    Monitoring,
    /// Everything.
    Administrator,
}

impl User {
    /// Whether it has a tag, or one that includes it.
    pub(crate) fn has(&self, tag: Tag) -> bool {
        let has = |name: &str| self.tags.iter().any(|tag| tag == name);
        let is_administrator = has("administrator");
        match tag {
            Tag::Administrator => is_administrator,
            Tag::Monitoring => is_administrator || has("monitoring"),
            Tag::Policymaker => is_administrator || has("policymaker"),
            Tag::Management => {
                is_administrator || has("monitoring") || has("policymaker") || has("management")
            }
        }
    }

    /// Whether it sees all connections and knows of all vhosts. COMPAT: administrators and monitors do.
    pub(crate) fn sees_all(&self) -> bool {
        self.has(Tag::Monitoring)
    }
}

impl Tag {
    /// COMPAT: what is said to those who do not have it.
    pub(crate) fn refusal(self) -> &'static str {
        match self {
            Self::Management => "Not management user",
            Self::Policymaker => "User not authorised to access object",
            Self::Monitoring => "Not monitor user",
            Self::Administrator => "Not administrator user",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_include_one_another_as_in_rabbitmq() {
        let user = |tag: &str| User { name: "u".to_owned(), tags: vec![tag.to_owned()] };
        assert!(user("administrator").has(Tag::Policymaker) && user("administrator").has(Tag::Monitoring));
        assert!(user("monitoring").has(Tag::Management) && !user("monitoring").has(Tag::Policymaker));
        assert!(user("policymaker").has(Tag::Management) && !user("policymaker").has(Tag::Monitoring));
        assert!(!user("management").has(Tag::Monitoring) && !user("other").has(Tag::Management));
    }
}
