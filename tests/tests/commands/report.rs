//! `docs/COMMANDS.md`, which is made of what was compared.

use std::{fmt::Write as _, path::Path};

use crate::{
    COLUMNS,
    groups::{Group, Line},
};

const BEGIN: &str = "<!-- Written by tests/tests/commands: set HIGHWATER_BLESS=1 to write it anew. -->\n";
const END: &str = "<!-- End of what is written by tests/tests/commands. -->\n";

/// Compares the file's table with these rows, or writes it.
pub(crate) fn check(rows: &[(Group, Vec<&'static str>)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/COMMANDS.md");
    let file = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = file
        .split_once(BEGIN)
        .expect("the file says where its table begins");
    let (_, tail) = rest.split_once(END).expect("the file says where its table ends");
    let wanted = format!("{head}{BEGIN}{}{END}{tail}", table(rows));
    if std::env::var_os("HIGHWATER_BLESS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(
            file == wanted,
            "docs/COMMANDS.md is out of date: run this test with HIGHWATER_BLESS=1"
        );
    }
}

fn table(rows: &[(Group, Vec<&'static str>)]) -> String {
    let mut text = String::from("\n| |");
    for (name, ..) in COLUMNS {
        let _ = write!(text, " {name} |");
    }
    text.push_str("\n| --- |");
    text.push_str(&" --- |".repeat(COLUMNS.len()));
    text.push('\n');
    for (group, cells) in rows {
        let _ = write!(text, "| {} |", group.name);
        for cell in cells {
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text.push_str("\nThe commands in each row:\n\n");
    for (group, _) in rows {
        let mut names: Vec<String> = group.lines.iter().map(Line::name).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| name != "NONSENSE");
        let _ = writeln!(text, "* {}: {}", group.name, names.join(", "));
    }
    text.push('\n');
    text
}
