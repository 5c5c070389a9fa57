use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::HeaderValue;

use crate::MAX_TOKENS;

/// The tokens of one user, in a client that has no key and can't read them: an app, a command line, a test.
///
/// A response's token says all that the tokens of its request said, and takes their place; those of requests in
/// parallel stand side by side, and are all sent. At most [`MAX_TOKENS`] and one more, which the service takes for
/// doubt. Clones share the tokens.
#[derive(Clone, Default)]
pub struct TokenJar(Arc<Mutex<Vec<HeaderValue>>>);

impl TokenJar {
    /// A jar without a token.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tokens, to be sent or kept, each in a header of its own.
    #[must_use]
    pub fn tokens(&self) -> Vec<HeaderValue> {
        self.lock().clone()
    }

    /// Adds a token that was kept elsewhere.
    pub fn add(&self, token: HeaderValue) {
        self.replace(&[], [token]);
    }

    /// Puts the tokens of a response in the place of those that it has taken in.
    pub(super) fn replace(&self, known: &[HeaderValue], new: impl IntoIterator<Item = HeaderValue>) {
        let mut tokens = self.lock();
        tokens.retain(|token| !known.contains(token));
        for mut token in new {
            token.set_sensitive(true);
            if tokens.len() <= MAX_TOKENS && !tokens.contains(&token) {
                tokens.push(token);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<HeaderValue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for TokenJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenJar")
            .field("tokens", &self.lock().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn token(number: usize) -> HeaderValue {
        HeaderValue::from_str(&number.to_string()).unwrap()
    }

    #[test]
    fn a_response_takes_the_place_of_what_its_request_sent_and_of_nothing_else() {
        let jar = TokenJar::new();
        jar.add(token(0));
        let sent = jar.tokens();
        // Two requests side by side.
        jar.replace(&sent, [token(1)]);
        jar.replace(&sent, [token(2)]);
        assert_eq!(jar.tokens(), [token(1), token(2)]);
        let sent = jar.tokens();
        jar.replace(&sent, [token(3)]);
        assert_eq!(jar.tokens(), [token(3)]);
    }

    #[test]
    fn it_is_bounded_and_one_too_many_is_kept_for_doubt() {
        let jar = TokenJar::new();
        (0..100).for_each(|number| jar.add(token(number)));
        assert_eq!(jar.tokens().len(), MAX_TOKENS + 1);
        assert!(!format!("{jar:?}").contains("99"));
    }
}
