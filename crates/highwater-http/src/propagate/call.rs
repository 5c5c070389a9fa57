use highwater_core::{Marks, Session, Token, TokenCodec};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{TE, TRAILER},
};
use http_body::Body;

use super::{TokenJar, layer::Carrier};
use crate::{
    TOKEN_HEADER,
    header::{Incoming, encode, lists, may_be_anothers, put_token},
};

/// One request and its response, as the session sees them. Dropped before everything that may carry a token has
/// arrived, it leaves a doubt.
#[derive(Debug)]
pub(crate) struct Call {
    party: Party,
    /// What may still carry a token.
    awaited: Awaited,
}

#[derive(Debug)]
enum Party {
    Session(Session, TokenCodec),
    /// And the tokens that a response's is sure to have taken in.
    Jar(TokenJar, Vec<HeaderValue>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The response, or what has become of the request.
    Head,
    /// Trailers that were announced.
    Trailers,
    /// Trailers, perhaps.
    Nothing,
}

impl Call {
    /// Puts the tokens into the request's headers.
    pub(crate) fn begin(carrier: Carrier, headers: &mut HeaderMap) -> Self {
        headers.remove(TOKEN_HEADER);
        let party = match carrier {
            Carrier::Session(session, codec) => {
                let marks = session.marks();
                if !marks.is_empty() {
                    // The id is for the store of this service, and of no other one.
                    put_token(headers, encode(&codec, &Token::from(marks)));
                }
                Party::Session(session, codec)
            }
            Carrier::Jar(jar) => {
                let tokens = jar.tokens();
                for token in &tokens {
                    headers.append(TOKEN_HEADER, token.clone());
                }
                Party::Jar(jar, tokens)
            }
        };
        if !lists(headers, &TE, "trailers") {
            headers.append(TE, HeaderValue::from_static("trailers"));
        }
        Self {
            party,
            awaited: Awaited::Head,
        }
    }

    /// Takes in a response's head. For every status: what has failed may have written first.
    pub(crate) fn head(&mut self, status: StatusCode, headers: &HeaderMap, body: &impl Body) {
        if !self.take_in(headers) && may_be_anothers(status, headers) {
            self.doubt();
        }
        let announced = lists(headers, &TRAILER, TOKEN_HEADER.as_str());
        // A body whose length was known in advance was not written while it left.
        let streams = !body.is_end_stream() && body.size_hint().exact().is_none();
        self.awaited = if announced && streams {
            Awaited::Trailers
        } else {
            Awaited::Nothing
        };
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if self.take_in(trailers) {
            self.awaited = Awaited::Nothing;
        }
    }

    /// Somebody may have had a token that did not come.
    fn doubt(&self) {
        match &self.party {
            Party::Session(session, _) => session.merge(&Marks::in_doubt()),
            // A doubt would need a key.
            Party::Jar(..) => {}
        }
    }

    /// True when there was something to take in.
    fn take_in(&mut self, headers: &HeaderMap) -> bool {
        if !headers.contains_key(TOKEN_HEADER) {
            return false;
        }
        match &mut self.party {
            Party::Session(session, codec) => {
                let mut incoming = Incoming::default();
                incoming.take_header(headers, codec, &mut None, &mut |bad| {
                    tracing::warn!(
                        reason = bad.as_str(),
                        "a service's token can't be used: is the key the same?"
                    );
                });
                session.merge(&incoming.marks);
            }
            Party::Jar(jar, known) => {
                let tokens: Vec<_> = headers.get_all(TOKEN_HEADER).iter().cloned().collect();
                jar.replace(known, tokens.iter().cloned());
                known.extend(tokens);
            }
        }
        true
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.awaited != Awaited::Nothing {
            self.doubt();
        }
    }
}
