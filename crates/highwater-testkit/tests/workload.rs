//! The whole chain against real servers: the checker finds stale reads where there is no guarantee, and none where
//! reads go to the primary.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater_testkit::{
    Control, Functions, Kind, Mark, Monitor, Outcome, ReadReply, Report, Route, Subject, Topology,
    ViolationKind, Workload, check,
};

/// A client without any guarantee: writes to the primary, reads from wherever it is told to.
struct Naive {
    route: Route,
    sessions: Vec<Mutex<NaiveSession>>,
}

struct NaiveSession {
    primary: Control,
    replica: Control,
    mark: Option<Mark>,
}

impl Naive {
    fn new(topology: &Topology, sessions: usize, route: Route) -> Self {
        let session = |index: usize| {
            let replica = topology.replica(index % 2).connect().unwrap();
            Mutex::new(NaiveSession {
                primary: topology.primary().connect().unwrap(),
                replica,
                mark: None,
            })
        };
        Self {
            route,
            sessions: (0..sessions).map(session).collect(),
        }
    }

    fn write_now(&self, session: usize, key: u64, version: u64) -> Outcome {
        let session = &mut *self.sessions[session].lock().unwrap();
        session
            .primary
            .command(&["SET", &key.to_string(), &version.to_string()])
            .unwrap();
        session.mark = Some(session.primary.info_replication().unwrap().mark());
        Outcome::Acknowledged
    }

    fn read_now(&self, session: usize, key: u64) -> ReadReply {
        let session = &mut *self.sessions[session].lock().unwrap();
        let node = if self.route == Route::Primary {
            &mut session.primary
        } else {
            &mut session.replica
        };
        let reply = node.command(&["GET", &key.to_string()]).unwrap();
        ReadReply::seen(reply.text().map(|text| text.parse().unwrap()), self.route).required(session.mark)
    }
}

// Blocking calls on the runtime's threads: this is a client for a test of the test kit only.
impl Subject for Naive {
    async fn write(&self, session: usize, key: u64, version: u64) -> Outcome {
        self.write_now(session, key, version)
    }

    async fn read(&self, session: usize, key: u64) -> ReadReply {
        self.read_now(session, key)
    }

    async fn adopt(&self, session: usize, from: usize) {
        let mark = self.sessions[from].lock().unwrap().mark;
        let mut session = self.sessions[session].lock().unwrap();
        if mark.map(|mark| mark.offset) > session.mark.map(|mark| mark.offset) {
            session.mark = mark;
        }
    }
}

async fn run(route: Route) -> Report {
    let topology = Topology::builder()
        .replicas(2)
        .jitter(Duration::ZERO, Duration::from_millis(20))
        .start()
        .unwrap();
    let monitor = Monitor::start(&topology).unwrap();
    let workload = Workload::new()
        .sessions(4)
        .adoptions(0.05)
        .operations(4_000)
        .seed(7);
    let history = workload.run(Naive::new(&topology, 4, route)).await.unwrap();
    let report = check(&history, &monitor.stop());
    assert_eq!(history.operations().len(), 4_000);
    assert_eq!(report.writes + report.reads.total() + report.adoptions, 4_000);
    assert_eq!(report.count(ViolationKind::Convention), 0, "{report}");
    assert_eq!(report.count(ViolationKind::NeverWritten), 0, "{report}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_from_lagging_replicas_without_a_guarantee_are_caught() {
    let report = run(Route::Replica).await;
    assert!(report.count(ViolationKind::ReadYourWrites) > 0, "{report}");
    assert!(report.at_risk.replica > 0, "{report}");
    assert!(!report.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_from_the_primary_are_clean_and_were_at_risk() {
    let report = run(Route::Primary).await;
    assert!(report.is_clean(), "{report}");
    assert!(report.at_risk.primary > 0, "{report}");
    assert_eq!(report.at_risk.replica, 0);
}

#[tokio::test]
async fn functions_are_a_subject_and_doubt_retires_a_key() {
    let writes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&writes);
    let write = move |_session, _key, _version| {
        let nth = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            match nth % 5 {
                0 => Outcome::InDoubt,
                1 => Outcome::Refused,
                _ => Outcome::Acknowledged,
            }
        }
    };
    let read = |_session, _key| async { ReadReply::failed() };
    let history = Workload::new()
        .operations(2_000)
        .run(Functions::new(write, read))
        .await
        .unwrap();
    let report = check(&history, &[]);
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        report.writes + report.writes_in_doubt + report.writes_refused,
        writes.load(Ordering::Relaxed)
    );
    assert_eq!(report.failed_reads + writes.load(Ordering::Relaxed), 2_000);
    assert!(report.writes_in_doubt > 0);
}

