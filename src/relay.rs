//! The heart: has an event's records uploaded within the time that Purchasely waits, and says how it ended.
//!
//! It does not know how events arrive, nor what an outcome answers.

use crate::aws::secret::{Secret, Secrets};
use crate::clevertap::answer::{Answer, Verdict};
use crate::clevertap::client::Attempt;
use crate::clevertap::{Client, Credentials, Record, upload_body};
use crate::mapping::{self, Account, Fate, Mapped, Rules};
use crate::outcome::{Failure, Outcome};
use crate::purchasely::Event;
use crate::telemetry::{Report, Upload, showable_id};
use http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// All of an event's time, from receipt. Work 8 s < Lambda's timeout 9 s < API Gateway's 9.5 s <
/// Purchasely's 10 s.
pub const WORK: Duration = Duration::from_secs(8);
/// What uploads leave of it, so that there is always time to settle.
const SETTLING: Duration = Duration::from_millis(1500);
/// The first wait before an upload is repeated is at most this long, the next twice as long, …
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// … and none is longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The moment by which an event's uploads must have ended, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// No upload is begun or awaited after this.
    pub uploads_end: Instant,
}

impl Budget {
    /// Counts from `received`, less what the request had already aged on its way here.
    #[must_use]
    pub fn start(received: Instant, age: Duration) -> Self {
        Self {
            uploads_end: received + WORK.saturating_sub(SETTLING).saturating_sub(age),
        }
    }
}

/// Relays events to the owner's CleverTap accounts.
#[derive(Debug)]
pub struct Relay {
    /// How events are mapped.
    pub rules: Rules,
    /// Where they go.
    pub client: Client,
    /// Whose they are there.
    pub account_id: HeaderValue,
    /// Whose testers' purchases are, if they are kept apart.
    pub sandbox_account_id: Option<HeaderValue>,
    /// Whether CleverTap stores nothing.
    pub dry_run: bool,
    /// Where the passcode comes from.
    pub secrets: Arc<Secrets>,
}

