//! Uploads the records of one or many events until each has its verdict or the time is up.
//!
//! It does not know what a verdict means for its event beyond that, nor where events come from.

use super::{Budget, Relay};
use crate::aws::secret::Secret;
use crate::clevertap::answer::{Answer, Verdict};
use crate::clevertap::client::Attempt;
use crate::clevertap::{Credentials, Record, Role, upload_body};
use crate::mapping::Account;
use crate::outcome::Failure;
use crate::telemetry::Upload;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The first wait before an upload is repeated is at most this long, the next twice as long, …
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// … and none is longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// One record to upload, and the position of its event among those relayed together.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'r> {
    pub position: usize,
    /// What the events of one user have in common, where their order is ours to keep.
    pub group: Option<&'r str>,
    pub record: &'r Record<'r>,
}

/// How the records of one event ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct End {
    /// Event and revenue records that CleverTap refused for good, with its code.
    pub refused: Vec<(Role, u16)>,
    /// Whether CleverTap took an event or revenue record.
    pub accepted: bool,
    /// Why a record that decides is neither accepted nor refused.
    pub undecided: Option<Failure>,
    /// The attempts in which the event took part.
    pub upload: Upload,
}

impl Relay {
    /// Uploads `entries` together and tells the end of each event by its position. What CleverTap
    /// accepted is never sent again.
    pub(super) async fn upload(
        &self,
        mut pending: Vec<Entry<'_>>,
        account: Account,
        mut secret: Arc<Secret>,
        budget: Budget,
        ends: &mut [End],
    ) {
        let started = Instant::now();
        let mut waits = Waits::default();
        let mut connection_lost = false;
        let failure = loop {
            if Instant::now() >= budget.uploads_end {
                break Failure::TimedOut;
            }
            let records: Vec<&Record<'_>> = pending.iter().map(|entry| entry.record).collect();
            let Some(credentials) = self.credentials(account, &secret) else {
                // It may have been added a moment ago.
                match self.changed(&secret, budget).await {
                    Some(changed) => secret = changed,
                    None => break Failure::NoSandboxPasscode,
                }
                continue;
            };
            let body = upload_body(&records);
            let attempt = self
                .client
                .upload(credentials, body, records.len(), budget.uploads_end)
                .await;
            let upload_ms = started.elapsed().as_millis();
            tracing::debug!(
                records = records.len(),
                upload_ms,
                ?attempt,
                "tried to upload"
            );
            for position in positions(&pending) {
                let upload = &mut ends[position].upload;
                upload.attempts += 1;
                upload.took = started.elapsed();
                if let Attempt::Answered { status, .. } = attempt {
                    upload.status = Some(status);
                }
            }
            let passing = match attempt {
                Attempt::Answered { status, answer } => match answer {
                    Answer::Verdicts(verdicts) => {
                        pending = settle(pending, &verdicts, ends);
                        if pending.is_empty() {
                            return;
                        }
                        Failure::Busy(PASSING_CODE)
                    }
                    // One of several is the trouble, so each goes alone, in order.
                    Answer::Refused(_) if positions(&pending).len() > 1 => {
                        let alone = self.upload_alone(pending, account, secret, budget, ends);
                        return Box::pin(alone).await;
                    }
                    Answer::Refused(code) => {
                        let had_profile =
                            pending.iter().any(|entry| !entry.record.role.is_required());
                        if had_profile {
                            // Nothing says that it was not the profile.
                            pending = without_profile(pending, code, ends);
                            if pending.is_empty() {
                                return;
                            }
                            continue;
                        }
                        let verdicts = vec![Verdict::Refused(code); pending.len()];
                        settle(pending, &verdicts, ends);
                        return;
                    }
                    Answer::Unauthorized(code) => match self.changed(&secret, budget).await {
                        Some(changed) => {
                            secret = changed;
                            continue;
                        }
                        None => break Failure::NotAccepted(code),
                    },
                    Answer::Busy(code) => Failure::Busy(code),
                    Answer::NotNow(code) => break Failure::Busy(code),
                    Answer::Unreadable | Answer::Unexpected(_) => {
                        break Failure::NotUnderstood(status);
                    }
                },
                Attempt::NotConnected => Failure::Unreachable,
                // A kept connection that died while the function slept: at once, but only once,
                // because what was sent may have been stored.
                Attempt::ConnectionLost if !connection_lost => {
                    connection_lost = true;
                    continue;
                }
                Attempt::ConnectionLost => break Failure::ConnectionLost,
                // A second attempt after a slow first one would double the event.
                Attempt::TimedOut => break Failure::TimedOut,
            };
            let resume = Instant::now() + waits.next_wait();
            if resume >= budget.uploads_end {
                break passing;
            }
            sleep_until(resume).await;
        };
        give_up(&pending, failure, ends);
    }

