//! A closer look at the commands of a unit, for connections of one's own: what they do to the
//! connection, and how long they may block it.

use std::{ops::Range, time::Duration};

use super::{Class, packed::Arguments};

/// What is to be known of one command before it is sent on a connection of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Where it is in its unit.
    pub(crate) span: Range<usize>,
    pub(crate) verb: Verb,
    /// Its reply shows keys, and it writes none.
    pub(crate) reads: bool,
    /// Its reply may show keys: it reads, or it is a script, which a replica carries out as well, as long as it writes nothing.
    pub(crate) shows: bool,
    /// It writes, or may write.
    pub(crate) writes: bool,
    /// How long it may block the connection; [`Duration::MAX`] for ever.
    pub(crate) patience: Duration,
}

/// What a command does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Multi,
    Exec,
    Discard,
    Select(i64),
    /// Nothing that would have to be known.
    Other,
}

impl Look {
    pub(super) fn new<'a>(span: Range<usize>, class: Class, arguments: impl Arguments<'a>) -> Self {
        let mut rest = arguments.clone();
        let name = rest.next().unwrap_or_default();
        let is = |names: &[&str]| {
            names
                .iter()
                .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
        };
        let verb = match class {
            Class::ConnectionState if is(&["MULTI"]) => Verb::Multi,
            Class::ConnectionState if is(&["EXEC"]) => Verb::Exec,
            Class::ConnectionState if is(&["DISCARD"]) => Verb::Discard,
            Class::ConnectionState if is(&["SELECT"]) => {
                rest.next().and_then(number).map_or(Verb::Other, Verb::Select)
            }
            _ => Verb::Other,
        };
        let reads_blocking = class == Class::Blocking && is(&["XREAD"]);
        let blocks = class == Class::Blocking || is(&["WAIT", "WAITAOF"]);
        let reads = reads_blocking || matches!(class, Class::Read | Class::Cursor);
        Self {
            span,
            verb,
            reads,
            shows: reads || is(&["EVAL", "EVALSHA", "FCALL"]),
            writes: class == Class::Write || (class == Class::Blocking && !reads_blocking),
            patience: if blocks {
                patience(arguments)
            } else {
                Duration::ZERO
            },
        }
    }

    /// True for the commands that begin and end transactions.
    pub(crate) fn steers(&self) -> bool {
        matches!(self.verb, Verb::Multi | Verb::Exec | Verb::Discard)
    }
}

/// How long a command that blocks may do so, as its own timeout says. What makes no sense will be
/// refused at once.
fn patience<'a>(mut arguments: impl Arguments<'a>) -> Duration {
    let name = arguments.next().unwrap_or_default().to_ascii_uppercase();
    let (timeout, unit) = match &name[..] {
        b"BLMPOP" | b"BZMPOP" => (arguments.next(), Duration::from_secs(1)),
        b"WAIT" | b"WAITAOF" => (arguments.last(), Duration::from_millis(1)),
        b"XREAD" | b"XREADGROUP" => (block(arguments).flatten(), Duration::from_millis(1)),
        b"BLPOP" | b"BRPOP" | b"BRPOPLPUSH" | b"BLMOVE" | b"BZPOPMIN" | b"BZPOPMAX" => {
            (arguments.last(), Duration::from_secs(1))
        }
        // A command of a module, or of a newer server.
        _ => return Duration::MAX,
    };
    match timeout.and_then(number::<f64>) {
        Some(0.0) => Duration::MAX,
        Some(count) => Duration::try_from_secs_f64(count * unit.as_secs_f64()).unwrap_or_default(),
        None => Duration::ZERO,
    }
}

/// `BLOCK` among the options of `XREAD` and `XREADGROUP`, with its argument. They are read as the servers do: a group or a
/// consumer may be called as an option is.
pub(super) fn block<'a>(mut options: impl Iterator<Item = &'a [u8]>) -> Option<Option<&'a [u8]>> {
    let mut block = None;
    while let Some(option) = options.next() {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        if is(b"STREAMS") {
            break;
        } else if is(b"BLOCK") {
            block = Some(options.next());
        } else if is(b"GROUP") {
            options.by_ref().take(2).for_each(drop);
        } else if is(b"COUNT") || is(b"CLAIM") {
            options.next();
        }
    }
    block
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::packed::Commands;

    fn look(class: Class, command: &str) -> Look {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            cmd.arg(word);
        });
        let packed = cmd.get_packed_command();
        Look::new(0..packed.len(), class, Commands::new(&packed).next().unwrap())
    }

    #[test]
    fn a_commands_own_timeout_is_its_patience() {
        let millis = Duration::from_millis;
        for (command, expected) in [
            ("BLPOP a b 0", Duration::MAX),
            ("blpop a 1.5", millis(1500)),
            ("BLMOVE a b LEFT RIGHT 0.0", Duration::MAX),
            ("BRPOPLPUSH a b 2", millis(2000)),
            ("BZPOPMIN z 0.01", millis(10)),
            ("BLMPOP 3 1 a LEFT", millis(3000)),
            ("BZMPOP 0 1 a MIN", Duration::MAX),
            ("XREAD COUNT 1 BLOCK 250 STREAMS s $", millis(250)),
            ("XREADGROUP GROUP g c block 0 STREAMS s >", Duration::MAX),
            ("XREADGROUP GROUP block 7 BLOCK 9 STREAMS s >", millis(9)),
            (
                "XREADGROUP GROUP streams streams COUNT 1 BLOCK 8 STREAMS s >",
                millis(8),
            ),
            ("WAIT 1 100", millis(100)),
            ("WAITAOF 1 1 0", Duration::MAX),
            ("NEWBLOCK x", Duration::MAX),
            ("BLPOP a -1", Duration::ZERO),
            ("BLPOP a soon", Duration::ZERO),
            ("BLPOP a inf", Duration::ZERO),
            ("BLPOP", Duration::ZERO),
        ] {
            assert_eq!(look(Class::Blocking, command).patience, expected, "{command}");
        }
        assert_eq!(look(Class::Write, "RPUSH a 5").patience, Duration::ZERO);
        assert_eq!(look(Class::ConnectionState, "WAIT 1 7").patience, millis(7));
    }

    #[test]
    fn reads_and_writes_are_told_apart() {
        for (class, command, reads, writes) in [
            (Class::Read, "GET k", true, false),
            (Class::Cursor, "SCAN 0", true, false),
            (Class::Write, "SET k v", false, true),
            (Class::Blocking, "BLPOP k 0", false, true),
            (Class::Blocking, "XREAD BLOCK 0 STREAMS s $", true, false),
            (
                Class::Blocking,
                "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
                false,
                true,
            ),
            (Class::ConnectionState, "WATCH k", false, false),
        ] {
            let look = look(class, command);
            assert_eq!((look.reads, look.writes), (reads, writes), "{command}");
        }
        assert_eq!(look(Class::ConnectionState, "select 3").verb, Verb::Select(3));
        assert_eq!(look(Class::ConnectionState, "Exec").verb, Verb::Exec);
    }
}
