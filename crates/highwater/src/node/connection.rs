//! The caller's side of one pipelined connection: commands go into a shared buffer, which becomes
//! flushes, each with at most one leading and one trailing INFO.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;
use highwater_core::{CallerGuard, History, PendingWrite, Progress, Scope, Session, Witness};
use redis::Value;
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    acks::{self, Waits},
    driver::unsent,
    enclosed::{EXEC, Enclosure, MULTI},
    handshake::Manners,
    stream::WriteHalf,
};
use crate::{
    acks::{Acked, Acks, Wait},
    cache::Fill,
    error::{Error, ErrorKind},
    observe::NodeMeters,
};

const INFO: &[u8] = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n";
const INFO_WITH_KEYSPACE: &[u8] = b"*3\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n$8\r\nkeyspace\r\n";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// A buffer that has grown beyond this is given back after use.
const KEEP_BUFFER: usize = 256 * 1024;
/// With so many callers, half of whose reads are a flush, the rest still keeps the server busy meanwhile. Writes keep it busy
/// for longer, and go in smaller ones.
const MANY: usize = 128;
/// So few callers, and up to 128 who write, ask again in one flush once they are answered together, if there are several
/// worker threads: a second flush costs more, in system calls, wake-ups and its INFO, than what the first one would be ahead. With
/// one thread, client and server would only take turns.
const FEW: usize = 8;

/// One or several commands that travel as a unit.
pub(crate) struct Request<'a> {
    /// The encoded commands.
    pub(crate) packed: &'a [u8],
    /// How many replies they have.
    pub(crate) replies: usize,
    /// The proof that the replies need.
    pub(crate) proof: ProofWanted,
    /// The commands may write: a lost connection leaves them in doubt.
    pub(crate) may_write: bool,
    /// The session that is to know of the write.
    pub(crate) writer: Option<(&'a Session, &'a Scope)>,
}

/// The proof that a request's replies need. Forms: law 3 of the protocol facts, (b) on connections with
/// tracking; on those without, (a) for the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProofWanted {
    /// None: no INFO is sent for this request's sake.
    Nothing,
    /// A lower bound: an INFO before the replies, and no null push in between.
    Leading,
    /// A lower and an upper bound: an INFO before, and one after.
    Both,
    /// The primary's: an INFO after the replies, in the same history as the sample before them.
    Trailing,
}

/// What a request's replies can prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing was asked for, or the proof was voided.
    None,
    /// The commands were refused when they were queued in their MULTI. The value has the errors.
    Refused,
    /// The replies show at least this progress, and at most the second one.
    Between(Progress, Option<Progress>),
}

#[cfg(test)]
impl Proof {
    /// A proof that is exact, in a history that is a byte over and over.
    pub(crate) fn exact(role: highwater_core::Role, history: u8, applied: u64) -> Self {
        let progress = Progress {
            role,
            history: History::from_bytes([history; 20]),
            ancestor: None,
            applied,
            link_up: true,
            read_only: true,
        };
        Self::Between(progress, Some(progress))
    }
}

/// The replies to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// One reply, or an array of several (errors among them as values).
    pub(crate) value: Value,
    pub(crate) proof: Proof,
    pub(crate) acks: Acknowledgement,
}

/// What has been acknowledged of a write.
#[derive(Debug)]
pub(crate) enum Acknowledgement {
    NotAsked,
    /// As the server has counted.
    Counted(Acked),
    /// The write has been answered, and nothing has been told of acknowledgements.
    Unknown(Error),
}

impl Answer {
    pub(super) fn new(value: Value, proof: Proof) -> Self {
        Self {
            value,
            proof,
            acks: Acknowledgement::NotAsked,
        }
    }
}

/// A request that has been accepted.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) answer: oneshot::Receiver<Result<Answer, Error>>,
    pub(crate) guard: Option<CallerGuard>,
}

