//! Lambda: environments that start cold, are frozen between invocations and may be killed at any poll, and the event
//! source mapping.
//! It does not know what the function does.

use super::events::{DISABLED_EVENT, ids_in};
use super::history::{Invocation, Limit};
use super::http::SimulatedHttp;
use super::scenario::Scenario;
use super::world::{BACKEND_URL, DEAD_LETTERS_URL, QUEUE_URL, World};
use crate::harness::{ACCOUNT_ID, SECRET_ID};
use crate::in_memory::Function;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The function's timeout in the template.
const TIMEOUT: Duration = Duration::from_secs(9);
/// What the function promises to need (docs/architecture.md, "Time").
const WORK: Duration = Duration::from_millis(8050);

/// The function's deployment and its environments.
pub struct Lambda {
    world: Arc<World>,
    fleet: Mutex<Fleet>,
}

#[derive(Default)]
struct Fleet {
    /// Whether webhooks go into the event queue.
    is_queue: bool,
    /// The deployment; older environments serve no longer.
    version: u32,
    /// How wrong the clocks of environments that start are, in milliseconds.
    skew_ms: i64,
    environments: usize,
    idle: Vec<Environment>,
}

struct Environment {
    number: usize,
    version: u32,
    function: Function,
    http: SimulatedHttp,
    skew_ms: i64,
}

/// Why an invocation has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    Throttled,
    Crashed,
    Failed,
    TimedOut,
}

impl Lambda {
    pub fn new(world: &Arc<World>) -> Self {
        let is_queue = world.scenario.is_queue;
        let fleet = Mutex::new(Fleet { is_queue, ..Fleet::default() });
        Self { world: Arc::clone(world), fleet }
    }

    /// Whether webhooks go into the event queue.
    pub fn is_queue(&self) -> bool {
        self.fleet().is_queue
    }

    /// Deploys the function in the other mode.
    pub fn switch(&self) {
        let mut fleet = self.fleet();
        fleet.is_queue = !fleet.is_queue;
        fleet.version += 1;
    }

    /// Makes the clocks of environments that start from here on wrong.
    pub fn set_skew(&self, skew_ms: i64) {
        self.fleet().skew_ms = skew_ms;
    }

    /// Invokes the function once, with a webhook that is signed with the shared secret of this number, or with a batch.
    pub async fn invoke(
        &self,
        payload: Value,
        signed_with: Option<usize>,
    ) -> Result<Value, NoAnswer> {
        let world = &self.world;
        let environment = self.environment().await?;
        let (invocation, mut kill_in) = {
            let mut state = world.state();
            let rate = world.storm_rate(world.scenario.kill_rate);
            let kill_in = (state.rng.f64() < rate).then(|| state.rng.u32(1..14));
            state.invocations.push(Invocation {
                environment: environment.number,
                started: world.elapsed(),
                signed_with,
                refused: None,
                left: records_left(&payload),
                is_killed: false,
            });
            (state.invocations.len() - 1, kill_in)
        };
        environment.http.thaw(invocation);
        let number = environment.number;
        world.note(format!("environment {number} is invoked ({invocation})"));
        let started = Instant::now();
        let batch = payload["Records"].as_array().map(Vec::len);
        if let Some(load) = &world.scenario.load {
            let events = u32::try_from(batch.unwrap_or(1)).expect("ten at most");
            sleep(load.cpu * events).await;
        }
        let request_id = format!("request-{invocation}");
        let mut serving = Box::pin(environment.function.invoke(&payload, &request_id));
        let serving = poll_fn(move |context| {
            world.set_clock(environment.skew_ms);
            let polled = serving.as_mut().poll(context);
            world.set_clock(0);
            let is_killed = self.is_killed(&mut kill_in);
            if is_killed { Poll::Ready(None) } else { polled.map(Some) }
        });
        let served = timeout(TIMEOUT, serving).await;
        let took = started.elapsed();
        world.state().run.billed += took;
        world.state().run.invocations[usize::from(batch.is_some())] += 1;
        environment.http.freeze();
        world.note(format!("environment {number} is frozen after {took:?}"));
        if took > WORK {
            world.problem(format!("invocation {invocation} took {took:?}"));
        }
        if let Ok(Some(answer)) = served {
            self.fleet().idle.push(environment);
            let answer = answer.map_err(|_| NoAnswer::Failed)?;
            if answer["statusCode"] == 401 {
                world.state().invocations[invocation].refused = Some(world.elapsed());
            }
            return Ok(answer);
        }
        self.fleet().environments -= 1;
        let mut state = world.state();
        state.invocations[invocation].is_killed = true;
        state.run.kills += 1;
        drop(state);
        world.note(format!("environment {number} ends"));
        served.map_err(|_| NoAnswer::TimedOut).and(Err(NoAnswer::Crashed))
    }

