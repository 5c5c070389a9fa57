//! Admission: what a reply must cover, and whether the primary's proof does.

use std::{
    ops::{Deref, DerefMut},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use highwater_core::{Consistency, Coverage, Edges, Progress, Reason, Requirement, Route, Session};
use redis::Value;

use super::{LEAST_BOUND, Reply, Router, acks::is_refused, unmet::Waived};
use crate::{
    command::{Command, Terms},
    error::{Error, ErrorKind},
    node::{Answer, Proof, ProofWanted},
};

/// A read on its way: the command, and what its reply needs.
pub(super) struct Read<'a> {
    pub(super) command: &'a Command,
    pub(super) needs: Needs<'a>,
}

/// A read that may be answered at once.
#[derive(Clone, Copy)]
pub(crate) struct Admitted<'a> {
    pub(super) session: Option<&'a Session>,
    /// As in [`Needs`].
    pub(super) remembered: bool,
    pub(super) reason: Reason,
}

/// What the reply to a read needs so that it may be given out.
pub(crate) struct Needs<'a> {
    pub(crate) session: Option<&'a Session>,
    pub(super) level: Consistency,
    /// What it shows may not be unseen by later reads: it is monotonic, or it belongs to a session or client that is.
    pub(super) remembered: bool,
    /// What the session depends on.
    pub(super) requirement: Requirement,
    /// What a replica must cover, where that is more: a bound on staleness. Boxed, as it is rare.
    pub(super) at_replicas: Option<Box<Requirement>>,
    /// What was taken out of the requirement by policy, if something was. Boxed, as it is rare.
    pub(super) waived: Option<Box<Waived>>,
    /// False: by explicit choice, nothing is.
    pub(super) proven: bool,
}

