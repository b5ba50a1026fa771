//! Purchasely: events of users, each sent until it is acknowledged, and the incidents of a run.
//! It does not know what a webhook causes.

use super::faults::Service;
use super::lambda::NoAnswer;
use super::scenario::{Length, Scenario};
use super::world::{PRIVATE, World};
use crate::webhook::{Front, Webhook};
use crate::world::claims::ClaimsTable;
use purchasely_clevertap::aws::claims;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Purchasely's read timeout, and API Gateway's in the template.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);
const GATEWAY_TIMEOUT: Duration = Duration::from_millis(9500);
/// Purchasely's own: 25, over 20 days.
pub const RETRIES: u64 = 25;
/// Its profile is written all the same.
pub const DISABLED_EVENT: &str = "RENEWAL_DISABLED";
/// Between the number of the user and the number of the event.
const ID_MIDDLE: &str = "-0000-4000-8000-";
/// By then an event queue is empty once everything works.
const MAX_DRAIN: Duration = Duration::from_hours(3);
/// For so long faults and incidents have an effect: an outage ends after five minutes, and a claim in progress after
/// ten seconds by clocks that are twenty minutes apart.
const AFTERMATH: Duration = Duration::from_mins(30);
const CLEVERTAP_FIXED: Duration = Duration::from_mins(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A transaction has a revenue record as well.
    Plain {
        is_transaction: bool,
    },
    /// Ignored by rule.
    Anonymous,
    Sandbox,
    /// A dead letter for ever.
    Unreadable,
    /// A dead letter until CleverTap accepts its name.
    Poison,
    /// The event is disabled, so its profile is its only record.
    Profile,
    /// Without an `event_id`, and with other white space now and then.
    WithoutId,
}

/// A webhook to send.
pub struct Event {
    pub id: String,
    pub user: usize,
    pub kind: Kind,
    /// Its place among all events.
    pub number: usize,
    /// When it happens, since the world began.
    at: Duration,
    body: String,
}

#[derive(Clone, Copy, Debug)]
enum Incident {
    Away(Service, Duration),
    /// CleverTap's passcode changes, and the secret before or after it.
    Passcode {
        is_secret_first: bool,
    },
    /// Purchasely's shared secret changes, and the secret before or after it.
    SharedSecret {
        is_secret_first: bool,
    },
    Mode,
    Redrive,
    /// The claims table is empty.
    TableReplaced,
    RevenueRefused(Duration),
    ProfilesRefused(Duration),
    /// The clocks of environments that start from here on are wrong.
    Clock(i64),
}

impl Event {
    pub fn draw_all(scenario: &Scenario, rng: &mut fastrand::Rng) -> Vec<Self> {
        let mut events = Vec::new();
        for user in 0..scenario.users {
            let mut at = scenario.first_event(rng);
            for number in 0..scenario.events_per_user {
                let kind = match rng.u8(..24) {
                    _ if scenario.length == Length::Short => {
                        Kind::Plain { is_transaction: number == 0 }
                    }
                    0 => Kind::Anonymous,
                    1 => Kind::Sandbox,
                    2 => Kind::Unreadable,
                    3 => Kind::Poison,
                    4 => Kind::WithoutId,
                    5 => Kind::Profile,
                    roll => Kind::Plain { is_transaction: roll < 12 },
                };
                // Some come together, as those of one purchase.
                if number > 0 && rng.bool() {
                    let longest = scenario.storm.as_secs() / scenario.events_per_user as u64;
                    at += Duration::from_secs(rng.u64(..=longest));
                }
                events.push(Self {
                    number: events.len(),
                    ..Self::new(user, number, kind, at)
                });
            }
        }
        events
    }

    fn new(user: usize, number: usize, kind: Kind, at: Duration) -> Self {
        let id = format!("{user:08x}{ID_MIDDLE}{number:012x}");
        if kind == Kind::Unreadable {
            return Self {
                body: format!("unreadable {id}"),
                id,
                user,
                kind,
                number,
                at,
            };
        }
        let is_transaction = matches!(kind, Kind::Plain { is_transaction: true });
        let name = match kind {
            Kind::Plain { is_transaction: true } => "TRANSACTION_PROCESSED",
            Kind::Profile => DISABLED_EVENT,
            _ => "SUBSCRIPTION_RENEWED",
        };
        let mut body = json!({
            "api_version": 3,
            "event_name": name,
            "event_id": id,
            "environment": if kind == Kind::Sandbox { "SANDBOX" } else { "PRODUCTION" },
            "event_created_at_ms": 1_772_439_330_250_u64 + u64::try_from(at.as_millis()).unwrap_or(0),
            "store": "APPLE_APP_STORE",
            "store_transaction_id": id,
            "plan": "yearly",
            // It is in the event and in the profile, and so names the event of a profile.
            "product": id,
            "subscription_status": "AUTO_RENEWING",
            "customer_currency": "EUR",
        });
        let user_field = if kind == Kind::Anonymous {
            "anonymous_user_id"
        } else {
            "user_id"
        };
        body[user_field] = json!(format!("{PRIVATE}-user-{user}"));
        if is_transaction {
            body["amount_in_usd"] = json!(65.12);
            body["amount_in_customer_currency"] = json!(59.99);
        }
        if kind == Kind::WithoutId {
            body.as_object_mut().expect("an object").remove("event_id");
        }
        Self { body: body.to_string(), id, user, kind, number, at }
    }

