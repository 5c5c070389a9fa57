//! A session for reqwest's requests (feature `reqwest`).
//!
//! ```
//! use highwater_core::Session;
//! use highwater_http::reqwest::SessionClient;
//!
//! # use highwater_core::{SigningKey, TokenCodec};
//! # async fn handler(session: Session) -> Result<(), Box<dyn std::error::Error>> {
//! # let codec = TokenCodec::signed(SigningKey::new("thirty-two bytes from /dev/random")?);
//! let orders = SessionClient::new(reqwest::Client::new(), codec);
//!
//! // In a handler, with the session of the request that it serves:
//! let request = orders.client().get("http://orders.internal/orders/7").build()?;
//! let order = orders.execute(request, &session).await?.error_for_status()?.bytes().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A client without a key, which passes on tokens as they come:
//!
//! ```
//! use highwater_http::{TokenJar, reqwest::JarClient};
//!
//! # async fn client() -> Result<(), Box<dyn std::error::Error>> {
//! let shop = JarClient::new(reqwest::Client::new(), TokenJar::new());
//! let change = shop.client().put("http://shop/carts/ann/items/apples").body("3").build()?;
//! shop.execute(change).await?.error_for_status()?;
//! let look = shop.client().get("http://shop/carts/ann").build()?;
//! let cart = shop.execute(look).await?.bytes().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Redirects
//!
//! reqwest follows redirects by itself, and shows only the last response. What the others' tokens said is then doubt
//! (unknown to a [`JarClient`]), and the redirected request does not have it. For services that write and redirect,
//! give the client [`redirect::Policy::none`](reqwest::redirect::Policy::none) and follow by hand.

use highwater_core::{Session, TokenCodec};
use http::Response;
use reqwest::{Body, Client, Request, ResponseBuilderExt};

use crate::{
    TokenJar,
    propagate::{Call, Carrier, PropagateBody},
};

/// A reqwest client of a service, for a service with the same key: what
/// [`PropagateLayer`](crate::PropagateLayer) is for tower's clients.
#[derive(Clone, Debug)]
pub struct SessionClient {
    client: Client,
    codec: TokenCodec,
}

impl SessionClient {
    /// Sends through `client`; tokens are made and read with `codec`.
    #[must_use]
    pub fn new(client: Client, codec: TokenCodec) -> Self {
        Self { client, codec }
    }

    /// The client, to build requests with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends the request with the session's token, and merges what comes back into the session: from the
    /// headers at once, from the trailers when the body is read to its end.
    ///
    /// # Errors
    ///
    /// As [`reqwest::Client::execute`]; the session is then in doubt, as the request may have been carried out.
    ///
    /// # Cancel safety
    ///
    /// Dropped before the response, it leaves the session in doubt.
    pub async fn execute(
        &self,
        request: Request,
        session: &Session,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let carrier = Carrier::Session(session.clone(), self.codec.clone());
        execute(&self.client, request, carrier).await
    }
}

/// A reqwest client without a key: the tokens of one user are kept in a jar and sent along.
#[derive(Clone, Debug)]
pub struct JarClient {
    client: Client,
    jar: TokenJar,
}

impl JarClient {
    /// Sends through `client` with the tokens in `jar`.
    #[must_use]
    pub fn new(client: Client, jar: TokenJar) -> Self {
        Self { client, jar }
    }

    /// The client, to build requests with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends the request with the tokens in the jar, and keeps those that come back.
    ///
    /// # Errors
    ///
    /// As [`reqwest::Client::execute`].
    ///
    /// # Cancel safety
    ///
    /// Dropped before the response, it leaves the jar as it was: what the request wrote may not be seen.
    pub async fn execute(&self, request: Request) -> Result<reqwest::Response, reqwest::Error> {
        execute(&self.client, request, Carrier::Jar(self.jar.clone())).await
    }
}

async fn execute(
    client: &Client,
    mut request: Request,
    carrier: Carrier,
) -> Result<reqwest::Response, reqwest::Error> {
    let mut call = Call::begin(carrier, request.headers_mut());
    let asked = request.url().clone();
    let response = client.execute(request).await?;
    let url = response.url().clone();
    let (mut parts, body) = Response::<Body>::from(response).into_parts();
    call.head(&parts.headers, &body);
    if without_fragment(&url) != without_fragment(&asked) {
        // There were responses in between.
        call.doubt();
    }
    // The conversion back takes the URL from there.
    let (with_url, ()) = Response::builder()
        .url(url)
        .body(())
        .unwrap_or_default()
        .into_parts();
    parts.extensions.extend(with_url.extensions);
    let body = Body::wrap(PropagateBody::new(body, Some(call)));
    Ok(Response::from_parts(parts, body).into())
}

fn without_fragment(url: &reqwest::Url) -> reqwest::Url {
    let mut url = url.clone();
    url.set_fragment(None);
    url
}
