//! Marks: everything that one user depends on.

use crate::{History, Mark, Offset, Point, Requirement, Scope};

/// How many (scope, history) pairs one set of marks holds. What does not fit becomes doubt
/// (invariant 5), never silence.
pub const MAX_MARKS: usize = 24;

/// The set of marks that one user depends on: what they wrote and what they read, for each
/// (scope, history), and the scopes for which it is not known what they depend on.
///
/// A pure value with a [`merge`](Self::merge) that never lowers anything; a [`Session`](crate::Session)
/// is the shared handle on one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Marks {
    /// Sorted by (scope, history).
    entries: Vec<Entry>,
    doubt: Doubt,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) scope: Scope,
    pub(crate) history: History,
    /// The furthest write of the user.
    pub(crate) written: Option<Offset>,
    /// The furthest state that the user may have seen.
    pub(crate) read: Option<Offset>,
}

/// The scopes for which it is not known what the user depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Doubt {
    /// None: the marks are all there is.
    #[default]
    Nowhere,
    /// Every scope but these (sorted), which have been settled since.
    Except(Vec<Scope>),
}

impl Doubt {
    fn is_about(&self, scope: &Scope) -> bool {
        match self {
            Self::Nowhere => false,
            Self::Except(settled) => settled.binary_search(scope).is_err(),
        }
    }

    fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Nowhere) => {}
            (Self::Nowhere, Self::Except(_)) => *self = other.clone(),
            (Self::Except(mine), Self::Except(theirs)) => {
                mine.retain(|scope| theirs.binary_search(scope).is_ok());
            }
        }
    }
}

impl Marks {
    /// Depends on nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Depends on it is not known what: the meaning of a token that can't be read.
    #[must_use]
    pub fn in_doubt() -> Self {
        Self {
            entries: Vec::new(),
            doubt: Doubt::Except(Vec::new()),
        }
    }

