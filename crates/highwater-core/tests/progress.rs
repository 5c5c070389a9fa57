//! `Progress::scan` on what servers really say.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

mod common;

use common::history;
use highwater_core::{Ancestor, History, Progress, Role};
use proptest::prelude::*;

const A: &str = "1088bcbda28888ff114a176edf4bfa853e82b796";
const B: &str = "cdb8bd7f4be86a5c9086f0e1c504e4071ec6a14a";
const NONE: &str = "0000000000000000000000000000000000000000";

/// The replies below, as they are on the wire.
fn wire(text: &str) -> String {
    text.trim_start()
        .lines()
        .map(|line| {
            format!(
                "{}\r\n",
                line.trim()
                    .replace("{A}", A)
                    .replace("{B}", B)
                    .replace("{NONE}", NONE)
            )
        })
        .collect()
}

fn scan(text: &str) -> Progress {
    Progress::scan(wire(text).as_bytes()).unwrap()
}

fn refused(text: &str) -> String {
    Progress::scan(wire(text).as_bytes()).unwrap_err().to_string()
}

fn id(text: &str) -> History {
    text.parse().unwrap()
}

fn primary(applied: u64) -> Progress {
    Progress {
        role: Role::Primary,
        history: id(A),
        ancestor: None,
        applied,
        link_up: true,
        read_only: true,
    }
}

fn replica(applied: u64) -> Progress {
    Progress {
        role: Role::Replica,
        ..primary(applied)
    }
}

const REDIS_6_2_PRIMARY: &str = "
    # Replication
    role:master
    connected_slaves:2
    slave0:ip=10.0.0.2,port=6379,state=online,offset=8400,lag=1
    slave1:ip=10.0.0.3,port=6379,state=wait_bgsave,offset=0,lag=0
    master_failover_state:no-failover
    master_replid:{A}
    master_replid2:{NONE}
    master_repl_offset:8400
    second_repl_offset:-1
    repl_backlog_active:1
    repl_backlog_size:1048576
    repl_backlog_first_byte_offset:1
    repl_backlog_histlen:8400";

const REDIS_6_2_REPLICA: &str = "
    # Replication
    role:slave
    master_host:10.0.0.1
    master_port:6379
    master_link_status:up
    master_last_io_seconds_ago:1
    master_sync_in_progress:0
    slave_repl_offset:8386
    slave_priority:100
    slave_read_only:1
    replica_announced:1
    connected_slaves:0
    master_failover_state:no-failover
    master_replid:{A}
    master_replid2:{NONE}
    master_repl_offset:8386
    second_repl_offset:-1
    repl_backlog_active:1
    repl_backlog_size:1048576
    repl_backlog_first_byte_offset:1
    repl_backlog_histlen:8386";

/// Taken from redis-server 7.0.15.
const REDIS_7_0_PROMOTED: &str = "
    # Replication
    role:master
    connected_slaves:0
    master_failover_state:no-failover
    master_replid:{B}
    master_replid2:{A}
    master_repl_offset:150
    second_repl_offset:151
    repl_backlog_active:1
    repl_backlog_size:1048576
    repl_backlog_first_byte_offset:101
    repl_backlog_histlen:50";

/// Taken from redis-server 7.0.15: received further than applied.
const REDIS_7_0_REPLICA: &str = "
    # Replication
    role:slave
    master_host:127.0.0.1
    master_port:57059
    master_link_status:up
    master_last_io_seconds_ago:0
    master_sync_in_progress:0
    slave_read_repl_offset:1500
    slave_repl_offset:1450
    slave_priority:100
    slave_read_only:1
    replica_announced:1
    connected_slaves:0
    master_failover_state:no-failover
    master_replid:{B}
    master_replid2:{A}
    master_repl_offset:1450
    second_repl_offset:151
    repl_backlog_active:1
    repl_backlog_size:1048576
    repl_backlog_first_byte_offset:51
    repl_backlog_histlen:100";

/// Taken from redis-server 7.0.15: emptied by a resync that failed, then promoted.
const REDIS_7_0_EMPTIED_AND_PROMOTED: &str = "
    # Replication
    role:master
    connected_slaves:0
    master_failover_state:no-failover
    master_replid:{B}
    master_replid2:{A}
    master_repl_offset:50
    second_repl_offset:51
    repl_backlog_active:0
    repl_backlog_size:1048576
    repl_backlog_first_byte_offset:0
    repl_backlog_histlen:0";

