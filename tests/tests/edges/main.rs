//! The edges of a system of services: gRPC, chains of services, browsers, hostile input. Real servers, real
//! connections.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod chain;
mod grpc;
mod hostile;
mod jobs;

use std::net::SocketAddr;

use axum::Router;
use highwater::{SigningKey, TokenCodec};
use tokio::net::TcpListener;

fn codec() -> TokenCodec {
    TokenCodec::signed(SigningKey::new("the secret that all of the services know").unwrap())
}

/// Serves on a port of its own until the test ends.
async fn serve(routes: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// Serves carts over gRPC until the test ends.
async fn serve_carts(client: highwater::Client) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(highwater_examples::grpc::serve(
        listener,
        client,
        codec(),
        std::future::pending(),
    ));
    address
}
