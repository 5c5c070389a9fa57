//! Running a service: its address, its signals, and its orderly end.

use std::{
    io::{self, Write},
    time::Duration,
};

use axum::{Router, serve::ListenerExt};
use rustix::process::{Signal as Number, getpid, kill_process};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

/// How long requests may take to finish after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Where and how a service runs.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: String,
    /// Stop when standard input ends: a parent that is killed takes its service along
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// Serves until SIGTERM or ctrl-c, then refuses new connections and lets requests finish, for ten
/// seconds at most. A second signal ends that at once. The first line on standard output says the
/// address.
///
/// # Errors
///
/// When the address can't be listened on.
pub async fn serve(options: &Options, routes: Router) -> io::Result<()> {
    let listener = TcpListener::bind(&options.listen).await.map_err(|error| {
        let listen = &options.listen;
        io::Error::new(error.kind(), format!("can't listen on {listen}: {error}"))
    })?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let mut stop = Stop::new()?;
    if options.exit_with_stdin {
        stop_with_stdin();
    }
    writeln!(io::stdout(), "listening on http://{address}")?;

    let (drain, draining) = oneshot::channel::<()>();
    let server = axum::serve(listener, routes).with_graceful_shutdown(async {
        // It only ever ends by being dropped.
        drop(draining.await);
    });
    let deadline = async {
        stop.asked().await;
        drop(drain);
        drop(timeout(DRAIN, stop.asked()).await);
    };
    tokio::select! {
        served = server => served,
        () = deadline => {
            eprintln!("stopping with requests unfinished");
            Ok(())
        }
    }
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Makes the end of standard input a SIGTERM. On a thread of its own, as a read of standard input
/// can't be given up.
fn stop_with_stdin() {
    std::thread::spawn(|| {
        drop(io::copy(&mut io::stdin(), &mut io::sink()));
        drop(kill_process(getpid(), Number::TERM));
    });
}
