//! The text of schedules.

use std::{fmt, str::FromStr};

use super::{
    Family, Fault, Front, NODES, PRIMARY, PROCESSES, ProcessSetting, SENTINELS, Schedule, Step, Topology,
    WATCHED, Wire,
};
use crate::{
    Error,
    wire::{Cache, Policy},
};

/// The words of a line, read one by one.
pub(super) struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        Self(line.split_whitespace())
    }

    fn word(&mut self) -> Result<&'a str, Error> {
        self.0.next().ok_or_else(|| "a word is missing".into())
    }

    fn number<T: FromStr>(&mut self) -> Result<T, Error> {
        number(self.word()?)
    }

    /// The value in `name=value`.
    fn named(&mut self, name: &str) -> Result<&'a str, Error> {
        let word = self.word()?;
        word.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('='))
            .ok_or_else(|| format!("`{word}` stands where {name}=… is wanted").into())
    }

    fn node(&mut self) -> Result<usize, Error> {
        let word = self.word()?;
        let symbol = match word.strip_prefix("follower") {
            Some(place) => Some(number(place)?),
            None => (word == "primary").then_some(0),
        };
        match symbol {
            Some(place) => Ok(PRIMARY + below(place, WATCHED)?),
            None => below(number(word)?, NODES),
        }
    }

    fn sentinel(&mut self) -> Result<usize, Error> {
        below(self.number()?, SENTINELS)
    }

    fn process(&mut self) -> Result<usize, Error> {
        below(self.number()?, PROCESSES)
    }
}

fn number<T: FromStr>(word: &str) -> Result<T, Error> {
    word.parse()
        .map_err(|_| format!("`{word}` is no number that fits").into())
}

fn below(number: usize, bound: usize) -> Result<usize, Error> {
    if number < bound {
        Ok(number)
    } else {
        Err(format!("there is no number {number}, only those below {bound}").into())
    }
}

impl Schedule {
    /// Takes a line in.
    pub(super) fn take(&mut self, words: &mut Words<'_>) -> Result<(), Error> {
        match words.word()? {
            "topology" => {
                self.topology = match words.word()? {
                    "fixed" => Topology::Fixed,
                    "sentinel" => Topology::Sentinel,
                    other => return Err(format!("there is no topology {other}").into()),
                }
            }
            "seed" => self.seed = words.number()?,
            "family" => self.family = words.word()?.parse()?,
            "stage" => {
                words.named("load")?.clone_into(&mut self.load);
                self.backlog = number(words.named("backlog")?)?;
                self.filler = number(words.named("filler")?)?;
            }
            "delays" => {
                for delay in &mut self.delays {
                    let (least, most) = words.word()?.split_once('-').ok_or("a delay is LEAST-MOST")?;
                    *delay = (number(least)?, number(most)?);
                }
            }
            "process" => {
                below(words.number()?, PROCESSES)?;
                self.processes.push(process(words)?);
            }
            "length" => self.length = words.number()?,
            at => {
                let lasts = words.word()?;
                self.steps.push(Step {
                    at: number(at)?,
                    lasts: number(lasts.strip_prefix('+').ok_or("a step is AT +LASTS WHAT")?)?,
                    fault: fault(words)?,
                });
            }
        }
        match words.0.next() {
            Some(word) => Err(format!("`{word}` is too much").into()),
            None => Ok(()),
        }
    }
}

fn process(words: &mut Words<'_>) -> Result<ProcessSetting, Error> {
    let policy = match words.named("policy")? {
        "primary" => Policy::Primary,
        "error" => Policy::Error,
        "proceed" => Policy::Proceed,
        other => return Err(format!("there is no policy {other}").into()),
    };
    Ok(ProcessSetting {
        policy,
        resp2: words.named("resp")? == "2",
        connections: number(words.named("connections")?)?,
        every_node: words.named("lists")? == "every-node",
        cache: match words.named("cache")? {
            "off" => None,
            cache => Some(self::cache(cache).ok_or("a cache is off, SIZEkb, or SIZEkb:TIMEms")?),
        },
    })
}

fn cache(text: &str) -> Option<Cache> {
    let (size, ttl) = match text.split_once(':') {
        Some((size, ttl)) => (size, Some(ttl.strip_suffix("ms")?.parse().ok()?)),
        None => (text, None),
    };
    Some(Cache {
        kib: size.strip_suffix("kb")?.parse().ok()?,
        ttl,
    })
}

fn fault(words: &mut Words<'_>) -> Result<Fault, Error> {
    Ok(match words.word()? {
        "freeze" => Fault::Freeze(words.node()?),
        "stall" => Fault::Stall(words.node()?),
        "kill" => Fault::Kill(words.node()?),
        "restart" => Fault::Restart(words.node()?),
        "rollback" => Fault::Rollback(words.node()?),
        "link" => Fault::Link(words.node()?, wire(words)?),
        "front-of-primary" => Fault::Front(Front::Primary(words.process()?), wire(words)?),
        "front-of-node" => Fault::Front(Front::Node(words.node()?), wire(words)?),
        "client-pause" => Fault::ClientPause(words.node()?),
        "disconnect" => Fault::Disconnect(words.node()?),
        "follow" => Fault::Follow(words.node()?, words.node()?),
        "promote" => Fault::Promote(words.node()?),
        "point" => Fault::Point(words.process()?, words.node()?),
        "rebuild" => Fault::Rebuild(words.process()?),
        "fail-over" => Fault::FailOver,
        "kill-sentinel" => Fault::KillSentinel(words.sentinel()?),
        "freeze-sentinel" => Fault::FreezeSentinel(words.sentinel()?),
        other => return Err(format!("there is no fault `{other}`").into()),
    })
}

