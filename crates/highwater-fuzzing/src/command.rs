//! Commands: their encoding is read as it was written, a unit is as demanding as its most demanding command, and
//! nothing that takes a connection's state gets onto a shared one, whatever the server's table says.

use std::sync::LazyLock;

use highwater::{
    Class, Command,
    internals::{Classifier, arguments, encoded_commands, parse_reply},
    redis::{self, Cmd, Pipeline},
};

/// Refused on a shared connection by every table.
const STATE: [&str; 14] = [
    "MULTI",
    "EXEC",
    "DISCARD",
    "WATCH",
    "SELECT",
    "RESET",
    "QUIT",
    "HELLO",
    "AUTH",
    "SUBSCRIBE",
    "MONITOR",
    "PSYNC",
    "WAIT",
    "READONLY",
];
/// Refused on every connection.
const NEVER: [&str; 6] = ["RESET", "QUIT", "HELLO", "SUBSCRIBE", "MONITOR", "PSYNC"];
/// What no table may make a read of by saying nothing of it.
const WRITES: [&str; 6] = ["SET", "DEL", "EVAL", "SORT", "GEORADIUS", "PUBLISH"];

/// The static table, made once.
static TABLE: LazyLock<Classifier> = LazyLock::new(Classifier::default);

/// The first byte says what the rest is: encoded commands as they are; lines of words that make commands; or, before
/// a zero byte, a server's reply to `COMMAND`, and then such lines.
///
/// # Panics
///
/// When a property does not hold.
pub fn check(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else {
        return;
    };
    match mode % 3 {
        0 => encoded(rest),
        1 => written(&TABLE, true, rest),
        _ => {
            let zero = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let (reply, lines) = rest.split_at(zero);
            if let Ok(Some(reply)) = parse_reply(reply) {
                written(
                    &Classifier::told(&reply),
                    false,
                    lines.get(1..).unwrap_or_default(),
                );
            }
        }
    }
}

/// Bytes that redis-rs would not write: they are read without harm, and no further than they go.
fn encoded(packed: &[u8]) {
    let commands: Vec<_> = encoded_commands(packed).collect();
    assert!(packed.starts_with(&commands.concat()));
    for atomic in [false, true] {
        let class = TABLE.classify_encoded(packed, atomic);
        let looks = TABLE.look_at_encoded(packed, atomic);
        if let (Ok(class), Ok(looks)) = (class, looks) {
            let writes = looks.iter().any(|look| look.writes);
            assert_eq!(
                writes,
                class == Class::Write || (class == Class::Blocking && writes)
            );
            assert!(looks.iter().all(|look| packed.get(look.span.clone()).is_some()));
        }
    }
}

fn written(table: &Classifier, is_static: bool, lines: &[u8]) {
    let commands: Vec<Vec<&[u8]>> = lines
        .split(|byte| *byte == b'\n')
        .take(64)
        .map(|line| line.split(|byte| *byte == b' ').collect())
        .collect();
    let mut pipeline = Pipeline::new();
    let mut together: Option<Class> = None;
    let mut refused = false;
    for words in &commands {
        let cmd = cmd(words);
        let class = one(table, is_static, words, &cmd);
        refused |= class.is_none();
        together = together.max(class);
        pipeline.add_command(cmd);
    }
    let packed = pipeline.get_packed_pipeline();
    assert_eq!(arguments(&packed), commands);
    let whole = table.classify(&Command::pipeline(&pipeline)).ok();
    assert_eq!(whole, together.filter(|_| !refused));
    if let Ok(looks) = table.look_at_encoded(&packed, false) {
        let parts: Vec<_> = looks.iter().map(|look| &packed[look.span.clone()]).collect();
        assert_eq!(parts, encoded_commands(&packed).collect::<Vec<_>>());
        assert_eq!(parts.concat(), packed);
    }
    pipeline.atomic();
    let atomic = table.classify(&Command::pipeline(&pipeline));
    assert_eq!(atomic.is_err(), refused);
    assert_ne!(atomic.ok(), Some(Class::Blocking));
    let looks = table.look_at_encoded(&pipeline.get_packed_pipeline(), true);
    if let Ok(looks) = looks {
        assert_eq!(looks.len(), commands.len());
    }
}

/// The class of one command, `None` if it is refused.
fn one(table: &Classifier, is_static: bool, words: &[&[u8]], cmd: &Cmd) -> Option<Class> {
    let packed = cmd.get_packed_command();
    assert_eq!(arguments(&packed), [words]);
    let class = table.classify(&Command::new(cmd)).ok();
    let look = table.look_at_encoded(&packed, false).ok();
    // Capitals make no difference.
    let toggled: Vec<Vec<u8>> = words.iter().map(|word| toggle(word)).collect();
    let toggled = self::cmd(&toggled.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(table.classify(&Command::new(&toggled)).ok(), class);
    assert_eq!(
        table.look_at_encoded(&toggled.get_packed_command(), false).ok(),
        look
    );

    let is = |names: &[&str]| {
        names
            .iter()
            .any(|name| words[0].eq_ignore_ascii_case(name.as_bytes()))
    };
    assert!(!is(&STATE) || class.is_none());
    assert!(!is(&NEVER) || look.is_none());
    assert!(!(is_static && is(&WRITES)) || class == Some(Class::Write));
    if let (Some(class), Some([look])) = (class, look.as_deref()) {
        assert_eq!(look.span, 0..packed.len());
        assert_eq!(
            look.patience.is_zero(),
            class != Class::Blocking || look.patience.is_zero()
        );
        // What goes to any node is nothing that may write.
        assert!(!(matches!(class, Class::Read | Class::Cursor) && look.writes));
        assert!(class != Class::Write || look.writes);
    }
    class
}

fn cmd(words: &[&[u8]]) -> Cmd {
    let mut cmd = redis::Cmd::new();
    for word in words {
        cmd.arg(*word);
    }
    cmd
}

fn toggle(word: &[u8]) -> Vec<u8> {
    word.iter()
        .map(|byte| {
            if byte.is_ascii_alphabetic() {
                byte ^ 0x20
            } else {
                *byte
            }
        })
        .collect()
}
