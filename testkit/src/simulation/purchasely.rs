//! Purchasely and API Gateway: each user's events, sent until they are acknowledged.
//! It does not know what a webhook causes.

use super::events::{Event, Kind, PRIVATE};
use super::history::Limit;
use super::lambda::{Lambda, NoAnswer};
use super::scenario::Length;
use super::world::{MAX_DRAIN, World};
use crate::webhook::{Front, Webhook};
use purchasely_clevertap::aws::claims;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Purchasely's read timeout, and API Gateway's in the template.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);
const GATEWAY_TIMEOUT: Duration = Duration::from_millis(9500);
/// Purchasely's own: 25, over 20 days.
pub const RETRIES: u64 = 25;

pub struct Purchasely {
    world: Arc<World>,
    lambda: Arc<Lambda>,
    /// Those that API Gateway had for requests, and when.
    tokens: Mutex<(Duration, f64)>,
}

/// Purchasely's published schedule: 20 s, 26 s, 46 s, 1m56, 4m56, 11m, … 3d20h.
pub fn delay_after(failures: u64) -> Duration {
    let n = failures - 1;
    Duration::from_secs(n.pow(4) + 15 + 5 * (n + 1))
}

impl Purchasely {
    pub fn new(world: &Arc<World>, lambda: &Arc<Lambda>) -> Self {
        Self {
            world: Arc::clone(world),
            lambda: Arc::clone(lambda),
            tokens: Mutex::new((Duration::ZERO, f64::INFINITY)),
        }
    }

    /// Sends a user's events in order: none before Purchasely has a 200 for the one before.
    pub async fn user(self: Arc<Self>, user: usize) {
        let begin = Instant::now();
        let count = self.world.scenario.events_per_user;
        for event in &self.world.events[user * count..][..count] {
            sleep_until(begin + event.at).await;
            if self.is_over() {
                return;
            }
            let signed_at = self.world.now();
            let mut failures = 0;
            self.world.state().run.history[event.number].sent = self.world.elapsed();
            while !self.deliver_event(event, signed_at).await {
                failures += 1;
                self.world.state().run.history[event.number].failures = failures;
                if failures > RETRIES {
                    self.world.problem(format!("Purchasely gave up on {}", event.id));
                    break;
                }
                sleep(delay_after(failures)).await;
                if self.is_over() {
                    return;
                }
            }
            self.world.state().run.history[event.number].acknowledged = Some(self.world.elapsed());
        }
    }

    fn is_over(&self) -> bool {
        let load = self.world.scenario.load.as_ref();
        load.is_some_and(|load| self.world.elapsed() > load.end)
    }

    /// Whether an event is acknowledged. In a storm it is sent twice now and then, at once or some time later.
    async fn deliver_event(self: &Arc<Self>, event: &Event, signed_at: Duration) -> bool {
        let copy_after = {
            let is_storm = self.world.is_storm() && self.world.scenario.length != Length::Short;
            let mut state = self.world.state();
            let is_copied = is_storm && state.rng.u8(..30) == 0;
            state.run.history[event.number].is_copied |= is_copied;
            is_copied.then(|| [0, 30, 1_000, 60_000][state.rng.usize(..4)])
        };
        if let Some(copy_after) = copy_after {
            let (purchasely, number) = (Arc::clone(self), event.number);
            tokio::spawn(async move {
                sleep(Duration::from_millis(copy_after)).await;
                purchasely.post(&purchasely.world.events[number], signed_at).await;
            });
        }
        self.post(event, signed_at).await == Some(200)
    }

    /// Sends some events once more, some of them after the table forgot their claims.
    pub async fn replay(self: &Arc<Self>) {
        for _ in 0..self.world.scenario.replays {
            let hours = self.world.state().rng.u64(1..24 * 20);
            let number = self.world.state().rng.usize(..self.world.events.len());
            sleep(Duration::from_hours(hours)).await;
            let now = self.world.now();
            self.world.state().aws.claims.expire(now.as_secs());
            self.post(&self.world.events[number], now).await;
            self.world.drain(Instant::now() + MAX_DRAIN).await;
        }
    }

