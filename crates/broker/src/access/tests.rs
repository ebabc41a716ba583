//! Users and permissions as administrators change them, and as a store gives them back.

use parking_lot::Mutex;

use super::permissions::{Permission, Resource};
use super::*;
use crate::broker::Broker;
use crate::store::MemoryStore;
use crate::vhost::VhostSettings;

const BY: Actor<'_> = Actor { user: "admin", from: "test" };

fn broker() -> Broker {
    let broker = Broker::new(Arc::new(MemoryStore::default()));
    broker.create_vhost("/");
    broker
}

fn all(user: &str, vhost: &str) -> Permissions {
    let pattern = || ".*".to_owned();
    Permissions {
        user: user.into(),
        vhost: vhost.into(),
        configure: pattern(),
        write: pattern(),
        read: pattern(),
    }
}

fn may_write(broker: &Broker, user: &str) -> bool {
    broker.access().grants(user, "/").check(Permission::Write, Resource::Queue, "q").is_ok()
}

#[test]
fn permissions_hold_until_they_are_cleared_and_move_the_generation() {
    let broker = broker();
    let access = broker.access();
    access.put_user(BY, User::new("u")).unwrap();
    assert!(!may_write(&broker, "u") && !access.grants("u", "/").is_admitted());
    let before = access.generation();
    access.set_permissions(BY, all("u", "/")).unwrap();
    assert!(may_write(&broker, "u") && access.generation() > before);
    let before = access.generation();
    access.clear_permissions(BY, "/", "u").unwrap();
    assert!(!may_write(&broker, "u") && access.generation() > before);
    access.clear_permissions(BY, "/", "u").unwrap();
}

#[test]
fn permissions_are_for_users_and_vhosts_that_exist() {
    let broker = broker();
    let access = broker.access();
    let missing = access.set_permissions(BY, all("u", "/")).unwrap_err();
    assert_eq!(missing, BrokerError::UserNotFound { user: "u".to_owned() });
    access.put_user(BY, User::new("u")).unwrap();
    let missing = access.set_permissions(BY, all("u", "other")).unwrap_err();
    assert_eq!(missing, BrokerError::VhostNotFound { vhost: "other".to_owned() });
    let bad = Permissions { read: "(".to_owned(), ..all("u", "/") };
    assert!(matches!(access.set_permissions(BY, bad), Err(BrokerError::InvalidPermission { .. })));
    assert!(!access.grants("u", "/").is_admitted());
}

#[test]
fn a_deleted_user_takes_the_permissions_along() {
    let broker = broker();
    let access = broker.access();
    let gone: Arc<Mutex<Vec<Gone>>> = Arc::default();
    let heard = Arc::clone(&gone);
    access.when_gone(Box::new(move |one| heard.lock().push(one.clone())));
    access.put_user(BY, User::new("u")).unwrap();
    access.set_permissions(BY, all("u", "/")).unwrap();
    access.delete_user(BY, "u").unwrap();
    assert!(access.user("u").is_none() && !may_write(&broker, "u"));
    assert_eq!(*gone.lock(), [Gone::User("u".into())]);
    access.put_user(BY, User::new("u")).unwrap();
    assert!(!may_write(&broker, "u"), "another user of that name");
    assert!(access.delete_user(BY, "nobody").is_err());
}

#[test]
fn a_deleted_vhost_takes_all_permissions_in_it_along_and_takes_nothing_more() {
    let broker = broker();
    let access = broker.access();
    access.put_user(BY, User::new("u")).unwrap();
    access.set_permissions(BY, all("u", "/")).unwrap();
    let vhost = broker.vhost("/").unwrap();
    broker.delete_vhost(BY, "/").unwrap();
    assert!(broker.vhost("/").is_err() && !access.grants("u", "/").is_admitted());
    let late = crate::vhost::QueueDeclaration {
        name: "late",
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::new(),
    };
    let refused = vhost.declare_queue(late, crate::ConnectionId::next()).map(|_| ()).unwrap_err();
    assert_eq!(refused, BrokerError::VhostNotFound { vhost: "/".to_owned() });
    assert!(broker.delete_vhost(BY, "/").is_err());
    broker.put_vhost(BY, "/", VhostSettings::default()).unwrap();
    assert!(!access.grants("u", "/").is_admitted());
}

#[test]
fn users_have_few_tags_each_once() {
    let broker = broker();
    let access = broker.access();
    access.put_user(BY, User::new("u")).unwrap();
    let twice = ["a", "b", "a"].map(str::to_owned).to_vec();
    access.set_tags(BY, "u", twice).unwrap();
    assert_eq!(access.user("u").unwrap().tags, ["a", "b"]);
    let many = (0..33).map(|number| format!("tag {number}")).collect();
    assert!(matches!(access.set_tags(BY, "u", many), Err(BrokerError::InvalidUser { .. })));
    assert!(access.put_user(BY, User::new("")).is_err());
    assert!(access.set_tags(BY, "nobody", Vec::new()).is_err());
}

#[test]
fn what_a_store_has_kept_is_there_again_and_users_have_begun() {
    let (broker, user) = (broker(), User { tags: vec!["administrator".to_owned()], ..User::new("u") });
    assert!(!broker.access().has_begun());
    let definitions = vec![
        Definition::BeginAccess,
        Definition::PutUser(user.clone()),
        Definition::PutVhost("/".into(), VhostSettings::default()),
        Definition::PutPermissions(all("u", "/")),
    ];
    assert_eq!(broker.restore(definitions, std::collections::HashMap::new()), []);
    assert!(broker.access().has_begun() && may_write(&broker, "u"));
    assert_eq!(*broker.access().user("u").unwrap(), user);
}