/// What the next reply on the wire is for.
#[derive(Debug)]
pub(super) enum Slot {
    /// An INFO: a flush's leading one, its trailing one, or one for its own sake; with a moment just
    /// before it was sent.
    Leading,
    Trailing(Instant),
    Probe(Instant),
    /// A caller's request.
    Call(Call),
    /// How many replicas have acknowledged the flush's writes; and an INFO that says whether it is still their stream.
    Wait(Wait),
    Confirming(Instant),
    /// No reply: all replies of a flush have come before this.
    EndOfFlush,
}

#[derive(Debug)]
pub(super) struct Call {
    /// On the wire.
    pub(super) replies: usize,
    pub(super) enclosure: Enclosure,
    pub(super) proof: ProofWanted,
    pub(super) may_write: bool,
    pub(super) write: Option<PendingWrite>,
    /// It waits for these.
    pub(super) acks: Option<Acks>,
    /// The near cache has asked.
    pub(super) fill: Option<Box<Fill>>,
    pub(super) reply_to: oneshot::Sender<Result<Answer, Error>>,
}

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Requests that have not been answered.
    pub(crate) in_flight: usize,
    /// Bytes that have not been written.
    pub(crate) buffered: usize,
}

/// One connection, as its callers and its driver share it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) socket: WriteHalf,
    pub(super) driver: AtomicWaker,
    queue: Mutex<Queue>,
    bounds: Bounds,
    pub(super) manners: Manners,
    /// What trails flushes.
    info: &'static [u8],
    /// What is sent for its own sake: INFO, or PING where there are no proofs.
    probe: &'static [u8],
    /// The queue's `in_flight`, for those who only want to know.
    load: AtomicUsize,
    meters: NodeMeters,
}

#[derive(Debug)]
pub(super) struct Queue {
    /// Encoded and not yet taken by a writer; the open flush.
    out: Vec<u8>,
    /// Taken, and not wholly written: the driver has to go on.
    stuck: Option<(Vec<u8>, usize)>,
    /// Room for the next `out`.
    spare: Vec<u8>,
    /// What the replies will be for, in wire order, as far as the driver has not taken it.
    staged: VecDeque<Slot>,
    open: OpenFlush,
    /// What is in `out` has a flush's end in it, and counts as in flight already.
    sealed: bool,
    /// Somebody is writing: nobody else may.
    writing: bool,
    /// The driver is about to flush: callers leave it to it, unless the cap is reached.
    gathering: bool,
    /// Each flush of which not all replies have come.
    flushes: VecDeque<Flight>,
    /// Flushes end with `WAIT`, which would hold up what comes behind it: one is in flight at a time.
    waiting: bool,
    /// Requests without an answer.
    in_flight: usize,
    /// How many callers are about: what is in flight, and what was answered last.
    crowd: usize,
    /// The runtime has several worker threads.
    several_threads: bool,
    /// Where a write is about to go, by the connection's last sample.
    history: History,
    /// How much longer than usual the server may be silent: what is in flight may block.
    patience: Duration,
    ending: Option<Ending>,
    /// Why no more requests are taken.
    closed: Option<Error>,
    /// What has been taken is still to be answered.
    draining: bool,
}

/// How a connection of one's own ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// When what is in flight has been answered and marked.
    Answered,
    /// Whatever is in flight: it may block for ever.
    Now,
}

#[derive(Debug, Default)]
struct OpenFlush {
    requests: usize,
    leading: bool,
    trailing: bool,
    waits: Waits,
}

/// A flush that has been sent.
#[derive(Clone, Copy, Debug)]
struct Flight {
    sent: Instant,
    /// How long it may wait for acknowledgements.
    patience: Duration,
}

impl Connection {
    pub(super) fn new(
        socket: WriteHalf,
        bounds: Bounds,
        manners: Manners,
        first: Option<&Progress>,
        meters: NodeMeters,
    ) -> Self {
        Self {
            socket,
            driver: AtomicWaker::new(),
            bounds,
            manners,
            info: INFO,
            probe: if first.is_some() { INFO } else { PING },
            load: AtomicUsize::new(0),
            meters,
            queue: Mutex::new(Queue {
                out: Vec::new(),
                stuck: None,
                spare: Vec::new(),
                staged: VecDeque::new(),
                open: OpenFlush::default(),
                sealed: false,
                writing: false,
                gathering: false,
                flushes: VecDeque::new(),
                waiting: false,
                in_flight: 0,
                crowd: 0,
                several_threads: Handle::try_current()
                    .is_ok_and(|runtime| runtime.metrics().num_workers() > 1),
                history: Witness::new(first.copied(), manners.tracking).history(),
                patience: Duration::ZERO,
                ending: None,
                closed: None,
                draining: false,
            }),
        }
    }