    /// One delivery: its status, unless there was none within Purchasely's 10 s.
    async fn post(self: &Arc<Self>, event: &Event, signed_at: Duration) -> Option<u16> {
        let (is_reached, is_answered, signed_at, front, body) = {
            let rate = self.world.storm_rate(self.world.scenario.fault_rate / 2.0);
            let mut state = self.world.state();
            let is_reached = state.rng.f64() >= rate;
            let is_answered = state.rng.f64() >= rate;
            // Whether Purchasely signs a retry again is not documented.
            let signed_at = if state.rng.bool() { self.world.now() } else { signed_at };
            let front = [Front::HttpApi, Front::HttpApiBase64, Front::RestApi];
            let front = front[state.rng.usize(..3)];
            (is_reached, is_answered, signed_at, front, event.bytes(&mut state.rng))
        };
        if !is_reached {
            return None;
        }
        self.world.note(format!("Purchasely sends {}", event.id));
        let signed_with = self.world.state().signs_with;
        let id = Some(&*event.id).filter(|_| event.kind != Kind::WithoutId);
        if self.world.scenario.load.is_none() {
            self.world.state().keys.insert(claims::key(id, &body), event.id.clone());
            self.world.state().bodies.insert(claims::key(None, &body), event.number);
        }
        let webhook = Webhook::new(body, &World::shared_secret(signed_with), signed_at.as_secs());
        let mut envelope = webhook.envelope(front);
        let [_, time] = front.times();
        let now_ms = u64::try_from(self.world.now().as_millis()).unwrap_or(0);
        envelope["requestContext"][time] = json!(now_ms);
        let (purchasely, number) = (Arc::clone(self), event.number);
        // The function goes on when nobody waits for it any longer.
        let serving =
            tokio::spawn(async move { purchasely.gateway(envelope, signed_with, number).await });
        let status = timeout(READ_TIMEOUT, serving).await.ok()?.ok()?;
        let in_vain = if is_answered { "" } else { ", in vain" };
        self.world.note(format!("{} is answered {status}{in_vain}", event.id));
        is_answered.then_some(status)
    }

    /// API Gateway: the function's answer, or one of its own.
    async fn gateway(&self, envelope: Value, signed_with: usize, number: usize) -> u16 {
        let event_id = &*self.world.events[number].id;
        let forwarded = || self.world.state().forwarded.iter().filter(|it| **it == number).count();
        let before = forwarded();
        if self.world.state().is_api_closed {
            return 429;
        }
        if !self.accepts() {
            self.world.state().run.meet(Limit::Requests);
            return 429;
        }
        let is_calm = self.world.state().calm_from.is_some_and(|calm| self.world.elapsed() > calm);
        let status =
            match timeout(GATEWAY_TIMEOUT, self.lambda.invoke(envelope, Some(signed_with))).await {
                Ok(Ok(answer)) => self.status_of(&answer),
                Ok(Err(NoAnswer::Throttled)) => {
                    self.world.state().run.throttled += 1;
                    self.world.note(format!("no environment is free for {event_id}"));
                    return 503;
                }
                Ok(Err(NoAnswer::TimedOut)) => 503,
                Ok(Err(NoAnswer::Crashed | NoAnswer::Failed)) => 502,
                Err(_) => {
                    self.world.problem(format!("API Gateway gave up on {event_id}"));
                    return 503;
                }
            };
        if is_calm && status != 200 {
            let problem = format!("{event_id} is answered {status} although everything works");
            self.world.problem(problem);
        }
        if self.world.scenario.forwards && status == 200 && forwarded() == before {
            self.world.problem(format!("{event_id} is answered 200 and was not forwarded"));
        }
        status
    }

    /// API Gateway's throttling: whether there is a token, of which so many come each second.
    fn accepts(&self) -> bool {
        let load = self.world.scenario.load.as_ref();
        let Some([rate, burst]) = load.and_then(|load| load.throttling) else {
            return true;
        };
        let (now, mut tokens) = (self.world.elapsed(), self.tokens.lock().expect("no panic"));
        let come = rate * now.saturating_sub(tokens.0).as_secs_f64();
        *tokens = (now, (tokens.1 + come).min(burst));
        let accepts = tokens.1 >= 1.0;
        tokens.1 -= f64::from(u8::from(accepts));
        accepts
    }

    fn status_of(&self, answer: &Value) -> u16 {
        let text = answer.to_string();
        if text.contains(PRIVATE) {
            self.world.problem(format!("an answer has a secret or a user id: {text}"));
        }
        let status = answer["statusCode"].as_u64().unwrap_or(0);
        status.try_into().unwrap_or(0)
    }
}
