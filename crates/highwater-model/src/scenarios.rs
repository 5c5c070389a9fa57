//! The scenarios.

use highwater_core::Consistency;

use crate::{
    judge::Event,
    scenario::{Budget, Scenario},
    variant::Variant,
};

const RYW: Consistency = Consistency::ReadYourWrites;
const MONOTONIC: Consistency = Consistency::Monotonic;

fn base(name: &'static str, about: &'static str) -> Scenario {
    Scenario {
        name,
        about,
        variant: Variant::Sound,
        upstreams: vec![None, Some(0), Some(0)],
        attached: true,
        levels: vec![RYW],
        one_writer: true,
        one_reader: false,
        split_reads: false,
        split_writes: false,
        lasting: true,
        late_replies: false,
        kill_allowed: true,
        plain_reads: true,
        crowded: false,
        feed: None,
        budget: Budget::default(),
        depth: None,
        shows: &[Event::AtRisk, Event::Refused],
    }
}

fn proofs(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        split_reads: true,
        budget: Budget {
            writes: 1 + more,
            follows: 1,
            failed_syncs: 1,
            ..Budget::default()
        },
        ..base(
            "proofs",
            "split flushes of reads, while replicas are re-pointed and resync",
        )
    }
}

fn chained(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        upstreams: vec![None, Some(0), Some(1)],
        split_reads: true,
        budget: Budget {
            writes: 1 + more,
            promotions: 1,
            follows: 1,
            pings: more,
            ..Budget::default()
        },
        depth: if deep { None } else { Some(11) },
        shows: &[Event::AtRisk, Event::Refused],
        ..base(
            "chained",
            "split flushes at a replica of a replica, and at primaries that were replicas",
        )
    }
}

fn monotonic(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        levels: vec![RYW, MONOTONIC],
        one_reader: true,
        split_reads: true,
        budget: Budget {
            writes: 1 + more,
            follows: 1,
            promotions: more,
            pings: more,
            ..Budget::default()
        },
        ..base(
            "monotonic",
            "reads that may never go back, of what another session writes",
        )
    }
}

fn marks(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        split_writes: true,
        upstreams: vec![None, Some(0)],
        budget: Budget {
            writes: 1 + more,
            promotions: 2,
            follows: 2,
            switches: 1,
            abandons: more,
            ..Budget::default()
        },
        shows: &[Event::Served, Event::Refused, Event::Unknown],
        ..base(
            "marks",
            "writes whose sample comes later, while primary and replica change places",
        )
    }
}

fn turns(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        split_reads: true,
        upstreams: vec![None, Some(0)],
        budget: Budget {
            writes: 1 + more,
            promotions: 2,
            follows: 1 + more,
            switches: 2,
            ..Budget::default()
        },
        depth: Some(if deep { 15 } else { 11 }),
        shows: &[Event::Served, Event::Refused, Event::Unknown],
        ..base(
            "turns",
            "split flushes of reads at a primary that is a replica for a while",
        )
    }
}

fn fresh(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        upstreams: vec![None, Some(0)],
        attached: false,
        split_reads: deep,
        split_writes: true,
        budget: Budget {
            writes: 2,
            pings: 1,
            failed_syncs: 1,
            cuts: 1,
            freed_backlogs: 1,
            restarts: more,
            saves: more,
            ..Budget::default()
        },
        depth: if deep { None } else { Some(9) },
        shows: &[Event::Served, Event::Refused],
        ..base(
            "fresh",
            "a primary that never had a replica, and one that loses its backlog",
        )
    }
}

fn lineage(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        upstreams: vec![None, Some(0), Some(1)],
        lasting: deep,
        budget: Budget {
            writes: 1 + more,
            promotions: 2,
            follows: 1,
            switches: 1 + more,
            ..Budget::default()
        },
        depth: Some(if deep { 12 } else { 9 }),
        shows: &[Event::AtRisk, Event::Refused, Event::Loss, Event::Unknown],
        ..base(
            "lineage",
            "failovers with an old primary that goes on acknowledging, partial and full resyncs",
        )
    }
}

fn restarts(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        upstreams: vec![None, Some(0)],
        budget: Budget {
            writes: 1 + more,
            promotions: 1,
            follows: more,
            failed_syncs: 1,
            switches: 1,
            restarts: 1,
            saves: 1,
            ..Budget::default()
        },
        depth: Some(if deep { 13 } else { 8 }),
        shows: &[Event::Served, Event::Refused, Event::Loss, Event::Unknown],
        ..base(
            "restarts",
            "restarts with and without data, and promotion of a replica that has thrown away its own",
        )
    }
}

fn tokens(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        levels: vec![RYW, RYW],
        one_writer: false,
        upstreams: vec![None, Some(0)],
        budget: Budget {
            writes: 2,
            promotions: 1,
            switches: 1 + more,
            tokens: 1 + more,
            ..Budget::default()
        },
        depth: Some(if deep { 14 } else { 8 }),
        shows: &[Event::Served, Event::Refused, Event::Loss, Event::Unknown],
        ..base(
            "tokens",
            "two processes that follow different primaries, and pass tokens",
        )
    }
}