impl Router {
    /// What the reply to a command must cover, as far as that is known.
    pub(super) fn snapshot<'a>(&self, command: &'a Command) -> Read<'a> {
        Read {
            command,
            needs: self.needs(command.terms()),
        }
    }

    /// The same of a command under these terms.
    pub(super) fn needs<'a>(&self, Terms { session, level }: Terms<'a>) -> Needs<'a> {
        let (level, usual, requirement) = match session {
            Some(session) => session.read(&self.scope, level, self.level),
            None => {
                let level = level.unwrap_or(self.level);
                (level, level, Requirement::default())
            }
        };
        Needs {
            session,
            level,
            remembered: is_remembered(level, usual),
            requirement: if self.proofs {
                requirement
            } else {
                Requirement::default()
            },
            at_replicas: None,
            waived: None,
            proven: self.proofs,
        }
    }

    /// What the reply to a read must cover. What is not known is settled first.
    pub(super) async fn prepare<'a>(&self, command: &'a Command) -> Result<Read<'a>, Error> {
        let mut read = self.snapshot(command);
        let Some(session) = read.session else {
            return Ok(read);
        };
        if read.requirement.in_doubt() {
            // Rare, so it does not make the other reads' futures larger.
            Box::pin(self.resolve_doubt(session, &mut read)).await?;
        }
        if !read.requirement.is_empty() {
            read.waived = self.waive(&mut read.requirement);
        }
        Ok(read)
    }

    /// Settles what the session is in doubt about, as far as a sample of the primary can.
    async fn resolve_doubt(&self, session: &Session, read: &mut Needs<'_>) -> Result<(), Error> {
        // More doubt can come in meanwhile; a session that is flooded with it stays in doubt.
        for _ in 0..3 {
            if !read.requirement.needs_barrier() {
                break;
            }
            self.settle_doubt(session, &read.requirement).await?;
            read.requirement = session.requirement(&self.scope, read.level);
        }
        if read.requirement.in_doubt() {
            self.settle_overdue(session, read).await?;
        }
        Ok(())
    }

    /// Replaces "it is not known what this session depends on" by where the primary is now.
    async fn settle_doubt(&self, session: &Session, requirement: &Requirement) -> Result<(), Error> {
        let progress = self.sample_primary().await?;
        self.counters.count_barrier();
        session.settle_doubt(requirement, &self.mark(&progress));
        Ok(())
    }

    /// Settles writes of unknown place that a token told of, once they are so old that none can still
    /// happen: the grace time of lost connections, and as much again for clocks that differ.
    async fn settle_overdue(&self, session: &Session, read: &mut Needs<'_>) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Some(since) = read.requirement.in_doubt_since() else {
            session.date_doubt(&self.scope, now.as_secs());
            return Ok(());
        };
        if now.saturating_sub(Duration::from_secs(since)) >= self.doubt_grace * 2 {
            let progress = self.sample_primary().await?;
            session.settle_overdue(&read.requirement, &self.mark(&progress));
            read.requirement = session.requirement(&self.scope, read.level);
        }
        Ok(())
    }

    /// The primary's address, for messages.
    pub(super) fn primary_name(&self) -> String {
        self.primary().map_or_else(
            |_| String::from("the primary"),
            |primary| primary.address.to_string(),
        )
    }

    pub(super) fn unproven(&self) -> Error {
        Error::new(
            ErrorKind::Unavailable,
            format!(
                "{} does not prove to be the primary: it was demoted, replaced or restarted; check the topology",
                self.primary_name()
            ),
        )
    }

    /// Compares what the primary proves with what the read must cover, and tells the session.
    ///
    /// Only for a reply that is given out at once: a loss that the session has been told of is said by this reply or never.
    ///
    /// # Errors
    ///
    /// When it does not cover it, and the policy is to fail.
    pub(super) fn admit(
        &self,
        read: &Needs<'_>,
        progress: &Progress,
        reason: Reason,
    ) -> Result<Reason, Error> {
        let coverage = if read.requirement.needs_barrier() {
            // Doubt that has come in since it was last settled: the primary's present state has what it stands for. It
            // must not hide what is known of the other marks.
            self.judge_by_primary(read.session, &read.requirement.without_barrier(), progress)
        } else {
            self.judge_by_primary(read.session, &read.requirement, progress)
        };
        let reason = if coverage == Coverage::Covered {
            reason
        } else {
            self.unmet(read, coverage, progress)?
        };
        if let Some(session) = read.session {
            session.proven_by_primary(&self.scope, &read.requirement, progress, &self.edges());
            if read.remembered {
                session.add_read(&self.mark(progress));
            }
        }
        Ok(reason)
    }

    /// Judges the reply to a unit that has written. What falls short of the requirement is counted and
    /// visible; it is given out all the same, unless it `shows` keys, as replies to reads do and scripts' may (what was refused
    /// shows none), and the policy is to fail those or the node does not prove to be the primary.
    pub(super) fn admit_write(
        &self,
        command: &Command,
        read: &Needs<'_>,
        answer: &Answer,
        shows: impl Fn() -> bool,
    ) -> Result<Reason, Error> {
        if read.level == Consistency::Eventual || !self.check_proofs {
            return Ok(Reason::Command);
        }
        let shows = || !is_refused(command, &answer.value) && shows();
        let marks_alone;
        let read = if read.requirement.needs_barrier() {
            // What a token that can't be read stood for is in the primary's present state, and a write is not held
            // up for a sample of it: that of the node which has answered is enough, if it proves to be the primary. The marks
            // that the session has besides are judged as ever.
            if !matches!(answer.proof, Proof::Between(..)) && shows() {
                return Err(carried_out(self.unproven()));
            }
            marks_alone = read.without_barrier();
            &marks_alone
        } else {
            read
        };
        if read.requirement.is_empty() {
            return Ok(Reason::Command);
        }
        let outcome = match answer.proof {
            Proof::Between(progress, _)
                if self.coverage(&read.requirement, &progress) == Coverage::Covered =>
            {
                return Ok(Reason::Command);
            }
            Proof::Between(progress, _) => self.admit(read, &progress, Reason::Command),
            Proof::None | Proof::Refused => Err(self.unproven()),
        };
        outcome.or_else(|error| match error.kind() {
            _ if shows() => Err(carried_out(error)),
            ErrorKind::PossiblyLost => Ok(Reason::PossiblyLost),
            ErrorKind::UnknownHistory => Ok(Reason::UnknownHistory),
            _ => Ok(Reason::Command),
        })
    }

    pub(super) fn coverage(&self, requirement: &Requirement, progress: &Progress) -> Coverage {
        // Nearly always the histories are equal, and no edge is looked at.
        let known = Edges::default();
        match requirement.coverage(progress, &known) {
            Coverage::Covered => Coverage::Covered,
            _ => requirement.coverage(progress, &self.edges()),
        }
    }
}

