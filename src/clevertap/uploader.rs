//! Uploads the records of one or several events until each has its verdict or the time is up.
//!
//! It knows which attempts may be repeated and when to read the secret again. It does not know what a
//! verdict means for an event, nor where events come from.

use super::client::{Attempt, Client, Credentials};
use super::response::{Response, TRANSIENT_CODE, Verdict};
use super::{Account, Record, Role, upload_body};
use crate::aws::secret::{Secret, Secrets};
use crate::clock;
use http::HeaderValue;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use strum::IntoStaticStr;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Of one event in one invocation.
const MAX_ATTEMPTS: u32 = 4;
/// The first delay before an upload is repeated is at most this long, the next twice as long, …
const FIRST_DELAY: Duration = Duration::from_millis(200);
/// … and none is longer than this.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// How long a profile that CleverTap refused for now is waited for, once its event is settled.
const PROFILE_TIMEOUT: Duration = Duration::from_secs(1);

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
    pub unsettled: Option<Unsettled>,
    /// Whether CleverTap accepted other records of the event in an earlier invocation.
    is_rest: bool,
    /// Whether an attempt that may have been stored was repeated, which is done once.
    is_repeated: bool,
    pub stats: UploadStats,
}

/// Why a required record has no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsettled {
    /// The event is to be sent again later.
    Later(UploadFailure),
    /// CleverTap stored some records and did not say which.
    Unclear,
}

/// Why an upload has to be sent again later, grouped by who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum UploadFailure {
    // The operator.
    #[error(
        "CleverTap answered {0}: check that clevertap_passcode in the secret, CLEVERTAP_ACCOUNT_ID and CLEVERTAP_REGION belong to one account"
    )]
    CredentialsRejected(u16),
    #[error(
        "the secret has no clevertap_sandbox_passcode, which CLEVERTAP_SANDBOX_ACCOUNT_ID needs: add it"
    )]
    NoSandboxPasscode,

    // Nobody: a retry is enough.
    #[error("an earlier event of the same user is not settled; this one is sent again after it")]
    Blocked,
    /// Too many concurrent uploads (429), a server error (5xx) or a record refused for now (555).
    #[error("CleverTap is busy or has an error ({0}); the event is sent again")]
    Busy(u16),
    #[error("CleverTap could not be reached; the event is sent again")]
    Unreachable,
    #[error("CleverTap closed the connection without an answer; the event is sent again")]
    ConnectionLost,
    #[error("CleverTap did not answer in time; the event is sent again")]
    TimedOut,

    // A developer: this should not happen.
    #[error("CleverTap's answer ({0}) is not documented; the event is sent again")]
    UnexpectedResponse(u16),
}

impl UploadFailure {
    /// Whether CleverTap may have stored the records: then the next attempt may store them twice.
    pub fn may_be_stored(self) -> bool {
        match self {
            Self::Busy(code) => matches!(repeat_after(code), Repeat::No),
            Self::TimedOut | Self::UnexpectedResponse(_) => true,
            _ => false,
        }
    }
}

/// What is reported about an event's upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UploadStats {
    /// The last HTTP status that CleverTap answered.
    pub status: Option<u16>,
    pub attempts: u32,
    /// The code with which CleverTap refused the profile of an event that was relayed without it.
    pub profile_refused: Option<u16>,
    /// With all attempts and waits.
    pub duration: Duration,
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

