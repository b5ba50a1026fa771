//! The heart: webhooks in, one report each out, within the time that Purchasely waits.
//!
//! Each event is one [`Job`] from the first step to the last: map → claim → upload → settle. A batch is
//! relayed in rounds, with at most one event of a user in each, so that nothing reaches CleverTap before an
//! earlier event of its user is settled. One event is a batch of one. It does not know how webhooks arrive,
//! nor what an outcome answers.

use crate::aws::claims::{self, Claim, Claims};
use crate::aws::queues::{NewMessage, Queue, REASON, RECEIVED_AT, RECORDS, REPLAYED};
use crate::aws::secret::Secret;
use crate::clevertap::{Account, EventUpload, NO_CODE, Role, Unsettled, UploadFailure, Uploader};
use crate::clock;
use crate::forward;
use crate::mapping::identity::purchasely_id;
use crate::mapping::{self, FieldOutcome, Mapped, Notes, Origin, Rules};
use crate::outcome::{Failure, Outcome, Permanent};
use crate::purchasely::Event;
use crate::report::Report;
use crate::telemetry::{UnknownEvents, catch_panic};
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::{Instant, timeout_at};

/// Purchasely gives up after 10 s, API Gateway after 9.5 s, Lambda after 9 s.
pub const WORK: Duration = Duration::from_secs(8);
/// What uploads leave of it, so that there is always time to settle.
const SETTLING: Duration = Duration::from_millis(1500);
/// What a round takes at most, but for uploads that are repeated.
const MIN_ROUND: Duration = Duration::from_millis(2500);
/// For how long an event is sent again that CleverTap refuses without saying why.
const UNEXPLAINED_FOR: Duration = Duration::from_hours(24);
/// SQS deletes a message after 14 days.
const MAX_AGE_IN_QUEUE: Duration = Duration::from_hours(13 * 24);

/// The moments by which an event's work must have ended, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// The operator's backend has until then.
    pub forwarding_ends: Instant,
    /// No upload starts or is awaited after this.
    pub uploads_end: Instant,
    /// Nothing is awaited after this.
    pub ends: Instant,
}

impl Budget {
    /// Counts from `received`, less the age of the request at that moment.
    pub fn start(received: Instant, age: Duration) -> Self {
        let work = WORK.saturating_sub(age);
        Self {
            forwarding_ends: received + forward::TIME.saturating_sub(age),
            uploads_end: received + work.saturating_sub(SETTLING),
            ends: received + work,
        }
    }
}

/// One webhook to relay, however it arrived.
#[derive(Debug)]
pub struct Delivery<'d> {
    /// The raw webhook.
    pub body: &'d [u8],
    pub event: Result<Event<'d>, Undeliverable>,
    pub origin: Origin,
    /// The only records that are still to be sent; `None` is all of them.
    pub records: Option<Vec<Role>>,
    /// `None` for a webhook from the HTTP endpoint.
    pub queued: Option<Queued<'d>>,
}

/// Why an event can never be relayed, and where the function panicked over it, if it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeliverable {
    pub why: Permanent,
    pub panicked_at: Option<String>,
}

/// What the event queue knows of a webhook.
#[derive(Debug, Clone, Copy)]
pub struct Queued<'d> {
    /// The events of one group are relayed in order.
    pub group: Option<&'d str>,
    /// When SQS got it, as time since 1970.
    pub sent_at: Option<Duration>,
}

/// How a delivery of a batch ended.
#[derive(Debug)]
pub struct Relayed {
    pub report: Report,
    /// Whether CleverTap may still be working on its profile, or on that of an earlier event of the group.
    pub is_after_profile: bool,
    /// Whether it is to be delivered again: it is not settled, or only its message keeps the group waiting for its
    /// profile.
    pub comes_again: bool,
}

/// Relays events to the operator's CleverTap accounts.
#[derive(Debug)]
pub struct Relay {
    pub rules: Rules,
    pub uploader: Uploader,
    /// Whether CleverTap only checks what it is sent.
    pub is_dry_run: bool,
    /// Without it, an event may be relayed twice. A dry run has none.
    pub claims: Option<Claims>,
    /// Without it, an event that can never be relayed fails.
    pub dead_letters: Option<Queue>,
    pub unknown_events: UnknownEvents,
}

