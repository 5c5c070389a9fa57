//! `docs/SERVERS.md` and the tests that it names.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const PAGE: &str = include_str!("../../../docs/SERVERS.md");

/// Where a test of this name would be.
fn file_of(test: &str) -> Option<(PathBuf, &str)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words: Vec<_> = test.split("::").collect();
    match words.as_slice() {
        [krate, file, name] if krate.starts_with("highwater-") => {
            let file = format!("../crates/{krate}/tests/{file}.rs");
            Some((here.join(file), name))
        }
        [group, file, name] => Some((here.join(format!("tests/{group}/{file}.rs")), name)),
        [file, name] => {
            let alone = here.join(format!("tests/{file}.rs"));
            let group = here.join(format!("tests/{file}/main.rs"));
            Some((if alone.exists() { alone } else { group }, name))
        }
        _ => None,
    }
}

/// The functions of a file that are tests.
fn tests_in(file: &Path) -> BTreeSet<String> {
    let source = fs::read_to_string(file).unwrap_or_default();
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, function)) = line.split_once("fn ")
            && is_test
        {
            tests.extend(function.split('(').next().map(str::to_owned));
            is_test = false;
        }
    }
    tests
}

/// The tests that each row of the page's tables names in its last column.
fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    PAGE.lines()
        .filter(|line| line.starts_with("| ") && !line.contains(" --- ") && !line.ends_with("| shown by |"))
        .map(|line| {
            let shown_by = line.trim_end_matches(" |").rsplit(" | ").next().unwrap();
            (line, shown_by.split('`').skip(1).step_by(2).collect())
        })
        .collect()
}

#[test]
fn each_test_that_the_page_names_exists() {
    for (row, named) in rows() {
        assert!(!named.is_empty(), "nothing shows this: {row}");
        for test in named {
            let (file, name) = file_of(test).unwrap_or_else(|| panic!("no name of a test: {test}"));
            assert!(tests_in(&file).contains(name), "{} has no {name}", file.display());
        }
    }
    let laws: Vec<_> = rows()
        .iter()
        .filter_map(|(row, _)| row.split('|').nth(1)?.trim().parse::<u8>().ok())
        .collect();
    assert_eq!(laws, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn each_test_of_a_trap_is_on_the_page() {
    let named: BTreeSet<_> = rows().into_iter().flat_map(|(_, named)| named).collect();
    for file in ["clocks", "laws", "marks", "replies", "resync", "roles"] {
        let (path, _) = file_of(&format!("traps::{file}::any")).unwrap();
        let tests = tests_in(&path);
        assert!(!tests.is_empty(), "{}", path.display());
        for test in tests {
            let test = format!("traps::{file}::{test}");
            assert!(
                named.contains(test.as_str()),
                "docs/SERVERS.md does not name {test}"
            );
        }
    }
}