    /// Has its INFOs tell of the keyspace, too: whether hashes have fields that expire.
    pub(super) fn with_keyspace(mut self) -> Self {
        (self.info, self.probe) = (INFO_WITH_KEYSPACE, INFO_WITH_KEYSPACE);
        self
    }

    /// Has each flush end with what its callers ask of acknowledgements.
    pub(super) fn with_acks(mut self) -> Self {
        let queue = self.queue.get_mut().unwrap_or_else(PoisonError::into_inner);
        queue.waiting = true;
        self
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic happens under this lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when reads that need a proof travel in a transaction with their INFO: the connection has no tracking.
    pub(crate) fn encloses(&self) -> bool {
        !self.manners.tracking
    }

    /// How many requests have no answer yet: for choosing among nodes.
    pub(crate) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Puts a request into the open flush, and flushes when nothing is in flight or the cap is
    /// reached; otherwise the driver will.
    ///
    /// # Errors
    ///
    /// When the connection is closed or full. Then nothing has been sent.
    pub(crate) fn send(&self, request: &Request<'_>) -> Result<Sent, Error> {
        self.send_with(request, None, None)
    }

    /// As [`send`](Self::send), on a connection [`with_acks`](Self::with_acks): the answer comes when the server has
    /// told what it knows of acknowledgements, or the time for that is over.
    pub(crate) fn send_acked(&self, request: &Request<'_>, acks: Acks) -> Result<Sent, Error> {
        self.send_with(request, None, Some(acks))
    }

    /// As [`send`](Self::send). With a fill, the replies are the near cache's: it gets them in wire order, and
    /// the answer never comes.
    pub(crate) fn send_for(&self, request: &Request<'_>, fill: Option<Box<Fill>>) -> Result<Sent, Error> {
        self.send_with(request, fill, None)
    }

    fn send_with(
        &self,
        request: &Request<'_>,
        fill: Option<Box<Fill>>,
        acks: Option<Acks>,
    ) -> Result<Sent, Error> {
        let (reply_to, answer) = oneshot::channel();
        let mut queue = self.queue();
        if let Some(error) = &queue.closed {
            return Err(unsent(error));
        }
        if queue.in_flight >= self.bounds.in_flight {
            return Err(overloaded("too many requests in flight on this connection"));
        }
        if queue.out.len() + request.packed.len() > self.bounds.buffered && !queue.out.is_empty() {
            return Err(overloaded("too many bytes wait to be written on this connection"));
        }
        let leads = matches!(request.proof, ProofWanted::Leading | ProofWanted::Both);
        let mut enclosure = Enclosure::None;
        if leads && !self.manners.tracking {
            enclosure = Enclosure::of(request.packed);
            queue.enclose(enclosure, request.packed);
        } else {
            if leads && !queue.open.leading {
                queue.open.leading = true;
                queue.out.extend_from_slice(INFO);
                queue.staged.push_back(Slot::Leading);
            }
            queue.open.trailing |= matches!(request.proof, ProofWanted::Both | ProofWanted::Trailing);
            queue.out.extend_from_slice(request.packed);
        }
        if let Some(acks) = &acks {
            queue.open.waits.add(acks);
        }
        queue.open.requests += 1;
        let (write, guard) = match request.writer {
            Some((session, scope)) => {
                let (write, guard) = session.begin_write(scope, queue.history);
                (Some(write), Some(guard))
            }
            None => (None, None),
        };
        let Request {
            replies,
            proof,
            may_write,
            ..
        } = *request;
        let call = Call {
            replies: replies + enclosure.extra_replies(),
            enclosure,
            proof,
            may_write,
            write,
            acks,
            fill,
            reply_to,
        };
        queue.staged.push_back(Slot::Call(call));
        queue.in_flight += 1;
        self.load.store(queue.in_flight, Ordering::Relaxed);
        queue.crowd = queue.crowd.max(queue.in_flight);
        let cap = queue.cap();
        if !queue.writing
            && queue.has_room()
            && (queue.open.requests >= cap || (queue.flushes.is_empty() && !queue.gathering))
        {
            self.flush(queue);
        }
        Ok(Sent { answer, guard })
    }

    /// Writes what is buffered, outside the lock, until nothing that must go now is left.
    pub(super) fn flush<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) {
        while !queue.is_dead() && !queue.writing && queue.has_room() && queue.has_unsent() {
            let confirming = (self.probe != PING).then_some(self.info);
            let requests = queue.seal(self.info, confirming);
            (queue.writing, queue.sealed) = (true, false);
            let spare = std::mem::take(&mut queue.spare);
            let out = std::mem::replace(&mut queue.out, spare);
            drop(queue);
            let written = self.write(&out, 0);
            if requests > 0 {
                self.meters.flushed(requests);
            }
            queue = self.queue();
            if !self.wrote(&mut queue, out, written) {
                return;
            }
            if queue.can_wait() {
                return;
            }
        }
    }