/// One event on its way through the relay.
struct Job<'d> {
    delivery: &'d Delivery<'d>,
    /// The key of its claim, if there is something to send.
    key: Option<String>,
    decision: Decision<'d>,
    notes: Notes,
    is_unknown: bool,
    is_profile_only: bool,
    dedup_unavailable: bool,
    /// When its claim was first taken, as time since 1970.
    first_at: Option<Duration>,
    /// `None` until its turn is over.
    outcome: Option<Outcome>,
    hold: Option<Hold>,
}

/// Why no later event of a user may be sent in this invocation, although an event is settled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Its claim could not be completed.
    ClaimOpen,
    /// CleverTap may still be working on its profile.
    ProfileUnderWay,
    Both,
}

/// What is to be done for an event.
enum Decision<'d> {
    End(Verdict),
    Send {
        account: Account,
        upload: EventUpload<'d>,
    },
}

/// What is to be settled.
#[derive(Clone)]
enum Verdict {
    Ended(Outcome),
    /// It can never be relayed.
    Undeliverable(Undeliverable),
}

impl Relay {
    /// Relays one delivery, with the secret that was read for it.
    pub async fn relay(
        &self,
        delivery: &Delivery<'_>,
        secret: Arc<Secret>,
        budget: Budget,
    ) -> Report {
        let mut jobs = [self.decide(delivery)];
        self.take_turns(&mut jobs, Some(Arc::clone(&secret)), budget).await;
        let [job] = jobs;
        job.report(Outcome::Failed(Failure::Upload(UploadFailure::TooLate)), Some(&secret))
    }

    /// Puts one delivery into a queue instead, whose messages are relayed later. What needs no upload is
    /// settled at once.
    pub async fn enqueue(&self, delivery: &Delivery<'_>, secret: &Secret, queue: &Queue) -> Report {
        let mut job = self.decide(delivery);
        let Some(key) = job.key.as_deref() else {
            let settled = self.settle(&job).await;
            job.end(settled);
            return job.report(Outcome::Waiting, Some(secret));
        };
        let is_replayed = delivery.origin == Origin::Redelivered;
        let message = NewMessage {
            body: delivery.body,
            attributes: vec![
                received_now(),
                (REPLAYED, is_replayed.then_some("true".into())),
                (RECORDS, delivery.records.as_deref().map(Role::list).map(Cow::from)),
            ],
            group: &user_of(delivery),
            // Within five minutes of the first delivery, an operator may send what has become a dead letter.
            once: (!is_replayed).then_some(key),
        };
        let is_stored = queue.send(&message).await;
        // Whoever relays it reports what mapping it noticed.
        job.notes = Notes::default();
        let failed = Outcome::Failed(Failure::QueueFailed);
        job.report(if is_stored { Outcome::Queued } else { failed }, Some(secret))
    }

