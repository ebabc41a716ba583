//! Bodies of requests: read in bounded time, and only as many octets at a time as there is room for, before and after
//! they are parsed. A body of numbers takes a hundred times its octets when each has become a value.

use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use tokio::time::Instant;

use super::answer::Refusal;
use crate::budget::{Budget, Held};

/// Octets of most bodies.
pub(super) const BYTES_MAX: usize = 256 * 1024;

/// COMPAT: octets of the body of a request that brings messages or definitions.
pub(super) const LARGE_BYTES_MAX: usize = 20_000_000;

/// Octets of a body after which its sender has as much time again.
const BYTES_PER_TIMEOUT: usize = 1 << 20;

/// Octets of all bodies together, as they came. Definitions as large as they may be fit in three times.
const READ_BYTES_MAX: u32 = 64 << 20;

/// Octets of all bodies together, parsed. The largest definitions in earnest fit in once.
const PARSED_BYTES_MAX: u32 = 512 << 20;

/// Octets that a body may take, as it comes, before it needs room. There may be as many as connections.
const FREE_BYTES: usize = 16 * 1024;

/// The same, parsed. There are as many as threads that parse.
const FREE_PARSED_BYTES: usize = 1 << 20;

/// Octets that room is taken for at a time.
const STEP_BYTES: usize = 64 * 1024;

/// Octets that a value takes, with what the list around it has grown by in vain.
const VALUE_BYTES: usize = 96;

/// Octets that an object takes, which has room for eleven entries as soon as it has one.
const OBJECT_BYTES: usize = 704;

/// How often the text is held beside the values: as it came, in them, and in what is made out of them.
const COPIES: usize = 4;

/// Room for bodies.
pub(crate) struct Bodies {
    read: Budget,
    parsed: Budget,
}

/// A body, and its room until it is dropped.
#[derive(Default)]
pub(crate) struct Body {
    pub(super) octets: Bytes,
    _read: Held,
    _parsed: Held,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { read: Budget::new(READ_BYTES_MAX), parsed: Budget::new(PARSED_BYTES_MAX) }
    }
}

impl Bodies {
    /// Reads a body of at most so many octets, which may take `timeout` for each mebibyte that is begun: none is read
    /// for ever, and a large one need not come at once. Then waits until there is room to parse it.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: &mut axum::body::Body,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<Body, Refusal> {
        let (octets, read) = self.octets(headers, body, bytes_max, timeout).await?;
        let weight = weight(&octets);
        if weight > self.parsed.total() {
            return Err(Refusal::bad_request("the body has too many values"));
        }
        let parsed = if weight <= FREE_PARSED_BYTES {
            Held::default()
        } else {
            self.parsed.take_within(timeout, weight).await.ok_or_else(no_room)?
        };
        Ok(Body { octets, _read: read, _parsed: parsed })
    }

    async fn octets(
        &self,
        headers: &HeaderMap,
        body: &mut axum::body::Body,
        bytes_max: usize,
        timeout: Duration,
    ) -> Result<(Bytes, Held), Refusal> {
        let too_large =
            || Refusal::bad_request(format!("Exceeded HTTP request body size limit of {bytes_max} bytes"));
        let announced =
            headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > bytes_max) {
            return Err(too_large());
        }
        let (begun, mut received) = (Instant::now(), Vec::new());
        let (mut held, mut room) = (Held::default(), FREE_BYTES);
        let mut body = pin!(Limited::new(body, bytes_max));
        loop {
            let times =
                u32::try_from(received.len() / BYTES_PER_TIMEOUT).unwrap_or(u32::MAX).saturating_add(1);
            let frame = tokio::time::timeout_at(begun + timeout.saturating_mul(times), body.frame()).await;
            let data = match frame {
                Ok(None) => return Ok((received.into(), held)),
                Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Ok(Some(Err(error))) if error.is::<http_body_util::LengthLimitError>() => {
                    return Err(too_large());
                }
                Ok(Some(Err(_))) => return Err(Refusal::bad_request("the body cannot be read")),
                Err(_) => return Err(Refusal::timeout()),
            };
            // Not at once for all that is announced: what never comes is to take no room.
            while room < received.len() + data.len() {
                held.add(self.read.take_within(timeout, STEP_BYTES).await.ok_or_else(no_room)?);
                room += STEP_BYTES;
            }
            received.extend_from_slice(&data);
        }
    }
}

