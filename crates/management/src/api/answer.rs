//! What a request is answered with, and the one place that turns it into HTTP.

use std::fmt::Write as _;

use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION, VARY,
    WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use leveret_broker::BrokerError;
use serde_json::{Value, json};

use crate::gzip;

/// Below this, compressing costs more than it saves.
const GZIP_BYTES_MIN: usize = 1024;

/// The answer to a request that was done.
pub(crate) enum Answer {
    /// What was asked for.
    Json(Value),
    /// The same, as text: what would be large in another form.
    Text(String),
    /// The same, to be kept under this name.
    File(Value, String),
    /// It was made; where it is, if that is not where the request went.
    Created(Option<String>),
    /// It is so.
    NoContent,
    /// The methods there are.
    Allows(&'static str),
    /// A check has found that something is wrong.
    Failed(Value),
}

/// A list that is made into text entry by entry, which takes a tenth of what it takes as a whole.
pub(crate) struct TextList {
    text: String,
    count: usize,
}

/// The answer to a request that was not done.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: &'static str,
    reason: Value,
    allows: Option<&'static str>,
}

/// An answer as HTTP has it.
pub(crate) type Made = Response<Bytes>;

pub(crate) type Answered = Result<Answer, Refusal>;

impl Default for TextList {
    fn default() -> Self {
        Self { text: "[".to_owned(), count: 0 }
    }
}

impl TextList {
    pub(crate) fn push(&mut self, entry: &Value) {
        if self.count > 0 {
            self.text.push(',');
        }
        // INVARIANT: writing to a String does not fail.
        let _ = write!(self.text, "{entry}");
        self.count += 1;
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Octets so far.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }
}

impl From<TextList> for Answer {
    fn from(mut list: TextList) -> Self {
        list.text.push(']');
        Self::Text(list.text)
    }
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, reason: impl Into<Value>) -> Self {
        Self { status, error, reason: reason.into(), allows: None }
    }

    /// COMPAT: what is there for paths and objects that are not.
    pub(crate) fn no_object() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    pub(crate) fn not_found(reason: impl Into<Value>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", reason)
    }

    pub(crate) fn bad_request(reason: impl Into<Value>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// Something that could not be read again where it is kept.
    pub(crate) fn too_deep(what: &str) -> Self {
        Self::bad_request(format!("{what} is nested too deeply"))
    }

    pub(crate) fn bad(error: &'static str, reason: impl Into<Value>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, reason)
    }

    /// Nobody has logged in.
    pub(crate) fn anonymous() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "", Value::Null)
    }

    /// COMPAT: with a z, where it is about the login.
    pub(crate) fn login(reason: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_authorized", reason)
    }

    /// COMPAT: with an s and 401, where somebody has logged in and may not.
    pub(crate) fn not_authorised(reason: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_authorised", reason)
    }

    /// What a page of another site may not do with a login that the browser remembers.
    pub(crate) fn foreign_page() -> Self {
        let reason = "the page that sends this is of an origin that is not allowed";
        Self::new(StatusCode::FORBIDDEN, "not_authorised", reason)
    }

    pub(crate) fn method_not_allowed(allows: &'static str) -> Self {
        let refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, "", Value::Null);
        Self { allows: Some(allows), ..refusal }
    }

    pub(crate) fn timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request took too long to come")
    }

    pub(crate) fn precondition_failed(reason: impl Into<Value>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", reason)
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Internal Server Error")
    }

    pub(crate) fn unavailable(reason: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", reason)
    }

    pub(crate) fn into_response(self, zips: bool) -> Made {
        let body = if self.reason.is_null() {
            Vec::new()
        } else {
            json!({ "error": self.error, "reason": self.reason }).to_string().into_bytes()
        };
        let mut response = respond(self.status, body, zips);
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED && self.error != "not_authorised" {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"RabbitMQ Management\""));
        }
        if let Some(allows) = self.allows {
            headers.insert(ALLOW, HeaderValue::from_static(allows));
        }
        response
    }
}

