//! Where a node is and how to introduce oneself there.

use std::{fmt, path::PathBuf};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use crate::error::{Error, ErrorKind};

/// A node's address, with the database, user and password of its URL.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) place: Place,
    pub(crate) database: i64,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// What the URL says of the protocol, if it says anything.
    pub(crate) protocol: Option<ProtocolVersion>,
}

/// Where a node listens.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Tcp {
        host: String,
        port: u16,
    },
    #[cfg(feature = "tls")]
    Tls {
        host: String,
        port: u16,
        config: std::sync::Arc<rustls::ClientConfig>,
        name: rustls::pki_types::ServerName<'static>,
    },
    Unix(PathBuf),
}

impl Place {
    fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return matches!(self, Self::Tls { .. });
        #[cfg(not(feature = "tls"))]
        false
    }
}

/// Where a node is: a URL as redis-rs knows them, or redis-rs's own [`ConnectionInfo`].
///
/// | URL | |
/// | --- | --- |
/// | `redis://user:password@host:port/database` | TCP; `valkey://` is the same |
/// | `rediss://…` | TLS (feature `tls`, and [`TlsOptions`](crate::TlsOptions)); `valkeys://` is the same |
/// | `redis+unix:///path?db=…&user=…&pass=…` | a unix socket; `unix:` is the same |
/// | `…?protocol=resp2` | the older protocol, without trying the newer one first |
///
/// Special characters in names and passwords are percent-encoded. A `ConnectionInfo` can't say whether
/// its protocol was chosen or is redis-rs's default, so what it says of that is not looked at:
/// [`ClientBuilder::protocol`](crate::ClientBuilder::protocol) is.
#[derive(Clone)]
pub struct NodeAddress(Result<Unplaced, Error>);

/// An address whose TLS options are not known yet.
#[derive(Clone)]
struct Unplaced {
    addr: ConnectionAddr,
    info: ConnectionInfo,
    protocol: Option<ProtocolVersion>,
}

/// What TLS needs to be set up.
#[cfg(feature = "tls")]
pub(crate) type Tls = crate::tls::TlsSetup;
#[cfg(not(feature = "tls"))]
pub(crate) type Tls = std::convert::Infallible;

impl NodeAddress {
    /// The same in all but where it is: for nodes that a discovery names by host and port.
    pub(crate) fn at(&self, host: &str, port: u16) -> Self {
        Self(self.0.clone().map(|unplaced| {
            let addr = match unplaced.addr {
                ConnectionAddr::TcpTls {
                    insecure, tls_params, ..
                } => ConnectionAddr::TcpTls {
                    host: host.to_owned(),
                    port,
                    insecure,
                    tls_params,
                },
                _ => ConnectionAddr::Tcp(host.to_owned(), port),
            };
            Unplaced { addr, ..unplaced }
        }))
    }

    /// True for `rediss://` and its like.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(
            &self.0,
            Ok(Unplaced {
                addr: ConnectionAddr::TcpTls { .. },
                ..
            })
        )
    }

    /// The address, with what TLS needs where it is TLS.
    ///
    /// # Errors
    ///
    /// When the URL was none, or is of a kind that can't be connected to.
    pub(crate) fn resolve(self, tls: Option<&Tls>) -> Result<Address, Error> {
        let Unplaced { addr, info, protocol } = self.0?;
        let settings = info.redis_settings();
        Ok(Address {
            place: place(addr, tls)?,
            database: settings.db(),
            username: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
            protocol,
        })
    }
}

impl Address {
    /// True when both are the same in every respect.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.place.is_tls() == other.place.is_tls()
            && self.to_string() == other.to_string()
            && (self.database, self.protocol) == (other.database, other.protocol)
            && (&self.username, &self.password) == (&other.username, &other.password)
    }

    /// What to think of when nothing answers there.
    pub(crate) fn silence_advice(&self) -> &'static str {
        match self.place {
            #[cfg(feature = "tls")]
            Place::Tls { .. } => "; does it serve TLS on that port?",
            _ => "",
        }
    }
}

fn place(addr: ConnectionAddr, tls: Option<&Tls>) -> Result<Place, Error> {
    match addr {
        ConnectionAddr::Tcp(host, port) => Ok(Place::Tcp { host, port }),
        ConnectionAddr::Unix(path) => Ok(Place::Unix(path)),
        #[cfg(feature = "tls")]
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure,
            tls_params,
        } => {
            if tls_params.is_some() {
                return Err(Error::new(
                    ErrorKind::Config,
                    "certificates inside of a ConnectionInfo can't be read: give them with ClientBuilder::tls",
                ));
            }
            let setup = tls.ok_or_else(|| Error::new(ErrorKind::Config, "TLS is not set up"))?;
            let (config, name) = setup.of(&host, insecure)?;
            Ok(Place::Tls {
                host,
                port,
                config,
                name,
            })
        }
        #[cfg(not(feature = "tls"))]
        ConnectionAddr::TcpTls { .. } => {
            let _ = tls;
            Err(Error::new(
                ErrorKind::Config,
                "rediss:// is TLS, which this build is without: enable the feature `tls` of highwater",
            ))
        }
        _ => Err(Error::new(
            ErrorKind::Config,
            "this kind of address is not supported",
        )),
    }
}

impl From<ConnectionInfo> for NodeAddress {
    fn from(info: ConnectionInfo) -> Self {
        Self(Ok(Unplaced {
            addr: info.addr().clone(),
            info,
            protocol: None,
        }))
    }
}

