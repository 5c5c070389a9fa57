//! Where a node is and how to introduce oneself there.

use std::{fmt, path::PathBuf};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use crate::error::{Error, ErrorKind};

/// A node's address, with the database, user and password of its URL.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) place: Place,
    pub(crate) database: i64,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    /// Reads any URL that redis-rs knows, or its connection info.
    pub(crate) fn new(info: impl IntoConnectionInfo) -> Result<Self, Error> {
        let info: ConnectionInfo = info.into_connection_info().map_err(|error| {
            Error::new(
                ErrorKind::Config,
                "not a Redis URL; expected something like redis://user:password@host:6379/0",
            )
            .with_source(error)
        })?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Place::Tcp {
                host: host.clone(),
                port: *port,
            },
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            ConnectionAddr::TcpTls { .. } => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "TLS (rediss://) is not supported yet; use redis:// on a trusted network",
                ));
            }
            _ => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "this kind of address is not supported",
                ));
            }
        };
        let settings = info.redis_settings();
        Ok(Self {
            place,
            database: settings.db(),
            username: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
        })
    }
}

impl fmt::Display for Address {
    /// `host:port` or a path: never a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Place::Tcp { host, port } => write!(f, "{host}:{port}"),
            Place::Unix(path) => write!(f, "{}", path.display()),
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
            let address = Address::new(url).unwrap();
            assert_eq!(
                (address.to_string().as_str(), address.database),
                (printed, database),
                "{url}"
            );
        }
    }

    #[test]
    fn takes_user_and_password_and_prints_neither() {
        let address = Address::new("redis://cart:s3cret%2F@h:1/").unwrap();
        assert_eq!(address.username.as_deref(), Some("cart"));
        assert_eq!(address.password.as_deref(), Some("s3cret/"));
        assert_eq!(format!("{address} {address:?}"), "h:1 h:1");
    }

    #[test]
    fn refuses_what_is_no_address() {
        for url in [
            "",
            "localhost:6379",
            "http://localhost",
            "redis://h:99999",
            "rediss://h",
            "redis://h/x",
        ] {
            let error = Address::new(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        }
    }
}
