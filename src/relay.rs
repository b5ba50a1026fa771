//! The heart: events in, one outcome each out, within the time that Purchasely waits.
//!
//! It does not know how events arrive, nor what an outcome answers. One event and a batch take the
//! same way: map, claim, upload, settle.

mod upload;

use crate::aws::claims::{self, Claim, Claims};
use crate::aws::queues::{DeadLetterQueue, Letter, REASON, RECORDS};
use crate::aws::secret::{Secret, Secrets};
use crate::clevertap::{Client, Record, Role, User};
use crate::mapping::identity::{Identified, identify};
use crate::mapping::{self, Account, FieldOutcome, Ignored, Mapped, Origin, Rules};
use crate::outcome::{Failure, Outcome, Permanent};
use crate::purchasely::{Event, Unreadable, catalogue};
use crate::telemetry::{Report, Upload, showable_id};
use futures_util::future::join_all;
use http::HeaderValue;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::Instant;
use upload::{End, Entry};

/// All of an event's time, from receipt. Work 8 s < Lambda's timeout 9 s < API Gateway's 9.5 s <
/// Purchasely's 10 s.
pub const WORK: Duration = Duration::from_secs(8);
/// What uploads leave of it, so that there is always time to settle.
const SETTLING: Duration = Duration::from_millis(1500);

/// The moments by which an event's work must have ended, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// No upload is begun or awaited after this.
    pub uploads_end: Instant,
    /// Nothing at all is awaited after this.
    pub ends: Instant,
}

impl Budget {
    /// Counts from `received`, less what the request had already aged on its way here.
    #[must_use]
    pub fn start(received: Instant, age: Duration) -> Self {
        let work = WORK.saturating_sub(age);
        Self {
            uploads_end: received + work.saturating_sub(SETTLING),
            ends: received + work,
        }
    }
}

/// One event on its way, however it came.
#[derive(Debug)]
pub struct Delivery<'d> {
    /// The raw webhook.
    pub body: &'d [u8],
    /// What it says.
    pub event: Result<Event, Unreadable>,
    /// Whether it comes for the first time, and whole.
    pub origin: Origin,
    /// The records that are still to be sent, where it is not all of them.
    pub only: Option<Vec<Role>>,
    /// What the events of one user have in common, where their order is ours to keep.
    pub group: Option<&'d str>,
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
    /// What keeps an event from being relayed twice.
    pub claims: Option<Claims>,
    /// What keeps an event that can never be relayed.
    pub dead_letters: Option<DeadLetterQueue>,
}

/// What is to be done for one delivery.
enum Plan<'e> {
    /// It has ended.
    Ended(Outcome),
    /// It can never be relayed.
    Hopeless(Permanent),
    /// The first of two copies decides for both.
    LikeThat(usize),
    /// To be uploaded.
    Send {
        account: Account,
        records: Vec<Record<'e>>,
        claim: String,
    },
}

