//! Makes guessing slow: after some wrong passwords for a user from one address, or many for whatever users from there,
//! attempts are looked at one after the other, with a longer time between them each time. Who logs in with a password
//! that was right before does not wait.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

/// Who would wait longer is refused, since the handshake would be over.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(8);

/// What the first wrong password that is not free costs; each further one costs twice as much.
const DELAY_MIN: Duration = Duration::from_millis(100);

/// Failures are forgotten after this long without another.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Users and addresses that are remembered: less than two megabytes.
const RECORDS_MAX: usize = 8192;

/// Longer names are no user's.
const NAME_BYTES_MAX: usize = 255;

/// Attempts of late.
#[derive(Default)]
pub(super) struct Delays {
    records: HashMap<Key, Record>,
}

/// A user and an address, or all users from an address.
type Key = (Option<String>, IpAddr);

struct Record {
    /// Those that have failed, and those that are on their way.
    attempts: u32,
    on_their_way: u32,
    last: Instant,
    /// When the next attempt may be made.
    next: Instant,
}

/// How much is free, and what more costs at most.
struct Allowance {
    attempts: u32,
    delay_max: Duration,
}

/// People mistype.
const OF_USER: Allowance = Allowance { attempts: 5, delay_max: Duration::from_secs(5) };

/// Many may share an address, and one program with a wrong password must not keep the others out.
const OF_ADDRESS: Allowance = Allowance { attempts: 100, delay_max: Duration::from_secs(1) };

impl Delays {
    /// How long an attempt has to wait, which counts from here on; nothing if that would be past `latest`, or if it has
    /// to see first how others end.
    pub(super) fn take_turn(
        &mut self,
        user: &str,
        peer: IpAddr,
        now: Instant,
        latest: Instant,
    ) -> Option<Duration> {
        let keys = keys(user, peer);
        let mut wait = Duration::ZERO;
        for (key, allowance) in &keys {
            let Some(record) = self.records.get(key) else { continue };
            if now.saturating_duration_since(record.last) >= REMEMBERED_FOR {
                self.records.remove(key);
                continue;
            }
            if record.attempts >= allowance.attempts && record.on_their_way > 0 {
                return None;
            }
            wait = wait.max(record.next.saturating_duration_since(now));
        }
        if now + wait > latest {
            return None;
        }
        for (key, _) in keys {
            let record = self.record(key, now);
            record.attempts = record.attempts.saturating_add(1);
            record.on_their_way = record.on_their_way.saturating_add(1);
            record.last = now;
        }
        Some(wait)
    }

    /// Ends an attempt with a wrong password.
    pub(super) fn failed(&mut self, user: &str, peer: IpAddr, now: Instant) {
        for (key, allowance) in keys(user, peer) {
            // A right password may have cleared it meanwhile.
            let Some(record) = self.records.get_mut(&key) else { continue };
            record.on_their_way = record.on_their_way.saturating_sub(1);
            record.last = now;
            record.next = record.next.max(now + allowance.delay(record.attempts));
        }
    }

    /// Ends an attempt with a right password: the user's failures from there are forgotten. Those for other users are
    /// not, since an account of one's own must not help to guess others'.
    pub(super) fn succeeded(&mut self, user: &str, peer: IpAddr) {
        let [(of_user, _), (of_address, _)] = keys(user, peer);
        self.records.remove(&of_user);
        if let Some(record) = self.records.get_mut(&of_address) {
            record.on_their_way = record.on_their_way.saturating_sub(1);
            record.attempts = record.attempts.saturating_sub(1);
            if record.attempts == 0 {
                self.records.remove(&of_address);
            }
        }
    }

    fn record(&mut self, key: Key, now: Instant) -> &mut Record {
        if self.records.len() >= RECORDS_MAX && !self.records.contains_key(&key) {
            let oldest = self.records.iter().min_by_key(|(_, record)| record.last);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.into_iter().for_each(|key| _ = self.records.remove(&key));
        }
        let record = Record { attempts: 0, on_their_way: 0, last: now, next: now };
        self.records.entry(key).or_insert(record)
    }
}