    /// Goes on with what did not go into the socket. True when nothing is stuck any more.
    pub(super) fn unstick(&self) -> bool {
        let mut queue = self.queue();
        let Some((out, from)) = queue.stuck.take() else {
            return true;
        };
        drop(queue);
        let written = self.write(&out, from);
        let mut queue = self.queue();
        self.wrote(&mut queue, out, written)
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.queue().stuck.is_some()
    }

    fn write(&self, out: &[u8], mut from: usize) -> io::Result<usize> {
        while let Some(rest) = out.get(from..).filter(|rest| !rest.is_empty()) {
            match self.socket.try_write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => from += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(from)
    }

    /// Takes note of a write's outcome; false when the driver has to go on.
    fn wrote(&self, queue: &mut Queue, mut out: Vec<u8>, written: io::Result<usize>) -> bool {
        // A TLS session can hold back what it has taken.
        let written = written.and_then(|len| Ok((len, self.socket.flush()?)));
        match written {
            Ok((len, true)) if len == out.len() => {
                queue.writing = false;
                if out.capacity() <= KEEP_BUFFER {
                    out.clear();
                    queue.spare = out;
                }
                true
            }
            Ok((len, _)) => {
                queue.stuck = Some((out, len));
                self.driver.wake();
                false
            }
            Err(error) => {
                queue.fail(lost_while("writing", error));
                self.driver.wake();
                false
            }
        }
    }

    /// Says how much longer than usual the replies to what is sent next may take. For connections of
    /// one's own: callers of a shared one don't wait for each other's commands.
    pub(super) fn set_patience(&self, patience: Duration) {
        self.queue().patience = patience;
    }

    /// Lets the connection end; the driver does it.
    pub(super) fn end(&self, ending: Ending) {
        let mut queue = self.queue();
        queue.ending = queue.ending.max(Some(ending));
        drop(queue);
        self.driver.wake();
    }

    /// True when nothing can be sent on it any more.
    pub(super) fn is_over(&self) -> bool {
        let queue = self.queue();
        queue.closed.is_some() || queue.ending.is_some()
    }

    /// Wakes the driver, so that it looks after waiters.
    pub(super) fn wake_driver(&self) {
        self.driver.wake();
    }

    /// Sends an INFO for its own sake.
    pub(crate) fn probe(&self) {
        let mut queue = self.queue();
        if queue.closed.is_some() {
            return;
        }
        if queue.has_unsent() && !queue.waiting {
            // In the midst of a flush it would stand between the sample before the flush's replies and the one behind them, by
            // which they are judged.
            let requests = queue.seal(self.info, None);
            queue.sealed = true;
            if requests > 0 {
                self.meters.flushed(requests);
            }
        }
        queue.out.extend_from_slice(self.probe);
        queue.staged.push_back(Slot::Probe(Instant::now()));
        self.flush(queue);
    }

    /// Takes note of what a batch of replies has concluded.
    pub(super) fn concluded(&self, queue: &mut Queue, calls: usize, flushes: usize, history: History) {
        queue.crowd = queue.in_flight.max(calls);
        queue.in_flight = queue.in_flight.saturating_sub(calls);
        self.load.store(queue.in_flight, Ordering::Relaxed);
        queue.flushes.drain(..flushes.min(queue.flushes.len()));
        queue.history = history;
    }

    /// No more requests are taken. The driver ends once those are answered that have been.
    pub(super) fn drain(&self, why: &Error) {
        let mut queue = self.queue();
        if queue.closed.is_none() {
            queue.closed = Some(why.clone());
            queue.draining = true;
        }
        drop(queue);
        self.driver.wake();
    }

    /// No more requests are taken; what is in flight is the driver's to conclude.
    pub(super) fn close(&self, error: &Error) -> Vec<Slot> {
        let mut queue = self.queue();
        queue.fail(error.clone());
        queue.in_flight = 0;
        queue.staged.drain(..).collect()
    }
}

impl Queue {
    /// How many requests make a flush that is sent at once, whatever is in flight.
    fn cap(&self) -> usize {
        if self.waiting {
            // All who are about: each flush costs a wait for the replicas, which a small one makes no shorter.
            return self.crowd.max(1);
        }
        if self.crowd < MANY || self.open.trailing {
            let writes = self.open.trailing && !self.open.leading;
            let together = self.gathering && self.several_threads && (self.crowd <= FEW || writes);
            return (self.crowd / if together { 1 } else { 4 }).clamp(1, 128);
        }
        (self.crowd / 2).min(256)
    }

