//! Pieces of the hot path for this project's own benches and fuzzers. No part of the stable interface.

use std::ops::Range;

use redis::Value;

use crate::{
    command::{Class, Command, CommandTable, Unit},
    error::Error,
    node::{Parser, ReadBuffer, info_text},
};

/// Reads one whole reply; `None` when more bytes are needed.
///
/// # Errors
///
/// When the bytes are no RESP.
pub fn parse_reply(bytes: &[u8]) -> Result<Option<Value>, Error> {
    Parser::default().next(bytes, &mut 0)
}

/// What a connection receives, in the buffer and by the parser that its driver reads with.
#[derive(Debug)]
pub struct Received {
    buffer: ReadBuffer,
    parser: Parser,
}

impl Default for Received {
    fn default() -> Self {
        Self {
            buffer: ReadBuffer::new(),
            parser: Parser::default(),
        }
    }
}

impl Received {
    /// Takes in what the socket gave.
    pub fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.buffer.space();
            let len = space.len().min(bytes.len());
            let (now, later) = bytes.split_at(len);
            if let Some(space) = space.get_mut(..len) {
                space.copy_from_slice(now);
            }
            self.buffer.filled(len);
            bytes = later;
        }
    }

    /// The next whole reply or push; `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// When the bytes are no RESP.
    pub fn next_value(&mut self) -> Result<Option<Value>, Error> {
        let mut at = 0;
        let value = self.parser.next(self.buffer.unread(), &mut at);
        self.buffer.consume(at);
        value
    }

    /// What has been received and not been read.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.buffer.unread()
    }
}

/// The text of an INFO that begins the bytes, and how many of them have been read: `None` when more are needed,
/// `Some(None)` when they are no text's.
///
/// # Errors
///
/// When the bytes are no RESP.
#[expect(clippy::type_complexity, reason = "as the driver's own function has it")]
pub fn text(bytes: &[u8]) -> Result<(Option<Option<&[u8]>>, usize), Error> {
    let mut at = 0;
    let text = info_text(bytes, &mut at)?;
    Ok((text, at))
}

/// The static command table, or one that a server told.
#[derive(Debug, Default)]
pub struct Classifier(CommandTable);

/// What is known of one command of a unit: where it is, whether it reads and writes, and for how many
/// milliseconds it may block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Its place among the encoded commands.
    pub span: Range<usize>,
    /// Its reply shows keys.
    pub reads: bool,
    /// It writes, or may write.
    pub writes: bool,
    /// How long it may block.
    pub patience: std::time::Duration,
}

impl Classifier {
    /// The table in a reply to `COMMAND`.
    #[must_use]
    pub fn told(reply: &Value) -> Self {
        Self(CommandTable::from_reply(reply))
    }

    /// The class of a command.
    ///
    /// # Errors
    ///
    /// When a shared connection can't serve it.
    pub fn classify(&self, command: &Command) -> Result<Class, Error> {
        self.0.classify(&command.packed, command.unit)
    }

    /// The class of encoded commands, between MULTI and EXEC if they are `atomic`.
    ///
    /// # Errors
    ///
    /// As [`classify`](Self::classify).
    pub fn classify_encoded(&self, packed: &[u8], atomic: bool) -> Result<Class, Error> {
        self.0.classify(packed, unit(atomic))
    }

    /// A closer look at encoded commands, for a connection of one's own.
    ///
    /// # Errors
    ///
    /// When no connection can serve them.
    pub fn look_at_encoded(&self, packed: &[u8], atomic: bool) -> Result<Vec<Glance>, Error> {
        let looks = self.0.look(packed, unit(atomic))?;
        Ok(looks
            .into_iter()
            .map(|look| Glance {
                span: look.span,
                reads: look.reads,
                writes: look.writes,
                patience: look.patience,
            })
            .collect())
    }
}

fn unit(atomic: bool) -> Unit {
    if atomic { Unit::Transaction } else { Unit::Pipeline }
}

/// Encoded commands, each as it is encoded.
pub fn encoded_commands(packed: &[u8]) -> impl Iterator<Item = &[u8]> {
    crate::command::commands(packed)
}

/// The arguments of each of the encoded commands.
#[must_use]
pub fn arguments(packed: &[u8]) -> Vec<Vec<&[u8]>> {
    crate::command::all_arguments(packed)
}
