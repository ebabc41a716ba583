//! Passwords that were right, so that who connects often does not wait for a slow hash each time. What is kept of
//! them is a hash with a key that lives as long as the process, and the user as it was: any change of the user makes
//! another one, for whom nothing is remembered.

use std::sync::Arc;

use blake2::Blake2bMac;
use blake2::digest::consts::U32;
use blake2::digest::{KeyInit, Mac};
use hashbrown::HashMap;
use leveret_broker::UserName;
use leveret_broker::access::user::User;
use subtle::ConstantTimeEq;

/// Users of whom one password is remembered: some hundred octets each.
const USERS_MAX: usize = 4096;

/// The last password of each user that was right.
pub(super) struct Verified {
    /// None if the system gives no random octets: nothing is remembered then.
    key: Option<[u8; 32]>,
    users: HashMap<UserName, Entry>,
}

struct Entry {
    user: Arc<User>,
    hash: [u8; 32],
}

impl Verified {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        let key = getrandom::fill(&mut key).is_ok().then_some(key);
        Self { key, users: HashMap::new() }
    }

    /// Whether this is the password of just this user.
    pub(super) fn knows(&self, user: &Arc<User>, password: &[u8]) -> bool {
        let known = self.users.get(user.name.as_str()).filter(|entry| Arc::ptr_eq(&entry.user, user));
        match (known, self.hash(password)) {
            (Some(entry), Some(hash)) => entry.hash.ct_eq(&hash).into(),
            _ => false,
        }
    }

    /// Notes that it is.
    pub(super) fn remember(&mut self, user: &Arc<User>, password: &[u8]) {
        let Some(hash) = self.hash(password) else { return };
        if self.users.len() >= USERS_MAX && !self.users.contains_key(user.name.as_str()) {
            // Any will do: whoever it is waits once more.
            let one = self.users.keys().next().cloned();
            one.into_iter().for_each(|name| _ = self.users.remove(&name));
        }
        self.users.insert(user.name.clone(), Entry { user: Arc::clone(user), hash });
    }

    fn hash(&self, password: &[u8]) -> Option<[u8; 32]> {
        let mac = <Blake2bMac<U32> as KeyInit>::new_from_slice(&self.key?).ok()?;
        Some(mac.chain_update(password).finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use leveret_broker::access::password::{HashAlgorithm, PasswordHash};
    use leveret_broker::store::MemoryStore;
    use leveret_broker::{Actor, Broker};
    use proptest::prelude::*;

    use super::*;

    const BY: Actor<'_> = Actor { user: "admin", from: "test" };

    #[derive(Clone, Debug)]
    enum Step {
        SetPassword(u8),
        SetTags,
        Delete,
        /// A login begins: the user is looked up.
        Begin,
        /// It is found right some time later.
        Finish,
        Ask(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_u8..3).prop_map(Step::SetPassword),
            1 => Just(Step::SetTags),
            1 => Just(Step::Delete),
            3 => Just(Step::Begin),
            3 => Just(Step::Finish),
            6 => (0_u8..3).prop_map(Step::Ask),
        ]
    }

    fn hash_of(password: u8) -> PasswordHash {
        PasswordHash::imported(HashAlgorithm::Md5, vec![password; 20]).unwrap()
    }

    proptest! {
        #[test]
        fn a_password_that_was_changed_is_never_known(steps in prop::collection::vec(step(), 1..60)) {
            let broker = Broker::new(Arc::new(MemoryStore::default()));
            let access = broker.access();
            let mut verified = Verified::new();
            let mut password = None;
            let mut begun: Option<(Arc<User>, u8)> = None;
            for step in steps {
                match step {
                    Step::SetPassword(new) => {
                        password = Some(new);
                        let user = User { password: Some(hash_of(new)), ..User::new("u") };
                        access.put_user(BY, user).unwrap();
                    }
                    Step::SetTags => _ = access.set_tags(BY, "u", Vec::new()),
                    Step::Delete => {
                        password = None;
                        let _ = access.delete_user(BY, "u");
                    }
                    Step::Begin => begun = access.user("u").zip(password),
                    Step::Finish => {
                        if let Some((user, right)) = &begun {
                            verified.remember(user, &[*right]);
                        }
                    }
                    Step::Ask(asked) => {
                        let is_known = access.user("u").is_some_and(|user| verified.knows(&user, &[asked]));
                        prop_assert!(!is_known || password == Some(asked));
                    }
                }
            }
        }
    }

    #[test]
    fn no_more_users_are_remembered_than_there_is_room_for() {
        let mut verified = Verified::new();
        for number in 0..USERS_MAX + 10 {
            let user = Arc::new(User::new(number.to_string()));
            verified.remember(&user, b"secret");
            assert!(verified.knows(&user, b"secret"));
        }
        assert_eq!(verified.users.len(), USERS_MAX);
    }
}
