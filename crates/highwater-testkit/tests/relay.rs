//! Each fault of a relay, on the stream between a real primary and a real replica or a client and a real server.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use highwater_testkit::{
    Control, Directions, ErrorKind, Impairment, Mark, Relay, Reply, Server, Topology, wait_until,
};

const SOON: Duration = Duration::from_secs(15);
const HOUR: Duration = Duration::from_secs(3600);

fn one_replica() -> Topology {
    Topology::builder().replicas(1).start().unwrap()
}

/// Writes a key on the primary, and returns the mark of that.
fn write(topology: &Topology, key: &str, value: &str) -> Mark {
    topology.primary().command(&["SET", key, value]).unwrap();
    topology.primary().mark().unwrap()
}

fn applied(topology: &Topology, mark: Mark) -> bool {
    topology.replica(0).info_replication().unwrap().covers(mark)
}

fn counter(server: &Server, name: &str) -> u64 {
    let info = server.command(&["INFO", "stats"]).unwrap();
    let prefix = format!("{name}:");
    info.text()
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Waits until the relay has got bytes that it has not passed on.
fn wait_withheld(relay: &Relay) {
    wait_until(SOON, "the relay withholds something", || {
        let stats = relay.stats();
        stats.received.to_client > stats.forwarded.to_client
    })
    .unwrap();
}

#[test]
fn replication_goes_through_the_relay() {
    let topology = one_replica();
    let before = topology.relay(0).stats();
    let mark = write(&topology, "key", &"x".repeat(1000));
    topology.wait_applied(0, mark, SOON).unwrap();
    let after = topology.relay(0).stats();
    assert!(after.forwarded.to_client >= before.forwarded.to_client + 1000);
    assert_eq!(
        topology.replica(0).info_replication().unwrap().master.unwrap().1,
        topology.relay(0).port()
    );
}

#[test]
fn pause_withholds_and_loses_nothing() {
    let topology = one_replica();
    let relay = topology.relay(0);
    let before = relay.stats().accepted;
    relay.pause();
    let mark = write(&topology, "key", "value");
    wait_withheld(relay);
    assert!(!applied(&topology, mark));
    assert!(topology.replica(0).info_replication().unwrap().link_up);
    relay.resume();
    topology.wait_applied(0, mark, SOON).unwrap();
    assert_eq!(relay.stats().accepted, before, "it is still the same connection");
}

#[test]
fn a_replicas_link_is_impaired_alone() {
    let topology = one_replica();
    let relay = topology.relay(0);
    let mut other = Control::connect(relay.port()).unwrap();
    other.command(&["PING"]).unwrap();
    let paused = Impairment {
        paused: true,
        ..Impairment::default()
    };
    relay.impair_those("PSYNC", paused);
    let mark = write(&topology, "key", "value");
    wait_withheld(relay);
    other.command(&["PING"]).unwrap();
    assert!(!applied(&topology, mark));
    relay.impair_those("PSYNC", Impairment::default());
    topology.wait_applied(0, mark, SOON).unwrap();

    let before = relay.stats().accepted;
    relay.cut_those("PSYNC");
    wait_until(SOON, "the replica has connected again", || {
        relay.stats().accepted > before
    })
    .unwrap();
    other.command(&["PING"]).unwrap();
    // The pattern counts for connections that are made later, too; until all is healed.
    relay.impair_those("PSYNC", paused);
    let mark = write(&topology, "key", "later");
    wait_withheld(relay);
    assert!(!applied(&topology, mark));
    relay.heal();
    topology.wait_applied(0, mark, SOON).unwrap();
}

#[test]
fn a_pause_leaves_the_heartbeat_alone_unless_told_otherwise() {
    let topology = one_replica();
    let relay = topology.relay(0);
    relay.pause();
    let before = relay.stats().forwarded.to_target;
    wait_until(SOON, "a heartbeat passes", || {
        relay.stats().forwarded.to_target > before
    })
    .unwrap();
    relay.impair(Directions::Both);
    wait_until(SOON, "a heartbeat is withheld", || {
        let stats = relay.stats();
        stats.received.to_target > stats.forwarded.to_target
    })
    .unwrap();
}

#[test]
fn delay_holds_back_for_its_time() {
    let topology = one_replica();
    let delay = Duration::from_millis(200);
    topology.relay(0).set_delay(delay);
    let start = Instant::now();
    let mark = write(&topology, "key", "value");
    topology.wait_applied(0, mark, SOON).unwrap();
    assert!(start.elapsed() >= delay);
}

#[test]
fn a_changed_delay_applies_to_what_is_waiting() {
    let topology = one_replica();
    let relay = topology.relay(0);
    relay.set_delay(HOUR);
    let mark = write(&topology, "key", "value");
    wait_withheld(relay);
    assert!(!applied(&topology, mark));
    relay.set_delay(Duration::ZERO);
    topology.wait_applied(0, mark, SOON).unwrap();
}

#[test]
fn jitter_keeps_the_order() {
    let topology = one_replica();
    topology
        .relay(0)
        .set_jitter(Duration::ZERO, Duration::from_millis(4));
    for value in 0..300 {
        topology
            .primary()
            .command(&["APPEND", "key", &format!("{value},")])
            .unwrap();
    }
    topology.wait_in_sync(SOON).unwrap();
    let [primary, replica] =
        [topology.primary(), topology.replica(0)].map(|server| server.command(&["GET", "key"]).unwrap());
    assert_eq!(primary, replica);
    assert_eq!(
        counter(topology.primary(), "sync_full"),
        1,
        "the stream was never broken"
    );
}

#[test]
fn a_rate_slows_down() {
    let topology = one_replica();
    topology.relay(0).set_rate(Some(100_000));
    let start = Instant::now();
    let mark = write(&topology, "key", &"x".repeat(50_000));
    topology.wait_applied(0, mark, SOON).unwrap();
    assert!(
        start.elapsed() >= Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_cut_closes_connections_and_lets_new_ones_in() {
    let topology = one_replica();
    let relay = topology.relay(0);
    let mut client = Control::connect(relay.port()).unwrap();
    client.command(&["PING"]).unwrap();
    relay.cut();
    assert_eq!(client.command(&["PING"]).unwrap_err().kind(), ErrorKind::Io);
    let mark = write(&topology, "key", "value");
    topology.wait_applied(0, mark, SOON).unwrap();
    wait_until(SOON, "a partial resync", || {
        counter(topology.primary(), "sync_partial_ok") == 1
    })
    .unwrap();
    assert_eq!(
        Control::connect(relay.port())
            .unwrap()
            .command(&["PING"])
            .unwrap(),
        Reply::Status("PONG".into())
    );
}

#[test]
fn a_cut_reaches_connections_that_were_only_just_made() {
    let server = Server::start().unwrap();
    let relay = Relay::start(server.addr()).unwrap();
    for _ in 0..100 {
        let mut client = Control::connect(relay.port()).unwrap();
        relay.cut();
        assert!(client.command(&["PING"]).is_err());
    }
}

#[test]
fn refuse_breaks_the_link_until_it_ends() {
    let topology = one_replica();
    let relay = topology.relay(0);
    relay.refuse(true);
    topology
        .replica(0)
        .wait_for(SOON, "the link is down", |info| !info.link_up)
        .unwrap();
    let refused = TcpStream::connect(relay.addr()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let mark = write(&topology, "key", "value");
    assert!(!applied(&topology, mark));
    relay.refuse(false);
    topology.wait_applied(0, mark, SOON).unwrap();
}

#[test]
fn a_black_hole_swallows_and_keeps_the_link_up() {
    let topology = one_replica();
    let relay = topology.relay(0);
    let before = relay.stats().accepted;
    relay.black_hole(true);
    let mark = write(&topology, "key", "value");
    wait_until(SOON, "bytes are swallowed", || {
        relay.stats().discarded.to_client > 0
    })
    .unwrap();
    let info = topology.replica(0).info_replication().unwrap();
    assert!(info.link_up && !info.covers(mark), "{info:?}");
    relay.black_hole(false);
    topology.wait_applied(0, mark, SOON).unwrap();
    assert_eq!(
        relay.stats().accepted,
        before + 1,
        "a stream with a hole does not go on"
    );
}

#[test]
fn a_connection_that_lost_nothing_survives_a_black_hole() {
    let server = Server::start().unwrap();
    let relay = Relay::start(server.addr()).unwrap();
    let mut client = Control::connect(relay.port()).unwrap();
    client.command(&["PING"]).unwrap();
    relay.black_hole(true);
    relay.black_hole(false);
    client.command(&["PING"]).unwrap();
    relay.black_hole(true);
    client.send(&["PING"]).unwrap();
    wait_until(SOON, "the PING is swallowed", || {
        relay.stats().discarded.to_target > 0
    })
    .unwrap();
    relay.black_hole(false);
    assert_eq!(client.receive().unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn fragments_have_gaps_between_them() {
    let server = Server::start().unwrap();
    let relay = Relay::start(server.addr()).unwrap();
    relay.fragment(4, Duration::from_millis(5));
    let mut client = Control::connect(relay.port()).unwrap();
    let start = Instant::now();
    let value = "x".repeat(100);
    assert_eq!(
        client.command(&["ECHO", &value]).unwrap().text(),
        Some(value.as_str())
    );
    // At least 100 bytes there and 100 back: 24 gaps each.
    assert!(start.elapsed() >= Duration::from_millis(2 * 24 * 5));
    relay.defragment();
    assert_eq!(
        client.command(&["ECHO", &value]).unwrap().text(),
        Some(value.as_str())
    );
}

#[test]
fn a_hold_splits_a_pipeline_right_after_its_info() {
    let server = Server::start().unwrap();
    let relay = Relay::start(server.addr()).unwrap();
    server.command(&["SET", "key", "old"]).unwrap();
    relay.hold_when("*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n");
    let mut client = Control::connect(relay.port()).unwrap();
    client.send(&["PING"]).unwrap();
    assert_eq!(client.receive().unwrap().text(), Some("PONG"));
    assert!(!relay.held());
    client.send(&["INFO", "replication"]).unwrap();
    client.send(&["GET", "key"]).unwrap();
    assert!(client.receive().unwrap().text().unwrap().contains("role:master"));
    wait_until(SOON, "the rest is held", || relay.held()).unwrap();
    server.command(&["SET", "key", "new"]).unwrap();
    relay.release();
    assert!(!relay.held());
    assert_eq!(
        client.receive().unwrap().text(),
        Some("new"),
        "GET ran after the release"
    );
    client.command(&["INFO", "replication"]).unwrap();
    assert_eq!(
        client.command(&["GET", "key"]).unwrap().text(),
        Some("new"),
        "no second hold"
    );
}

#[test]
fn a_hold_after_some_bytes_cuts_within_a_command() {
    let server = Server::start().unwrap();
    let relay = Relay::start(server.addr()).unwrap();
    let mut client = Control::connect(relay.port()).unwrap();
    client.command(&["PING"]).unwrap();
    relay.hold_after(3);
    client.send(&["SET", "key", "value"]).unwrap();
    wait_until(SOON, "the rest is held", || relay.held()).unwrap();
    assert_eq!(server.command(&["EXISTS", "key"]).unwrap().integer(), Some(0));
    relay.release();
    assert_eq!(client.receive().unwrap().text(), Some("OK"));
}

#[test]
fn held_replies_belong_to_commands_that_have_run() {
    let server = Server::start().unwrap();
    let relay = Relay::start(server.addr()).unwrap();
    let mut client = Control::connect(relay.port()).unwrap();
    relay.hold_replies_after(0);
    client.send(&["SET", "key", "value"]).unwrap();
    wait_until(SOON, "the reply is held", || relay.held()).unwrap();
    assert_eq!(server.command(&["GET", "key"]).unwrap().text(), Some("value"));
    relay.release();
    assert_eq!(client.receive().unwrap().text(), Some("OK"));
    relay.hold_replies_when("+PONG\r\n");
    assert_eq!(client.command(&["PING"]).unwrap().text(), Some("PONG"));
    assert!(relay.held());
    drop(client);
    wait_until(SOON, "a connection that ends is not held", || {
        relay.release();
        !relay.held() && relay.stats().live == 0
    })
    .unwrap();
}

#[test]
fn nothing_is_delivered_after_a_pause_has_returned() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::start(listener.local_addr().unwrap()).unwrap();
    relay.impair(Directions::Both);
    let mut client = TcpStream::connect(relay.addr()).unwrap();
    let (mut target, _) = listener.accept().unwrap();
    target.set_nonblocking(true).unwrap();
    let writer = std::thread::spawn(move || {
        // Ends with an error when the relay goes.
        while client.write_all(&[1; 512]).is_ok() {}
    });
    let mut buffer = vec![0; 1 << 20];
    let mut delivered = 0;
    for _ in 0..100 {
        relay.pause();
        let forwarded = relay.stats().forwarded.to_target;
        // What was forwarded before can still lie in the relay's own socket: the kernel moves it on as
        // we make room.
        wait_until(SOON, "what was forwarded has been delivered", || {
            if let Ok(read) = target.read(&mut buffer) {
                delivered += read as u64;
            }
            delivered >= forwarded
        })
        .unwrap();
        for _ in 0..20 {
            assert_eq!(
                target.read(&mut buffer).unwrap_err().kind(),
                std::io::ErrorKind::WouldBlock
            );
        }
        assert_eq!(
            (delivered, relay.stats().forwarded.to_target),
            (forwarded, forwarded)
        );
        relay.resume();
        wait_until(SOON, "bytes flow again", || {
            relay.stats().forwarded.to_target > forwarded
        })
        .unwrap();
    }
    drop(relay);
    writer.join().unwrap();
}

#[test]
fn a_long_pause_pushes_back_and_loses_nothing() {
    const TOTAL: usize = 40 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::start(listener.local_addr().unwrap()).unwrap();
    relay.impair(Directions::Both);
    relay.pause();
    let mut client = TcpStream::connect(relay.addr()).unwrap();
    let (mut target, _) = listener.accept().unwrap();
    let bytes: Vec<u8> = (0..TOTAL)
        .map(|at| u8::try_from(at * 31 % 251).unwrap())
        .collect();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || client.write_all(&sent).unwrap());
    wait_until(SOON, "the relay's buffer is full", || {
        relay.stats().received.to_target >= 16 << 20
    })
    .unwrap();
    let stats = relay.stats();
    assert!(stats.received.to_target <= (16 << 20) + (64 << 10), "{stats:?}");
    assert_eq!(stats.forwarded.to_target, 0);
    relay.resume();
    let mut received = Vec::new();
    target.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(received == bytes);
}

#[test]
fn a_close_is_passed_on() {
    let server = Server::start().unwrap();
    let relay = Relay::start(server.addr()).unwrap();
    let client = TcpStream::connect(relay.addr()).unwrap();
    wait_until(SOON, "the relay has accepted", || relay.stats().live == 1).unwrap();
    drop(client);
    wait_until(SOON, "both sides are closed", || relay.stats().live == 0).unwrap();
    let mut client = Control::connect(relay.port()).unwrap();
    client.command(&["PING"]).unwrap();
    server.kill();
    assert_eq!(client.command(&["PING"]).unwrap_err().kind(), ErrorKind::Io);
    assert!(
        Control::connect(relay.port())
            .unwrap()
            .command(&["PING"])
            .is_err(),
        "nothing listens behind it"
    );
    server.restart().unwrap();
    assert!(Control::connect(relay.port()).unwrap().command(&["PING"]).is_ok());
    let mut client = Control::connect(relay.port()).unwrap();
    client.command(&["PING"]).unwrap();
    drop(relay);
    assert!(client.command(&["PING"]).is_err());
}

#[test]
fn healing_ends_every_fault() {
    let server = Server::start().unwrap();
    let relay = Relay::start(server.addr()).unwrap();
    relay.impair(Directions::Both);
    relay.set_delay(HOUR);
    relay.pause();
    relay.set_rate(Some(1));
    relay.fragment(1, HOUR);
    relay.hold_after(0);
    relay.black_hole(true);
    relay.refuse(true);
    relay.heal();
    assert_eq!(
        Control::connect(relay.port())
            .unwrap()
            .command(&["PING"])
            .unwrap()
            .text(),
        Some("PONG")
    );
}

#[test]
fn it_works_beside_a_blocked_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let topology = one_replica();
        let handle = topology.relay(0).handle();
        handle.set_delay(Duration::from_millis(5));
        let mark = write(&topology, "key", "value");
        // This blocks the only thread of the runtime.
        topology.wait_applied(0, mark, SOON).unwrap();
        handle.hold_replies_when("PONG");
        let mut client = Control::connect(handle.port()).unwrap();
        client.send(&["PING"]).unwrap();
        handle.wait_held(SOON).await.unwrap();
    });
}
