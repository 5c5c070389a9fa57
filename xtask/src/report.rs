//! Where a command's own lines go.

/// The stream for plain lines. The demo keeps standard output for its result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Report {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Report {
    pub(crate) fn line(self, text: &str) {
        match self {
            Self::Stdout => println!("{text}"),
            Self::Stderr => eprintln!("{text}"),
        }
    }
}