    /// The bytes of a delivery.
    fn bytes(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let is_varied = self.kind == Kind::WithoutId && rng.u8(..4) == 0;
        if is_varied {
            format!("{} ", self.body)
        } else {
            self.body.clone()
        }
        .into_bytes()
    }

    /// Whether the rules write a profile for it.
    pub fn has_profile(&self) -> bool {
        matches!(
            self.kind,
            Kind::Plain { is_transaction: false } | Kind::Poison | Kind::Profile | Kind::WithoutId
        )
    }

    pub fn is_poison(&self) -> bool {
        self.kind == Kind::Poison
    }
}

/// The ids of events in a text.
pub fn ids_in(text: &str) -> BTreeSet<String> {
    let ids = text.match_indices(ID_MIDDLE).filter_map(|(middle, _)| {
        text.get(middle.checked_sub(8)?..middle + ID_MIDDLE.len() + 12)
            .map(str::to_owned)
    });
    ids.collect()
}

/// Purchasely's published schedule: 20 s, 26 s, 46 s, 1m56, 4m56, 11m, … 3d20h.
pub fn delay_after(failures: u64) -> Duration {
    let n = failures - 1;
    Duration::from_secs(n.pow(4) + 15 + 5 * (n + 1))
}

/// Lets a world run from its first event until nothing is under way.
pub async fn play(world: &Arc<World>) {
    for _ in 0..world.scenario.pollers {
        tokio::spawn(Arc::clone(world).deliver());
    }
    let incidents = tokio::spawn(Arc::clone(world).incidents());
    let users: Vec<_> = (0..world.scenario.users)
        .map(|user| tokio::spawn(Arc::clone(world).user(user)))
        .collect();
    for (user, task) in users.into_iter().enumerate() {
        if task.await.is_err() {
            world.state().problems.push(format!("user {user} panicked"));
        }
    }
    let end = Instant::now() + MAX_DRAIN;
    if !matches!(tokio::time::timeout_at(end, incidents).await, Ok(Ok(()))) {
        world.state().problems.push("the switch to direct never ends".to_owned());
    }
    world.drain(end).await;
    sleep_until(Instant::now() + CLEVERTAP_FIXED).await;
    world.state().has_poison = false;
    // What dead letters say about their records must do without the table.
    if world.scenario.length == Length::Usual && world.state().rng.bool() {
        world.happen(Incident::TableReplaced).await;
    }
    world.redrive();
    world.drain(Instant::now() + MAX_DRAIN).await;
    world.replay().await;
    // Requests that are still under way.
    sleep(Duration::from_mins(2)).await;
    world.note("the end");
}

impl World {
    /// Sends a user's events in order: none before Purchasely has a 200 for the one before.
    async fn user(self: Arc<Self>, user: usize) {
        let begin = Instant::now();
        for event in self.events.iter().filter(|event| event.user == user) {
            sleep_until(begin + event.at).await;
            let signed_at = self.now();
            let mut failures = 0;
            self.state().sendings[event.number].first = Some(self.elapsed());
            while !self.deliver_event(event, signed_at).await {
                failures += 1;
                self.state().sendings[event.number].failures = failures;
                if failures > RETRIES {
                    let problem = format!("Purchasely gave up on {}", event.id);
                    self.state().problems.push(problem);
                    break;
                }
                sleep(delay_after(failures)).await;
            }
            self.state().sendings[event.number].acknowledged = Some(self.elapsed());
        }
    }

    /// Whether an event is acknowledged. In a storm it is sent twice now and then, at once or some time later.
    async fn deliver_event(self: &Arc<Self>, event: &Event, signed_at: Duration) -> bool {
        let copy_after = {
            let is_storm = self.is_storm() && self.scenario.length != Length::Short;
            let mut state = self.state();
            let is_copied = is_storm && state.rng.u8(..30) == 0;
            state.sendings[event.number].is_copied |= is_copied;
            is_copied.then(|| [0, 30, 1_000, 60_000][state.rng.usize(..4)])
        };
        let Some(copy_after) = copy_after else {
            return self.post(event, signed_at).await == Some(200);
        };
        let (world, number) = (Arc::clone(self), event.number);
        tokio::spawn(async move {
            sleep(Duration::from_millis(copy_after)).await;
            world.post(&world.events[number], signed_at).await;
        });
        self.post(event, signed_at).await == Some(200)
    }

