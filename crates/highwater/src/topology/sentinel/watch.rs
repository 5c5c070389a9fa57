//! One sentinel: what it says when asked, and by itself.

use std::{convert::Infallible, pin::pin, time::Duration};

use futures_util::future::{Either, select};
use redis::{Cmd, ServerError, Value, cmd};
use tokio::time::{sleep, timeout};

use super::{
    Publisher, Sentinel,
    view::{View, Views, epoch, primary, replicas},
};
use crate::{
    defaults::{MIN_BACKOFF, SENTINEL_PROBE},
    error::{Error, ErrorKind},
    node::{Address, Line, accepted, can_not_connect},
};

/// What a sentinel says by itself, as far as it says that something has changed.
const EVENTS: [&str; 11] = [
    "+switch-master",
    "+slave",
    "+sdown",
    "-sdown",
    "+odown",
    "-odown",
    "+reboot",
    "+role-change",
    "-role-change",
    "+promoted-slave",
    "+failover-end",
];

/// One sentinel that is followed.
pub(super) struct Watch<'a> {
    pub(super) sentinel: &'a Sentinel,
    pub(super) address: &'a Address,
    /// Its place among the views.
    pub(super) place: usize,
    pub(super) views: &'a Views,
    pub(super) publisher: Publisher,
}

impl Watch<'_> {
    /// Follows the sentinel for as long as the future lives.
    pub(super) async fn run(mut self) {
        let mut pause = MIN_BACKOFF;
        loop {
            let mut heard = false;
            let Err(error) = self.attend(&mut heard).await;
            tracing::debug!(sentinel = %self.address, %error, "the sentinel is not heard");
            if heard {
                pause = MIN_BACKOFF;
            }
            self.tell(Err(error));
            // Jitter, so that clients don't come back in step.
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(SENTINEL_PROBE);
        }
    }

    fn tell(&self, said: Result<View, Error>) {
        match self.views.tell(self.place, said, self.sentinel) {
            Some(Ok(topology)) => self.publisher.publish(topology),
            Some(Err(error)) => self.publisher.failed(error),
            None => {}
        }
    }

    /// Asks again whenever the sentinel says that something has changed, when the client doubts, and once a second.
    async fn attend(&mut self, heard: &mut bool) -> Result<Infallible, Error> {
        let mut events = self.open().await?;
        for event in EVENTS {
            self.ask(&mut events, cmd("SUBSCRIBE").arg(event)).await?;
        }
        let mut questions = self.open().await?;
        loop {
            let view = self.view(&mut questions).await?;
            *heard = true;
            self.tell(Ok(view));
            let event = pin!(events.next());
            let doubt = pin!(self.publisher.doubted());
            let pause = pin!(sleep(SENTINEL_PROBE));
            if let Either::Left((event, _)) = select(event, select(doubt, pause)).await {
                drop(event?);
            }
        }
    }

    async fn open(&self) -> Result<Line, Error> {
        let opening = async {
            let mut line = Line::to_sentinel(&self.address.place)
                .await
                .map_err(|error| can_not_connect(self.address, error))?;
            if let Some(password) = &self.address.password {
                let mut auth = cmd("AUTH");
                if let Some(username) = &self.address.username {
                    auth.arg(username);
                }
                let answer = line.ask(auth.arg(password)).await?;
                // Only the code: some servers repeat what they were sent.
                accepted(answer).map_err(|refusal| self.refused("AUTH", refusal.code()))?;
            }
            Ok(line)
        };
        self.in_time(opening).await
    }

    async fn view(&self, line: &mut Line) -> Result<View, Error> {
        let name = &self.sentinel.name;
        let asked = |what: &str| cmd("SENTINEL").arg(what).arg(name).to_owned();
        let described = self.ask(line, &asked("MASTER")).await?;
        // During a failover this is the promoted replica, as soon as it has been promoted.
        let named = self.ask(line, &asked("GET-MASTER-ADDR-BY-NAME")).await?;
        let listed = self.ask(line, &asked("REPLICAS")).await?;
        let senseless = || {
            let message = format!("{} does not answer as a sentinel does", self.address);
            Error::new(ErrorKind::Config, message)
        };
        let primary = primary(&named).ok_or_else(senseless)?;
        // The description names the primary that was, which is a replica of the promoted one.
        Ok(View {
            epoch: epoch(&described).ok_or_else(senseless)?,
            primary,
            replicas: replicas(&listed),
        })
    }

    async fn ask(&self, line: &mut Line, command: &Cmd) -> Result<Value, Error> {
        let answer = self.in_time(line.ask(command)).await?;
        accepted(answer).map_err(|refusal| self.refusal(&refusal))
    }

    fn refusal(&self, refusal: &ServerError) -> Error {
        let name = &self.sentinel.name;
        match refusal.details() {
            Some(details) if details.starts_with("No such master") => Error::new(
                ErrorKind::Config,
                format!("{} knows no deployment `{name}`", self.address),
            ),
            Some(details) if details.starts_with("unknown command") => {
                Error::new(ErrorKind::Config, format!("{} is no sentinel", self.address))
            }
            _ => self.refused("a question", refusal.code()),
        }
    }

    fn refused(&self, what: &str, code: &str) -> Error {
        let message = match code {
            "NOAUTH" => format!(
                "{} asks for a password: put it into the sentinel's URL, redis://user:password@host:port",
                self.address
            ),
            _ => format!("{} refuses {what}: {code}", self.address),
        };
        Error::new(ErrorKind::Config, message)
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let patience: Duration = self.sentinel.timeout;
        timeout(patience, work).await.unwrap_or_else(|_| {
            let message = format!("{} did not answer within {patience:?}", self.address);
            Err(Error::new(ErrorKind::Unavailable, message))
        })
    }
}
