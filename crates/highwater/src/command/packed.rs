//! A look at encoded commands: their names and arguments, without copying.

/// The commands in a buffer of requests that redis-rs has encoded.
#[derive(Clone, Debug)]
pub(super) struct Commands<'a>(&'a [u8]);

/// The arguments of a command, its name first.
pub(crate) trait Arguments<'a>: Iterator<Item = &'a [u8]> + Clone {}

impl<'a, A: Iterator<Item = &'a [u8]> + Clone> Arguments<'a> for A {}

/// Those of one that is encoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Commands<'a> {
    pub(super) fn new(packed: &'a [u8]) -> Self {
        Self(packed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    /// The arguments of the first command, without a look at where it ends.
    pub(super) fn first(packed: &'a [u8]) -> Option<Packed<'a>> {
        let (left, rest) = number(packed, b'*')?;
        Some(Packed { rest, left })
    }

    /// Each command as it is encoded.
    pub(super) fn encoded(mut self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::from_fn(move || {
            let before = self.0;
            self.next()?;
            before.get(..before.len() - self.0.len())
        })
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = Packed<'a>;

    fn next(&mut self) -> Option<Packed<'a>> {
        let arguments = Self::first(self.0)?;
        let mut skipped = arguments.clone();
        skipped.by_ref().for_each(drop);
        self.0 = skipped.rest;
        Some(arguments)
    }
}

impl<'a> Iterator for Packed<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (len, rest) = number(self.rest, b'$')?;
        let (argument, rest) = rest.split_at_checked(len)?;
        self.rest = rest.get(2..)?;
        Some(argument)
    }
}

/// The number after `mark`, and what follows its line.
fn number(bytes: &[u8], mark: u8) -> Option<(usize, &[u8])> {
    let rest = bytes.strip_prefix(&[mark])?;
    let mut value = 0_usize;
    for (digits, byte) in rest.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_add(usize::from(byte - b'0'))?,
            b'\r' => return Some((value, rest.get(digits + 2..)?)),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_every_argument_of_every_command() {
        let mut pipeline = redis::pipe();
        pipeline
            .atomic()
            .cmd("SET")
            .arg("k")
            .arg(b"\r\n$1\r\n")
            .cmd("GET")
            .arg("");
        let packed = pipeline.get_packed_pipeline();
        let seen: Vec<Vec<&[u8]>> = Commands::new(&packed).map(Iterator::collect).collect();
        let expected: Vec<Vec<&[u8]>> = vec![
            vec![b"MULTI"],
            vec![b"SET", b"k", b"\r\n$1\r\n"],
            vec![b"GET", b""],
            vec![b"EXEC"],
        ];
        assert_eq!(seen, expected);
        let encoded: Vec<_> = Commands::new(&packed).encoded().collect();
        assert_eq!((encoded.len(), encoded.concat()), (4, packed));
    }
}
