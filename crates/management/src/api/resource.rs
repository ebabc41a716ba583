//! A path with its methods, and the way of a request: method, login, body, then the function that answers it, on a
//! thread that may wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{ConnectInfo, FromRequestParts as _, RawPathParams, Request};
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::header::AUTHORIZATION;
use parking_lot::Mutex;
use tracing::error;

use super::answer::{Answer, Answered, Made, Refusal};
use super::body;
use super::call::Call;
use super::turns::{Effort, Turn};
use super::{Api, cors};
use crate::access::{LoginRefusal, Tag, User};
use crate::gzip;

/// Answers a request.
pub(crate) type Handler = fn(&Call) -> Answered;

/// Refuses a request of which the body is not there yet.
pub(crate) type Check = fn(&Call) -> Result<(), Refusal>;

/// What can be done with a path.
#[derive(Clone, Copy)]
pub(crate) struct Resource {
    /// What a user must be; `None`: nobody has to log in.
    tag: Option<Tag>,
    /// What is asked before a body is read.
    check: Check,
    /// Octets of a body.
    body_bytes_max: usize,
    /// How long it takes to show it.
    effort: Effort,
    get: Option<Handler>,
    put: Option<Handler>,
    post: Option<Handler>,
    delete: Option<Handler>,
}

impl Resource {
    /// For users with this tag.
    pub(crate) fn of(tag: Tag) -> Self {
        Self { tag: Some(tag), ..Self::open() }
    }

    /// For everybody.
    pub(crate) fn open() -> Self {
        Self {
            tag: None,
            check: |_| Ok(()),
            body_bytes_max: body::BYTES_MAX,
            effort: Effort::Usual,
            get: None,
            put: None,
            post: None,
            delete: None,
        }
    }

    /// Who may not do what a body is to say is refused before it is read.
    pub(crate) fn checked(self, check: Check) -> Self {
        Self { check, ..self }
    }

    /// Bodies may be as large as messages and definitions are.
    pub(crate) fn takes_large(self) -> Self {
        Self { body_bytes_max: body::LARGE_BYTES_MAX, ..self }
    }

    /// Takes as long as there is much in the broker.
    pub(crate) fn long(self) -> Self {
        Self { effort: Effort::Long, ..self }
    }

    /// Takes no time, and is answered whatever else is.
    pub(crate) fn quick(self) -> Self {
        Self { effort: Effort::Quick, ..self }
    }

    pub(crate) fn get(self, handler: Handler) -> Self {
        Self { get: Some(handler), ..self }
    }

    pub(crate) fn put(self, handler: Handler) -> Self {
        Self { put: Some(handler), ..self }
    }

    pub(crate) fn post(self, handler: Handler) -> Self {
        Self { post: Some(handler), ..self }
    }

    pub(crate) fn delete(self, handler: Handler) -> Self {
        Self { delete: Some(handler), ..self }
    }

    fn handler(&self, method: &Method) -> Option<Handler> {
        match *method {
            Method::GET | Method::HEAD => self.get,
            Method::PUT => self.put,
            Method::POST => self.post,
            Method::DELETE => self.delete,
            _ => None,
        }
    }

    /// COMPAT: in this order.
    fn allows(&self) -> &'static str {
        match (self.get.is_some(), self.put.is_some(), self.post.is_some(), self.delete.is_some()) {
            (true, false, false, false) => "HEAD, GET, OPTIONS",
            (true, true, false, false) => "HEAD, GET, PUT, OPTIONS",
            (true, false, true, false) => "HEAD, GET, POST, OPTIONS",
            (true, false, false, true) => "HEAD, GET, DELETE, OPTIONS",
            (true, true, false, true) => "HEAD, GET, PUT, DELETE, OPTIONS",
            (true, _, true, true) => "HEAD, GET, POST, DELETE, OPTIONS",
            (true, true, true, false) => "HEAD, GET, PUT, POST, OPTIONS",
            (false, true, _, _) => "PUT, OPTIONS",
            (false, false, true, true) => "POST, DELETE, OPTIONS",
            (false, false, true, false) => "POST, OPTIONS",
            (false, false, false, true) => "DELETE, OPTIONS",
            (false, false, false, false) => "OPTIONS",
        }
    }
}

/// Logins to the API, good and bad.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Those of AMQP that are not to be counted any more, good and bad.
    forgotten: Mutex<(u64, u64)>,
}

impl Attempts {
    /// Good and bad ones.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.succeeded.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Good and bad ones of AMQP, of so many in all.
    pub(crate) fn of_amqp(&self, accepted: u64, refused: u64) -> (u64, u64) {
        let forgotten = *self.forgotten.lock();
        (accepted.saturating_sub(forgotten.0), refused.saturating_sub(forgotten.1))
    }

    /// Counts from zero again, those of AMQP from what there are by now.
    pub(crate) fn forget(&self, accepted: u64, refused: u64) {
        *self.forgotten.lock() = (accepted, refused);
        self.succeeded.store(0, Ordering::Relaxed);
        self.failed.store(0, Ordering::Relaxed);
    }
}

/// Answers a request to a path that there is.
pub(crate) async fn serve(api: Arc<Api>, resource: Resource, request: Request) -> Response {
    let page = cors::page(&api.settings.cors_origins, request.method(), request.headers());
    // Who has changed something must hear what has come of it: messages that were fetched are gone.
    let patience = matches!(*request.method(), Method::GET | Method::HEAD).then_some(api.settings.timeout);
    let (made, turn) = respond(Arc::clone(&api), resource, request).await;
    let (head, octets) = made.into_parts();
    let mut response = match api.answers.send(octets, patience).await {
        Some(body) => Response::from_parts(head, body),
        None => Refusal::unavailable("too many answers are being read").into_response(false).map(Into::into),
    };
    // Not before the answer has room: what waits for it is bounded by this.
    drop(turn);
    if let Some(page) = page {
        page.allow(resource.allows(), &mut response);
    }
    response
}