    /// Relays a batch in its order, as far as the time goes, and nothing that needs an upload without a secret. Returns how
    /// each delivery ended, in the same order.
    pub async fn relay_batch(
        &self,
        deliveries: &[Delivery<'_>],
        secret: Option<Arc<Secret>>,
        budget: Budget,
    ) -> Vec<Relayed> {
        let mut jobs: Vec<_> = deliveries.iter().map(|delivery| self.decide(delivery)).collect();
        self.take_turns(&mut jobs, secret.clone(), budget).await;
        let mut after_profile = HashSet::new();
        let relayed = jobs.into_iter().map(|job| {
            let group = job.delivery.group();
            let hold = job.hold;
            if matches!(hold, Some(Hold::ProfileUnderWay | Hold::Both)) {
                after_profile.extend(group);
            }
            let report = job.report(Outcome::Waiting, secret.as_deref());
            // Only a done claim makes it a duplicate.
            let is_held = report.outcome == Outcome::Relayed
                && hold == Some(Hold::ProfileUnderWay)
                && self.claims.is_some();
            Relayed {
                is_after_profile: group.is_some_and(|group| after_profile.contains(group)),
                comes_again: !report.outcome.is_settled() || is_held,
                report,
            }
        });
        relayed.collect()
    }

    /// Ends each job in its turn, until the time is up. What then has no outcome is untouched.
    async fn take_turns(
        &self,
        jobs: &mut [Job<'_>],
        mut secret: Option<Arc<Secret>>,
        budget: Budget,
    ) {
        if secret.is_none() {
            for job in jobs.iter_mut().filter(|job| job.needs_upload()) {
                job.decision = Decision::ended(Outcome::Failed(Failure::SecretUnavailable));
            }
        }
        loop {
            if !self.is_dry_run {
                end_copies(jobs);
            }
            let mut turns = next_turns(jobs);
            let is_round = turns.iter().all(|job| job.needs_upload());
            // What needs no upload costs no round.
            turns.retain(|job| is_round || !job.needs_upload());
            let least = if is_round { MIN_ROUND } else { Duration::ZERO };
            if turns.is_empty() || clock::instant() + least > budget.uploads_end {
                return;
            }
            let turn = async {
                match &mut secret {
                    Some(secret) if is_round => self.round(&mut turns, secret, budget).await,
                    _ => {
                        let settled = join_all(turns.iter().map(|job| self.settle(job))).await;
                        turns.iter_mut().zip(settled).for_each(|(job, settled)| job.end(settled));
                    }
                }
            };
            let failure = match timeout_at(budget.ends, AssertUnwindSafe(turn).catch_unwind()).await
            {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => Failure::Panicked,
                Err(_) => Failure::Upload(UploadFailure::TimedOut),
            };
            return turns.iter_mut().for_each(|job| job.fail(failure));
        }
    }

    /// Claims, uploads and settles at most one event of each user. Profiles that are still open go together in
    /// one more upload, beside that.
    async fn round(&self, jobs: &mut [&mut Job<'_>], secret: &mut Arc<Secret>, budget: Budget) {
        join_all(jobs.iter_mut().map(|job| self.claim(job))).await;
        let [mut main, mut sandbox] = [Vec::new(), Vec::new()];
        for job in jobs.iter_mut() {
            match &mut job.decision {
                Decision::Send { account: Account::Main, upload } => main.push(upload),
                Decision::Send { account: Account::Sandbox, upload } => sandbox.push(upload),
                Decision::End(_) => {}
            }
        }
        let upload = |account, uploads| {
            self.uploader.upload(account, Arc::clone(secret), budget.uploads_end, uploads)
        };
        let uploads =
            join(upload(Account::Main, &mut main), upload(Account::Sandbox, &mut sandbox));
        let (main, sandbox) = uploads.await;
        // The one that was read again, if one was.
        *secret = if Arc::ptr_eq(&main, secret) { sandbox } else { main };

        let profiles = |account| {
            let open = jobs.iter().filter_map(move |job| job.upload_to(account)?.open_profile());
            self.uploader.upload_profiles(account, secret, open.collect())
        };
        let profiles = join(profiles(Account::Main), profiles(Account::Sandbox));
        let settled = join_all(jobs.iter().map(|job| self.settle(job)));
        let ((mut main, mut sandbox), settled) = join(profiles, settled).await;
        for (job, settled) in jobs.iter_mut().zip(settled) {
            if let Decision::Send { account, upload } = &mut job.decision {
                let judged = match account {
                    Account::Main => &mut main,
                    Account::Sandbox => &mut sandbox,
                };
                job.hold = upload.close_profile(judged).then_some(Hold::ProfileUnderWay);
            }
            job.end(settled);
        }
    }

    fn decide<'d>(&'d self, delivery: &'d Delivery<'d>) -> Job<'d> {
        let mut notes = Notes::default();
        let decision = match &delivery.event {
            Err(why) => Decision::undeliverable(why.clone()),
            Ok(event) => catch_panic(|| self.map(event, delivery, &mut notes))
                .unwrap_or_else(|place| Decision::undeliverable(Undeliverable::panicked(place))),
        };
        let is_unknown = delivery.event.as_ref().is_ok_and(|event| {
            let is_disabled = self.rules.events.disabled.contains(event.name());
            !is_disabled && self.unknown_events.is_new_today(event.name())
        });
        Job {
            delivery,
            key: match (&decision, &delivery.event) {
                (Decision::Send { .. }, Ok(event)) => Some(claims::key(event.id(), delivery.body)),
                _ => None,
            },
            is_profile_only: matches!(&decision, Decision::Send { upload, .. } if upload.is_profile_only()),
            decision,
            notes,
            is_unknown,
            dedup_unavailable: false,
            first_at: None,
            outcome: None,
            hold: None,
        }
    }

    fn map<'d>(
        &'d self,
        event: &'d Event<'_>,
        delivery: &Delivery<'d>,
        notes: &mut Notes,
    ) -> Decision<'d> {
        let on_field = &mut |field: &str, outcome: FieldOutcome<'_>| notes.add(field, &outcome);
        let mapping = mapping::map(event, &self.rules, delivery.origin, on_field);
        if mapping.lacks_revenue {
            notes.add_missing_revenue();
        }
        match mapping.mapped {
            Mapped::Ignored(why) => Decision::ended(Outcome::Ignored(why)),
            Mapped::Unmappable(why) => Decision::undeliverable(Permanent::Unmappable(why).into()),
            Mapped::Records { account, mut records } => {
                records.retain(|record| delivery.wants(record.role));
                if records.is_empty() {
                    // CleverTap has everything that the current settings send.
                    return Decision::ended(Outcome::Duplicate);
                }
                Decision::Send { account, upload: EventUpload::new(records) }
            }
        }
    }

    async fn claim(&self, job: &mut Job<'_>) {
        let (Decision::Send { upload, .. }, Some(key), Some(claims)) =
            (&mut job.decision, &job.key, &self.claims)
        else {
            return;
        };
        match claims.claim(key).await {
            Claim::Taken { accepted, first_at } => {
                let accepted: Vec<_> =
                    accepted.iter().filter_map(|name| name.parse().ok()).collect();
                upload.skip_accepted(&accepted);
                job.first_at = first_at;
                if upload.missing().is_empty() {
                    job.decision = Decision::ended(Outcome::Duplicate);
                }
            }
            Claim::Unavailable => job.dedup_unavailable = true,
            Claim::Done => job.decision = Decision::ended(Outcome::Duplicate),
            Claim::InProgress => {
                job.decision = Decision::ended(Outcome::Failed(Failure::InProgress));
            }
        }
    }

    /// Writes what CleverTap accepted into the claim and, beside that, stores an event that can never be
    /// relayed. Returns whether the claim says what CleverTap has.
    async fn settle(&self, job: &Job<'_>) -> (Outcome, bool) {
        match job.verdict() {
            Verdict::Ended(Outcome::Relayed) if self.is_dry_run => (Outcome::DryRun, true),
            // A copy of the event must not try again.
            Verdict::Ended(outcome @ (Outcome::Relayed | Outcome::ProfileRefused)) => {
                (outcome, self.complete(job).await)
            }
            Verdict::Ended(outcome) => (outcome, self.remember_accepted(job).await),
            Verdict::Undeliverable(why) => {
                join(self.send_dead_letter(job, &why), self.remember_accepted(job)).await
            }
        }
    }

    /// Returns whether the claim is done.
    async fn complete(&self, job: &Job<'_>) -> bool {
        match (&self.claims, &job.key) {
            (Some(claims), Some(key)) => claims.complete(key).await,
            _ => true,
        }
    }

    /// Returns whether a redelivery will send only what CleverTap has not accepted.
    async fn remember_accepted(&self, job: &Job<'_>) -> bool {
        let (Decision::Send { upload, .. }, Some(key), Some(claims)) =
            (&job.decision, &job.key, &self.claims)
        else {
            return true;
        };
        let accepted: Vec<&str> = upload.accepted().iter().map(Role::into_str).collect();
        accepted.is_empty() || claims.add_accepted(key, &accepted).await
    }

    /// Stores an event that can never be relayed, with what its next reader needs to know.
    async fn send_dead_letter(&self, job: &Job<'_>, undeliverable: &Undeliverable) -> Outcome {
        let why = undeliverable.why;
        let Some(queue) = &self.dead_letters else {
            return Outcome::Failed(Failure::NoDeadLetterQueue(why));
        };
        let event = job.delivery.event.as_ref().ok();
        let code = match why {
            Permanent::Refused(code) => Some(code.to_string().into()),
            _ => None,
        };
        let letter = NewMessage {
            body: job.delivery.body,
            attributes: vec![
                (REASON, Some(why.reason().into())),
                ("code", code),
                ("panicked_at", undeliverable.panicked_at.as_deref().map(Cow::from)),
                ("event_id", event.and_then(Event::id).map(Cow::from)),
                ("event_name", event.map(|event| event.name().into())),
                received_now(),
                (RECORDS, job.records_left().map(Cow::from)),
            ],
            group: &user_of(job.delivery),
            // A letter that is redriven and refused again must not vanish.
            once: None,
        };
        if queue.send(&letter).await {
            Outcome::DeadLettered(why)
        } else {
            Outcome::Failed(Failure::DeadLetterFailed(why))
        }
    }
}

