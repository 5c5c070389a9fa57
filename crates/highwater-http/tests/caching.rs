//! What caches are told.
#![cfg(feature = "cookie")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;

use highwater_http::{SessionLayer, TokenCookie};
use http::{HeaderName, HeaderValue, Request};
use tower::{Layer, ServiceExt, service_fn};

mod common;
use common::*;

/// The `vary` of a response to which the handler has given this header.
async fn vary(layer: &SessionLayer, path: &str, header: Option<(&'static str, &'static str)>) -> Vec<String> {
    let service = layer.layer(service_fn(move |request: Request<String>| async move {
        let mut response = handler(request).await?;
        if let Some((name, value)) = header {
            let name = HeaderName::from_static(name);
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        Ok::<_, Infallible>(response)
    }));
    let response = service.oneshot(request(path, [])).await.unwrap();
    let values = response.headers().get_all("vary").iter();
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_may_be_stored_depends_on_the_token() {
    let layer = SessionLayer::new(codec());
    for header in [
        ("cache-control", "max-age=60"),
        ("cache-control", "private"),
        ("etag", "\"7\""),
        ("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
        ("expires", "Mon, 01 Jan 2024 00:00:00 GMT"),
    ] {
        assert_eq!(
            vary(&layer, "/", Some(header)).await,
            ["highwater-token"],
            "{header:?}"
        );
    }
    // It is private, and a browser may store it.
    assert_eq!(vary(&layer, "/write/9", None).await, ["highwater-token"]);
    let nothing: [&str; 0] = [];
    assert_eq!(vary(&layer, "/", None).await, nothing);
    let no_store = Some(("cache-control", "no-store"));
    assert_eq!(vary(&layer, "/write/9", no_store).await, nothing);
    let off = layer.clone().vary(false);
    assert_eq!(vary(&off, "/write/9", None).await, nothing);
}

#[tokio::test]
async fn what_is_said_already_is_not_said_twice() {
    let layer = SessionLayer::new(codec());
    for already in ["Accept, HIGHWATER-TOKEN", "*"] {
        assert_eq!(vary(&layer, "/write/9", Some(("vary", already))).await, [already]);
    }
    let both = vary(&layer, "/write/9", Some(("vary", "accept"))).await;
    assert_eq!(both, ["accept", "highwater-token"]);
}

#[tokio::test]
async fn each_carrier_and_the_level_are_named() {
    let layer = SessionLayer::new(codec())
        .cookie(TokenCookie::new())
        .allow_level(|_| true);
    assert_eq!(
        vary(&layer, "/write/9", None).await,
        ["highwater-token", "cookie", "highwater-level"]
    );
    let layer = layer.header(false);
    assert_eq!(
        vary(&layer, "/write/9", None).await,
        ["cookie", "highwater-level"]
    );
}