const REDIS_7_4_SYNCING: &str = "
    # Replication
    role:slave
    master_host:10.0.0.1
    master_port:6379
    master_link_status:down
    master_last_io_seconds_ago:-1
    master_sync_in_progress:1
    slave_read_repl_offset:1
    slave_repl_offset:1
    master_sync_total_bytes:-1
    master_sync_read_bytes:1048576
    master_sync_left_bytes:-1048577
    master_sync_perc:-0.00
    master_sync_last_io_seconds_ago:0
    master_link_down_since_seconds:3
    slave_priority:100
    slave_read_only:1
    replica_announced:1
    connected_slaves:0
    master_failover_state:no-failover
    master_replid:{A}
    master_replid2:{NONE}
    master_repl_offset:1548442
    second_repl_offset:-1
    repl_backlog_active:0
    repl_backlog_size:1048576
    repl_backlog_first_byte_offset:0
    repl_backlog_histlen:0";

const REDIS_8_PRIMARY: &str = "
    # Replication
    role:master
    connected_slaves:1
    slave0:ip=10.0.0.2,port=6379,state=online,offset=9223372036854775807,lag=0
    master_failover_state:no-failover
    master_replid:{A}
    master_replid2:{NONE}
    master_repl_offset:9223372036854775807
    second_repl_offset:-1
    repl_backlog_active:1
    repl_backlog_size:1048576
    repl_backlog_first_byte_offset:1
    repl_backlog_histlen:1048576";

const REDIS_8_REPLICA: &str = "
    # Replication
    role:slave
    master_host:10.0.0.1
    master_port:6379
    master_link_status:up
    master_last_io_seconds_ago:2
    master_sync_in_progress:0
    slave_read_repl_offset:700
    slave_repl_offset:700
    replicas_repl_buffer_size:0
    replicas_repl_buffer_peak:0
    master_current_sync_attempts:0
    master_total_sync_attempts:1
    master_link_up_since_seconds:40
    total_disconnect_time_sec:0
    slave_priority:100
    slave_read_only:0
    replica_announced:1
    connected_slaves:0
    master_failover_state:no-failover
    master_replid:{A}
    master_replid2:{NONE}
    master_repl_offset:700
    second_repl_offset:-1
    repl_backlog_active:1
    repl_backlog_size:1048576
    repl_backlog_first_byte_offset:1
    repl_backlog_histlen:700";

const VALKEY_7_2_PRIMARY_ALONE: &str = "
    # Replication
    role:master
    connected_slaves:0
    master_failover_state:no-failover
    master_replid:{A}
    master_replid2:{NONE}
    master_repl_offset:0
    second_repl_offset:-1
    repl_backlog_active:0
    repl_backlog_size:1048576
    repl_backlog_first_byte_offset:0
    repl_backlog_histlen:0";

const VALKEY_8_REPLICA: &str = "
    # Replication
    role:slave
    master_host:10.0.0.1
    master_port:6379
    master_link_status:up
    master_last_io_seconds_ago:1
    master_sync_in_progress:0
    slave_read_repl_offset:64
    slave_repl_offset:64
    replicas_repl_buffer_size:0
    replicas_repl_buffer_peak:0
    slave_priority:100
    slave_read_only:1
    replica_announced:1
    connected_slaves:0
    replicas_waiting_psync:0
    master_failover_state:no-failover
    master_replid:{A}
    master_replid2:{NONE}
    master_repl_offset:64
    second_repl_offset:-1
    repl_backlog_active:1
    repl_backlog_size:10485760
    repl_backlog_first_byte_offset:1
    repl_backlog_histlen:64";

/// Taken from valkey-server 9.1.2.
const VALKEY_9_PRIMARY: &str = "
    # Replication
    role:master
    connected_slaves:1
    slave0:ip=127.0.0.1,port=54107,state=online,offset=64,lag=0,type=replica
    replicas_waiting_psync:0
    master_failover_state:no-failover
    master_replid:{A}
    master_replid2:{NONE}
    master_repl_offset:64
    second_repl_offset:-1
    repl_backlog_active:1
    repl_backlog_size:10485760
    repl_backlog_first_byte_offset:1
    repl_backlog_histlen:64";

