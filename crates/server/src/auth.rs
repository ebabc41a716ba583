//! Who may log in, and how they say so: SASL PLAIN, AMQPLAIN, and EXTERNAL for who has a certificate. Passwords are
//! verified off the runtime's threads, a few at a time; what was right before is remembered, what was wrong slows the
//! next attempt.

mod delays;
mod verified;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use leveret_broker::access::user::User;
use leveret_broker::access::{AUDIT, Access, password};
use leveret_broker::limits::NAME_BYTES_MAX;
use leveret_codec::table::{FieldTable, FieldValue};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;
use tracing::{error, info};

use delays::Delays;
use verified::Verified;

/// Mechanisms offered in connection.start, and the one that is offered besides to who has a certificate.
const MECHANISMS: &str = "PLAIN AMQPLAIN";
const MECHANISMS_WITH_EXTERNAL: &str = "EXTERNAL PLAIN AMQPLAIN";

/// How often a user may change while the password is verified until that is given up.
const CHANGES_MAX: usize = 4;

/// As much as the log is told of what a stranger says: as long as names can be.
pub(crate) fn shown(text: &str) -> &str {
    text.split_at(text.floor_char_boundary(NAME_BYTES_MAX)).0
}

/// What a client logs in with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// A name and a password.
    Password(Credentials),
    /// The name that the peer's certificate was found to stand for.
    Certificate(String),
}

/// A name and a password.
#[derive(PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Claim {
    /// Who it says it is.
    pub(crate) fn user(&self) -> &str {
        match self {
            Self::Password(credentials) => &credentials.user,
            Self::Certificate(user) => user,
        }
    }
}

/// Why a login did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginRefusal {
    /// A mechanism that is not offered.
    UnknownMechanism,
    /// A response that is not in the mechanism's form.
    MalformedResponse,
    /// Unknown user or wrong password.
    WrongCredentials,
    /// A user that may come from this machine alone.
    NotFromHere,
    /// So many wrong passwords for this user came from this address that this one is not looked at.
    TooManyFailures,
}

/// The mechanisms for a peer whose certificate stands for a user, or for none.
pub(crate) fn mechanisms(external_user: Option<&str>) -> &'static str {
    if external_user.is_some() { MECHANISMS_WITH_EXTERNAL } else { MECHANISMS }
}

/// What a response says.
///
/// # Errors
/// The mechanism is not offered, or the response is not in its form.
pub(crate) fn claim(
    mechanism: &str,
    response: &[u8],
    external_user: Option<&str>,
) -> Result<Claim, LoginRefusal> {
    let credentials = match (mechanism, external_user) {
        ("PLAIN", _) => plain(response),
        ("AMQPLAIN", _) => amqplain(response),
        // COMPAT: whatever the response says, the certificate counts.
        ("EXTERNAL", Some(user)) => return Ok(Claim::Certificate(user.to_owned())),
        _ => return Err(LoginRefusal::UnknownMechanism),
    };
    credentials.map(Claim::Password).ok_or(LoginRefusal::MalformedResponse)
}

/// Checks logins.
pub(crate) struct Authenticator {
    /// Passwords that were right. Locked alone.
    verified: Mutex<Verified>,
    /// Passwords that were wrong. Locked alone.
    delays: Mutex<Delays>,
    /// Told when an attempt has come to its end.
    settled: Notify,
    /// How many more may be verified at a time: each takes a core and some megabytes.
    places: Arc<Semaphore>,
    /// Where they are verified: threads of HTTP, who may all wait for the disk, hold no login up.
    runtime: Handle,
}

/// How a login begins.
enum Begun<'a> {
    /// The password was right before.
    Known(Arc<User>),
    /// It may be looked at.
    Turn(Attempt<'a>),
}

/// A password that is looked at. It has failed unless it is said to be right, so that hanging up is no way around that.
struct Attempt<'a> {
    authenticator: &'a Authenticator,
    user: &'a str,
    peer: IpAddr,
    is_right: bool,
}

impl Attempt<'_> {
    fn succeeded(mut self) {
        self.is_right = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut delays = self.authenticator.delays.lock();
        if self.is_right {
            delays.succeeded(self.user, self.peer);
        } else {
            delays.failed(self.user, self.peer, Instant::now());
        }
        drop(delays);
        self.authenticator.settled.notify_waiters();
    }
}

