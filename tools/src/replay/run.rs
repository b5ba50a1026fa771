//! One run through saved events: in order, no faster than allowed, no user's later event after an
//! earlier one that failed. It does not know how an event reaches its receiver.

use super::destination::{Answer, Destination, Trouble};
use super::saved::Saved;
use super::state::State;
use super::summary::{Outcome, Summary};
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

/// After as many events in a row that failed, the trouble is the receiver's and not theirs.
const GIVE_UP_AFTER: usize = 10;
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How fast and how stubborn.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From one attempt to the next, whatever they are for.
    pub between: Duration,
    /// How often an event is sent again.
    pub retries: u32,
    /// Before the first repetition; doubles with each.
    pub first_wait: Duration,
}

/// Why a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every event was looked at.
    Complete,
    /// It was told to stop.
    Interrupted,
    /// No further event could have got through.
    GaveUp(String),
    /// An event was acknowledged and the state file does not say so.
    StateLost(String),
}

/// What a run tells of an event that it is done with; the text is what the trouble was, if any.
pub type Told<'t> = dyn FnMut(&Saved, &Outcome, Option<&str>) + 't;

struct Run<'r> {
    destination: &'r Destination,
    pace: Pace,
    attempts: Interval,
    interrupted: watch::Receiver<bool>,
}

/// How the sending of one event ended.
enum Sent {
    Acknowledged {
        outcome: Outcome,
        kept: bool,
    },
    Failed(Trouble),
    /// It failed, and so would every other.
    Hopeless(Trouble),
    /// It was not begun.
    Interrupted,
}

/// Sends the events that the state does not hold, one after another. Setting `interrupted` ends the
/// run after the attempt under way.
pub async fn run(
    events: &[Saved],
    destination: &Destination,
    state: &mut State,
    pace: Pace,
    interrupted: watch::Receiver<bool>,
    told: &mut Told<'_>,
) -> (Summary, End) {
    let mut attempts = interval(pace.between);
    // Time lost on a slow answer is not caught up with by a burst.
    attempts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut run = Run {
        destination,
        pace,
        attempts,
        interrupted,
    };
    let mut summary = Summary::default();
    let mut end = End::Complete;
    let mut failed_users = HashSet::new();
    let mut failed_in_a_row = 0;
    for event in events {
        let user = event.user.as_deref();
        let mut trouble = None;
        let outcome = if state.holds(&event.key()) {
            Outcome::Skipped
        } else if end != End::Complete {
            Outcome::NotSent
        } else if user.is_some_and(|user| failed_users.contains(user)) {
            Outcome::Held
        } else {
            match run.send(event).await {
                Sent::Acknowledged { outcome, kept } => {
                    failed_in_a_row = 0;
                    if kept && let Err(error) = state.acknowledge(event.key(), outcome.to_string())
                    {
                        end = End::StateLost(error.to_string());
                    }
                    outcome
                }
                Sent::Failed(Trouble { status, detail }) => {
                    failed_users.extend(user);
                    failed_in_a_row += 1;
                    if failed_in_a_row == GIVE_UP_AFTER {
                        end = End::GaveUp(format!("{GIVE_UP_AFTER} events in a row failed"));
                    }
                    trouble = Some(detail);
                    Outcome::Failed(status)
                }
                Sent::Hopeless(Trouble { status, detail }) => {
                    end = End::GaveUp(format!("no event can get through ({status})"));
                    trouble = Some(detail);
                    Outcome::Failed(status)
                }
                Sent::Interrupted => {
                    end = End::Interrupted;
                    Outcome::NotSent
                }
            }
        };
        told(event, &outcome, trouble.as_deref());
        summary.add(outcome);
    }
    // Between the repetitions of an event that is the last.
    if end == End::Complete && *run.interrupted.borrow() && !summary.all_acknowledged() {
        end = End::Interrupted;
    }
    (summary, end)
}

impl Run<'_> {
    async fn send(&mut self, event: &Saved) -> Sent {
        let mut attempt = 0;
        loop {
            tokio::select! {
                biased;
                Ok(_) = self.interrupted.wait_for(|&stop| stop) => return Sent::Interrupted,
                _ = self.attempts.tick() => {}
            }
            let trouble = match self.destination.send(event).await {
                Answer::Acknowledged { outcome, kept } => {
                    return Sent::Acknowledged { outcome, kept };
                }
                Answer::Refused(trouble) => return Sent::Failed(trouble),
                Answer::Closed(trouble) => return Sent::Hopeless(trouble),
                Answer::Busy(trouble) => trouble,
            };
            if attempt == self.pace.retries {
                return Sent::Failed(trouble);
            }
            tokio::select! {
                biased;
                Ok(_) = self.interrupted.wait_for(|&stop| stop) => return Sent::Failed(trouble),
                () = sleep(self.pace.wait_after(attempt)) => {}
            }
            attempt += 1;
        }
    }
}

impl Pace {
    /// Half of it is chance, so that repetitions do not fall in step with the trouble.
    fn wait_after(&self, attempt: u32) -> Duration {
        let longest = self.first_wait * 2_u32.pow(attempt.min(10));
        longest
            .min(LONGEST_WAIT)
            .mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}
