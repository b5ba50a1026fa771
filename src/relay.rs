//! The heart: webhooks in, one report each out, within the time that Purchasely waits.
//!
//! Each event is one [`Job`] from the first step to the last: map → claim → upload → settle. One event
//! and a batch take the same way. It does not know how webhooks arrive, nor what an outcome answers.

use crate::aws::claims::{self, Claim, Claims};
use crate::aws::queues::{DeadLetter, DeadLetterQueue, REASON, RECORDS};
use crate::aws::secret::Secret;
use crate::clevertap::{Account, EventUpload, Role, Uploader, User};
use crate::clock;
use crate::mapping::identity::{Identified, identify};
use crate::mapping::{self, FieldOutcome, Mapped, Origin, Rules};
use crate::outcome::{Failure, Outcome, Permanent, Report};
use crate::purchasely::{Event, Unreadable};
use futures_util::future::join_all;
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;

/// Purchasely gives up after 10 s, API Gateway after 9.5 s, Lambda after 9 s.
pub const WORK: Duration = Duration::from_secs(8);
/// What uploads leave of it, so that there is always time to settle.
const SETTLING: Duration = Duration::from_millis(1500);

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
        Self { uploads_end: received + work.saturating_sub(SETTLING), ends: received + work }
    }
}

/// One webhook to relay, however it arrived.
#[derive(Debug)]
pub struct Delivery<'d> {
    /// The raw webhook.
    pub body: &'d [u8],
    pub event: Result<Event, Unreadable>,
    pub origin: Origin,
    /// The only records that are still to be sent; `None` is all of them.
    pub records: Option<Vec<Role>>,
    /// How the event queue knows it; `None` for a webhook from the HTTP endpoint.
    pub message: Option<Message<'d>>,
}

/// A message of the event queue.
#[derive(Debug, Clone, Copy)]
pub struct Message<'d> {
    pub id: &'d str,
    pub receipt_handle: Option<&'d str>,
    pub receive_count: u32,
    /// Messages of one group are relayed in order.
    pub group: Option<&'d str>,
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
    pub dead_letters: Option<DeadLetterQueue>,
}

/// One event on its way through the relay.
struct Job<'d> {
    delivery: &'d Delivery<'d>,
    /// Later deliveries of the same event in the same batch; they share its outcome.
    copies: Vec<&'d Delivery<'d>>,
    decision: Decision<'d>,
    /// Properties that were changed or left out because of CleverTap's limits.
    adjustments: Vec<String>,
    dedup_unavailable: bool,
}

/// What is to be done for an event.
enum Decision<'d> {
    Ended(Outcome),
    /// It can never be relayed.
    Undeliverable(Permanent),
    Send {
        account: Account,
        claim: String,
        upload: EventUpload<'d>,
    },
}

