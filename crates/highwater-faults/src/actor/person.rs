//! One task of a session: writes, reads, hands its token on and takes others over, and goes away in the middle of it.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fastrand::Rng;
use highwater::{Command, Error, Marks, Reply, Session};
use tokio::time::{sleep, timeout};

use super::{
    Company, Pulse, calls,
    keys::{self, Own, Shelf},
};
use crate::{
    clock::{self, Nanos},
    operation::{Key, Kind, Level, Operation, Outcome, Route, Said},
    wire::{Passed, Word},
};

/// How many keys a task writes in turn.
const OWN: usize = 4;
/// One in so many calls is given up by its caller.
const DROPPED: u32 = 30;
/// One in so many tokens arrives damaged.
const DAMAGED: u32 = 30;
/// One in so many replies of a primary that does not know the session makes the user begin anew.
const BEGIN_ANEW: u32 = 40;
/// One in so many tokens of a session in doubt is handed on.
const TRAVELLING_DOUBT: u32 = 12;
/// The pause after an error.
const PAUSE: Duration = Duration::from_millis(4);

/// What the tasks of a session share: its number, and itself.
type View = Arc<Mutex<(u64, Session)>>;

/// One task of a session.
#[derive(Debug)]
pub(super) struct Person {
    company: Arc<Company>,
    level: Level,
    view: View,
    /// No other task uses the session.
    alone: bool,
    /// It seldom writes.
    reader: bool,
    random: Rng,
    own: Vec<Own>,
    /// The place of the key that was written last.
    last: usize,
    /// Keys whose last write is in doubt.
    doubtful: Shelf,
    /// Keys of tokens that were taken over.
    inherited: Shelf,
    operations: Vec<Operation>,
    pulse: Arc<Pulse>,
}

/// What came of a call.
enum Called {
    Answered(Reply),
    Failed(Error),
    /// Its caller has gone.
    Dropped,
}

impl Person {
    /// The tasks of one session.
    pub(super) fn crowd(company: &Arc<Company>, level: Level, reader: bool, tasks: usize) -> Vec<Self> {
        let view: View = Arc::new(Mutex::new((company.number(), Session::new())));
        (0..tasks)
            .map(|_| {
                let seed = company.casting.seed ^ company.number().wrapping_mul(0x9e37_79b9_7f4a_7c15);
                Self {
                    company: Arc::clone(company),
                    level,
                    view: Arc::clone(&view),
                    alone: tasks == 1,
                    reader,
                    random: Rng::with_seed(seed),
                    own: (0..OWN)
                        .map(|_| Own {
                            key: company.number(),
                            version: 0,
                        })
                        .collect(),
                    last: 0,
                    doubtful: Shelf::default(),
                    inherited: Shelf::default(),
                    operations: Vec::new(),
                    pulse: Arc::default(),
                }
            })
            .collect()
    }

    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Acts until the company ends.
    pub(super) async fn run(mut self) -> Vec<Operation> {
        while !self.company.is_over() {
            match self.random.u32(..100) {
                1..15 if self.reader => {
                    let keys = self.choose();
                    self.read(&keys).await;
                }
                0..15 => self.write().await,
                15..19 => self.hand().await,
                19..25 => self.adopt(),
                25 => self.resume(),
                _ => {
                    let keys = self.choose();
                    self.read(&keys).await;
                }
            }
            self.think().await;
        }
        let own = self.own.iter().map(|own| own.key);
        let others = [&self.doubtful, &self.inherited];
        let others = others.into_iter().flat_map(|shelf| shelf.newest(usize::MAX));
        for key in own.chain(others).collect::<Vec<_>>() {
            self.read(&[key]).await;
        }
        self.operations
    }

    async fn think(&mut self) {
        let time = self
            .company
            .casting
            .think
            .mul_f64(-(1.0 - self.random.f64()).ln());
        sleep(time).await;
    }