    /// One upload per event, in order. After one that is not settled, no later one of its group is sent.
    async fn upload_alone(
        &self,
        entries: Vec<Entry<'_>>,
        account: Account,
        secret: Arc<Secret>,
        budget: Budget,
        ends: &mut [End],
    ) {
        let mut blocked = HashSet::new();
        for position in positions(&entries) {
            let alone = entries.iter().filter(|entry| entry.position == position);
            let alone: Vec<_> = alone.copied().collect();
            let group = alone.first().and_then(|entry| entry.group);
            if group.is_some_and(|group| blocked.contains(group)) {
                give_up(&alone, Failure::Held, ends);
                continue;
            }
            self.upload(alone, account, Arc::clone(&secret), budget, ends)
                .await;
            if ends[position].undecided.is_some() {
                blocked.extend(group);
            }
        }
    }

    /// The secret as it is by now, if it has changed since `seen` and can be read in time.
    async fn changed(&self, seen: &Secret, budget: Budget) -> Option<Arc<Secret>> {
        let refresh = self.secrets.refresh(seen);
        timeout_at(budget.uploads_end, refresh).await.ok().flatten()
    }

    /// `None` if the secret does not hold the account's passcode.
    fn credentials<'c>(&'c self, account: Account, secret: &'c Secret) -> Option<Credentials<'c>> {
        let (account_id, passcode) = match account {
            Account::Main => (&self.account_id, &secret.clevertap_passcode),
            Account::Sandbox => {
                let passcode = secret.clevertap_sandbox_passcode.as_ref()?;
                (self.sandbox_account_id.as_ref()?, passcode)
            }
        };
        Some(Credentials {
            account_id,
            passcode,
        })
    }
}

/// CleverTap's passing record code.
const PASSING_CODE: u16 = 555;

/// Notes each verdict and returns the entries that are to be sent again.
fn settle<'r>(pending: Vec<Entry<'r>>, verdicts: &[Verdict], ends: &mut [End]) -> Vec<Entry<'r>> {
    let mut again = Vec::new();
    for (entry, verdict) in pending.into_iter().zip(verdicts) {
        let end = &mut ends[entry.position];
        let role = entry.record.role;
        match *verdict {
            Verdict::Accepted if role.is_required() => end.accepted = true,
            Verdict::Accepted => end.upload.profile_refused = None,
            Verdict::Refused(code) if role.is_required() => end.refused.push((role, code)),
            Verdict::Refused(code) => end.upload.profile_refused = Some(code),
            Verdict::Passing(code) => {
                if !role.is_required() {
                    end.upload.profile_refused = Some(code);
                }
                again.push(entry);
            }
        }
    }
    again
}

fn without_profile<'r>(mut pending: Vec<Entry<'r>>, code: u16, ends: &mut [End]) -> Vec<Entry<'r>> {
    pending.retain(|entry| {
        let decides = entry.record.role.is_required();
        if !decides {
            ends[entry.position].upload.profile_refused = Some(code);
        }
        decides
    });
    pending
}

/// Nothing more can be done in this invocation. An event whose deciding records are settled stays
/// settled; one that consists of a profile alone is not settled without it.
fn give_up(pending: &[Entry<'_>], failure: Failure, ends: &mut [End]) {
    for entry in pending {
        let end = &mut ends[entry.position];
        let alone = !end.accepted && end.refused.is_empty();
        if entry.record.role.is_required() || alone {
            end.undecided = Some(failure);
        }
    }
}

/// The positions of the events that the entries belong to, in order.
fn positions(entries: &[Entry<'_>]) -> Vec<usize> {
    let mut positions: Vec<_> = entries.iter().map(|entry| entry.position).collect();
    positions.dedup();
    positions
}

/// Waits with full jitter, so that environments refused together do not come back together.
#[derive(Debug, Default)]
struct Waits {
    taken: u32,
}

impl Waits {
    fn next_wait(&mut self) -> Duration {
        let longest = FIRST_WAIT
            .saturating_mul(1 << self.taken.min(10))
            .min(LONGEST_WAIT);
        self.taken += 1;
        longest.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound() {
        let mut waits = Waits::default();
        for attempt in 0..100 {
            let longest = FIRST_WAIT * 2u32.pow(attempt.min(4));
            assert!(waits.next_wait() <= longest.min(LONGEST_WAIT));
        }
    }
}