async fn respond(api: Arc<Api>, resource: Resource, request: Request) -> (Made, Turn) {
    let (parts, body) = request.into_parts();
    let zips = gzip::is_accepted(&parts.headers);
    let Some(handler) = resource.handler(&parts.method) else {
        // COMPAT: browsers ask which methods there are before they log in.
        let made = if parts.method == Method::OPTIONS {
            Answer::Allows(resource.allows()).into_response(false)
        } else {
            Refusal::method_not_allowed(resource.allows()).into_response(false)
        };
        return (made, Turn::default());
    };
    if cors::is_foreign(&api.settings.cors_origins, &parts.method, &parts.headers) {
        return (Refusal::foreign_page().into_response(zips), Turn::default());
    }
    match answer(api, resource, handler, parts, body, zips).await {
        Ok(answered) => answered,
        Err(refusal) => (refusal.into_response(zips), Turn::default()),
    }
}

async fn answer(
    api: Arc<Api>,
    resource: Resource,
    handler: Handler,
    mut parts: Parts,
    mut body: axum::body::Body,
    zips: bool,
) -> Result<(Made, Turn), Refusal> {
    if !is_well_encoded(parts.uri.path()) {
        return Err(Refusal::bad_request("the path is not percent-encoded"));
    }
    // What is not UTF-8 when it is decoded names nothing.
    let params =
        RawPathParams::from_request_parts(&mut parts, &()).await.map_err(|_| Refusal::no_object())?;
    let params = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let peer = peer_of(&parts);
    let user = match resource.tag {
        None => User { name: String::new(), tags: Vec::new() },
        Some(tag) => {
            let user = log_in(&api, &parts, peer).await?;
            if !user.has(Tag::Management) || !user.has(tag) {
                let missing = if user.has(Tag::Management) { tag } else { Tag::Management };
                return Err(Refusal::not_authorised(missing.refusal()));
            }
            user
        }
    };
    let Parts { method, uri, headers, .. } = parts;
    let query = uri.query().unwrap_or_default();
    let timeout = api.settings.timeout;
    let mut call = Call::new(Arc::clone(&api), user, peer.to_string(), method, params, query, headers);
    if matches!(call.method, Method::GET | Method::HEAD) {
        call.check_ranges()?;
    }
    // Nothing would be looked at in the body of another.
    if matches!(call.method, Method::PUT | Method::POST) {
        let read = match (resource.check)(&call) {
            Ok(()) => api.bodies.read(call.headers(), &mut body, resource.body_bytes_max, timeout).await,
            Err(refusal) => Err(refusal),
        };
        call.body = read.inspect_err(|_| body::forget(body, timeout))?;
    }
    let turn = api.turns.wait(resource.effort, timeout).await?;
    let answered = tokio::task::spawn_blocking(move || {
        let _acting = call.broker().events().act_for(&call.user.name);
        let made = match handler(&call) {
            Ok(answer) => answer.into_response(zips),
            Err(refusal) => refusal.into_response(zips),
        };
        // Goes with what was made, or with the thread's end if nobody waits for it any more.
        (made, turn)
    });
    answered.await.map_err(|failure| {
        error!(%failure, "a request to the HTTP API panicked");
        Refusal::internal()
    })
}

/// Whether each percent sign has its two digits: what it may have stood for else nobody knows.
fn is_well_encoded(path: &str) -> bool {
    path.split('%')
        .skip(1)
        .all(|after| after.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)))
}

/// Who sends a request.
fn peer_of(parts: &Parts) -> SocketAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    // INVARIANT: each connection's requests have it; a peer that is not known is nobody's own machine.
    peer.map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |peer| peer.0)
}

/// Checks who sends a request.
async fn log_in(api: &Api, parts: &Parts, peer: SocketAddr) -> Result<User, Refusal> {
    let header = parts.headers.get(AUTHORIZATION).ok_or_else(Refusal::anonymous)?;
    let (name, password) = credentials(header.as_bytes()).ok_or_else(Refusal::anonymous)?;
    let checked = api.logins.log_in(name, password, peer).await;
    let counter = if checked.is_ok() { &api.attempts.succeeded } else { &api.attempts.failed };
    counter.fetch_add(1, Ordering::Relaxed);
    checked.map_err(|refusal| match refusal {
        // COMPAT: the text of 4.x.
        LoginRefusal::WrongCredentials => Refusal::login("Not_Authorized"),
        LoginRefusal::NotFromHere => Refusal::login("User can only log in via localhost"),
    })
}

/// Name and password of basic authentication.
fn credentials(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|&octet| octet == b':')?;
    let (name, password) = (decoded.get(..colon)?, decoded.get(colon + 1..)?);
    Some((String::from_utf8(name.to_vec()).ok()?, password.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_have_colons_and_a_name_must_be_text() {
        let header = |text: &[u8]| [b"Basic ", STANDARD.encode(text).as_bytes()].concat();
        assert_eq!(credentials(&header(b"u:p:q")), Some(("u".to_owned(), b"p:q".to_vec())));
        assert_eq!(credentials(&header(b"no colon")), None);
        assert_eq!(credentials(&header(b"\xFF:p")), None);
        assert_eq!(credentials(b"Bearer abc"), None);
        assert_eq!(credentials(b"Basic !!!"), None);
    }
}
