//! Uploads the records of one or several events until each has its verdict or the time is up.
//!
//! It knows which attempts may be repeated and when to read the secret again. It does not know what a
//! verdict means for an event, nor where events come from. The events of one upload are of different users.

use super::client::{Attempt, Client, Credentials};
use super::response::{NO_CODE, Repeat, Response, TRANSIENT_CODE, Verdict, repeat_after};
use super::{Account, Record, Role, upload_body};
use crate::aws::secret::{Secret, Secrets};
use crate::clock;
use http::HeaderValue;
use std::sync::Arc;
use std::time::Duration;
use strum::IntoStaticStr;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Of one event in one invocation.
const MAX_ATTEMPTS: u32 = 4;
/// How many milliseconds an upload waits at most before each repeat. It waits a random part of that, so that
/// environments refused together do not return together.
const MAX_DELAYS: [u64; MAX_ATTEMPTS as usize] = [200, 400, 800, 1600];
/// An attempt with less time than this is not worth its risk: without an answer, the event may be stored.
const MIN_ATTEMPT: Duration = Duration::from_secs(1);
/// How long profiles that are still open are waited for, once their events are settled.
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
    records: Vec<Tracked<'e>>,
    /// Why a required record has no verdict.
    pub unsettled: Option<Unsettled>,
    /// Whether an attempt that may have been stored was repeated, which is done once.
    is_repeated: bool,
    /// How often CleverTap refused all records without saying why.
    unexplained: u32,
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
#[strum(serialize_all = "snake_case", const_into_str)]
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
    #[error("there was too little time left for an upload; the event is sent again")]
    TooLate,
    /// Too many concurrent uploads (429) or a server error (5xx).
    #[error("CleverTap is busy or has an error ({0}); the event is sent again")]
    Busy(u16),
    /// A record of the event, which is not stored.
    #[error("CleverTap refused the event for now ({0}); it is sent again")]
    #[strum(serialize = "busy")]
    RefusedForNow(u16),
    #[error("CleverTap could not be reached; the event is sent again")]
    Unreachable,
    #[error("CleverTap closed the connection without an answer; the event is sent again")]
    ConnectionLost,
    #[error("CleverTap did not answer in time; the event is sent again")]
    TimedOut,

    // A developer: this should not happen.
    #[error("CleverTap's answer ({0}) is not documented; the event is sent again")]
    UnexpectedResponse(u16),
    /// Nothing was stored, with the event alone and without its profile, too.
    #[error("CleverTap refuses the event and does not say why; it is sent again for a day")]
    Unexplained,
}

impl UploadFailure {
    /// Whether CleverTap may have stored the records: then the next attempt may store them twice.
    pub fn may_be_stored(self) -> bool {
        match self {
            Self::Busy(code) => !matches!(repeat_after(code), Repeat::Yes),
            Self::ConnectionLost | Self::TimedOut | Self::UnexpectedResponse(_) => true,
            Self::CredentialsRejected(_)
            | Self::NoSandboxPasscode
            | Self::TooLate
            | Self::RefusedForNow(_)
            | Self::Unreachable
            | Self::Unexplained => false,
        }
    }
}

/// What is reported about an event's upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UploadStats {
    /// The last HTTP status that CleverTap answered.
    pub status: Option<u16>,
    pub attempts: u32,
    /// The code with which CleverTap refused the profile, which was not sent again after that.
    pub profile_refused: Option<u16>,
    /// With all attempts and waits.
    pub duration: Duration,
}

/// What CleverTap said about profiles that were uploaded without their events.
#[derive(Debug, Default)]
pub struct JudgedProfiles {
    verdicts: std::vec::IntoIter<Verdict>,
    are_under_way: bool,
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
    /// In an earlier invocation.
    AcceptedBefore,
    Refused(u16),
}

/// What follows an attempt.
enum Step {
    /// Another one at once, with what is still open.
    Next,
    /// Another one after a while, with what is still open.
    Repeat(UploadFailure),
    /// One of several events is the cause: each is sent alone.
    Alone,
    /// The passcode is missing or rejected: another attempt, if the secret has changed.
    ReadSecret(UploadFailure),
    Stop(Unsettled),
}

