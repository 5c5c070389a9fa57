//! Hostile input: floods of requests whose tokens can't be used, or claim what is not so. The service answers
//! each, and the primary hardly notices: one sample of it serves all requests that wait.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{HeaderValue, Request, StatusCode},
    routing::get,
};
use highwater::{Client, History, MAX_TOKEN_LEN, Mark, Marks, Offset, Scope, SigningKey, Token, TokenCodec};
use highwater_http::{BadTokens, MAX_TOKENS, SessionLayer, TOKEN_HEADER, axum::Session};
use highwater_testkit::{Server, Topology};
use redis::AsyncCommands;
use tower::ServiceExt;

use super::{
    codec,
    common::{SOON, builder},
};

/// One that does not give up on a busy machine.
async fn client(topology: &Topology) -> Client {
    builder(topology).response_timeout(SOON).connect().await.unwrap()
}

const REQUESTS: usize = 4_000;
/// How many are under way at a time.
const CONCURRENT: usize = 50;
/// What the primary may be asked in a second on their account.
const COMMANDS_PER_SECOND: f64 = 200.0;
/// Reads that each ask the primary about their marks, before there are too many: those that are let through at once
/// (see `highwater::defaults::STRAY_BURST`), and those that were under way when the first answer came; two commands
/// each. And what the client asks for on its own account.
const BURST: f64 = 2.0 * (32.0 + CONCURRENT as f64) + 20.0;

/// How many commands a server has carried out.
fn commands(server: &Server) -> f64 {
    let info = server.command(&["INFO", "stats"]).unwrap();
    let text = info.text().unwrap();
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("total_commands_processed:"));
    count.unwrap().trim().parse().unwrap()
}

async fn show(State(client): State<Client>, session: Session) -> String {
    client.with(&session).get("key").await.unwrap()
}

struct Service {
    topology: Topology,
}

impl Service {
    fn start() -> Self {
        let topology = Topology::builder().replicas(2).start().unwrap();
        topology.primary().command(&["SET", "key", "value"]).unwrap();
        topology.wait_in_sync(SOON).unwrap();
        Self { topology }
    }

    fn history(&self) -> History {
        let info = self.topology.primary().command(&["INFO", "replication"]).unwrap();
        let text = info.text().unwrap();
        let id = text.lines().find_map(|line| line.strip_prefix("master_replid:"));
        id.unwrap().trim().parse().unwrap()
    }