/// COMPAT: what declarations and deletions are refused with: the explanation alone.
impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        if let BrokerError::VhostProtected { .. } = error {
            return Self::precondition_failed(error.to_string());
        }
        match reply_code(&error) {
            404 => Self::not_found(error.to_string()),
            403 => Self::not_authorised("Access refused."),
            405 => Self::bad_request(format!("405 RESOURCE_LOCKED - {error}")),
            _ => Self::bad_request(error.to_string()),
        }
    }
}

/// COMPAT: what is refused to those who publish: code and name before the explanation.
pub(crate) fn of_channel(error: &BrokerError) -> Refusal {
    let (code, name) = match reply_code(error) {
        403 => return Refusal::not_authorised("Access refused."),
        404 => (404, "NOT_FOUND"),
        405 => (405, "RESOURCE_LOCKED"),
        540 => (540, "NOT_IMPLEMENTED"),
        _ => (406, "PRECONDITION_FAILED"),
    };
    Refusal::bad_request(format!("{code} {name} - {error}"))
}

/// The reply code that AMQP has for it.
fn reply_code(error: &BrokerError) -> u16 {
    match error {
        BrokerError::VhostNotFound { .. }
        | BrokerError::QueueNotFound { .. }
        | BrokerError::ExchangeNotFound { .. }
        | BrokerError::PolicyNotFound { .. }
        | BrokerError::UserNotFound { .. }
        | BrokerError::QueueStopped { .. } => 404,
        BrokerError::ReservedName { .. }
        | BrokerError::AccessRefused { .. }
        | BrokerError::TopicAccessRefused { .. }
        | BrokerError::DefaultExchange
        | BrokerError::SystemExchange { .. }
        | BrokerError::InternalExchange { .. }
        | BrokerError::QueueInExclusiveUse { .. }
        | BrokerError::BindReplyTo => 403,
        BrokerError::QueueLocked { .. } | BrokerError::GetFromSingleActive { .. } => 405,
        BrokerError::ConditionOfQuorumQueue { .. } => 540,
        _ => 406,
    }
}

impl Answer {
    pub(crate) fn into_response(self, zips: bool) -> Made {
        match self {
            Self::Json(value) => respond(StatusCode::OK, value.to_string().into_bytes(), zips),
            Self::Text(text) => respond(StatusCode::OK, text.into_bytes(), zips),
            Self::Failed(value) => {
                respond(StatusCode::SERVICE_UNAVAILABLE, value.to_string().into_bytes(), zips)
            }
            Self::File(value, name) => {
                let mut response = respond(StatusCode::OK, value.to_string().into_bytes(), zips);
                let is_safe = |letter: &char| letter.is_ascii_alphanumeric() || "._-".contains(*letter);
                let disposition =
                    format!("attachment; filename={}", name.chars().filter(is_safe).collect::<String>());
                if let Ok(disposition) = HeaderValue::try_from(disposition) {
                    response.headers_mut().insert(CONTENT_DISPOSITION, disposition);
                }
                response
            }
            Self::Created(location) => {
                let mut response = respond(StatusCode::CREATED, Vec::new(), false);
                if let Some(Ok(location)) = location.map(HeaderValue::try_from) {
                    response.headers_mut().insert(LOCATION, location);
                }
                response
            }
            Self::NoContent => respond(StatusCode::NO_CONTENT, Vec::new(), false),
            Self::Allows(methods) => {
                let mut response = respond(StatusCode::OK, Vec::new(), false);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
                response
            }
        }
    }
}

fn respond(status: StatusCode, body: Vec<u8>, zips: bool) -> Made {
    let is_empty = body.is_empty();
    let is_worth_it = zips && body.len() >= GZIP_BYTES_MIN;
    let packed = is_worth_it.then(|| gzip::packed(&body).ok()).flatten();
    let is_packed = packed.is_some();
    let mut response = Response::new(Bytes::from(packed.unwrap_or(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if !is_empty {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if is_packed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(VARY, HeaderValue::from_static("accept, accept-encoding, origin"));
    headers.insert("content-security-policy", HeaderValue::from_static("default-src 'none'"));
    response
}
