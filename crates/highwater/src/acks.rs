//! Writes that wait for replicas: what a caller asks for, and what came of it.

use std::time::Duration;

use crate::defaults::MAX_ACKS_TIMEOUT;

/// What a write is to wait for, beyond the primary's own reply: that replicas have applied it, or that it is on disk. For
/// [`Command::acks`](crate::Command::acks) and [`SessionConnection::acks`](crate::SessionConnection::acks).
///
/// ```
/// use highwater::Acks;
/// use std::time::Duration;
///
/// // One replica has applied it.
/// let replicated = Acks::replicas(1, Duration::from_millis(500));
/// // The primary and one replica have it in their append-only files, and these on their disks.
/// let on_disk = replicated.fsynced_by_primary().fsynced_by_replicas();
/// assert_eq!((on_disk.wanted(), on_disk.timeout()), (1, Duration::from_millis(500)));
/// ```
///
/// Such writes travel on two connections that are opened for them at first use, on which each flush ends with `WAIT` or `WAITAOF`: the
/// user needs the rights `+wait`; for what is to be on disk, `+waitaof`; and for writes that may change nothing, `+publish` and
/// `&highwater:acks`. Reads pay no heed to this. Commands that block and
/// write are refused with it.
///
/// What an acknowledgement is worth, and what it is not, is in docs/GUARANTEE.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Acks {
    // Small, since every command's future has room for it.
    replicas: u16,
    millis: u16,
    by_primary: bool,
    by_replicas: bool,
}

/// What has been acknowledged of a write: in [`Reply::acks`](crate::Reply::acks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Acked {
    /// How many replicas have applied it; with [`Acks::fsynced_by_replicas`], how many have it in an append-only file that
    /// has been synced. The server does not say which ones.
    pub replicas: u32,
    /// The primary has it in its append-only file, which has been synced. False where that was not asked.
    pub fsynced_by_primary: bool,
}

/// One question to the server that a write waits for. In the order in which a flush asks them: who asks for less is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    /// `WAIT`: for so many replicas.
    Applied(u32),
    /// `WAITAOF`: for the primary if so, and for so many replicas.
    Synced(bool, u32),
}

impl Acks {
    /// So many replicas have applied it. The server waits for them for at least `timeout`: from a millisecond to
    /// [`MAX_ACKS_TIMEOUT`](crate::defaults::MAX_ACKS_TIMEOUT), to which others are moved.
    ///
    /// Writes that travel together share one wait, which is as long as the longest that one of them asks for, and
    /// those that come later stand in line behind it. Writes that are in flight at once are in no order among each other, as
    /// with several connections a node. To bound one's own wait, put a timeout around the future: the
    /// write has happened all the same.
    #[must_use]
    pub const fn replicas(count: u32, timeout: Duration) -> Self {
        let timeout = if timeout.as_nanos() > MAX_ACKS_TIMEOUT.as_nanos() {
            MAX_ACKS_TIMEOUT
        } else {
            timeout
        };
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        let count = if count > u16::MAX as u32 {
            u16::MAX as u32
        } else {
            count
        };
        #[expect(clippy::cast_possible_truncation, reason = "neither is larger")]
        let (replicas, millis) = (count as u16, if millis == 0 { 1 } else { millis as u16 });
        Self {
            replicas,
            millis,
            by_primary: false,
            by_replicas: false,
        }
    }

    /// The primary has it in its append-only file as well, and that has been synced. Needs a server with `WAITAOF`
    /// (Redis 7.2, Valkey) and with `appendonly yes`.
    #[must_use]
    pub const fn fsynced_by_primary(mut self) -> Self {
        self.by_primary = true;
        self
    }

    /// Only those replicas count that have it in their append-only file, which has been synced. Needs servers with
    /// `WAITAOF` (Redis 7.2, Valkey); replicas without `appendonly yes` never count.
    #[must_use]
    pub const fn fsynced_by_replicas(mut self) -> Self {
        self.by_replicas = true;
        self
    }

