use std::{fmt, sync::Arc};

use highwater_core::{Consistency, Token, TokenCodec};
use http::HeaderMap;

use super::{BadToken, bad_token::Counters};
use crate::{
    LEVEL_HEADER,
    header::{Incoming, encode, put_token, vary_by},
};

/// What the services of a layer share.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) codec: TokenCodec,
    pub(super) header: bool,
    #[cfg(feature = "cookie")]
    pub(super) cookie: Option<crate::TokenCookie>,
    pub(super) levels: Option<Levels>,
    pub(super) expose_route: bool,
    pub(super) expose_continuity: bool,
    pub(super) cache_control: bool,
    pub(super) vary: bool,
    pub(super) bad_tokens: Counters,
}

/// Which levels requests may ask for.
#[derive(Clone)]
pub(super) struct Levels(pub(super) Arc<dyn Fn(Consistency) -> bool + Send + Sync>);

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Levels")
    }
}

impl Config {
    pub(super) fn new(codec: TokenCodec) -> Self {
        Self {
            codec,
            header: true,
            #[cfg(feature = "cookie")]
            cookie: None,
            levels: None,
            expose_route: false,
            expose_continuity: false,
            cache_control: true,
            vary: true,
            bad_tokens: Counters::default(),
        }
    }

    /// The tokens of a request, wherever they are. The cookie's come first: it is a browser's session that needs
    /// its id.
    pub(super) fn read(&self, headers: &HeaderMap, mut bad: impl FnMut(BadToken)) -> Incoming {
        let mut incoming = Incoming::default();
        let mut now = None;
        #[cfg(feature = "cookie")]
        if let Some(cookie) = &self.cookie {
            for token in cookie.tokens(headers) {
                if !incoming.take(token.as_bytes(), &self.codec, &mut now, &mut bad) {
                    return incoming;
                }
            }
        }
        if self.header {
            incoming.take_header(headers, &self.codec, &mut now, &mut bad);
        }
        incoming
    }

    /// The level that a request asks for.
    ///
    /// # Errors
    ///
    /// When it asks for one that there is not, or that it may not have.
    pub(super) fn level(&self, headers: &HeaderMap) -> Result<Option<Consistency>, BadToken> {
        let (Some(Levels(allowed)), Some(asked)) = (&self.levels, headers.get(LEVEL_HEADER)) else {
            return Ok(None);
        };
        let level = asked.to_str().ok().and_then(|text| text.parse().ok());
        match level.filter(|level| allowed(*level)) {
            Some(level) => Ok(Some(level)),
            None => Err(BadToken::Level),
        }
    }

    pub(super) fn write(&self, headers: &mut HeaderMap, token: &Token) {
        let text = encode(&self.codec, token);
        #[cfg(feature = "cookie")]
        if let Some(cookie) = &self.cookie {
            use crate::{cookie::MAX_COOKIE_TOKEN_LEN, header::unix_seconds};
            if text.len() <= MAX_COOKIE_TOKEN_LEN {
                cookie.put(headers, &text);
            } else {
                let short = self
                    .codec
                    .encode_token(token, unix_seconds(), MAX_COOKIE_TOKEN_LEN);
                cookie.put(headers, &short);
            }
        }
        if self.header {
            put_token(headers, text);
        }
    }

    /// In trailers there are no cookies.
    pub(super) fn write_trailer(&self, trailers: &mut HeaderMap, token: &Token) {
        if self.header {
            put_token(trailers, encode(&self.codec, token));
        }
    }

    /// The request headers that a response may depend on.
    pub(super) fn vary(&self, headers: &mut HeaderMap) {
        if self.header {
            vary_by(headers, "highwater-token");
        }
        #[cfg(feature = "cookie")]
        if self.cookie.is_some() {
            vary_by(headers, "cookie");
        }
        if self.levels.is_some() {
            vary_by(headers, "highwater-level");
        }
    }
}
