//! One run through saved events: in order, at a limited rate, and past a failed event only for other users.
//! It does not know how an event reaches its receiver.

use super::Options;
use super::state::State;
use crate::destination::{Destination, Failure, Scope, Settled};
use crate::saved::Saved;
use purchasely_clevertap::outcome;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

/// After this many failed events in a row the receiver is at fault, not the events.
const MAX_FAILURES_IN_A_ROW: usize = 10;
/// An attempt that fails may leave a claim of 10 s, into which the next attempts run. Tripled for each retry, the
/// fourth delay alone is longer than that, even at its shortest.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const GROWTH: u32 = 3;
const MAX_DELAY: Duration = Duration::from_secs(30);

/// How one event ended.
pub enum Outcome {
    Settled(Settled),
    /// Settled before like this, by an earlier run or as another copy.
    Skipped(Settled),
    Failed(Failure),
    /// Not sent, because an earlier event of the user failed.
    Blocked,
    /// Not sent, because the run ended before.
    NotSent,
}

/// Why a run ended.
#[derive(PartialEq)]
pub enum End {
    Complete,
    Interrupted,
    /// No further event could be delivered.
    GaveUp(String),
    /// An event was delivered, but is not in the state file.
    StateLost(String),
}

/// How many events ended how.
#[derive(Default, Serialize)]
pub struct Summary {
    pub outcomes: BTreeMap<String, usize>,
    /// `CleverTap` or the queue has them.
    delivered: usize,
    /// The function's settings exclude them.
    ignored: usize,
    /// The dead-letter queue has them.
    pub dead_lettered: usize,
    /// The function only looked at them (`CLEVERTAP_DRY_RUN`).
    only_checked: usize,
    /// They are nowhere yet.
    pub undelivered: usize,
}

pub struct Run<'r> {
    destination: &'r Destination,
    options: &'r Options,
    attempts: Interval,
    stop: watch::Receiver<bool>,
}

impl<'r> Run<'r> {
    /// When `stop` becomes true the run ends after the current attempt.
    pub fn new(
        destination: &'r Destination,
        options: &'r Options,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let mut attempts = interval(Duration::from_secs_f64(1.0 / options.rate));
        // No burst after a slow answer.
        attempts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { destination, options, attempts, stop }
    }

    /// Sends the events that the state does not contain; `report` is called for each event.
    pub async fn send_all(
        &mut self,
        events: &[Saved],
        state: &mut State,
        mut report: impl FnMut(&Saved, &Outcome),
    ) -> (Summary, End) {
        let mut summary = Summary::default();
        let mut end = End::Complete;
        let mut blocked_users = HashSet::new();
        let mut failures_in_a_row = 0;
        for event in events {
            let outcome = if let Some(settled) = state.outcome(&event.key()) {
                Outcome::Skipped(Settled(settled.to_owned()))
            } else if end != End::Complete {
                Outcome::NotSent
            } else if event.user.as_ref().is_some_and(|user| blocked_users.contains(user)) {
                Outcome::Blocked
            } else {
                self.send(event).await
            };
            match &outcome {
                Outcome::Settled(settled) => {
                    failures_in_a_row = 0;
                    if settled.outcome() != Some(outcome::Outcome::DryRun)
                        && let Err(error) = state.add(event.key(), settled.0.clone())
                    {
                        end = End::StateLost(error.to_string());
                    }
                }
                Outcome::Failed(failure) => {
                    blocked_users.extend(&event.user);
                    failures_in_a_row += 1;
                    if failure.scope == Scope::AllEvents {
                        end =
                            End::GaveUp(format!("no event can be delivered ({})", failure.status));
                    } else if failures_in_a_row == MAX_FAILURES_IN_A_ROW {
                        end = End::GaveUp(format!("{failures_in_a_row} events in a row failed"));
                    }
                }
                Outcome::Skipped(_) | Outcome::Blocked | Outcome::NotSent => {}
            }
            if end == End::Complete && *self.stop.borrow() && !outcome.is_settled() {
                end = End::Interrupted;
            }
            report(event, &outcome);
            summary.add(&outcome);
        }
        (summary, end)
    }

    async fn send(&mut self, event: &Saved) -> Outcome {
        let mut attempt = 0;
        loop {
            tokio::select! {
                biased;
                Ok(_) = self.stop.wait_for(|&stop| stop) => return Outcome::NotSent,
                _ = self.attempts.tick() => {}
            }
            let failure = match self.destination.send(event, self.options.profiles).await {
                Ok(settled) => return Outcome::Settled(settled),
                Err(failure) => failure,
            };
            if failure.scope != Scope::Attempt || attempt == self.options.retries {
                return Outcome::Failed(failure);
            }
            tokio::select! {
                biased;
                Ok(_) = self.stop.wait_for(|&stop| stop) => return Outcome::Failed(failure),
                () = sleep(delay_after(attempt, fastrand::f64())) => {}
            }
            attempt += 1;
        }
    }
}

/// Grows; up to half of it is left to chance, a number from 0 to 1.
fn delay_after(attempt: u32, chance: f64) -> Duration {
    let delay = (FIRST_DELAY * GROWTH.pow(attempt.min(10))).min(MAX_DELAY);
    delay.mul_f64(0.5 + chance / 2.0)
}

impl Outcome {
    fn is_settled(&self) -> bool {
        matches!(self, Self::Settled(_) | Self::Skipped(_))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settled(Settled(words)) => f.write_str(words),
            Self::Skipped(settled) => match settled.outcome() {
                Some(end @ (outcome::Outcome::Ignored(_) | outcome::Outcome::DeadLettered(_))) => {
                    write!(f, "skipped ({})", end.row().word)
                }
                _ => f.write_str("skipped"),
            },
            Self::Failed(Failure { status, .. }) => write!(f, "failed ({status})"),
            Self::Blocked => f.write_str("blocked"),
            Self::NotSent => f.write_str("not_sent"),
        }
    }
}

impl Summary {
    pub fn add(&mut self, outcome: &Outcome) {
        *self.outcomes.entry(outcome.to_string()).or_default() += 1;
        let class = match outcome {
            Outcome::Settled(settled) | Outcome::Skipped(settled) => match settled.outcome() {
                Some(outcome::Outcome::Ignored(_)) => &mut self.ignored,
                Some(outcome::Outcome::DeadLettered(_)) => &mut self.dead_lettered,
                Some(outcome::Outcome::DryRun) => &mut self.only_checked,
                _ => &mut self.delivered,
            },
            Outcome::Failed(_) | Outcome::Blocked | Outcome::NotSent => &mut self.undelivered,
        };
        *class += 1;
    }

    /// One line per outcome, and one for all.
    pub fn table(&self) -> String {
        let all = ("all".to_owned(), self.outcomes.values().sum());
        let rows = self.outcomes.iter().map(|(outcome, n)| (outcome.clone(), *n));
        let line = |(outcome, n): (String, usize)| format!("{outcome:<30}{n:>7}\n");
        rows.chain([all]).map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_default_retry_comes_after_every_claim_of_10_seconds() {
        assert!(delay_after(0, 1.0) <= Duration::from_secs(1));
        assert!(delay_after(3, 0.0) > Duration::from_secs(10));
        assert!(delay_after(100, 1.0) <= MAX_DELAY);
    }
}
