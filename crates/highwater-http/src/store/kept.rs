use std::{fmt, sync::Arc};

use highwater_core::{Marks, Session, SessionId};

use super::{Kept, Revision, SessionStore, StoreError};
use crate::session::{BadToken, Counters};

/// Of a [`SessionLayer`](crate::SessionLayer): sessions are kept in a store between requests.
#[derive(Clone)]
pub struct Stored {
    store: Option<Arc<dyn SessionStore>>,
    counters: Counters,
}

impl Stored {
    pub(crate) fn new(store: Option<Arc<dyn SessionStore>>, counters: Counters) -> Self {
        Self { store, counters }
    }

    /// The visit of a request's session, if there is a store to be visited.
    pub(super) fn visit(&self, session: Option<&Session>) -> Option<Visit> {
        Some(Visit {
            store: Arc::clone(self.store.as_ref()?),
            session: session?.clone(),
            counters: self.counters.clone(),
            seen: None,
            saved: 0,
        })
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stored").field(&self.store).finish()
    }
}

/// One request's dealings with the store.
pub(crate) struct Visit {
    store: Arc<dyn SessionStore>,
    session: Session,
    counters: Counters,
    /// The revision that the session has taken in, or made.
    seen: Option<Revision>,
    /// The session's version that is in the store.
    saved: u64,
}

impl Visit {
    /// Finds out what other requests of the session have learnt, or begins a session.
    pub(super) async fn begin(&mut self) {
        let Some(id) = self.session.id() else {
            self.session.identify(new_id());
            return self.save().await;
        };
        match self.store.load(id).await {
            Ok(Some(kept)) => {
                self.saved = self.session.version().wrapping_sub(1);
                self.take_in(&kept);
                self.seen = Some(kept.revision);
            }
            Ok(None) => {
                self.counters.count(BadToken::Forgotten);
                self.doubt();
            }
            Err(error) => {
                self.failed(id, &error);
                self.doubt();
            }
        }
    }

    /// What the session says beyond what is kept is owed to the store: it is in no other response, or has expired there.
    fn take_in(&mut self, kept: &Kept) {
        self.session.merge(&kept.marks);
        let version = self.session.version();
        if self.session.marks() == kept.marks {
            self.saved = version;
        }
    }

    fn doubt(&mut self) {
        self.session.merge(&Marks::in_doubt());
        // The store is to have it, too.
        self.saved = self.session.version().wrapping_sub(1);
    }

    /// True when the session has learnt what the store does not know.
    pub(super) fn owes(&self) -> bool {
        self.session.version() != self.saved
    }

    pub(super) async fn save(&mut self) {
        let version = self.session.version();
        let Some(id) = self.session.id() else {
            return;
        };
        let marks = self.session.marks();
        match self.store.save(id, marks.clone(), self.seen).await {
            Ok(kept) => {
                self.saved = version;
                if kept.marks != marks {
                    // What a request beside this one has saved. Not taken in, the next save would replace it.
                    self.take_in(&kept);
                }
                self.seen = Some(kept.revision);
            }
            // Tried again when there is more to be said.
            Err(error) => {
                self.failed(id, &error);
                self.saved = version;
            }
        }
    }

    fn failed(&self, id: SessionId, error: &StoreError) {
        self.counters.count(BadToken::StoreFailed);
        tracing::debug!(session = %id, %error, "the store of sessions can't be asked");
    }
}

fn new_id() -> SessionId {
    let id = SessionId::from_bytes(uuid::Uuid::now_v7().into_bytes());
    #[expect(clippy::expect_used, reason = "it is made as a UUID of version 7")]
    id.expect("a UUID of version 7")
}
