//! Buckets of time: the messages of a delayed exchange that are due in the same minute, hour or day lie in one hidden
//! queue. Which of the three it is depends on how far away they are due, so that a delay of years costs few queues
//! and the last hour is cut finely.

use crate::names::QueueName;
use crate::time::Timestamp;

/// What the names of these queues begin with. No client can declare or reach a name that begins so.
const PREFIX: &str = "amq.leveret.delayed.";

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// How much time a bucket covers.
///
/// INVARIANT: of two messages that are due at the same time, the one published earlier was due no less far away, so
/// its bucket comes no later in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Span {
    /// For what is due in more than two days.
    Day,
    /// For what is due in more than an hour.
    Hour,
    /// For what is due sooner.
    Minute,
}

impl Span {
    const ALL: [Self; 3] = [Self::Day, Self::Hour, Self::Minute];

    fn for_distance(milliseconds: u64) -> Self {
        match milliseconds {
            0..=HOUR_MS => Self::Minute,
            _ if milliseconds <= 2 * DAY_MS => Self::Hour,
            _ => Self::Day,
        }
    }

    fn milliseconds(self) -> u64 {
        match self {
            Self::Day => DAY_MS,
            Self::Hour => HOUR_MS,
            Self::Minute => MINUTE_MS,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Day => 'd',
            Self::Hour => 'h',
            Self::Minute => 'm',
        }
    }
}

/// The messages that are due in a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bucket {
    number: u64,
    pub(crate) span: Span,
}

impl Bucket {
    /// The one of a message published now that is due at `due`.
    pub(crate) fn of(due: Timestamp, now: Timestamp) -> Self {
        Self::containing(due, Span::for_distance(due.0.saturating_sub(now.0)))
    }

    /// The one of this span that `due` lies in.
    pub(crate) fn containing(due: Timestamp, span: Span) -> Self {
        Self { number: due.0 / span.milliseconds(), span }
    }

    /// Nothing in it is due before.
    pub(crate) fn begins_at(self) -> Timestamp {
        Timestamp(self.number.saturating_mul(self.span.milliseconds()))
    }

    /// All of it is due before.
    pub(crate) fn ends_at(self) -> Timestamp {
        self.begins_at().after_ms(self.span.milliseconds())
    }

    /// The last time that lies in it.
    pub(crate) fn last(self) -> Timestamp {
        self.begins_at().after_ms(self.span.milliseconds() - 1)
    }

    /// Name of its queue.
    pub(crate) fn queue_name(self, exchange: &str) -> QueueName {
        format!("{PREFIX}{}{}.{exchange}", self.span.letter(), self.number).into()
    }

    /// The bucket and its exchange by the name of its queue; `None` for other queues.
    pub(crate) fn named(queue: &str) -> Option<(Self, &str)> {
        let (bucket, exchange) = queue.strip_prefix(PREFIX)?.split_once('.')?;
        let span = Span::ALL.into_iter().find(|span| bucket.starts_with(span.letter()))?;
        let number = bucket.get(1..)?.parse().ok()?;
        Some((Self { number, span }, exchange))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_distance_decides_how_fine_the_bucket_is() {
        let now = Timestamp(1_000_000 * DAY_MS);
        let span = |distance| Bucket::of(now.after_ms(distance), now).span;
        assert_eq!([span(0), span(HOUR_MS)], [Span::Minute; 2]);
        assert_eq!([span(HOUR_MS + 1), span(2 * DAY_MS)], [Span::Hour; 2]);
        assert_eq!([span(2 * DAY_MS + 1), span(3650 * DAY_MS)], [Span::Day; 2]);
        assert_eq!(Bucket::of(Timestamp(5), now).span, Span::Minute, "due long ago");
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_time_and_is_known_by_its_name(
            now in 0..u64::MAX / 4, distance in 0..4000 * DAY_MS, exchange in ".{0,40}",
        ) {
            let due = Timestamp(now + distance);
            let bucket = Bucket::of(due, Timestamp(now));
            prop_assert!(bucket.begins_at() <= due && due < bucket.ends_at());
            let name = bucket.queue_name(&exchange);
            prop_assert_eq!(Bucket::named(name.as_str()), Some((bucket, &*exchange)));
        }
    }
}