impl Relay {
    /// Relays deliveries, in their order, with the secret that was read for them.
    pub async fn relay(
        &self,
        deliveries: &[Delivery<'_>],
        secret: Arc<Secret>,
        budget: Budget,
    ) -> Vec<Report> {
        let mut reports: Vec<Report> = deliveries.iter().map(report).collect();
        let mut plans: Vec<Plan<'_>> = deliveries
            .iter()
            .zip(&mut reports)
            .map(|(delivery, report)| self.plan(delivery, &mut report.adjustments))
            .collect();
        self.claim(&mut plans, &mut reports).await;
        hold_back_groups(deliveries, &mut plans);

        let mut ends = vec![End::default(); plans.len()];
        for account in [Account::Main, Account::Sandbox] {
            let entries = entries(deliveries, &plans, account);
            if !entries.is_empty() {
                self.upload(entries, account, Arc::clone(&secret), budget, &mut ends)
                    .await;
            }
        }

        self.settle(deliveries, &plans, &ends, &mut reports).await;
        for (report, end) in reports.iter_mut().zip(ends) {
            report.upload = end.upload;
        }
        reports
    }

    fn plan<'e>(&'e self, delivery: &'e Delivery<'_>, adjustments: &mut Vec<String>) -> Plan<'e> {
        let event = match &delivery.event {
            Ok(event) => event,
            Err(why) => return Plan::Hopeless(Permanent::Unreadable(*why)),
        };
        let mut on_field = |field: &str, fate: FieldOutcome<'_>| {
            if fate.is_adjustment() {
                adjustments.push(format!("{field}: {}", <&str>::from(&fate)));
            }
        };
        match mapping::map(event, &self.rules, delivery.origin, &mut on_field) {
            Mapped::Ignored(why) => Plan::Ended(Outcome::Ignored(why)),
            Mapped::Unmappable(why) => Plan::Hopeless(Permanent::Unmappable(why)),
            Mapped::Records {
                account,
                mut records,
            } => {
                if let Some(only) = &delivery.only {
                    records.retain(|record| only.contains(&record.role));
                }
                if records.is_empty() {
                    return Plan::Ended(Outcome::Ignored(Ignored::EventDisabled));
                }
                Plan::Send {
                    account,
                    records,
                    claim: claims::key(event.id(), delivery.body),
                }
            }
        }
    }

    /// Claims what is to be sent, all at once. Of two copies the first is claimed.
    async fn claim(&self, plans: &mut [Plan<'_>], reports: &mut [Report]) {
        if self.dry_run {
            return;
        }
        let mut first: HashMap<String, usize> = HashMap::new();
        for (position, plan) in plans.iter_mut().enumerate() {
            let Plan::Send { claim, .. } = plan else {
                continue;
            };
            if let Some(earlier) = first.get(claim) {
                *plan = Plan::LikeThat(*earlier);
            } else {
                first.insert(claim.clone(), position);
            }
        }
        let Some(claims) = &self.claims else {
            return;
        };
        let asked = first
            .into_iter()
            .map(|(key, position)| async move { (position, claims.claim(&key).await) });
        for (position, claim) in join_all(asked).await {
            match claim {
                Claim::Taken => {}
                Claim::Unknown => reports[position].is_unprotected = true,
                Claim::Done => plans[position] = Plan::Ended(Outcome::Duplicate),
                Claim::InProgress => {
                    plans[position] = Plan::Ended(Outcome::Failed(Failure::InProgress));
                }
            }
        }
    }

    /// Completes the claim of what CleverTap accepted and keeps what it never will.
    async fn settle(
        &self,
        deliveries: &[Delivery<'_>],
        plans: &[Plan<'_>],
        ends: &[End],
        reports: &mut [Report],
    ) {
        // Within a group nothing after a failure is settled but what was accepted with it.
        let mut failed = HashSet::new();
        let mut settling = Vec::with_capacity(plans.len());
        for ((delivery, plan), end) in deliveries.iter().zip(plans).zip(ends) {
            let mut verdict = self.verdict(plan, end);
            let accepted = matches!(verdict, Ok(Outcome::Relayed | Outcome::DryRun));
            if !accepted && delivery.group.is_some_and(|group| failed.contains(group)) {
                verdict = Ok(Outcome::Failed(Failure::Held));
            }
            if matches!(verdict, Ok(Outcome::Failed(_))) {
                failed.extend(delivery.group);
            }
            settling.push(async move {
                let mut completed = true;
                if let (Ok(Outcome::Relayed), Plan::Send { claim, .. }, Some(claims)) =
                    (&verdict, plan, &self.claims)
                {
                    completed = claims.complete(claim).await;
                }
                let outcome = match verdict {
                    Ok(outcome) => outcome,
                    Err(why) => self.keep(delivery, why, end).await,
                };
                (outcome, completed)
            });
        }
        for (report, (outcome, completed)) in reports.iter_mut().zip(join_all(settling).await) {
            report.outcome = outcome;
            report.is_unprotected |= !completed;
        }
        for (position, plan) in plans.iter().enumerate() {
            if let Plan::LikeThat(first) = plan {
                reports[position].outcome = reports[*first].outcome;
            }
        }
    }

    /// How a plan ended, or why it never can.
    fn verdict(&self, plan: &Plan<'_>, end: &End) -> Result<Outcome, Permanent> {
        match plan {
            Plan::Ended(outcome) => Ok(*outcome),
            Plan::Hopeless(why) => Err(*why),
            // Replaced by the first copy's.
            Plan::LikeThat(_) => Ok(Outcome::Duplicate),
            Plan::Send { .. } => match (end.undecided, end.refused.first()) {
                (Some(failure), _) => Ok(Outcome::Failed(failure)),
                (None, Some((_, code))) => Err(Permanent::Refused(*code)),
                (None, None) if self.dry_run => Ok(Outcome::DryRun),
                (None, None) => Ok(Outcome::Relayed),
            },
        }
    }

    /// Keeps an event that can never be relayed, with what the next reader needs to know.
    async fn keep(&self, delivery: &Delivery<'_>, why: Permanent, end: &End) -> Outcome {
        let Some(queue) = &self.dead_letters else {
            return Outcome::Failed(Failure::NotKept(why));
        };
        let outcome = Outcome::DeadLettered(why);
        let event = delivery.event.as_ref().ok();
        let text = |text: Option<&str>| Cow::Owned(text.unwrap_or_default().to_owned());
        let code = match why {
            Permanent::Refused(code) => Some(code.to_string()),
            Permanent::Unreadable(_) | Permanent::Unmappable(_) => None,
        };
        let letter = Letter {
            body: delivery.body,
            attributes: vec![
                (REASON, text(outcome.row().reason)),
                ("code", text(code.as_deref())),
                ("event_id", text(event.and_then(Event::id))),
                ("event_name", text(event.map(Event::name))),
                ("received_at", text(now().as_deref())),
                (RECORDS, text(still_wanted(delivery, end).as_deref())),
            ],
            group: &self.group_of(delivery),
        };
        match queue.keep(&letter).await {
            Ok(()) => outcome,
            Err(error) => {
                tracing::error!("{error}");
                Outcome::Failed(Failure::NotKept(why))
            }
        }
    }

    /// The user, as far as the event names one, else the body: what goes into no message as it is.
    fn group_of(&self, delivery: &Delivery<'_>) -> Vec<u8> {
        let user = delivery
            .event
            .as_ref()
            .ok()
            .map(|event| identify(event, &self.rules.identity));
        match user {
            Some(Identified::User(User::Identity(id) | User::ObjectId(id))) => {
                id.into_owned().into_bytes()
            }
            _ => delivery.body.to_vec(),
        }
    }
}

/// After an event that cannot be sent at this moment, no later one of its group is sent.
fn hold_back_groups(deliveries: &[Delivery<'_>], plans: &mut [Plan<'_>]) {
    let mut blocked = HashSet::new();
    for (delivery, plan) in deliveries.iter().zip(plans) {
        let Some(group) = delivery.group else {
            continue;
        };
        match plan {
            Plan::Ended(Outcome::Failed(_)) => {
                blocked.insert(group);
            }
            Plan::Send { .. } if blocked.contains(group) => {
                *plan = Plan::Ended(Outcome::Failed(Failure::Held));
            }
            _ => {}
        }
    }
}

fn entries<'r>(
    deliveries: &'r [Delivery<'_>],
    plans: &'r [Plan<'r>],
    to: Account,
) -> Vec<Entry<'r>> {
    let mut entries = Vec::new();
    for (position, plan) in plans.iter().enumerate() {
        if let Plan::Send {
            account, records, ..
        } = plan
            && *account == to
        {
            let group = deliveries[position].group;
            entries.extend(records.iter().map(|record| Entry {
                position,
                group,
                record,
            }));
        }
    }
    entries
}

