//! Where scrapers come: one request per connection, a bounded number of connections, and pages that are made off the
//! threads that serve clients. A page with a row for each object may be large: one is made at a time, and it waits
//! until those before it are read; the page that has one row for all waits for none of these. COMPAT: anybody may look,
//! as in RabbitMQ; what may connect is decided by the address.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::get;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Mutex, Semaphore};
use tracing::debug;

use super::endpoints::{self, Wanted};
use super::families::FAMILIES;
use super::page::Grown;
use super::view::Chosen;
use crate::answers::Answers;
use crate::gzip;
use crate::listener::{Listener, Places, Socket};
use crate::node::Node;
use crate::pattern::Pattern;

/// Scrapers that are served at a time. There are few in earnest, and each may have to hold a page of many octets.
const CONNECTIONS_MAX: usize = 32;

/// From the first octet of a request to the last one of its page. Longer than Prometheus lets a scrape take.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);

/// Time for a scraper to take a part of its page. Longer than Prometheus takes for all of it, unless told otherwise.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// Octets of large pages that are being written.
const PAGES_BYTES_MAX: u32 = 64 << 20;

/// Octets of a request's line and headers.
const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// COMPAT: the version that scrapers are told.
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What answers share.
struct Pages {
    node: Arc<dyn Node>,
    /// Held while the page of all together is made.
    grown: Arc<Mutex<Grown>>,
    /// Taken from before a large page is made until there is room for it.
    turn: Arc<Semaphore>,
    answers: Answers,
}

/// Answers scrapers, for ever.
pub async fn serve(node: Arc<dyn Node>, listener: Listener) {
    let service = TowerToHyperService::new(router(node));
    let places = Places::new(CONNECTIONS_MAX);
    let serve = move |socket, _| serve_connection(socket, service.clone());
    listener.accept(places, WRITE_TIMEOUT, serve).await;
}

async fn serve_connection(socket: Socket, service: TowerToHyperService<Router>) {
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEADERS_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    match tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a scraper's connection failed"),
        Err(_) => debug!("a scraper took longer than {CONNECTION_TIME_MAX:?}"),
    }
}

/// The routes.
pub(super) fn router(node: Arc<dyn Node>) -> Router {
    let answers = Answers::new(PAGES_BYTES_MAX, WRITE_TIMEOUT);
    let pages = Arc::new(Pages { node, grown: Arc::default(), turn: Arc::new(Semaphore::new(1)), answers });
    Router::new()
        .route("/metrics", get(aggregated))
        .route("/metrics/per-object", get(per_object))
        .route("/metrics/detailed", get(detailed))
        .route("/metrics/memory-breakdown", get(memory_breakdown))
        .route("/metrics/{other}", get(unknown))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .with_state(pages)
}

async fn unknown() -> Response {
    refusal(StatusCode::NOT_FOUND, "Unknown Registry".to_owned()).map(Body::from)
}

async fn aggregated(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    let mut grown = Arc::clone(&pages.grown).lock_owned().await;
    pages.respond(&headers, move |node| Ok(endpoints::aggregated(node, &mut grown))).await.map(Body::from)
}

async fn memory_breakdown(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    pages.respond(&headers, |node| Ok(endpoints::memory_breakdown(node))).await.map(Body::from)
}

async fn per_object(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Response {
    pages.respond_in_turn(&headers, |node| Ok(endpoints::per_object(node))).await
}

async fn detailed(
    State(pages): State<Arc<Pages>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    match query {
        Ok(Query(pairs)) => {
            let make = |node: &dyn Node| Ok(endpoints::detailed(node, wanted(node, pairs)?));
            pages.respond_in_turn(&headers, make).await
        }
        Err(error) => refusal(StatusCode::BAD_REQUEST, error.body_text()).map(Body::from),
    }
}

/// COMPAT: families that do not exist are empty, other words of the query mean nothing, and the last pattern counts.
fn wanted(node: &dyn Node, pairs: Vec<(String, String)>) -> Result<Wanted, String> {
    let mut families = Vec::new();
    let (mut vhosts, mut queue) = (HashSet::new(), None);
    for (word, value) in pairs {
        match word.as_str() {
            "family" => {
                let known = FAMILIES.iter().find(|(name, _)| *name == value);
                let family = known.map(|(_, family)| *family);
                families.extend(family.filter(|family| !families.contains(family)));
            }
            "vhost" => _ = vhosts.insert(value),
            "queue" => queue = Some(value),
            _ => {}
        }
    }
    let pattern = queue.map(|queue| Pattern::new(&queue, false)).transpose()?;
    Ok(Wanted { families, chosen: Chosen::new(node, vhosts, pattern.as_ref())? })
}

impl Pages {
    /// The same, where a page may be large: one after the other, and as many octets at a time as there is room for.
    async fn respond_in_turn(
        self: &Arc<Self>,
        headers: &HeaderMap,
        make: impl FnOnce(&dyn Node) -> Result<String, String> + Send + 'static,
    ) -> Response {
        // Not closed as long as there are pages. Who waits too long for either is cut off with the connection.
        let turn = Arc::new(Arc::clone(&self.turn).acquire_owned().await);
        let until_made = Arc::clone(&turn);
        let make = move |node: &dyn Node| {
            // A thread goes on when nobody waits for it any more.
            let _until_made = until_made;
            make(node)
        };
        let (head, octets) = self.respond(headers, make).await.into_parts();
        Response::from_parts(head, self.answers.send(octets, None).await.unwrap_or_default())
    }

    /// Makes a page on a thread that may take its time, or refuses what is asked for.
    async fn respond(
        self: &Arc<Self>,
        headers: &HeaderMap,
        make: impl FnOnce(&dyn Node) -> Result<String, String> + Send + 'static,
    ) -> Page {
        let (node, zips) = (Arc::clone(&self.node), gzip::is_accepted(headers));
        let made = tokio::task::spawn_blocking(move || match make(&*node) {
            Err(reason) => Ok(refusal(StatusCode::BAD_REQUEST, reason)),
            Ok(text) if zips => gzip::packed(text.as_bytes()).map(page),
            Ok(text) => Ok(page(text.into_bytes())),
        });
        let failed = |error: &dyn Display| refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
        let mut response = match made.await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return failed(&error),
            Err(error) => return failed(&error),
        };
        if zips && response.status() == StatusCode::OK {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// A page as HTTP has it.
type Page = Response<Bytes>;

fn page(body: Vec<u8>) -> Page {
    let mut page = Response::new(body.into());
    page.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
    page.headers_mut().insert(VARY, HeaderValue::from_static("accept-encoding"));
    page
}

fn refusal(status: StatusCode, reason: String) -> Page {
    let mut page = Response::new(reason.into());
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    page
}
