//! The same shop as `axum-cart`, with redis-rs alone and one of the two usual strategies: read from
//! the primary only, or read a replica first and ask the primary on a miss.
//!
//! It is here to be compared with. The second strategy is the one that shows users old carts.

use std::{process::ExitCode, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, put},
};
use clap::{Parser, ValueEnum};
use highwater_examples::{
    api::{self, ApiError, Cart, Item, Items, Line, Quantity, User},
    exit_code, log_to_stderr, serve,
};
use redis::{
    AsyncCommands, RedisResult,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// As axum-cart's, so that what the demo compares is not a timeout.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A shopping cart over a Redis or Valkey primary and its replicas, without highwater
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    serve: serve::Options,
    /// Where carts are read
    #[arg(long)]
    strategy: Strategy,
    /// The primary: redis://user:password@host:port/database
    #[arg(long, value_name = "URL")]
    primary: String,
    /// Its replicas
    #[arg(long, value_name = "URL", num_args = 1..)]
    replica: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Strategy {
    /// At the primary
    PrimaryOnly,
    /// At a random replica, and at the primary when that has no cart or fails
    ReplicaFirst,
}

#[tokio::main]
async fn main() -> ExitCode {
    log_to_stderr();
    exit_code("plain-cart", run(Args::parse()).await)
}

async fn run(args: Args) -> Result<(), Error> {
    let carts = Carts::connect(&args)
        .await
        .map_err(|error| format!("can't connect to the primary: {error}"))?;
    let routes = Router::new()
        .route("/carts/{user}", get(show))
        .route("/carts/{user}/items/{sku}", put(put_item).delete(delete_item))
        .route("/status", get(status))
        .with_state(carts);
    Ok(serve::serve(&args.serve, api::complete(routes)).await?)
}

#[derive(Clone)]
struct Carts {
    strategy: Strategy,
    primary: ConnectionManager,
    replicas: Vec<ConnectionManager>,
}

impl Carts {
    async fn connect(args: &Args) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_number_of_retries(1);
        let client = redis::Client::open(args.primary.as_str())?;
        Ok(Self {
            strategy: args.strategy,
            primary: client.get_connection_manager_with_config(config.clone()).await?,
            replicas: args
                .replica
                .iter()
                .map(|url| redis::Client::open(url.as_str())?.get_connection_manager_lazy(config.clone()))
                .collect::<RedisResult<_>>()?,
        })
    }

    /// What is in a cart, and which node said so, in the words of highwater's header.
    async fn items(&self, user: &str) -> RedisResult<(Items, &'static str)> {
        let key = format!("cart:{user}");
        if self.strategy == Strategy::ReplicaFirst
            && let Some(replica) = fastrand::choice(&self.replicas)
            && let Ok(items) = replica.clone().hgetall::<_, Items>(&key).await
            && !items.is_empty()
        {
            return Ok((items, "cache=0, replica=1, primary=0"));
        }
        let items = self.primary.clone().hgetall(&key).await?;
        Ok((items, "cache=0, replica=0, primary=1"))
    }
}

async fn put_item(
    State(mut carts): State<Carts>,
    Item { user, sku }: Item,
    Quantity(quantity): Quantity,
) -> Result<Json<Line>, ApiError> {
    let key = format!("cart:{user}");
    let () = carts.primary.hset(key, &sku, quantity).await?;
    Ok(Json(Line { sku, quantity }))
}

async fn delete_item(
    State(mut carts): State<Carts>,
    Item { user, sku }: Item,
) -> Result<StatusCode, ApiError> {
    let () = carts.primary.hdel(format!("cart:{user}"), sku).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(
    State(carts): State<Carts>,
    User(user): User,
) -> Result<([(&'static str, &'static str); 1], Json<Cart>), ApiError> {
    let (items, route) = carts.items(&user).await?;
    Ok(([("highwater-route", route)], Json(Cart { user, items })))
}

async fn status(State(carts): State<Carts>) -> Json<Value> {
    Json(json!({ "strategy": format!("{:?}", carts.strategy), "replicas": carts.replicas.len() }))
}
