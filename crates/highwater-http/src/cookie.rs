//! Tokens in a cookie (feature `cookie`).

use std::{borrow::Cow, error, fmt, time::Duration};

use cookie::Cookie;
pub use cookie::SameSite;
use http::{
    HeaderMap,
    header::{COOKIE, SET_COOKIE},
};

use crate::header::visible;

/// The longest token in a cookie. Browsers take 4096 bytes with the name and the attributes; some count them
/// otherwise. What does not fit becomes doubt.
pub(crate) const MAX_COOKIE_TOKEN_LEN: usize = 3600;

/// The cookie that carries a session's token, for browsers. `HttpOnly` always.
///
/// ```
/// use highwater_http::{SameSite, TokenCookie};
/// use std::time::Duration;
///
/// let cookie = TokenCookie::new()
///     .name("__Host-session-marks")?
///     .same_site(SameSite::Strict)
///     .max_age(Some(Duration::from_secs(3600)));
/// # Ok::<(), highwater_http::CookieError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TokenCookie {
    name: String,
    path: String,
    max_age: Option<Duration>,
    same_site: SameSite,
    secure: bool,
}

impl TokenCookie {
    /// A cookie named `highwater-token`, `Secure`, `SameSite=Lax`, for the path `/`, that lives as long as a token
    /// does by default: a day.
    #[must_use]
    pub fn new() -> Self {
        Self {
            name: "highwater-token".to_owned(),
            path: "/".to_owned(),
            max_age: Some(highwater_core::TokenCodec::DEFAULT_MAX_AGE),
            same_site: SameSite::Lax,
            secure: true,
        }
    }

    /// The cookie's name.
    ///
    /// # Errors
    ///
    /// When it is empty or has a character that names of cookies can't have.
    pub fn name(mut self, name: impl Into<String>) -> Result<Self, CookieError> {
        self.name = name.into();
        let token = |byte: u8| byte.is_ascii_graphic() && !br#"()<>@,;:\"/[]?={}"#.contains(&byte);
        if self.name.is_empty() || !self.name.bytes().all(token) {
            return Err(CookieError("name"));
        }
        Ok(self)
    }

    /// The path below which the browser sends it. All that belongs to one session should be in there.
    ///
    /// # Errors
    ///
    /// When it does not begin with `/`, or has a character that paths of cookies can't have.
    pub fn path(mut self, path: impl Into<String>) -> Result<Self, CookieError> {
        self.path = path.into();
        let fine = |byte: u8| byte.is_ascii_graphic() && byte != b';';
        if !self.path.starts_with('/') || !self.path.bytes().all(fine) {
            return Err(CookieError("path"));
        }
        Ok(self)
    }

    /// How long the browser keeps it; `None`: until it is closed. Longer than the codec's maximum age is of
    /// no use: an expired token is doubt.
    #[must_use]
    pub fn max_age(mut self, max_age: Option<Duration>) -> Self {
        self.max_age = max_age;
        self
    }

    /// Whether requests that other sites cause carry it. `None` needs `Secure`.
    #[must_use]
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Whether it is sent over TLS only (and to `localhost`). On by default.
    #[must_use]
    pub fn secure(mut self, yes: bool) -> Self {
        self.secure = yes;
        self
    }

    /// The values of this cookie in a request. Normally one; with cookies of several paths or domains, several.
    pub(crate) fn tokens<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = Cow<'a, str>> + 'a {
        headers.get_all(COOKIE).iter().flat_map(move |value| {
            // Another cookie may have bytes that are no text; that does not touch ours.
            let text = String::from_utf8_lossy(value.as_bytes());
            let ours = |cookie: Cookie<'_>| {
                (cookie.name() == self.name).then(|| Cow::<'a, str>::Owned(cookie.value().to_owned()))
            };
            let tokens: Vec<_> = Cookie::split_parse(text.as_ref())
                .filter_map(|cookie| ours(cookie.ok()?))
                .take(crate::MAX_TOKENS + 1)
                .collect();
            tokens
        })
    }

    pub(crate) fn put(&self, headers: &mut HeaderMap, token: &str) {
        let mut cookie = Cookie::build((self.name.as_str(), token))
            .path(self.path.as_str())
            .http_only(true)
            .same_site(self.same_site)
            .secure(self.secure)
            .build();
        if let Some(max_age) = self.max_age {
            cookie.set_max_age(cookie::time::Duration::seconds(
                i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX),
            ));
        }
        let mut value = visible(cookie.to_string());
        value.set_sensitive(true);
        headers.append(SET_COOKIE, value);
    }
}

impl Default for TokenCookie {
    fn default() -> Self {
        Self::new()
    }
}

/// A part of a [`TokenCookie`] is not what a cookie can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieError(&'static str);

impl fmt::Display for CookieError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the {} of a cookie can't have these characters: use letters, digits and `-`",
            self.0
        )
    }
}

impl error::Error for CookieError {}
