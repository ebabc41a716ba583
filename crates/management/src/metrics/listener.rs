//! Where scrapers come: one request per connection, a bounded number of connections, and one page made at a time, off
//! the threads that serve clients. COMPAT: anybody may look, as in RabbitMQ; what may connect is decided by the
//! address.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fancy_regex::RegexBuilder;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use leveret_broker::limits::PATTERN_STEPS_MAX;
use tokio::sync::{Mutex, Semaphore};
use tracing::debug;

use super::endpoints::{self, Wanted};
use super::families::FAMILIES;
use super::page::Grown;
use super::view::Filter;
use crate::listener::{Listener, Socket};
use crate::node::Node;

/// Scrapers that are served at a time. There are few in earnest, and each may have to hold a page of many octets.
const CONNECTIONS_MAX: usize = 32;

/// From the first octet of a request to the last one of its page. Longer than Prometheus lets a scrape take.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);

/// Octets that a compiled pattern of queue names may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// COMPAT: the version that scrapers are told.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What answers share.
struct Pages {
    node: Arc<dyn Node>,
    /// Held while a page is made: what is made for one scraper need not be held for several.
    grown: Mutex<Grown>,
}

/// Answers scrapers, for ever.
pub async fn serve(node: Arc<dyn Node>, listener: Listener) {
    let service = TowerToHyperService::new(router(node));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let serve = move |socket, _| serve_connection(socket, service.clone());
    listener.accept(places, CONNECTION_TIME_MAX, serve).await;
}

async fn serve_connection(socket: Socket, service: TowerToHyperService<Router>) {
    let connection = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(socket), service);
    match tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a scraper's connection failed"),
        Err(_) => debug!("a scraper took longer than {CONNECTION_TIME_MAX:?}"),
    }
}

/// The routes.
pub(super) fn router(node: Arc<dyn Node>) -> Router {
    let pages = Arc::new(Pages { node, grown: Mutex::default() });
    Router::new()
        .route("/metrics", get(aggregated))
        .route("/metrics/per-object", get(per_object))
        .route("/metrics/detailed", get(detailed))
        .route("/metrics/memory-breakdown", get(memory_breakdown))
        .route("/metrics/{other}", get(|| async { refusal(StatusCode::NOT_FOUND, "Unknown Registry") }))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .with_state(pages)
}

async fn aggregated(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    pages.respond(&headers, endpoints::aggregated).await
}

async fn per_object(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    pages.respond(&headers, |node, _| endpoints::per_object(node)).await
}

async fn memory_breakdown(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    pages.respond(&headers, |node, _| endpoints::memory_breakdown(node)).await
}

async fn detailed(
    State(pages): State<Arc<Pages>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let wanted = query.map_err(|error| error.body_text()).and_then(|Query(pairs)| wanted(pairs));
    match wanted {
        Ok(wanted) => pages.respond(&headers, |node, _| endpoints::detailed(node, wanted)).await,
        Err(reason) => refusal(StatusCode::BAD_REQUEST, &reason),
    }
}

/// COMPAT: families that do not exist are empty, and other words of the query mean nothing.
fn wanted(pairs: Vec<(String, String)>) -> Result<Wanted, String> {
    let mut wanted = Wanted { families: Vec::new(), filter: Filter::default() };
    for (word, value) in pairs {
        match word.as_str() {
            "family" => {
                let known = FAMILIES.iter().find(|(name, _)| *name == value);
                let family = known.map(|(_, family)| *family);
                wanted.families.extend(family.filter(|family| !wanted.families.contains(family)));
            }
            "vhost" => wanted.filter.vhosts.push(value),
            "queue" => {
                let pattern = RegexBuilder::new(&value)
                    .delegate_size_limit(PATTERN_BYTES_MAX)
                    .backtrack_limit(PATTERN_STEPS_MAX)
                    .build();
                wanted.filter.queue = Some(pattern.map_err(|error| error.to_string())?);
            }
            _ => {}
        }
    }
    Ok(wanted)
}

impl Pages {
    /// Makes a page on a thread that may take its time.
    async fn respond(
        self: &Arc<Self>,
        headers: &HeaderMap,
        make: impl FnOnce(&dyn Node, &mut Grown) -> String + Send + 'static,
    ) -> Response {
        let (pages, zips) = (Arc::clone(self), accepts_gzip(headers));
        let made = tokio::task::spawn_blocking(move || {
            let text = make(&*pages.node, &mut pages.grown.blocking_lock());
            if zips { gzip(&text) } else { Ok(text.into_bytes()) }
        });
        let body = match made.await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            Err(error) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        };
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
        response.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
        if zips {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

fn refusal(status: StatusCode, reason: &str) -> Response {
    (status, reason.to_owned()).into_response()
}

/// Whether the client takes gzip and does not only name it to refuse it.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let named = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.parse::<f32>().ok());
        matches!(name.trim(), "gzip" | "*") && weight.is_some_and(|weight| weight > 0.0)
    })
}

fn gzip(text: &str) -> std::io::Result<Vec<u8>> {
    // PERF: the fastest level: pages are much alike from line to line.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}