impl<'a> Admitted<'a> {
    /// At this level (which in the session is usually the second one), and if something had to be covered, that is.
    pub(super) fn new(
        session: &'a Session,
        (level, usual): (Consistency, Consistency),
        anything_required: bool,
    ) -> Self {
        Self {
            session: Some(session),
            remembered: is_remembered(level, usual),
            reason: usual_reason(level, anything_required),
        }
    }
}

impl<'a> Deref for Read<'a> {
    type Target = Needs<'a>;

    fn deref(&self) -> &Needs<'a> {
        &self.needs
    }
}

impl DerefMut for Read<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.needs
    }
}

impl<'a> Needs<'a> {
    fn without_barrier(&self) -> Self {
        Self {
            requirement: self.requirement.without_barrier(),
            at_replicas: self.at_replicas.clone(),
            waived: self.waived.clone(),
            ..*self
        }
    }

    /// A replica's reply, which may be given out.
    pub(super) fn answered(&self, value: Value) -> Reply {
        Reply {
            value,
            route: Route::Replica,
            reason: self.usual_reason(),
            acks: None,
        }
    }

    /// Why a replica or the cache may answer at once.
    fn usual_reason(&self) -> Reason {
        usual_reason(self.level, !self.at_replicas().is_empty())
    }

    /// What shows enough may answer; `waited`: something was waited for.
    pub(crate) fn admitted(&self, waited: bool) -> Admitted<'a> {
        Admitted {
            session: self.session,
            remembered: self.remembered,
            reason: match self.usual_reason() {
                Reason::Covered if waited => Reason::Waited,
                reason => reason,
            },
        }
    }

    /// The proof that this read needs of a replica.
    pub(super) fn replicas_proof(&self) -> ProofWanted {
        match self.level {
            Consistency::Monotonic if self.session.is_some() => ProofWanted::Both,
            _ if self.at_replicas().is_empty() => ProofWanted::Nothing,
            _ => ProofWanted::Leading,
        }
    }

    /// The proof that this read needs of the primary.
    pub(super) fn primarys_proof(&self) -> ProofWanted {
        if !self.proven
            || self.level == Consistency::Eventual
            || (self.requirement.is_empty() && self.level == Consistency::ReadYourWrites)
        {
            ProofWanted::Nothing
        } else {
            ProofWanted::Trailing
        }
    }

    /// Its level has a bound of staleness that replicas can keep to.
    pub(super) fn may_be_older(&self) -> bool {
        matches!(self.level, Consistency::BoundedStaleness(bound) if bound >= LEAST_BOUND)
    }

    /// What a replica must cover.
    pub(super) fn at_replicas(&self) -> &Requirement {
        self.at_replicas.as_deref().unwrap_or(&self.requirement)
    }
}

/// Whether any replica may answer at this level, and the near cache, if it shows what the session depends on.
pub(super) fn is_anyones(level: Consistency) -> bool {
    matches!(
        level,
        Consistency::Monotonic | Consistency::ReadYourWrites | Consistency::Eventual
    )
}

/// Why what shows enough may answer at once.
fn usual_reason(level: Consistency, anything_required: bool) -> Reason {
    match level {
        Consistency::Eventual => Reason::Level,
        _ if anything_required => Reason::Covered,
        _ => Reason::NoRequirement,
    }
}

/// Whether what such a read shows may not be unseen by later ones, if the usual level of its session or client is this.
fn is_remembered(level: Consistency, usual: Consistency) -> bool {
    [level, usual].contains(&Consistency::Monotonic)
}

/// What the commands did has happened, whatever their replies are worth.
fn carried_out(error: Error) -> Error {
    let kind = match error.kind() {
        // Nobody may take this for "nothing was sent".
        ErrorKind::Unavailable => ErrorKind::InDoubt,
        kind => kind,
    };
    Error::new(
        kind,
        "the commands were sent and answered, but what they read can't be given out",
    )
    .with_source(error)
}