impl<'e> EventUpload<'e> {
    /// A profile alone is required; beside an event or a revenue record it is not.
    pub fn new(records: Vec<Record<'e>>) -> Self {
        let only_profiles = records.iter().all(|record| !record.role.is_required());
        let records = records.into_iter().map(|record| Tracked {
            is_required: only_profiles || record.role.is_required(),
            record,
            state: State::Pending,
        });
        Self {
            records: records.collect(),
            unsettled: None,
            is_repeated: false,
            unexplained: 0,
            stats: UploadStats::default(),
        }
    }

    /// Leaves out the required records that CleverTap accepted in an earlier invocation.
    pub fn skip_accepted(&mut self, accepted: &[Role]) {
        for tracked in &mut self.records {
            if tracked.is_required && accepted.contains(&tracked.record.role) {
                tracked.state = State::AcceptedBefore;
            }
        }
    }

    /// The required records that CleverTap accepted in this invocation.
    pub fn accepted(&self) -> Vec<Role> {
        self.required(|state| state == State::Accepted)
    }

    /// The required records that CleverTap has not accepted.
    pub fn missing(&self) -> Vec<Role> {
        self.required(|state| !matches!(state, State::Accepted | State::AcceptedBefore))
    }

    /// Whether CleverTap accepted a part of the event's required records, in this invocation or before.
    pub fn is_partial(&self) -> bool {
        self.missing().len() < self.required(|_| true).len()
    }

    /// Whether the event's only record is its profile.
    pub fn is_profile_only(&self) -> bool {
        self.records.iter().all(|tracked| tracked.record.role == Role::Profile)
    }

    /// The code of the first required record that CleverTap refused permanently.
    pub fn refusal(&self) -> Option<u16> {
        let mut required = self.records.iter().filter(|tracked| tracked.is_required);
        required.find_map(|tracked| match tracked.state {
            State::Refused(code) => Some(code),
            State::Pending | State::Accepted | State::AcceptedBefore => None,
        })
    }