fn wire(words: &mut Words<'_>) -> Result<Wire, Error> {
    Ok(match words.word()? {
        "pause" => Wire::Pause,
        "slow" => Wire::Slow(words.number()?),
        "delay" => Wire::Delay(words.number()?),
        "cut" => Wire::Cut,
        "black-hole" => Wire::BlackHole,
        "refuse" => Wire::Refuse,
        "split" => Wire::Split(words.number()?, words.number()?),
        "hold" => Wire::Hold(words.number()?),
        "hold-replies" => Wire::HoldReplies(words.number()?),
        other => return Err(format!("nothing on the wire is called `{other}`").into()),
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |node: &usize| Name(*node);
        match self {
            Self::Freeze(node) => write!(f, "freeze {}", name(node)),
            Self::Stall(node) => write!(f, "stall {}", name(node)),
            Self::Kill(node) => write!(f, "kill {}", name(node)),
            Self::Restart(node) => write!(f, "restart {}", name(node)),
            Self::Rollback(node) => write!(f, "rollback {}", name(node)),
            Self::Link(node, wire) => write!(f, "link {} {wire}", name(node)),
            Self::Front(Front::Primary(process), wire) => write!(f, "front-of-primary {process} {wire}"),
            Self::Front(Front::Node(node), wire) => write!(f, "front-of-node {} {wire}", name(node)),
            Self::ClientPause(node) => write!(f, "client-pause {}", name(node)),
            Self::Disconnect(node) => write!(f, "disconnect {}", name(node)),
            Self::Follow(node, upstream) => write!(f, "follow {} {}", name(node), name(upstream)),
            Self::Promote(node) => write!(f, "promote {}", name(node)),
            Self::Point(process, node) => write!(f, "point {process} {}", name(node)),
            Self::Rebuild(process) => write!(f, "rebuild {process}"),
            Self::FailOver => f.write_str("fail-over"),
            Self::KillSentinel(sentinel) => write!(f, "kill-sentinel {sentinel}"),
            Self::FreezeSentinel(sentinel) => write!(f, "freeze-sentinel {sentinel}"),
        }
    }
}

/// A node, as it is written.
struct Name(usize);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_sub(PRIMARY) {
            None => write!(f, "{}", self.0),
            Some(0) => f.write_str("primary"),
            Some(place) => write!(f, "follower{place}"),
        }
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause => f.write_str("pause"),
            Self::Slow(rate) => write!(f, "slow {rate}"),
            Self::Delay(delay) => write!(f, "delay {delay}"),
            Self::Cut => f.write_str("cut"),
            Self::BlackHole => f.write_str("black-hole"),
            Self::Refuse => f.write_str("refuse"),
            Self::Split(bytes, gap) => write!(f, "split {bytes} {gap}"),
            Self::Hold(bytes) => write!(f, "hold {bytes}"),
            Self::HoldReplies(bytes) => write!(f, "hold-replies {bytes}"),
        }
    }
}

impl fmt::Display for ProcessSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = match self.policy {
            Policy::Primary => "primary",
            Policy::Error => "error",
            Policy::Proceed => "proceed",
        };
        let resp = if self.resp2 { 2 } else { 3 };
        let lists = if self.every_node { "every-node" } else { "replicas" };
        let connections = self.connections;
        write!(
            f,
            "policy={policy} resp={resp} connections={connections} lists={lists} cache="
        )?;
        match self.cache {
            None => f.write_str("off"),
            Some(Cache { kib, ttl: None }) => write!(f, "{kib}kb"),
            Some(Cache { kib, ttl: Some(ttl) }) => write!(f, "{kib}kb:{ttl}ms"),
        }
    }
}

impl Family {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lag => "lag",
            Self::Links => "links",
            Self::Move => "move",
            Self::Failover => "failover",
            Self::Restart => "restart",
            Self::Everything => "everything",
            Self::Crash => "crash",
            Self::Sudden => "sudden",
            Self::Handover => "handover",
            Self::Sentinels => "sentinels",
            Self::Turmoil => "turmoil",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Family {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Topology::Fixed, Topology::Sentinel]
            .into_iter()
            .flat_map(Topology::families)
            .copied()
            .find(|family| family.as_str() == text)
            .ok_or_else(|| format!("there is no family `{text}`").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "seed 7\nfamily lag\nstage load=swapdb backlog=64 filler=500\ndelays 0-3 30-80 150-300\n\
        process 0 policy=primary resp=3 connections=1 lists=replicas cache=off\n\
        process 1 policy=error resp=2 connections=2 lists=every-node cache=64kb:40ms\n\
        process 2 policy=proceed resp=3 connections=1 lists=replicas cache=64kb\nlength 100\n";

    #[test]
    fn a_written_schedule_is_read_past_comments() {
        let schedule: Schedule = format!("# by hand\n{HEAD}\n 5 +40 front-of-node 2 split 7 1\n")
            .parse()
            .unwrap();
        assert_eq!(
            schedule.steps,
            [Step {
                at: 5,
                lasts: 40,
                fault: Fault::Front(Front::Node(2), Wire::Split(7, 1)),
            }]
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        for line in [
            "5 freeze 2",
            "5 +1 freeze",
            "5 +1 freeze 4",
            "5 +1 rebuild 3",
            "5 +1 freeze 2 3",
            "5 +1 link 2 burn",
            "x +1 freeze 2",
            "family none",
            "delays 1 2 3",
            "process 2 policy=proceed resp=3 connections=1 lists=replicas",
            "process 2 policy=proceed resp=3 connections=1 lists=replicas cache=64",
        ] {
            let error = format!("{HEAD}{line}\n").parse::<Schedule>().unwrap_err();
            assert!(error.to_string().contains(line), "{error}");
        }
        assert!("length 5\n".parse::<Schedule>().is_err());
    }
}
