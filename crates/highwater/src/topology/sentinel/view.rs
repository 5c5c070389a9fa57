//! What sentinels say, and which of them is believed.

use std::sync::{Mutex, PoisonError};

use redis::Value;

use super::Sentinel;
use crate::{
    error::{Error, ErrorKind},
    node::bytes,
    topology::Topology,
};

/// A node, as a sentinel names it.
pub(super) type Place = (String, u16);

/// What one sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Counts failovers: a sentinel with a higher one knows of a later failover.
    pub(super) epoch: u64,
    pub(super) primary: Place,
    pub(super) replicas: Vec<Place>,
}

/// What all of them say.
#[derive(Debug)]
pub(super) struct Views {
    views: Mutex<Vec<Option<Result<View, Error>>>>,
}

impl Views {
    pub(super) fn new(sentinels: usize) -> Self {
        Self {
            views: Mutex::new(vec![None; sentinels]),
        }
    }

    /// Takes in what the sentinel at this place says, or why it says nothing; the topology that follows from what
    /// all say, if any does. An error once all have failed.
    pub(super) fn tell(
        &self,
        place: usize,
        said: Result<View, Error>,
        sentinel: &Sentinel,
    ) -> Option<Result<Topology, Error>> {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = views.get_mut(place) {
            *slot = Some(said);
        }
        let heard = || views.iter().flatten().filter_map(|said| said.as_ref().ok());
        let Some(epoch) = heard().map(|view| view.epoch).max() else {
            return views.iter().all(Option::is_some).then(|| Err(failure(&views)));
        };
        // Of those that know of the latest failover, the one that has just spoken.
        let latest = || heard().filter(move |view| view.epoch == epoch);
        let spoken = views
            .get(place)
            .and_then(Option::as_ref)
            .and_then(|said| said.as_ref().ok());
        let believed = spoken
            .filter(|view| view.epoch == epoch)
            .or_else(|| latest().next())?;
        let mut replicas: Vec<_> = latest()
            .flat_map(|view| &view.replicas)
            .filter(|replica| **replica != believed.primary)
            .collect();
        replicas.sort_unstable();
        replicas.dedup();
        let address = |(host, port): &Place| sentinel.nodes.at(host, *port);
        let mut topology = Topology::new(address(&believed.primary));
        for replica in replicas {
            topology = topology.replica(address(replica));
        }
        Some(Ok(topology))
    }
}

/// Why no sentinel says anything. If all of them refuse, repeating does not help.
fn failure(views: &[Option<Result<View, Error>>]) -> Error {
    let errors = || views.iter().flatten().filter_map(|said| said.as_ref().err());
    let kind = if errors().all(|error| error.kind() == ErrorKind::Config) {
        ErrorKind::Config
    } else {
        ErrorKind::Unavailable
    };
    let said: Vec<_> = errors().map(Error::message).collect();
    Error::new(kind, format!("no sentinel can be asked: {}", said.join("; ")))
}

/// A field of a flat list of names and values, or of a map.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a [u8]> {
    match value {
        Value::Array(items) => items
            .chunks_exact(2)
            .find(|pair| pair.first().and_then(bytes) == Some(name.as_bytes()))
            .and_then(|pair| bytes(pair.last()?)),
        Value::Map(pairs) => pairs
            .iter()
            .find(|(key, _)| bytes(key) == Some(name.as_bytes()))
            .and_then(|(_, value)| bytes(value)),
        _ => None,
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

fn number<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    text(bytes)?.parse().ok()
}

/// `SENTINEL MASTER`: the configuration epoch.
pub(super) fn epoch(reply: &Value) -> Option<u64> {
    number(field(reply, "config-epoch")?)
}

/// `SENTINEL GET-MASTER-ADDR-BY-NAME`.
pub(super) fn primary(reply: &Value) -> Option<Place> {
    match reply {
        Value::Array(items) => match items.as_slice() {
            [host, port] => Some((text(bytes(host)?)?.to_owned(), number(bytes(port)?)?)),
            _ => None,
        },
        _ => None,
    }
}

