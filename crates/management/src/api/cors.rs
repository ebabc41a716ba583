//! Which sites' pages a browser lets use the API: those whose origin the operator has named. Browsers ask before they
//! log in, so this is about headers alone, and what an answer says besides does not depend on it.

use axum::response::Response;
use hyper::Method;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CONTENT_TYPE, HOST,
    HeaderMap, HeaderValue, ORIGIN,
};

/// COMPAT: seconds that a browser may remember what it was told.
const MAX_AGE: HeaderValue = HeaderValue::from_static("1800");

/// What stands for all origins.
const ANY: &str = "*";

/// A request from a page that may use the API.
pub(super) struct AllowedPage {
    origin: HeaderValue,
    /// It was named, and not all were.
    is_named: bool,
    /// Set where a browser asks what it may send.
    asked: Option<Asked>,
}

struct Asked {
    headers: Option<HeaderValue>,
}

/// The page that a request comes from, if it is one of those that may use the API.
pub(super) fn page(origins: &[String], method: &Method, headers: &HeaderMap) -> Option<AllowedPage> {
    let origin = headers.get(ORIGIN)?;
    let is_among = |wanted: &[u8]| origins.iter().any(|allowed| allowed.as_bytes() == wanted);
    let is_named = is_among(origin.as_bytes());
    if !is_named && !is_among(ANY.as_bytes()) {
        return None;
    }
    let asked = (method == Method::OPTIONS)
        .then(|| Asked { headers: headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned() });
    Some(AllowedPage { origin: origin.clone(), is_named, asked })
}

/// Whether a request that changes something comes from a page that is neither this host's nor allowed: a browser sends
/// the login that it remembers along with forms of all sites.
pub(super) fn is_foreign(origins: &[String], method: &Method, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let own = |host: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()))
    };
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || headers.get(HOST).is_some_and(own) {
        return false;
    }
    match page(origins, method, headers) {
        None => true,
        Some(page) if page.is_named => false,
        // Where all may, forms may not: nobody asks beforehand whether they may have the login.
        Some(_) => *method == Method::POST && !is_json(headers),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

impl AllowedPage {
    /// Tells the browser so, and which methods there are.
    pub(super) fn allow(self, allows: &'static str, response: &mut Response) {
        let told = response.headers_mut();
        told.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin);
        // A login that a browser remembers is for sites that were named: with all allowed, any page could use it.
        if self.is_named {
            told.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(Asked { headers }) = self.asked {
            told.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(allows));
            told.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
            headers.into_iter().for_each(|headers| _ = told.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_changes_something_only_if_it_is_the_hosts_own_or_allowed() {
        let named = ["https://tools.example".to_owned()];
        let is_foreign = |origins: &[String], method: Method, origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("broker.example:15672"));
            if !origin.is_empty() {
                headers.insert(ORIGIN, HeaderValue::from_str(origin).expect("a value"));
            }
            super::is_foreign(origins, &method, &headers)
        };
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            for origin in
                ["", "https://tools.example", "http://broker.example:15672", "https://Broker.example:15672"]
            {
                assert!(!is_foreign(&named, method.clone(), origin), "{method} {origin}");
            }
            for origin in ["null", "https://other.example", "http://broker.example", "broker.example:15672"] {
                assert!(is_foreign(&named, method.clone(), origin), "{method} {origin}");
                assert!(is_foreign(&[], method.clone(), origin), "{method} {origin}");
                let all = ["*".to_owned()];
                assert_eq!(
                    is_foreign(&all, method.clone(), origin),
                    method == Method::POST,
                    "{method} {origin}"
                );
            }
        }
        assert!(!is_foreign(&named, Method::GET, "https://other.example"));
    }
}
