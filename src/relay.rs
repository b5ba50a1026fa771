//! The heart: webhooks in, one report each out, within the time that Purchasely waits.
//!
//! Each event is one [`Job`] from the first step to the last: map → claim → upload → settle. One event
//! and a batch take the same way. It does not know how webhooks arrive, nor what an outcome answers.

use crate::aws::claims::{self, Claim, Claims};
use crate::aws::queues::{NewMessage, Queue, REASON, RECEIVED_AT, RECORDS, REPLAYED};
use crate::aws::secret::Secret;
use crate::clevertap::{Account, EventUpload, Role, Unsettled, UploadFailure, Uploader, User};
use crate::clock;
use crate::mapping::identity::{Identified, identify, purchasely_id};
use crate::mapping::{self, FieldOutcome, Mapped, Notes, Origin, Rules};
use crate::outcome::{Failure, Outcome, Permanent, Report};
use crate::purchasely::signature::user_digest;
use crate::purchasely::{Event, Verified, catalogue};
use crate::telemetry::catch_panic;
use futures_util::future::{join, join_all};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

/// Purchasely gives up after 10 s, API Gateway after 9.5 s, Lambda after 9 s.
pub const WORK: Duration = Duration::from_secs(8);
/// What uploads leave of it, so that there is always time to settle.
const SETTLING: Duration = Duration::from_millis(1500);
/// How an event fails whose turn has not come.
pub const BLOCKED: Failure = Failure::Upload(UploadFailure::Blocked);
const SECONDS_PER_DAY: u64 = 86_400;
/// SQS deletes a message after 14 days.
const MAX_AGE_IN_QUEUE: Duration = Duration::from_hours(13 * 24);
/// A sender that makes up names must not fill the memory.
const MAX_UNKNOWN_EVENTS: usize = 100;
/// Names that are equal up to here count as one.
const MAX_UNKNOWN_NAME_BYTES: usize = 120;

/// The moments by which an event's work must have ended, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
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
    /// How the event queue knows it; `None` for a webhook from the HTTP endpoint.
    pub message: Option<Message<'d>>,
}

/// Why an event can never be relayed, and where the function panicked over it, if it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeliverable {
    pub why: Permanent,
    pub panicked_at: Option<String>,
}

/// A message of the event queue.
#[derive(Debug, Clone, Copy)]
pub struct Message<'d> {
    pub id: &'d str,
    pub receipt_handle: Option<&'d str>,
    pub receive_count: u32,
    /// Messages of one group are relayed in order.
    pub group: Option<&'d str>,
    /// When SQS got it, as time since 1970.
    pub sent_at: Option<Duration>,
}

/// A delivery and how it ended.
#[derive(Debug)]
pub struct Relayed<'d> {
    pub delivery: &'d Delivery<'d>,
    pub report: Report,
}

/// Relays events to the operator's CleverTap accounts.
#[derive(Debug)]
pub struct Relay {
    pub rules: Rules,
    pub uploader: Uploader,
    /// Whether CleverTap only checks what it is sent.
    pub is_dry_run: bool,
    /// Without it, an event may be relayed twice.
    pub claims: Option<Claims>,
    /// Without it, an event that can never be relayed fails.
    pub dead_letters: Option<Queue>,
    pub unknown_events: UnknownEvents,
}

/// The event names outside the catalogue that this environment reported today.
#[derive(Debug, Default)]
pub struct UnknownEvents(Mutex<(u64, HashSet<String>)>);

/// One event on its way through the relay.
struct Job<'d> {
    delivery: &'d Delivery<'d>,
    /// Later deliveries of the same event in the same batch; they share its outcome.
    copies: Vec<&'d Delivery<'d>>,
    decision: Decision<'d>,
    notes: Notes,
    is_unknown: bool,
    dedup_unavailable: bool,
}

/// What is to be done for an event.
enum Decision<'d> {
    Ended(Outcome),
    /// It can never be relayed.
    Undeliverable(Undeliverable),
    Send {
        account: Account,
        claim: String,
        upload: EventUpload<'d>,
    },
}

/// How an event's upload ended, or that there was none.
enum Verdict {
    Ended(Outcome),
    Undeliverable(Undeliverable),
    Accepted,
}