    /// An idle environment of the current deployment, or one that starts.
    async fn environment(&self) -> Result<Environment, NoAnswer> {
        let world = &self.world;
        let (number, skew_ms, start, is_queue) = {
            let mut fleet = self.fleet();
            let fleet = &mut *fleet;
            let before = fleet.idle.len();
            let is_storm = world.is_storm();
            fleet.idle.retain(|environment| {
                environment.version == fleet.version && (is_storm || !is_late(environment.skew_ms))
            });
            fleet.environments -= before - fleet.idle.len();
            if !is_storm && is_late(fleet.skew_ms) {
                fleet.skew_ms = 0;
            }
            let mut state = world.state();
            if !fleet.idle.is_empty() && (!is_storm || state.rng.u8(..10) > 0) {
                let chosen = state.rng.usize(..fleet.idle.len());
                return Ok(fleet.idle.swap_remove(chosen));
            }
            if fleet.environments >= world.scenario.environments {
                return fleet.idle.pop().ok_or_else(|| {
                    state.run.meet(Limit::Environments);
                    NoAnswer::Throttled
                });
            }
            fleet.environments += 1;
            state.run.environments = state.run.environments.max(fleet.environments);
            let skew_ms = fleet.skew_ms + state.rng.i64(-50..=50);
            let start = Duration::from_millis(state.rng.u64(30..400));
            (state.next_tick(), skew_ms, start, fleet.is_queue)
        };
        let number = usize::try_from(number).expect("a small number");
        world.state().skews_ms.insert(number, skew_ms);
        world.note(format!("environment {number} starts, {skew_ms} ms off"));
        let http = SimulatedHttp::new(world, number);
        let function = Function::start(http.clone(), &settings(is_queue, &world.scenario));
        let version = self.fleet().version;
        sleep(start).await;
        Ok(Environment { number, version, function, http, skew_ms })
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().expect("nothing panics while it has the fleet")
    }

    /// Counts a poll, after which the environment may end.
    fn is_killed(&self, kill_in: &mut Option<u32>) -> bool {
        let mut state = self.world.state();
        state.run.polls += 1;
        if let Some(polls) = kill_in {
            *polls -= 1;
            return *polls == 0;
        }
        self.world.scenario.kill_at == Some(state.run.polls)
    }

    /// Delivers the event queue's messages for ever. It runs several times, as Lambda polls.
    pub async fn deliver(self: Arc<Self>) {
        let world = &self.world;
        loop {
            let (batch, next_in) = world.receive();
            if batch.is_empty() {
                let next = Instant::now() + next_in.unwrap_or(Duration::from_hours(1));
                tokio::select! {
                    biased;
                    () = world.queue_changed.notified() => {}
                    () = sleep_until(next) => {}
                }
                continue;
            }
            let payload = json!({ "Records": batch });
            let mut answer = self.invoke(payload.clone(), None).await;
            // Lambda itself tries again while it has no environment.
            let mut tries = 1..=60;
            while answer == Err(NoAnswer::Throttled) && tries.next().is_some() {
                sleep(Duration::from_secs(1)).await;
                answer = self.invoke(payload.clone(), None).await;
            }
            let now = world.now();
            let mut state = world.state();
            state.aws.events.settle(&batch, answer.as_ref().ok(), now);
            drop(state);
            world.queue_changed.notify_waiters();
        }
    }
}

/// Whether an environment's clock makes each request look too old to be served (docs/architecture.md, "Time"). Such an
/// environment ends with the storm.
fn is_late(skew_ms: i64) -> bool {
    (3_000..=10_000).contains(&skew_ms)
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

fn settings(is_queue: bool, scenario: &Scenario) -> [(&'static str, &'static str); 11] {
    [
        ("CLEVERTAP_REGION", "in1"),
        ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
        ("SECRET_ID", SECRET_ID),
        ("REVENUE_EVENT", "Charged"),
        ("EVENTS_DISABLED", DISABLED_EVENT),
        ("SANDBOX_EVENTS", "drop"),
        ("DEDUPLICATION_TABLE", if scenario.has_table { "claims" } else { "" }),
        ("EVENT_QUEUE_URL", QUEUE_URL),
        ("DEAD_LETTER_QUEUE_URL", DEAD_LETTERS_URL),
        ("DELIVERY", if is_queue { "queue" } else { "direct" }),
        ("FORWARD_URL", if scenario.forwards { BACKEND_URL } else { "" }),
    ]
}
