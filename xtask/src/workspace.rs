//! Where the workspace and its target directory are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::Error;

/// The two directories that all commands work in.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds them: the root from this package's place, the target directory from `CARGO_TARGET_DIR`.
    ///
    /// # Errors
    ///
    /// The package is not inside a workspace, or the current directory is gone.
    pub(crate) fn find() -> Result<Self, Error> {
        // Cargo sets the variable for `cargo run`. The value of compile time may be another clone's,
        // where two clones share a target directory.
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .parent()
            .map(Path::to_path_buf)
            .ok_or_else(|| Error::Failed(format!("{} has no parent directory", package.display())))?;
        let target = match env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()) {
            Some(directory) => std::path::absolute(directory)
                .map_err(|error| Error::Failed(format!("CARGO_TARGET_DIR cannot be resolved: {error}")))?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// What setup keeps: server binaries and the archives they came in.
    pub(crate) fn servers(&self) -> PathBuf {
        self.target.join("servers")
    }

    /// The servers' place in the lookup order that highwater-testkit shares.
    pub(crate) fn server_binaries(&self) -> PathBuf {
        self.servers().join("bin")
    }

    /// A cargo command in the workspace's root, with the toolchain that runs this program.
    pub(crate) fn cargo<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments);
        self.place(&mut command);
        command
    }

    /// Makes a command run in the root, for the target directory that we know of, and without the
    /// variables by which `cargo run` described this package.
    pub(crate) fn place(&self, command: &mut Command) {
        for (name, _) in env::vars_os() {
            let ours = name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
            if ours {
                command.env_remove(name);
            }
        }
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target);
    }
}
