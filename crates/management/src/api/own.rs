//! What only Leveret has.

use leveret_broker::access::permissions::Permission;
use leveret_broker::vhost::redrive::{Redrive, RedriveProgress, RedriveTo};
use serde_json::{Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::{Call, NO_CONNECTION};
use super::json as fields;
use super::overview::COMPATIBLE_VERSION;

/// GET leveret/status: versions, data directory, journal, memory, what waits in delayed exchanges.
pub(crate) fn status(call: &Call) -> Answered {
    let (node, broker) = (&call.api.node, call.broker());
    let (resources, totals) = (node.resources(), node.totals());
    let mut delayed = Vec::new();
    let mut deduplication = Vec::new();
    for vhost in broker.vhosts() {
        delayed.extend(vhost.delayed().into_iter().map(|one| {
            json!({
                "vhost": vhost.name.as_str(), "exchange": one.exchange.as_str(), "messages": one.messages,
                "message_bytes": one.body_bytes, "next_due": one.next_due.map(|due| due.0),
            })
        }));
        deduplication.extend(vhost.deduplication().into_iter().map(|one| {
            json!({
                "vhost": vhost.name.as_str(), "exchange": one.exchange.as_str(), "ids": one.ids,
                "duplicates": one.duplicates,
            })
        }));
    }
    Ok(Answer::Json(json!({
        "product": "Leveret",
        "version": env!("CARGO_PKG_VERSION"),
        "compatible_version": COMPATIBLE_VERSION,
        "node": node.name(),
        "os_pid": std::process::id(),
        "uptime_ms": totals.uptime_ms,
        "data_dir": resources.data_dir,
        "journal": {
            "syncs": totals.journal_syncs,
            "written_bytes": totals.journal_bytes,
            "waiting_bytes": totals.journal_waiting_bytes,
        },
        "memory": {
            "resident_bytes": resources.resident_bytes,
            "message_bytes": resources.message_bytes,
            "high_watermark_bytes": resources.message_bytes_limit,
            "alarm": resources.memory_alarm,
        },
        "disk": {
            "free_bytes": resources.disk_free_bytes,
            "free_limit_bytes": resources.disk_free_limit,
            "alarm": resources.disk_alarm,
        },
        "delayed": delayed,
        "deduplication": deduplication,
    })))
}

/// POST leveret/redrive/:vhost/:queue: moves what is in a dead-letter queue back to where it died.
pub(crate) fn redrive(call: &Call) -> Answered {
    let (vhost, queue) = call.queue()?;
    let name = queue.spec.name.as_str();
    call.check_queue(&vhost, Permission::Read, name)?;
    vhost.queue(name, NO_CONNECTION)?;
    let object = call.object()?;
    let limit = match object.get("count") {
        None | Some(Value::Null) => None,
        Some(count) => {
            Some(count.as_u64().ok_or_else(|| Refusal::bad_request(json!(["not_integer", count])))?)
        }
    };
    let matching = match object.get("header") {
        None | Some(Value::Null) => None,
        Some(Value::Object(header)) if header.len() == 1 => {
            header.iter().next().map(|(name, value)| (name.clone(), fields::field(value)))
        }
        Some(_) => return Err(Refusal::bad_request("header must be an object with one entry")),
    };
    let redrive = Redrive { limit, matching, to: RedriveTo::LastQueue };
    let done = vhost.redrive(name, &redrive, &RedriveProgress::default())?;
    let failed: u64 = done.failed.values().sum();
    let left = queue.snapshot().ready;
    Ok(Answer::Json(json!({
        "moved": done.moved, "left": left, "skipped": done.skipped, "failed": failed,
    })))
}
