//! What values look like: for each kind of option, how it is read and what is said when it cannot be.
//!
//! The table of options names a kind per option; sources hand typed values in. A kind knows neither its
//! option nor where a value came from.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

/// Longest name of a user or virtual host in octets.
// SPEC: names travel as short strings.
const NAME_BYTES_MAX: usize = 255;

const KIB: u64 = 1024;
const KB: u64 = 1000;

/// A value as its source gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// From a source without types (flag, variable): the kind decides what it is.
    Word(String),
    /// A string of the file.
    Text(String),
    /// A whole number of the file.
    Integer(u64),
    /// A boolean of the file.
    Boolean(bool),
    /// An array of strings of the file.
    List(Vec<String>),
    /// Anything else the file may hold; no kind takes it.
    Other,
}

impl Typed {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Word(text) | Self::Text(text) => Some(text),
            Self::Integer(_) | Self::Boolean(_) | Self::List(_) | Self::Other => None,
        }
    }

    /// The elements of an array, or of a text with commas.
    fn elements(&self) -> Option<Vec<&str>> {
        match self {
            Self::Word(text) | Self::Text(text) => Some(text.split(',').map(str::trim).collect()),
            Self::List(elements) => Some(elements.iter().map(String::as_str).collect()),
            Self::Integer(_) | Self::Boolean(_) | Self::Other => None,
        }
    }
}

type Read<T> = Box<dyn Fn(&Typed) -> Option<T>>;

/// How a value is read, and a description of what can be.
pub(super) struct Kind<T> {
    accepts: String,
    read: Read<T>,
}

impl<T: 'static> Kind<T> {
    fn new(accepts: impl Into<String>, read: impl Fn(&Typed) -> Option<T> + 'static) -> Self {
        Self { accepts: accepts.into(), read: Box::new(read) }
    }

    /// What it accepts, as the end of the sentence "expected …".
    pub(super) fn accepts(&self) -> String {
        self.accepts.clone()
    }

    pub(super) fn read(&self, typed: &Typed) -> Option<T> {
        (self.read)(typed)
    }

    /// The same written values with another meaning.
    pub(super) fn map<U: 'static>(self, meaning: impl Fn(T) -> U + 'static) -> Kind<U> {
        let read = self.read;
        Kind { accepts: self.accepts, read: Box::new(move |typed| read(typed).map(&meaning)) }
    }
}

pub(super) fn text() -> Kind<String> {
    Kind::new("a text that is not empty", |typed| {
        typed.text().filter(|text| !text.is_empty()).map(str::to_owned)
    })
}

/// Segments of a path with a slash before each; empty for none.
pub(super) fn path_prefix_or_none() -> Kind<String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._~-".contains(letter);
    let is_segment =
        move |segment: &str| !["", ".", ".."].contains(&segment) && segment.chars().all(is_plain);
    Kind::new("a path such as /rabbit of letters, digits and ._~-, or none", move |typed| {
        match typed.text()? {
            "none" => Some(String::new()),
            text => text.strip_prefix('/')?.split('/').all(is_segment).then(|| text.to_owned()),
        }
    })
}

pub(super) fn name() -> Kind<String> {
    Kind::new(format!("a name of 1 to {NAME_BYTES_MAX} octets"), |typed| {
        typed.text().filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len())).map(str::to_owned)
    })
}

pub(super) fn path() -> Kind<PathBuf> {
    Kind::new("a path", |typed| typed.text().filter(|path| !path.is_empty()).map(PathBuf::from))
}

pub(super) fn log_directives() -> Kind<String> {
    Kind::new("error, warn, info, debug, trace, off, or a list such as info,leveret_server=debug", |typed| {
        typed.text().filter(|directives| EnvFilter::try_new(directives).is_ok()).map(str::to_owned)
    })
}

/// Yes or no; in the file without quotes.
pub(super) fn boolean() -> Kind<bool> {
    Kind::new("true or false", |typed| match typed {
        Typed::Boolean(value) => Some(*value),
        Typed::Word(word) => word.parse().ok(),
        _ => None,
    })
}

