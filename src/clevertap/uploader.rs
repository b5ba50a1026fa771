//! Uploads the records of one or several events until each has its verdict or the time is up.
//!
//! It knows which attempts may be repeated and when to read the secret again. It does not know what a
//! verdict means for an event, nor where events come from.

use super::client::{Attempt, Client, Credentials};
use super::response::{Response, TRANSIENT_CODE, Verdict};
use super::{Account, Record, Role, upload_body};
use crate::aws::secret::{Secret, Secrets};
use crate::clock;
use crate::outcome::{Failure, UploadStats};
use http::HeaderValue;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The first delay before an upload is repeated is at most this long, the next twice as long, …
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// … and none is longer than this.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Uploads to the operator's CleverTap accounts.
#[derive(Debug)]
pub struct Uploader {
    pub client: Client,
    pub secrets: Arc<Secrets>,
    pub account_id: HeaderValue,
    /// The account for sandbox purchases, where there is one.
    pub sandbox_account_id: Option<HeaderValue>,
}

/// The records of one event, and what CleverTap said about each.
#[derive(Debug)]
pub struct EventUpload<'e> {
    /// Shared by the events of one user, where keeping their order is the function's task.
    pub group: Option<&'e str>,
    records: Vec<Tracked<'e>>,
    /// Why a required record has no verdict.
    pub failure: Option<Failure>,
    pub stats: UploadStats,
}

#[derive(Debug)]
struct Tracked<'e> {
    record: Record<'e>,
    /// Whether the event is settled only with this record's verdict.
    is_required: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Accepted,
    Refused(u16),
}

impl<'e> EventUpload<'e> {
    /// A profile alone is required; beside an event or a revenue record it is not.
    pub fn new(group: Option<&'e str>, records: Vec<Record<'e>>) -> Self {
        let only_profiles = records.iter().all(|record| !record.role.is_required());
        let records = records.into_iter().map(|record| Tracked {
            is_required: only_profiles || record.role.is_required(),
            record,
            state: State::Pending,
        });
        Self { group, records: records.collect(), failure: None, stats: UploadStats::default() }
    }

    /// The required records that CleverTap refused permanently, with its code.
    pub fn refused(&self) -> impl Iterator<Item = (Role, u16)> {
        let required = self.records.iter().filter(|tracked| tracked.is_required);
        required.filter_map(|tracked| match tracked.state {
            State::Refused(code) => Some((tracked.record.role, code)),
            State::Pending | State::Accepted => None,
        })
    }

    /// Whether CleverTap accepted a required record.
    pub fn is_partly_accepted(&self) -> bool {
        let mut required = self.records.iter().filter(|tracked| tracked.is_required);
        required.any(|tracked| tracked.state == State::Accepted)
    }

    fn is_pending(&self) -> bool {
        self.pending().next().is_some()
    }

    fn pending(&self) -> impl Iterator<Item = &Tracked<'e>> {
        let is_pending = |tracked: &&Tracked<'e>| tracked.state == State::Pending;
        self.records.iter().filter(is_pending)
    }

    fn pending_mut(&mut self) -> impl Iterator<Item = &mut Tracked<'e>> {
        let is_pending = |tracked: &&mut Tracked<'e>| tracked.state == State::Pending;
        self.records.iter_mut().filter(is_pending)
    }

    fn count_attempt(&mut self, attempt: &Attempt, started: Instant) {
        self.stats.attempts += 1;
        self.stats.duration = started.elapsed();
        if let Attempt::Answered { status, .. } = attempt {
            self.stats.status = Some(*status);
        }
    }

    /// Nothing more can be done in this invocation.
    fn give_up(&mut self, failure: Failure) {
        if self.pending().any(|tracked| tracked.is_required) {
            self.failure = Some(failure);
        }
    }

    /// Refuses every pending record, or only the profile where an event or a revenue record is pending
    /// beside it: nothing says that it was not the profile.
    fn refuse_pending(&mut self, code: u16) {
        let has_optional = self.pending().any(|tracked| !tracked.is_required);
        for tracked in self.pending_mut() {
            if !(has_optional && tracked.is_required) {
                tracked.state = State::Refused(code);
            }
        }
        if has_optional {
            self.stats.profile_refused = Some(code);
        }
    }
}

