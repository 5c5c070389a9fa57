//! Stopping a stream of bytes at an exact place.

use std::collections::VecDeque;
use std::sync::Arc;

/// Where to stop, counted from when it was set.
#[derive(Debug, Clone)]
pub(super) enum Point {
    /// After so many bytes of a connection.
    Bytes(usize),
    /// Right after these bytes of a connection.
    Pattern(Arc<[u8]>),
}

/// A relay's hold on one direction. Each connection stops at the point for itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Hold {
    /// Tells one hold from the next.
    id: u64,
    point: Option<Point>,
    held: usize,
}

impl Hold {
    pub(super) fn set(&mut self, point: Option<Point>) {
        *self = Self {
            id: self.id + 1,
            point,
            held: 0,
        };
    }

    pub(super) fn held(&self) -> bool {
        self.held > 0
    }
}

/// How far one connection is towards the hold of its direction.
#[derive(Debug, Default)]
pub(super) struct Progress {
    id: u64,
    passed: usize,
    /// As many of the last bytes as the pattern has.
    recent: VecDeque<u8>,
    reached: bool,
}

impl Progress {
    /// How many of `bytes` may pass before the point.
    pub(super) fn allowance(&mut self, hold: &mut Hold, bytes: &[u8]) -> usize {
        if self.id != hold.id {
            *self = Self {
                id: hold.id,
                ..Self::default()
            };
        }
        if self.reached {
            return 0;
        }
        let allowed = match &hold.point {
            None => bytes.len(),
            Some(Point::Bytes(limit)) => bytes.len().min(limit.saturating_sub(self.passed)),
            Some(Point::Pattern(pattern)) => {
                let mut recent = self.recent.clone();
                let end = bytes
                    .iter()
                    .position(|byte| completes(&mut recent, *byte, pattern));
                end.map_or(bytes.len(), |end| end + 1)
            }
        };
        if allowed == 0 {
            self.reach(hold);
        }
        allowed
    }

    /// These bytes have passed.
    pub(super) fn advance(&mut self, hold: &mut Hold, bytes: &[u8]) {
        self.passed += bytes.len();
        let reached = match &hold.point {
            None => false,
            Some(Point::Bytes(limit)) => self.passed >= *limit,
            Some(Point::Pattern(pattern)) => bytes
                .iter()
                .fold(false, |_, byte| completes(&mut self.recent, *byte, pattern)),
        };
        if reached {
            self.reach(hold);
        }
    }

    /// The connection ends: it is not held any more.
    pub(super) fn leave(&self, hold: &mut Hold) {
        if self.reached && self.id == hold.id {
            hold.held -= 1;
        }
    }

    fn reach(&mut self, hold: &mut Hold) {
        self.reached = true;
        hold.held += 1;
    }
}

fn completes(recent: &mut VecDeque<u8>, byte: u8, pattern: &[u8]) -> bool {
    if recent.len() == pattern.len() {
        recent.pop_front();
    }
    recent.push_back(byte);
    pattern.last() == Some(&byte) && recent.iter().eq(pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `text` in pieces of `piece` bytes, and returns what passes.
    fn passes(hold: &mut Hold, progress: &mut Progress, text: &str, piece: usize) -> String {
        let mut passed = Vec::new();
        for piece in text.as_bytes().chunks(piece) {
            let allowed = progress.allowance(hold, piece);
            progress.advance(hold, &piece[..allowed]);
            passed.extend_from_slice(&piece[..allowed]);
            if allowed < piece.len() {
                break;
            }
        }
        String::from_utf8(passed).unwrap()
    }

    #[test]
    fn a_pattern_is_found_across_pieces() {
        for piece in 1..12 {
            let (mut hold, mut progress) = (Hold::default(), Progress::default());
            hold.set(Some(Point::Pattern(b"aab".to_vec().into())));
            assert_eq!(
                passes(&mut hold, &mut progress, "xaaaabaab", piece),
                "xaaaab",
                "pieces of {piece}"
            );
            assert!(hold.held());
        }
    }

    #[test]
    fn a_pattern_at_the_end_holds_what_comes_later() {
        let (mut hold, mut progress) = (Hold::default(), Progress::default());
        hold.set(Some(Point::Pattern(b"INFO".to_vec().into())));
        assert_eq!(passes(&mut hold, &mut progress, "xINFO", 5), "xINFO");
        assert!(hold.held());
        assert_eq!(passes(&mut hold, &mut progress, "y", 5), "");
        hold.set(None);
        assert!(!hold.held());
        assert_eq!(passes(&mut hold, &mut progress, "INFO", 5), "INFO");
    }

    #[test]
    fn a_byte_count_starts_when_it_is_set() {
        let (mut hold, mut progress) = (Hold::default(), Progress::default());
        assert_eq!(passes(&mut hold, &mut progress, "before", 4), "before");
        hold.set(Some(Point::Bytes(3)));
        assert_eq!(passes(&mut hold, &mut progress, "ab", 4), "ab");
        assert!(!hold.held());
        assert_eq!(passes(&mut hold, &mut progress, "cdef", 4), "c");
        assert!(hold.held());
        progress.leave(&mut hold);
        assert!(!hold.held());
    }
}
