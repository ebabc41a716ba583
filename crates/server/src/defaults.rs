//! What a broker has that had nothing before: a vhost, and a user who may do everything. Made once; who deletes or changes it
//! afterwards does not find it made again.

use leveret_broker::access::password::PasswordHash;
use leveret_broker::access::permissions::Permissions;
use leveret_broker::access::user::User;
use leveret_broker::{Actor, BrokerError};

use crate::server::Server;

/// Who makes it, for the audit log.
const BY: Actor<'_> = Actor { user: "leveret", from: "configuration" };

/// Makes the default vhost if there is none, and the default user if there were never any. A data directory from a time
/// without users has its vhosts opened to that user.
///
/// # Errors
/// The name or password is not possible, or the system has no random numbers.
pub(crate) fn make(server: &Server) -> Result<(), BrokerError> {
    let (broker, config) = (&server.broker, &server.config);
    let access = broker.access();
    if !broker.has_vhosts() && !access.has_begun() {
        broker.create_vhost(&config.default_vhost);
    }
    if access.has_begun() {
        return Ok(());
    }
    let password = Some(PasswordHash::new(config.default_password.as_bytes())?);
    let tags = vec!["administrator".to_owned()];
    access.put_user(BY, User { password, tags, ..User::new(config.default_user.as_str()) })?;
    for vhost in broker.vhosts() {
        let everything = || ".*".to_owned();
        access.set_permissions(
            BY,
            Permissions {
                user: config.default_user.as_str().into(),
                vhost: vhost.name.clone(),
                configure: everything(),
                write: everything(),
                read: everything(),
            },
        )?;
    }
    Ok(())
}