/// Reads what is left of a refused body and forgets it, so that its sender gets to read why: a connection that is
/// closed with octets unread takes the answer with it.
pub(super) fn forget(mut body: axum::body::Body, timeout: Duration) {
    tokio::spawn(tokio::time::timeout(timeout, async move {
        let mut left = LARGE_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.into_data().map_or(0, |data| data.len());
            let Some(less) = left.checked_sub(length) else { return };
            left = less;
        }
    }));
}

fn no_room() -> Refusal {
    Refusal::unavailable("too much is being asked at a time")
}

/// Octets that a text takes at most when it has been parsed, if it is JSON.
fn weight(text: &[u8]) -> usize {
    let (mut values, mut objects) = (1_usize, 0_usize);
    let (mut is_text, mut is_escaped) = (false, false);
    for &octet in text {
        if is_text {
            is_text = is_escaped || octet != b'"';
            is_escaped = !is_escaped && octet == b'\\';
            continue;
        }
        match octet {
            b'"' => is_text = true,
            b',' | b'[' => values += 1,
            b'{' => objects += 1,
            _ => {}
        }
    }
    let of_values = values.saturating_mul(VALUE_BYTES).saturating_add(objects.saturating_mul(OBJECT_BYTES));
    of_values.saturating_add(text.len().saturating_mul(COPIES))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn bodies(read: u32, parsed: u32) -> Bodies {
        Bodies { read: Budget::new(read), parsed: Budget::new(parsed) }
    }

    async fn read(bodies: &Bodies, text: &str, bytes_max: usize) -> Result<Body, String> {
        let mut body = axum::body::Body::from(text.to_owned());
        let read = bodies.read(&HeaderMap::new(), &mut body, bytes_max, TIMEOUT).await;
        read.map_err(|refusal| format!("{refusal:?}"))
    }

    #[test]
    fn what_is_in_texts_weighs_nothing_and_each_value_something() {
        let values = |text: &str| (weight(text.as_bytes()) - COPIES * text.len(), text.len());
        assert_eq!(values(r#""[,,{\"[,,\\\",""#).0, VALUE_BYTES);
        assert_eq!(values(r#"[0,"a\\",0]"#).0, 4 * VALUE_BYTES);
        assert_eq!(values(r#"{"a":{"b":1},"c":[]}"#).0, 3 * VALUE_BYTES + 2 * OBJECT_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_wait_for_those_before_them_and_are_refused_when_that_takes_too_long() {
        let bodies = bodies(256 * 1024, u32::MAX);
        let text = "x".repeat(200_000);
        let first = read(&bodies, &text, BYTES_MAX).await.expect("there is room");
        let refusal = read(&bodies, &text, BYTES_MAX).await.err().expect("the first one is there");
        assert!(refusal.contains("too much is being asked"), "{refusal}");
        assert!(read(&bodies, &text[..FREE_BYTES], BYTES_MAX).await.is_ok(), "a small one");
        drop(first);
        assert!(read(&bodies, &text, BYTES_MAX).await.is_ok());
        assert!(read(&bodies, &text, 199_999).await.is_err_and(|refusal| refusal.contains("size limit")));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_of_many_values_are_parsed_one_after_the_other() {
        let bodies = bodies(READ_BYTES_MAX, 4 << 20);
        let text = "0,".repeat(25_000);
        let first = read(&bodies, &text, BYTES_MAX).await.expect("there is room");
        assert!(read(&bodies, &text, BYTES_MAX).await.is_err());
        drop(first);
        assert!(read(&bodies, &text, BYTES_MAX).await.is_ok());
        let refusal = read(&bodies, &text.repeat(2), BYTES_MAX).await.err().expect("more than fits in all");
        assert!(refusal.contains("too many values"), "{refusal}");
    }
}
