//! The HTTP API of the broker, as a client sees it: paths, credentials, JSON, and what the answers that are no
//! success mean. Knows no verb and prints nothing.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::http::{Method, Request, Response, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

/// What stays as it is in a segment of a path; everything else, slashes above all, is escaped.
const SEGMENT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Octets of the largest answer: a listing of a million queues, and no more than a machine has room for.
const ANSWER_BYTES_MAX: u64 = 2 << 30;

/// Where the broker is and who asks.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// `http` or `https`, host, port and maybe a prefix, without `/api`.
    pub(crate) url: String,
    /// Name to log in with.
    pub(crate) user: String,
    /// Its password.
    pub(crate) password: String,
    /// Somebody has named the two; else they are what a fresh broker takes.
    pub(crate) is_login_named: bool,
    /// Certificates in PEM that are trusted instead of the public ones.
    pub(crate) authorities: Option<Vec<u8>>,
    /// Any certificate will do.
    pub(crate) insecure: bool,
    /// How long one request may take, its answer included; `None`: for ever.
    pub(crate) timeout: Option<Duration>,
}

/// Why a request has no answer that is of use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The address makes no sense.
    #[error("{url}: {problem}")]
    Url { url: String, problem: String },
    /// Nobody listens there, the name is unknown, or the connection broke.
    #[error(
        "unable to reach the broker at {url}: {problem}\nIs it running, and is this the port of its HTTP API?"
    )]
    Unreachable { url: String, problem: String },
    /// The two did not agree on TLS.
    #[error("no TLS connection with {url}: {problem}{}", advice_on_tls(.problem))]
    Tls { url: String, problem: String },
    /// It takes too long.
    #[error("the broker at {url} did not answer within {seconds} seconds")]
    Timeout { url: String, seconds: f64 },
    /// Name and password are not known.
    #[error(
        "the broker at {url} refuses the login of user '{user}': {reason}\n\
         Name and password are those of --username and --password, or LEVERET_USER and LEVERET_PASSWORD."
    )]
    Login { url: String, user: String, reason: String },
    /// Who asks may not do this.
    #[error("user '{user}' may not do this: {reason}{}", advice_on_permission(.reason))]
    Denied { user: String, reason: String },
    /// There is no such thing.
    #[error("the broker at {url} knows no {path}")]
    NotFound { url: String, path: String },
    /// The broker said no, and why.
    #[error("{reason}")]
    Refused { status: u16, reason: String, body: Value },
    /// The answer is none of RabbitMQ's HTTP API.
    #[error(
        "what answers at {url} is no broker: {problem}\nIs this the port of its HTTP API, by default 15672?"
    )]
    Answer { url: String, problem: String },
}

/// What to do where TLS fails; the texts are those of rustls.
fn advice_on_tls(problem: &str) -> &'static str {
    let known = [
        (
            "UnknownIssuer",
            "\nIf an authority of your own has signed its certificate, name that with --ca-file.",
        ),
        ("CaUsedAsEndEntity", "\nIts certificate is that of an authority itself, which no broker may show."),
        ("not valid for name", "\nThe host in the URL has to be one of those that the certificate names."),
        ("CertificateRequired", "\nIt asks for certificates of clients, and this tool has none to show."),
        ("InvalidContentType", "\nDoes this port speak TLS? If not, the URL begins with http://."),
    ];
    known.into_iter().find(|(part, _)| problem.contains(part)).map_or("", |(_, advice)| advice)
}

/// What who asks would need; the texts are those of RabbitMQ.
fn advice_on_permission(reason: &str) -> &'static str {
    let known = [
        ("Not management user", "\nIt takes a user with a tag, the least of which is management."),
        ("Not monitor user", "\nIt takes a user with the tag monitoring or administrator."),
        ("Not policymaker user", "\nIt takes a user with the tag policymaker or administrator."),
        ("Not administrator user", "\nIt takes a user with the tag administrator."),
        (
            "not authorised to access virtual host",
            "\nIt takes a user with permissions in the vhost: see set_permissions.",
        ),
    ];
    known.into_iter().find(|(part, _)| reason.contains(part)).map_or("", |(_, advice)| advice)
}

/// A path below `/api` from its segments, each of which may be any text.
pub(crate) fn path(segments: &[&str]) -> String {
    let escaped: Vec<String> = segments.iter().map(|segment| segment_of_path(segment)).collect();
    escaped.join("/")
}

/// One segment, escaped.
pub(crate) fn segment_of_path(text: &str) -> String {
    utf8_percent_encode(text, &SEGMENT).to_string()
}