    fn view(&self) -> (u64, Session) {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn call(&mut self, command: Command) -> Called {
        let client = self.company.client();
        let call = client.call(command);
        let answer = if self.random.u32(..DROPPED) == 0 {
            let patience = Duration::from_micros(self.random.u64(..3_000));
            match timeout(patience, call).await {
                Ok(answer) => answer,
                Err(_) => return Called::Dropped,
            }
        } else {
            call.await
        };
        match answer {
            Ok(reply) => Called::Answered(reply),
            Err(error) => Called::Failed(error),
        }
    }

    async fn write(&mut self) {
        let place = self.random.usize(..OWN);
        let Some(own) = self.own.get_mut(place) else {
            return;
        };
        own.version += 1;
        let Own { key, version } = *own;
        let (number, session) = self.view();
        let look_at = self.choose().first().copied();
        let shape = self.random.u32(..16);
        let value = keys::value(version, &mut self.random);
        let in_doubt = in_doubt(&session);
        let witness = self
            .company
            .casting
            .witnesses
            .then(|| keys::witness(key, version));
        let command = calls::write(shape, key, &value, look_at, witness.as_deref())
            .session(&session)
            .level(calls::consistency(self.level));
        let start = clock::now();
        let called = self.call(command).await;
        let end = clock::now();
        let (outcome, said) = match &called {
            Called::Answered(reply) => (calls::outcome_of(&reply.value), calls::said(reply)),
            Called::Failed(error) => (calls::outcome(error), calls::said_by(error)),
            Called::Dropped => (Outcome::InDoubt, Said::Nothing),
        };
        let said = said.of_session(in_doubt);
        if let (Called::Answered(reply), 1 | 2, Some(looked_at), Outcome::Acknowledged) =
            (&called, shape, look_at, outcome)
            && let Some(&[seen]) = calls::versions(&reply.value, 1).as_deref()
        {
            self.note(
                number,
                start,
                end,
                Kind::Read {
                    key: looked_at,
                    version: seen,
                    route: Route::Primary,
                    level: self.level,
                    mark: None,
                    said,
                },
            );
        }
        self.note(
            number,
            start,
            end,
            Kind::Write {
                key,
                version,
                outcome,
                said,
            },
        );
        match outcome {
            Outcome::Acknowledged => {
                self.last = place;
                self.pulse.write.fetch_max(start, Ordering::Relaxed);
            }
            Outcome::InDoubt => {
                // It may still happen, so this key is not written any more.
                self.doubtful.put(key);
                let key = self.company.number();
                if let Some(own) = self.own.get_mut(place) {
                    *own = Own { key, version: 0 };
                }
            }
            Outcome::Refused => sleep(PAUSE).await,
        }
        self.heed(said, &session);
    }

    /// Which keys to read.
    fn choose(&mut self) -> Vec<Key> {
        let count = if self.random.u32(..4) == 0 { 3 } else { 1 };
        let mut keys: Vec<Key> = Vec::new();
        for _ in 0..count {
            let other = match self.random.u32(..20) {
                0..8 => None,
                8..13 => {
                    let newest = self.random.usize(..3);
                    self.doubtful.newest(3).nth(newest)
                }
                13..16 => self.inherited.any(&mut self.random),
                _ => {
                    let known = &self.company.known;
                    let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                    known.any(&mut self.random)
                }
            };
            let last = self.own.get(self.last).map_or(0, |own| own.key);
            let key = other.unwrap_or(last);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    async fn read(&mut self, keys: &[Key]) {
        let (number, session) = self.view();
        let (mark, in_doubt) = (self.mark(&session), in_doubt(&session));
        let command = calls::read(self.random.u32(..4), keys)
            .session(&session)
            .level(calls::consistency(self.level));
        let start = clock::now();
        let called = self.call(command).await;
        let end = clock::now();
        let said = match &called {
            Called::Answered(reply) => calls::said(reply),
            Called::Failed(error) => calls::said_by(error),
            Called::Dropped => calls::said_unheard(&session),
        };
        let said = said.of_session(in_doubt);
        let answered = match &called {
            Called::Answered(reply) => {
                calls::versions(&reply.value, keys.len()).map(|versions| (versions, calls::route(reply)))
            }
            Called::Failed(_) | Called::Dropped => None,
        };
        if let Some((versions, route)) = answered {
            self.pulse.read.fetch_max(start, Ordering::Relaxed);
            for (key, version) in keys.iter().zip(versions) {
                self.note(
                    number,
                    start,
                    end,
                    Kind::Read {
                        key: *key,
                        version,
                        route,
                        level: self.level,
                        mark,
                        said,
                    },
                );
            }
        } else {
            let dropped = matches!(called, Called::Dropped);
            self.note(number, start, end, Kind::Failed { said, dropped });
            if matches!(called, Called::Failed(_)) {
                sleep(PAUSE).await;
            }
        }
        self.heed(said, &session);
    }

    /// What a user does about marks that can't be honoured.
    fn heed(&mut self, said: Said, session: &Session) {
        if said == Said::Unknown && self.random.u32(..BEGIN_ANEW) == 0 {
            let number = self.company.number();
            *self.view.lock().unwrap_or_else(PoisonError::into_inner) = (number, Session::new());
        } else if session.continuity() != highwater::Continuity::Intact {
            // A new request: what it meets is told anew.
            self.resume();
        }
    }

    /// Goes on with a session that is made of the token, as the next request of the same user does.
    fn resume(&mut self) {
        // Others' writes that are under way stand in no token yet.
        if self.alone && self.may_travel() {
            let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
            view.1 = Session::resume(view.1.marks());
        }
    }

    /// Doubt that has travelled ends by time alone, and goes from session to session until then: if it did so freely,
    /// all sessions would be in doubt most of the time, and read the primary only.
    fn may_travel(&mut self) -> bool {
        !in_doubt(&self.view().1) || self.random.u32(..TRAVELLING_DOUBT) == 0
    }

    async fn hand(&mut self) {
        if !self.may_travel() {
            return;
        }
        let others = self.company.casting.processes.saturating_sub(1).max(1);
        let to = (self.company.casting.process + 1 + self.random.u64(..others)) % (others + 1);
        let ticket = self.company.number();
        let (number, session) = self.view();
        let start = clock::now();
        let token = self.company.codec.encode(&session.marks(), unix_time());
        self.note(number, start, clock::now(), Kind::Hand { ticket });
        let own = self.own.iter().map(|own| own.key);
        let keys = own
            .chain(self.doubtful.newest(2))
            .chain(self.inherited.newest(2))
            .collect();
        let passed = Passed { ticket, token, keys };
        // Nobody listens once all is over.
        let _ = self.company.words.send(Word::Token { to, passed }).await;
    }

    fn adopt(&mut self) {
        let passed = {
            let mut tokens = self.company.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            // The newest, or any of them: some travel for long.
            let place = if self.random.bool() {
                tokens.len().saturating_sub(1)
            } else {
                self.random.usize(..tokens.len().max(1))
            };
            if place >= tokens.len() {
                return;
            }
            tokens.remove(place)
        };
        let (number, session) = self.view();
        let damaged = self.random.u32(..DAMAGED) == 0;
        let start = clock::now();
        let token = passed.token.as_bytes();
        let token = if damaged {
            token.get(1..).unwrap_or_default()
        } else {
            token
        };
        let marks = self.company.codec.decode(token, unix_time());
        let damaged = marks.is_err();
        session.merge(&marks.unwrap_or_else(|_| Marks::in_doubt()));
        let ticket = passed.ticket;
        self.note(number, start, clock::now(), Kind::Adopt { ticket, damaged });
        let mut known = self.company.known.lock().unwrap_or_else(PoisonError::into_inner);
        for key in passed.keys {
            known.put(key);
            self.inherited.put(key);
        }
    }

    fn note(&mut self, session: u64, start: Nanos, end: Nanos, kind: Kind) {
        self.operations.push(Operation {
            session,
            start,
            end,
            kind,
        });
    }

    /// The one place that a read must cover, if there is exactly one and it is known.
    fn mark(&self, session: &Session) -> Option<(u32, u64)> {
        if self.level == Level::Eventual {
            return None;
        }
        let marks = session.marks();
        let mut written = marks.written();
        let (mark, None) = (written.next()?, written.next()) else {
            return None;
        };
        let position = mark.offset.position()?;
        let name = mark.history.to_string();
        let mut histories = self
            .company
            .histories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let place = histories
            .iter()
            .position(|history| *history == name)
            .unwrap_or_else(|| {
                histories.push(name);
                histories.len() - 1
            });
        Some((u32::try_from(place).ok()?, position))
    }
}

/// Whether the session has a write of unknown outcome, or place.
fn in_doubt(session: &Session) -> bool {
    session.marks().written().any(|mark| mark.offset.is_unknown())
}

/// In seconds.
fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}