impl Undeliverable {
    pub fn panicked(place: String) -> Self {
        Self { why: Permanent::Panicked, panicked_at: Some(place) }
    }
}

impl From<Permanent> for Undeliverable {
    fn from(why: Permanent) -> Self {
        Self { why, panicked_at: None }
    }
}

impl<'d> Delivery<'d> {
    fn group(&self) -> Option<&'d str> {
        self.queued?.group
    }

    /// When SQS got it, as time since 1970.
    fn sent_at(&self) -> Option<Duration> {
        self.queued?.sent_at
    }

    /// What is known of it without its mapping.
    pub fn report(&self, outcome: Outcome, secret: Option<&Secret>) -> Report {
        let report = match &self.event {
            Ok(event) => Report::of_event(outcome, event, self.age(event), secret),
            Err(_) => Report::new(outcome),
        };
        let since = || self.sent_at().or_else(|| time_of(self.event.as_ref().ok()?));
        let waited = match outcome {
            Outcome::Failed(_) => since().map(|time| age(Some(time))),
            _ => None,
        };
        Report { waited, ..report }
    }

    /// How long ago the event happened, if Purchasely itself sends it now and it has a time.
    fn age(&self, event: &Event<'_>) -> Option<Duration> {
        let is_new = self.origin == Origin::Purchasely && self.queued.is_none();
        let happened = time_of(event).filter(|_| is_new);
        happened.map(|time| age(Some(time)))
    }

    fn wants(&self, role: Role) -> bool {
        let roles = self.records.as_ref();
        roles.is_none_or(|roles| roles.contains(&role))
    }
}

