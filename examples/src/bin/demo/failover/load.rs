//! What the users do: write a number, look at it ten times, with pauses, over and over, whatever happens.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use highwater::{Client, Command, Reason, Reply, Route, Session};
use redis::Value;
use tokio::{task::JoinSet, time::sleep};

use super::timeline::{Operation, Outcome};
use crate::Error;

pub(crate) const USERS: usize = 32;
pub(crate) const READS_PER_WRITE: usize = 10;
/// The mean; times are exponentially distributed.
pub(crate) const THINK_TIME: Duration = Duration::from_millis(10);

/// What the users have done since it was last looked.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Operation>>>);

impl Log {
    pub(super) fn take(&self) -> Vec<Operation> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, operation: Operation) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(operation);
    }
}

/// All users at work.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    users: JoinSet<User>,
}

impl Load {
    pub(super) fn start(client: &Client, log: &Log) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut users = JoinSet::new();
        for number in 0..USERS {
            let user = User {
                client: client.clone(),
                session: Session::new(),
                key: format!("user:{number}"),
                floor: 0,
                told: false,
                lost: false,
                log: log.clone(),
            };
            users.spawn(user.run(Arc::clone(&stop)));
        }
        Self { stop, users }
    }

    /// Ends it. Of how many users a reply said that a write may be lost, and how many saw that one was.
    pub(super) async fn end(mut self) -> Result<(usize, usize), Error> {
        self.stop.store(true, Ordering::Relaxed);
        let (mut told, mut lost) = (0, 0);
        while let Some(user) = self.users.join_next().await {
            let user = user?;
            told += usize::from(user.told);
            lost += usize::from(user.lost);
        }
        Ok((told, lost))
    }
}

struct User {
    client: Client,
    session: Session,
    key: String,
    /// The number that was last acknowledged, or what was there when a loss was reported.
    floor: u64,
    told: bool,
    lost: bool,
    log: Log,
}

impl User {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Self {
        for number in 1.. {
            self.write(number).await;
            for _ in 0..READS_PER_WRITE {
                think().await;
                if stop.load(Ordering::Relaxed) {
                    return self;
                }
                self.read().await;
            }
            think().await;
        }
        self
    }

    async fn write(&mut self, number: u64) {
        let write = redis::cmd("SET").arg(&self.key).arg(number).clone();
        let began = Instant::now();
        let reply = self
            .client
            .call(Command::new(&write).session(&self.session))
            .await;
        let outcome = match &reply {
            Ok(reply) => {
                self.told |= reports_a_loss(reply);
                self.floor = number;
                Outcome::Worked
            }
            Err(_) => Outcome::Failed,
        };
        self.log.push(Operation {
            took: began.elapsed(),
            ended: Instant::now(),
            route: None,
            outcome,
        });
    }

    async fn read(&mut self) {
        let read = redis::cmd("GET").arg(&self.key).clone();
        // Of such a write nobody knows yet whether it has happened: only the primary can tell.
        let in_doubt = (self.session.marks().written()).any(|mark| mark.offset.is_unknown());
        let began = Instant::now();
        let reply = self.client.call(Command::new(&read).session(&self.session)).await;
        let (route, outcome) = match &reply {
            Ok(reply) => (reply.route, self.judge(reply)),
            Err(_) if in_doubt => (Route::Primary, Outcome::FailedInDoubt),
            Err(_) => (Route::Primary, Outcome::Failed),
        };
        self.log.push(Operation {
            took: began.elapsed(),
            ended: Instant::now(),
            route: Some(route),
            outcome,
        });
    }

    fn judge(&mut self, reply: &Reply) -> Outcome {
        let seen = match &reply.value {
            Value::BulkString(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        let seen: u64 = seen.unwrap_or(0);
        if reports_a_loss(reply) {
            self.told = true;
            self.lost |= seen < self.floor;
            self.floor = seen;
        }
        if seen < self.floor {
            Outcome::Stale
        } else {
            Outcome::Worked
        }
    }
}

fn reports_a_loss(reply: &Reply) -> bool {
    matches!(reply.reason, Reason::PossiblyLost | Reason::UnknownHistory)
}

async fn think() {
    sleep(THINK_TIME.mul_f64(-(1.0 - fastrand::f64()).ln())).await;
}
