//! Brings a schedule about.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Error,
    clock::{self, Nanos},
    crew::Crew,
    schedule::{Fault, Schedule},
    stage::{SOON, Stage},
};

/// What came of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Played {
    /// As the schedule has it.
    pub(crate) planned: Fault,
    /// At the nodes that it was about.
    pub(crate) fault: Fault,
    /// When it began and had ended.
    pub(crate) begin: Nanos,
    pub(crate) end: Nanos,
}

/// What came of a schedule.
#[derive(Clone, Debug, Default)]
pub(crate) struct Performance {
    /// By the step's place in the schedule.
    pub(crate) played: Vec<Played>,
    /// Sessions that had no answer, though nothing stood in the way.
    pub(crate) stuck: Vec<String>,
    /// When all was healed, and every session had had an answer since.
    pub(crate) settled: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    // At one time, what ends makes room for what begins.
    End,
    Begin,
}

/// Plays the schedule, heals everything, and sees that all sessions go on. `tick` is told of the time that has passed.
pub(crate) fn perform(
    schedule: &Schedule,
    stage: &mut dyn Stage,
    crew: &mut Crew,
    mut tick: impl FnMut(Duration),
) -> Result<Performance, Error> {
    let mut performance = Performance {
        played: schedule
            .steps
            .iter()
            .map(|step| Played {
                planned: step.fault,
                fault: step.fault,
                begin: Nanos::MAX,
                end: Nanos::MAX,
            })
            .collect(),
        stuck: Vec::new(),
        settled: Nanos::MAX,
    };
    let mut cues: Vec<(u32, Moment, usize)> = (0..)
        .zip(&schedule.steps)
        .flat_map(|(place, step)| {
            [
                (step.at, Moment::Begin, place),
                (step.at + step.lasts, Moment::End, place),
            ]
        })
        .collect();
    // A step's own beginning comes first, also if it has no length.
    cues.sort_by_key(|(at, moment, place)| {
        let instant = schedule.steps.get(*place).is_some_and(|step| step.lasts == 0);
        (*at, if instant { Moment::Begin } else { *moment }, *place)
    });
    let start = Instant::now();
    let mut wait_until = |at: u32| {
        let due = start + Duration::from_millis(at.into());
        loop {
            let now = Instant::now();
            tick(now.duration_since(start));
            if now >= due {
                return;
            }
            thread::sleep((due - now).min(Duration::from_millis(50)));
        }
    };
    for (at, moment, place) in cues {
        wait_until(at);
        let Some(played) = performance.played.get_mut(place) else {
            continue;
        };
        let planned = played.planned;
        let context = |error: Error| -> Error { format!("{moment:?} of {planned}: {error}").into() };
        match moment {
            Moment::Begin => {
                let Some(fault) = stage.claim(planned) else {
                    // What it is to break is broken.
                    continue;
                };
                (played.fault, played.begin) = (fault, clock::now());
                let step = schedule.steps.get(place).map_or(0, |step| step.lasts);
                begin(played.fault, step, stage, crew).map_err(context)?;
            }
            Moment::End if played.begin == Nanos::MAX => {}
            Moment::End => {
                if let Fault::Stall(node) = played.fault
                    && !crew.sync(false, SOON)?
                {
                    performance
                        .stuck
                        .push(format!("while node {node}, a replica, stood still"));
                }
                end(played.fault, stage).map_err(context)?;
                stage.release(played.fault);
                played.end = clock::now();
            }
        }
    }
    wait_until(schedule.length);
    stage.heal()?;
    if crew.sync(true, SOON)? {
        performance.settled = clock::now();
    } else {
        performance.stuck.push("after everything was healed".to_owned());
    }
    Ok(performance)
}

fn begin(fault: Fault, lasts: u32, stage: &mut dyn Stage, crew: &Crew) -> Result<(), Error> {
    match fault {
        Fault::Freeze(node) | Fault::Stall(node) => stage.server(node)?.pause()?,
        Fault::Kill(node) => {
            stage.last_will(node);
            stage.server(node)?.kill();
        }
        Fault::Restart(node) => {
            stage.last_will(node);
            stage.server(node)?.shutdown_with_save()?;
            stage.start_again(node, true)?;
        }
        Fault::Rollback(node) => {
            // Refused while it loads; then there is nothing worth saving.
            let _ = stage.server(node)?.command(&["SAVE"]);
        }
        Fault::Link(node, wire) => stage.break_link(node, wire)?,
        Fault::Front(front, wire) => stage.break_front(front, wire)?,
        Fault::ClientPause(node) => {
            let lasts = lasts.to_string();
            // Refused while it loads: then it is silent anyway.
            let _ = stage.server(node)?.command(&["CLIENT", "PAUSE", &lasts, "ALL"]);
        }
        Fault::Disconnect(node) => {
            // The control connection itself goes too, without a reply.
            let _ = stage
                .server(node)?
                .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        }
        Fault::Follow(..) | Fault::Promote(_) | Fault::Point(..) | Fault::FailOver => {
            stage.rearrange(fault)?;
        }
        Fault::KillSentinel(sentinel) => stage.sentinel(sentinel)?.kill(),
        Fault::FreezeSentinel(sentinel) => stage.sentinel(sentinel)?.pause()?,
        Fault::Rebuild(process) => crew.rebuild(process)?,
    }
    Ok(())
}

fn end(fault: Fault, stage: &mut dyn Stage) -> Result<(), Error> {
    match fault {
        Fault::Freeze(node) | Fault::Stall(node) => stage.server(node)?.resume()?,
        Fault::Kill(node) => stage.start_again(node, false)?,
        Fault::Rollback(node) => {
            stage.last_will(node);
            stage.server(node)?.kill();
            stage.start_again(node, true)?;
        }
        Fault::Link(node, _) => stage.mend_link(node)?,
        Fault::Front(front, _) => stage.mend_front(front)?,
        Fault::KillSentinel(sentinel) => stage.sentinel(sentinel)?.restart()?,
        Fault::FreezeSentinel(sentinel) => stage.sentinel(sentinel)?.resume()?,
        // They end by themselves.
        Fault::ClientPause(_)
        | Fault::Restart(_)
        | Fault::Disconnect(_)
        | Fault::Follow(..)
        | Fault::Promote(_)
        | Fault::Point(..)
        | Fault::FailOver
        | Fault::Rebuild(_) => {}
    }
    Ok(())
}