impl Decision<'_> {
    fn ended(outcome: Outcome) -> Self {
        Self::End(Verdict::Ended(outcome))
    }

    fn undeliverable(why: Undeliverable) -> Self {
        Self::End(Verdict::Undeliverable(why))
    }
}

impl Job<'_> {
    fn needs_upload(&self) -> bool {
        matches!(self.decision, Decision::Send { .. })
    }

    fn upload_to(&self, wanted: Account) -> Option<&EventUpload<'_>> {
        match &self.decision {
            Decision::Send { account, upload } if *account == wanted => Some(upload),
            _ => None,
        }
    }

    fn verdict(&self) -> Verdict {
        let mut verdict = match &self.decision {
            Decision::End(verdict) => verdict.clone(),
            Decision::Send { upload, .. } => match (upload.unsettled, upload.refusal()) {
                (Some(Unsettled::Later(UploadFailure::Unexplained)), _)
                    if age(self.first_try()) > UNEXPLAINED_FOR =>
                {
                    Verdict::Undeliverable(Permanent::Refused(NO_CODE).into())
                }
                (Some(Unsettled::Later(failure)), _) => {
                    Verdict::Ended(Outcome::Failed(Failure::Upload(failure)))
                }
                (Some(Unsettled::Unclear), _) => Verdict::Undeliverable(Permanent::Unclear.into()),
                (None, Some(code)) => Verdict::Undeliverable(Permanent::Refused(code).into()),
                (None, None) => Verdict::Ended(Outcome::Relayed),
            },
        };
        if let Verdict::Ended(Outcome::Failed(failure)) = verdict
            && age(self.delivery.sent_at()) > MAX_AGE_IN_QUEUE
        {
            tracing::error!("not relayed for 13 days: {failure}");
            verdict = Verdict::Undeliverable(Permanent::RetriesExhausted.into());
        }
        match verdict {
            // A redrive writes no profile.
            Verdict::Undeliverable(_) if self.is_profile_only => {
                Verdict::Ended(Outcome::ProfileRefused)
            }
            verdict => verdict,
        }
    }

    /// When the event was first sent, as far as it is known.
    fn first_try(&self) -> Option<Duration> {
        let happened = || time_of(self.delivery.event.as_ref().ok()?);
        self.delivery.sent_at().or(self.first_at).or_else(happened)
    }

    /// The records that a redrive has still to send, where it is not all of the event's.
    fn records_left(&self) -> Option<String> {
        let roles = match &self.decision {
            Decision::Send { upload, .. }
                if upload.is_partial() || self.delivery.records.is_some() =>
            {
                upload.missing()
            }
            Decision::Send { .. } => return None,
            Decision::End(_) => self.delivery.records.clone()?,
        };
        Some(Role::list(&roles))
    }

    fn end(&mut self, (outcome, is_remembered): (Outcome, bool)) {
        self.outcome = Some(outcome);
        self.dedup_unavailable |= !is_remembered;
        if !is_remembered && outcome == Outcome::Relayed {
            self.hold = Some(self.hold.map_or(Hold::ClaimOpen, |_| Hold::Both));
        }
    }

    /// Ends what its turn has not ended. What CleverTap has is relayed.
    fn fail(&mut self, failure: Failure) {
        self.end(match &self.decision {
            Decision::Send { upload, .. } if upload.missing().is_empty() => {
                (Outcome::Relayed, false)
            }
            _ => (Outcome::Failed(failure), true),
        });
    }

    /// Whether no later event of its user may be sent in this invocation.
    fn is_last_turn(&self) -> bool {
        self.hold.is_some() || self.outcome.is_some_and(|outcome| !outcome.is_settled())
    }

    /// Its report; `untouched` is the outcome of what had no turn.
    fn report(self, untouched: Outcome, secret: Option<&Secret>) -> Report {
        let outcome = self.outcome.unwrap_or(untouched);
        let mut report = self.delivery.report(outcome, secret);
        report.dedup_unavailable = self.dedup_unavailable;
        report.is_unknown = self.is_unknown;
        report.notes = self.notes;
        if let Decision::Send { account, upload } = &self.decision {
            report.upload = upload.stats;
            report.is_for_sandbox_account = *account == Account::Sandbox;
        }
        report
    }
}

