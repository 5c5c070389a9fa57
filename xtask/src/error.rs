//! How a command ends when it does not end well.

use std::process::ExitCode;

/// Why a command stopped.
#[derive(Debug)]
pub(crate) enum Error {
    /// The arguments make no sense: exit code 2.
    Usage(String),
    /// The work could not be done: exit code 1.
    Failed(String),
    /// A program that we ran for the user has said what is wrong: its exit code, and no words of ours.
    Exit(u8),
}

impl Error {
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Usage(message) | Self::Failed(message) => Some(message.trim_end()),
            Self::Exit(_) => None,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::FAILURE,
            Self::Exit(code) => ExitCode::from(*code),
        }
    }
}
