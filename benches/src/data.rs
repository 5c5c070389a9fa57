//! What is stored, so that every reply can be verified.

use std::collections::HashMap;

use redis::{AsyncCommands, aio::MultiplexedConnection};

/// How many keys each operation goes round.
pub const KEYS: usize = 1024;
/// How many commands a pipeline has.
pub const PIPELINE: usize = 10;
const SMALL: usize = 100;
const LARGE: usize = 4096;
const FIELDS: usize = 20;

/// Keys of 16 bytes with their values. The first ones follow the last ones once more, so that a pipeline of
/// neighbours can begin anywhere.
#[derive(Debug)]
pub struct Strings {
    /// The keys.
    pub keys: Vec<String>,
    /// What belongs into them.
    pub values: Vec<Vec<u8>>,
}

impl Strings {
    fn new(prefix: &str, length: usize) -> Self {
        let keys: Vec<String> = (0..KEYS + PIPELINE)
            .map(|place| format!("{prefix}:{:012}", place % KEYS))
            .collect();
        let values = keys
            .iter()
            .map(|key| format!("{key:0>length$}").into_bytes())
            .collect();
        Self { keys, values }
    }

    async fn store(&self, connection: &mut MultiplexedConnection) {
        for (keys, values) in self.keys.chunks(128).zip(self.values.chunks(128)) {
            let mut pipeline = redis::pipe();
            for (key, value) in keys.iter().zip(values) {
                pipeline.set(key, value).ignore();
            }
            let () = pipeline.query_async(connection).await.unwrap();
        }
    }

    /// Forgets what was written to these keys.
    pub async fn clear(&self, connection: &mut MultiplexedConnection) {
        let () = connection.unlink(&self.keys[..KEYS]).await.unwrap();
    }

    /// Looks at what has been written to these keys since they were cleared.
    pub async fn verify(&self, connection: &mut MultiplexedConnection) {
        let mut found = 0;
        for (keys, values) in self.keys[..KEYS].chunks(128).zip(self.values.chunks(128)) {
            let stored: Vec<Option<Vec<u8>>> = connection.mget(keys).await.unwrap();
            for (stored, value) in stored.iter().zip(values) {
                if let Some(stored) = stored {
                    assert!(stored == value, "a write went to another key");
                    found += 1;
                }
            }
        }
        assert!(found > 0, "no write has arrived");
    }
}

/// All that is stored.
#[derive(Debug)]
pub struct Data {
    /// Values of 100 bytes, to read.
    pub small: Strings,
    /// Values of 4 KiB, to read.
    pub large: Strings,
    /// Values of 100 bytes, to write.
    pub small_out: Strings,
    /// Values of 4 KiB, to write.
    pub large_out: Strings,
    /// Keys of hashes.
    pub hashes: Vec<String>,
    /// What is in them: 20 fields.
    pub fields: Vec<HashMap<String, String>>,
}

impl Data {
    /// Makes it, without storing it.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is megabytes")]
    pub fn new() -> Self {
        let hashes: Vec<String> = (0..KEYS).map(|place| format!("hsh:{place:012}")).collect();
        let fields = hashes
            .iter()
            .map(|key| {
                (0..FIELDS)
                    .map(|field| (format!("field:{field:02}"), format!("{key}:{field:02}")))
                    .collect()
            })
            .collect();
        Self {
            // Where `redis-benchmark` looks for its random keys, too.
            small: Strings::new("key", SMALL),
            large: Strings::new("big", LARGE),
            small_out: Strings::new("out", SMALL),
            large_out: Strings::new("bgo", LARGE),
            hashes,
            fields,
        }
    }

    /// Stores what is to be read.
    pub async fn store(&self, connection: &mut MultiplexedConnection) {
        self.small.store(connection).await;
        self.large.store(connection).await;
        for (keys, fields) in self.hashes.chunks(128).zip(self.fields.chunks(128)) {
            let mut pipeline = redis::pipe();
            for (key, fields) in keys.iter().zip(fields) {
                let fields: Vec<(&String, &String)> = fields.iter().collect();
                pipeline.hset_multiple(key, &fields).ignore();
            }
            let () = pipeline.query_async(connection).await.unwrap();
        }
    }
}
