//! The shopping cart of a busy shop: an axum service that reads from replicas, and still never shows
//! a user a cart older than that user's last change.
//!
//! The session comes with the request, as a token in the header `highwater-token`, and goes back with
//! the response; so any number of these processes over one Redis share it. With `--cookies` it is for browsers.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, put},
};
use clap::Parser;
use highwater::{CacheOptions, Client, ClientBuilder, Consistency, Sentinel, SigningKey, Status, TokenCodec};
use highwater_examples::{
    api::{self, ApiError, Cart, Item, Line, Quantity, User},
    exit_code, log_to_stderr, serve,
};
use highwater_http::{MemoryStore, SessionLayer, TokenCookie, axum::Session};
use redis::AsyncCommands;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A shopping cart over a Redis or Valkey primary and its replicas
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    serve: serve::Options,
    /// The primary: redis://user:password@host:port/database
    #[arg(
        long,
        value_name = "URL",
        required_unless_present = "sentinel",
        conflicts_with = "sentinel"
    )]
    primary: Option<String>,
    /// Its replicas
    #[arg(long, value_name = "URL", num_args = 1.., conflicts_with = "sentinel")]
    replica: Vec<String>,
    /// The sentinels that know which nodes these are, each with its own user and password if it has some:
    /// redis://user:password@host:port
    #[arg(long, value_name = "URL", num_args = 1.., requires = "master_name")]
    sentinel: Vec<String>,
    /// What the sentinels call the deployment
    #[arg(long, value_name = "NAME", requires = "sentinel", conflicts_with = "primary")]
    master_name: Option<String>,
    /// User, password and database of the nodes that sentinels name, at any host:
    /// redis://user:password@host:port/database
    #[arg(long, value_name = "URL", requires = "sentinel")]
    nodes_like: Option<String>,
    /// A file with the secret that signs session tokens: the same for all processes, best 32 random bytes
    #[arg(long, value_name = "FILE", conflicts_with = "unsigned_tokens")]
    token_key_file: Option<PathBuf>,
    /// Neither sign tokens nor check them: for callers that are trusted
    #[arg(long)]
    unsigned_tokens: bool,
    /// Keep sessions in a cookie and, by its id, in this process: for browsers. More than one process then need
    /// stickiness
    #[arg(long)]
    cookies: bool,
    /// How fresh reads are: read-your-writes, monotonic, eventual or primary
    #[arg(long, default_value_t)]
    level: Consistency,
    /// How long a read waits for a replica to catch up, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 10)]
    max_wait_ms: u64,
    /// Keep carts in this process, in so many MiB; 0 keeps none
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1 << 20))]
    cache_mib: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    log_to_stderr();
    exit_code("axum-cart", run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), Error> {
    let codec = token_codec(&args)?;
    let builder = nodes(Client::builder(), &args)
        .level(args.level)
        .max_wait(Duration::from_millis(args.max_wait_ms));
    let builder = match args.cache_mib {
        0 => builder,
        mib => builder.cache(CacheOptions::new(mib << 20)),
    };
    let client = builder.connect().await?;
    let layer = SessionLayer::new(codec).expose_route(true);
    let routes = Router::new()
        .route("/carts/{user}", get(show))
        .route("/carts/{user}/items/{sku}", put(put_item).delete(delete_item));
    let routes = if args.cookies {
        routes.layer(
            layer
                .cookie(TokenCookie::new())
                .header(false)
                .store(MemoryStore::default()),
        )
    } else {
        routes.layer(layer)
    };
    let routes = routes.route("/status", get(status)).with_state(client);
    Ok(serve::serve(&args.serve, api::complete(routes)).await?)
}

/// Which nodes there are, or who says so.
fn nodes(builder: ClientBuilder, args: &Args) -> ClientBuilder {
    if let Some(name) = &args.master_name {
        let sentinel = Sentinel::new(name, args.sentinel.iter().map(String::as_str));
        return builder.discovery(match &args.nodes_like {
            Some(url) => sentinel.nodes_like(url.as_str()),
            None => sentinel,
        });
    }
    let builder = match &args.primary {
        Some(primary) => builder.primary(primary.as_str()),
        None => builder,
    };
    builder.replicas(args.replica.iter().map(String::as_str))
}

fn token_codec(args: &Args) -> Result<TokenCodec, Error> {
    if args.unsigned_tokens {
        return Ok(TokenCodec::unsigned());
    }
    let secret = match &args.token_key_file {
        Some(file) => std::fs::read(file)
            .map_err(|error| format!("can't read the token key {}: {error}", file.display()))?,
        None => {
            eprintln!(
                "warning: tokens are signed with a random key of this process; other processes, and this one \
                 after a restart, can't read them: give all of them the same --token-key-file"
            );
            let mut secret = vec![0; 32];
            getrandom::fill(&mut secret)?;
            secret
        }
    };
    Ok(TokenCodec::signed(SigningKey::new(secret)?))
}

async fn put_item(
    State(client): State<Client>,
    session: Session,
    Item { user, sku }: Item,
    Quantity(quantity): Quantity,
) -> Result<Json<Line>, ApiError> {
    let mut redis = client.with(&session);
    let () = redis.hset(format!("cart:{user}"), &sku, quantity).await?;
    Ok(Json(Line { sku, quantity }))
}

async fn delete_item(
    State(client): State<Client>,
    session: Session,
    Item { user, sku }: Item,
) -> Result<StatusCode, ApiError> {
    let () = client.with(&session).hdel(format!("cart:{user}"), sku).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(
    State(client): State<Client>,
    session: Session,
    User(user): User,
) -> Result<Json<Cart>, ApiError> {
    let items = client.with(&session).hgetall(format!("cart:{user}")).await?;
    Ok(Json(Cart { user, items }))
}

async fn status(State(client): State<Client>) -> Json<Status> {
    Json(client.status())
}