/// Whether an upload may be sent again in the same invocation.
#[derive(Debug, Clone, Copy)]
enum Repeat {
    /// It was surely not stored.
    Yes,
    /// It was probably not stored.
    Once,
    /// It may have been stored: the sender's own retry is the next attempt.
    No,
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
        Self {
            group,
            records: records.collect(),
            unsettled: None,
            is_rest: false,
            is_repeated: false,
            stats: UploadStats::default(),
        }
    }

    /// Leaves out what CleverTap accepted in an earlier invocation, and the profile, which goes only with
    /// the first attempt.
    pub fn skip_accepted(&mut self, accepted: &[Role]) {
        if !accepted.is_empty() {
            self.is_rest = true;
            self.records
                .retain(|tracked| tracked.is_required && !accepted.contains(&tracked.record.role));
        }
    }

    /// Whether CleverTap accepted a part of the event's required records, in this invocation or before.
    pub fn is_partial(&self) -> bool {
        self.is_rest || !self.accepted().is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The required records that CleverTap accepted.
    pub fn accepted(&self) -> Vec<Role> {
        self.required(|state| state == State::Accepted)
    }

    /// The required records that CleverTap has not accepted.
    pub fn missing(&self) -> Vec<Role> {
        self.required(|state| state != State::Accepted)
    }

    /// The code of the first required record that CleverTap refused permanently.
    pub fn refusal(&self) -> Option<u16> {
        let mut required = self.records.iter().filter(|tracked| tracked.is_required);
        required.find_map(|tracked| match tracked.state {
            State::Refused(code) => Some(code),
            State::Pending | State::Accepted => None,
        })
    }

    fn required(&self, is_wanted: impl Fn(State) -> bool) -> Vec<Role> {
        let required = self.records.iter().filter(|tracked| tracked.is_required);
        required
            .filter(|tracked| is_wanted(tracked.state))
            .map(|tracked| tracked.record.role)
            .collect()
    }

    /// Whether a required record still waits for its verdict.
    fn is_open(&self) -> bool {
        let is_waiting = |tracked: &Tracked<'_>| tracked.is_required && tracked.is_pending();
        self.unsettled.is_none() && self.records.iter().any(is_waiting)
    }

    fn pending(&mut self) -> impl Iterator<Item = &mut Tracked<'e>> {
        self.records.iter_mut().filter(|tracked| tracked.is_pending())
    }

    fn count_attempt(&mut self, attempt: &Attempt, started: Instant) {
        self.stats.attempts += 1;
        self.stats.duration = started.elapsed();
        if let Attempt::Answered { status, .. } = attempt {
            self.stats.status = Some(*status);
        }
    }

    fn apply(&mut self, verdicts: &mut std::slice::Iter<'_, Verdict>) {
        let mut profile_refused = self.stats.profile_refused;
        for tracked in self.pending() {
            let refusal = match verdicts.next() {
                Some(Verdict::Accepted) => {
                    tracked.state = State::Accepted;
                    None
                }
                Some(Verdict::Refused(code)) => {
                    tracked.state = State::Refused(*code);
                    Some(*code)
                }
                Some(Verdict::Transient(code)) => Some(*code),
                Some(Verdict::Unnamed) | None => continue,
            };
            if !tracked.is_required {
                profile_refused = refusal;
            }
        }
        self.stats.profile_refused = profile_refused;
    }

    /// An upload of this event alone was refused without naming a record: the profile is left out first,
    /// because nothing says that it was not the cause.
    fn refuse(&mut self, code: u16) {
        let has_profile = self.pending().any(|tracked| !tracked.is_required);
        for tracked in self.pending() {
            if !(has_profile && tracked.is_required) {
                tracked.state = State::Refused(code);
            }
        }
        if has_profile {
            self.stats.profile_refused = Some(code);
        }
    }

    fn stop(&mut self, why: Unsettled) {
        if self.is_open() {
            self.unsettled = Some(why);
        }
    }

    fn stop_unless(&mut self, repeat: Repeat, failure: UploadFailure) {
        let is_allowed = match repeat {
            Repeat::Yes => true,
            Repeat::Once => !std::mem::replace(&mut self.is_repeated, true),
            Repeat::No => false,
        };
        if !is_allowed || self.stats.attempts >= MAX_ATTEMPTS {
            self.stop(Unsettled::Later(failure));
        }
    }
}

