//! Measures how many events a second the function carries in both delivery modes, how long buyers wait, and which
//! requests an event takes.
//! It knows the function only from outside, and no prices.

use crate::events::Events;
use crate::report::ms;
use crate::spread::Spread;
use clap::ValueEnum;
use futures_util::future::join_all;
use std::cell::{Cell as Flag, RefCell};
use std::error::Error;
use std::fs;
use std::iter::repeat_n;
use std::path::Path;
use std::time::Duration;
use testkit::harness::{ACCOUNT_ID, PASSCODE, SECRET_ID, SHARED_SECRET, secret_value};
use testkit::lambda::{Function, Invocation, RuntimeApi};
use testkit::sockets::{Latency, Server};
use testkit::world::aws::Aws;
use testkit::world::clevertap::{CleverTap, Reply};
use testkit::world::secrets_manager::SecretsManager;
use tokio::time::{Instant, sleep};

pub const ENVIRONMENTS: [usize; 4] = [1, 5, 15, 50];
pub const ANSWER_MS: [u64; 3] = [50, 200, 500];
/// `MaximumConcurrency` of the template's event source mapping.
const BATCHES_AT_ONCE: usize = 10;
/// The sender pauses while so many messages are in the queue, so that the rate is one that lasts.
const MAX_DEPTH: usize = 300;
/// Before anything counts: connections open, and the queue fills.
const SETTLING: Duration = Duration::from_secs(1);
/// Then another user buys.
const EVENTS_OF_A_USER: usize = 3;
/// More uploads than one cell has.
const UPLOADS: usize = 100_000;
/// What services in the same region take for a request, roughly.
const DYNAMODB: Duration = Duration::from_millis(4);
const SQS: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    Direct,
    Queue,
}

/// What was measured in one mode, with so many environments and such a CleverTap.
pub struct Cell {
    pub mode: Mode,
    pub environments: usize,
    pub answer_ms: u64,
    /// Events that CleverTap accepted.
    pub events_per_second: f64,
    /// From when an environment has a webhook until its answer.
    pub wait_ms: Spread,
    /// Webhooks that were not answered 200, for each event.
    pub sent_again: f64,
    pub per_event: PerEvent,
    /// The part of this machine's CPUs that was in use.
    pub cpu: f64,
}

/// What one event took, on average.
#[derive(Clone, Copy, Default)]
pub struct PerEvent {
    pub invocations: f64,
    /// Seconds of all invocations.
    pub duration: f64,
    pub clevertap: f64,
    pub dynamodb: f64,
    pub sqs: f64,
}

