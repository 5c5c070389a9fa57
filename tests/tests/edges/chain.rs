//! A chain of services, each in two processes: a user, an axum service with a Redis of its own, another axum service
//! without one, and a tonic service with another Redis. Two scopes in one token.

use axum::{
    Router,
    extract::{Path, State},
    routing::{get, put},
};
use highwater::Client;
use highwater_examples::grpc::{
    Carts, carts,
    proto::{CountRequest, PutRequest, ShowRequest},
};
use highwater_http::{
    PropagateLayer, SessionLayer, TokenJar,
    axum::Session,
    reqwest::{JarClient, SessionClient},
};
use highwater_testkit::Topology;
use redis::AsyncCommands;
use tokio_stream::StreamExt;

use super::{
    codec,
    common::{SOON, builder},
    serve, serve_carts,
};

/// The service that users see. It keeps a note of each change itself.
#[derive(Clone)]
struct Front {
    redis: Client,
    behind: SessionClient,
    address: String,
}

impl Front {
    async fn ask(&self, session: &Session, method: http::Method, path: &str) -> String {
        let url = format!("http://{}{path}", self.address);
        let request = self.behind.client().request(method, url).build().unwrap();
        let response = self.behind.execute(request, session).await.unwrap();
        response.text().await.unwrap()
    }
}

fn front(front: Front) -> Router {
    Router::new()
        .route(
            "/{quantity}",
            put(
                async |State(front): State<Front>, session: Session, Path(quantity): Path<u32>| {
                    let () = front.redis.with(&session).set("note", quantity).await.unwrap();
                    front
                        .ask(&session, http::Method::PUT, &format!("/{quantity}"))
                        .await
                },
            ),
        )
        .route(
            "/",
            get(async |State(front): State<Front>, session: Session| {
                let note: Option<u32> = front.redis.with(&session).get("note").await.unwrap();
                let cart = front.ask(&session, http::Method::GET, "/").await;
                format!("{} {cart}", note.unwrap_or_default())
            }),
        )
        .layer(SessionLayer::new(codec()))
        .with_state(front)
}

/// In between, without a Redis: it passes on what it is told, and fails after a write when it is asked to.
fn middle(carts: Carts) -> Router {
    Router::new()
        .route(
            "/{quantity}",
            put(
                async |State(mut carts): State<Carts>, session: Session, Path(quantity): Path<u32>| {
                    // Now one that writes before its response, now one that goes on writing while it streams.
                    let user = "ann".to_owned();
                    if quantity % 2 == 0 {
                        let sku = "apples".to_owned();
                        let apples = PutRequest { user, sku, quantity };
                        carts.put(with(&session, apples)).await.unwrap();
                    } else {
                        let sku = "pears".to_owned();
                        let pears = CountRequest {
                            user,
                            sku,
                            up_to: quantity,
                        };
                        let mut lines = carts.count(with(&session, pears)).await.unwrap().into_inner();
                        while let Some(line) = lines.next().await {
                            line.unwrap();
                        }
                    }
                    // What an error response says counts as well.
                    http::StatusCode::BAD_GATEWAY
                },
            ),
        )
        .route(
            "/",
            get(async |State(mut carts): State<Carts>, session: Session| {
                let show = ShowRequest {
                    user: "ann".to_owned(),
                };
                let cart = carts.show(with(&session, show)).await.unwrap().into_inner();
                let of = |sku| cart.items.get(sku).copied().unwrap_or_default();
                format!("{} {}", of("apples"), of("pears"))
            }),
        )
        .layer(SessionLayer::new(codec()))
        .with_state(carts)
}

fn with<T>(session: &Session, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request
        .extensions_mut()
        .insert(highwater::Session::clone(session));
    request
}

/// A process of each service; gives back where users find it.
async fn start(own: &Topology, carts_at: &Topology) -> String {
    let redis = builder(carts_at).scope("carts").connect().await.unwrap();
    let carts = carts(&serve_carts(redis).await, &PropagateLayer::new(codec())).unwrap();
    let address = serve(middle(carts)).await.to_string();
    let redis = builder(own).scope("notes").connect().await.unwrap();
    let behind = SessionClient::new(reqwest::Client::builder(), codec()).unwrap();
    serve(front(Front {
        redis,
        behind,
        address,
    }))
    .await
    .to_string()
}

async fn look(user: &JarClient, address: &str) -> String {
    let request = user.client().get(format!("http://{address}/")).build().unwrap();
    user.execute(request).await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_their_writes_through_all_services_and_scopes() {
    let [own, carts_at] = [(), ()].map(|()| Topology::builder().replicas(1).start().unwrap());
    let fronts = [start(&own, &carts_at).await, start(&own, &carts_at).await];
    let relays = || own.relays().chain(carts_at.relays());
    let user = JarClient::new(reqwest::Client::builder(), TokenJar::new()).unwrap();
    for quantity in 1..=10_u32 {
        // The replicas have all but this change, so what earlier tokens say is not enough.
        relays().for_each(|relay| relay.resume());
        for topology in [&own, &carts_at] {
            tokio::task::block_in_place(|| topology.wait_in_sync(SOON)).unwrap();
        }
        relays().for_each(|relay| relay.pause());
        let [here, there] = [&fronts[quantity as usize % 2], &fronts[1 - quantity as usize % 2]];
        let request = user
            .client()
            .put(format!("http://{here}/{quantity}"))
            .build()
            .unwrap();
        user.execute(request).await.unwrap().bytes().await.unwrap();
        let before = quantity - 1;
        let expected = if quantity % 2 == 0 {
            format!("{quantity} {quantity} {before}")
        } else {
            format!("{quantity} {before} {quantity}")
        };
        for front in [there, here] {
            assert_eq!(
                look(&user, front).await,
                expected,
                "the note, the apples, the pears"
            );
        }
    }
    // Who has no token sees what the replicas have.
    let stranger = JarClient::new(reqwest::Client::builder(), TokenJar::new()).unwrap();
    assert_eq!(look(&stranger, &fronts[0]).await, "9 8 9");
    relays().for_each(|relay| relay.resume());
}
