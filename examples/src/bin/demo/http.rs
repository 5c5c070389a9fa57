//! One user's browser: a keep-alive connection, and the session token that came last.

use std::{net::SocketAddr, time::Duration};

use highwater_examples::api::Items;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response,
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
    header::{CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

use crate::Error;

const TIMEOUT: Duration = Duration::from_secs(10);
const TOKEN: &str = "highwater-token";
const ROUTE: &str = "highwater-route";

/// Where the reads of one request were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routes {
    pub(crate) cache: u64,
    pub(crate) replica: u64,
    pub(crate) primary: u64,
}

impl Routes {
    /// From a header like `cache=0, replica=1, primary=0`.
    fn parse(header: &str) -> Option<Self> {
        let mut routes = Self::default();
        for part in header.split(',') {
            let (name, count) = part.trim().split_once('=')?;
            let count = count.parse().ok()?;
            match name {
                "cache" => routes.cache = count,
                "replica" => routes.replica = count,
                "primary" => routes.primary = count,
                _ => return None,
            }
        }
        Some(routes)
    }
}

/// A user's connection to the shop.
pub(crate) struct Browser {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    token: Option<HeaderValue>,
}

impl Browser {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; what goes wrong is said to the request that it happens to.
        tokio::spawn(connection);
        Ok(Self {
            address,
            sender,
            token: None,
        })
    }

    pub(crate) async fn put(&mut self, user: &str, sku: &str, quantity: u32) -> Result<(), Error> {
        let body = format!(r#"{{"quantity":{quantity}}}"#);
        self.request(Method::PUT, format!("/carts/{user}/items/{sku}"), body)
            .await?;
        Ok(())
    }

    pub(crate) async fn cart(&mut self, user: &str) -> Result<(Items, Routes), Error> {
        #[derive(Deserialize)]
        struct Cart {
            items: Items,
        }
        let response = self
            .request(Method::GET, format!("/carts/{user}"), String::new())
            .await?;
        let routes = response
            .headers()
            .get(ROUTE)
            .and_then(|value| Routes::parse(value.to_str().ok()?))
            .ok_or_else(|| format!("a response has no readable {ROUTE} header"))?;
        let cart: Cart = serde_json::from_slice(response.body())?;
        Ok((cart.items, routes))
    }

    async fn request(
        &mut self,
        method: Method,
        path: String,
        body: String,
    ) -> Result<Response<Bytes>, Error> {
        let mut request = Request::builder()
            .method(&method)
            .uri(&path)
            .header(HOST, self.address.to_string());
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(TOKEN, token);
        }
        let request = request.body(Full::from(body))?;
        let exchange = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            Ok::<_, hyper::Error>(Response::from_parts(head, body.collect().await?.to_bytes()))
        };
        let response = timeout(TIMEOUT, exchange)
            .await
            .map_err(|_| format!("no answer to {method} {path}"))?
            .map_err(|error| format!("the service went away during {method} {path}: {error}"))?;
        if !response.status().is_success() {
            let reason = String::from_utf8_lossy(response.body());
            return Err(format!("{method} {path}: {} {reason}", response.status()).into());
        }
        if let Some(token) = response.headers().get(TOKEN) {
            self.token = Some(token.clone());
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_from_the_header() {
        let routes = Routes {
            cache: 1,
            replica: 20,
            primary: 3,
        };
        assert_eq!(Routes::parse("cache=1, replica=20, primary=3"), Some(routes));
        assert_eq!(Routes::parse("replica"), None);
        assert_eq!(Routes::parse("moon=1"), None);
    }
}
