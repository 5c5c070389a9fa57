//! What a read must cover.

use crate::{Coverage, Edges, History, Offset, Progress};

/// One point that a proof must cover: an offset in a history of the client's own scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// The history that `offset` counts in.
    pub history: History,
    /// How far into the history.
    pub offset: Offset,
}

/// What a read must cover: a snapshot of the session's marks in one scope.
///
/// An empty requirement is met by any node, and asks for no proof.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requirement {
    points: Points,
    barrier: bool,
    clock: u64,
}

/// Nearly every session has one mark; it is kept without allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
enum Points {
    #[default]
    None,
    One(Point),
    Many(Vec<Point>),
}

impl Requirement {
    /// The requirement to cover these points.
    pub fn new(points: impl IntoIterator<Item = Point>) -> Self {
        let mut requirement = Self::default();
        for point in points {
            requirement.push(point);
        }
        requirement
    }

    /// The same requirement, and this point besides.
    #[must_use]
    pub fn and(mut self, point: Point) -> Self {
        self.push(point);
        self
    }

    /// Takes out the points that `unmet` says yes to: a policy has decided that a read is to be
    /// answered without them. What is given back has them, and was taken when this one was.
    #[must_use]
    pub fn waive(&mut self, unmet: impl Fn(&Point) -> bool) -> Self {
        if !self.points().iter().any(&unmet) {
            return Self::default();
        }
        let (waived, kept) = self.points().iter().copied().partition::<Vec<_>, _>(unmet);
        let with_clock = |points: Vec<Point>| Self {
            clock: self.clock,
            ..Self::new(points)
        };
        let (waived, kept) = (with_clock(waived), with_clock(kept));
        self.points = kept.points;
        waived
    }

    /// The points alone: what is known of what must be covered.
    #[must_use]
    pub fn without_barrier(&self) -> Self {
        Self {
            barrier: false,
            ..self.clone()
        }
    }

    /// Adds a point.
    pub(crate) fn push(&mut self, point: Point) {
        match &mut self.points {
            Points::None => self.points = Points::One(point),
            Points::One(one) if one.history == point.history => one.offset = one.offset.max(point.offset),
            Points::One(one) => self.points = Points::Many(vec![*one, point]),
            Points::Many(many) => match many.iter_mut().find(|p| p.history == point.history) {
                Some(same) => same.offset = same.offset.max(point.offset),
                None => many.push(point),
            },
        }
    }

    pub(crate) fn set_barrier(&mut self) {
        self.barrier = true;
    }

    pub(crate) fn set_clock(&mut self, clock: u64) {
        self.clock = clock;
    }

    /// The session's clock when this snapshot was taken: only what the session knew by then may be
    /// settled by a sample that was asked for later.
    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    pub(crate) fn clock_mut(&mut self) -> &mut u64 {
        &mut self.clock
    }

    /// The points, at most one a history.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        match &self.points {
            Points::None => &[],
            Points::One(one) => std::slice::from_ref(one),
            Points::Many(many) => many,
        }
    }

    /// True when nothing has to be covered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.barrier && matches!(self.points, Points::None)
    }

    /// True when it is not known what the session depends on (a bad token): one sample of the
    /// primary, begun after the session arrived, settles it.
    #[must_use]
    pub fn needs_barrier(&self) -> bool {
        self.barrier
    }

    /// True when some point has no known place: only the primary can answer.
    #[must_use]
    pub fn in_doubt(&self) -> bool {
        self.barrier || self.points().iter().any(|point| point.offset.is_unknown())
    }

    /// Since when (Unix seconds) the latest of the points without a known place is in doubt; `None` when
    /// there is no such point, or one of them does not say.
    #[must_use]
    pub fn in_doubt_since(&self) -> Option<u64> {
        let unknown = self
            .points()
            .iter()
            .map(|point| point.offset)
            .filter(|offset| offset.is_unknown());
        unknown.max().and_then(Offset::since)
    }

    /// The worst coverage among the points. A requirement that still needs its barrier is not met.
    #[must_use]
    pub fn coverage(&self, progress: &Progress, edges: &Edges) -> Coverage {
        if self.barrier {
            return Coverage::Behind;
        }
        self.points()
            .iter()
            .map(|point| progress.covers(point.history, point.offset, edges))
            .max()
            .unwrap_or(Coverage::Covered)
    }
}