impl Authenticator {
    /// Verifies passwords on half of the cores, on blocking threads of the runtime it is called on.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            verified: Mutex::new(Verified::new()),
            delays: Mutex::default(),
            settled: Notify::new(),
            places: Arc::new(Semaphore::new((cores / 2).max(1))),
            runtime: Handle::current(),
        }
    }

    /// Lets a user in, or not, and notes that in the audit log. Users of `loopback_users` come from this machine only.
    pub(crate) async fn log_in(
        &self,
        access: &Access,
        claim: &Claim,
        peer: SocketAddr,
        loopback_users: &[String],
    ) -> Result<Arc<User>, LoginRefusal> {
        let outcome = match claim {
            Claim::Password(credentials) => self.verify(access, credentials, peer.ip()).await,
            Claim::Certificate(user) => access.user(user).ok_or(LoginRefusal::WrongCredentials),
        };
        let outcome = outcome.and_then(|user| {
            let is_bound = loopback_users.iter().any(|bound| bound == user.name.as_str());
            if is_bound && !is_loopback(peer.ip()) { Err(LoginRefusal::NotFromHere) } else { Ok(user) }
        });
        let user = shown(claim.user());
        match &outcome {
            Ok(_) => info!(target: AUDIT, user, %peer, "login accepted"),
            // What the connection is told is warned of where it is told.
            Err(refusal) => info!(target: AUDIT, user, %peer, ?refusal, "login refused"),
        }
        outcome
    }

    /// Whether this is the password of a user who exists.
    ///
    /// # Errors
    /// It is not, or it is not looked at.
    pub(crate) async fn verify(
        &self,
        access: &Access,
        credentials: &Credentials,
        peer: IpAddr,
    ) -> Result<Arc<User>, LoginRefusal> {
        let Credentials { user: name, password } = credentials;
        let attempt = match self.begin(access, credentials, peer).await? {
            Begun::Known(user) => return Ok(user),
            Begun::Turn(attempt) => attempt,
        };
        for _ in 0..CHANGES_MAX {
            // Not closed ever.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { break };
            let user = access.user(name);
            // Others may have shown it meanwhile.
            if let Some(user) = user.as_ref().filter(|user| self.verified.lock().knows(user, password)) {
                attempt.succeeded();
                return Ok(Arc::clone(user));
            }
            if !self.is_right(user.clone(), password.clone(), place).await {
                return Err(LoginRefusal::WrongCredentials);
            }
            // Who is gone, or has another password by now, is looked at again.
            if let (Some(user), Some(now)) = (user, access.user(name))
                && Arc::ptr_eq(&user, &now)
            {
                self.verified.lock().remember(&user, password);
                attempt.succeeded();
                return Ok(user);
            }
        }
        Err(LoginRefusal::WrongCredentials)
    }

    /// Waits until the password is known to be right, by others' attempts maybe, or may be looked at.
    async fn begin<'a>(
        &'a self,
        access: &Access,
        credentials: &'a Credentials,
        peer: IpAddr,
    ) -> Result<Begun<'a>, LoginRefusal> {
        let Credentials { user: name, password } = credentials;
        let latest = Instant::now() + delays::WAIT_MAX;
        loop {
            // Before it is looked whether there is something to wait for, so that its end is not missed.
            let mut settled = pin!(self.settled.notified());
            settled.as_mut().enable();
            if let Some(user) = access.user(name).filter(|user| self.verified.lock().knows(user, password)) {
                return Ok(Begun::Known(user));
            }
            let turn = self.delays.lock().take_turn(name, peer, Instant::now(), latest);
            match turn {
                Some(wait) => {
                    let attempt = Attempt { authenticator: self, user: name, peer, is_right: false };
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    return Ok(Begun::Turn(attempt));
                }
                None => {
                    timeout_at(latest.into(), settled).await.map_err(|_| LoginRefusal::TooManyFailures)?
                }
            }
        }
    }

    /// Takes as long for who does not exist as for who does.
    async fn is_right(
        &self,
        user: Option<Arc<User>>,
        password: Vec<u8>,
        place: OwnedSemaphorePermit,
    ) -> bool {
        let verified = self.runtime.spawn_blocking(move || {
            // The work has the place: who hangs up meanwhile makes no room for more of it.
            let _place = place;
            match user.as_ref().and_then(|user| user.password.as_ref()) {
                Some(hash) => hash.verify(&password),
                None => {
                    password::spend_time(&password);
                    false
                }
            }
        });
        verified.await.unwrap_or_else(|failed| {
            error!(%failed, "a password could not be verified");
            false
        })
    }
}

fn is_loopback(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// `authzid NUL user NUL password`. COMPAT: only an empty authzid.
fn plain(response: &[u8]) -> Option<Credentials> {
    let rest = response.strip_prefix(b"\0")?;
    let end = rest.iter().position(|&octet| octet == 0)?;
    let (user, password) = (rest.get(..end)?, rest.get(end + 1..)?);
    if password.contains(&0) {
        return None;
    }
    Some(Credentials { user: String::from_utf8(user.to_vec()).ok()?, password: password.to_vec() })
}

/// A field table without its length, with LOGIN and PASSWORD.
fn amqplain(response: &[u8]) -> Option<Credentials> {
    let table = FieldTable::decode(response).ok()?;
    let text = |key| match table.get(key)? {
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => Some(octets.clone()),
        _ => None,
    };
    Some(Credentials { user: String::from_utf8(text("LOGIN")?).ok()?, password: text("PASSWORD")? })
}

#[cfg(test)]
mod tests;
