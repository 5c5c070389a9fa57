//! The shopping cart over gRPC: `proto/cart.proto`, its server, and a client for it. `tonic-cart` runs them.
//!
//! The server is tonic's, with the same [`SessionLayer`] as over HTTP. A call's token is in the metadata
//! `highwater-token`; what a streaming call writes after its headers have left is in its trailers.

use std::{future::Future, io, pin::Pin};

use highwater::{Client, Session, TokenCodec};
use highwater_http::{PropagateLayer, PropagateService, SessionLayer};
use redis::{AsyncCommands, RedisError};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt};
use tonic::{
    Extensions, Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::Layer;

use self::proto::{
    Cart, CountRequest, Line, PutRequest, ShowRequest, carts_client::CartsClient, carts_server,
    carts_server::CartsServer,
};
use crate::api::{MAX_NAME, MAX_QUANTITY};

/// What tonic makes of `proto/cart.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::pedantic,
    clippy::doc_markdown,
    reason = "it is generated"
)]
pub mod proto {
    tonic::include_proto!("highwater.cart.v1");
}

/// A client of the service that takes a session along.
pub type Carts = CartsClient<PropagateService<Channel>>;

/// A client of the service at this address. It connects when it is used.
///
/// # Errors
///
/// When the address makes no sense.
pub fn carts(address: &str, propagate: &PropagateLayer) -> Result<Carts, tonic::transport::Error> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
    Ok(CartsClient::new(propagate.layer(channel)))
}

/// Serves carts until `stop` is done.
///
/// # Errors
///
/// When the server fails.
pub async fn serve(
    listener: TcpListener,
    client: Client,
    codec: TokenCodec,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .layer(SessionLayer::new(codec))
        .add_service(CartsServer::new(Shop { client }))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop)
        .await
}

/// The service.
#[derive(Clone, Debug)]
struct Shop {
    client: Client,
}

impl Shop {
    /// Puts an item into a cart.
    async fn put(&self, session: &Session, put: PutRequest) -> Result<Line, Status> {
        named("user", &put.user)?;
        named("sku", &put.sku)?;
        if !(1..=MAX_QUANTITY).contains(&put.quantity) {
            return Err(Status::invalid_argument(format!(
                "the quantity must be from 1 to {MAX_QUANTITY}"
            )));
        }
        let mut redis = self.client.with(session);
        let () = redis
            .hset(format!("cart:{}", put.user), &put.sku, put.quantity)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Line {
            sku: put.sku,
            quantity: put.quantity,
        })
    }
}

type Lines = Pin<Box<dyn Stream<Item = Result<Line, Status>> + Send>>;

#[tonic::async_trait]
impl carts_server::Carts for Shop {
    type FillStream = Lines;
    type CountStream = Lines;

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<Line>, Status> {
        let session = session(request.extensions())?;
        let line = self.put(&session, request.into_inner()).await?;
        Ok(Response::new(line))
    }

    async fn show(&self, request: Request<ShowRequest>) -> Result<Response<Cart>, Status> {
        let session = session(request.extensions())?;
        let ShowRequest { user } = request.into_inner();
        named("user", &user)?;
        let items = self
            .client
            .with(&session)
            .hgetall(format!("cart:{user}"))
            .await
            .map_err(|error| failed(&error))?;
        Ok(Response::new(Cart { user, items }))
    }

    async fn fill(&self, request: Request<Streaming<PutRequest>>) -> Result<Response<Lines>, Status> {
        let session = session(request.extensions())?;
        let shop = self.clone();
        let lines = request.into_inner().then(move |put| {
            let (shop, session) = (shop.clone(), session.clone());
            async move { shop.put(&session, put?).await }
        });
        Ok(Response::new(Box::pin(lines)))
    }

    async fn count(&self, request: Request<CountRequest>) -> Result<Response<Lines>, Status> {
        let session = session(request.extensions())?;
        let CountRequest { user, sku, up_to } = request.into_inner();
        let shop = self.clone();
        let lines = tokio_stream::iter(1..=up_to).then(move |quantity| {
            let (shop, session) = (shop.clone(), session.clone());
            let (user, sku) = (user.clone(), sku.clone());
            let put = PutRequest { user, sku, quantity };
            async move { shop.put(&session, put).await }
        });
        Ok(Response::new(Box::pin(lines)))
    }
}

/// The session that [`SessionLayer`] made.
fn session(extensions: &Extensions) -> Result<Session, Status> {
    extensions
        .get::<Session>()
        .cloned()
        .ok_or_else(|| Status::internal("SessionLayer is missing"))
}

fn named(what: &str, name: &str) -> Result<(), Status> {
    if (1..=MAX_NAME).contains(&name.len()) {
        Ok(())
    } else {
        Err(Status::invalid_argument(format!(
            "the {what} must have 1 to {MAX_NAME} bytes"
        )))
    }
}

/// Callers hear what to do; what happened to which node is for the operator.
fn failed(error: &RedisError) -> Status {
    use highwater::ErrorKind as Kind;
    tracing::debug!(%error, "a call failed");
    match highwater::Error::of(error).map(highwater::Error::kind) {
        Some(Kind::InDoubt) => {
            Status::unknown("the change may have happened or not: look at the cart before you repeat it")
        }
        Some(Kind::PossiblyLost | Kind::UnknownHistory) => {
            Status::data_loss("a change of yours may have been lost: look at the cart again")
        }
        Some(Kind::Unavailable | Kind::Disconnected | Kind::Overloaded) => {
            Status::unavailable("the shop can't reach its data at the moment: try again soon")
        }
        _ => {
            tracing::error!(%error, "a call failed");
            Status::internal("the shop's data is not what it should be")
        }
    }
}

/// Listens on this address.
///
/// # Errors
///
/// When it can't be listened on.
pub async fn listen(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("can't listen on {address}: {error}")))
}
