//! The oldest Rust that the workspace promises to build with.
//!
//! The promise is checked without that toolchain: no dependency may ask for more, and clippy's
//! `incompatible_msrv` watches the standard library's interfaces. Where the toolchain is installed,
//! it is used as well.

use std::process::Command;

use crate::{
    error::Error,
    metadata::{Package, RustVersion},
    process::{capture, run},
    workspace::Workspace,
};

/// Checks the promise.
///
/// # Errors
///
/// A member states none, or another one; a dependency needs a newer Rust; the build fails.
pub(crate) fn check(workspace: &Workspace, packages: &[Package]) -> Result<(), Error> {
    let promised = promised(packages)?;
    let unstated = unstated(packages, promised)?;
    println!("no crate of {} needs more than Rust {promised}", packages.len());
    if !unstated.is_empty() {
        println!("without a stated version: {}", unstated.join(", "));
    }
    let installed = capture(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    match toolchain(&installed, promised) {
        Some(toolchain) => {
            let mut command = Command::new("rustup");
            command.args([
                "run",
                toolchain,
                "cargo",
                "check",
                "--workspace",
                "--all-features",
            ]);
            workspace.place(&mut command);
            // Another compiler's results would only push ours out of the usual directory.
            command.env("CARGO_TARGET_DIR", workspace.target().join("msrv"));
            run(command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN"))
        }
        None => {
            println!("Rust {promised} is not installed: not built with it");
            Ok(())
        }
    }
}

/// The one version that all members state.
fn promised(packages: &[Package]) -> Result<RustVersion, Error> {
    let mut promised = None;
    for package in packages.iter().filter(|package| package.member) {
        let Some(version) = package.rust_version else {
            return Err(Error::Failed(format!("{} states no rust-version", package.name)));
        };
        if promised.is_some_and(|promised| promised != version) {
            let name = &package.name;
            return Err(Error::Failed(format!("{name} states a rust-version of its own")));
        }
        promised = Some(version);
    }
    promised.ok_or_else(|| Error::Failed(String::from("the workspace has no members")))
}

/// The dependencies that state no version, once it is clear that none states a newer one.
fn unstated(packages: &[Package], promised: RustVersion) -> Result<Vec<&str>, Error> {
    let mut unstated = Vec::new();
    let mut newer = Vec::new();
    for package in packages {
        match package.rust_version {
            None => unstated.push(package.name.as_str()),
            Some(needed) if needed > promised => {
                newer.push(format!(
                    "{} {} needs Rust {needed}",
                    package.name, package.version
                ));
            }
            Some(_) => {}
        }
    }
    if newer.is_empty() {
        return Ok(unstated);
    }
    Err(Error::Failed(format!(
        "the workspace promises Rust {promised}, but {}",
        newer.join(", ")
    )))
}

/// The installed toolchain of this version, from the list that rustup prints.
fn toolchain(list: &str, wanted: RustVersion) -> Option<&str> {
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|name| {
            let version = name.split_once('-').map_or(*name, |(version, _)| version);
            version.parse() == Ok(wanted)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, member: bool, rust_version: Option<&str>) -> Package {
        Package {
            tests: Vec::new(),
            name: name.to_owned(),
            version: String::from("1.0.0"),
            member,
            publish: true,
            features: Vec::new(),
            rust_version: rust_version.map(|version| version.parse().unwrap()),
        }
    }

    #[test]
    fn all_members_state_the_same_version() {
        let members = |second| [package("a", true, Some("1.89")), package("b", true, second)];
        assert_eq!(promised(&members(Some("1.89.0"))).unwrap().to_string(), "1.89.0");
        assert!(promised(&members(Some("1.90"))).is_err());
        assert!(promised(&members(None)).is_err());
        assert!(promised(&[package("c", false, Some("1.60"))]).is_err());
    }

    #[test]
    fn a_dependency_that_needs_more_is_named() {
        let promised = "1.89".parse().unwrap();
        let fine = [package("a", false, Some("1.85")), package("b", false, None)];
        assert_eq!(unstated(&fine, promised).unwrap(), ["b"]);
        let newer = [package("eager", false, Some("1.91"))];
        let error = unstated(&newer, promised).unwrap_err();
        assert!(error.message().unwrap().contains("eager 1.0.0 needs Rust 1.91"));
    }

    #[test]
    fn only_the_very_toolchain_will_do() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default)\n\
                    1.89.1-x86_64-unknown-linux-gnu\n1.89-x86_64-unknown-linux-gnu\n";
        let wanted = |version: &str| toolchain(list, version.parse().unwrap());
        assert_eq!(wanted("1.89"), Some("1.89-x86_64-unknown-linux-gnu"));
        assert_eq!(wanted("1.89.1"), Some("1.89.1-x86_64-unknown-linux-gnu"));
        assert_eq!(wanted("1.90"), None);
    }
}