impl Relay {
    /// Relays one event, with the secret that was read for it.
    pub async fn relay(&self, event: &Event, secret: Arc<Secret>, budget: Budget) -> Report {
        let mut adjustments = Vec::new();
        let mut witness = |field: &str, fate: Fate<'_>| {
            if fate.is_adjustment() {
                adjustments.push(format!("{field}: {}", fate.code()));
            }
        };
        let mapped = mapping::map(event, &self.rules, &mut witness);
        let (outcome, upload) = match &mapped {
            Mapped::Ignored(why) => (Outcome::Ignored(*why), Upload::default()),
            Mapped::Unmappable(why) => (
                Outcome::Failed(Failure::Unmappable(*why)),
                Upload::default(),
            ),
            Mapped::Records { account, records } => {
                let mut upload = Upload::default();
                let started = Instant::now();
                let settled = self
                    .upload(records, *account, secret, budget, &mut upload)
                    .await;
                upload.took = started.elapsed();
                let outcome = match settled {
                    Err(failure) => Outcome::Failed(failure),
                    Ok(()) if self.dry_run => Outcome::DryRun,
                    Ok(()) => Outcome::Relayed,
                };
                (outcome, upload)
            }
        };
        Report {
            outcome,
            event_id: event.id().and_then(showable_id).map(str::to_owned),
            event_name: Some(event.name().to_owned()),
            upload,
            adjustments,
        }
    }

    /// Uploads until each record has its verdict. What CleverTap accepted is never sent again. Event
    /// and revenue decide; once they have their verdicts, the end of a profile changes nothing.
    async fn upload(
        &self,
        records: &[Record<'_>],
        account: Account,
        secret: Arc<Secret>,
        budget: Budget,
        upload: &mut Upload,
    ) -> Result<(), Failure> {
        let mut decided = None;
        let ended = self
            .upload_all(records, account, secret, budget, upload, &mut decided)
            .await;
        decided.unwrap_or(ended)
    }

    async fn upload_all(
        &self,
        records: &[Record<'_>],
        account: Account,
        mut secret: Arc<Secret>,
        budget: Budget,
        upload: &mut Upload,
        decided: &mut Option<Result<(), Failure>>,
    ) -> Result<(), Failure> {
        let mut pending: Vec<&Record<'_>> = records.iter().collect();
        let mut refused = None;
        let mut waits = Waits::default();
        let mut connection_lost = false;
        loop {
            if Instant::now() >= budget.uploads_end {
                return Err(Failure::TimedOut);
            }
            upload.attempts += 1;
            let attempt = self
                .client
                .upload(
                    self.credentials(account, &secret)?,
                    upload_body(&pending),
                    pending.len(),
                    budget.uploads_end,
                )
                .await;
            if let Attempt::Answered { status, .. } = attempt {
                upload.status = Some(status);
            }
            let passing = match attempt {
                Attempt::Answered { status, answer } => match answer {
                    Answer::Verdicts(verdicts) => {
                        let mut again = Vec::new();
                        let mut passing = None;
                        for (record, verdict) in pending.into_iter().zip(verdicts) {
                            match verdict {
                                Verdict::Accepted if record.is_event() => {}
                                Verdict::Accepted => upload.profile_refused = None,
                                Verdict::Refused(code) if record.is_event() => refused = Some(code),
                                Verdict::Refused(code) => upload.profile_refused = Some(code),
                                Verdict::Passing(code) => {
                                    again.push(record);
                                    if record.is_event() {
                                        passing = Some(code);
                                    } else {
                                        upload.profile_refused = Some(code);
                                    }
                                }
                            }
                        }
                        let settled = refused.map_or(Ok(()), |code| Err(Failure::Refused(code)));
                        if again.is_empty() {
                            return settled;
                        }
                        pending = again;
                        if passing.is_none() {
                            *decided = Some(settled);
                        }
                        Failure::Busy(passing.or(upload.profile_refused).unwrap_or_default())
                    }
                    // Nothing says that it was not the profile.
                    Answer::Refused(code) if pending.iter().any(|record| !record.is_event()) => {
                        upload.profile_refused = Some(code);
                        pending.retain(|record| record.is_event());
                        if pending.is_empty() {
                            return Ok(());
                        }
                        continue;
                    }
                    Answer::Refused(code) => return Err(Failure::Refused(code)),
                    Answer::Unauthorized(code) => match self.secrets.refresh(&secret).await {
                        Some(changed) => {
                            secret = changed;
                            continue;
                        }
                        None => return Err(Failure::NotAccepted(code)),
                    },
                    Answer::Busy(code) => Failure::Busy(code),
                    Answer::NotNow(code) => return Err(Failure::Busy(code)),
                    Answer::Unreadable | Answer::Unexpected(_) => {
                        return Err(Failure::NotUnderstood(status));
                    }
                },
                Attempt::NotConnected => Failure::Unreachable,
                // A kept connection that died while the function slept: at once, but only once,
                // because what was sent may have been stored.
                Attempt::ConnectionLost if !connection_lost => {
                    connection_lost = true;
                    continue;
                }
                Attempt::ConnectionLost => return Err(Failure::ConnectionLost),
                // A second attempt after a slow first one would double the event.
                Attempt::TimedOut => return Err(Failure::TimedOut),
            };
            let resume = Instant::now() + waits.next_wait();
            if resume >= budget.uploads_end {
                return Err(passing);
            }
            sleep_until(resume).await;
        }
    }

    fn credentials<'c>(
        &'c self,
        account: Account,
        secret: &'c Secret,
    ) -> Result<Credentials<'c>, Failure> {
        match account {
            Account::Main => Ok(Credentials {
                account_id: &self.account_id,
                passcode: &secret.clevertap_passcode,
            }),
            Account::Sandbox => {
                let passcode = secret.clevertap_sandbox_passcode.as_ref();
                let credentials = self.sandbox_account_id.as_ref().zip(passcode);
                let (account_id, passcode) = credentials.ok_or(Failure::NoSandboxPasscode)?;
                Ok(Credentials {
                    account_id,
                    passcode,
                })
            }
        }
    }
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
    fn a_request_that_aged_on_its_way_has_less_time() {
        let received = Instant::now();
        let end = |age| Budget::start(received, Duration::from_millis(age)).uploads_end - received;
        assert_eq!(end(0), Duration::from_millis(6500));
        assert_eq!(end(2000), Duration::from_millis(4500));
        assert_eq!(end(9000), Duration::ZERO);
    }

    #[test]
    fn waits_grow_to_a_bound() {
        let mut waits = Waits::default();
        for attempt in 0..100 {
            let longest = FIRST_WAIT * 2u32.pow(attempt.min(4));
            assert!(waits.next_wait() <= longest.min(LONGEST_WAIT));
        }
    }
}