    /// Floods a service of this codec, with a client of its own, with requests that have these tokens.
    async fn flood(&self, kind: &str, codec: TokenCodec, tokens: Vec<HeaderValue>) -> BadTokens {
        let layer = SessionLayer::new(codec);
        let routes = Router::new()
            .route("/", get(show))
            .layer(layer.clone())
            .with_state(client(&self.topology).await);
        let before = commands(self.topology.primary());
        let begun = Instant::now();
        let tokens: Arc<[HeaderValue]> = tokens.into();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..CONCURRENT {
            let (routes, tokens) = (routes.clone(), Arc::clone(&tokens));
            tasks.spawn(async move {
                for _ in 0..REQUESTS / CONCURRENT {
                    let mut request = Request::get("/").body(Body::empty()).unwrap();
                    for token in &*tokens {
                        request.headers_mut().append(TOKEN_HEADER, token.clone());
                    }
                    let response = routes.clone().oneshot(request).await.unwrap();
                    assert_eq!(response.status(), StatusCode::OK);
                    let body = to_bytes(response.into_body(), 100).await.unwrap();
                    assert_eq!(body, "value");
                }
            });
        }
        tasks.join_all().await;
        let spent = begun.elapsed().as_secs_f64();
        let extra = commands(self.topology.primary()) - before;
        let allowed = COMMANDS_PER_SECOND * spent + BURST;
        println!("{kind}: {REQUESTS} requests in {spent:.2} s, {extra} commands at the primary");
        assert!(extra <= allowed, "{kind}: {extra} commands in {spent:.2} s");
        layer.bad_tokens()
    }
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

fn header(token: impl Into<Vec<u8>>) -> HeaderValue {
    HeaderValue::try_from(token.into()).unwrap()
}

fn marks(history: History, offset: Offset) -> Marks {
    let mut marks = Marks::new();
    marks.add_written(&Mark {
        scope: Scope::default(),
        history,
        offset,
    });
    marks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_bad_tokens_do_not_reach_the_primary() {
    let service = Service::start();
    let history = History::from_bytes([7; 20]);
    let good = codec().encode(&marks(history, Offset::at(1)), now());
    let other_key = SigningKey::new("the secret of somebody else altogether").unwrap();
    let mut forged = good.clone().into_bytes();
    let last = forged.len() - 2;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    let expired = codec().encode(&Marks::new(), now() - 2 * 24 * 60 * 60);
    for (kind, reason, token) in [
        ("forged", "bad_signature", forged),
        (
            "truncated",
            "bad_signature",
            good.as_bytes()[..good.len() / 2].to_vec(),
        ),
        ("oversized", "too_long", vec![b'A'; MAX_TOKEN_LEN + 1]),
        (
            "wrong key",
            "unknown_key",
            TokenCodec::signed(other_key)
                .encode(&Marks::new(), now())
                .into_bytes(),
        ),
        (
            "unsigned",
            "not_signed",
            TokenCodec::unsigned().encode(&Marks::new(), now()).into_bytes(),
        ),
        ("expired", "expired", expired.into_bytes()),
        ("noise", "malformed", b"?".to_vec()),
    ] {
        let bad = service.flood(kind, codec(), vec![header(token)]).await;
        assert_eq!(
            (bad.named(reason), bad.total()),
            (REQUESTS as u64, REQUESTS as u64),
            "{kind}"
        );
    }
    let bad = service.flood("duplicates", codec(), vec![header("x"); 100]).await;
    assert_eq!(bad.too_many(), REQUESTS as u64);
    assert_eq!(bad.total(), REQUESTS as u64 * (MAX_TOKENS as u64 + 1));
}

/// Where tokens are not signed, anybody can claim anything; where they are, anybody can send an old one again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_claims_do_not_reach_the_primary() {
    let service = Service::start();
    let own = service.history();
    let foreign = History::from_bytes([7; 20]);
    let unsigned = TokenCodec::unsigned;
    for (kind, codec, marks) in [
        ("future offset", unsigned(), marks(own, Offset::at(1 << 40))),
        ("foreign history", unsigned(), marks(foreign, Offset::at(1))),
        ("replayed", codec(), marks(own, Offset::at(2))),
        (
            "replayed doubt",
            codec(),
            marks(own, Offset::unknown_since(now())),
        ),
    ] {
        let token = codec.encode_token(&Token::from(marks), now(), MAX_TOKEN_LEN);
        let bad = service.flood(kind, codec, vec![header(token)]).await;
        assert_eq!(bad.total(), 0, "{kind}");
    }
}

/// An honest user is served as ever, also in a flood of others' claims, and is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_user_sees_their_writes_in_a_flood() {
    let service = Service::start();
    let client = client(&service.topology).await;
    let own = service.history();
    let future = TokenCodec::unsigned().encode(&marks(own, Offset::at(1 << 40)), now());
    let session = highwater::Session::new();
    let honest = async {
        for number in 0..200_u32 {
            let mut redis = client.with(&session);
            let () = redis.set("mine", number).await.unwrap();
            let seen: u32 = redis.get("mine").await.unwrap();
            assert_eq!(seen, number);
        }
    };
    let layer = SessionLayer::new(TokenCodec::unsigned());
    let routes = Router::new()
        .route("/", get(show))
        .layer(layer)
        .with_state(client.clone());
    let flood = async {
        for _ in 0..REQUESTS / 4 {
            let mut request = Request::get("/").body(Body::empty()).unwrap();
            request.headers_mut().insert(TOKEN_HEADER, header(future.clone()));
            let response = routes.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        }
    };
    tokio::join!(honest, flood);
}