impl Relay {
    /// Relays one delivery, with the secret that was read for it.
    pub async fn relay(
        &self,
        delivery: &Delivery<'_>,
        secret: Arc<Secret>,
        budget: Budget,
    ) -> Report {
        let mut job = self.decide(delivery);
        self.claim(&mut job).await;
        if let Decision::Send { account, upload, .. } = &mut job.decision {
            let secret = Arc::clone(&secret);
            self.uploader.upload(*account, secret, budget.uploads_end, &mut [upload]).await;
        }
        let verdict = job.verdict();
        let outcome = self.settle(&mut job, verdict, Some(&secret)).await;
        job.report(outcome, Some(&secret))
    }

    /// Puts one delivery into a queue instead, whose messages are relayed later. What needs no upload is
    /// settled at once.
    pub async fn enqueue(&self, delivery: &Delivery<'_>, secret: &Secret, queue: &Queue) -> Report {
        let mut job = self.decide(delivery);
        let Decision::Send { claim, .. } = &job.decision else {
            let verdict = job.verdict();
            let outcome = self.settle(&mut job, verdict, Some(secret)).await;
            return job.report(outcome, Some(secret));
        };
        let is_replayed = delivery.origin == Origin::Redelivered;
        let message = NewMessage {
            body: delivery.body,
            attributes: vec![
                received_now(),
                (REPLAYED, is_replayed.then_some("true".into())),
                (RECORDS, delivery.records.as_deref().map(words).map(Cow::from)),
            ],
            group: &self.user_of(delivery),
            // Within five minutes of the first delivery, an operator may send what has become a dead letter.
            once: (!is_replayed).then_some(claim),
        };
        let is_stored = queue.send(&message).await;
        // Whoever relays it reports what mapping it noticed.
        job.notes = Notes::default();
        let failed = Outcome::Failed(Failure::QueueFailed);
        job.report(if is_stored { Outcome::Queued } else { failed }, Some(secret))
    }

