use std::{fmt, sync::Arc};

use highwater_core::{Marks, Session, SessionId};

use super::{Revision, SessionStore, StoreError};
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
                let version = self.session.version();
                self.session.merge(&kept.marks);
                self.seen = Some(kept.revision);
                // What the token says beyond that is in no other response, or has expired in the store.
                let whole = self.session.marks() == kept.marks;
                self.saved = if whole {
                    self.session.version()
                } else {
                    version.wrapping_sub(1)
                };
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
        match self.store.save(id, self.session.marks(), self.seen).await {
            Ok(revision) => {
                self.seen = Some(revision);
                self.saved = version;
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
