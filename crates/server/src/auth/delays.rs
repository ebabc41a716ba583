//! Makes guessing slow: after some wrong passwords for a user from one address, attempts from there wait for their
//! turn, longer each time. Who logs in with a password that was right before does not wait.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// Wrong passwords that cost nothing: people mistype.
const FREE_FAILURES: u32 = 5;

/// What the first one after these costs; each further one costs twice as much.
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(5);

/// Who would wait longer is refused at once, since the handshake would be over.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// Failures are forgotten after this long without another.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Users and addresses that are remembered: less than two megabytes.
const RECORDS_MAX: usize = 8192;

/// Longer names are no user's.
const NAME_BYTES_MAX: usize = 255;

/// Failures of late.
#[derive(Default)]
pub(super) struct Delays {
    records: HashMap<(String, IpAddr), Record>,
}

struct Record {
    failures: u32,
    last: Instant,
    /// When the next attempt may be made.
    next: Instant,
}

impl Delays {
    /// How long an attempt has to wait; nothing if it is not to be made at all.
    pub(super) fn take_turn(&mut self, user: &str, peer: IpAddr, now: Instant) -> Option<Duration> {
        let key = key(user, peer);
        let Some(record) = self.records.get_mut(&key) else { return Some(Duration::ZERO) };
        if now.saturating_duration_since(record.last) >= REMEMBERED_FOR {
            self.records.remove(&key);
            return Some(Duration::ZERO);
        }
        let wait = record.next.saturating_duration_since(now);
        if wait > WAIT_MAX {
            return None;
        }
        // Attempts at the same time get one turn after the other.
        record.next = now + wait + record.delay();
        Some(wait)
    }

    /// Notes a wrong password.
    pub(super) fn failed(&mut self, user: &str, peer: IpAddr, now: Instant) {
        let key = key(user, peer);
        if self.records.len() >= RECORDS_MAX && !self.records.contains_key(&key) {
            let oldest = self.records.iter().min_by_key(|(_, record)| record.last);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.into_iter().for_each(|key| _ = self.records.remove(&key));
        }
        let record = self.records.entry(key).or_insert(Record { failures: 0, last: now, next: now });
        record.failures = record.failures.saturating_add(1);
        record.last = now;
        record.next = record.next.max(now + record.delay());
    }

    /// Forgets failures before a right password.
    pub(super) fn forget(&mut self, user: &str, peer: IpAddr) {
        self.records.remove(&key(user, peer));
    }
}

impl Record {
    fn delay(&self) -> Duration {
        match self.failures.checked_sub(FREE_FAILURES + 1) {
            None => Duration::ZERO,
            Some(beyond) => DELAY_MIN.saturating_mul(1 << beyond.min(10)).min(DELAY_MAX),
        }
    }
}

/// A network of 64 bits belongs to one peer, who has all of its addresses.
fn key(user: &str, peer: IpAddr) -> (String, IpAddr) {
    let user = user.get(..user.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default();
    let peer = match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    };
    (user.to_owned(), peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn wrong_passwords_cost_more_and_more_and_a_right_one_clears_them() {
        let (mut delays, now) = (Delays::default(), Instant::now());
        let waits: Vec<_> = (0..8)
            .map(|_| {
                let wait = delays.take_turn("u", PEER, now).unwrap();
                delays.failed("u", PEER, now);
                wait.as_millis()
            })
            .collect();
        assert_eq!(&waits[..6], [0; 6]);
        assert!(waits[6] >= 100 && waits[7] > waits[6], "{waits:?}");
        assert_eq!(delays.take_turn("other", PEER, now), Some(Duration::ZERO));
        delays.forget("u", PEER);
        assert_eq!(delays.take_turn("u", PEER, now), Some(Duration::ZERO));
    }

    #[test]
    fn attempts_at_the_same_time_wait_for_each_other_and_too_many_are_refused() {
        let (mut delays, now) = (Delays::default(), Instant::now());
        (0..8).for_each(|_| delays.failed("u", PEER, now));
        let waits: Vec<_> = (0..100).map_while(|_| delays.take_turn("u", PEER, now)).collect();
        assert!(waits.is_sorted() && waits.len() < 100, "{waits:?}");
        let later = now + REMEMBERED_FOR;
        assert_eq!(delays.take_turn("u", PEER, later), Some(Duration::ZERO), "forgotten by then");
    }

    #[test]
    fn addresses_of_one_network_count_together_and_memory_is_bounded() {
        let (mut delays, now) = (Delays::default(), Instant::now());
        let address = |last: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        (0..8).for_each(|last| delays.failed("u", address(last), now));
        assert!(delays.take_turn("u", address(99), now).unwrap() > Duration::ZERO);
        (0..RECORDS_MAX + 10).for_each(|number| delays.failed(&number.to_string(), PEER, now));
        assert_eq!(delays.records.len(), RECORDS_MAX);
    }
}