/// The records that a redrive has still to send, where others of the event were accepted.
fn still_wanted(delivery: &Delivery<'_>, end: &End) -> Option<String> {
    if !end.accepted && delivery.only.is_none() {
        return None;
    }
    let roles: Vec<_> = end
        .refused
        .iter()
        .map(|(role, _)| <&str>::from(*role))
        .collect();
    Some(roles.join(","))
}

fn report(delivery: &Delivery<'_>) -> Report {
    let event = delivery.event.as_ref().ok();
    Report {
        // Replaced by the outcome; it stands for an event that was never relayed.
        outcome: Outcome::Failed(Failure::TimedOut),
        event_id: event
            .and_then(Event::id)
            .and_then(showable_id)
            .map(str::to_owned),
        event_name: event.map(|event| event.name().to_owned()),
        event_age: event
            .filter(|_| delivery.origin == Origin::Purchasely)
            .and_then(|event| age(event.time_ms("event_created_at")?)),
        is_unknown: event.is_some_and(|event| !catalogue::is_known_event(event.name())),
        is_unprotected: false,
        upload: Upload::default(),
        adjustments: Vec::new(),
    }
}

/// How long ago a moment in Unix milliseconds was; no time at all if clocks disagree.
fn age(created_ms: i64) -> Option<Duration> {
    let created = Duration::from_millis(u64::try_from(created_ms).ok()?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(now.saturating_sub(created))
}

fn now() -> Option<String> {
    OffsetDateTime::from(SystemTime::now())
        .format(&Rfc3339)
        .ok()
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
}
