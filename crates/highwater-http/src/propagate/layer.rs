use highwater_core::{Session, TokenCodec};
use http::Extensions;
use tower_layer::Layer;

use super::{PropagateService, TokenJar};

/// Takes a session along to the services that a client calls, and merges what they have done for it: for tower
/// clients over [`http::Request`], such as tonic's `Channel` or hyper-util's `Client`.
///
/// Each request's session is in its extensions (`tonic::Request`'s are among them). What a handler puts there is the
/// session of the request that it serves; so a chain of services has one user's session, whatever Redis each of
/// them has. Requests without one pass untouched.
///
/// ```
/// use highwater_core::{History, Mark, Offset, Scope, Session, SigningKey, TokenCodec};
/// use highwater_http::{PropagateLayer, SessionLayer};
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let codec = TokenCodec::signed(SigningKey::new("thirty-two bytes from /dev/random")?);
/// # let history: History = "0123456789abcdef0123456789abcdef01234567".parse()?;
/// # let orders = SessionLayer::new(codec.clone()).layer(service_fn(move |request: Request<String>| async move {
/// #     let session = request.extensions().get::<Session>().ok_or("no session")?;
/// #     session.add_written(&Mark { scope: Scope::new("orders")?, history, offset: Offset::at(42) });
/// #     Ok::<_, Box<dyn std::error::Error>>(Response::new(String::new()))
/// # }));
/// // `orders` is a client of another service, which has the same key.
/// let orders = PropagateLayer::new(codec).layer(orders);
///
/// let session = Session::new();
/// let mut request = Request::post("/orders").body(String::new())?;
/// request.extensions_mut().insert(session.clone());
/// orders.oneshot(request).await?;
/// // The session now depends on what the other service has written.
/// assert_eq!(session.marks().written().count(), 1);
/// # Ok(())
/// # }
/// ```
///
/// # What it learns
///
/// The tokens in a response's headers and trailers, whatever the status. A call whose response does not come (an
/// error, a dropped future), a failure without a token that something on the way may have answered with (5xx, 408, some of gRPC's
/// codes), and a response whose body ends or is dropped before trailers that it has announced, leave the
/// session in doubt: the other service may have written.
#[derive(Clone, Debug)]
pub struct PropagateLayer {
    source: Source,
}

#[derive(Clone, Debug)]
pub(crate) enum Source {
    Codec(TokenCodec, Option<Session>),
    Jar(TokenJar),
}

/// The session of one request.
#[derive(Debug)]
pub(crate) enum Carrier {
    Session(Session, TokenCodec),
    Jar(TokenJar),
}

impl PropagateLayer {
    /// For services: sessions are in the requests' extensions, and tokens are made and read with `codec`.
    #[must_use]
    pub fn new(codec: TokenCodec) -> Self {
        Self {
            source: Source::Codec(codec, None),
        }
    }

    /// For clients without a key: tokens are kept in `jar` as they come, unless a request has a [`TokenJar`] of its
    /// own in its extensions.
    #[must_use]
    pub fn opaque(jar: TokenJar) -> Self {
        Self {
            source: Source::Jar(jar),
        }
    }

    /// The session of requests that have none in their extensions.
    #[must_use]
    pub fn session(mut self, session: Session) -> Self {
        if let Source::Codec(_, own) = &mut self.source {
            *own = Some(session);
        }
        self
    }

    pub(crate) fn carrier(&self, extensions: &Extensions) -> Option<Carrier> {
        Some(match &self.source {
            Source::Codec(codec, own) => {
                let session = extensions.get::<Session>().or(own.as_ref())?;
                Carrier::Session(session.clone(), codec.clone())
            }
            Source::Jar(own) => Carrier::Jar(extensions.get::<TokenJar>().unwrap_or(own).clone()),
        })
    }
}

impl<S> Layer<S> for PropagateLayer {
    type Service = PropagateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PropagateService::new(inner, self.clone())
    }
}
