//! Definitions over HTTP: all of the broker or of a vhost as one document, out and in.

use serde_json::Value;
use tracing::warn;

use super::answer::{Answer, Answered, Refusal};
use super::call::Call;
use super::overview::COMPATIBLE_VERSION;
use crate::definitions::{ImportError, Imported, export, export_vhost, import, import_into};

/// The form field that a document is in. COMPAT: where pages send it.
const FIELD: &str = "name=\"file\"";

/// GET definitions, GET all-configuration.
pub(crate) fn show(call: &Call) -> Answered {
    let name = call.api.node.cluster_name();
    Ok(named(call, export(call.broker(), COMPATIBLE_VERSION, &name), "rabbit_definitions.json"))
}

/// GET definitions/:vhost.
pub(crate) fn show_vhost(call: &Call) -> Answered {
    let vhost = call.vhost()?;
    Ok(named(call, export_vhost(&vhost, COMPATIBLE_VERSION), "rabbit_definitions.json"))
}

/// COMPAT: `download` says under which name to keep it.
fn named(call: &Call, document: Value, usual: &str) -> Answer {
    match call.query("download") {
        None => Answer::Json(document),
        Some("" | "true" | "file") => Answer::File(document, usual.to_owned()),
        Some(name) => Answer::File(document, name.to_owned()),
    }
}

/// POST definitions.
pub(crate) fn add(call: &Call) -> Answered {
    done(call, import(call.broker(), call.actor(), &document(call)?))
}

/// POST definitions/:vhost.
pub(crate) fn add_to_vhost(call: &Call) -> Answered {
    let vhost = call.vhost()?;
    done(call, import_into(call.broker(), call.actor(), vhost.name.as_str(), &document(call)?))
}

fn done(call: &Call, imported: Result<Imported, ImportError>) -> Answered {
    let imported = imported.map_err(|error| Refusal::bad_request(error.to_string()))?;
    call.wait_until_safe(imported.position)?;
    for skipped in &imported.skipped {
        warn!(user = %call.user.name, "imported definitions: {skipped}");
    }
    Ok(Answer::NoContent)
}

/// The document: the body, or a file in a form.
fn document(call: &Call) -> Result<Vec<u8>, Refusal> {
    let kind = call.header("content-type").unwrap_or_default();
    if !kind.starts_with("multipart/form-data") {
        let is_empty = call.object()?.is_empty();
        return Ok(if is_empty { b"{}".to_vec() } else { call.body.to_vec() });
    }
    let boundary = kind.split(';').map(str::trim).find_map(|part| part.strip_prefix("boundary="));
    let boundary =
        boundary.map(|boundary| boundary.trim_matches('"')).filter(|boundary| !boundary.is_empty());
    let boundary = boundary.ok_or_else(|| Refusal::bad_request("the form has no boundary"))?;
    let file = parts(&call.body, boundary.as_bytes()).into_iter().find(|(head, _)| head.contains(FIELD));
    file.map(|(_, content)| content.to_vec())
        .ok_or_else(|| Refusal::bad_request("the form has no field 'file'"))
}

/// The parts of a form: head and content of each.
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<(String, &'a [u8])> {
    let delimiter = [b"--", boundary].concat();
    let starts: Vec<_> = body
        .windows(delimiter.len())
        .enumerate()
        .filter(|(_, window)| *window == delimiter)
        .map(|(at, _)| at)
        .collect();
    let between = starts.windows(2).filter_map(|pair| match *pair {
        [start, end] => body.get(start + delimiter.len()..end),
        _ => None,
    });
    between
        .filter_map(|part| {
            let part = part.strip_prefix(b"\r\n")?;
            let end = part.windows(4).position(|window| window == b"\r\n\r\n")?;
            let (head, content) = (part.get(..end)?, part.get(end + 4..)?);
            Some((
                String::from_utf8_lossy(head).into_owned(),
                content.strip_suffix(b"\r\n").unwrap_or(content),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_form_is_found_among_its_fields() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"redirect\"\r\n\r\n/\r\n--b\r\nContent-Disposition: \
                     form-data; name=\"file\"; filename=\"x\"\r\n\r\n{\"a\":\r\n1}\r\n--b--\r\n";
        let parts = parts(body, b"b");
        assert_eq!(parts.len(), 2);
        let file = parts.iter().find(|(head, _)| head.contains(FIELD)).map(|(_, content)| *content);
        assert_eq!(file, Some(&b"{\"a\":\r\n1}"[..]));
    }
}