impl Tracked<'_> {
    fn is_pending(&self) -> bool {
        self.state == State::Pending
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
        let failure = loop {
            let open = uploads.iter().filter(|upload| upload.is_open()).count();
            if open == 0 {
                return;
            }
            if clock::instant() >= deadline {
                break UploadFailure::TimedOut;
            }
            let Some(credentials) = self.credentials(account, &secret) else {
                // The passcode may have been added a moment ago.
                match self.refreshed(&secret, deadline).await {
                    Some(changed) => secret = changed,
                    None => break UploadFailure::NoSandboxPasscode,
                }
                continue;
            };
            let attempt = self.attempt(credentials, deadline, uploads).await;
            for upload in uploads.iter_mut().filter(|upload| upload.is_open()) {
                upload.count_attempt(&attempt, started);
            }
            let (repeat, failure) = match attempt {
                Attempt::Answered { status, response } => match response {
                    Response::Verdicts(verdicts) => {
                        let mut remaining = verdicts.iter();
                        for upload in uploads.iter_mut().filter(|upload| upload.is_open()) {
                            upload.apply(&mut remaining);
                        }
                        if verdicts.contains(&Verdict::Unnamed) {
                            if open > 1 {
                                return self.upload_alone(account, secret, deadline, uploads).await;
                            }
                            for upload in uploads.iter_mut() {
                                if let Some(code) = upload.refusal() {
                                    upload.refuse(code);
                                }
                            }
                            continue;
                        }
                        (Repeat::Yes, UploadFailure::Busy(TRANSIENT_CODE))
                    }
                    // One of several is the cause.
                    Response::Refused(_) if open > 1 => {
                        return self.upload_alone(account, secret, deadline, uploads).await;
                    }
                    Response::Refused(code) => {
                        for upload in uploads.iter_mut().filter(|upload| upload.is_open()) {
                            upload.refuse(code);
                        }
                        continue;
                    }
                    Response::Unauthorized(code) => match self.refreshed(&secret, deadline).await {
                        Some(changed) => {
                            secret = changed;
                            continue;
                        }
                        None => break UploadFailure::CredentialsRejected(code),
                    },
                    Response::Transient(code) => (repeat_after(code), UploadFailure::Busy(code)),
                    Response::Unclear => {
                        for upload in uploads {
                            upload.stop(Unsettled::Unclear);
                        }
                        return;
                    }
                    Response::CutShort => break UploadFailure::TimedOut,
                    Response::Unexpected(_) => break UploadFailure::UnexpectedResponse(status),
                },
                Attempt::NotConnected => (Repeat::Yes, UploadFailure::Unreachable),
                // Usually a pooled connection that died while the environment was frozen.
                Attempt::ConnectionLost => (Repeat::Once, UploadFailure::ConnectionLost),
                Attempt::TimedOut => break UploadFailure::TimedOut,
            };
            for upload in uploads.iter_mut().filter(|upload| upload.is_open()) {
                upload.stop_unless(repeat, failure);
            }
            let delay = match failure {
                // A new connection has nothing to wait for.
                UploadFailure::ConnectionLost => Duration::ZERO,
                _ => backoff.next_delay(),
            };
            let resume = clock::instant() + delay;
            if resume >= deadline {
                break failure;
            }
            if uploads.iter().any(|upload| upload.is_open()) {
                sleep_until(resume).await;
            }
        };
        for upload in uploads {
            upload.stop(Unsettled::Later(failure));
        }
    }

    /// Sends the profile of a settled event once more, alone, if CleverTap refused it for now.
    pub async fn retry_profile(
        &self,
        account: Account,
        secret: &Secret,
        upload: &mut EventUpload<'_>,
    ) {
        if upload.is_open() || upload.unsettled.is_some() {
            return;
        }
        let Some(profile) = upload.pending().next() else {
            return;
        };
        let Some(credentials) = self.credentials(account, secret) else {
            return;
        };
        let (body, role) = (upload_body(&[&profile.record]), profile.record.role);
        let deadline = clock::instant() + PROFILE_TIMEOUT;
        let attempt = self.client.upload(credentials, body, &[role], deadline).await;
        tracing::debug!(?attempt, "sent a profile again");
        if let Attempt::Answered { response: Response::Verdicts(verdicts), .. } = attempt {
            upload.apply(&mut verdicts.iter());
        }
    }

    async fn attempt(
        &self,
        credentials: Credentials<'_>,
        deadline: Instant,
        uploads: &[&mut EventUpload<'_>],
    ) -> Attempt {
        let records: Vec<_> = uploads
            .iter()
            .filter(|upload| upload.is_open())
            .flat_map(|upload| &upload.records)
            .filter(|tracked| tracked.is_pending())
            .map(|tracked| &tracked.record)
            .collect();
        let roles: Vec<_> = records.iter().map(|record| record.role).collect();
        let body = upload_body(&records);
        let attempt = self.client.upload(credentials, body, &roles, deadline).await;
        tracing::debug!(records = roles.len(), ?attempt, "upload attempt");
        attempt
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
        for upload in uploads.iter_mut().filter(|upload| upload.is_open()) {
            if upload.group.is_some_and(|group| blocked.contains(group)) {
                upload.stop(Unsettled::Later(UploadFailure::Blocked));
                continue;
            }
            let (secret, alone) = (Arc::clone(&secret), &mut [&mut **upload]);
            // Boxed, because this is a recursion.
            Box::pin(self.upload(account, secret, deadline, alone)).await;
            if matches!(upload.unsettled, Some(Unsettled::Later(_))) {
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

/// CleverTap rejects 429 and 555 before it stores anything, and usually 503; it does not document what 408,
/// 500, 502 and 504 mean for the records.
fn repeat_after(code: u16) -> Repeat {
    match code {
        429 | TRANSIENT_CODE => Repeat::Yes,
        503 => Repeat::Once,
        _ => Repeat::No,
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
