//! Operations that overlap, gone through in the order in which they begin and end.

/// Whether an operation begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// It begins.
    Start,
    /// It ends.
    End,
}

/// The beginnings and ends of operations, in order; each with the operation's place in the list. `span` says from when to
/// when an operation lasts.
///
/// At one instant beginnings come first: what ended at the very instant at which something began was not before it.
pub fn sweep<T, I: Ord>(operations: &[T], span: impl Fn(&T) -> (I, I)) -> Vec<(Side, usize, &T)> {
    let mut points: Vec<_> = operations
        .iter()
        .enumerate()
        .flat_map(|(place, operation)| {
            let (start, end) = span(operation);
            [
                (start, Side::Start, place, operation),
                (end, Side::End, place, operation),
            ]
        })
        .collect();
    points.sort_unstable_by(|one, other| (&one.0, one.1, one.2).cmp(&(&other.0, other.1, other.2)));
    points
        .into_iter()
        .map(|(_, side, place, operation)| (side, place, operation))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_one_instant_beginnings_come_first() {
        let order: Vec<_> = sweep(&[(1, 2), (2, 2), (0, 3)], |span| *span)
            .into_iter()
            .map(|(side, place, _)| (side, place))
            .collect();
        use Side::{End, Start};
        assert_eq!(
            order,
            [(Start, 2), (Start, 0), (Start, 1), (End, 0), (End, 1), (End, 2)]
        );
    }
}
