//! Polling with a deadline, the only way in which tests here wait for anything.

use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How long to wait between two looks. Short, as most conditions come true within milliseconds.
const INTERVAL: Duration = Duration::from_millis(1);

/// Polls `condition` until it is true, blocking the calling thread.
///
/// # Errors
///
/// A timeout that names `what`, when it is still false after `within`.
pub fn wait_until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        if condition() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::timeout(what, within));
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Polls `condition` until it is true, without blocking the runtime it is called on.
///
/// # Errors
///
/// A timeout that names `what`, when it is still false after `within`.
///
/// # Cancel safety
///
/// Cancel-safe: it holds nothing between two looks.
pub async fn wait_until_async(
    within: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        if condition() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::timeout(what, within));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
