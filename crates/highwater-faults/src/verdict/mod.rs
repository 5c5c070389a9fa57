//! What a round comes to.

mod check;
mod floors;
mod recovery;
mod risk;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    check::{Broken, Counts, Findings, Violation, check},
    recovery::{Recovery, Times, recoveries},
    risk::{AtRisk, at_risk},
};