    /// What came while somebody wrote waits for the driver, unless the driver has no reason to wake: what was sealed
    /// meanwhile is no flush that replies will come to.
    fn can_wait(&self) -> bool {
        !self.sealed && self.open.requests < self.cap() && !self.flushes.is_empty()
    }

    /// False while the open flush must not be sent yet.
    fn has_room(&self) -> bool {
        !self.waiting || self.flushes.is_empty()
    }

    /// Ends the open flush, and says how many requests it carries. What is told of acknowledgements is confirmed by an
    /// INFO, where there may be any.
    fn seal(&mut self, info: &[u8], confirming: Option<&[u8]>) -> usize {
        let (open, now) = (std::mem::take(&mut self.open), Instant::now());
        if open.trailing {
            self.out.extend_from_slice(info);
            self.staged.push_back(Slot::Trailing(now));
        }
        for &(wait, millis) in open.waits.iter() {
            acks::encode(wait, millis, &mut self.out);
            self.staged.push_back(Slot::Wait(wait));
            if let Some(info) = confirming {
                self.out.extend_from_slice(info);
                self.staged.push_back(Slot::Confirming(now));
            }
        }
        self.staged.push_back(Slot::EndOfFlush);
        self.flushes.push_back(Flight {
            sent: now,
            patience: open.waits.patience(),
        });
        open.requests
    }

    /// Hands over what the next replies are for.
    pub(super) fn take_staged(&mut self, into: &mut VecDeque<Slot>) {
        if into.is_empty() {
            std::mem::swap(&mut self.staged, into);
        } else {
            into.append(&mut self.staged);
        }
    }

    pub(super) fn set_gathering(&mut self, gathering: bool) {
        self.gathering = gathering;
    }

    /// True when the connection was told to end, and the moment has come.
    pub(super) fn has_ended(&self) -> bool {
        match self.ending {
            None => false,
            Some(Ending::Now) => true,
            Some(Ending::Answered) => self.in_flight == 0 && self.flushes.is_empty() && !self.has_unsent(),
        }
    }

    pub(super) fn patience(&self) -> Duration {
        let waits = self.flushes.iter().map(|flight| flight.patience).max();
        self.patience.saturating_add(waits.unwrap_or_default())
    }

