//! A session's token in a job: in a task of the same process, and as text in a queue to another one.

use highwater::{Session, TokenCodec};
use highwater_testkit::Topology;
use redis::AsyncCommands;
use tokio::sync::mpsc;

use super::{codec, common::client};

fn encoded(codec: &TokenCodec, session: &Session) -> String {
    codec.encode_token(&session.token(), now(), highwater::MAX_TOKEN_LEN)
}

fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_sees_what_its_request_wrote_and_its_request_what_the_job_did() {
    let topology = Topology::builder().replicas(1).start().unwrap();
    let [service, worker] = [client(&topology).await, client(&topology).await];
    topology.relay(0).pause();

    // Through a queue, as text: the answer comes back the same way.
    let (jobs, mut queue) = mpsc::channel::<String>(8);
    let (answers, mut answered) = mpsc::channel::<String>(8);
    let elsewhere = tokio::spawn(async move {
        while let Some(token) = queue.recv().await {
            let session = Session::resume(codec().decode_token(token.as_bytes(), now()).unwrap());
            let order: u32 = worker.with(&session).get("order").await.unwrap();
            let () = worker.with(&session).set("invoice", order).await.unwrap();
            answers.send(encoded(&codec(), &session)).await.unwrap();
        }
    });
    for order in 1..=10_u32 {
        let session = Session::new();
        let () = service.with(&session).set("order", order).await.unwrap();
        jobs.send(encoded(&codec(), &session)).await.unwrap();
        let token = answered.recv().await.unwrap();
        session.merge(&codec().decode(token.as_bytes(), now()).unwrap());
        let invoice: u32 = service.with(&session).get("invoice").await.unwrap();
        assert_eq!(invoice, order);

        // In a task: from the token, with what was known when it was taken.
        let token = session.token();
        let service = service.clone();
        let seen = tokio::spawn(async move {
            let session = Session::resume(token);
            service.with(&session).get::<_, u32>("order").await.unwrap()
        });
        assert_eq!(seen.await.unwrap(), order);
    }
    drop(jobs);
    elsewhere.await.unwrap();
    let stranger: Option<u32> = service.with(&Session::new()).get("order").await.unwrap();
    assert_eq!(stranger, None, "the replica has nothing");
    topology.relay(0).resume();
}
