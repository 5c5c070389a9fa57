//! What a read may show.

use std::{fmt, str::FromStr, time::Duration};

/// How fresh a read must be. Set per client, per session or per read.
///
/// ```
/// use highwater_core::Consistency;
/// use std::time::Duration;
///
/// let level: Consistency = "bounded-staleness:250ms".parse()?;
/// assert_eq!(level, Consistency::BoundedStaleness(Duration::from_millis(250)));
/// assert_eq!(level.to_string(), "bounded-staleness:250ms");
/// # Ok::<(), highwater_core::UnknownLevel>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Consistency {
    /// Read from the primary. The reply carries a proof that the node was the primary, and that it
    /// had applied what the session wrote.
    Primary,
    /// Read-your-writes, and reads that never go back: a read also advances the session to the
    /// upper bound of what it may have seen.
    Monotonic,
    /// A session's reads show its own acknowledged writes. Reads may go back in time with respect
    /// to writes of *others*.
    #[default]
    ReadYourWrites,
    /// Read-your-writes, and nothing older than the bound: a read shows every write, whoever made it,
    /// that the primary which this client follows had applied at some moment no longer ago than the
    /// bound when the read began.
    ///
    /// In text, the bound follows a colon, as a whole number of `ns`, `us`, `ms` or `s`:
    /// `bounded-staleness:250ms`.
    BoundedStaleness(Duration),
    /// Any replica's present state, however old. No proof is asked for, and none is paid for.
    Eventual,
}

const BOUNDED_STALENESS: &str = "bounded-staleness";

impl Consistency {
    /// The level's name, without its bound: as labels and logs write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Monotonic => "monotonic",
            Self::ReadYourWrites => "read-your-writes",
            Self::BoundedStaleness(_) => BOUNDED_STALENESS,
            Self::Eventual => "eventual",
        }
    }
}

impl fmt::Display for Consistency {
    /// The level's name, with its bound: as command lines write it, and [`FromStr`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        let Self::BoundedStaleness(bound) = self else {
            return Ok(());
        };
        let nanos = bound.as_nanos();
        let (unit, length) = UNITS
            .into_iter()
            .find(|(_, length)| nanos.is_multiple_of(*length))
            .unwrap_or(("ns", 1));
        write!(f, ":{}{unit}", nanos / length)
    }
}

/// The units of a bound, in nanoseconds, the longest first.
const UNITS: [(&str, u128); 4] = [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];

fn bound(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, length) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let nanos = number.parse::<u128>().ok()?.checked_mul(length)?;
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

impl FromStr for Consistency {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((BOUNDED_STALENESS, length)) = text.split_once(':') {
            return bound(length).map(Self::BoundedStaleness).ok_or(UnknownLevel);
        }
        [
            Self::Primary,
            Self::Monotonic,
            Self::ReadYourWrites,
            Self::Eventual,
        ]
        .into_iter()
        .find(|level| level.as_str() == text)
        .ok_or(UnknownLevel)
    }
}

/// The text names no consistency level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownLevel;

impl fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a consistency level is one of: primary, monotonic, read-your-writes, eventual, or \
             bounded-staleness with its bound, as in bounded-staleness:250ms",
        )
    }
}

impl std::error::Error for UnknownLevel {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_survives_its_text() {
        for level in [
            Consistency::Primary,
            Consistency::Monotonic,
            Consistency::ReadYourWrites,
            Consistency::Eventual,
            Consistency::BoundedStaleness(Duration::ZERO),
            Consistency::BoundedStaleness(Duration::from_millis(250)),
            Consistency::BoundedStaleness(Duration::from_secs(3_600)),
            Consistency::BoundedStaleness(Duration::from_nanos(1_500)),
            Consistency::BoundedStaleness(Duration::MAX),
        ] {
            assert_eq!(level.to_string().parse(), Ok(level), "{level}");
        }
        assert_eq!(
            Consistency::BoundedStaleness(Duration::from_millis(1_500)).to_string(),
            "bounded-staleness:1500ms"
        );
    }

    #[test]
    fn a_bound_needs_a_number_and_a_unit() {
        for text in [
            "",
            "strong",
            "bounded-staleness",
            "bounded-staleness:",
            "bounded-staleness:5",
            "bounded-staleness:ms",
            "bounded-staleness:-1s",
            "bounded-staleness:1.5s",
            "bounded-staleness:1m",
            "bounded-staleness:99999999999999999999999s",
            "eventual:5s",
        ] {
            assert_eq!(text.parse::<Consistency>(), Err(UnknownLevel), "{text}");
        }
    }
}
