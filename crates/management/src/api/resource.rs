//! A path with its methods, and the way of a request: method, login, body, then the function that answers it, on a
//! thread that may wait.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts as _, RawPathParams, Request};
use axum::http::request::Parts;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Limited};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HeaderMap};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::error;

use super::answer::{Answer, Answered, Refusal};
use super::call::Call;
use super::{Api, cors};
use crate::access::{LoginRefusal, Tag, User};

/// COMPAT: octets of a request's body.
const BODY_BYTES_MAX: usize = 20_000_000;

/// Octets of a body after which its sender has as much time again.
const BODY_BYTES_PER_TIMEOUT: usize = 1 << 20;

/// Answers a request.
pub(crate) type Handler = fn(&Call) -> Answered;

/// What can be done with a path.
#[derive(Clone, Copy)]
pub(crate) struct Resource {
    /// What a user must be; `None`: nobody has to log in.
    tag: Option<Tag>,
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
        Self { tag: None, get: None, put: None, post: None, delete: None }
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
    let mut response = respond(api, resource, request).await;
    if let Some(page) = page {
        page.allow(resource.allows(), &mut response);
    }
    response
}

async fn respond(api: Arc<Api>, resource: Resource, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let gzip = takes_gzip(&parts.headers).then_some(());
    let Some(handler) = resource.handler(&parts.method) else {
        // COMPAT: browsers ask which methods there are before they log in.
        return if parts.method == Method::OPTIONS {
            Answer::Allows(resource.allows()).into_response(None)
        } else {
            Refusal::method_not_allowed(resource.allows()).into_response(None)
        };
    };
    if cors::is_foreign(&api.settings.cors_origins, &parts.method, &parts.headers) {
        return Refusal::foreign_page().into_response(gzip);
    }
    match answer(api, resource, handler, parts, body, gzip).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(gzip),
    }
}

async fn answer(
    api: Arc<Api>,
    resource: Resource,
    handler: Handler,
    mut parts: Parts,
    body: axum::body::Body,
    gzip: Option<()>,
) -> Result<Response, Refusal> {
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
    let body = match parts.method {
        Method::PUT | Method::POST => read_body(&parts.headers, body, api.settings.timeout).await?,
        // Nothing in it would be looked at.
        _ => Bytes::new(),
    };
    let Parts { method, uri, headers, .. } = parts;
    let query = uri.query().unwrap_or_default();
    let call = Call::new(api, user, peer.to_string(), method, params, query, headers, body);
    if matches!(call.method, Method::GET | Method::HEAD) {
        call.check_ranges()?;
    }
    let answered = tokio::task::spawn_blocking(move || {
        let _acting = call.broker().events().act_for(&call.user.name);
        match handler(&call) {
            Ok(answer) => answer.into_response(gzip),
            Err(refusal) => refusal.into_response(gzip),
        }
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

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|one| {
        let mut parts = one.split(';').map(str::trim);
        parts.next() == Some("gzip") && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0"))
    })
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

/// Reads a body, which may take `timeout` for each mebibyte that is begun: none is read for ever, and a large one need
/// not come at once.
async fn read_body(headers: &HeaderMap, body: axum::body::Body, timeout: Duration) -> Result<Bytes, Refusal> {
    let too_large =
        || Refusal::bad_request(format!("Exceeded HTTP request body size limit of {BODY_BYTES_MAX} bytes"));
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let (begun, mut received) = (Instant::now(), Vec::new());
    let mut body = pin!(Limited::new(body, BODY_BYTES_MAX));
    loop {
        let times =
            u32::try_from(received.len() / BODY_BYTES_PER_TIMEOUT).unwrap_or(u32::MAX).saturating_add(1);
        let frame = tokio::time::timeout_at(begun + timeout.saturating_mul(times), body.frame()).await;
        match frame {
            Ok(None) => return Ok(received.into()),
            Ok(Some(Ok(frame))) => received.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Ok(Some(Err(error))) if error.is::<http_body_util::LengthLimitError>() => return Err(too_large()),
            Ok(Some(Err(_))) => return Err(Refusal::bad_request("the body cannot be read")),
            Err(_) => return Err(Refusal::timeout()),
        }
    }
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