#[test]
fn reads_what_servers_say() {
    assert_eq!(scan(REDIS_6_2_PRIMARY), primary(8400));
    assert_eq!(scan(REDIS_6_2_REPLICA), replica(8386));
    assert_eq!(scan(REDIS_8_PRIMARY), primary(i64::MAX as u64));
    assert_eq!(
        scan(REDIS_8_REPLICA),
        Progress {
            read_only: false,
            ..replica(700)
        }
    );
    assert_eq!(scan(VALKEY_7_2_PRIMARY_ALONE), primary(0));
    assert_eq!(scan(VALKEY_8_REPLICA), replica(64));
    assert_eq!(scan(VALKEY_9_PRIMARY), primary(64));
    let forked = |applied, role| Progress {
        role,
        history: id(B),
        ancestor: Some(Ancestor {
            history: id(A),
            fork: 151,
        }),
        ..primary(applied)
    };
    assert_eq!(scan(REDIS_7_0_PROMOTED), forked(150, Role::Primary));
    assert_eq!(
        scan(REDIS_7_0_REPLICA),
        forked(1450, Role::Replica),
        "applied, not received"
    );
}

#[test]
fn a_replica_that_syncs_has_applied_nothing_whatever_its_master_repl_offset() {
    assert_eq!(
        scan(REDIS_7_4_SYNCING),
        Progress {
            link_up: false,
            ..replica(1)
        }
    );
}

#[test]
fn a_lineage_without_a_backlog_is_not_believed() {
    assert_eq!(scan(REDIS_7_0_EMPTIED_AND_PROMOTED).ancestor, None);
}

#[test]
fn a_node_without_a_master_yet_has_applied_nothing() {
    let text = REDIS_6_2_REPLICA.replace("slave_repl_offset:8386", "slave_repl_offset:-1");
    assert_eq!(scan(&text), replica(0));
}

#[test]
fn order_line_ends_and_foreign_fields_do_not_matter() {
    let mut lines: Vec<_> = REDIS_7_0_REPLICA.trim().lines().collect();
    lines.reverse();
    lines.insert(3, "slave_repl_offset_of_something_else:9");
    lines.insert(5, "rolex:gold");
    lines.insert(7, "");
    lines.insert(8, "no colon at all");
    assert_eq!(scan(&lines.join("\n")), scan(REDIS_7_0_REPLICA));
    let bare = wire(REDIS_7_0_REPLICA).replace('\r', "");
    assert_eq!(
        Progress::scan(bare.trim_end().as_bytes()).unwrap(),
        scan(REDIS_7_0_REPLICA)
    );
}

#[test]
fn absent_optional_fields_are_none() {
    let bare = "role:master\nmaster_replid:{A}\nmaster_repl_offset:7";
    assert_eq!(scan(bare), primary(7));
    assert_eq!(scan(&format!("{bare}\nmaster_replid2:{{B}}")).ancestor, None);
    assert_eq!(
        scan(&format!("{bare}\nmaster_replid2:{{B}}\nsecond_repl_offset:-1")).ancestor,
        None
    );
    assert_eq!(
        scan(&format!("{bare}\nmaster_replid2:{{A}}\nsecond_repl_offset:5")).ancestor,
        None
    );
    let with = scan(&format!("{bare}\nmaster_replid2:{{B}}\nsecond_repl_offset:5")).ancestor;
    assert_eq!(
        with,
        Some(Ancestor {
            history: id(B),
            fork: 5
        })
    );
    let bare = "role:slave\nmaster_replid:{A}\nslave_repl_offset:7";
    assert_eq!(
        scan(bare),
        Progress {
            link_up: false,
            ..replica(7)
        }
    );
}

#[test]
fn missing_fields_are_refused() {
    for (text, fields) in [
        (REDIS_6_2_PRIMARY, ["role", "master_replid", "master_repl_offset"]),
        (REDIS_6_2_REPLICA, ["role", "master_replid", "slave_repl_offset"]),
    ] {
        for field in fields {
            let without: Vec<_> = text
                .lines()
                .filter(|line| !line.trim().starts_with(&format!("{field}:")))
                .collect();
            let error = refused(&without.join("\n"));
            assert!(error.contains(&format!("{field} is missing")), "{error}");
        }
    }
    assert!(Progress::scan(b"").is_err());
    // A replica's `master_repl_offset` must not stand in for what it has applied.
    assert!(refused("role:slave\nmaster_replid:{A}\nmaster_repl_offset:7").contains("slave_repl_offset"));
}

