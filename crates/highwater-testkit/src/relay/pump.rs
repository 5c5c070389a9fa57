//! One way of one connection: reads chunks into a bounded queue, and passes them on when the relay's state allows it.

use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::hold::Progress;
use super::state::{Direction, Impairment, Registration, State};

const CHUNK: usize = 64 * 1024;
/// Bytes that may wait in one direction of one connection. Then the relay stops reading, and the sender is held back.
const QUEUED_BYTES: usize = 16 * 1024 * 1024;
/// Chunks that may wait there: many small ones cost more than their bytes.
const QUEUED_CHUNKS: usize = 64 * 1024;
/// A limited rate is passed on in steps of about this length.
const RATE_STEP: Duration = Duration::from_millis(10);

/// Bytes read at once.
struct Chunk {
    bytes: Vec<u8>,
    received_at: Instant,
    /// Where this chunk's delay lies between the smallest and the largest, from 0 to 1.
    jitter: f64,
    _room: OwnedSemaphorePermit,
}

/// How the sending side ended.
enum End {
    Closed,
    Reset,
}

/// Pumps until the sender closes and the receiver has been told, or either fails.
pub(super) async fn run(
    from: &TcpStream,
    to: &TcpStream,
    direction: Direction,
    registration: &Registration,
) -> std::io::Result<()> {
    let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS);
    let mut writer = Writer {
        to,
        direction,
        registration,
        changes: registration.shared.changes(),
        pace: Pace::default(),
    };
    let (end, written) = tokio::join!(
        read(from, direction, registration, sender),
        writer.forward_all(chunks)
    );
    written?;
    writer.finish(&end).await
}

/// Reads until the sender ends. A failing receiver is noticed by the queue's other end being gone.
async fn read(
    from: &TcpStream,
    direction: Direction,
    registration: &Registration,
    sender: mpsc::Sender<Chunk>,
) -> End {
    let room = Arc::new(Semaphore::new(QUEUED_BYTES));
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match from.try_read(&mut buffer) {
            Ok(0) => return End::Closed,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tokio::select! {
                    ready = from.readable() => if ready.is_err() { return End::Reset },
                    () = sender.closed() => return End::Reset,
                }
                continue;
            }
            Err(_) => return End::Reset,
        };
        let received_at = Instant::now();
        registration.shared.with(|state| {
            *state.stats.received.of_mut(direction) += read.len() as u64;
            if direction == Direction::ToTarget {
                state.sent(registration.connection, read);
            }
        });
        let wanted = u32::try_from(read.len()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&room).acquire_many_owned(wanted).await else {
            return End::Reset;
        };
        let chunk = Chunk {
            bytes: read.to_vec(),
            received_at,
            jitter: fastrand::f64(),
            _room: room,
        };
        if sender.send(chunk).await.is_err() {
            return End::Reset;
        }
    }
}

/// What to do next with the first chunk in the queue.
enum Step {
    Wrote(usize),
    Discarded,
    WaitFor(Instant),
    WaitForChange,
    WaitForRoom,
    Failed(std::io::Error),
}

/// What one direction of one connection must remember between two pieces.
#[derive(Default)]
struct Pace {
    hold: Progress,
    rate_free_at: Option<Instant>,
    gap_until: Option<Instant>,
}

struct Writer<'a> {
    to: &'a TcpStream,
    direction: Direction,
    registration: &'a Registration,
    changes: watch::Receiver<u64>,
    pace: Pace,
}

