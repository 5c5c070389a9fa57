//! TLS sessions over a socket that callers write and the driver reads, each from their own task.
//!
//! The session sits behind a lock, which is held for as long as bytes are enciphered or deciphered
//! and handed to or taken from the kernel, and never across an await. Only the driver waits for the
//! socket: it is the one whose waker the socket knows.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};
use tokio::net::TcpStream;

/// A connected socket and the session on it.
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: Mutex<ClientConnection>,
    aborted: AtomicBool,
}

impl TlsStream {
    /// Shakes hands on a socket that has just been connected.
    pub(super) async fn connect(
        socket: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Arc<Self>> {
        let mut session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while session.is_handshaking() || session.wants_write() {
            while session.wants_write() {
                match session.write_tls(&mut Socket(&socket)) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
                    Err(error) => return Err(error),
                }
            }
            if !session.is_handshaking() {
                break;
            }
            match session.read_tls(&mut Socket(&socket)) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => process(&mut session, &socket)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.readable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(Arc::new(Self {
            socket,
            session: Mutex::new(session),
            aborted: AtomicBool::new(false),
        }))
    }

    fn session(&self) -> MutexGuard<'_, ClientConnection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deciphers what has come, at most `space`; 0 at the end of the stream.
    pub(super) fn poll_read(&self, context: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut session = self.session();
            // What the session itself has to say (a new key, an alert) goes out here too.
            self.pass_on(&mut session)?;
            match session.reader().read(space) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
            match session.read_tls(&mut Socket(&self.socket)) {
                Ok(0) => return Poll::Ready(Ok(0)),
                Ok(_) => process(&mut session, &self.socket)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let stuck = session.wants_write();
                    drop(session);
                    if stuck && self.socket.poll_write_ready(context)?.is_ready() {
                        continue;
                    }
                    ready!(self.socket.poll_read_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Takes as much of `bytes` as there is room for; what has been taken goes out now, or with the
    /// next call, or with [`Self::flush`].
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session();
        let mut taken = 0;
        loop {
            self.pass_on(&mut session)?;
            let rest = bytes.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(taken);
            }
            let len = session.writer().write(rest)?;
            taken += len;
            if len == 0 {
                return match taken {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    taken => Ok(taken),
                };
            }
        }
    }

    /// True once everything that was taken is in the kernel's hands.
    pub(super) fn flush(&self) -> io::Result<bool> {
        self.pass_on(&mut self.session())
    }

    fn pass_on(&self, session: &mut ClientConnection) -> io::Result<bool> {
        while session.wants_write() {
            match session.write_tls(&mut Socket(&self.socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_write_ready(context)
    }

    /// Makes the close that follows abortive.
    pub(super) fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
        // Failing here leaves an ordinary close.
        drop(self.socket.set_zero_linger());
    }
}

impl Drop for TlsStream {
    /// Says goodbye, as far as the socket takes it at once.
    fn drop(&mut self) {
        if !*self.aborted.get_mut() {
            let session = self.session.get_mut().unwrap_or_else(PoisonError::into_inner);
            session.send_close_notify();
            drop(session.write_tls(&mut Socket(&self.socket)));
        }
    }
}

/// Takes in what `read_tls` has read. On a failure the other side is told why, if that is possible.
fn process(session: &mut ClientConnection, socket: &TcpStream) -> io::Result<()> {
    match session.process_new_packets() {
        Ok(_) => Ok(()),
        Err(error) => {
            drop(session.write_tls(&mut Socket(socket)));
            Err(io::Error::new(io::ErrorKind::InvalidData, error))
        }
    }
}

/// What rustls reads and writes: the socket, as far as it goes without waiting.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(space)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