    /// Sends some events once more, some of them after the table forgot their claims.
    async fn replay(self: &Arc<Self>) {
        for _ in 0..self.scenario.replays {
            let (wait, number) = {
                let mut state = self.state();
                (
                    Duration::from_hours(state.rng.u64(1..24 * 20)),
                    state.rng.usize(..self.events.len()),
                )
            };
            sleep(wait).await;
            let now = self.now();
            self.state().table.expire(now.as_secs());
            self.post(&self.events[number], now).await;
            self.drain(Instant::now() + MAX_DRAIN).await;
        }
    }

    /// One delivery: its status, unless there was none within Purchasely's 10 s.
    async fn post(self: &Arc<Self>, event: &Event, signed_at: Duration) -> Option<u16> {
        let (is_reached, is_answered, signed_at, front, body) = {
            let rate = if self.is_storm() {
                self.scenario.fault_rate / 2.0
            } else {
                0.0
            };
            let mut state = self.state();
            let is_reached = state.rng.f64() >= rate;
            let is_answered = state.rng.f64() >= rate;
            // Whether Purchasely signs a retry again is not documented.
            let signed_at = if state.rng.bool() { self.now() } else { signed_at };
            let front = [Front::HttpApi, Front::HttpApiBase64, Front::RestApi];
            let front = front[state.rng.usize(..3)];
            (is_reached, is_answered, signed_at, front, event.bytes(&mut state.rng))
        };
        if !is_reached {
            return None;
        }
        self.note(format!("Purchasely sends {}", event.id));
        let secret = Self::shared_secret(self.state().signs_with);
        let id = Some(&*event.id).filter(|_| event.kind != Kind::WithoutId);
        self.state().keys.insert(claims::key(id, &body), event.id.clone());
        let webhook = Webhook::new(body, &secret, signed_at.as_secs());
        let mut envelope = webhook.envelope(front);
        let time = if front == Front::RestApi {
            "requestTimeEpoch"
        } else {
            "timeEpoch"
        };
        envelope["requestContext"][time] =
            json!(u64::try_from(self.now().as_millis()).unwrap_or(0));
        let (world, id) = (Arc::clone(self), event.id.clone());
        // The function goes on when nobody waits for it any longer.
        let serving = tokio::spawn(async move { world.gateway(envelope, &id).await });
        let status = timeout(READ_TIMEOUT, serving).await.ok()?.ok()?;
        self.note(format!(
            "{} is answered {status}{}",
            event.id,
            if is_answered { "" } else { ", in vain" }
        ));
        is_answered.then_some(status)
    }

    /// API Gateway: the function's answer, or one of its own.
    async fn gateway(self: &Arc<Self>, envelope: Value, event_id: &str) -> u16 {
        if self.state().is_api_closed {
            return 429;
        }
        let is_calm = self.state().calm_from.is_some_and(|calm| self.elapsed() > calm);
        let status = match timeout(GATEWAY_TIMEOUT, self.invoke(envelope)).await {
            Ok(Ok(answer)) => self.status_of(&answer),
            Ok(Err(NoAnswer::Throttled)) => {
                self.state().throttled += 1;
                self.note(format!("no environment is free for {event_id}"));
                return 503;
            }
            Ok(Err(NoAnswer::TimedOut)) => 503,
            Ok(Err(NoAnswer::Crashed | NoAnswer::Failed)) => 502,
            Err(_) => {
                let problem = format!("API Gateway gave up on {event_id}");
                self.state().problems.push(problem);
                return 503;
            }
        };
        if is_calm && status != 200 {
            let problem = format!("{event_id} is answered {status} although everything works");
            self.state().problems.push(problem);
        }
        status
    }