impl From<&str> for NodeAddress {
    fn from(url: &str) -> Self {
        Self(parse(url))
    }
}

impl From<String> for NodeAddress {
    fn from(url: String) -> Self {
        Self(parse(&url))
    }
}

impl From<&String> for NodeAddress {
    fn from(url: &String) -> Self {
        Self(parse(url))
    }
}

/// Reads a URL by redis-rs's own rules. What it would only read with a TLS feature of its own, and what
/// it would forget (whether the protocol was said), is looked at here.
fn parse(text: &str) -> Result<Unplaced, Error> {
    let no_url = || {
        Error::new(
            ErrorKind::Config,
            "not a Redis URL; expected something like redis://user:password@host:6379/0",
        )
    };
    let mut url = redis::parse_redis_url(text).ok_or_else(no_url)?;
    let tls = match url.scheme() {
        "rediss" => Some("redis"),
        "valkeys" => Some("valkey"),
        _ => None,
    };
    let mut insecure = false;
    if let Some(plain) = tls {
        insecure = match url.fragment() {
            None => false,
            Some("insecure") => true,
            Some(_) => {
                let message = "what follows the # of a rediss:// URL can only be `insecure`; encode a # in a \
                               password as %23";
                return Err(Error::new(ErrorKind::Config, message));
            }
        };
        url.set_scheme(plain).map_err(|()| no_url())?;
    }
    let said = url.query_pairs().any(|(key, _)| key == "protocol");
    let info = url
        .into_connection_info()
        .map_err(|error| no_url().with_source(error))?;
    let addr = match info.addr() {
        ConnectionAddr::Tcp(host, port) if tls.is_some() => ConnectionAddr::TcpTls {
            host: host.clone(),
            port: *port,
            insecure,
            tls_params: None,
        },
        addr => addr.clone(),
    };
    Ok(Unplaced {
        addr,
        protocol: said.then(|| info.redis_settings().protocol()),
        info,
    })
}

impl fmt::Debug for NodeAddress {
    /// Where it is: never a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(Unplaced { addr, .. }) => write!(f, "{addr}"),
            Err(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for Address {
    /// `host:port` or a path: never a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = match &self.place {
            Place::Unix(path) => return write!(f, "{}", path.display()),
            Place::Tcp { host, port } => (host, port),
            #[cfg(feature = "tls")]
            Place::Tls { host, port, .. } => (host, port),
        };
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Address, Error> {
        #[cfg(feature = "tls")]
        let setup = crate::tls::TlsOptions::new()
            .ca_pem(crate::tls::AUTHORITY)
            .build()
            .unwrap();
        #[cfg(feature = "tls")]
        let setup = Some(&setup);
        #[cfg(not(feature = "tls"))]
        let setup = None;
        NodeAddress::from(url).resolve(setup)
    }

    #[test]
    fn reads_the_url_forms_of_redis_rs() {
        for (url, printed, database) in [
            ("redis://127.0.0.1:7000", "127.0.0.1:7000", 0),
            ("redis://localhost", "localhost:6379", 0),
            ("valkey://localhost:1/3", "localhost:1", 3),
            ("redis://[::1]:7000/2", "[::1]:7000", 2),
            ("redis+unix:///run/redis.sock?db=4", "/run/redis.sock", 4),
            ("unix:/run/redis.sock", "/run/redis.sock", 0),
        ] {
            let address = read(url).unwrap();
            assert_eq!(
                (address.to_string().as_str(), address.database),
                (printed, database),
                "{url}"
            );
        }
    }

    #[test]
    fn knows_whether_the_protocol_was_said() {
        for (url, protocol) in [
            ("redis://h", None),
            ("redis://h?protocol=resp2", Some(ProtocolVersion::RESP2)),
            ("redis://h/1?protocol=3", Some(ProtocolVersion::RESP3)),
            ("redis+unix:///s?protocol=2", Some(ProtocolVersion::RESP2)),
        ] {
            assert_eq!(read(url).unwrap().protocol, protocol, "{url}");
        }
    }

    #[test]
    fn takes_user_and_password_and_prints_neither() {
        let address = read("redis://cart:s3cret%2F@h:1/").unwrap();
        assert_eq!(address.username.as_deref(), Some("cart"));
        assert_eq!(address.password.as_deref(), Some("s3cret/"));
        let unresolved = NodeAddress::from("redis://cart:s3cret%2F@h:1/");
        assert_eq!(format!("{address} {address:?} {unresolved:?}"), "h:1 h:1 h:1");
    }

    #[test]
    fn refuses_what_is_no_address() {
        for url in [
            "",
            "localhost:6379",
            "http://localhost",
            "redis://h:99999",
            "redis://h/x",
            "redis://h?protocol=4",
            "rediss://h#x",
            // Not without TlsOptions::dangerously_allow_insecure_urls; not at all without the feature.
            "rediss://h#insecure",
        ] {
            let error = read(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn reads_tls_urls() {
        let address = read("rediss://ann:pw@h/2").unwrap();
        assert_eq!((address.to_string().as_str(), address.database), ("h:6379", 2));
        assert!(matches!(address.place, Place::Tls { .. }));
        assert!(NodeAddress::from("valkeys://h").is_tls());
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn names_the_feature_that_tls_needs() {
        let error = read("rediss://h").unwrap_err();
        assert!(error.to_string().contains("feature `tls`"), "{error}");
    }
}
