//! Running a service: its address, its signals, and its orderly end.

use std::{
    future::pending,
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, header::CONNECTION},
    middleware::{Next, from_fn},
    serve::Listener,
};
use rustix::process::{Signal as Number, getpid, kill_process};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{sleep, timeout},
};

/// How long requests may take to finish after the signal to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// How long connections stay open after the signal, so that their clients hear with their next
/// response that they are to go elsewhere, and none is closed while a request is on its way.
const FAREWELL: Duration = Duration::from_millis(250);

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
    let mut stop = Stop::new()?;
    if options.exit_with_stdin {
        stop_with_stdin();
    }
    writeln!(io::stdout(), "listening on http://{address}")?;

    let (stopping, stopped) = watch::channel(false);
    let (closing, mut closed) = watch::channel(false);
    let routes = routes.layer(from_fn({
        let stopped = stopped.clone();
        move |request, next| say_farewell(stopped.clone(), request, next)
    }));
    let door = Door {
        listener: Some(listener),
        address,
        stopped,
    };
    let server = axum::serve(door, routes)
        .with_graceful_shutdown(async move { drop(closed.wait_for(|closed| *closed).await) });
    let deadline = async {
        stop.asked().await;
        stopping.send_replace(true);
        sleep(FAREWELL).await;
        closing.send_replace(true);
        drop(timeout(DRAIN, stop.asked()).await);
    };
    tokio::select! {
        served = server => served,
        () = deadline => {
            eprintln!("stopped with requests unfinished");
            Ok(())
        }
    }
}

async fn say_farewell(
    stopped: watch::Receiver<bool>,
    request: Request,
    next: Next,
) -> axum::response::Response {
    let mut response = next.run(request).await;
    if *stopped.borrow() {
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A listener that shuts with the signal to stop, before the connections that it let in.
struct Door {
    listener: Option<TcpListener>,
    address: SocketAddr,
    stopped: watch::Receiver<bool>,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            tokio::select! {
                (stream, peer) = Listener::accept(listener) => {
                    drop(stream.set_nodelay(true));
                    return (stream, peer);
                }
                _ = self.stopped.wait_for(|stopped| *stopped) => {}
            }
        }
        self.listener = None;
        pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
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
        _ = kill_process(getpid(), Number::TERM);
    });
}
