//! A real browser, headless: `cargo xtask test --long` runs this where there is a Chromium.
//!
//! The page sends 50 changes side by side. The response of the first one is held back until all others have
//! arrived, so its cookie is the one that the browser keeps; and the replicas have all but the change that was
//! made last.

use std::{
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::Html,
    routing::{get, post, put},
};
use highwater::Client;
use highwater_http::{MemoryStore, SessionLayer, TokenCookie, axum::Session};
use highwater_testkit::Topology;
use redis::AsyncCommands;
use tokio::sync::{Notify, oneshot};

use super::{
    codec,
    common::{SOON, client},
    serve,
};

const PAGE: &str = r#"<!doctype html><title>cart</title><script>
const change = item => fetch('/items/' + item, {method: 'PUT'});
(async () => {
  const held = change(0);
  await Promise.all(Array.from({length: 48}, (_, n) => change(n + 1)));
  await change(49);
  await fetch('/release', {method: 'POST'});
  await held;
  const cart = await (await fetch('/cart')).text();
  await fetch('/report', {method: 'POST', body: cart + ' ' + document.cookie});
})();
</script>"#;

#[derive(Clone)]
struct Shop {
    redis: Client,
    topology: Arc<Topology>,
    release: Arc<Notify>,
    report: Arc<Mutex<Option<oneshot::Sender<String>>>>,
}

async fn change(State(shop): State<Shop>, session: Session, Path(item): Path<u32>) -> StatusCode {
    if item == 49 {
        let topology = Arc::clone(&shop.topology);
        let waited = tokio::task::spawn_blocking(move || {
            topology.wait_in_sync(SOON).unwrap();
            topology.relays().for_each(|relay| relay.pause());
        });
        waited.await.unwrap();
    }
    let () = shop.redis.with(&session).sadd("cart", item).await.unwrap();
    if item == 0 {
        shop.release.notified().await;
    }
    StatusCode::NO_CONTENT
}

async fn cart(State(shop): State<Shop>, session: Session) -> String {
    let items: usize = shop.redis.with(&session).scard("cart").await.unwrap();
    items.to_string()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium: cargo xtask test --long"]
async fn a_real_browser_loses_nothing() {
    let topology = Arc::new(Topology::builder().replicas(2).start().unwrap());
    let (report, reported) = oneshot::channel();
    let shop = Shop {
        redis: client(&topology).await,
        topology: Arc::clone(&topology),
        release: Arc::default(),
        report: Arc::new(Mutex::new(Some(report))),
    };
    let layer = SessionLayer::new(codec())
        .cookie(TokenCookie::new())
        .header(false)
        .store(MemoryStore::default());
    let routes = Router::new()
        .route("/", get(async |_: Session| Html(PAGE)))
        .route("/items/{item}", put(change))
        .route("/cart", get(cart))
        .layer(layer)
        .route(
            "/release",
            post(async |State(shop): State<Shop>| shop.release.notify_one()),
        )
        .route(
            "/report",
            post(async |State(shop): State<Shop>, body: String| {
                if let Some(report) = shop.report.lock().unwrap().take() {
                    report.send(body).unwrap();
                }
            }),
        )
        .with_state(shop);
    let address = serve(routes).await;
    let binary = std::env::var("HIGHWATER_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new(&binary)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://localhost:{}/", address.port()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("can't start {binary}: {error}; set HIGHWATER_CHROMIUM to its path"));
    let reported = tokio::time::timeout(SOON * 6, reported).await;
    browser.kill().unwrap();
    browser.wait().unwrap();
    topology.relays().for_each(|relay| relay.resume());
    // Scripts don't see the cookie.
    assert_eq!(reported.expect("the page reports").unwrap(), "50 ");
}