/// The services, and the environments of one mode's function.
struct Stage {
    mode: Mode,
    clevertap: Server<CleverTap>,
    secrets_manager: Server<SecretsManager>,
    dynamodb: Server<Aws>,
    sqs: Server<Aws>,
    api: RuntimeApi,
    settings: Vec<(&'static str, String)>,
    environments: Vec<Function>,
}

/// What one cell sees.
#[derive(Default)]
struct Tally {
    /// When each webhook was answered 200, and after how long.
    answered: Vec<(Instant, Duration)>,
    /// When events had reached CleverTap, and how many.
    relayed: Vec<(Instant, usize)>,
    sent_again: usize,
    invocations: usize,
    duration: Duration,
    error: Option<String>,
}

pub async fn measure(
    program: &Path,
    environments: &[usize],
    window: Duration,
) -> Result<Vec<Cell>, Box<dyn Error>> {
    let mut cells = Vec::new();
    for mode in [Mode::Direct, Mode::Queue] {
        let mut stage = Stage::start(mode).await;
        for &environments in environments {
            stage.grow(program, environments).await;
            for answer_ms in ANSWER_MS {
                eprintln!("  {mode:?}, {environments} environments, {answer_ms} ms");
                cells.push(stage.cell(answer_ms, window).await?);
            }
        }
    }
    Ok(cells)
}

impl Stage {
    async fn start(mode: Mode) -> Self {
        let latency = |request| Latency { connection: Duration::ZERO, request };
        let clevertap = Server::start(CleverTap::new(ACCOUNT_ID, PASSCODE)).await;
        let secret = secret_value(PASSCODE, SHARED_SECRET);
        let secrets_manager = Server::start(SecretsManager::new(SECRET_ID, &secret)).await;
        // Two accounts, so that the requests to each service are counted.
        let dynamodb = Server::start(Aws::default()).await;
        dynamodb.set_latency(latency(DYNAMODB));
        let sqs = Server::start(Aws::default()).await;
        sqs.set_latency(latency(SQS));
        let delivery = if mode == Mode::Queue { "queue" } else { "direct" };
        let settings = vec![
            ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.url.clone()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", secrets_manager.url.clone()),
            ("AWS_ENDPOINT_URL_SQS", sqs.url.clone()),
            ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID.to_owned()),
            ("CLEVERTAP_API_URL", clevertap.url.clone()),
            ("CLEVERTAP_REGION", "in1".to_owned()),
            ("DEAD_LETTER_QUEUE_URL", format!("{}/123456789012/dead-letters.fifo", sqs.url)),
            ("DEDUPLICATION_TABLE", "claims".to_owned()),
            ("DELIVERY", delivery.to_owned()),
            ("EVENT_QUEUE_URL", format!("{}/123456789012/events.fifo", sqs.url)),
            ("SECRET_ID", SECRET_ID.to_owned()),
        ];
        Self {
            mode,
            clevertap,
            secrets_manager,
            dynamodb,
            sqs,
            api: RuntimeApi::start().await,
            settings,
            environments: Vec::new(),
        }
    }

    /// Starts environments until there are so many, and waits for their first request, that of the secret.
    async fn grow(&mut self, program: &Path, environments: usize) {
        let settings: Vec<_> =
            self.settings.iter().map(|(name, value)| (*name, &**value)).collect();
        while self.environments.len() < environments {
            self.environments.push(Function::spawn(program, &self.api, &settings));
        }
        while self.secrets_manager.requests() < environments {
            sleep(Duration::from_millis(10)).await;
        }
    }

