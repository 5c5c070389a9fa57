//! What is written while the body is under way: over real connections, HTTP/1.1 and HTTP/2.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use highwater_core::Marks;
use highwater_http::{PropagateLayer, SessionLayer, TOKEN_HEADER};
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Collected, Empty, StreamBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tower::{Layer, Service, ServiceExt, service_fn};

mod common;
use common::*;

/// Serves on a port of its own until the test ends.
async fn serve<S, R>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    R: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    address
}

fn client(version: Version) -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new())
        .http2_only(version == Version::HTTP_2)
        .build_http()
}

async fn ask(
    address: SocketAddr,
    version: Version,
    asks_for_trailers: bool,
) -> (HeaderMap, Collected<Bytes>) {
    let mut request = Request::get(format!("http://{address}/")).version(version);
    if asks_for_trailers {
        request = request.header("te", "trailers");
    }
    let request = request.body(Empty::new()).unwrap();
    let (parts, body) = client(version).request(request).await.unwrap().into_parts();
    (parts.headers, body.collect().await.unwrap())
}

fn token_in(headers: Option<&HeaderMap>) -> Option<Marks> {
    let token = headers?.get(TOKEN_HEADER)?;
    Some(codec().decode(token.as_bytes(), now()).unwrap())
}

const EACH: [(Version, bool); 4] = [
    (Version::HTTP_2, true),
    (Version::HTTP_2, false),
    (Version::HTTP_11, true),
    (Version::HTTP_11, false),
];

#[tokio::test]
async fn the_trailers_have_what_was_written_after_the_head_had_left() {
    let service = service_fn(async |request: Request<Incoming>| streaming(request, 2..=5).await);
    let address = serve(SessionLayer::new(codec()).layer(service)).await;
    for (version, asked) in EACH {
        let (headers, body) = ask(address, version, asked).await;
        assert_eq!(token_in(Some(&headers)), Some(marks(&[mark(1)])));
        // Over HTTP/1 only those who ask can be told, and all who ask are told that they may be.
        let told = version == Version::HTTP_2 || asked;
        assert_eq!(
            token_in(body.trailers()),
            told.then(|| marks(&[mark(5)])),
            "{version:?} {asked}"
        );
        assert_eq!(headers.contains_key("trailer"), asked, "{version:?}");
        assert_eq!(body.to_bytes(), "2\n3\n4\n5\n");
    }
}

#[tokio::test]
async fn who_asks_for_trailers_gets_the_token_there_though_nothing_has_been_written_since() {
    let service = service_fn(async |request: Request<Incoming>| streaming(request, 1..=1).await);
    let address = serve(SessionLayer::new(codec()).layer(service)).await;
    for (version, asked) in EACH {
        let (headers, body) = ask(address, version, asked).await;
        assert_eq!(token_in(Some(&headers)), Some(marks(&[mark(1)])));
        // Otherwise who waits for them could not tell that they were dropped on the way.
        let expected = asked.then(|| marks(&[mark(1)]));
        assert_eq!(token_in(body.trailers()), expected, "{version:?} {asked}");
    }
}

/// As gRPC does: the status is in the trailers.
#[tokio::test]
async fn the_token_joins_trailers_that_are_there() {
    let service = service_fn(async |request: Request<Incoming>| {
        let session = session_of(&request);
        let last = tokio_stream::once(()).map_ok_trailers(move || session.add_written(&mark(7)));
        Ok::<_, Infallible>(Response::new(StreamBody::new(last).boxed_unsync()))
    });
    let address = serve(SessionLayer::new(codec()).layer(service)).await;
    let (headers, body) = ask(address, Version::HTTP_2, true).await;
    assert_eq!(token_in(Some(&headers)), None);
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(token_in(body.trailers()), Some(marks(&[mark(7)])));
}

trait MapTrailers: tokio_stream::Stream<Item = ()> + Sized {
    fn map_ok_trailers(
        self,
        written: impl Fn(),
    ) -> impl tokio_stream::Stream<Item = Result<Frame<Bytes>, Infallible>> {
        tokio_stream::StreamExt::map(self, move |()| {
            written();
            let status = ("grpc-status".parse().unwrap(), HeaderValue::from_static("0"));
            Ok(Frame::trailers(HeaderMap::from_iter([status])))
        })
    }
}

impl<S: tokio_stream::Stream<Item = ()>> MapTrailers for S {}