#[test]
fn a_field_said_twice_is_refused() {
    for field in [
        "role",
        "master_replid",
        "master_replid2",
        "second_repl_offset",
        "master_repl_offset",
        "slave_repl_offset",
        "master_link_status",
        "slave_read_only",
        "repl_backlog_active",
    ] {
        let line = REDIS_7_0_REPLICA
            .lines()
            .find(|line| line.trim().starts_with(&format!("{field}:")))
            .unwrap();
        let error = refused(&format!("{REDIS_7_0_REPLICA}\n{line}"));
        assert!(error.contains(&format!("{field} is said twice")), "{error}");
    }
}

#[test]
fn nonsense_is_refused() {
    for (from, to) in [
        ("role:slave", "role:sentinel"),
        ("role:slave", "role:"),
        ("role:slave", "role: slave"),
        ("slave_repl_offset:8386", "slave_repl_offset:"),
        ("slave_repl_offset:8386", "slave_repl_offset:-"),
        ("slave_repl_offset:8386", "slave_repl_offset:+8386"),
        ("slave_repl_offset:8386", "slave_repl_offset:83 86"),
        ("slave_repl_offset:8386", "slave_repl_offset:8386.0"),
        ("slave_repl_offset:8386", "slave_repl_offset:9223372036854775808"),
        (
            "slave_repl_offset:8386",
            "slave_repl_offset:99999999999999999999999",
        ),
        ("master_replid:{A}", "master_replid:{NONE}"),
        ("master_replid:{A}", "master_replid:{A}0"),
        ("master_replid:{A}", "master_replid:?"),
        ("master_replid2:{NONE}", "master_replid2:x"),
    ] {
        let text = REDIS_6_2_REPLICA.replacen(from, to, 1);
        assert_ne!(text, REDIS_6_2_REPLICA);
        assert!(Progress::scan(wire(&text).as_bytes()).is_err(), "{to}");
    }
    let text = REDIS_7_0_REPLICA.replace("second_repl_offset:151", "second_repl_offset:none");
    assert!(refused(&text).contains("second_repl_offset"));
}

fn render(progress: &Progress, noise: &[String]) -> String {
    let (role, offset) = match progress.role {
        Role::Primary => ("master", "master_repl_offset"),
        Role::Replica => ("slave", "slave_repl_offset"),
    };
    let mut lines = vec![
        format!("role:{role}"),
        format!("{offset}:{}", progress.applied),
        format!("master_replid:{}", progress.history),
    ];
    match progress.ancestor {
        Some(ancestor) => lines.extend([
            format!("master_replid2:{}", ancestor.history),
            format!("second_repl_offset:{}", ancestor.fork),
            "repl_backlog_active:1".into(),
        ]),
        None => lines.extend([format!("master_replid2:{NONE}"), "second_repl_offset:-1".into()]),
    }
    if progress.role == Role::Replica {
        lines.push(format!(
            "master_link_status:{}",
            if progress.link_up { "up" } else { "down" }
        ));
        lines.push(format!("slave_read_only:{}", u8::from(progress.read_only)));
        lines.push(format!("master_repl_offset:{}", progress.applied ^ 0xff));
    }
    for (n, line) in noise.iter().enumerate() {
        lines.insert(n % lines.len(), line.clone());
    }
    lines.iter().map(|line| format!("{line}\r\n")).collect()
}

proptest! {
    #![proptest_config(common::config())]

    #[test]
    fn what_is_rendered_is_read_back(
        (primary, link_up, read_only) in any::<(bool, bool, bool)>(),
        own in 0u8..9,
        ancestor in prop::option::of((10u8..20, 0..=i64::MAX as u64)),
        applied in 0..=(i64::MAX as u64 >> 8),
        noise in prop::collection::vec("x[a-z_0-9]{0,12}:[ -~]{0,12}", 0..12),
    ) {
        let progress = Progress {
            role: if primary { Role::Primary } else { Role::Replica },
            history: history(own),
            ancestor: ancestor.map(|(id, fork)| Ancestor { history: history(id), fork }),
            applied,
            link_up: primary || link_up,
            read_only: primary || read_only,
        };
        prop_assert_eq!(Progress::scan(render(&progress, &noise).as_bytes()), Ok(progress));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Progress::scan(&bytes);
    }

    /// Bytes that look more like it.
    #[test]
    fn a_mutated_reply_does_no_harm(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let text = [REDIS_6_2_PRIMARY, REDIS_7_0_REPLICA, REDIS_7_4_SYNCING][which];
        let mut bytes = wire(text).into_bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = Progress::scan(&bytes);
        let _ = Progress::scan(&bytes[..cut.index(bytes.len())]);
    }
}