    /// Relays a batch in its order: the same steps, with one upload per account, and none without a secret.
    pub async fn relay_batch<'d>(
        &'d self,
        deliveries: &'d [Delivery<'d>],
        secret: Option<Arc<Secret>>,
        budget: Budget,
    ) -> Vec<Relayed<'d>> {
        let mut jobs = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let mut job = self.decide(delivery);
            if secret.is_none() && matches!(job.decision, Decision::Send { .. }) {
                job.decision = Decision::Ended(Outcome::Failed(Failure::SecretUnavailable));
            }
            self.add(job, &mut jobs);
        }
        join_all(jobs.iter_mut().map(|job| self.claim(job))).await;
        block_after_failures(&mut jobs);
        for account in [Account::Main, Account::Sandbox] {
            let mut uploads: Vec<_> =
                jobs.iter_mut().filter_map(|job| job.upload_to(account)).collect();
            if let (Some(secret), false) = (&secret, uploads.is_empty()) {
                let secret = Arc::clone(secret);
                self.uploader.upload(account, secret, budget.uploads_end, &mut uploads).await;
            }
        }
        let secret = secret.as_deref();
        let settled = judge_in_order(jobs).map(|(mut job, verdict)| async move {
            let outcome = self.settle(&mut job, verdict, secret).await;
            job.reports(outcome, secret)
        });
        join_all(settled).await.into_iter().flatten().collect()
    }

    fn decide<'d>(&'d self, delivery: &'d Delivery<'d>) -> Job<'d> {
        let mut notes = Notes::default();
        let decision = match &delivery.event {
            Err(why) => Decision::Undeliverable(why.clone()),
            Ok(event) => catch_panic(|| self.map(event, delivery, &mut notes))
                .unwrap_or_else(|place| Decision::Undeliverable(Undeliverable::panicked(place))),
        };
        let is_unknown = delivery.event.as_ref().is_ok_and(|event| {
            let is_disabled = self.rules.events.disabled.contains(event.name());
            !is_disabled && self.unknown_events.is_new_today(event.name())
        });
        Job {
            delivery,
            copies: Vec::new(),
            decision,
            notes,
            is_unknown,
            dedup_unavailable: false,
        }
    }

    fn map<'d>(
        &'d self,
        event: &'d Event<'_>,
        delivery: &Delivery<'d>,
        notes: &mut Notes,
    ) -> Decision<'d> {
        let on_field = &mut |field: &str, outcome: FieldOutcome<'_>| notes.add(field, &outcome);
        match mapping::map(event, &self.rules, delivery.origin, on_field) {
            Mapped::Ignored(why) => Decision::Ended(Outcome::Ignored(why)),
            Mapped::Unmappable(why) => Decision::Undeliverable(Permanent::Unmappable(why).into()),
            Mapped::Records { account, mut records } => {
                records.retain(|record| delivery.wants(record.role));
                if records.is_empty() {
                    // CleverTap has everything that the current settings send.
                    return Decision::Ended(Outcome::Duplicate);
                }
                Decision::Send {
                    account,
                    claim: claims::key(event.id(), delivery.body),
                    upload: EventUpload::new(delivery.group(), records),
                }
            }
        }
    }

    /// Adds a job to the batch, or its delivery to the earlier job of the same event.
    fn add<'d>(&self, job: Job<'d>, jobs: &mut Vec<Job<'d>>) {
        let is_same = |other: &&mut Job<'_>| job.is_copy_of(other);
        if !self.is_dry_run
            && let Some(first) = jobs.iter_mut().find(is_same)
        {
            first.copies.push(job.delivery);
        } else {
            jobs.push(job);
        }
    }

    async fn claim(&self, job: &mut Job<'_>) {
        let (Decision::Send { claim, upload, .. }, Some(claims), false) =
            (&mut job.decision, &self.claims, self.is_dry_run)
        else {
            return;
        };
        match claims.claim(claim).await {
            Claim::Taken { accepted } => {
                let accepted: Vec<_> =
                    accepted.iter().filter_map(|name| name.parse().ok()).collect();
                upload.skip_accepted(&accepted);
                if upload.is_empty() {
                    job.decision = Decision::Ended(Outcome::Duplicate);
                }
            }
            Claim::Unavailable => job.dedup_unavailable = true,
            Claim::Done => job.decision = Decision::Ended(Outcome::Duplicate),
            Claim::InProgress => {
                job.decision = Decision::Ended(Outcome::Failed(Failure::InProgress));
            }
        }
    }

    /// Writes what CleverTap accepted into the claim and, beside that, stores an event that can never be
    /// relayed.
    async fn settle(
        &self,
        job: &mut Job<'_>,
        verdict: Verdict,
        secret: Option<&Secret>,
    ) -> Outcome {
        let (outcome, is_remembered) = match verdict {
            Verdict::Accepted if self.is_dry_run => (Outcome::DryRun, true),
            Verdict::Accepted => (Outcome::Relayed, self.complete(job, secret).await),
            Verdict::Ended(outcome) => (outcome, self.remember_accepted(job).await),
            Verdict::Undeliverable(why) => {
                let letter = self.send_dead_letter(job, &why);
                join(letter, self.remember_accepted(job)).await
            }
        };
        job.dedup_unavailable |= !is_remembered;
        outcome
    }

    /// Completes the claim, beside one more try for a profile that CleverTap refused for now. Returns whether
    /// the claim is done.
    async fn complete(&self, job: &mut Job<'_>, secret: Option<&Secret>) -> bool {
        let (Decision::Send { account, claim, upload }, Some(secret)) = (&mut job.decision, secret)
        else {
            return true;
        };
        let complete = async {
            match &self.claims {
                Some(claims) => claims.complete(claim).await,
                None => true,
            }
        };
        let retry = self.uploader.retry_profile(*account, secret, upload);
        join(complete, retry).await.0
    }

    /// Returns whether a redelivery will send only what CleverTap has not accepted.
    async fn remember_accepted(&self, job: &Job<'_>) -> bool {
        let (Decision::Send { claim, upload, .. }, Some(claims), false) =
            (&job.decision, &self.claims, self.is_dry_run)
        else {
            return true;
        };
        let accepted: Vec<&str> = upload.accepted().into_iter().map(Into::into).collect();
        accepted.is_empty() || claims.add_accepted(claim, &accepted).await
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
        let reason: &str = why.into();
        let letter = NewMessage {
            body: job.delivery.body,
            attributes: vec![
                (REASON, Some(reason.into())),
                ("code", code),
                ("panicked_at", undeliverable.panicked_at.as_deref().map(Cow::from)),
                ("event_id", event.and_then(Event::id).map(Cow::from)),
                ("event_name", event.map(|event| event.name().into())),
                received_now(),
                (RECORDS, job.records_left().map(Cow::from)),
            ],
            group: &self.user_of(job.delivery),
            // A letter that is redriven and refused again must not vanish.
            once: None,
        };
        if queue.send(&letter).await {
            Outcome::DeadLettered(why)
        } else {
            Outcome::Failed(Failure::DeadLetterFailed(why))
        }
    }

    /// The user's id, or the body of an event that has none or over which the function panics.
    fn user_of<'d>(&self, delivery: &'d Delivery<'_>) -> Cow<'d, [u8]> {
        let event = delivery.event.as_ref().ok();
        let identify = |event| catch_panic(|| identify(event, &self.rules.identity)).ok();
        match event.and_then(identify) {
            Some(
                Identified::User(User::Identity(id) | User::ObjectId(id)) | Identified::Device(id),
            ) => id.into_owned().into_bytes().into(),
            _ => delivery.body.into(),
        }
    }
}

