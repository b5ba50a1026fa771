//! Lambda: environments that start cold, are frozen between invocations and may be killed at any poll, and the event
//! source mapping.
//! It does not know what the function does.

use super::link::Link;
use super::sender::{DISABLED_EVENT, ids_in};
use super::world::{DEAD_LETTERS_URL, QUEUE_URL, World};
use crate::harness::{ACCOUNT_ID, SECRET_ID};
use crate::world::event_source;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{
    Credentials, IdentityCache, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_smithy_async::time::TimeSource;
use lambda_runtime::{Context, LambdaEvent};
use purchasely_clevertap::config::Config;
use purchasely_clevertap::handler::Handler;
use purchasely_clevertap::http::SharedHttp;
use purchasely_clevertap::{app, clock};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The function's timeout in the template.
const TIMEOUT: Duration = Duration::from_secs(9);
/// What the function promises to need (docs/architecture.md, "Time").
const WORK: Duration = Duration::from_millis(8050);

/// An execution environment.
#[derive(Debug)]
pub struct Environment {
    number: usize,
    version: u32,
    handler: Arc<Handler>,
    link: Link,
    skew_ms: i64,
}

pub struct Invocation {
    pub started: Duration,
    /// Whether it is a batch of the event queue.
    pub is_batch: bool,
    /// Of a batch, the events that are dead letters with only some records left.
    pub left: BTreeMap<String, String>,
    /// Whether the environment ended before its answer was out.
    pub is_killed: bool,
}

/// Why an invocation has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    Throttled,
    Crashed,
    Failed,
    TimedOut,
}

/// The clock of the AWS SDK.
#[derive(Debug)]
struct Clock;

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        clock::now()
    }
}

impl World {
    /// Invokes the function once.
    pub async fn invoke(self: &Arc<Self>, payload: Value) -> Result<Value, NoAnswer> {
        let environment = self.environment().await?;
        let (invocation, mut kill_in) = {
            let mut state = self.state();
            let rate = if self.is_storm() { self.scenario.kill_rate } else { 0.0 };
            let kill_in = (state.rng.f64() < rate).then(|| state.rng.u32(1..14));
            state.invocations.push(Invocation {
                started: self.elapsed(),
                is_batch: payload.get("Records").is_some(),
                left: records_left(&payload),
                is_killed: false,
            });
            (state.invocations.len() - 1, kill_in)
        };
        environment.link.thaw(invocation);
        let number = environment.number;
        self.note(format!("environment {number} is invoked ({invocation})"));
        let mut context = Context::default();
        context.request_id = format!("request-{invocation}");
        let payload = serde_json::value::to_raw_value(&payload).expect("JSON");
        let started = Instant::now();
        let mut serving =
            Box::pin(Arc::clone(&environment.handler).handle(LambdaEvent::new(payload, context)));
        let serving = poll_fn(|context| {
            self.set_clock(environment.skew_ms);
            let polled = serving.as_mut().poll(context);
            self.set_clock(0);
            if self.is_killed(&mut kill_in) {
                Poll::Ready(None)
            } else {
                polled.map(Some)
            }
        });
        let served = timeout(TIMEOUT, serving).await;
        let took = started.elapsed();
        environment.link.freeze();
        self.note(format!("environment {number} is frozen after {took:?}"));
        let mut state = self.state();
        if took > WORK {
            state.problems.push(format!("invocation {invocation} took {took:?}"));
        }
        match served {
            Ok(Some(answer)) => {
                state.idle.push(environment);
                drop(state);
                let answer = answer.map_err(|_| NoAnswer::Failed)?;
                Ok(serde_json::to_value(answer).expect("an answer is JSON"))
            }
            ended => {
                state.environments -= 1;
                state.invocations[invocation].is_killed = true;
                drop(state);
                self.note(format!("environment {number} ends"));
                Err(if ended.is_ok() {
                    NoAnswer::Crashed
                } else {
                    NoAnswer::TimedOut
                })
            }
        }
    }

