//! Messages that can be told from all others and from damaged ones: the message id says who published what and how
//! long it is, and the body follows from it octet by octet.

use std::sync::OnceLock;

use crate::random::Random;
use crate::wire::Delivery;

/// The longest body.
pub(crate) const SIZE_MAX: usize = 300_000;

/// Octets that bodies are cut from; much longer than a body, so that two messages seldom share their place.
const POOL_BYTES: usize = 4 * 1024 * 1024;

/// Names a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) publisher: u32,
    pub(crate) sequence: u32,
}

/// All there is to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) key: Key,
    pub(crate) size: usize,
    pub(crate) persistent: bool,
}

impl Content {
    /// The message id it travels with.
    pub(crate) fn id(&self) -> String {
        let Key { publisher, sequence } = self.key;
        format!("{publisher}.{sequence}.{}.{}", self.size, self.delivery_mode())
    }

    /// One for all messages of a publisher, so that these keep their order.
    pub(crate) fn priority(&self) -> u8 {
        (self.key.publisher % 12) as u8
    }

    pub(crate) fn delivery_mode(&self) -> u8 {
        if self.persistent { 2 } else { 1 }
    }

    pub(crate) fn body(&self) -> &'static [u8] {
        let place = Random::new(u64::from(self.key.publisher) << 32 | u64::from(self.key.sequence)).next();
        let start = usize::try_from(place).expect("64 bits") % (POOL_BYTES - SIZE_MAX);
        &pool()[start..start + self.size]
    }

    /// What was delivered, or what is wrong with it.
    pub(crate) fn read(delivery: &Delivery) -> Result<Self, String> {
        let id = &delivery.message_id;
        let numbers: Option<Vec<u32>> = id.split('.').map(|number| number.parse().ok()).collect();
        let Some(&[publisher, sequence, size, mode]) = numbers.as_deref() else {
            return Err(format!("message id {id:?}, body of {} octets", delivery.body.len()));
        };
        let content = Self { key: Key { publisher, sequence }, size: size as usize, persistent: mode == 2 };
        if delivery.delivery_mode != Some(content.delivery_mode()) {
            return Err(format!("message {id} has delivery mode {:?}", delivery.delivery_mode));
        }
        if content.size > SIZE_MAX || delivery.body != content.body() {
            return Err(format!("message {id} has another body, of {} octets", delivery.body.len()));
        }
        Ok(content)
    }
}

/// Mostly small, now and then nothing at all or as large as they come.
pub(crate) fn random_size(random: &mut Random) -> usize {
    let size = match random.below(100) {
        0..10 => 0,
        10..75 => random.between(1, 300),
        75..97 => random.between(300, 8_000),
        97..99 => random.between(8_000, 140_000),
        _ => random.between(140_000, SIZE_MAX as u64 + 1),
    };
    usize::try_from(size).expect("less than a usize")
}

fn pool() -> &'static [u8] {
    static POOL: OnceLock<Vec<u8>> = OnceLock::new();
    POOL.get_or_init(|| {
        let mut random = Random::new(1);
        (0..POOL_BYTES / 8).flat_map(|_| random.next().to_le_bytes()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(content: &Content) -> Delivery {
        Delivery {
            tag: 1,
            redelivered: false,
            message_id: content.id(),
            delivery_mode: Some(content.delivery_mode()),
            body: content.body().to_vec(),
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        for size in [0, 1, 300, SIZE_MAX] {
            let key = Key { publisher: 7, sequence: 9 };
            let content = Content { key, size, persistent: size % 2 == 0 };
            assert_eq!(Content::read(&delivery(&content)), Ok(content));
        }
    }

    #[test]
    fn any_damage_to_a_message_is_seen() {
        let content = Content { key: Key { publisher: 7, sequence: 9 }, size: 100, persistent: true };
        let whole = || delivery(&content);
        let mut flipped = whole();
        flipped.body[50] ^= 1;
        let mut cut = whole();
        cut.body.pop();
        let other = Content { key: Key { publisher: 7, sequence: 10 }, ..content };
        let of_another = Delivery { body: other.body().to_vec(), ..whole() };
        let transient = Delivery { delivery_mode: Some(1), ..whole() };
        let nameless = Delivery { message_id: String::new(), ..whole() };
        for damaged in [flipped, cut, of_another, transient, nameless] {
            assert!(Content::read(&damaged).is_err(), "{damaged:?}");
        }
    }
}
