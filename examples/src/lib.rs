//! What the example services share: the HTTP side of a shopping cart ([`api`]), its gRPC side ([`grpc`]), and the
//! running of a service ([`serve`]). How carts are kept is in the services themselves: `axum-cart` with highwater,
//! `plain-cart` with redis-rs alone, `tonic-cart` in [`grpc`].

pub mod api;
pub mod grpc;
pub mod serve;

/// What the README shows is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

use std::{
    error::Error,
    io::{self, IsTerminal},
    process::ExitCode,
};

use tracing_subscriber::filter::LevelFilter;

/// Lets warnings, also those of highwater, go to standard error.
pub fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

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