#[tokio::test]
async fn a_client_with_the_layer_asks_for_trailers_and_merges_them() {
    let service = service_fn(async |request: Request<Incoming>| streaming(request, 2..=5).await);
    let address = serve(SessionLayer::new(codec()).layer(service)).await;
    for version in [Version::HTTP_2, Version::HTTP_11] {
        let session = highwater_core::Session::new();
        let client = PropagateLayer::new(codec())
            .session(session.clone())
            .layer(client(version));
        let request = || {
            Request::get(format!("http://{address}/"))
                .version(version)
                .body(Empty::new())
        };
        let response = client.clone().oneshot(request().unwrap()).await.unwrap();
        assert_eq!(session.marks(), marks(&[mark(1)]), "{version:?}");
        response.into_body().collect().await.unwrap();
        assert_eq!(session.marks(), marks(&[mark(5)]), "{version:?}");

        // Who does not read to the end does not know what was written.
        let response = client.oneshot(request().unwrap()).await.unwrap();
        assert!(!session.marks().is_in_doubt(&mark(1).scope));
        drop(response);
        assert!(session.marks().is_in_doubt(&mark(1).scope), "{version:?}");
    }
}

#[cfg(feature = "reqwest")]
mod with_reqwest {
    use highwater_core::Session;
    use highwater_http::{
        TokenJar,
        reqwest::{JarClient, SessionClient},
    };
    use http::StatusCode;

    use super::*;

    #[tokio::test]
    async fn reqwest_learns_from_headers_and_trailers() {
        let service = service_fn(async |request: Request<Incoming>| streaming(request, 2..=5).await);
        let address = serve(SessionLayer::new(codec()).layer(service)).await;
        let url = format!("http://{address}/path?query#fragment");

        let client = SessionClient::new(reqwest::Client::builder(), codec()).unwrap();
        let session = Session::new();
        let request = client.client().get(&url).build().unwrap();
        let response = client.execute(request, &session).await.unwrap();
        assert_eq!(session.marks(), marks(&[mark(1)]));
        assert!(url.starts_with(response.url().as_str()), "not a made-up one");
        assert_eq!(response.text().await.unwrap(), "2\n3\n4\n5\n");
        assert_eq!(session.marks(), marks(&[mark(5)]));

        let jar = TokenJar::new();
        let client = JarClient::new(reqwest::Client::builder(), jar.clone()).unwrap();
        let request = client.client().get(&url).build().unwrap();
        client.execute(request).await.unwrap().bytes().await.unwrap();
        let [token] = &jar.tokens()[..] else {
            panic!("one token: {jar:?}");
        };
        assert_eq!(
            codec().decode(token.as_bytes(), now()).unwrap(),
            marks(&[mark(5)])
        );
    }

    /// Post, redirect, get. Where reqwest follows, nobody sees the first response's token.
    #[tokio::test]
    async fn a_redirect_is_not_followed_and_what_it_has_written_is_known() {
        let service = service_fn(async |request: Request<Incoming>| {
            let mut response = Response::new(String::new());
            if request.method() == http::Method::POST {
                session_of(&request).add_written(&mark(9));
                *response.status_mut() = StatusCode::SEE_OTHER;
                let there = HeaderValue::from_static("/cart");
                response.headers_mut().insert("location", there);
            }
            Ok::<_, Infallible>(response)
        });
        let address = serve(SessionLayer::new(codec()).layer(service)).await;
        let follows = reqwest::Client::builder().redirect(reqwest::redirect::Policy::default());
        let client = SessionClient::new(follows, codec()).unwrap();
        let session = Session::new();
        let request = client.client().post(format!("http://{address}/cart"));
        let response = client.execute(request.build().unwrap(), &session).await.unwrap();
        assert_eq!(response.status(), StatusCode::SEE_OTHER);
        assert_eq!(session.marks(), marks(&[mark(9)]));
    }

    #[tokio::test]
    async fn a_call_that_fails_is_doubt() {
        let client = SessionClient::new(reqwest::Client::builder(), codec()).unwrap();
        let session = Session::new();
        // Nobody can listen there.
        let request = client.client().get("http://127.0.0.1:0/").build().unwrap();
        client.execute(request, &session).await.unwrap_err();
        assert!(session.marks().is_in_doubt(&mark(1).scope));
    }
}
