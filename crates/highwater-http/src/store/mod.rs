//! What requests of one session learn in parallel, kept together (feature `store`).

mod body;
mod kept;
mod memory;
mod service;

use std::{error, fmt};

use async_trait::async_trait;
use highwater_core::{Marks, SessionId};

pub(crate) use self::kept::Visit;
pub use self::{
    body::StoreBody,
    kept::Stored,
    memory::MemoryStore,
    service::{StoreFuture, StoreService},
};

/// Why a store can't be asked.
pub type StoreError = Box<dyn error::Error + Send + Sync>;

/// Keeps what sessions depend on, by their ids.
///
/// A browser sends its requests side by side and keeps the last cookie that comes back, whichever request it was of.
/// With a store, no mark is lost by that: what each request has learnt is in the store before its
/// response leaves, and the next request finds it by the id.
///
/// [`MemoryStore`] keeps sessions within one process. A fleet needs either stickiness (all of a session's requests go to
/// one process) or an implementation over something that its processes share.
///
/// # Contract
///
/// * What was saved is found until it expires or is evicted. Forgetting is allowed: a session that the store
///   does not know is in doubt about everything, which costs one shared sample of the primary.
/// * [`save`](Self::save) is atomic: of two that overlap, one sees the other's revision.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// What is kept of a session, if it is known.
    ///
    /// # Errors
    ///
    /// When the store can't be asked; the session is then in doubt.
    async fn load(&self, id: SessionId) -> Result<Option<Kept>, StoreError>;

    /// Keeps `marks` of a session, and gives back what is kept of it then, with its revision. The request takes all of
    /// that in, so that its next save replaces nothing that it has not seen.
    ///
    /// * If what is kept is still the revision `seen`, they replace it: a doubt that has been settled is gone.
    /// * If it is another one, they are [merged](Marks::merge) into it: neither request knew of the other.
    /// * If the session is not known though it was `seen`, they are kept together with
    ///   [doubt](Marks::in_doubt): what other requests had saved is lost.
    /// * With `seen: None` the session begins.
    ///
    /// # Errors
    ///
    /// When the store can't be asked. The response goes out all the same, with the marks in its token.
    async fn save(&self, id: SessionId, marks: Marks, seen: Option<Revision>) -> Result<Kept, StoreError>;
}

/// Which state of a session in a store: another number after each change, never one that it had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Revision(pub u64);

/// What a store keeps of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What the session depends on.
    pub marks: Marks,
    /// Which state this is.
    pub revision: Revision,
}

impl Kept {
    /// What is to be kept when `marks` are saved by a request that has `seen` a revision and `kept` is there now: the
    /// rules of [`SessionStore::save`], for implementations.
    #[must_use]
    pub fn after(kept: Option<&Self>, marks: Marks, seen: Option<Revision>) -> Marks {
        let mut marks = marks;
        match kept {
            Some(kept) if Some(kept.revision) == seen => {}
            Some(kept) => drop(marks.merge(&kept.marks)),
            None if seen.is_some() => drop(marks.merge(&Marks::in_doubt())),
            None => {}
        }
        marks
    }
}
