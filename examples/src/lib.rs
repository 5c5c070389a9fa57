//! What the example services share: the HTTP side of a shopping cart ([`api`]) and the running of a
//! service ([`serve`]). How carts are kept is in the services themselves: `axum-cart` with highwater,
//! `plain-cart` with redis-rs alone.

pub mod api;
pub mod serve;

use std::{error::Error, process::ExitCode};

/// Turns the outcome of a program into its exit code; an error is said on standard error.
#[must_use]
pub fn exit_code(program: &str, outcome: Result<(), Box<dyn Error + Send + Sync>>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::FAILURE
        }
    }
}