#[tokio::test]
async fn sessions_that_do_not_write_read_what_the_others_do() {
    let read = |_session, _key| async { ReadReply::parts([Some(2), None, Some(1)], Route::Primary) };
    let subject = Functions::new(|_, _, _| async { Outcome::Acknowledged }, read);
    let history = Workload::new()
        .sessions(6)
        .writers(2)
        .keys_per_session(3)
        .writes(0.5)
        .own_reads(1.0)
        .operations(2_000)
        .run(subject)
        .await
        .unwrap();
    let mut sessions = [(0, 0); 6];
    for operation in history.operations() {
        let (writes, reads) = &mut sessions[operation.session as usize];
        match operation.kind {
            Kind::Write { key, .. } => {
                *writes += 1;
                assert!(key < 6, "{operation:?}");
            }
            Kind::Read {
                key, version, newest, ..
            } => {
                *reads += 1;
                assert!(key < 6, "{operation:?}");
                assert_eq!((version, newest), (None, Some(2)), "the least and the greatest");
            }
            _ => unreachable!("{operation:?}"),
        }
    }
    assert!(
        sessions[..2]
            .iter()
            .all(|(writes, reads)| *writes > 0 && *reads > 0)
    );
    assert!(
        sessions[2..]
            .iter()
            .all(|(writes, reads)| *writes == 0 && *reads > 0)
    );
    assert_eq!(
        check(&history, &[]).count(ViolationKind::Torn),
        sessions.iter().map(|(_, reads)| reads).sum()
    );
}

#[tokio::test]
async fn guarantees_given_up_are_recorded_beside_the_read() {
    let read = |_session, _key| async { ReadReply::seen(None, Route::Primary).guarantees_lost() };
    let subject = Functions::new(|_, _, _| async { Outcome::Acknowledged }, read);
    let history = Workload::new()
        .sessions(2)
        .operations(500)
        .run(subject)
        .await
        .unwrap();
    let report = check(&history, &[]);
    assert!(
        report.is_clean(),
        "each of these reads would break a guarantee: {report}"
    );
    assert_eq!(report.guarantees_lost, report.reads.primary);
}

#[tokio::test]
async fn a_workload_ends_when_it_is_told_to() {
    let subject = || {
        Functions::new(
            |_, _, _| async { Outcome::Refused },
            |_, _| async { ReadReply::failed() },
        )
    };
    let endless = || {
        Workload::new()
            .operations(u64::MAX)
            .think_time(Duration::from_millis(1))
    };
    let timed = endless()
        .duration(Duration::from_millis(30))
        .run(subject())
        .await
        .unwrap();
    assert!(!timed.operations().is_empty());
    let stop = Arc::new(AtomicBool::new(false));
    let task = tokio::spawn({
        let workload = endless().until(Arc::clone(&stop));
        async move { workload.run(subject()).await }
    });
    stop.store(true, Ordering::Relaxed);
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_same_seed_makes_the_same_choices() {
    let choices = async || {
        let subject = Functions::new(
            |_, _, _| async { Outcome::Refused },
            |_, _| async { ReadReply::failed() },
        );
        let history = Workload::new()
            .sessions(1)
            .seed(3)
            .operations(300)
            .run(subject)
            .await
            .unwrap();
        history
            .operations()
            .iter()
            .map(|operation| operation.kind)
            .collect::<Vec<Kind>>()
    };
    assert_eq!(choices().await, choices().await);
}

#[tokio::test]
#[should_panic(expected = "seen")]
async fn a_panic_in_the_subject_fails_the_test() {
    let read = |_session, _key| async { panic!("seen") };
    drop(
        Workload::new()
            .run(Functions::new(|_, _, _| async { Outcome::Refused }, read))
            .await,
    );
}