impl Writer<'_> {
    async fn forward_all(&mut self, mut chunks: mpsc::Receiver<Chunk>) -> std::io::Result<()> {
        while let Some(chunk) = chunks.recv().await {
            self.forward(&chunk).await?;
        }
        Ok(())
    }

    async fn forward(&mut self, chunk: &Chunk) -> std::io::Result<()> {
        let mut written = 0;
        while let Some(rest) = chunk.bytes.get(written..).filter(|rest| !rest.is_empty()) {
            self.changes.borrow_and_update();
            let now = Instant::now();
            let step = self.registration.shared.with(|state| {
                self.pace.step(
                    state,
                    (self.registration.connection, self.direction),
                    chunk,
                    now,
                    |max| self.to.try_write(rest.get(..max).unwrap_or(rest)),
                    rest,
                )
            });
            match step {
                Step::Wrote(count) => written += count,
                Step::Discarded => {
                    self.lose(rest.len());
                    return Ok(());
                }
                Step::Failed(error) => return Err(error),
                Step::WaitForChange => drop(self.changes.changed().await),
                Step::WaitFor(instant) => tokio::select! {
                    () = tokio::time::sleep_until(instant.into()) => {}
                    _ = self.changes.changed() => {}
                },
                Step::WaitForRoom => tokio::select! {
                    ready = self.to.writable() => ready?,
                    _ = self.changes.changed() => {}
                },
            }
        }
        Ok(())
    }

    fn lose(&self, bytes: usize) {
        self.registration.shared.with(|state| {
            *state.stats.discarded.of_mut(self.direction) += bytes as u64;
            if let Some(connection) = state.connections.get_mut(&self.registration.connection) {
                connection.lost_bytes = true;
            }
        });
    }

    /// Tells the receiver that the sender has ended, once bytes would pass too.
    async fn finish(&mut self, end: &End) -> std::io::Result<()> {
        loop {
            self.changes.borrow_and_update();
            let blocked = self.registration.shared.with(|state| {
                state.black_hole
                    || (state.paused && state.directions.includes(self.direction))
                    || (self.direction == Direction::ToClient
                        && state.impairment(self.registration.connection).paused)
                    || self
                        .pace
                        .hold
                        .allowance(state.hold.of_mut(self.direction), b"end")
                        == 0
            });
            if !blocked {
                break;
            }
            drop(self.changes.changed().await);
        }
        match end {
            End::Reset => Err(ErrorKind::ConnectionReset.into()),
            End::Closed => shutdown(self.to),
        }
    }
}

/// Closes the writing half only. Tokio's own `shutdown` wants the stream for itself.
fn shutdown(stream: &TcpStream) -> std::io::Result<()> {
    rustix::net::shutdown(stream, rustix::net::Shutdown::Write).map_err(Into::into)
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.registration
            .shared
            .with(|state| self.pace.hold.leave(state.hold.of_mut(self.direction)));
    }
}

impl Pace {
    /// Decides under the state's lock, and writes under it: a control that has returned is obeyed.
    fn step(
        &mut self,
        state: &mut State,
        (connection, direction): (u64, Direction),
        chunk: &Chunk,
        now: Instant,
        write: impl FnOnce(usize) -> std::io::Result<usize>,
        rest: &[u8],
    ) -> Step {
        if state.black_hole {
            return Step::Discarded;
        }
        let impaired = state.directions.includes(direction);
        let besides = match direction {
            Direction::ToClient => state.impairment(connection),
            Direction::ToTarget => Impairment::default(),
        };
        if (impaired && state.paused) || besides.paused {
            return Step::WaitForChange;
        }
        let (least, most) = if impaired { state.delay } else { Default::default() };
        let (least, most) = (least.max(besides.delay.0), most.max(besides.delay.1));
        let due = chunk.received_at + least + (most - least).mul_f64(chunk.jitter);
        let of_those = besides.bytes_per_second.and_then(NonZeroU64::new);
        let rate = of_those.or(state.rate.filter(|_| impaired));
        let rate_free_at = self.rate_free_at.filter(|_| rate.is_some());
        let gap_until = self.gap_until.filter(|_| state.fragment.is_some());
        if let Some(instant) = [Some(due), rate_free_at, gap_until].into_iter().flatten().max()
            && instant > now
        {
            return Step::WaitFor(instant);
        }
        let mut limit = rest.len();
        if let Some(fragment) = state.fragment {
            limit = limit.min(fragment.max_bytes);
        }
        if let Some(rate) = rate {
            let step = rate.get().saturating_mul(RATE_STEP.as_millis() as u64) / 1000;
            limit = limit.min(usize::try_from(step).unwrap_or(usize::MAX).max(1));
        }
        let hold = state.hold.of_mut(direction);
        limit = self.hold.allowance(hold, rest.get(..limit).unwrap_or(rest));
        if limit == 0 {
            return Step::WaitForChange;
        }
        let count = match write(limit) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::WaitForRoom,
            Err(error) => return Step::Failed(error),
        };
        self.hold.advance(hold, rest.get(..count).unwrap_or(rest));
        *state.stats.forwarded.of_mut(direction) += count as u64;
        self.gap_until = state.fragment.map(|fragment| now + fragment.gap);
        self.rate_free_at = rate.map(|rate| {
            // Timers are late by up to a millisecond or more: catch up a little, so that the rate is kept.
            let from = rate_free_at
                .unwrap_or(now)
                .max(now.checked_sub(RATE_STEP).unwrap_or(now));
            from + Duration::from_secs_f64(count as f64 / rate.get() as f64)
        });
        Step::Wrote(count)
    }
}