impl Uploader {
    /// Uploads events together, in their order. What CleverTap accepted is never sent again.
    pub async fn upload(
        &self,
        account: Account,
        mut secret: Arc<Secret>,
        deadline: Instant,
        uploads: &mut [&mut EventUpload<'_>],
    ) {
        let started = clock::instant();
        let mut backoff = Backoff::default();
        let mut connection_lost = false;
        let failure = loop {
            if clock::instant() >= deadline {
                break Failure::TimedOut;
            }
            let Some(credentials) = self.credentials(account, &secret) else {
                // The passcode may have been added a moment ago.
                match self.refreshed(&secret, deadline).await {
                    Some(changed) => secret = changed,
                    None => break Failure::NoSandboxPasscode,
                }
                continue;
            };
            let records: Vec<_> = uploads
                .iter()
                .flat_map(|upload| upload.pending())
                .map(|tracked| &tracked.record)
                .collect();
            let (body, count) = (upload_body(&records), records.len());
            let attempt = self.client.upload(credentials, body, count, deadline).await;
            let upload_ms = started.elapsed().as_millis();
            tracing::debug!(records = count, upload_ms, ?attempt, "upload attempt");
            for upload in uploads.iter_mut().filter(|upload| upload.is_pending()) {
                upload.count_attempt(&attempt, started);
            }
            let transient = match attempt {
                Attempt::Answered { status, response } => match response {
                    Response::Verdicts(verdicts) => {
                        apply(uploads, &verdicts);
                        if uploads.iter().all(|upload| !upload.is_pending()) {
                            return;
                        }
                        Failure::Busy(TRANSIENT_CODE)
                    }
                    Response::Refused(code) => {
                        let pending = uploads.iter().filter(|upload| upload.is_pending());
                        if pending.count() > 1 {
                            // One of several is the cause, so each is sent alone.
                            let one_by_one = self.upload_alone(account, secret, deadline, uploads);
                            return Box::pin(one_by_one).await;
                        }
                        for upload in uploads.iter_mut() {
                            upload.refuse_pending(code);
                        }
                        if uploads.iter().all(|upload| !upload.is_pending()) {
                            return;
                        }
                        continue;
                    }
                    Response::Unauthorized(code) => match self.refreshed(&secret, deadline).await {
                        Some(changed) => {
                            secret = changed;
                            continue;
                        }
                        None => break Failure::CredentialsRejected(code),
                    },
                    Response::Busy(code) => Failure::Busy(code),
                    Response::RetryLater(code) => break Failure::Busy(code),
                    Response::Unreadable | Response::Unexpected(_) => {
                        break Failure::UnexpectedResponse(status);
                    }
                },
                Attempt::NotConnected => Failure::Unreachable,
                // A pooled connection that died while the environment was frozen. Once only, because
                // CleverTap may have stored what was sent.
                Attempt::ConnectionLost if !connection_lost => {
                    connection_lost = true;
                    continue;
                }
                Attempt::ConnectionLost => break Failure::ConnectionLost,
                // A second attempt after a slow first one would double the event.
                Attempt::TimedOut => break Failure::TimedOut,
            };
            let resume = clock::instant() + backoff.next_delay();
            if resume >= deadline {
                break transient;
            }
            sleep_until(resume).await;
        };
        for upload in uploads {
            upload.give_up(failure);
        }
    }

    /// One upload per event, in order. After one that is not settled, no later one of its group is sent.
    async fn upload_alone(
        &self,
        account: Account,
        secret: Arc<Secret>,
        deadline: Instant,
        uploads: &mut [&mut EventUpload<'_>],
    ) {
        let mut blocked = HashSet::new();
        for upload in uploads.iter_mut().filter(|upload| upload.is_pending()) {
            if upload.group.is_some_and(|group| blocked.contains(group)) {
                upload.give_up(Failure::Blocked);
                continue;
            }
            self.upload(account, Arc::clone(&secret), deadline, &mut [&mut **upload]).await;
            if upload.failure.is_some() {
                blocked.extend(upload.group);
            }
        }
    }

    /// The secret, if it has changed since `seen` and can be read in time.
    async fn refreshed(&self, seen: &Secret, deadline: Instant) -> Option<Arc<Secret>> {
        let refresh = self.secrets.refresh(seen);
        timeout_at(deadline, refresh).await.ok().flatten()
    }

    /// `None` if the secret does not have the account's passcode.
    fn credentials<'c>(&'c self, account: Account, secret: &'c Secret) -> Option<Credentials<'c>> {
        let (account_id, passcode) = match account {
            Account::Main => (&self.account_id, &secret.clevertap_passcode),
            Account::Sandbox => {
                let passcode = secret.clevertap_sandbox_passcode.as_ref()?;
                (self.sandbox_account_id.as_ref()?, passcode)
            }
        };
        Some(Credentials { account_id, passcode })
    }
}

/// Applies the verdicts on all pending records, in the order in which they were sent.
fn apply(uploads: &mut [&mut EventUpload<'_>], verdicts: &[Verdict]) {
    let mut verdicts = verdicts.iter();
    for upload in uploads {
        let mut profile_refused = upload.stats.profile_refused;
        for (tracked, verdict) in upload.pending_mut().zip(&mut verdicts) {
            let refused = match *verdict {
                Verdict::Accepted => {
                    tracked.state = State::Accepted;
                    None
                }
                Verdict::Refused(code) => {
                    tracked.state = State::Refused(code);
                    Some(code)
                }
                Verdict::Transient(code) => Some(code),
            };
            if !tracked.is_required {
                profile_refused = refused;
            }
        }
        upload.stats.profile_refused = profile_refused;
    }
}

/// Exponential delays with full jitter, so that environments refused together do not return together.
#[derive(Debug, Default)]
struct Backoff {
    attempts: u32,
}

impl Backoff {
    fn next_delay(&mut self) -> Duration {
        let max = FIRST_DELAY.saturating_mul(1 << self.attempts.min(10)).min(MAX_DELAY);
        self.attempts += 1;
        max.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_up_to_a_maximum() {
        let mut backoff = Backoff::default();
        for attempt in 0..100 {
            let max = FIRST_DELAY * 2u32.pow(attempt.min(4));
            assert!(backoff.next_delay() <= max.min(MAX_DELAY));
        }
    }
}
