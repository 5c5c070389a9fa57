//! A minimal blocking RESP2 client, for test control only.
//!
//! It is separate from the client under test on purpose, and knows nothing but request and reply.

use std::fmt;
use std::io::{BufRead, BufReader, ErrorKind as IoKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::{Error, ErrorKind, InfoReplication, Result};

/// No reply of a healthy server takes this long; a paused one must not hang a test for ever.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A RESP2 reply.
#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Status(String),
    /// `-ERR …`. At the top level [`Control::command`] makes it an [`Error`] instead; it is left for replies of EXEC.
    Error(String),
    /// `:1`
    Integer(i64),
    /// `$5`: bytes
    Bulk(Vec<u8>),
    /// `$-1` or `*-1`
    Nil,
    /// `*2`
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a status or bulk reply.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Status(text) => Some(text),
            Self::Bulk(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The number in an integer reply.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements of an array reply.
    #[must_use]
    pub fn array(&self) -> Option<&[Reply]> {
        match self {
            Self::Array(replies) => Some(replies),
            _ => None,
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(text) => write!(f, "+{text}"),
            Self::Error(text) => write!(f, "-{text}"),
            Self::Integer(number) => write!(f, ":{number}"),
            Self::Bulk(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Self::Nil => f.write_str("nil"),
            Self::Array(replies) => f.debug_list().entries(replies).finish(),
        }
    }
}

/// One blocking connection to a server on loopback.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<TcpStream>,
}

impl Control {
    /// Connects to a port on loopback, with a timeout of some seconds on everything.
    ///
    /// # Errors
    ///
    /// If nothing listens there.
    pub fn connect(port: u16) -> Result<Self> {
        Self::connect_with(port, TIMEOUT)
    }

    /// Connects to a port on loopback, with `timeout` on connecting and on each reply.
    ///
    /// # Errors
    ///
    /// If nothing listens there.
    pub fn connect_with(port: u16, timeout: Duration) -> Result<Self> {
        let failed = |error| Error::io(format!("can't connect to 127.0.0.1:{port}"), error);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, timeout).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(timeout)).map_err(failed)?;
        stream.set_write_timeout(Some(timeout)).map_err(failed)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends one command and returns its reply.
    ///
    /// # Errors
    ///
    /// If the connection fails, the reply takes too long, or the reply is an error: then [`Error::reply`] has its text.
    /// After a failure of the connection it can't be used any more.
    pub fn command<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<Reply> {
        self.send(arguments)?;
        match self.receive()? {
            Reply::Error(text) => Err(Error::new(ErrorKind::Reply, text)),
            reply => Ok(reply),
        }
    }

    /// Sends one command without waiting for its reply, to build pipelines.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn send<A: AsRef<[u8]>>(&mut self, arguments: &[A]) -> Result<()> {
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            let argument = argument.as_ref();
            request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            request.extend_from_slice(argument);
            request.extend_from_slice(b"\r\n");
        }
        self.stream
            .get_mut()
            .write_all(&request)
            .map_err(|error| Error::io("can't send a command", error))
    }

    /// Reads the next reply; error replies come as [`Reply::Error`].
    ///
    /// # Errors
    ///
    /// If the connection fails or the reply takes too long.
    pub fn receive(&mut self) -> Result<Reply> {
        let line = self.line()?;
        let malformed = || Error::new(ErrorKind::Protocol, format!("not a RESP2 reply: {line:?}"));
        let number = |text: &str| text.parse::<i64>().map_err(|_| malformed());
        let mut rest = line.chars();
        let marker = rest.next().ok_or_else(malformed)?;
        let rest = rest.as_str();
        match marker {
            '+' => Ok(Reply::Status(rest.to_owned())),
            '-' => Ok(Reply::Error(rest.to_owned())),
            ':' => Ok(Reply::Integer(number(rest)?)),
            '$' => match usize::try_from(number(rest)?) {
                Ok(length) => self.bulk(length).map(Reply::Bulk),
                Err(_) => Ok(Reply::Nil),
            },
            '*' => match usize::try_from(number(rest)?) {
                Ok(length) => (0..length)
                    .map(|_| self.receive())
                    .collect::<Result<_>>()
                    .map(Reply::Array),
                Err(_) => Ok(Reply::Nil),
            },
            _ => Err(malformed()),
        }
    }

    /// `INFO replication`, parsed.
    ///
    /// # Errors
    ///
    /// As for [`command`](Self::command).
    pub fn info_replication(&mut self) -> Result<InfoReplication> {
        let reply = self.command(&["INFO", "replication"])?;
        reply.text().unwrap_or_default().parse()
    }

    /// Whether the peer has not closed this idle connection. Reads nothing.
    pub(crate) fn is_usable(&self) -> bool {
        let stream = self.stream.get_ref();
        if stream.set_nonblocking(true).is_err() {
            return false;
        }
        let idle = matches!(stream.peek(&mut [0]), Err(error) if error.kind() == IoKind::WouldBlock);
        stream.set_nonblocking(false).is_ok() && idle
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).map_err(no_reply)?;
        if read == 0 {
            return Err(no_reply(IoKind::UnexpectedEof.into()));
        }
        Ok(String::from_utf8_lossy(line.trim_ascii_end()).into_owned())
    }

    fn bulk(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).map_err(no_reply)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn no_reply(error: std::io::Error) -> Error {
    Error::io("no reply from the server", error)
}