    /// True when nothing is depended on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.doubt == Doubt::Nowhere
    }

    /// True when it is not known what the user depends on in this scope.
    #[must_use]
    pub fn is_in_doubt(&self, scope: &Scope) -> bool {
        self.doubt.is_about(scope)
    }

    /// The marks of writes.
    pub fn written(&self) -> impl Iterator<Item = Mark> + '_ {
        self.entries
            .iter()
            .filter_map(|entry| entry.written.map(|offset| entry.mark(offset)))
    }

    /// The marks of reads (levels above read-your-writes leave them).
    pub fn read(&self) -> impl Iterator<Item = Mark> + '_ {
        self.entries
            .iter()
            .filter_map(|entry| entry.read.map(|offset| entry.mark(offset)))
    }

    /// Adds a write's mark. True when the marks moved.
    pub fn add_written(&mut self, mark: &Mark) -> bool {
        self.raise(&mark.scope, mark.history, Some(mark.offset), None)
    }

    /// Adds the mark of a state that the user may have seen. True when the marks moved.
    pub fn add_read(&mut self, mark: &Mark) -> bool {
        self.raise(&mark.scope, mark.history, None, Some(mark.offset))
    }

    /// The maximum of both. Commutative, associative and idempotent (as long as
    /// [`MAX_MARKS`] is not passed), and never lowers a mark. True when the marks moved.
    pub fn merge(&mut self, other: &Self) -> bool {
        let before = self.doubt.clone();
        self.doubt.merge(&other.doubt);
        let mut moved = self.doubt != before;
        for entry in &other.entries {
            moved |= self.raise(&entry.scope, entry.history, entry.written, entry.read);
        }
        moved
    }

    /// Settles the doubt of one scope: `mark` is where the primary was at a moment after the user
    /// arrived. True when the marks moved.
    pub fn settle(&mut self, mark: &Mark) -> bool {
        let Doubt::Except(settled) = &mut self.doubt else {
            return false;
        };
        match settled.binary_search(&mark.scope) {
            Ok(_) => return false,
            Err(place) => settled.insert(place, mark.scope.clone()),
        }
        self.make_room_for(mark);
        self.add_written(mark);
        true
    }

    /// Drops a mark from a full set that has none for (scope, history), or else adding the mark by
    /// which the doubt of its scope is settled would only bring the doubt back, for ever.
    fn make_room_for(&mut self, mark: &Mark) {
        let place = self
            .entries
            .binary_search_by(|entry| (&entry.scope, entry.history).cmp(&(&mark.scope, mark.history)));
        if place.is_ok() || !self.is_full() {
            return;
        }
        // One of the same scope becomes part of the doubt that is being settled.
        match self.entries.iter().position(|entry| entry.scope == mark.scope) {
            Some(same) => drop(self.entries.remove(same)),
            // One of another scope leaves that scope in doubt.
            None => {
                if let (Some(other), Doubt::Except(settled)) = (self.entries.pop(), &mut self.doubt) {
                    settled.retain(|scope| *scope != other.scope);
                }
            }
        }
    }

    /// What a read in `scope` must cover. `with_reads` adds what the user has seen (monotonic reads)
    /// to what they wrote.
    #[must_use]
    pub fn requirement(&self, scope: &Scope, with_reads: bool) -> Requirement {
        let mut requirement = Requirement::new(self.points(scope, with_reads));
        if self.is_in_doubt(scope) {
            requirement.set_barrier();
        }
        requirement
    }

    /// What of it is known.
    pub(crate) fn points(&self, scope: &Scope, with_reads: bool) -> impl Iterator<Item = Point> {
        let own = self.entries.iter().filter(move |entry| entry.scope == *scope);
        own.filter_map(move |entry| {
            let offset = if with_reads {
                entry.written.max(entry.read)
            } else {
                entry.written
            };
            Some(Point {
                history: entry.history,
                offset: offset?,
            })
        })
    }

    /// Rewrites the marks of `scope` that lie in the shared prefix of `history` and one of its
    /// ancestors as marks of `history`, so that tokens don't grow with each failover. `fork` gives the
    /// first offset that an ancestor does not share. Other marks stay (invariant 4).
    pub fn rebase(&mut self, scope: &Scope, history: History, fork: impl Fn(History) -> Option<u64>) -> bool {
        let moves = |entry: &Entry| {
            entry.scope == *scope
                && entry.history != history
                && fork(entry.history).is_some_and(|fork| {
                    entry
                        .written
                        .max(entry.read)
                        .and_then(Offset::position)
                        .is_some_and(|offset| offset < fork)
                })
        };
        if !self.entries.iter().any(moves) {
            return false;
        }
        let (old, kept) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition::<Vec<_>, _>(moves);
        self.entries = kept;
        for entry in old {
            self.raise(scope, history, entry.written, entry.read);
        }
        true
    }

    /// Replaces the marks of `scope` up to `lost` by marks at `at` in `history`. Only for marks whose
    /// loss has been reported, in an ancestor of `history`; further ones in the ancestor stay, since
    /// nobody has been told of them.
    pub(crate) fn replace(&mut self, scope: &Scope, lost: Point, history: History, at: Offset) -> bool {
        let Some(place) = self
            .entries
            .iter()
            .position(|e| e.scope == *scope && e.history == lost.history)
        else {
            return false;
        };
        let old = self.entries.remove(place);
        let reported = |offset: &Offset| *offset <= lost.offset;
        let further = |offset: &Offset| *offset > lost.offset;
        let (written, read) = (old.written.filter(further), old.read.filter(further));
        if written.is_some() || read.is_some() {
            self.raise(scope, lost.history, written, read);
        }
        let (written, read) = (old.written.filter(reported), old.read.filter(reported));
        if written.is_none() && read.is_none() {
            return false;
        }
        self.raise(scope, history, written.map(|_| at), read.map(|_| at));
        true
    }

    /// Dates the unknown places in `scope` that say no time.
    pub(crate) fn date_doubt(&mut self, scope: &Scope, now: u64) {
        let entries = self.entries.iter_mut().filter(|entry| entry.scope == *scope);
        for written in entries.filter_map(|entry| entry.written.as_mut()) {
            if *written == Offset::UNKNOWN {
                *written = Offset::unknown_since(now);
            }
        }
    }

    /// Replaces a write's unknown place in (scope, `at`'s history), if it is not later than `known`, by `at`.
    /// True when the marks moved.
    pub(crate) fn settle_unknown(&mut self, known: Offset, at: &Mark) -> bool {
        let entry = self
            .entries
            .iter_mut()
            .find(|e| e.scope == at.scope && e.history == at.history);
        match entry.and_then(|entry| entry.written.as_mut()) {
            Some(written) if written.is_unknown() && *written <= known => {
                *written = at.offset;
                true
            }
            _ => false,
        }
    }

    /// Lowers a mark of (scope, history) to `reached` where it lies beyond: no server has ever been
    /// there, so the token that said so is not to be believed further.
    pub(crate) fn clamp(&mut self, scope: &Scope, history: History, reached: Offset) -> bool {
        let mut moved = false;
        for entry in self
            .entries
            .iter_mut()
            .filter(|e| e.scope == *scope && e.history == history)
        {
            for offset in [&mut entry.written, &mut entry.read].into_iter().flatten() {
                if !offset.is_unknown() && *offset > reached {
                    *offset = reached;
                    moved = true;
                }
            }
        }
        moved
    }

    fn raise(
        &mut self,
        scope: &Scope,
        history: History,
        written: Option<Offset>,
        read: Option<Offset>,
    ) -> bool {
        match self
            .entries
            .binary_search_by(|entry| (&entry.scope, entry.history).cmp(&(scope, history)))
        {
            Ok(place) => {
                let Some(entry) = self.entries.get_mut(place) else {
                    return false;
                };
                let moved = written > entry.written || read > entry.read;
                entry.written = entry.written.max(written);
                entry.read = entry.read.max(read);
                moved
            }
            Err(place) if !self.is_full() => {
                self.entries.insert(
                    place,
                    Entry {
                        scope: scope.clone(),
                        history,
                        written,
                        read,
                    },
                );
                true
            }
            Err(_) => {
                // Too many: from here on it is not known what the user depends on in this scope.
                match &mut self.doubt {
                    Doubt::Nowhere => {
                        let mut others: Vec<_> =
                            self.entries.iter().map(|entry| entry.scope.clone()).collect();
                        others.dedup();
                        others.retain(|other| other != scope);
                        self.doubt = Doubt::Except(others);
                    }
                    Doubt::Except(settled) => settled.retain(|other| other != scope),
                }
                true
            }
        }
    }

    /// True when another (scope, history) would become doubt.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_MARKS
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn doubt(&self) -> &Doubt {
        &self.doubt
    }

    pub(crate) fn set_doubt(&mut self, doubt: Doubt) {
        self.doubt = doubt;
    }

    /// Adds a decoded entry; false when it is out of order or too many.
    pub(crate) fn push_decoded(&mut self, entry: Entry) -> bool {
        let in_order = self
            .entries
            .last()
            .is_none_or(|last| (&last.scope, last.history) < (&entry.scope, entry.history));
        let fits = !self.is_full();
        if in_order && fits {
            self.entries.push(entry);
        }
        in_order && fits
    }
}

impl Entry {
    fn mark(&self, offset: Offset) -> Mark {
        Mark {
            scope: self.scope.clone(),
            history: self.history,
            offset,
        }
    }
}
