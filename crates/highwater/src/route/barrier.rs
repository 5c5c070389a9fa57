//! The barrier for sessions of which it is not known what they depend on (a token that can't be
//! read), and for bounds of staleness without a recent sample: one INFO at the primary, begun after
//! they arrived, serves all who wait, and there is at most one such INFO each few milliseconds, so that
//! bad tokens can't load the primary (invariant 5).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_core::{Progress, Role};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use super::closed;
use crate::{
    defaults::BARRIER_PACE,
    error::{Error, ErrorKind},
    node::{Node, Proof, ProofWanted, Request},
};

type Waiting = Vec<oneshot::Sender<Result<Progress, Error>>>;

/// Shared by all callers of a client.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Waiting,
    running: bool,
    last: Option<Instant>,
    task: Option<JoinHandle<()>>,
    /// Who is to be asked: the primary of whoever joined last. It can change while others go on joining.
    primary: Option<Arc<Node>>,
}

impl Barrier {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the primary is at a moment after this call began.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the others' waits as they are.
    pub(super) async fn join(self: &Arc<Self>, primary: &Arc<Node>) -> Result<Progress, Error> {
        let (done, sampled) = oneshot::channel();
        let start = {
            let mut state = self.state();
            state.waiting.push(done);
            state.primary = Some(Arc::clone(primary));
            !std::mem::replace(&mut state.running, true)
        };
        if start {
            // A task of its own: the first caller may go away while others wait.
            let task = tokio::spawn(Arc::clone(self).run());
            self.state().task = Some(task);
        }
        sampled.await.map_err(|_| closed())?
    }

    /// Ends the task, if there is one; who waits learns that the client is closed.
    pub(crate) fn stop(&self) -> Option<JoinHandle<()>> {
        let (task, waiting) = {
            let mut state = self.state();
            (state.task.take(), std::mem::take(&mut state.waiting))
        };
        drop(waiting);
        task.inspect(JoinHandle::abort)
    }

    async fn run(self: Arc<Self>) {
        // If this task is ended early, the next caller must start another.
        let mut stopped = Stopped(Some(&self));
        loop {
            let last = self.state().last;
            if let Some(last) = last {
                tokio::time::sleep_until(last + BARRIER_PACE).await;
            }
            let (waiting, primary) = {
                let mut state = self.state();
                state.last = Some(Instant::now());
                (std::mem::take(&mut state.waiting), state.primary.take())
            };
            let outcome = match primary {
                Some(primary) => sample(&primary).await,
                // Nobody has joined.
                None => Err(closed()),
            };
            for done in waiting {
                let _ = done.send(outcome.clone());
            }
            let mut state = self.state();
            if state.waiting.is_empty() {
                state.running = false;
                stopped.0 = None;
                return;
            }
        }
    }
}

struct Stopped<'a>(Option<&'a Barrier>);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if let Some(barrier) = self.0 {
            let mut state = barrier.state();
            state.running = false;
            state.waiting.clear();
        }
    }
}

async fn sample(primary: &Node) -> Result<Progress, Error> {
    let request = Request {
        packed: &[],
        replies: 0,
        proof: ProofWanted::Trailing,
        may_write: false,
        writer: None,
    };
    let answer = primary
        .first_attempt()
        .await?
        .send(&request)?
        .answer
        .await
        .map_err(|_| closed())??;
    match answer.proof {
        Proof::Between(progress, _) if progress.role == Role::Primary => Ok(progress),
        _ => Err(Error::new(
            ErrorKind::Unavailable,
            format!("{} does not prove to be the primary", primary.address),
        )),
    }
}
