//! Sockets: the only place that opens one. On plain ones, reading and writing are apart; a TLS session
//! is one thing for both.

#[cfg(feature = "tls")]
use std::sync::Arc;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{TcpStream, tcp},
};

#[cfg(unix)]
use tokio::net::{UnixStream, unix};

use super::address::Place;
#[cfg(feature = "tls")]
use super::tls::TlsStream;

/// The half of a socket that the driver reads.
#[derive(Debug)]
pub(crate) enum ReadHalf {
    Tcp(tcp::OwnedReadHalf),
    #[cfg(unix)]
    Unix(unix::OwnedReadHalf),
    #[cfg(feature = "tls")]
    Tls(Arc<TlsStream>),
}

/// The half of a socket that callers and the driver write, from any task.
#[derive(Debug)]
pub(crate) enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    #[cfg(unix)]
    Unix(unix::OwnedWriteHalf),
    #[cfg(feature = "tls")]
    Tls(Arc<TlsStream>),
}

/// Opens a connection.
///
/// # Errors
///
/// What the system says. For TLS, also what the handshake says.
pub(crate) async fn open(place: &Place) -> io::Result<(ReadHalf, WriteHalf)> {
    match place {
        Place::Tcp { host, port } => {
            let (read, write) = tcp(host, *port).await?.into_split();
            Ok((ReadHalf::Tcp(read), WriteHalf::Tcp(write)))
        }
        #[cfg(feature = "tls")]
        Place::Tls {
            host,
            port,
            config,
            name,
            ..
        } => {
            let socket = tcp(host, *port).await?;
            let stream = TlsStream::connect(socket, Arc::clone(config), name.clone()).await?;
            Ok((ReadHalf::Tls(Arc::clone(&stream)), WriteHalf::Tls(stream)))
        }
        #[cfg(unix)]
        Place::Unix(path) => {
            let (read, write) = UnixStream::connect(path).await?.into_split();
            Ok((ReadHalf::Unix(read), WriteHalf::Unix(write)))
        }
        #[cfg(not(unix))]
        Place::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "no unix sockets here")),
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl ReadHalf {
    /// Reads what has come, at most `space`; 0 at the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut space = ReadBuf::new(space);
        ready!(match self {
            Self::Tcp(half) => Pin::new(half).poll_read(context, &mut space),
            #[cfg(unix)]
            Self::Unix(half) => Pin::new(half).poll_read(context, &mut space),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => return stream.poll_read(context, space.initialize_unfilled()),
        })?;
        Poll::Ready(Ok(space.filled().len()))
    }
}

/// What has been received and not yet been read as replies.
#[derive(Debug)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// To begin with: a connection that is seldom used needs no more.
    const LEAST: usize = 4 * 1024;
    /// As much as one read takes in, once there is so much to read at once.
    const SIZE: usize = 64 * 1024;

    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; Self::LEAST],
            start: 0,
            end: 0,
        }
    }

    /// A placeholder without room.
    pub(crate) fn empty() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            end: 0,
        }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > 16 * Self::SIZE {
                // A large reply has gone: don't keep its room for ever.
                self.bytes = vec![0; Self::SIZE];
            }
        }
    }

    /// Room for more; at least a quarter of what there is for one read.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let least = self.bytes.len().clamp(Self::LEAST, Self::SIZE) / 4;
        if self.bytes.len() - self.end < least {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.bytes.len() - self.end < least {
                self.grow();
            }
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    pub(crate) fn filled(&mut self, len: usize) {
        self.end = (self.end + len).min(self.bytes.len());
        if self.end == self.bytes.len() && self.end < Self::SIZE {
            // There was no less to read than there was room.
            self.grow();
        }
    }

    /// As it would be if little had ever been read, unless something is still to be read as replies.
    pub(crate) fn settled(self) -> Self {
        if self.unread().is_empty() {
            Self::new()
        } else {
            self
        }
    }

    fn grow(&mut self) {
        self.bytes.resize((self.bytes.len() * 2).max(Self::LEAST), 0);
    }
}

impl WriteHalf {
    /// Writes what the socket takes at once.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write(bytes),
            #[cfg(unix)]
            Self::Unix(half) => half.try_write(bytes),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// Passes on what has been taken and is still held back; true when nothing is. Only TLS holds back.
    pub(crate) fn flush(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(_) => Ok(true),
            #[cfg(unix)]
            Self::Unix(_) => Ok(true),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.flush(),
        }
    }

    /// Makes the close that follows abortive: what has not been sent is discarded, and the other side is
    /// told by a reset.
    pub(crate) fn abort(&self) {
        match self {
            // Failing here leaves an ordinary close.
            Self::Tcp(half) => drop(half.as_ref().set_zero_linger()),
            // Nothing is held back on a unix socket: what was written has arrived.
            #[cfg(unix)]
            Self::Unix(_) => {}
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.abort(),
        }
    }

    /// Registers for the socket to take more.
    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(half) => half.as_ref().poll_write_ready(context),
            #[cfg(unix)]
            Self::Unix(half) => half.as_ref().poll_write_ready(context),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.poll_write_ready(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads all of `bytes`, and says what the buffer has come to.
    fn read(buffer: &mut ReadBuffer, mut bytes: &[u8]) -> usize {
        while !bytes.is_empty() {
            let space = buffer.space();
            assert!(
                space.len() >= ReadBuffer::LEAST / 4,
                "{} bytes of room",
                space.len()
            );
            let len = space.len().min(bytes.len());
            space[..len].copy_from_slice(&bytes[..len]);
            buffer.filled(len);
            bytes = &bytes[len..];
        }
        buffer.bytes.len()
    }

    #[test]
    fn a_buffer_grows_with_what_there_is_to_read() {
        let mut buffer = ReadBuffer::new();
        for _ in 0..100 {
            assert_eq!(read(&mut buffer, &[1; 100]), ReadBuffer::LEAST);
            buffer.consume(100);
        }
        // A reply of a megabyte and more is kept whole, and its room is not kept.
        let large: Vec<u8> = (0..=255).cycle().take(20 * ReadBuffer::SIZE).collect();
        read(&mut buffer, &large);
        assert_eq!(buffer.unread(), large);
        buffer.consume(1);
        assert_eq!(buffer.unread(), &large[1..]);
        buffer.consume(large.len());
        assert_eq!(buffer.bytes.len(), ReadBuffer::SIZE);
        assert!(buffer.unread().is_empty());
    }
}