fn doubt(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        split_writes: true,
        upstreams: vec![None, Some(0)],
        budget: Budget {
            writes: 1 + more,
            promotions: 1,
            switches: 1,
            restarts: more,
            losses: 1 + more,
            abandons: 1,
            ..Budget::default()
        },
        shows: &[Event::Served, Event::Refused, Event::Settled],
        ..base(
            "doubt",
            "lost connections whose writes land late, and callers that go away",
        )
    }
}

fn grace(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        split_writes: true,
        late_replies: true,
        upstreams: vec![None, Some(0)],
        kill_allowed: false,
        levels: vec![RYW, RYW],
        budget: Budget {
            writes: 1 + more,
            tokens: 1,
            losses: 1,
            promotions: more,
            ..Budget::default()
        },
        shows: &[Event::Settled],
        ..base(
            "grace",
            "doubt that travels in tokens, and servers that refuse CLIENT KILL",
        )
    }
}

fn barrier(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        split_reads: true,
        late_replies: true,
        upstreams: vec![None, Some(0)],
        levels: vec![RYW, RYW],
        one_reader: true,
        budget: Budget {
            writes: 2,
            bad_tokens: 2,
            tokens: more,
            pings: more,
            ..Budget::default()
        },
        shows: &[Event::Served, Event::Settled],
        ..base(
            "barrier",
            "tokens that can't be read, and samples that were asked for before they came",
        )
    }
}

fn crowded(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        crowded: true,
        upstreams: vec![None, Some(0)],
        levels: vec![RYW, RYW],
        one_writer: !deep,
        budget: Budget {
            writes: 2,
            tokens: 1,
            losses: more,
            promotions: 1,
            switches: 1,
            ..Budget::default()
        },
        depth: Some(if deep { 12 } else { 8 }),
        shows: &[Event::Served, Event::Refused, Event::Settled],
        ..base("crowded", "sessions that have no room for another mark")
    }
}

fn cache(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        lasting: false,
        feed: Some(1),
        plain_reads: deep,
        budget: Budget {
            writes: 1 + more,
            fills: 1 + more,
            probes: 1,
            follows: 1,
            losses: more,
            ..Budget::default()
        },
        depth: Some(if deep { 16 } else { 13 }),
        shows: &[Event::Hit, Event::Refused],
        ..base(
            "cache",
            "a near cache, fed by a replica that is re-pointed and resyncs",
        )
    }
}

fn cache_failover(deep: bool) -> Scenario {
    let more = u8::from(deep);
    Scenario {
        lasting: false,
        feed: Some(1),
        upstreams: vec![None, Some(0)],
        levels: vec![MONOTONIC],
        budget: Budget {
            writes: 1 + more,
            fills: 1 + more,
            probes: more,
            promotions: 1,
            switches: 1,
            ..Budget::default()
        },
        depth: Some(if deep { 16 } else { 10 }),
        shows: &[Event::Hit, Event::Refused],
        ..base(
            "cache-failover",
            "a near cache under monotonic reads, whose feed's node becomes the primary",
        )
    }
}

/// All of them, to the bound of CI or to a larger one.
#[must_use]
pub fn all(deep: bool) -> Vec<Scenario> {
    [
        proofs,
        chained,
        monotonic,
        marks,
        turns,
        fresh,
        lineage,
        restarts,
        tokens,
        doubt,
        grace,
        barrier,
        crowded,
        cache,
        cache_failover,
    ]
    .map(|scenario| scenario(deep))
    .to_vec()
}

/// A scenario, at the bound of CI, in which each broken rule is refuted.
#[must_use]
pub fn refutations() -> Vec<(Variant, Scenario)> {
    let scenario = |variant| match variant {
        Variant::RememberedProgress
        | Variant::UncheckedPush
        | Variant::MarkInsideMulti
        | Variant::ProofUnchecked
        | Variant::ClearedByOneReplica => proofs(false),
        Variant::LowerBoundRemembered | Variant::ReadsForgotten => monotonic(false),
        Variant::MarkAcrossGap | Variant::WriteInReplicasHistory => marks(false),
        Variant::ProofAcrossIds => turns(false),
        Variant::RoleWithoutHistory | Variant::BelievesOffsetOne => fresh(false),
        Variant::BelievesWithoutBacklog | Variant::UnknownCovered => restarts(false),
        Variant::ForkFromReplica | Variant::ForkIgnored | Variant::LossUnsaid | Variant::UnmetRefused => {
            lineage(false)
        }
        Variant::SettledByNewConnection
        | Variant::AbandonedForgotten
        | Variant::LostForgotten
        | Variant::UnmarkedForgotten => doubt(false),
        Variant::IgnoresClock | Variant::BadTokenIgnored => barrier(false),
        Variant::OverflowForgotten => crowded(false),
        Variant::FillOutsideWireOrder
        | Variant::EntryBeforeProgress
        | Variant::ProgressOutlivesData
        | Variant::GenerationUnchecked => cache(false),
        Variant::PrimaryExempt | Variant::WritesUnjudged | Variant::Sound => tokens(false),
    };
    Variant::BROKEN
        .into_iter()
        .map(|variant| (variant, scenario(variant)))
        .collect()
}
