//! What a broker begins with: a vhost, and a user who may do everything. Made once; who deletes or changes it
//! afterwards does not find it made again. Or else what a file of definitions says, which is looked at each time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leveret_broker::access::password::PasswordHash;
use leveret_broker::access::permissions::Permissions;
use leveret_broker::access::user::User;
use leveret_broker::store::JournalPosition;
use leveret_broker::vhost::VhostSettings;
use leveret_broker::{Actor, BrokerError};
use leveret_management::definitions::{ImportError, Imported, import};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::server::Server;

/// How long a start waits for the disk.
const SAFE_WITHIN: Duration = Duration::from_secs(10);

/// Who makes it, for the audit log.
const BY: Actor<'_> = Actor { user: "leveret", from: "configuration" };

/// Makes the default vhost if there is none, and the default user if there were never any; where that is safe. A data
/// directory from a time without users has its vhosts opened to that user.
///
/// # Errors
/// The name or password is not possible, or the system has no random numbers.
pub(crate) fn make(server: &Server) -> Result<JournalPosition, BrokerError> {
    let (broker, config) = (&server.broker, &server.config);
    let access = broker.access();
    if !broker.has_vhosts() && !access.has_begun() {
        // COMPAT: what RabbitMQ says of it.
        let settings =
            VhostSettings { description: "Default virtual host".to_owned(), ..VhostSettings::default() };
        broker.put_vhost(BY, &config.default_vhost, settings)?;
    }
    if access.has_begun() {
        return Ok(JournalPosition::SAFE);
    }
    let password = Some(PasswordHash::new(config.default_password.as_bytes())?);
    let tags = vec!["administrator".to_owned()];
    let mut position =
        access.put_user(BY, User { password, tags, ..User::new(config.default_user.as_str()) })?;
    for vhost in broker.vhosts() {
        let everything = || ".*".to_owned();
        let set = access.set_permissions(
            BY,
            Permissions {
                user: config.default_user.as_str().into(),
                vhost: vhost.name.clone(),
                configure: everything(),
                write: everything(),
                read: everything(),
            },
        )?;
        position = position.max(set);
    }
    Ok(position)
}

/// Why a file of definitions is not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionsError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Something in it is not possible.
    #[error("{}: {error}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// What that is.
        error: ImportError,
    },
}

/// Adds what a file of definitions says, and says in the log what was passed over; where that is safe.
///
/// # Errors
/// The file cannot be read, or something in it is not possible.
pub(crate) fn load(server: &Server, path: &Path) -> Result<JournalPosition, DefinitionsError> {
    let json =
        fs::read(path).map_err(|error| DefinitionsError::Unreadable { path: path.to_owned(), error })?;
    let by = Actor { user: "leveret", from: "load_definitions" };
    let imported = import(&server.broker, by, &json);
    let Imported { skipped, position } =
        imported.map_err(|error| DefinitionsError::Import { path: path.to_owned(), error })?;
    for one in skipped {
        warn!("definitions: passed over {one}");
    }
    info!(path = %path.display(), "definitions loaded");
    Ok(position)
}

/// Waits until that is safe, so that a broker that says it has started keeps what it began with; a disk that does not
/// come to it has its alarms, and does not keep the broker from starting.
pub(crate) async fn wait_until_safe(server: &Server, position: JournalPosition) {
    let (told, safe) = oneshot::channel();
    // Nobody may be waiting any more.
    server.broker.store().when_safe(position, Box::new(move || _ = told.send(())));
    if timeout(SAFE_WITHIN, safe).await.is_err() {
        warn!("what the broker begins with is not on disk yet");
    }
}