/// `SENTINEL REPLICAS`. What is no replica's description is passed over.
pub(super) fn replicas(reply: &Value) -> Vec<Place> {
    let Value::Array(replicas) = reply else {
        return Vec::new();
    };
    replicas
        .iter()
        .filter_map(|replica| {
            let host = text(field(replica, "ip")?)?;
            Some((host.to_owned(), number(field(replica, "port")?)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(epoch: u64, primary: u16, replicas: &[u16]) -> View {
        let place = |port: &u16| (String::from("10.0.0.1"), *port);
        View {
            epoch,
            primary: place(&primary),
            replicas: replicas.iter().map(place).collect(),
        }
    }

    fn told(views: &Views, place: usize, said: Result<View, Error>) -> Option<Result<String, ErrorKind>> {
        let sentinel = Sentinel::new("m", ["redis://s"]);
        let topology = views.tell(place, said, &sentinel)?;
        Some(match topology {
            Ok(topology) => Ok(format!("{topology:?}")),
            Err(error) => Err(error.kind()),
        })
    }

    #[test]
    fn the_latest_failover_is_believed() {
        let views = Views::new(3);
        let first = told(&views, 0, Ok(view(1, 1, &[2, 3]))).unwrap().unwrap();
        assert!(first.contains("primary: 10.0.0.1:1,"), "{first}");
        // A sentinel that knows of a failover goes before those that don't, whoever speaks last.
        let second = told(&views, 1, Ok(view(2, 2, &[1, 3, 2]))).unwrap().unwrap();
        assert!(second.contains("primary: 10.0.0.1:2,"), "{second}");
        assert!(
            !second.contains("(10.0.0.1:2"),
            "the primary is no replica: {second}"
        );
        assert_eq!(told(&views, 2, Ok(view(1, 1, &[2, 3]))).unwrap().unwrap(), second);
        assert_eq!(told(&views, 0, Ok(view(1, 1, &[2]))).unwrap().unwrap(), second);
        // A sentinel that falls silent says nothing any more.
        let silent = Error::new(ErrorKind::Unavailable, "silent");
        let third = told(&views, 1, Err(silent)).unwrap().unwrap();
        assert!(third.contains("primary: 10.0.0.1:1,"), "{third}");
    }

    #[test]
    fn an_error_only_when_all_have_failed() {
        let views = Views::new(2);
        let refused = || Err(Error::new(ErrorKind::Config, "refused"));
        assert_eq!(told(&views, 0, refused()), None);
        let silent = Err(Error::new(ErrorKind::Unavailable, "silent"));
        assert_eq!(told(&views, 1, silent), Some(Err(ErrorKind::Unavailable)));
        assert_eq!(told(&views, 1, refused()), Some(Err(ErrorKind::Config)));
    }

    #[test]
    fn replies_that_make_no_sense_are_nothing() {
        let string = |text: &str| Value::BulkString(text.into());
        let list = |items: &[&str]| Value::Array(items.iter().map(|item| string(item)).collect());
        assert_eq!(primary(&list(&["h", "1"])), Some((String::from("h"), 1)));
        for wrong in [
            Value::Nil,
            list(&["h"]),
            list(&["", "1"]),
            list(&["h", "65536"]),
            list(&["h", "x"]),
        ] {
            assert_eq!(primary(&wrong), None, "{wrong:?}");
        }
        assert_eq!(epoch(&list(&["ip", "h", "config-epoch", "7"])), Some(7));
        assert_eq!(epoch(&list(&["config-epoch"])), None);
        let both = Value::Array(vec![
            list(&["name", "n", "ip", "h", "port", "2"]),
            list(&["ip", "h"]),
        ]);
        assert_eq!(replicas(&both), [(String::from("h"), 2)]);
        assert_eq!(replicas(&Value::Int(1)), []);
    }
}
