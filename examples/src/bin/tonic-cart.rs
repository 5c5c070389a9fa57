//! The shopping cart over gRPC, with unary and streaming calls.
//!
//! `cargo run -p highwater-examples --bin tonic-cart` starts real servers with replicas that are 200 ms behind, the
//! service, and a client of it: what a streaming call writes is read back at once. `serve` and `client` are the
//! two halves for servers of your own.

use std::{future::pending, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use highwater::{Client, ClientBuilder, SigningKey, TokenCodec};
use highwater_examples::{
    exit_code,
    grpc::{
        self, Carts,
        proto::{CountRequest, PutRequest, ShowRequest},
    },
    log_to_stderr,
};
use highwater_http::{PropagateLayer, TokenJar};
use highwater_testkit::Topology;
use tokio_stream::StreamExt;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A shopping cart over gRPC, on a Redis or Valkey primary and its replicas
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start servers, the service and the client (the default)
    Demo,
    /// Serve carts
    Serve {
        /// The address to listen on
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
        listen: String,
        /// The primary: redis://user:password@host:port/database
        #[arg(long, value_name = "URL")]
        primary: String,
        /// Its replicas
        #[arg(long, value_name = "URL", num_args = 1..)]
        replica: Vec<String>,
        /// A file with the secret that signs session tokens: the same for all processes, best 32 random bytes
        #[arg(long, value_name = "FILE")]
        token_key_file: PathBuf,
    },
    /// Fill a cart and look at it
    Client {
        /// Where the service is
        #[arg(default_value = "127.0.0.1:50051")]
        address: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    log_to_stderr();
    exit_code("tonic-cart", run(Args::parse().command).await)
}

async fn run(command: Option<Command>) -> Result<(), Error> {
    match command.unwrap_or(Command::Demo) {
        Command::Demo => demo().await,
        Command::Client { address } => client(&address).await,
        Command::Serve {
            listen,
            primary,
            replica,
            token_key_file,
        } => {
            let secret = std::fs::read(&token_key_file)
                .map_err(|error| format!("can't read the token key {}: {error}", token_key_file.display()))?;
            let codec = TokenCodec::signed(SigningKey::new(secret)?);
            let client = connect(primary, replica).await?;
            let listener = grpc::listen(&listen).await?;
            println!("listening on {}", listener.local_addr()?);
            let stop = async { drop(tokio::signal::ctrl_c().await) };
            Ok(grpc::serve(listener, client, codec, stop).await?)
        }
    }
}

async fn connect(primary: String, replicas: Vec<String>) -> Result<Client, Error> {
    let builder = Client::builder().primary(primary);
    Ok(replicas
        .into_iter()
        .fold(builder, ClientBuilder::replica)
        .connect()
        .await?)
}

async fn demo() -> Result<(), Error> {
    let topology = tokio::task::spawn_blocking(|| {
        Topology::builder()
            .replicas(2)
            .delay(Duration::from_millis(200))
            .start()
    });
    let topology = topology.await??;
    println!("a primary, and 2 replicas 200 ms behind");
    let replicas = topology.replicas().map(highwater_testkit::Server::url).collect();
    let redis = connect(topology.primary().url(), replicas).await?;
    let mut secret = vec![0; 32];
    getrandom::fill(&mut secret)?;
    let codec = TokenCodec::signed(SigningKey::new(secret)?);
    let listener = grpc::listen("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::select! {
        served = grpc::serve(listener, redis, codec, pending()) => Ok(served?),
        done = client(&address) => done,
    }
}

/// A client without a key: it sends back what it is sent.
async fn client(address: &str) -> Result<(), Error> {
    let mut carts = grpc::carts(address, &PropagateLayer::opaque(TokenJar::new()))?;
    let user = "ann".to_owned();
    let put = |sku: &str, quantity| PutRequest {
        user: user.clone(),
        sku: sku.to_owned(),
        quantity,
    };

    let line = carts.put(put("apples", 3)).await?.into_inner();
    println!("put     {} {}", line.quantity, line.sku);
    show(&mut carts, &user).await?;

    // The writes of a streaming call are made while its response is under way: the token is in its trailers.
    let count = CountRequest {
        user: user.clone(),
        sku: "pears".to_owned(),
        up_to: 5,
    };
    let mut lines = carts.count(count).await?.into_inner();
    while let Some(line) = lines.next().await {
        println!("counted {} pears", line?.quantity);
    }
    show(&mut carts, &user).await?;

    let puts = [put("plums", 7), put("apples", 1)];
    let mut lines = carts.fill(tokio_stream::iter(puts)).await?.into_inner();
    while let Some(line) = lines.next().await {
        let line = line?;
        println!("filled  {} {}", line.quantity, line.sku);
    }
    show(&mut carts, &user).await
}

async fn show(carts: &mut Carts, user: &str) -> Result<(), Error> {
    let user = user.to_owned();
    let cart = carts.show(ShowRequest { user }).await?.into_inner();
    let mut items: Vec<_> = cart.items.into_iter().collect();
    items.sort();
    println!("cart    {items:?}");
    Ok(())
}
