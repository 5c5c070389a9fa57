//! A session for reqwest's requests (feature `reqwest`).
//!
//! ```
//! use highwater_core::Session;
//! use highwater_http::reqwest::SessionClient;
//!
//! # use highwater_core::{SigningKey, TokenCodec};
//! # async fn handler(session: Session) -> Result<(), Box<dyn std::error::Error>> {
//! # let codec = TokenCodec::signed(SigningKey::new("thirty-two bytes from /dev/random")?);
//! let orders = SessionClient::new(reqwest::Client::builder(), codec)?;
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
//! let shop = JarClient::new(reqwest::Client::builder(), TokenJar::new())?;
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
//! Are not followed, whatever the builder says: of several responses reqwest shows only the last, and the tokens of the others
//! would be lost (`POST /cart`, then `303` to the same place: the write would not be read back). The response has the
//! `location`; a request made from it has the session as it is by then.

use highwater_core::{Session, TokenCodec};
use http::Response;
use reqwest::{Body, Client, ClientBuilder, Request, ResponseBuilderExt, redirect::Policy};

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
    /// Tokens are made and read with `codec`. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::build`].
    pub fn new(client: ClientBuilder, codec: TokenCodec) -> Result<Self, reqwest::Error> {
        let client = client.redirect(Policy::none()).build()?;
        Ok(Self { client, codec })
    }

    /// The client, to build requests with. What it sends itself has no session.
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
    /// The tokens are kept in `jar`. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::build`].
    pub fn new(client: ClientBuilder, jar: TokenJar) -> Result<Self, reqwest::Error> {
        let client = client.redirect(Policy::none()).build()?;
        Ok(Self { client, jar })
    }

    /// The client, to build requests with. What it sends itself has no session.
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
    let response = client.execute(request).await?;
    let url = response.url().clone();
    let (mut parts, body) = Response::<Body>::from(response).into_parts();
    call.head(parts.status, &parts.headers, &body);
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