/// The next job of each user, in the order of the batch, with at most one copy of an event among them.
fn next_turns<'j, 'd>(jobs: &'j mut [Job<'d>]) -> Vec<&'j mut Job<'d>> {
    let (mut groups, mut keys) = (HashSet::new(), HashSet::new());
    let is_next = |job: &&mut Job<'d>| {
        let group = job.delivery.group();
        if job.outcome.is_some() {
            groups.extend(group.filter(|_| job.is_last_turn()));
            return false;
        }
        let is_first = group.is_none_or(|group| groups.insert(group));
        is_first && job.key.clone().is_none_or(|key| keys.insert(key))
    };
    jobs.iter_mut().filter(is_next).collect()
}

/// A copy of an event that has ended ends as that one did, without an upload or a dead letter of its own.
fn end_copies(jobs: &mut [Job<'_>]) {
    let ended = jobs.iter().filter_map(|job| Some((job.key.clone()?, job.outcome?)));
    let ended: HashMap<_, _> = ended.collect();
    for job in jobs.iter_mut().filter(|job| job.outcome.is_none()) {
        if let Some(outcome) = job.key.as_ref().and_then(|key| ended.get(key)) {
            job.decision = Decision::ended(match outcome {
                Outcome::Relayed => Outcome::Duplicate,
                outcome => *outcome,
            });
        }
    }
}

/// Purchasely's own user: what decides the CleverTap identity does not split a user. Without one, the body.
fn user_of<'d>(delivery: &'d Delivery<'_>) -> Cow<'d, [u8]> {
    match delivery.event.as_ref().ok().and_then(purchasely_id) {
        Some(id) => id.into_owned().into_bytes().into(),
        None => delivery.body.into(),
    }
}

/// How long ago it was; zero for what is unknown or ahead, because clocks may disagree.
fn age(time: Option<Duration>) -> Duration {
    time.map(|time| clock::unix_time().saturating_sub(time)).unwrap_or_default()
}

/// When an event happened, as time since 1970.
fn time_of(event: &Event) -> Option<Duration> {
    let milliseconds = u64::try_from(event.time_ms("event_created_at")?).ok()?;
    Some(Duration::from_millis(milliseconds))
}

/// The attribute that says when the function got a webhook.
fn received_now<'v>() -> (&'static str, Option<Cow<'v, str>>) {
    let now = OffsetDateTime::from(clock::now()).format(&Rfc3339);
    (RECEIVED_AT, now.ok().map(Cow::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_already_old_has_less_time() {
        let received = clock::instant();
        for (age, uploads, all) in [(0, 6500, 8000), (2000, 4500, 6000), (9000, 0, 0)] {
            let budget = Budget::start(received, Duration::from_millis(age));
            let after = |end| received + Duration::from_millis(end);
            assert_eq!((budget.uploads_end, budget.ends), (after(uploads), after(all)));
        }
    }
}