    /// An idle environment of the current deployment, or one that starts.
    async fn environment(self: &Arc<Self>) -> Result<Arc<Environment>, NoAnswer> {
        let (number, skew_ms, start, is_queue) = {
            let mut state = self.state();
            let version = state.version;
            let before = state.idle.len();
            state.idle.retain(|environment| environment.version == version);
            state.environments -= before - state.idle.len();
            if !state.idle.is_empty() && (!self.is_storm() || state.rng.u8(..10) > 0) {
                let count = state.idle.len();
                let chosen = state.rng.usize(..count);
                return Ok(state.idle.swap_remove(chosen));
            }
            if state.environments >= self.scenario.environments {
                return state.idle.pop().ok_or(NoAnswer::Throttled);
            }
            state.environments += 1;
            let skew_ms = state.skew_ms + state.rng.i64(-50..=50);
            let start = Duration::from_millis(state.rng.u64(30..400));
            (state.next_tick(), skew_ms, start, state.is_queue)
        };
        let number = usize::try_from(number).expect("a small number");
        self.state().skews_ms.insert(number, skew_ms);
        self.note(format!("environment {number} starts, {skew_ms} ms off"));
        let link = Link::new(self, number);
        let http = SharedHttp(Arc::new(link.clone()));
        let handler = app::handler(config(is_queue), http.clone(), &aws_config(http));
        let handler = Arc::new(handler.expect("a valid URL"));
        let version = self.state().version;
        app::warm_up(&handler);
        sleep(start).await;
        Ok(Arc::new(Environment { number, version, handler, link, skew_ms }))
    }

    pub fn set_clock(&self, skew_ms: i64) {
        let now = UNIX_EPOCH + self.now();
        let skew = Duration::from_millis(skew_ms.unsigned_abs());
        clock::simulate(if skew_ms < 0 { now - skew } else { now + skew });
    }

    /// Counts a poll, after which the environment may end.
    fn is_killed(&self, kill_in: &mut Option<u32>) -> bool {
        let mut state = self.state();
        state.polls += 1;
        if let Some(polls) = kill_in {
            *polls -= 1;
            return *polls == 0;
        }
        self.scenario.kill_at == Some(state.polls)
    }

    /// Delivers the event queue's messages for ever. It runs several times, as Lambda polls.
    pub async fn deliver(self: Arc<Self>) {
        loop {
            let now = self.now();
            let (batch, next) = {
                let mut state = self.state();
                let state = &mut *state;
                let max = self.scenario.max_receive_count;
                let batch = state.queue.receive(now, max, &mut state.dead_letters);
                (batch, state.queue.next_visible(now))
            };
            if batch.is_empty() {
                let next = next.map(|next| Instant::now() + next.saturating_sub(now));
                let next = next.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
                tokio::select! {
                    biased;
                    () = self.queue_changed.notified() => {}
                    () = sleep_until(next) => {}
                }
                continue;
            }
            let payload = json!({ "Records": batch });
            let mut answer = self.invoke(payload.clone()).await;
            // Lambda itself tries again while it has no environment.
            for _ in 0..60 {
                if answer != Err(NoAnswer::Throttled) {
                    break;
                }
                sleep(Duration::from_secs(1)).await;
                answer = self.invoke(payload.clone()).await;
            }
            let now = self.now();
            let mut state = self.state();
            event_source::settle(&mut state.queue, &batch, answer.as_ref().ok(), now);
            drop(state);
            self.queue_changed.notify_waiters();
        }
    }
}

/// The records that each message of a batch names, by the event's id, where there is no other message of the event.
fn records_left(payload: &Value) -> BTreeMap<String, String> {
    let mut left = BTreeMap::<String, Option<String>>::new();
    for message in payload["Records"].as_array().into_iter().flatten() {
        let named = message["messageAttributes"]["records"]["stringValue"].as_str();
        for id in ids_in(message["body"].as_str().unwrap_or_default()) {
            let named = named.map(str::to_owned);
            left.entry(id).and_modify(|other| *other = None).or_insert(named);
        }
    }
    left.into_iter().filter_map(|(id, named)| Some((id, named?))).collect()
}

fn config(is_queue: bool) -> Config {
    let settings = [
        ("CLEVERTAP_REGION", "in1"),
        ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
        ("SECRET_ID", SECRET_ID),
        ("REVENUE_EVENT", "Charged"),
        ("EVENTS_DISABLED", DISABLED_EVENT),
        ("DEDUPLICATION_TABLE", "claims"),
        ("EVENT_QUEUE_URL", QUEUE_URL),
        ("DEAD_LETTER_QUEUE_URL", DEAD_LETTERS_URL),
        ("DELIVERY", if is_queue { "queue" } else { "direct" }),
    ];
    let value = |name: &str| {
        let (_, value) = settings.iter().find(|(setting, _)| *setting == name)?;
        Some((*value).to_owned())
    };
    Config::from_env(value).expect("valid settings")
}

fn aws_config(http: SharedHttp) -> SdkConfig {
    // The SDK shares its budget of retries among all clients of a process that have one region.
    static REGIONS: AtomicU64 = AtomicU64::new(0);
    let region = REGIONS.fetch_add(1, Ordering::Relaxed);
    let credentials = Credentials::new("id", "key", None, None, "simulation");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(format!("simulated-{region}")))
        .endpoint_url("https://aws.example")
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .identity_cache(IdentityCache::lazy().build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .time_source(Clock)
        .http_client(http)
        .build()
}
