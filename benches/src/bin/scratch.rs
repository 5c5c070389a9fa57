#![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]
use highwater::{CacheOptions, Client, Session};
use highwater_testkit::Topology;
use redis::AsyncCommands;
fn main() {
    let n: usize = std::env::args().nth(1).unwrap().parse().unwrap();
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(async {
        let topology = Topology::builder().replicas(1).start().unwrap();
        let client = Client::builder().primary(topology.primary().url()).replica(topology.replica(0).url()).cache(CacheOptions::new(64<<20)).connect().await.unwrap();
        let session = Session::new();
        let mut connection = client.with(&session);
        let keys: Vec<String> = (0..200).map(|k| format!("key:{k:012}")).collect();
        for key in &keys { let () = connection.set(key, "v".repeat(100)).await.unwrap(); }
        topology.wait_in_sync(std::time::Duration::from_secs(60)).unwrap();
        for key in &keys { let _: Vec<u8> = connection.get(key).await.unwrap(); }
        tokio::spawn(async move {
            for i in 0..n { let mut c = connection.clone(); let v: Vec<u8> = c.get(&keys[i % 200]).await.unwrap(); assert_eq!(v.len(), 100); 
              if i % 64 == 0 { tokio::task::consume_budget().await; } }
        }).await.unwrap();
        println!("{:?}", client.cache_stats());
    });
}
