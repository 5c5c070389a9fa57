//! One relayed connection: two pumps, and an eye on whether it must close.

use tokio::net::TcpStream;
use tokio::sync::watch;

use super::pump;
use super::state::{Direction, Registration};

/// Relays until both sides have closed, one fails, or the relay cuts it. Dropping the sockets closes them.
pub(super) async fn run(client: TcpStream, registration: Registration) {
    let changes = registration.shared.changes();
    tokio::select! {
        biased;
        () = must_close(changes, &registration) => {}
        _ = relay(&client, &registration) => {}
    }
    // The sockets close before the registration goes: a cut returns when they are closed.
    drop(client);
    drop(registration);
}

async fn relay(client: &TcpStream, registration: &Registration) -> std::io::Result<()> {
    let address = registration.shared.with(|state| state.target);
    let target = TcpStream::connect(address).await?;
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    tokio::try_join!(
        pump::run(&target, client, Direction::ToClient, registration),
        pump::run(client, &target, Direction::ToTarget, registration),
    )?;
    Ok(())
}

async fn must_close(mut changes: watch::Receiver<u64>, registration: &Registration) {
    loop {
        changes.borrow_and_update();
        if registration
            .shared
            .with(|state| state.must_close(registration.connection))
        {
            return;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