impl Allowance {
    /// What has to pass after so many attempts.
    fn delay(&self, attempts: u32) -> Duration {
        match attempts.checked_sub(self.attempts + 1) {
            None => Duration::ZERO,
            Some(beyond) => DELAY_MIN.saturating_mul(1 << beyond.min(10)).min(self.delay_max),
        }
    }
}

/// What an attempt counts for. A network of 64 bits belongs to one peer, who has all of its addresses.
fn keys(user: &str, peer: IpAddr) -> [(Key, Allowance); 2] {
    let user = user.get(..user.floor_char_boundary(NAME_BYTES_MAX)).unwrap_or_default();
    let peer = match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    };
    [((Some(user.to_owned()), peer), OF_USER), ((None, peer), OF_ADDRESS)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    impl Delays {
        fn turn(&mut self, user: &str, peer: IpAddr, now: Instant) -> Option<Duration> {
            self.take_turn(user, peer, now, now + WAIT_MAX)
        }

        /// A wrong password: what it had to wait.
        fn guess(&mut self, user: &str, peer: IpAddr, now: Instant) -> Option<Duration> {
            let wait = self.turn(user, peer, now)?;
            self.failed(user, peer, now + wait);
            Some(wait)
        }
    }

    #[test]
    fn wrong_passwords_cost_more_and_more_and_a_right_one_clears_them() {
        let (mut delays, mut now) = (Delays::default(), Instant::now());
        let waits: Vec<_> = (0..12)
            .map(|_| {
                let wait = delays.guess("u", PEER, now).unwrap();
                now += wait;
                wait.as_millis()
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 100, 200, 400, 800, 1600, 3200]);
        assert_eq!(delays.turn("other", PEER, now), Some(Duration::ZERO));
        let wait = delays.turn("u", PEER, now);
        assert_eq!(wait, Some(Duration::from_secs(5)));
        delays.succeeded("u", PEER);
        assert_eq!(delays.turn("u", PEER, now), Some(Duration::ZERO));
    }

    #[test]
    fn attempts_at_the_same_time_count_before_they_have_failed() {
        let (mut delays, now) = (Delays::default(), Instant::now());
        let taken = (0..100).filter(|_| delays.turn("u", PEER, now).is_some()).count();
        assert_eq!(taken, 5);
        (0..5).for_each(|_| delays.failed("u", PEER, now));
        assert_eq!(delays.turn("u", PEER, now), Some(Duration::ZERO), "the first one that is not free");
        assert_eq!(delays.turn("u", PEER, now), None, "while it is looked at");
        delays.failed("u", PEER, now);
        assert_eq!(delays.take_turn("u", PEER, now, now), None, "it would have to wait");
        assert_eq!(delays.turn("u", PEER, now), Some(Duration::from_millis(100)));
        let later = now + REMEMBERED_FOR;
        assert_eq!(delays.turn("u", PEER, later), Some(Duration::ZERO), "forgotten by then");
    }

    #[test]
    fn one_who_changes_names_is_slowed_and_an_account_of_ones_own_does_not_help() {
        let (mut delays, mut now) = (Delays::default(), Instant::now());
        let mut guess = |number: u32| {
            let wait = delays.guess(&number.to_string(), PEER, now).unwrap();
            now += wait;
            assert!(delays.turn("mine", PEER, now).is_some_and(|wait| wait <= Duration::from_secs(1)));
            delays.succeeded("mine", PEER);
            wait
        };
        assert!((0..=100).all(|number| guess(number) == Duration::ZERO));
        let slowed: Vec<_> = (101..120).map(guess).collect();
        assert!(slowed.iter().all(|wait| !wait.is_zero()) && slowed.is_sorted(), "{slowed:?}");
        assert_eq!(slowed.last(), Some(&Duration::from_secs(1)));
    }

    #[test]
    fn addresses_of_one_network_count_together_and_memory_is_bounded() {
        let (mut delays, now) = (Delays::default(), Instant::now());
        let address = |last: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        (0..6).for_each(|last| _ = delays.guess("u", address(last), now));
        assert!(delays.turn("u", address(99), now).unwrap() > Duration::ZERO);
        for number in 0..u32::try_from(RECORDS_MAX).unwrap() + 10 {
            let peer = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            let _ = delays.guess(&number.to_string(), peer, now);
        }
        assert_eq!(delays.records.len(), RECORDS_MAX);
    }
}
