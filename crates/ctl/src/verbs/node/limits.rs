//! The watermark of memory and the limit of free disk: sizes as RabbitMQ's tools take them.

use clap::{Arg, Command};
use serde_json::{Value, json};

use crate::call::Call;
use crate::failure::{Exit, Failure};
use crate::verbs::policies::only_leveret;

/// A value, or a word that says how a value is meant and the value.
pub(super) fn arguments(command: Command) -> Command {
    command.arg(Arg::new("limit").num_args(1..=2).required(true))
}

pub(super) fn set_memory(call: &mut Call<'_>) -> Result<(), Failure> {
    let words = call.texts("limit");
    let (limit, shown) = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["absolute", size] => (json!(parse_size(size)?), format!("{size} bytes")),
        [share] => {
            let share = share.parse::<f64>().map_err(|_| bad(""))?;
            if !(0.0..=1.0).contains(&share) {
                return Err(bad(": The threshold should be a fraction between 0.0 and 1.0"));
            }
            (json!(share), format!("{share:?}"))
        }
        _ => return Err(bad("")),
    };
    let node = call.node()?;
    call.announce(&format!("Setting memory threshold on {node} to {shown} ..."))?;
    put(call, &json!({"memory_high_watermark": limit}))
}

pub(super) fn set_disk(call: &mut Call<'_>) -> Result<(), Failure> {
    let words = call.texts("limit");
    let (limit, shown) = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["mem_relative", factor] => {
            let factor = factor.parse::<f64>().ok().filter(|factor| factor.is_finite() && *factor >= 0.0);
            let factor = factor.ok_or_else(|| bad(""))?;
            (json!({"mem_relative": factor}), format!("{factor:?} times the total RAM"))
        }
        [size] => (json!(parse_size(size)?), format!("{size} bytes")),
        _ => return Err(bad("")),
    };
    let node = call.node()?;
    call.announce(&format!("Setting disk free limit on {node} to {shown} ..."))?;
    put(call, &json!({"disk_free_limit": limit}))
}

fn put(call: &mut Call<'_>, limits: &Value) -> Result<(), Failure> {
    call.client()?.put("leveret/limits", limits).map_err(only_leveret)?;
    Ok(())
}

fn bad(what: &str) -> Failure {
    Failure::new(Exit::Data, format!("Bad argument{what}"))
}

/// Octets, with a unit or without. COMPAT: `k` and `KiB` are 1024, `kB` is 1000.
fn parse_size(text: &str) -> Result<u64, Failure> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" | "K" | "kiB" | "KiB" => 1 << 10,
        "m" | "M" | "MiB" => 1 << 20,
        "g" | "G" | "GiB" => 1 << 30,
        "t" | "T" | "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(bad(": Invalid units.")),
    };
    let number = number.parse::<u64>().ok();
    number.and_then(|number| number.checked_mul(factor)).ok_or_else(|| bad(""))
}

#[test]
fn sizes_have_units_of_both_kinds() {
    let size = |text: &str| parse_size(text).ok();
    assert_eq!(size("50000000"), Some(50_000_000));
    assert_eq!(size("2GB"), Some(2_000_000_000));
    assert_eq!(size("2GiB"), Some(2 << 30));
    for wrong in ["", "GB", "2XX", "-1", "1.5GB", "99999999999999TB"] {
        assert_eq!(size(wrong), None, "{wrong}");
    }
}
