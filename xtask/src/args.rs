//! Command-line arguments, read one by one: `--name value`, `--name=value`, `--name`, and `--`.

use std::{collections::VecDeque, env, ops::RangeInclusive};

use crate::error::Error;

/// The arguments not yet looked at.
#[derive(Debug)]
pub(crate) struct Args {
    rest: VecDeque<String>,
    /// The value in `--name=value`, until an option takes it.
    attached: Option<(String, String)>,
}

impl Args {
    pub(crate) fn from_env() -> Result<Self, Error> {
        let rest = env::args_os()
            .skip(1)
            .map(|argument| {
                argument
                    .into_string()
                    .map_err(|raw| Error::Usage(format!("{} is not UTF-8", raw.display())))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { rest, attached: None })
    }

    #[cfg(test)]
    pub(crate) fn of(arguments: &[&str]) -> Self {
        Self {
            rest: arguments.iter().map(ToString::to_string).collect(),
            attached: None,
        }
    }

    /// The next argument; of `--name=value` only the name.
    pub(crate) fn next(&mut self) -> Option<String> {
        let argument = self.rest.pop_front()?;
        match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => {
                self.attached = Some((name.to_owned(), value.to_owned()));
                Some(name.to_owned())
            }
            _ => Some(argument),
        }
    }

    /// The value of the option that was read last.
    ///
    /// # Errors
    ///
    /// A usage error if there is none, or if another option stands in its place.
    pub(crate) fn value(&mut self, option: &str) -> Result<String, Error> {
        if let Some((_, value)) = self.attached.take() {
            return Ok(value);
        }
        match self.rest.pop_front() {
            Some(value) if !value.starts_with('-') => Ok(value),
            _ => Err(Error::Usage(format!("{option} needs a value"))),
        }
    }

    /// The value of the option that was read last, as a whole number in `range`.
    ///
    /// # Errors
    ///
    /// A usage error if there is no value or it is no such number.
    pub(crate) fn number(&mut self, option: &str, range: RangeInclusive<u64>) -> Result<u64, Error> {
        let value = self.value(option)?;
        value
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                Error::Usage(format!(
                    "{option} takes a whole number from {} to {}, not `{value}`",
                    range.start(),
                    range.end()
                ))
            })
    }

    /// Checks that the flag that was read last came without `=value`.
    ///
    /// # Errors
    ///
    /// A usage error if it came with one.
    pub(crate) fn flag(&mut self) -> Result<(), Error> {
        match self.attached.take() {
            None => Ok(()),
            Some((name, _)) => Err(Error::Usage(format!("{name} takes no value"))),
        }
    }

    /// All that follows, untouched.
    pub(crate) fn remainder(&mut self) -> Vec<String> {
        self.rest.drain(..).collect()
    }
}

/// The error for an argument that `command` does not have.
pub(crate) fn unknown(command: &str, argument: &str) -> Error {
    Error::Usage(format!(
        "`cargo xtask {command}` does not know `{argument}`; see `cargo xtask {command} --help`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_attached_or_apart() {
        let mut args = Args::of(&["--seconds=3", "--seconds", "4"]);
        for expected in [3, 4] {
            assert_eq!(args.next().as_deref(), Some("--seconds"));
            assert_eq!(args.number("--seconds", 1..=10).unwrap(), expected);
        }
        assert_eq!(args.next(), None);
    }

    #[test]
    fn a_missing_value_is_a_usage_error() {
        for arguments in [&["--server"][..], &["--server", "--json"]] {
            let mut args = Args::of(arguments);
            let option = args.next().unwrap();
            assert!(matches!(args.value(&option), Err(Error::Usage(_))));
        }
    }

    #[test]
    fn numbers_are_whole_and_in_range() {
        for value in ["", "0", "11", "-1", "1.5", "two", "99999999999999999999"] {
            let mut args = Args::of(&[&format!("--seconds={value}")]);
            args.next();
            assert!(args.number("--seconds", 1..=10).is_err(), "{value} was taken");
        }
    }

    #[test]
    fn a_flag_takes_no_value() {
        let mut args = Args::of(&["--json=yes"]);
        args.next();
        assert!(matches!(args.flag(), Err(Error::Usage(_))));
    }

    #[test]
    fn the_remainder_is_untouched() {
        let mut args = Args::of(&["--", "--a=b", "c", "--"]);
        assert_eq!(args.next().as_deref(), Some("--"));
        assert_eq!(args.remainder(), ["--a=b", "c", "--"]);
    }
}