impl UnknownEvents {
    fn is_new_today(&self, name: &str) -> bool {
        if catalogue::is_known_event(name) {
            return false;
        }
        let today = clock::unix_time().as_secs() / SECONDS_PER_DAY;
        let (day, names) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *day != today {
            *day = today;
            names.clear();
        }
        let name = &name[..name.floor_char_boundary(MAX_UNKNOWN_NAME_BYTES)];
        names.len() < MAX_UNKNOWN_EVENTS && names.insert(name.to_owned())
    }
}

impl Undeliverable {
    fn panicked(place: String) -> Self {
        Self { why: Permanent::Panicked, panicked_at: Some(place) }
    }
}

impl From<Permanent> for Undeliverable {
    fn from(why: Permanent) -> Self {
        Self { why, panicked_at: None }
    }
}

/// Parses a verified webhook.
pub fn parse(body: Verified<'_>) -> Result<Event<'_>, Undeliverable> {
    match catch_panic(|| Event::parse(body)) {
        Ok(parsed) => parsed.map_err(|why| Permanent::Unreadable(why).into()),
        Err(place) => Err(Undeliverable::panicked(place)),
    }
}

impl<'d> Delivery<'d> {
    fn group(&self) -> Option<&'d str> {
        self.message?.group
    }

    /// Whether it is a message that SQS deletes within a day.
    fn is_expiring(&self) -> bool {
        let sent_at = self.message.and_then(|message| message.sent_at);
        sent_at.is_some_and(|sent| clock::unix_time().saturating_sub(sent) > MAX_AGE_IN_QUEUE)
    }

    fn wants(&self, role: Role) -> bool {
        let roles = self.records.as_ref();
        roles.is_none_or(|roles| roles.contains(&role))
    }
}

impl<'d> Job<'d> {
    fn is_copy_of(&self, other: &Self) -> bool {
        match (&self.decision, &other.decision) {
            (Decision::Send { claim, .. }, Decision::Send { claim: earlier, .. }) => {
                claim == earlier && self.delivery.records == other.delivery.records
            }
            _ => false,
        }
    }

    fn upload_to(&mut self, wanted: Account) -> Option<&mut EventUpload<'d>> {
        match &mut self.decision {
            Decision::Send { account, upload, .. } if *account == wanted => Some(upload),
            _ => None,
        }
    }

    fn verdict(&self) -> Verdict {
        match &self.decision {
            Decision::Ended(outcome) => Verdict::Ended(*outcome),
            Decision::Undeliverable(why) => Verdict::Undeliverable(why.clone()),
            Decision::Send { upload, .. } => match (upload.unsettled, upload.refusal()) {
                (Some(Unsettled::Later(failure)), _) => {
                    Verdict::Ended(Outcome::Failed(Failure::Upload(failure)))
                }
                (Some(Unsettled::Unclear), _) => Verdict::Undeliverable(Permanent::Unclear.into()),
                (None, Some(code)) => Verdict::Undeliverable(Permanent::Refused(code).into()),
                (None, None) => Verdict::Accepted,
            },
        }
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
            Decision::Ended(_) | Decision::Undeliverable(_) => self.delivery.records.clone()?,
        };
        Some(words(&roles))
    }

    fn report(self, outcome: Outcome, secret: Option<&Secret>) -> Report {
        let mut report = new_report(self.delivery, outcome, secret);
        report.dedup_unavailable = self.dedup_unavailable;
        report.is_unknown = self.is_unknown;
        report.notes = self.notes;
        if let Decision::Send { upload, .. } = &self.decision {
            report.upload = upload.stats;
        }
        report
    }

    /// The reports of its delivery and of the copies.
    fn reports(mut self, outcome: Outcome, secret: Option<&Secret>) -> Vec<Relayed<'d>> {
        let (delivery, copies) = (self.delivery, std::mem::take(&mut self.copies));
        let report = self.report(outcome, secret);
        let copies = copies.into_iter().map(|delivery| Relayed {
            delivery,
            report: new_report(delivery, outcome, secret),
        });
        std::iter::once(Relayed { delivery, report }).chain(copies).collect()
    }
}

