//! Server processes: that they start, freeze, restart, and are gone whatever happens to the test.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use highwater_testkit::{Control, ErrorKind, Role, Server, ServerKind, wait_until};
use rustix::process::{Pid, test_kill_process};

const SOON: Duration = Duration::from_secs(10);
const HOLDER: &str = "HIGHWATER_TESTKIT_HOLDER";

fn is_gone(pid: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
}

#[test]
fn a_server_answers_and_is_gone_when_dropped() {
    let server = Server::start().unwrap();
    assert_eq!(
        server.command(&["SET", "key", "value"]).unwrap().text(),
        Some("OK")
    );
    assert_eq!(server.command(&["GET", "key"]).unwrap().text(), Some("value"));
    assert_eq!(server.info_replication().unwrap().role, Role::Primary);
    let pid = server.pid().unwrap();
    drop(server);
    assert!(is_gone(pid));
}

#[test]
fn error_replies_are_errors_that_keep_their_text() {
    let server = Server::start().unwrap();
    let error = server.command(&["NONSENSE"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reply);
    assert!(
        error.reply().unwrap().starts_with("ERR unknown command"),
        "{error}"
    );
    assert_eq!(server.command(&["PING"]).unwrap().text(), Some("PONG"));
}

#[test]
fn a_paused_server_is_silent_until_resumed_and_can_be_dropped() {
    let server = Server::start().unwrap();
    server.pause().unwrap();
    let mut control = Control::connect_with(server.port(), Duration::from_millis(200)).unwrap();
    assert_eq!(control.command(&["PING"]).unwrap_err().kind(), ErrorKind::Io);
    server.resume().unwrap();
    assert_eq!(server.command(&["PING"]).unwrap().text(), Some("PONG"));
    server.pause().unwrap();
    let pid = server.pid().unwrap();
    drop(server);
    assert!(is_gone(pid));
}

#[test]
fn a_killed_server_restarts_on_its_port() {
    let server = Server::start().unwrap();
    let (port, first) = (server.port(), server.pid().unwrap());
    server.command(&["SET", "key", "value"]).unwrap();
    server.kill();
    assert!(is_gone(first));
    assert_eq!(server.pid(), None);
    assert!(server.command(&["PING"]).is_err());
    assert_eq!(server.pause().unwrap_err().kind(), ErrorKind::Usage);
    server.restart().unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(
        server.command(&["EXISTS", "key"]).unwrap().integer(),
        Some(0),
        "nothing was saved"
    );
}

#[test]
fn an_orderly_shutdown_keeps_the_data_over_a_restart() {
    let server = Server::start().unwrap();
    server.command(&["SET", "key", "value"]).unwrap();
    server.shutdown_with_save().unwrap();
    server.restart_with(["--maxmemory", "64mb"]).unwrap();
    assert_eq!(server.command(&["GET", "key"]).unwrap().text(), Some("value"));
    let maxmemory = server.command(&["CONFIG", "GET", "maxmemory"]).unwrap();
    assert_eq!(maxmemory.array().unwrap()[1].text(), Some("67108864"));
}

#[test]
fn a_server_that_refuses_its_configuration_says_why() {
    let error = Server::builder()
        .args(["--no-such-option", "1"])
        .start()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Start);
    assert!(error.to_string().contains("no-such-option"), "{error}");
}

#[test]
fn the_chosen_kind_runs() {
    let kind = ServerKind::from_env().unwrap();
    let server = Server::builder().kind(kind).start().unwrap();
    let info = server.command(&["INFO", "server"]).unwrap();
    let info = info.text().unwrap();
    assert_eq!(info.contains("valkey_version"), kind == ServerKind::Valkey);
    // One that is named by its release is of that release.
    if let Some(release) = kind.name().strip_prefix("redis-") {
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        assert!(
            version.unwrap().starts_with(&format!("{release}.")),
            "{version:?}"
        );
    }
    assert!(server.knows("GET").unwrap());
    assert!(!server.knows("NONSENSE").unwrap());
}

/// Not a test of its own: the process that the next test kills.
#[test]
fn holds_servers_until_killed() {
    if std::env::var_os(HOLDER).is_none() {
        return;
    }
    let (running, paused) = (Server::start().unwrap(), Server::start().unwrap());
    paused.pause().unwrap();
    let files = running.data_dir().display();
    println!(
        "\nHELD {} {} {files}",
        running.pid().unwrap(),
        paused.pid().unwrap()
    );
    loop {
        std::thread::park();
    }
}

#[test]
fn servers_are_gone_when_the_test_process_is_killed() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_servers_until_killed", "--nocapture"])
        .env(HOLDER, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(holder.stdout.take().unwrap());
    let held = output
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("HELD ").map(str::to_owned));
    let held = held.unwrap();
    let mut held = held.splitn(3, ' ');
    let pids: Vec<u32> = held.by_ref().take(2).map(|pid| pid.parse().unwrap()).collect();
    let files = held.next().unwrap();
    assert!(pids.iter().all(|pid| !is_gone(*pid)));
    assert!(std::path::Path::new(files).exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until(SOON, "both servers are gone", || {
        pids.iter().all(|pid| is_gone(*pid))
    })
    .unwrap();
    wait_until(SOON, "their files are gone", || {
        !std::path::Path::new(files).exists()
    })
    .unwrap();
}