    fn status_of(&self, answer: &Value) -> u16 {
        let text = answer.to_string();
        if text.contains(PRIVATE) {
            self.state()
                .problems
                .push(format!("an answer has a secret or a user id: {text}"));
        }
        answer["statusCode"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(0)
    }

    /// Waits until the event queue is empty.
    async fn drain(&self, end: Instant) {
        while !self.state().queue.messages().is_empty() {
            if Instant::now() > end {
                self.state().problems.push("the event queue is never empty".to_owned());
                return;
            }
            sleep(Duration::from_secs(20)).await;
        }
    }

    fn redrive(&self) {
        let now = self.now();
        let mut state = self.state();
        let state = &mut *state;
        state.dead_letters.redrive(&mut state.queue, now);
        self.queue_changed.notify_waiters();
    }

    async fn incidents(self: Arc<Self>) {
        let begin = Instant::now();
        let mut drawn: Vec<_> = {
            let mut state = self.state();
            let storm = self.scenario.storm.as_secs();
            let may_switch = self.scenario.length != Length::Long;
            let draw = |_| {
                let at = Duration::from_secs(state.rng.u64(..storm));
                (at, Incident::draw(&mut state.rng, may_switch))
            };
            (0..self.scenario.incidents).map(draw).collect()
        };
        drawn.sort_by_key(|(at, _)| *at);
        for (at, incident) in drawn {
            sleep_until(begin + at).await;
            self.note(format!("{incident:?}"));
            self.happen(incident).await;
        }
        let calm_from = self.elapsed().max(self.scenario.storm) + AFTERMATH;
        self.state().calm_from = Some(calm_from);
    }

    async fn happen(&self, incident: Incident) {
        let gap = Duration::from_secs(self.state().rng.u64(..90));
        match incident {
            Incident::Away(service, duration) => {
                let until = self.elapsed() + duration;
                self.state().away.insert(service, until);
            }
            Incident::Passcode { is_secret_first } => {
                let change = |is_secret: bool| {
                    let mut state = self.state();
                    if is_secret {
                        state.secret_passcode += 1;
                    } else {
                        state.passcode += 1;
                    }
                    drop(state);
                    self.publish_secrets();
                };
                change(is_secret_first);
                sleep(gap).await;
                change(!is_secret_first);
            }
            Incident::SharedSecret { is_secret_first } => {
                let change = |is_secret: bool| {
                    let mut state = self.state();
                    if is_secret {
                        let (current, _) = state.shared_secrets;
                        state.shared_secrets = (current + 1, current);
                    } else {
                        state.signs_with += 1;
                    }
                    drop(state);
                    self.publish_secrets();
                };
                change(is_secret_first);
                sleep(gap).await;
                change(!is_secret_first);
            }
            Incident::Mode => {
                let is_queue = self.state().is_queue;
                if is_queue {
                    // As docs/operations.md describes it: Purchasely keeps what comes until the queue is empty.
                    self.state().is_api_closed = true;
                    sleep(Duration::from_mins(1)).await;
                    self.drain(Instant::now() + MAX_DRAIN).await;
                }
                let mut state = self.state();
                state.is_queue = !is_queue;
                state.version += 1;
                state.is_api_closed = false;
            }
            Incident::Redrive => self.redrive(),
            Incident::TableReplaced => {
                let mut state = self.state();
                state.table = ClaimsTable::default();
                let tick = state.next_tick();
                state.replaced.push(tick);
            }
            Incident::RevenueRefused(duration) => {
                let until = self.elapsed() + duration;
                self.state().revenue_refused = until;
            }
            Incident::ProfilesRefused(duration) => {
                let until = self.elapsed() + duration;
                self.state().profiles_refused = until;
            }
            Incident::Clock(skew_ms) => self.state().skew_ms = skew_ms,
        }
    }
}

impl Incident {
    fn draw(rng: &mut fastrand::Rng, may_switch: bool) -> Self {
        let services =
            [Service::CleverTap, Service::SecretsManager, Service::DynamoDb, Service::Sqs];
        match rng.u8(..10) {
            0..=2 => {
                let seconds = rng.u64(20..300);
                Self::Away(services[rng.usize(..services.len())], Duration::from_secs(seconds))
            }
            3 => Self::Passcode { is_secret_first: rng.bool() },
            4 => Self::SharedSecret { is_secret_first: rng.bool() },
            5 if may_switch => Self::Mode,
            6 => Self::Redrive,
            7 => Self::TableReplaced,
            8 => {
                let duration = Duration::from_secs(rng.u64(20..300));
                if rng.bool() {
                    Self::RevenueRefused(duration)
                } else {
                    Self::ProfilesRefused(duration)
                }
            }
            _ => {
                let longest = if rng.bool() { 1_000 } else { 600_000 };
                Self::Clock(rng.i64(-longest..=longest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_of_a_long_world_do_not_begin_together() {
        let mut rng = fastrand::Rng::with_seed(0);
        let events = Event::draw_all(&Scenario::long(0, false), &mut rng);
        let mut begins: Vec<_> =
            events.chunk_by(|a, b| a.user == b.user).map(|user| user[0].at).collect();
        begins.sort();
        assert_eq!(begins.len(), 500);
        // In an hour and a half, about six users begin in each minute.
        let is_spread = |from: usize| {
            begins
                .get(from + 20)
                .is_none_or(|at| *at > begins[from] + Duration::from_mins(1))
        };
        assert!((0..500).all(is_spread));
    }
}
