//! What `SessionLayer` costs a request: decoding and verifying the token, the session in the extensions, encoding
//! and signing the new token. On one thread, without a network; and as a share of an empty axum handler.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::{
    convert::Infallible,
    hint::black_box,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, body::Body, routing::get};
use criterion::{Criterion, criterion_group, criterion_main};
use highwater::{History, Mark, Marks, Offset, Scope, Session, SigningKey, TokenCodec};
use highwater_http::{MemoryStore, SessionLayer, TOKEN_HEADER};
use http::{HeaderValue, Request, Response};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, ServiceExt, service_fn};

fn codec() -> TokenCodec {
    TokenCodec::signed(SigningKey::new("thirty-two bytes from /dev/random").unwrap())
}

fn mark(offset: u64) -> Mark {
    Mark {
        scope: Scope::default(),
        history: History::from_bytes([7; 20]),
        offset: Offset::at(offset),
    }
}

fn token() -> HeaderValue {
    let mut marks = Marks::new();
    marks.add_written(&mark(1_000_000_000));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    codec().encode(&marks, now).try_into().unwrap()
}

fn request(token: Option<&HeaderValue>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    if let Some(token) = token {
        request.headers_mut().insert(TOKEN_HEADER, token.clone());
    }
    request
}

/// Moves the session, as a write does.
async fn write(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    request
        .extensions()
        .get::<Session>()
        .unwrap()
        .add_written(&mark(2_000_000_000));
    Ok(Response::default())
}

async fn nothing(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::default())
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// Calls the service with this request, over and over.
fn serve<S>(criterion: &mut Criterion, name: &str, service: &S, token: Option<&HeaderValue>)
where
    S: Service<Request<Body>, Error = Infallible> + Clone,
{
    let (runtime, mut service) = (runtime(), service.clone());
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            let response = runtime.block_on(async {
                let ready = service.ready().await.unwrap();
                ready.call(request(token)).await
            });
            drop(black_box(response));
        });
    });
}

fn layer(criterion: &mut Criterion) {
    let layer = SessionLayer::new(codec());
    let token = token();
    // What is left when the layer is taken out: subtract it from the others.
    serve(criterion, "layer/none", &service_fn(nothing), Some(&token));
    serve(
        criterion,
        "layer/no token",
        &layer.layer(service_fn(nothing)),
        None,
    );
    serve(
        criterion,
        "layer/read",
        &layer.layer(service_fn(nothing)),
        Some(&token),
    );
    serve(
        criterion,
        "layer/write",
        &layer.layer(service_fn(write)),
        Some(&token),
    );
    let stored = layer.clone().store(MemoryStore::default());
    serve(
        criterion,
        "layer/write, store",
        &stored.layer(service_fn(write)),
        Some(&token),
    );
}

fn axum_handler(criterion: &mut Criterion) {
    let plain: Router = Router::new().route("/", get(async || ()));
    let token = token();
    serve(
        criterion,
        "axum/empty handler",
        &plain.clone().into_service::<Body>(),
        Some(&token),
    );
    let layered = plain.layer(SessionLayer::new(codec()));
    serve(
        criterion,
        "axum/empty handler, layer",
        &layered.into_service::<Body>(),
        Some(&token),
    );
}

fn config() -> Criterion {
    Criterion::default().measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = benches;
    config = config();
    targets = layer, axum_handler
}
criterion_main!(benches);
