//! Which sites' pages a browser lets use the API: those whose origin the operator has named. Browsers ask before they
//! log in, so this is about headers alone, and what an answer says besides does not depend on it.

use axum::response::Response;
use hyper::Method;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, HeaderMap,
    HeaderValue, ORIGIN,
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