    pub(super) fn oldest_flush(&self) -> Option<Instant> {
        self.flushes.front().map(|flight| flight.sent)
    }

    /// True when a flush would send something: a request for nothing but a proof has only its INFO.
    pub(super) fn has_unsent(&self) -> bool {
        !self.out.is_empty() || self.open.trailing
    }

    /// Puts a unit in, with INFO before it in one transaction.
    #[cold]
    fn enclose(&mut self, enclosure: Enclosure, packed: &[u8]) {
        let commands = packed.strip_prefix(MULTI).unwrap_or(packed);
        for part in [MULTI, INFO, commands] {
            self.out.extend_from_slice(part);
        }
        if enclosure == Enclosure::Unit {
            self.out.extend_from_slice(EXEC);
        }
    }

    /// Why the connection has to end now, if it has to.
    pub(super) fn ended(&self) -> Option<&Error> {
        let waits = self.draining && (self.has_unsent() || self.writing || !self.flushes.is_empty());
        self.closed.as_ref().filter(|_| !waits)
    }

    /// Nothing more is written.
    fn is_dead(&self) -> bool {
        self.closed.is_some() && !self.draining
    }

    fn fail(&mut self, error: Error) {
        if self.draining || self.closed.is_none() {
            self.closed = Some(error);
        }
        self.draining = false;
    }
}

fn overloaded(what: &str) -> Error {
    Error::new(ErrorKind::Overloaded, what)
}

pub(super) fn lost_while(doing: &str, error: io::Error) -> Error {
    Error::new(
        ErrorKind::Disconnected,
        format!("the connection was lost while {doing}"),
    )
    .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{address::Place, stream};

    async fn connection(peer: &tokio::net::TcpListener) -> Connection {
        let place = Place::Tcp {
            host: "127.0.0.1".to_owned(),
            port: peer.local_addr().unwrap().port(),
        };
        let (_, socket) = stream::open(&place).await.unwrap();
        let bounds = Bounds {
            in_flight: 100,
            buffered: 1 << 20,
        };
        let manners = Manners {
            resp3: true,
            tracking: true,
        };
        let meters = NodeMeters::new(&Scope::default(), &"here");
        let mut connection = Connection::new(socket, bounds, manners, None, meters);
        connection.probe = INFO;
        connection
    }

    /// The trailing INFO is judged by the sample before the flush's replies: none may come in between.
    #[test]
    fn an_info_for_its_own_sake_does_not_come_between_replies_and_their_proof() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(probed_while_a_flush_is_open());
    }

    async fn probed_while_a_flush_is_open() {
        let peer = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = connection(&peer).await;
        connection.queue().set_gathering(true);
        connection.queue().crowd = 40;
        let request = Request {
            packed: b"*1\r\n$4\r\nPING\r\n",
            replies: 1,
            proof: ProofWanted::Trailing,
            may_write: true,
            writer: None,
        };
        let _waits = connection.send(&request).unwrap();
        assert!(connection.queue().has_unsent());
        connection.probe();
        let mut sent = VecDeque::new();
        connection.queue().take_staged(&mut sent);
        let kinds: Vec<_> = sent
            .iter()
            .map(|slot| match slot {
                Slot::Call(_) => "call",
                Slot::Trailing(_) => "trailing",
                Slot::Probe(_) => "probe",
                Slot::EndOfFlush => "end",
                _ => "other",
            })
            .collect();
        assert_eq!(kinds, ["call", "trailing", "end", "probe", "end"]);
        assert!(!connection.queue().has_unsent());

        // Behind one who is writing it waits until they have done so; then it does not wait for replies, which need not be coming.
        connection.queue().flushes.clear();
        let _waits = connection.send(&request).unwrap();
        connection.queue().writing = true;
        connection.probe();
        assert!(connection.queue().has_unsent());
        let mut queue = connection.queue();
        queue.writing = false;
        assert!(!queue.can_wait());
        connection.flush(queue);
        assert!(!connection.queue().has_unsent() && connection.queue().can_wait());
    }
}
