//! Answers in gzip, for those who take it.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::HeaderMap;
use hyper::header::ACCEPT_ENCODING;

/// Whether the client takes gzip: by name, or whatever there is, and not only to refuse it (RFC 9110, 12.5.3).
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let weights = values.flat_map(|value| value.split(',')).filter_map(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.parse::<f32>().ok());
        Some((name.trim(), weight?))
    });
    let (mut named, mut any) = (None, None);
    for (name, weight) in weights {
        match name {
            "gzip" => named = Some(weight),
            "*" => any = Some(weight),
            _ => {}
        }
    }
    named.or(any).is_some_and(|weight| weight > 0.0)
}

/// The octets in gzip. PERF: at the fastest level; pages are much alike from line to line, listings from object to
/// object.
///
/// # Errors
/// None that memory gives.
pub(crate) fn packed(octets: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(octets.len() / 8), Compression::fast());
    encoder.write_all(octets)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_gzip_takes_it_unless_to_refuse_it() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, value.parse().unwrap());
            is_accepted(&headers)
        };
        for taken in ["gzip", "deflate, gzip;q=0.5", "br;q=1, *", "gzip ; q=1.0", "*;q=0.1"] {
            assert!(accepts(taken), "{taken}");
        }
        for refused in ["", "br", "gzip;q=0", "gzip;q=0.0, *", "gzip;q=x", "*;q=0"] {
            assert!(!accepts(refused), "{refused}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }
}
