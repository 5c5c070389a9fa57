//! What a round comes to.

mod check;
mod floors;
mod histories;
mod losses;
mod recovery;
mod risk;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    check::{Broken, Counts, Findings, Violation, check},
    histories::{Begun, begun},
    losses::{Losses, Truth},
    recovery::{Recovery, Times, recoveries},
    risk::{AtRisk, at_risk},
};