/// How an event's upload ended, or that there was none.
enum Verdict {
    Ended(Outcome),
    Undeliverable(Permanent),
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
            self.uploader.upload(*account, secret, budget.uploads_end, &mut [upload]).await;
        }
        let verdict = job.verdict();
        let outcome = self.settle(&mut job, verdict).await;
        job.report(outcome)
    }

    /// Relays a batch in its order: the same steps, with one upload per account.
    pub async fn relay_batch<'d>(
        &'d self,
        deliveries: &'d [Delivery<'d>],
        secret: Arc<Secret>,
        budget: Budget,
    ) -> Vec<Relayed<'d>> {
        let mut jobs = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            self.add(self.decide(delivery), &mut jobs);
        }
        join_all(jobs.iter_mut().map(|job| self.claim(job))).await;
        block_after_failures(&mut jobs);
        for account in [Account::Main, Account::Sandbox] {
            let mut uploads: Vec<_> =
                jobs.iter_mut().filter_map(|job| job.upload_to(account)).collect();
            if !uploads.is_empty() {
                let secret = Arc::clone(&secret);
                self.uploader.upload(account, secret, budget.uploads_end, &mut uploads).await;
            }
        }
        let settled = judge_in_order(jobs).map(|(mut job, verdict)| async move {
            let outcome = self.settle(&mut job, verdict).await;
            job.reports(outcome)
        });
        join_all(settled).await.into_iter().flatten().collect()
    }

    fn decide<'d>(&'d self, delivery: &'d Delivery<'d>) -> Job<'d> {
        let mut adjustments = Vec::new();
        let decision = match &delivery.event {
            Err(why) => Decision::Undeliverable(Permanent::Unreadable(*why)),
            Ok(event) => {
                let on_field = &mut |field: &str, outcome: FieldOutcome<'_>| {
                    if outcome.is_adjustment() {
                        let word: &str = (&outcome).into();
                        adjustments.push(format!("{field}: {word}"));
                    }
                };
                match mapping::map(event, &self.rules, delivery.origin, on_field) {
                    Mapped::Ignored(why) => Decision::Ended(Outcome::Ignored(why)),
                    Mapped::Unmappable(why) => Decision::Undeliverable(Permanent::Unmappable(why)),
                    Mapped::Records { account, mut records } => {
                        records.retain(|record| delivery.wants(record.role));
                        if records.is_empty() {
                            // CleverTap has everything that the current settings send.
                            Decision::Ended(Outcome::Duplicate)
                        } else {
                            Decision::Send {
                                account,
                                claim: claims::key(event.id(), delivery.body),
                                upload: EventUpload::new(delivery.group(), records),
                            }
                        }
                    }
                }
            }
        };
        Job { delivery, copies: Vec::new(), decision, adjustments, dedup_unavailable: false }
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
        let (Decision::Send { claim, .. }, Some(claims), false) =
            (&job.decision, &self.claims, self.is_dry_run)
        else {
            return;
        };
        match claims.claim(claim).await {
            Claim::Taken => {}
            Claim::Unavailable => job.dedup_unavailable = true,
            Claim::Done => job.decision = Decision::Ended(Outcome::Duplicate),
            Claim::InProgress => {
                job.decision = Decision::Ended(Outcome::Failed(Failure::InProgress));
            }
        }
    }

    /// Completes the claim of what CleverTap accepted, and stores what it never will.
    async fn settle(&self, job: &mut Job<'_>, verdict: Verdict) -> Outcome {
        match verdict {
            Verdict::Ended(outcome) => outcome,
            Verdict::Undeliverable(why) => self.send_dead_letter(job, why).await,
            Verdict::Accepted if self.is_dry_run => Outcome::DryRun,
            Verdict::Accepted => {
                if let (Decision::Send { claim, .. }, Some(claims)) = (&job.decision, &self.claims)
                {
                    job.dedup_unavailable |= !claims.complete(claim).await;
                }
                Outcome::Relayed
            }
        }
    }

    /// Stores an event that can never be relayed, with what its next reader needs to know.
    async fn send_dead_letter(&self, job: &Job<'_>, why: Permanent) -> Outcome {
        let Some(queue) = &self.dead_letters else {
            return Outcome::Failed(Failure::NotStored(why));
        };
        let event = job.delivery.event.as_ref().ok();
        let code = match why {
            Permanent::Refused(code) => Some(code.to_string().into()),
            Permanent::Unreadable(_) | Permanent::Unmappable(_) => None,
        };
        let reason: &str = why.into();
        let received_at = OffsetDateTime::from(clock::now()).format(&Rfc3339).ok();
        let letter = DeadLetter {
            body: job.delivery.body,
            attributes: vec![
                (REASON, Some(reason.into())),
                ("code", code),
                ("event_id", event.and_then(Event::id).map(Cow::from)),
                ("event_name", event.map(Event::name).map(Cow::from)),
                ("received_at", received_at.map(Cow::from)),
                (RECORDS, job.records_left().map(Cow::from)),
            ],
            group: &self.user_of(job.delivery),
        };
        match queue.send(&letter).await {
            Ok(()) => Outcome::DeadLettered(why),
            Err(error) => {
                tracing::error!("{error}");
                Outcome::Failed(Failure::NotStored(why))
            }
        }
    }

    /// The user's id, or the body of an event that has none.
    fn user_of<'d>(&self, delivery: &'d Delivery<'_>) -> Cow<'d, [u8]> {
        let event = delivery.event.as_ref().ok();
        match event.map(|event| identify(event, &self.rules.identity)) {
            Some(Identified::User(User::Identity(id) | User::ObjectId(id))) => {
                id.into_owned().into_bytes().into()
            }
            _ => delivery.body.into(),
        }
    }
}

