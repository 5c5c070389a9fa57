use std::sync::Arc;

use highwater_core::{Continuity, Session};
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG, EXPIRES, LAST_MODIFIED},
};

use super::{BadToken, config::Config};
use crate::{
    CONTINUITY_HEADER, ERROR_HEADER, ROUTE_HEADER, TOKEN_HEADER,
    header::{Trailers, lists, may_be_anothers, visible},
};

/// What the response will need: the request's session, and which state of it the client has.
#[derive(Debug)]
pub(super) struct Outgoing {
    session: Session,
    /// The session's version in what the client was last sent; `None` when no token that it has says all of it.
    sent: Option<u64>,
    config: Arc<Config>,
    trailers: Trailers,
    /// What was wrong with the request, where it was served all the same.
    ignored: Option<BadToken>,
}

impl Outgoing {
    /// For a session that has just taken in what the request said; `whole` if one token said all of it.
    pub(super) fn new(session: Session, config: Arc<Config>, whole: bool, trailers: Trailers) -> Self {
        Self {
            sent: whole.then(|| session.version()),
            session,
            config,
            trailers,
            ignored: None,
        }
    }

    pub(super) fn ignoring(mut self, ignored: Option<BadToken>) -> Self {
        self.ignored = ignored;
        self
    }

    /// For every method and status: a GET may write, and a request that failed may have written first.
    pub(super) fn finish(&mut self, status: StatusCode, headers: &mut HeaderMap) {
        if self.promised_trailers() && may_be_anothers(status, headers) {
            // By the token the caller knows that it is ours.
            self.sent = None;
        }
        let moved = self.send(|config, token| config.write(headers, token));
        if let Some(ignored) = self.ignored {
            headers.insert(ERROR_HEADER, HeaderValue::from_static(ignored.as_str()));
        }
        if self.config.expose_route {
            headers.insert(ROUTE_HEADER, visible(self.session.routes().to_string()));
        }
        if self.config.expose_continuity {
            let continuity = self.session.continuity();
            if continuity != Continuity::Intact {
                headers.insert(CONTINUITY_HEADER, HeaderValue::from_static(continuity.as_str()));
            }
        }
        // HTTP/1 has none behind a body of known length.
        if self.config.header && !headers.contains_key(CONTENT_LENGTH) {
            self.trailers.declare(headers);
        }
        self.mind_caches(headers, moved);
    }

    pub(super) fn finish_refusal<R>(mut self, bad: BadToken, response: &mut Response<R>) {
        response.extensions_mut().insert(bad);
        self.sent = None;
        self.ignored = Some(bad);
        self.trailers = Trailers::None;
        self.finish(response.status(), response.headers_mut());
    }

    /// Whether there is more to say than the head said, and somebody to hear it.
    pub(super) fn owes_trailers(&self) -> bool {
        self.config.header && self.trailers != Trailers::None && self.sent != Some(self.session.version())
    }

    /// Whether the client has asked for trailers. Then those with the token are sent in any case: whoever waits for them could not
    /// tell "nothing new" from trailers that somebody on the way has dropped.
    pub(super) fn promised_trailers(&self) -> bool {
        self.config.header && self.trailers == Trailers::Asked
    }

    pub(super) fn finish_trailers(mut self, trailers: &mut HeaderMap) {
        if self.promised_trailers() {
            self.sent = None;
        }
        self.send(|config, token| config.write_trailer(trailers, token));
    }

    /// Writes the token if the client has not got it. True when it did.
    fn send(&mut self, write: impl FnOnce(&Config, &highwater_core::Token)) -> bool {
        // Before the marks: what comes in between is sent once more, and not missed.
        let version = self.session.version();
        if self.sent == Some(version) {
            return false;
        }
        write(&self.config, &self.session.token());
        self.sent = Some(version);
        true
    }

    /// A token is for one client, and a response that may be stored is for those whose session is where
    /// this one was.
    fn mind_caches(&self, headers: &mut HeaderMap, moved: bool) {
        let has_token = moved || headers.contains_key(TOKEN_HEADER);
        if self.config.cache_control && has_token && !headers.contains_key(CACHE_CONTROL) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
        }
        let storable = [CACHE_CONTROL, ETAG, EXPIRES, LAST_MODIFIED]
            .iter()
            .any(|name| headers.contains_key(name))
            && !lists(headers, &CACHE_CONTROL, "no-store");
        if self.config.vary && storable {
            self.config.vary(headers);
        }
    }
}
