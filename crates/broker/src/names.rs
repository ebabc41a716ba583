//! Names and identifiers of the domain, each its own type so that a mix-up does not compile.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(Arc::from(name))
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(Arc::from(name))
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name_type!(
    /// Name of a virtual host.
    VhostName
);
name_type!(
    /// Name of a user.
    UserName
);
name_type!(
    /// Name of an exchange; the empty name is the default exchange.
    ExchangeName
);
name_type!(
    /// Name of a queue, unique in its vhost.
    QueueName
);

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl $name {
            /// The next unused value in this process.
            #[must_use]
            pub fn next() -> Self {
                Self(Self::counter().fetch_add(1, Ordering::Relaxed))
            }

            /// Makes sure that no value up to this one is given out in this process.
            pub fn take_up_to(self) {
                Self::counter().fetch_max(self.0.saturating_add(1), Ordering::Relaxed);
            }

            /// No value from this one on was given out yet.
            #[must_use]
            pub fn unused() -> Self {
                Self(Self::counter().load(Ordering::Relaxed))
            }

            fn counter() -> &'static AtomicU64 {
                static NEXT: AtomicU64 = AtomicU64::new(1);
                &NEXT
            }
        }
    };
}

id_type!(
    /// One connection of a client; owner of exclusive queues.
    ConnectionId
);
id_type!(
    /// One queue during its life: a queue deleted and declared again under its old name has another id.
    QueueId
);
impl QueueId {
    /// The first of `levels + 1` unused values in a row: a queue, and its levels above the lowest.
    #[must_use]
    pub fn next_with_levels(levels: u8) -> Self {
        Self(Self::counter().fetch_add(u64::from(levels) + 1, Ordering::Relaxed))
    }

    /// What the store knows a level of this queue by.
    #[must_use]
    pub fn of_level(self, level: u8) -> Self {
        Self(self.0.saturating_add(u64::from(level)))
    }
}

id_type!(
    /// One consumer during its life.
    ConsumerId
);

/// A name made by the broker: `prefix` followed by 22 characters of base64url, as RabbitMQ makes them
/// for `amq.gen-`, `amq.ctag-` and reply queues.
#[must_use]
pub fn generated(prefix: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut name = String::with_capacity(prefix.len() + 22);
    name.push_str(prefix);
    let mut bits = random_128();
    for _ in 0..22 {
        name.push(char::from(ALPHABET[(bits & 63) as usize]));
        bits >>= 6;
    }
    name
}

/// 128 bits from the operating system, by way of the standard library's hash seeds: names of reply
/// queues must not be guessable by a stranger who saw others.
fn random_128() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    let half = || u128::from(RandomState::new().hash_one(fastrand::u64(..)));
    half() << 64 | half()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_have_the_prefix_and_do_not_repeat() {
        let names: std::collections::HashSet<_> = (0..1000).map(|_| generated("amq.gen-")).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| name.starts_with("amq.gen-") && name.len() == 30));
    }
}
