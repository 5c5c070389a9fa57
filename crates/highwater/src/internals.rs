//! Pieces of the hot path for this project's own benches and fuzzers. No part of the stable interface.

use redis::Value;

use crate::{
    command::{Class, Command, CommandTable},
    error::Error,
};

/// Reads one whole reply; `None` when more bytes are needed.
///
/// # Errors
///
/// When the bytes are no RESP.
pub fn parse_reply(bytes: &[u8]) -> Result<Option<Value>, Error> {
    crate::node::parse_reply(bytes)
}

/// The static command table.
#[derive(Debug, Default)]
pub struct Classifier(CommandTable);

impl Classifier {
    /// The class of a command.
    ///
    /// # Errors
    ///
    /// When a shared connection can't serve it.
    pub fn classify(&self, command: &Command) -> Result<Class, Error> {
        self.0.classify(&command.packed, command.unit)
    }
}
