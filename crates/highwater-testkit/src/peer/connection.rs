//! One connection of a peer.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::yield_now,
};

use super::{Play, Request, Script, Shared, greeting, request::Requests};
use crate::lock;

/// Serves a connection until either side ends it.
pub(super) async fn serve<S: Script>(socket: TcpStream, number: usize, shared: Arc<Shared<S>>) {
    // How it ended is the client's to notice.
    let _ = play_along(socket, number, &shared).await;
    lock(&shared.script).ended(number);
}

async fn play_along<S: Script>(mut socket: TcpStream, number: usize, shared: &Shared<S>) -> io::Result<()> {
    // What is written is to go out as it is.
    socket.set_nodelay(true)?;
    let mut requests = Requests::default();
    let mut introduction = Introduction::default();
    loop {
        if socket.read_buf(&mut requests.received).await? == 0 {
            return Ok(());
        }
        for request in requests.by_ref() {
            let plays = introduction.answer(&request, number, shared);
            for play in plays {
                match play {
                    Play::Bytes(bytes) => socket.write_all(&bytes).await?,
                    Play::Breath(turns) => {
                        for _ in 0..turns {
                            yield_now().await;
                        }
                    }
                    Play::End => return socket.shutdown().await,
                    Play::Reset => return socket.set_zero_linger(),
                }
            }
        }
    }
}

/// How far a connection has introduced itself.
#[derive(Default)]
struct Introduction {
    /// Between MULTI and EXEC.
    multi: bool,
    over: bool,
}

impl Introduction {
    fn answer<S: Script>(&mut self, request: &Request, number: usize, shared: &Shared<S>) -> Vec<Play> {
        let mut script = lock(&shared.script);
        if !self.over
            && let Some(plays) = script.greet(number, request)
        {
            return plays;
        }
        if let Some(play) = greeting::answer(request, number, script.speaks_resp3()) {
            return vec![play];
        }
        if self.over {
            return script.answer(number, request);
        }
        vec![match request.name().as_str() {
            "MULTI" => {
                self.multi = true;
                Play::bytes("+OK\r\n")
            }
            "INFO" if self.multi => Play::bytes("+QUEUED\r\n"),
            "EXEC" => {
                self.multi = false;
                let info = script.info();
                Play::bytes(format!("*1\r\n${}\r\n{info}\r\n", info.len()))
            }
            _ => {
                if request.is_info() {
                    self.over = true;
                    shared.introduced.fetch_add(1, Ordering::Relaxed);
                }
                Play::bulk(&script.info())
            }
        }]
    }
}