    /// How many replicas are waited for.
    #[must_use]
    pub const fn wanted(&self) -> u32 {
        self.replicas as u32
    }

    /// For how long the server waits, at least.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        Duration::from_millis(self.millis as u64)
    }

    pub(crate) fn millis(&self) -> u16 {
        self.millis
    }

    /// True when the server must know `WAITAOF`.
    pub(crate) fn on_disk(&self) -> bool {
        self.by_primary || self.by_replicas
    }

    /// What the server is asked.
    pub(crate) fn waits(&self) -> impl Iterator<Item = Wait> {
        let applied = (!self.by_replicas).then_some(Wait::Applied(self.wanted()));
        let at_replicas = if self.by_replicas { self.wanted() } else { 0 };
        let synced = self
            .on_disk()
            .then_some(Wait::Synced(self.by_primary, at_replicas));
        applied.into_iter().chain(synced)
    }

    pub(crate) fn are_met_by(&self, acked: &Acked) -> bool {
        acked.replicas >= self.wanted() && (acked.fsynced_by_primary || !self.by_primary)
    }

    /// Adds what the server has counted.
    pub(crate) fn count(&self, wait: Wait, counted: &Acked, sum: &mut Acked) {
        match wait {
            Wait::Applied(_) => sum.replicas = counted.replicas,
            Wait::Synced(..) => {
                sum.fsynced_by_primary = self.by_primary && counted.fsynced_by_primary;
                if self.by_replicas {
                    sum.replicas = counted.replicas;
                }
            }
        }
    }
}

const _: () = assert!(
    MAX_ACKS_TIMEOUT.as_millis() <= u16::MAX as u128,
    "milliseconds are kept in 16 bits"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_what_is_judged() {
        let plain = Acks::replicas(2, Duration::from_millis(7));
        let acked = |replicas, fsynced_by_primary| Acked {
            replicas,
            fsynced_by_primary,
        };
        for (acks, waits, enough, short) in [
            (plain, vec![Wait::Applied(2)], acked(2, false), acked(1, true)),
            (
                plain.fsynced_by_primary(),
                vec![Wait::Applied(2), Wait::Synced(true, 0)],
                acked(3, true),
                acked(3, false),
            ),
            (
                plain.fsynced_by_replicas(),
                vec![Wait::Synced(false, 2)],
                acked(2, false),
                acked(1, true),
            ),
            (
                plain.fsynced_by_primary().fsynced_by_replicas(),
                vec![Wait::Synced(true, 2)],
                acked(2, true),
                acked(2, false),
            ),
        ] {
            assert_eq!(acks.waits().collect::<Vec<_>>(), waits);
            assert!(acks.are_met_by(&enough) && !acks.are_met_by(&short), "{acks:?}");
        }
    }

    /// `WAITAOF 1 0` tells how many replicas have synced as well, which is not what `WAIT` is asked.
    #[test]
    fn each_wait_counts_for_what_it_was_asked() {
        let acks = Acks::replicas(1, Duration::from_millis(7)).fsynced_by_primary();
        let mut sum = Acked::default();
        let applied = Acked {
            replicas: 2,
            fsynced_by_primary: false,
        };
        let synced = Acked {
            replicas: 0,
            fsynced_by_primary: true,
        };
        acks.count(Wait::Applied(1), &applied, &mut sum);
        acks.count(Wait::Synced(true, 0), &synced, &mut sum);
        assert_eq!((sum.replicas, sum.fsynced_by_primary), (2, true));
    }

    /// 0 would be for ever.
    #[test]
    fn no_timeout_is_none_or_without_end() {
        for (given, taken) in [
            (Duration::ZERO, Duration::from_millis(1)),
            (Duration::from_micros(1), Duration::from_millis(1)),
            (Duration::from_micros(2500), Duration::from_millis(3)),
            (Duration::MAX, MAX_ACKS_TIMEOUT),
        ] {
            assert_eq!(Acks::replicas(1, given).timeout(), taken);
        }
    }
}
