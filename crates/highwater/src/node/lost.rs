//! Writes whose connection was lost before their reply came. Each may have been applied, or not, or
//! may still be: the network can deliver it late. A sample on a new connection settles them only
//! once the old one can deliver nothing more (invariant 3): the server was restarted since, or has
//! closed it at our word (`CLIENT KILL ID`), or, where we may not say so, a grace time has passed.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use highwater_core::{History, PendingWrite, Progress};

use crate::defaults::MAX_LOST_WRITES;

/// Which connection of which server process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The server process's `run_id`.
    pub(super) process: Option<String>,
    /// The connection's `CLIENT ID` there.
    pub(super) client: i64,
}

/// What became of a lost connection at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It can deliver nothing more.
    Gone,
    /// We may not close it.
    KillRefused,
}

/// The lost writes of one node.
#[derive(Debug, Default)]
pub(super) struct LostWrites {
    groups: Mutex<Vec<Group>>,
}

/// The lost writes of one connection.
#[derive(Debug)]
struct Group {
    connection: Identity,
    /// The history at the connection's last sample.
    history: History,
    /// When we first were not allowed to close it: the server was alive then, so whatever it still had
    /// of the connection's commands has been coming in since.
    kill_refused: Option<Instant>,
    writes: Vec<PendingWrite>,
}

impl LostWrites {
    fn groups(&self) -> MutexGuard<'_, Vec<Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the writes of a connection that was lost while the node was in `history`. What does not
    /// fit stays in doubt.
    pub(super) fn add(&self, connection: &Identity, history: History, mut writes: Vec<PendingWrite>) {
        if writes.is_empty() {
            return;
        }
        let mut groups = self.groups();
        let kept: usize = groups.iter().map(|group| group.writes.len()).sum();
        writes.truncate(MAX_LOST_WRITES.saturating_sub(kept));
        if writes.is_empty() {
            return;
        }
        groups.push(Group {
            connection: connection.clone(),
            history,
            kill_refused: None,
            writes,
        });
    }

    /// The connections whose writes wait to be settled.
    pub(super) fn connections(&self) -> Vec<Identity> {
        self.groups()
            .iter()
            .map(|group| group.connection.clone())
            .collect()
    }

    /// Those among them after which nobody has asked yet.
    pub(super) fn unasked(&self) -> Vec<Identity> {
        self.groups()
            .iter()
            .filter(|group| group.kill_refused.is_none())
            .map(|group| group.connection.clone())
            .collect()
    }

    /// A new connection has learnt the fates of lost ones, and then taken a sample. Says how many
    /// writes that has settled.
    pub(super) fn learnt(&self, fates: &[(Identity, Fate)], progress: &Progress) -> usize {
        let mut settled = Vec::new();
        self.groups().retain_mut(|group| {
            match fates
                .iter()
                .find(|(connection, _)| *connection == group.connection)
            {
                Some((_, Fate::Gone)) => {
                    settled.push((group.history, std::mem::take(&mut group.writes)));
                    false
                }
                Some((_, Fate::KillRefused)) => {
                    group.kill_refused.get_or_insert_with(Instant::now);
                    true
                }
                None => true,
            }
        });
        settle(settled, progress)
    }

    /// True when some writes have waited for the grace time.
    pub(super) fn any_due(&self, now: Instant, grace: Duration) -> bool {
        self.groups().iter().any(|group| group.is_due(now, grace))
    }

    /// A sample that was asked for at `asked` has come: it settles what was due by then. Says how many
    /// writes that were.
    pub(super) fn sampled(&self, asked: Instant, grace: Duration, progress: &Progress) -> usize {
        let mut settled = Vec::new();
        self.groups().retain_mut(|group| {
            let due = group.is_due(asked, grace);
            if due {
                settled.push((group.history, std::mem::take(&mut group.writes)));
            }
            !due
        });
        settle(settled, progress)
    }
}

impl Group {
    fn is_due(&self, now: Instant, grace: Duration) -> bool {
        self.kill_refused
            .is_some_and(|since| now.saturating_duration_since(since) >= grace)
    }
}

/// Settles writes by where the primary is now, and says how many that has settled.
fn settle(groups: Vec<(History, Vec<PendingWrite>)>, progress: &Progress) -> usize {
    let writes = groups
        .into_iter()
        .flat_map(|(history, writes)| writes.into_iter().map(move |write| (history, write)));
    writes
        .filter_map(|(history, write)| write.settle_doubt(history, progress).then_some(()))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_core::{Role, Scope, Session};

    fn progress(history: History, applied: u64) -> Progress {
        Progress {
            role: Role::Primary,
            history,
            ancestor: None,
            applied,
            link_up: true,
            read_only: true,
        }
    }

    fn in_doubt(session: &Session) -> bool {
        session.marks().written().any(|mark| mark.offset.is_unknown())
    }

    #[test]
    fn only_the_end_of_the_old_connection_settles() {
        let (history, other) = (History::from_bytes([1; 20]), History::from_bytes([2; 20]));
        let connection = Identity {
            process: Some("p".into()),
            client: 7,
        };
        let elsewhere = Identity {
            process: Some("p".into()),
            client: 8,
        };
        let grace = Duration::from_secs(60);
        for (fate, of, doubt) in [
            (Fate::Gone, history, false),
            (Fate::Gone, other, true),
            (Fate::KillRefused, history, true),
        ] {
            let (session, lost) = (Session::new(), LostWrites::default());
            let (mut write, guard) = session.begin_write(&Scope::default(), history);
            guard.replied();
            write.in_doubt();
            lost.add(&connection, history, vec![write]);
            assert!(in_doubt(&session));
            lost.learnt(&[(elsewhere.clone(), Fate::Gone)], &progress(of, 50));
            assert!(in_doubt(&session), "another connection's fate");
            lost.learnt(&[(connection.clone(), fate)], &progress(of, 50));
            assert_eq!(in_doubt(&session), doubt, "{fate:?} {of}");

            // Where we may not close it, time does, and not a moment earlier.
            let refused = fate == Fate::KillRefused;
            let start = Instant::now();
            assert_eq!(lost.any_due(start + grace, grace), refused);
            lost.sampled(start + grace / 2, grace, &progress(of, 60));
            assert_eq!(in_doubt(&session), doubt);
            lost.sampled(start + grace, grace, &progress(of, 60));
            assert_eq!(in_doubt(&session), doubt && !refused);
        }
    }

    #[test]
    fn what_does_not_fit_stays_in_doubt() {
        let history = History::from_bytes([1; 20]);
        let connection = Identity {
            process: None,
            client: 1,
        };
        let (session, lost) = (Session::new(), LostWrites::default());
        let writes = (0..=MAX_LOST_WRITES)
            .map(|_| {
                let (write, guard) = session.begin_write(&Scope::default(), history);
                guard.replied();
                write
            })
            .collect();
        lost.add(&connection, history, writes);
        lost.learnt(&[(connection, Fate::Gone)], &progress(history, 9));
        assert!(in_doubt(&session));
    }
}