    async fn cell(&self, answer_ms: u64, window: Duration) -> Result<Cell, Box<dyn Error>> {
        let slow = Reply::Slow(Duration::from_millis(answer_ms));
        self.clevertap.script_for("", repeat_n(slow, UPLOADS));
        self.clevertap.take_uploads();
        let requests =
            || [self.clevertap.requests(), self.dynamodb.requests(), self.sqs.requests()];
        let before = requests();
        let tally = RefCell::new(Tally::default());
        let is_over = Flag::new(false);
        let events = RefCell::new(Events::new()?);
        let environments = self.environments.len();
        let users = (0..environments).map(|place| self.send(place, &events, &tally, &is_over));
        let pollers = if self.mode == Mode::Queue { BATCHES_AT_ONCE } else { 0 };
        let relay = async |event: serde_json::Value| {
            let count = event["Records"].as_array().map_or(0, Vec::len);
            let invocation = self.invoke(event.to_string(), &tally).await;
            match &invocation.result {
                Ok(answer) if answer["batchItemFailures"] == serde_json::json!([]) => {
                    tally.borrow_mut().relayed.push((Instant::now(), count));
                }
                other => tally.borrow_mut().error = Some(format!("a batch failed: {other:?}")),
            }
            invocation.result
        };
        let poll = || async {
            while !is_over.get() || (self.sqs.depth() > 0 && tally.borrow().error.is_none()) {
                if self.sqs.poll(relay).await == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let time = async {
            sleep(SETTLING).await;
            let (began, busy) = (Instant::now(), cpu_ticks());
            sleep(window).await;
            is_over.set(true);
            (began, busy, Instant::now(), cpu_ticks())
        };
        let pollers = join_all((0..pollers).map(|_| poll()));
        let ((began, ticks_before, ended, ticks), ..) =
            futures_util::future::join3(time, join_all(users), pollers).await;
        let tally = tally.into_inner();
        if let Some(error) = tally.error {
            return Err(error.into());
        }
        self.check(&tally)?;

        let is_inside = |at: Instant| (began..ended).contains(&at);
        let relayed = tally.relayed.iter().filter(|(at, _)| is_inside(*at));
        let relayed: usize = relayed.map(|(_, count)| count).sum();
        let waits = tally.answered.iter().filter(|(at, _)| is_inside(*at));
        let total = number(tally.relayed.iter().map(|(_, count)| count).sum());
        let [clevertap, dynamodb, sqs] = requests();
        let per_event = |now: usize, before: usize| number(now - before) / total;
        let (busy, all) = (ticks[0] - ticks_before[0], ticks[1] - ticks_before[1]);
        Ok(Cell {
            mode: self.mode,
            environments,
            answer_ms,
            events_per_second: number(relayed) / (ended - began).as_secs_f64(),
            wait_ms: Spread::of(waits.map(|(_, wait)| ms(*wait)).collect())
                .ok_or("no webhook was answered 200")?,
            sent_again: number(tally.sent_again) / total,
            per_event: PerEvent {
                invocations: number(tally.invocations) / total,
                duration: tally.duration.as_secs_f64() / total,
                clevertap: per_event(clevertap, before[0]),
                dynamodb: per_event(dynamodb, before[1]),
                sqs: per_event(sqs, before[2]),
            },
            cpu: number(busy) / number(all),
        })
    }

    /// Sends the events of one user after the other, each once the one before is answered, like Purchasely. What is
    /// not answered 200 comes again after 20 seconds, longer than a cell lasts, so another user is next.
    async fn send(
        &self,
        place: usize,
        events: &RefCell<Events>,
        tally: &RefCell<Tally>,
        is_over: &Flag<bool>,
    ) {
        let mut sent = 0;
        while !is_over.get() {
            if self.sqs.depth() >= MAX_DEPTH {
                sleep(Duration::from_millis(1)).await;
                continue;
            }
            let webhook = events
                .borrow_mut()
                .webhook_of(&format!("u-{place}-{}", sent / EVENTS_OF_A_USER));
            let invocation = self.invoke(webhook, tally).await;
            let mut tally = tally.borrow_mut();
            let wait = invocation.answered_at - invocation.handed_over_at;
            match invocation.result.as_ref().map(|answer| &answer["statusCode"]) {
                Ok(status) if status == 200 => {
                    sent += 1;
                    tally.answered.push((invocation.answered_at.into(), wait));
                    if self.mode == Mode::Direct {
                        tally.relayed.push((invocation.answered_at.into(), 1));
                    }
                }
                Ok(status) if status == 503 => {
                    tally.sent_again += 1;
                    sent = (sent / EVENTS_OF_A_USER + 1) * EVENTS_OF_A_USER;
                }
                other => tally.error = Some(format!("a webhook was answered {other:?}")),
            }
        }
    }

    async fn invoke(&self, event: String, tally: &RefCell<Tally>) -> Invocation {
        let invocation = self.api.invoke_timed(event).await;
        let mut tally = tally.borrow_mut();
        tally.invocations += 1;
        tally.duration += invocation.answered_at - invocation.handed_over_at;
        invocation
    }

    /// Every event that was answered 200 is in CleverTap, once.
    fn check(&self, tally: &Tally) -> Result<(), String> {
        let accepted = self.clevertap.accepted();
        let accepted = accepted.iter().filter(|record| record["type"] == "event").count();
        let relayed: usize = tally.relayed.iter().map(|(_, count)| count).sum();
        let answered = tally.answered.len();
        if accepted == relayed && relayed == answered {
            Ok(())
        } else {
            Err(format!("{answered} answered 200, {relayed} relayed, {accepted} in CleverTap"))
        }
    }
}

/// This machine's CPU time in use and in all, in the kernel's unit.
fn cpu_ticks() -> [usize; 2] {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let times: Vec<usize> = first
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|time| time.parse().ok())
        .collect();
    let idle: usize = times.iter().skip(3).take(2).sum();
    let all: usize = times.iter().sum();
    [all - idle, all]
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a count of this bench is below four billion"))
}