impl<'d> Delivery<'d> {
    fn group(&self) -> Option<&'d str> {
        self.message?.group
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
                claim == earlier
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
            Decision::Undeliverable(why) => Verdict::Undeliverable(*why),
            Decision::Send { upload, .. } => match (upload.failure, upload.refused().next()) {
                (Some(failure), _) => Verdict::Ended(Outcome::Failed(failure)),
                (None, Some((_, code))) => Verdict::Undeliverable(Permanent::Refused(code)),
                (None, None) => Verdict::Accepted,
            },
        }
    }

    /// The records that a redrive has still to send, where CleverTap accepted others of the event.
    fn records_left(&self) -> Option<String> {
        let Decision::Send { upload, .. } = &self.decision else {
            return None;
        };
        if !upload.is_partly_accepted() && self.delivery.records.is_none() {
            return None;
        }
        let roles: Vec<&str> = upload.refused().map(|(role, _)| role.into()).collect();
        Some(roles.join(","))
    }

    fn report(self, outcome: Outcome) -> Report {
        let mut report = new_report(self.delivery, outcome);
        report.dedup_unavailable = self.dedup_unavailable;
        report.adjustments = self.adjustments;
        if let Decision::Send { upload, .. } = &self.decision {
            report.upload = upload.stats;
        }
        report
    }

    /// The reports of its delivery and of the copies.
    fn reports(mut self, outcome: Outcome) -> Vec<Relayed<'d>> {
        let (delivery, copies) = (self.delivery, std::mem::take(&mut self.copies));
        let report = self.report(outcome);
        let copies = copies
            .into_iter()
            .map(|delivery| Relayed { delivery, report: new_report(delivery, outcome) });
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
                job.decision = Decision::Ended(Outcome::Failed(Failure::Blocked));
            }
            _ => {}
        }
    }
}

/// After a failure, nothing of the same group is settled, except what was accepted in the same upload.
fn judge_in_order(jobs: Vec<Job<'_>>) -> impl Iterator<Item = (Job<'_>, Verdict)> {
    let mut blocked = HashSet::new();
    jobs.into_iter().map(move |job| {
        let group = job.delivery.group();
        let mut verdict = job.verdict();
        let is_blocked = group.is_some_and(|group| blocked.contains(group));
        if is_blocked && !matches!(verdict, Verdict::Accepted) {
            verdict = Verdict::Ended(Outcome::Failed(Failure::Blocked));
        }
        if matches!(verdict, Verdict::Ended(Outcome::Failed(_))) {
            blocked.extend(group);
        }
        (job, verdict)
    })
}

fn new_report(delivery: &Delivery<'_>, outcome: Outcome) -> Report {
    let Ok(event) = &delivery.event else {
        return Report::new(outcome);
    };
    let created_at = match delivery.origin {
        Origin::Purchasely => event.time_ms("event_created_at"),
        Origin::Redelivered => None,
    };
    let age = created_at
        .and_then(|milliseconds| u64::try_from(milliseconds).ok())
        // Clocks may disagree.
        .map(|created| clock::unix_time().saturating_sub(Duration::from_millis(created)));
    Report::of_event(outcome, event, age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_already_old_has_less_time() {
        let received = clock::instant();
        let end = |age| Budget::start(received, Duration::from_millis(age)).uploads_end - received;
        assert_eq!(end(0), Duration::from_millis(6500));
        assert_eq!(end(2000), Duration::from_millis(4500));
        assert_eq!(end(9000), Duration::ZERO);
    }
}