/// A client of one broker. Connections are kept between requests.
pub(crate) struct Client {
    agent: Agent,
    endpoint: Endpoint,
}

impl Client {
    /// A client; connects to nothing yet.
    ///
    /// # Errors
    /// The address or the certificates cannot be used.
    pub(crate) fn new(endpoint: Endpoint) -> Result<Self, ApiError> {
        let wrong = |problem: &str| ApiError::Url { url: endpoint.url.clone(), problem: problem.to_owned() };
        let behind = endpoint.url.strip_prefix("http://").or_else(|| endpoint.url.strip_prefix("https://"));
        let Some(behind) = behind.filter(|behind| !behind.is_empty()) else {
            return Err(wrong("a URL begins with http:// or https://"));
        };
        if behind.split('/').next().is_some_and(|authority| authority.contains('@')) {
            return Err(wrong("name and password belong into --username and --password"));
        }
        let roots = match &endpoint.authorities {
            Some(pem) => {
                let items: Result<Vec<_>, _> = parse_pem(pem).collect();
                let items = items.map_err(|error| wrong(&format!("the CA file: {error}")))?;
                let certificates: Vec<Certificate<'static>> = items
                    .into_iter()
                    .filter_map(|item| match item {
                        PemItem::Certificate(certificate) => Some(certificate),
                        _ => None,
                    })
                    .collect();
                if certificates.is_empty() {
                    return Err(wrong("the CA file has no certificate in PEM"));
                }
                RootCerts::Specific(Arc::new(certificates))
            }
            None => RootCerts::WebPki,
        };
        let tls = TlsConfig::builder().root_certs(roots).disable_verification(endpoint.insecure).build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("leveretctl/", env!("CARGO_PKG_VERSION")))
            .timeout_global(endpoint.timeout)
            .tls_config(tls)
            .build()
            .new_agent();
        Ok(Self { agent, endpoint })
    }

    /// The same broker with another name and password.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn with_login(&self, user: &str, password: &str) -> Result<Self, ApiError> {
        let login = (user.to_owned(), password.to_owned());
        Self::new(Endpoint { user: login.0, password: login.1, ..self.endpoint.clone() })
    }

    /// The host of the broker, for connections to its other ports.
    pub(crate) fn host(&self) -> &str {
        let behind = self.endpoint.url.split_once("://").map_or("", |(_, behind)| behind);
        let authority = behind.split('/').next().unwrap_or("");
        match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, _)) => host,
            None => authority.split(':').next().unwrap_or(""),
        }
    }

    /// Whether somebody has named user or password.
    pub(crate) fn is_login_named(&self) -> bool {
        self.endpoint.is_login_named
    }

    /// The address, for messages.
    pub(crate) fn url(&self) -> &str {
        &self.endpoint.url
    }

    /// What is at `path`.
    pub(crate) fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.ask(Method::GET, path, None, &[])
    }

    /// What is at `path`, which is a list.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<Value>, ApiError> {
        match self.get(path)? {
            Value::Array(items) => Ok(items),
            _ => Err(ApiError::Answer {
                url: self.endpoint.url.clone(),
                problem: format!("/api/{path} is no list"),
            }),
        }
    }

    /// Creates or changes what is at `path`.
    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.ask(Method::PUT, path, Some(body.to_string().into_bytes()), &[])
    }

    /// Asks for something to be done.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.ask(Method::POST, path, Some(body.to_string().into_bytes()), &[])
    }

    /// Posts a document of `octets` octets as it is read.
    pub(crate) fn post_from(
        &self,
        path: &str,
        octets: u64,
        document: &mut dyn Read,
    ) -> Result<Value, ApiError> {
        let request = self.request(Method::POST, path)?.header(header::CONTENT_LENGTH, octets);
        self.send(path, request.body(SendBody::from_reader(document)))
    }

    /// Removes what is at `path`.
    pub(crate) fn delete(&self, path: &str) -> Result<Value, ApiError> {
        self.ask(Method::DELETE, path, None, &[])
    }

    /// Removes what is at `path`, and says why.
    pub(crate) fn delete_because(&self, path: &str, reason: &str) -> Result<Value, ApiError> {
        self.ask(Method::DELETE, path, None, &[("X-Reason", reason)])
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Result<Value, ApiError> {
        let mut request = self.request(method, path)?;
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match body {
            Some(body) => {
                let mut octets = body.as_slice();
                let request = request.header(header::CONTENT_LENGTH, body.len());
                self.send(path, request.body(SendBody::from_reader(&mut octets)))
            }
            None => self.send(path, request.body(SendBody::none())),
        }
    }

    /// A request with what all have.
    fn request(&self, method: Method, path: &str) -> Result<ureq::http::request::Builder, ApiError> {
        let Endpoint { url, user, password, .. } = &self.endpoint;
        let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let request =
            Request::builder().method(method).uri(format!("{}/api/{path}", url.trim_end_matches('/')));
        Ok(request
            .header(header::AUTHORIZATION, format!("Basic {login}"))
            // COMPAT: RabbitMQ answers 406 to who insists on JSON where it has nothing to say, even that there is
            // no such thing.
            .header(header::ACCEPT, "*/*")
            .header(header::CONTENT_TYPE, "application/json"))
    }

    fn send(
        &self,
        path: &str,
        request: Result<Request<SendBody<'_>>, ureq::http::Error>,
    ) -> Result<Value, ApiError> {
        let url = &self.endpoint.url;
        let request =
            request.map_err(|error| ApiError::Url { url: url.clone(), problem: error.to_string() })?;
        let mut response = self.agent.run(request).map_err(|error| self.failed(&error))?;
        let text =
            response.body_mut().with_config().limit(ANSWER_BYTES_MAX).lossy_utf8(true).read_to_string();
        let text = text.map_err(|error| self.failed(&error))?;
        self.judge(path, &response, &text)
    }

    /// What an answer means.
    fn judge(&self, path: &str, response: &Response<Body>, text: &str) -> Result<Value, ApiError> {
        let status = response.status();
        let body: Option<Value> = serde_json::from_str(text).ok();
        let url = self.endpoint.url.clone();
        if status.is_success() {
            return match body {
                Some(body) => Ok(body),
                None if text.trim().is_empty() => Ok(Value::Null),
                None => Err(ApiError::Answer { url, problem: format!("/api/{path} is not JSON") }),
            };
        }
        let body = body.unwrap_or(Value::Null);
        let reason = reason(&body).unwrap_or_else(|| format!("/api/{path}: {status}"));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_about_login(&reason) => {
                Err(ApiError::Login { url, user: self.endpoint.user.clone(), reason })
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(ApiError::Denied { user: self.endpoint.user.clone(), reason })
            }
            StatusCode::NOT_FOUND => Err(ApiError::NotFound { url, path: format!("/api/{path}") }),
            status if status.is_redirection() => {
                Err(ApiError::Answer { url, problem: format!("it sends us elsewhere ({status})") })
            }
            status => Err(ApiError::Refused { status: status.as_u16(), reason, body }),
        }
    }

    /// What a request without an answer means.
    fn failed(&self, error: &ureq::Error) -> ApiError {
        let url = self.endpoint.url.clone();
        match error {
            ureq::Error::Timeout(_) => {
                ApiError::Timeout { url, seconds: self.endpoint.timeout.unwrap_or_default().as_secs_f64() }
            }
            ureq::Error::BadUri(problem) => ApiError::Url { url, problem: problem.clone() },
            ureq::Error::Http(problem) => ApiError::Url { url, problem: problem.to_string() },
            ureq::Error::Tls(problem) => ApiError::Tls { url, problem: (*problem).to_owned() },
            ureq::Error::Rustls(problem) => ApiError::Tls { url, problem: problem.to_string() },
            ureq::Error::Io(problem) if is_about_tls(problem) => {
                ApiError::Tls { url, problem: problem.to_string() }
            }
            ureq::Error::Protocol(problem) => ApiError::Answer { url, problem: problem.to_string() },
            error => ApiError::Unreachable { url, problem: error.to_string() },
        }
    }
}

/// Whether an error of a socket is one of TLS, which comes in such a wrapping.
fn is_about_tls(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData
}

/// The reason in RabbitMQ's form, if there is one.
fn reason(body: &Value) -> Option<String> {
    match body.get("reason").or_else(|| body.get("error"))? {
        Value::String(reason) => Some(unescape(reason.trim_end())),
        reason => Some(reason.to_string()),
    }
}

/// COMPAT: texts of RabbitMQ come escaped for a web page.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

/// COMPAT: a wrong password and a missing permission both are 401, and only the reason tells them apart.
fn is_about_login(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    ["login failed", "not_authorized", "unauthorized", "only log in via localhost"]
        .iter()
        .any(|known| reason.contains(known))
}

#[test]
fn segments_keep_no_slash() {
    assert_eq!(path(&["queues", "/", "q 1/ä"]), "queues/%2F/q%201%2F%C3%A4");
    assert_eq!(path(&["exchanges", "/", ""]), "exchanges/%2F/");
}