    /// The profile of a settled event, if CleverTap has neither accepted nor refused it for good.
    pub fn open_profile(&self) -> Option<&Record<'e>> {
        let is_settled = !self.is_open() && !matches!(self.unsettled, Some(Unsettled::Later(_)));
        let is_profile = |tracked: &&Tracked<'_>| tracked.is_pending() && !tracked.is_required;
        let open = self.records.iter().find(is_profile).filter(|_| is_settled);
        open.map(|tracked| &tracked.record)
    }

    /// Judges the open profile, if there is one, after its last attempt. Without a verdict it is dropped. Returns
    /// whether CleverTap may still be working on it.
    pub fn close_profile(&mut self, judged: &mut JudgedProfiles) -> bool {
        if self.open_profile().is_none() {
            return false;
        }
        self.apply(&mut judged.verdicts.by_ref().take(1));
        if self.open_profile().is_some() {
            self.stats.profile_refused.get_or_insert(NO_CODE);
        }
        judged.are_under_way
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

    fn apply(&mut self, verdicts: &mut impl Iterator<Item = Verdict>) {
        let mut profile_refused = self.stats.profile_refused;
        for (tracked, verdict) in self.pending().zip(verdicts) {
            let refusal = match verdict {
                Verdict::Accepted => {
                    tracked.state = State::Accepted;
                    None
                }
                Verdict::Refused(code) => {
                    tracked.state = State::Refused(code);
                    Some(code)
                }
                // A required one is sent again.
                Verdict::Transient(code) => Some(code).filter(|_| !tracked.is_required),
                Verdict::Unnamed => continue,
            };
            if tracked.record.role == Role::Profile {
                profile_refused = refusal;
            }
        }
        self.stats.profile_refused = profile_refused;
    }

    /// An upload of this event alone was refused without naming a record: the profile is left out first,
    /// because nothing says that it was not the cause.
    fn refuse(&mut self, code: u16) {
        if !self.leave_out_profile(code) {
            self.refuse_required(code);
        }
    }

    fn refuse_required(&mut self, code: u16) {
        for tracked in self.records.iter_mut().filter(|it| it.is_required && it.is_pending()) {
            tracked.state = State::Refused(code);
            if tracked.record.role == Role::Profile {
                self.stats.profile_refused = Some(code);
            }
        }
    }

    /// Returns whether there was a profile beside the event.
    fn leave_out_profile(&mut self, code: u16) -> bool {
        let Some(profile) = self.pending().find(|tracked| !tracked.is_required) else {
            return false;
        };
        profile.state = State::Refused(code);
        self.stats.profile_refused = Some(code);
        true
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
    /// Uploads events together. What CleverTap accepted is never sent again. Returns the secret that was used
    /// last.
    pub async fn upload(
        &self,
        account: Account,
        mut secret: Arc<Secret>,
        deadline: Instant,
        uploads: &mut [&mut EventUpload<'_>],
    ) -> Arc<Secret> {
        let started = clock::instant();
        let mut max_delays = MAX_DELAYS.iter();
        loop {
            let open = uploads.iter_mut().filter(|upload| upload.is_open());
            let mut open: Vec<_> = open.map(|upload| &mut **upload).collect();
            if open.is_empty() {
                return secret;
            }
            let is_late = clock::instant() + MIN_ATTEMPT > deadline;
            let step = match self.credentials(account, &secret) {
                _ if is_late => Step::Stop(Unsettled::Later(UploadFailure::TooLate)),
                // It may have been added a moment ago.
                None => Step::ReadSecret(UploadFailure::NoSandboxPasscode),
                Some(credentials) => {
                    let attempt = self.attempt(credentials, deadline, &pending(&open)).await;
                    for upload in &mut open {
                        upload.count_attempt(&attempt, started);
                    }
                    after(attempt, &mut open)
                }
            };
            match step {
                Step::Next => {}
                Step::Repeat(failure) => {
                    let resume = clock::instant() + delay_before_repeat(failure, &mut max_delays);
                    if resume + MIN_ATTEMPT > deadline {
                        stop(&mut open, Unsettled::Later(failure));
                    } else if open.iter().any(|upload| upload.is_open()) {
                        sleep_until(resume).await;
                    }
                }
                Step::Alone => return self.upload_alone(account, secret, deadline, uploads).await,
                Step::ReadSecret(failure) => match self.refreshed(&secret, deadline).await {
                    Some(changed) => secret = changed,
                    None => stop(&mut open, Unsettled::Later(failure)),
                },
                Step::Stop(why) => stop(&mut open, why),
            }
        }
    }

    /// Uploads the profiles of settled events once more, without their events.
    pub async fn upload_profiles(
        &self,
        account: Account,
        secret: &Secret,
        profiles: Vec<&Record<'_>>,
    ) -> JudgedProfiles {
        let (Some(credentials), false) = (self.credentials(account, secret), profiles.is_empty())
        else {
            return JudgedProfiles::default();
        };
        let deadline = clock::instant() + PROFILE_TIMEOUT;
        let (verdicts, are_under_way) = match self.attempt(credentials, deadline, &profiles).await {
            Attempt::Answered { response: Response::Verdicts(verdicts), .. } => (verdicts, false),
            Attempt::TimedOut | Attempt::Answered { response: Response::CutShort, .. } => {
                (Vec::new(), true)
            }
            _ => (Vec::new(), false),
        };
        JudgedProfiles { verdicts: verdicts.into_iter(), are_under_way }
    }

    async fn attempt(
        &self,
        credentials: Credentials<'_>,
        deadline: Instant,
        records: &[&Record<'_>],
    ) -> Attempt {
        let roles: Vec<_> = records.iter().map(|record| record.role).collect();
        let attempt = self.client.upload(credentials, upload_body(records), &roles, deadline).await;
        tracing::debug!(records = roles.len(), ?attempt, "upload attempt");
        attempt
    }

    /// One upload per event, in order.
    async fn upload_alone(
        &self,
        account: Account,
        mut secret: Arc<Secret>,
        deadline: Instant,
        uploads: &mut [&mut EventUpload<'_>],
    ) -> Arc<Secret> {
        for upload in uploads.iter_mut().filter(|upload| upload.is_open()) {
            // Boxed, because this is a recursion.
            secret = Box::pin(self.upload(account, secret, deadline, &mut [upload])).await;
        }
        secret
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

/// Judges the open events by the result of an attempt.
fn after(attempt: Attempt, open: &mut [&mut EventUpload<'_>]) -> Step {
    let later = |failure| Step::Stop(Unsettled::Later(failure));
    let repeat = |open: &mut [&mut EventUpload<'_>], repeat, failure| {
        for upload in open {
            upload.stop_unless(repeat, failure);
        }
        Step::Repeat(failure)
    };
    let (status, response) = match attempt {
        Attempt::Answered { status, response } => (status, response),
        Attempt::NotConnected => return repeat(open, Repeat::Yes, UploadFailure::Unreachable),
        // Usually a pooled connection that died while the environment was frozen.
        Attempt::ConnectionLost => {
            return repeat(open, Repeat::Once, UploadFailure::ConnectionLost);
        }
        Attempt::TimedOut => return later(UploadFailure::TimedOut),
    };
    match response {
        Response::Verdicts(verdicts) => {
            let mut remaining = verdicts.iter().copied();
            for upload in open.iter_mut() {
                upload.apply(&mut remaining);
            }
            if verdicts.contains(&Verdict::Unnamed) {
                let [upload] = open else {
                    return Step::Alone;
                };
                if let Some(code) = upload.refusal() {
                    upload.refuse_required(code);
                }
                return Step::Next;
            }
            let transient = verdicts.iter().find_map(|verdict| match verdict {
                Verdict::Transient(code) => Some(*code),
                _ => None,
            });
            let code = transient.unwrap_or(TRANSIENT_CODE);
            repeat(open, Repeat::Yes, UploadFailure::RefusedForNow(code))
        }
        Response::Refused(code) => {
            let [upload] = open else {
                return Step::Alone;
            };
            upload.refuse(code);
            Step::Next
        }
        Response::Unexplained => {
            let is_first = open.iter().all(|upload| upload.unexplained == 0);
            for upload in open.iter_mut() {
                upload.unexplained += 1;
            }
            match open {
                _ if is_first => repeat(open, Repeat::Yes, UploadFailure::Unexplained),
                [upload] => {
                    if upload.leave_out_profile(NO_CODE) {
                        Step::Next
                    } else {
                        later(UploadFailure::Unexplained)
                    }
                }
                _ => Step::Alone,
            }
        }
        Response::Unauthorized(code) => Step::ReadSecret(UploadFailure::CredentialsRejected(code)),
        Response::Transient(code) => repeat(open, repeat_after(code), UploadFailure::Busy(code)),
        Response::Unclear => Step::Stop(Unsettled::Unclear),
        Response::CutShort => later(UploadFailure::TimedOut),
        Response::Unexpected(_) => later(UploadFailure::UnexpectedResponse(status)),
    }
}

fn stop(open: &mut [&mut EventUpload<'_>], why: Unsettled) {
    for upload in open {
        upload.stop(why);
    }
}

/// The records of the next attempt.
fn pending<'u>(open: &'u [&mut EventUpload<'_>]) -> Vec<&'u Record<'u>> {
    let records = open.iter().flat_map(|upload| &upload.records);
    records
        .filter(|tracked| tracked.is_pending())
        .map(|tracked| &tracked.record)
        .collect()
}

/// A random part of the next longest delay. A new connection has nothing to wait for.
fn delay_before_repeat<'m>(
    failure: UploadFailure,
    max_delays: &mut impl Iterator<Item = &'m u64>,
) -> Duration {
    if failure == UploadFailure::ConnectionLost {
        return Duration::ZERO;
    }
    let milliseconds = max_delays.next().copied().unwrap_or_default();
    Duration::from_millis(milliseconds).mul_f64(fastrand::f64())
}
