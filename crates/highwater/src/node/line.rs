//! A connection that is spoken on one command at a time: for a node's first words, and for sentinels.

use std::{future::poll_fn, io};

use redis::{Cmd, Value};

use super::{
    address::Place,
    reply::Parser,
    stream::{self, ReadBuffer, ReadHalf, WriteHalf},
};
use crate::error::Error;

/// What the connection was lost at, in the words of its errors.
#[derive(Clone, Copy, Debug)]
struct Doing {
    writing: &'static str,
    reading: &'static str,
}

/// The connection.
pub(crate) struct Line {
    read: ReadHalf,
    write: WriteHalf,
    buffer: ReadBuffer,
    parser: Parser,
    doing: Doing,
}

impl Line {
    /// Opens it, for a node's first words.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(super) async fn to_node(place: &Place) -> io::Result<Self> {
        Self::open(
            place,
            Doing {
                writing: "writing its first commands",
                reading: "reading its first replies",
            },
        )
        .await
    }

    /// Opens it, to a sentinel.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) async fn to_sentinel(place: &Place) -> io::Result<Self> {
        Self::open(
            place,
            Doing {
                writing: "asking the sentinel",
                reading: "listening to the sentinel",
            },
        )
        .await
    }

    async fn open(place: &Place, doing: Doing) -> io::Result<Self> {
        let (read, write) = stream::open(place).await?;
        Ok(Self {
            read,
            write,
            buffer: ReadBuffer::new(),
            parser: Parser::default(),
            doing,
        })
    }

    /// What is left once the first words have been spoken, for the driver.
    pub(super) fn into_parts(self) -> (ReadHalf, WriteHalf, ReadBuffer) {
        (self.read, self.write, self.buffer.settled())
    }

    /// Sends one command and waits for its reply, past pushes.
    ///
    /// # Errors
    ///
    /// When the connection is lost, or what comes is no reply. An error reply is a reply.
    ///
    /// # Cancel safety
    ///
    /// None: whoever drops the future drops the connection.
    pub(crate) async fn ask(&mut self, command: &Cmd) -> Result<Value, Error> {
        let mut replies = self.ask_all(&command.get_packed_command(), 1).await?;
        Ok(replies.pop().unwrap_or(Value::Nil))
    }

    /// As [`ask`](Self::ask), with several commands that travel together. They have so many replies.
    pub(super) async fn ask_all(&mut self, packed: &[u8], replies: usize) -> Result<Vec<Value>, Error> {
        let mut rest = packed;
        while !rest.is_empty() {
            let lost = |error| super::connection::lost_while(self.doing.writing, error);
            poll_fn(|context| self.write.poll_ready(context))
                .await
                .map_err(lost)?;
            match self.write.try_write(rest) {
                Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(lost(error)),
            }
        }
        let mut told = Vec::new();
        while told.len() < replies {
            match self.next().await? {
                Value::Push { .. } => {}
                reply => told.push(reply),
            }
        }
        Ok(told)
    }

    /// The next thing that the other side says, pushes included.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    ///
    /// # Cancel safety
    ///
    /// What has come in part is kept.
    pub(crate) async fn next(&mut self) -> Result<Value, Error> {
        loop {
            let mut at = 0;
            let parsed = self.parser.next(self.buffer.unread(), &mut at);
            self.buffer.consume(at);
            if let Some(value) = parsed? {
                return Ok(value);
            }
            let lost = |error| super::connection::lost_while(self.doing.reading, error);
            let len = poll_fn(|context| self.read.poll_read(context, self.buffer.space()))
                .await
                .map_err(lost)?;
            if len == 0 {
                return Err(lost(io::ErrorKind::UnexpectedEof.into()));
            }
            self.buffer.filled(len);
        }
    }
}