/// After an event that cannot be sent now, no later one of its group is sent.
fn block_after_failures(jobs: &mut [Job<'_>]) {
    let mut blocked = HashSet::new();
    for job in jobs {
        let group = job.delivery.group();
        match job.decision {
            Decision::Ended(Outcome::Failed(_)) => blocked.extend(group),
            Decision::Send { .. } if group.is_some_and(|group| blocked.contains(group)) => {
                job.decision = Decision::Ended(Outcome::Failed(BLOCKED));
            }
            _ => {}
        }
    }
}

/// After a failure, nothing of the same group is settled, except what was accepted in the same upload. What
/// would soon be deleted does not fail once more.
fn judge_in_order(jobs: Vec<Job<'_>>) -> impl Iterator<Item = (Job<'_>, Verdict)> {
    let mut blocked = HashSet::new();
    jobs.into_iter().map(move |job| {
        let group = job.delivery.group();
        let mut verdict = job.verdict();
        let is_blocked = group.is_some_and(|group| blocked.contains(group));
        if is_blocked && !matches!(verdict, Verdict::Accepted) {
            verdict = Verdict::Ended(Outcome::Failed(BLOCKED));
        }
        if let Verdict::Ended(Outcome::Failed(failure)) = verdict {
            if failure != BLOCKED && job.delivery.is_expiring() {
                tracing::error!("not relayed for 13 days: {failure}");
                verdict = Verdict::Undeliverable(Permanent::RetriesExhausted.into());
            } else {
                blocked.extend(group);
            }
        }
        (job, verdict)
    })
}

/// The attribute that says when the function got a webhook.
fn received_now<'v>() -> (&'static str, Option<Cow<'v, str>>) {
    let now = OffsetDateTime::from(clock::now()).format(&Rfc3339);
    (RECEIVED_AT, now.ok().map(Cow::from))
}

fn words(roles: &[Role]) -> String {
    let words: Vec<&str> = roles.iter().map(|role| (*role).into()).collect();
    words.join(",")
}

fn new_report(delivery: &Delivery<'_>, outcome: Outcome, secret: Option<&Secret>) -> Report {
    let Ok(event) = &delivery.event else {
        return Report::new(outcome);
    };
    let created_at = match (delivery.origin, delivery.message) {
        (Origin::Purchasely, None) => event.time_ms("event_created_at"),
        _ => None,
    };
    let age = created_at
        .and_then(|milliseconds| u64::try_from(milliseconds).ok())
        // Clocks may disagree.
        .map(|created| clock::unix_time().saturating_sub(Duration::from_millis(created)));
    let user = purchasely_id(event).zip(secret.and_then(|secret| secret.shared_secrets().next()));
    let user = user.map(|(id, secret)| user_digest(secret, &id));
    Report { user, ..Report::of_event(outcome, event, age) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn an_unknown_event_is_new_once_a_day() {
        let unknown = UnknownEvents::default();
        for (day, is_new) in [(20_000, true), (20_000, false), (20_001, true)] {
            clock::simulate(UNIX_EPOCH + Duration::from_hours(24 * day));
            assert_eq!(unknown.is_new_today("NOT_IN_THE_CATALOGUE"), is_new, "day {day}");
        }
    }

    #[test]
    fn of_a_long_unknown_name_only_the_beginning_is_remembered() {
        let unknown = UnknownEvents::default();
        let long = "é".repeat(100_000);
        assert!(unknown.is_new_today(&long));
        assert!(!unknown.is_new_today(&format!("{long}!")));
        assert!(unknown.0.lock().unwrap().1.iter().all(|name| name.len() <= 120));
    }

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
