//! Requests, as they come in.

/// One command that a peer has received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    arguments: Vec<String>,
}

impl Request {
    /// Its name, in capitals.
    #[must_use]
    pub fn name(&self) -> String {
        self.argument(0).to_ascii_uppercase()
    }

    /// An argument, the name being number 0; empty where there is none.
    #[must_use]
    pub fn argument(&self, number: usize) -> &str {
        self.arguments.get(number).map_or("", String::as_str)
    }

    /// True for `INFO replication`.
    #[must_use]
    pub fn is_info(&self) -> bool {
        self.name() == "INFO" && self.argument(1) == "replication"
    }
}

/// Takes requests out of what has been received.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) received: Vec<u8>,
}

impl Iterator for Requests {
    type Item = Request;

    /// The next request that has come whole. Clients are honest here: what is no request is none yet.
    fn next(&mut self) -> Option<Request> {
        let mut rest = &self.received[..];
        let count = header(&mut rest, b'*')?;
        let mut arguments = Vec::with_capacity(count.min(16));
        for _ in 0..count {
            let len = header(&mut rest, b'$')?;
            let (argument, after) = rest.split_at_checked(len)?;
            arguments.push(String::from_utf8_lossy(argument).into_owned());
            rest = after.strip_prefix(b"\r\n")?;
        }
        let read = self.received.len() - rest.len();
        self.received.drain(..read);
        Some(Request { arguments })
    }
}

fn header(rest: &mut &[u8], mark: u8) -> Option<usize> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let (line, after) = rest.split_at_checked(end)?;
    let number = std::str::from_utf8(line.strip_prefix(&[mark])?)
        .ok()?
        .parse()
        .ok()?;
    *rest = after.get(2..)?;
    Some(number)
}
