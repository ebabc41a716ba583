//! What only Leveret has.

use leveret_broker::access::permissions::Permission;
use leveret_broker::vhost::redrive::{Redrive, RedriveProgress, RedriveTo};
use leveret_codec::table::FieldTable;
use serde_json::{Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::{Call, NO_CONNECTION};
use super::vhosts::administrators_only;
use crate::audit;
use crate::json as fields;

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
        "compatible_version": call.api.node.compatible_version(),
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

/// GET leveret/limits: those of memory and disk that are in force, in octets.
pub(crate) fn limits(call: &Call) -> Answered {
    let resources = call.api.node.resources();
    Ok(Answer::Json(json!({
        "memory_high_watermark": resources.message_bytes_limit,
        "disk_free_limit": resources.disk_free_limit,
    })))
}

/// PUT leveret/limits: changes what is named, until the next start. COMPAT: as RabbitMQ's tools do to a node.
pub(crate) fn put_limits(call: &Call) -> Answered {
    administrators_only(call)?;
    let object = call.object()?;
    if let Some(other) =
        object.keys().find(|key| !["memory_high_watermark", "disk_free_limit"].contains(&key.as_str()))
    {
        return Err(Refusal::bad_request(format!("unknown limit: {other}")));
    }
    let node = &call.api.node;
    let total = node.resources().memory_bytes;
    // Both are read before one is set: a mistake changes nothing.
    let memory = object.get("memory_high_watermark").map(|value| memory_limit(value, total)).transpose()?;
    let disk = object.get("disk_free_limit").map(|value| disk_limit(value, total)).transpose()?;
    let note = |limit: &str, bytes: u64| {
        let fields =
            FieldTable::new().with("limit", limit).with("bytes", i64::try_from(bytes).unwrap_or(i64::MAX));
        call.actor().note("limit.set", &fields);
    };
    if let Some(bytes) = memory {
        node.limit_memory(bytes);
        note("memory_high_watermark", bytes);
    }
    if let Some(bytes) = disk {
        node.limit_disk_free(bytes);
        note("disk_free_limit", bytes);
    }
    Ok(Answer::NoContent)
}

/// A share of the memory up to 1, or octets.
fn memory_limit(value: &Value, total: u64) -> Result<u64, Refusal> {
    match (value.as_u64(), value.as_f64()) {
        (Some(octets), _) if octets > 1 => Ok(octets),
        (_, Some(share)) if (0.0..=1.0).contains(&share) => Ok(share_of(share, total)),
        _ => Err(Refusal::bad_request("memory_high_watermark is a share from 0.0 to 1.0, or octets")),
    }
}

/// Octets, or a multiple of the memory.
fn disk_limit(value: &Value, total: u64) -> Result<u64, Refusal> {
    let factor =
        value.get("mem_relative").filter(|_| value.as_object().is_some_and(|object| object.len() == 1));
    match (value.as_u64(), factor.and_then(Value::as_f64)) {
        (Some(octets), _) => Ok(octets),
        (None, Some(factor)) if factor >= 0.0 => Ok(share_of(factor, total)),
        _ => Err(Refusal::bad_request("disk_free_limit is octets, or {\"mem_relative\": factor}")),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "not negative; what is too large becomes the largest, and an octet more or less is nothing"
)]
fn share_of(share: f64, total: u64) -> u64 {
    (share * total as f64) as u64
}

/// POST leveret/redrive/:vhost/:queue: moves what is in a dead-letter queue back to where it died. Where that is stands
/// in each message, so that no permission to write can be asked for: only administrators do it.
pub(crate) fn redrive(call: &Call) -> Answered {
    administrators_only(call)?;
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
            let wanted = |(name, value): (&String, &Value)| Some((name.clone(), fields::field(value)?));
            Some(header.iter().next().and_then(wanted).ok_or_else(|| Refusal::too_deep("header"))?)
        }
        Some(_) => return Err(Refusal::bad_request("header must be an object with one entry")),
    };
    let redrive = Redrive { limit, matching, to: RedriveTo::LastQueue };
    let done = vhost.redrive(name, &redrive, &RedriveProgress::default())?;
    let failed: u64 = done.failed.values().sum();
    let moved = audit::named(vhost.name.as_str(), name).with("moved", done.moved.to_string());
    call.actor().note("queue.redriven", &moved);
    let left = queue.snapshot().ready;
    Ok(Answer::Json(json!({
        "moved": done.moved, "left": left, "skipped": done.skipped, "failed": failed,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_shares_or_octets() {
        let memory = |value: Value| memory_limit(&value, 1000).ok();
        assert_eq!(
            [json!(0.4), json!(1), json!(1.0), json!(0), json!(2)].map(memory),
            [Some(400), Some(1000), Some(1000), Some(0), Some(2)]
        );
        assert_eq!([json!(1.5), json!(-1), json!("0.4"), json!(null), json!({})].map(memory), [None; 5]);
        let disk = |value: Value| disk_limit(&value, 1000).ok();
        assert_eq!(
            [json!(0), json!(1), json!({"mem_relative": 1.5}), json!({"mem_relative": 1e300})].map(disk),
            [Some(0), Some(1), Some(1500), Some(u64::MAX)]
        );
        let wrong = [
            json!(-1),
            json!(1.5),
            json!({}),
            json!({"mem_relative": -1}),
            json!({"mem_relative": 1, "x": 1}),
        ];
        assert_eq!(wrong.map(disk), [None; 5]);
    }
}