/// One of a few words.
pub(super) fn choice<T: Copy + 'static>(choices: &'static [(&'static str, T)]) -> Kind<T> {
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    Kind::new(words.join(" or "), |typed| {
        let text = typed.text()?;
        choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
    })
}

/// A path, or none.
pub(super) fn path_or_none() -> Kind<Option<PathBuf>> {
    Kind::new("a path, or none", |typed| match typed.text()? {
        "" => None,
        "none" => Some(None),
        path => Some(Some(PathBuf::from(path))),
    })
}

/// What addresses look like.
const ADDRESSES: &str =
    "one or more addresses with ports such as 0.0.0.0:5672 or [::]:5672, separated by commas";

/// Addresses to listen on; none of them if there is to be no such listener.
pub(super) fn addresses_or_none() -> Kind<Vec<SocketAddr>> {
    Kind::new(format!("{ADDRESSES}, or none"), read_addresses)
}

/// As above, or no value where the program is to choose.
pub(super) fn addresses_or_auto() -> Kind<Option<Vec<SocketAddr>>> {
    Kind::new(format!("{ADDRESSES}, or none, or auto"), |typed| match typed.text() {
        Some("auto") => Some(None),
        _ => read_addresses(typed).map(Some),
    })
}

fn read_addresses(typed: &Typed) -> Option<Vec<SocketAddr>> {
    if typed.text() == Some("none") {
        return Some(Vec::new());
    }
    let addresses: Vec<SocketAddr> =
        typed.elements()?.into_iter().map(|address| address.parse().ok()).collect::<Option<_>>()?;
    (!addresses.is_empty()).then_some(addresses)
}

/// A list of names that may be empty, for which there is a word too: an empty variable is easily overlooked.
pub(super) fn names_or_none() -> Kind<Vec<String>> {
    Kind::new("names separated by commas, or none", |typed| match typed.elements()?.as_slice() {
        [] | ["" | "none"] => Some(Vec::new()),
        names if names.iter().all(|name| !name.is_empty()) => {
            Some(names.iter().map(|&name| name.to_owned()).collect())
        }
        _ => None,
    })
}

/// A whole number of the given unit.
pub(super) fn number<T: TryFrom<u64> + 'static>(range: RangeInclusive<u64>, unit: &str) -> Kind<T> {
    let accepts = format!("a whole number from {} to {} ({unit})", range.start(), range.end());
    Kind::new(accepts, move |typed| {
        let number = match typed {
            Typed::Integer(number) => *number,
            Typed::Word(word) => word.parse().ok()?,
            Typed::Text(_) | Typed::Boolean(_) | Typed::List(_) | Typed::Other => return None,
        };
        range.contains(&number).then_some(number).and_then(|number| T::try_from(number).ok())
    })
}

/// A number of octets, with or without a unit.
pub(super) fn size<T: TryFrom<u64> + 'static>(range: RangeInclusive<u64>) -> Kind<T> {
    let mut accepts = "a size ".to_owned();
    // INVARIANT: writing to a String does not fail.
    let _ = write!(accepts, "from {} to {} ", octets(*range.start()), octets(*range.end()));
    accepts.push_str("(plain octets, or with a unit as in 64KiB or 2MB)");
    Kind::new(accepts, move |typed| {
        let size = read_size(typed)?;
        range.contains(&size).then_some(size).and_then(|size| T::try_from(size).ok())
    })
}

/// A number of octets in `range`, or a share of `memory_bytes` of up to `per_cent_max`.
pub(super) fn size_or_memory_share(
    range: RangeInclusive<u64>,
    per_cent_max: u64,
    memory_bytes: fn() -> u64,
) -> Kind<u64> {
    let bounds =
        if *range.end() == u64::MAX { String::new() } else { format!(", at most {}", octets(*range.end())) };
    let accepts = format!(
        "a size (plain octets, or with a unit as in 512MiB or 2GB{bounds}) or a share of the memory from 1% to \
         {per_cent_max}%"
    );
    Kind::new(accepts, move |typed| {
        let Some(share) = typed.text().and_then(|text| text.strip_suffix('%')) else {
            return read_size(typed).filter(|size| range.contains(size));
        };
        let per_cent: u64 =
            share.trim_end().parse().ok().filter(|share| (1..=per_cent_max).contains(share))?;
        // Dividing first cannot overflow and loses some hundred octets at most.
        Some(memory_bytes() / 100 * per_cent)
    })
}

fn read_size(typed: &Typed) -> Option<u64> {
    if let Typed::Integer(octets) = typed {
        return Some(*octets);
    }
    let text = typed.text()?;
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => KIB,
        "mib" => KIB.pow(2),
        "gib" => KIB.pow(3),
        "tib" => KIB.pow(4),
        "kb" => KB,
        "mb" => KB.pow(2),
        "gb" => KB.pow(3),
        "tb" => KB.pow(4),
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// The shortest exact way to write a size.
fn octets(size: u64) -> String {
    let units = [("TiB", KIB.pow(4)), ("GiB", KIB.pow(3)), ("MiB", KIB.pow(2)), ("KiB", KIB)];
    match units.iter().find(|(_, factor)| size >= *factor && size.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", size / factor),
        None => size.to_string(),
    }
}
