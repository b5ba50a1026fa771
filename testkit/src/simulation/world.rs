//! The state of a simulated world, and the services of the other side of the function's requests.
//! It does not know why a request is sent, nor who sends webhooks.

use super::events::{Event, Kind, PRIVATE, ids_in};
use super::faults::{Fault, Service};
use super::history::{Arrival, Exchange, History, Invocation, Limit, Moment, Run};
use super::scenario::Scenario;
use crate::harness::{ACCOUNT_ID, SECRET_ID};
use crate::in_memory;
use crate::world::aws::Resources;
use crate::world::claims::{self, Update};
use crate::world::clevertap::{CleverTap, Reply};
use crate::world::secrets_manager::SecretsManager;
use crate::world::{Ending, Service as _, operation};
use bytes::Bytes;
use hyper::{Method, Request, Response};
use purchasely_clevertap::aws::claims::key as claim_key;
use purchasely_clevertap::clock;
use purchasely_clevertap::http::NoResponse;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// When every world begins, since 1970.
const EPOCH: Duration = Duration::from_secs(1_772_439_330);
pub const QUEUE_URL: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo";
pub const DEAD_LETTERS_URL: &str =
    "https://sqs.eu-west-1.amazonaws.com/123456789012/dead-letters.fifo";
pub const BACKEND_URL: &str = "https://backend.example.com/purchasely";
/// The records that the claims table knows of.
pub const ROLES: [&str; 3] = ["profile", "event", "revenue"];
/// By then an event queue is empty once everything works.
pub const MAX_DRAIN: Duration = Duration::from_hours(3);

/// A request on its way.
#[derive(Clone, Copy)]
pub struct Sent {
    /// Its place among the exchanges. A world that only counts keeps none.
    pub number: usize,
    service: Service,
    pub fault: Option<Fault>,
}

pub struct World {
    pub scenario: Scenario,
    pub events: Vec<Event>,
    start: Instant,
    clevertap: CleverTap,
    secrets_manager: SecretsManager,
    pub queue_changed: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub rng: fastrand::Rng,
    digest: DefaultHasher,
    pub run: Run,
    /// Orders what happens within a millisecond.
    tick: u64,
    pub aws: Resources,
    /// When an update left the table knowing that CleverTap has a record, by the claim's key and the record's role.
    pub known: BTreeMap<(String, &'static str), Vec<Moment>>,
    /// When the table lost all items.
    pub replaced: Vec<u64>,
    /// The number of the event of each body that Purchasely sent, by the body's digest.
    pub bodies: BTreeMap<String, usize>,
    /// The numbers of the events that the backend received.
    pub forwarded: Vec<usize>,
    /// The event of each claim's key. Without an `event_id`, other bytes have another key.
    pub keys: BTreeMap<String, String>,
    /// When an event first was in the dead-letter queue, by the event's id.
    pub lettered: BTreeMap<String, Duration>,
    pub exchanges: Vec<Exchange>,
    /// Those of records without which an event is not relayed.
    pub arrivals: Vec<Arrival>,
    /// Those of all profiles, of which only the latest counts.
    pub profiles: Vec<Arrival>,
    /// Until when a service refuses connections.
    pub away: BTreeMap<Service, Duration>,
    /// Whether CleverTap takes the events that are poison.
    pub takes_poison: bool,
    /// Until when CleverTap refuses revenue records for now.
    pub revenue_refused: Duration,
    /// Until when CleverTap refuses every second profile for now, and takes long for every second one alone.
    pub profiles_refused: Duration,
    pub passcode: u32,
    pub secret_passcode: u32,
    /// Since when Secrets Manager has each of Purchasely's shared secrets. It has the last two.
    pub shared_secrets: Vec<Duration>,
    /// The number of the one that Purchasely signs with.
    pub signs_with: usize,
    /// Whether the route is throttled to zero.
    pub is_api_closed: bool,
    /// From when on no fault and no incident has an effect, once all have happened.
    pub calm_from: Option<Duration>,
    pub invocations: Vec<Invocation>,
    /// How wrong the clock of each environment is, in milliseconds.
    pub skews_ms: BTreeMap<usize, i64>,
}

impl World {
    /// A world for this thread, which then has its clock, its seed and the function's log.
    pub fn new(scenario: Scenario) -> Self {
        let mut rng = fastrand::Rng::with_seed(scenario.seed);
        let passcode = format!("{PRIVATE}-passcode-0");
        let events = Event::draw_all(&scenario, &mut rng);
        let history = |event: &Event| History { due: event.at, ..History::default() };
        let clevertap = CleverTap::new(ACCOUNT_ID, &passcode);
        clevertap.keep_latest(0, usize::MAX);
        let world = Self {
            start: Instant::now(),
            clevertap,
            secrets_manager: SecretsManager::new(SECRET_ID, ""),
            queue_changed: Notify::new(),
            state: Mutex::new(State {
                rng,
                run: Run {
                    scenario: scenario.clone(),
                    history: events.iter().map(history).collect(),
                    ..Run::default()
                },
                revenue_refused: scenario.revenue_refused,
                shared_secrets: vec![Duration::ZERO],
                ..State::default()
            }),
            events,
            scenario,
        };
        world.publish_secrets();
        world.set_clock(0);
        fastrand::seed(world.scenario.seed);
        world
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it has the state")
    }

    /// Since the world began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The true time since 1970.
    pub fn now(&self) -> Duration {
        EPOCH + self.elapsed()
    }

    /// Sets the function's clock to the true time, give or take something.
    pub fn set_clock(&self, skew_ms: i64) {
        let now = UNIX_EPOCH + self.now();
        let skew = Duration::from_millis(skew_ms.unsigned_abs());
        clock::simulate(if skew_ms < 0 { now - skew } else { now + skew });
    }

    pub fn is_storm(&self) -> bool {
        self.elapsed() < self.scenario.storm
    }

    /// A rate in a storm; nothing happens afterwards.
    pub fn storm_rate(&self, rate: f64) -> f64 {
        if self.is_storm() { rate } else { 0.0 }
    }

    pub fn shared_secret(number: usize) -> String {
        format!("{PRIVATE}-shared-secret-{number}")
    }

    /// Notes what must not happen and did.
    pub fn problem(&self, what: String) {
        self.state().run.problems.push(what);
    }

    /// Gives CleverTap and Secrets Manager what the state says.
    pub fn publish_secrets(&self) {
        let state = self.state();
        self.clevertap.set_passcode(&format!("{PRIVATE}-passcode-{}", state.passcode));
        let current = state.shared_secrets.len() - 1;
        let secret = json!({
            "clevertap_passcode": format!("{PRIVATE}-passcode-{}", state.secret_passcode),
            "purchasely_shared_secret": Self::shared_secret(current),
            "purchasely_shared_secret_previous": Self::shared_secret(current.saturating_sub(1)),
        });
        self.secrets_manager.set_value(&secret.to_string());
    }

    /// Notes what happened, after the lines that the function has logged until now.
    pub fn note(&self, what: impl Into<String>) {
        let mut state = self.state();
        for line in in_memory::take_log() {
            if line.contains(PRIVATE) || line.contains("\"panicked\"") {
                let problem = format!("the log has a secret, a user id or a panic: {line}");
                state.run.problems.push(problem);
            }
            if self.scenario.load.is_some() {
                continue;
            }
            state.note(self.elapsed(), format!("    {line}"));
        }
        if self.scenario.load.is_none() {
            state.note(self.elapsed(), what.into());
        }
    }

    /// Counts a request, notes it as it is sent, and decides what happens to it.
    pub fn send(
        &self,
        environment: usize,
        invocation: Option<usize>,
        request: &Request<Bytes>,
    ) -> Sent {
        let operation = operation(request);
        let service = match operation.split('.').next().unwrap_or_default() {
            "secretsmanager" => Service::SecretsManager,
            "DynamoDB_20120810" => Service::DynamoDb,
            "AmazonSQS" => Service::Sqs,
            _ if request.uri().host().is_some_and(|host| BACKEND_URL.contains(host)) => {
                Service::Backend
            }
            _ => Service::CleverTap,
        };
        self.state().run.requests.push(service);
        if let Some(load) = &self.scenario.load {
            let is_away = service == Service::CleverTap && load.outage.contains(&self.elapsed());
            let fault = is_away.then_some(Fault::Refused);
            return Sent { number: usize::MAX, service, fault };
        }
        let target = if operation.is_empty() {
            request.uri().path()
        } else {
            operation
        };
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let (is_storm, elapsed) = (self.is_storm(), self.elapsed());
        let mut state = self.state();
        let number = state.exchanges.len();
        let text = body.to_string();
        let claim = claims::read(&body);
        let (mut events, mut profiles) = (BTreeSet::new(), Vec::new());
        match (claim.and_then(|(key, _)| state.keys.get(key)), body["d"].as_array()) {
            (Some(id), _) => drop(events.insert(id.clone())),
            (None, None) => events = ids_in(&text),
            (None, Some(records)) => {
                for (record, number) in records.iter().zip(1..) {
                    match profile_of(record) {
                        Some(id) => {
                            if self.is_profile_only(id) {
                                events.insert(id.to_owned());
                            }
                            profiles.push((number, id.to_owned()));
                        }
                        None => events.extend(ids_in(&record.to_string())),
                    }
                }
            }
        }
        let is_away = state.away.get(&service).is_some_and(|until| elapsed < *until);
        let fault = if let Some((at, fault)) = self.scenario.fault_at {
            service.faults().get(fault).copied().filter(|_| at == number)
        } else if is_away {
            Some(Fault::Refused)
        } else if elapsed < state.profiles_refused
            && (events.is_empty() && !profiles.is_empty())
            && state.rng.bool()
        {
            // Longer than the function waits for profiles alone.
            Some(Fault::Late(Duration::from_millis(3300)))
        } else if is_storm && state.rng.f64() < self.scenario.fault_rate {
            Some(Fault::draw(&mut state.rng, service))
        } else {
            None
        };
        let sent = Moment { tick: state.next_tick(), at: elapsed };
        let update = claim.map(|(_, update)| update);
        text.hash(&mut state.digest);
        if let Some(fault) = fault {
            *state.run.faults.entry(fault.kind()).or_default() += 1;
        }
        let line = format!(
            "{number}: environment {environment} sends {target} {events:?} {profiles:?} {fault:?}"
        );
        state.exchanges.push(Exchange {
            service,
            environment,
            invocation,
            sent,
            fault,
            events: events.into_iter().collect(),
            profiles,
            update,
            letter: body["MessageAttributes"]["reason"]["StringValue"]
                .as_str()
                .filter(|_| body["QueueUrl"] == DEAD_LETTERS_URL)
                .map(str::to_owned),
            awaited: None,
            status: None,
            is_intact: false,
        });
        drop(state);
        self.note(line);
        Sent { number, service, fault }
    }

    /// Carries a request to its service and the answer back, however long it takes.
    pub async fn carry(
        &self,
        sent: Sent,
        request: Request<Bytes>,
    ) -> Result<Response<Option<Bytes>>, NoResponse> {
        let Sent { service, fault, .. } = sent;
        let latencies = if let Some(load) = &self.scenario.load {
            match service {
                Service::CleverTap => [Duration::ZERO, load.clevertap, Duration::ZERO],
                Service::Sqs => [load.sqs, Duration::ZERO, Duration::ZERO],
                _ => [load.dynamodb, Duration::ZERO, Duration::ZERO],
            }
        } else {
            let mut state = self.state();
            let mut latency = || Duration::from_millis(state.rng.u64(1..30));
            [latency(), latency(), latency()]
        };
        sleep(latencies[0]).await;
        match fault {
            Some(Fault::Refused) => return Err(NoResponse::NotConnected),
            Some(Fault::LostBefore) => return Err(NoResponse::Lost),
            Some(Fault::Late(delay)) => sleep(delay).await,
            _ => {}
        }
        let odd = match fault {
            Some(Fault::Odd(odd)) => Some(service.odd()[odd]),
            _ => None,
        };
        let answer = if odd.is_some_and(|odd| !odd.has_effect) {
            Response::new(None)
        } else {
            self.serve(sent, request, latencies[1]).await
        };
        if service == Service::CleverTap && answer.status() == 429 {
            self.state().run.meet(Limit::Uploads);
        }
        sleep(latencies[2]).await;
        match fault {
            Some(Fault::LostAfter) => Err(NoResponse::Lost),
            Some(Fault::CutShort) => Ok(answer.map(|_| None)),
            Some(Fault::LateAnswer(delay)) => {
                sleep(delay).await;
                Ok(answer)
            }
            _ => match odd {
                Some(odd) => {
                    in_memory::received(Ending::answer(odd.status, "application/json", odd.body))
                }
                None => Ok(answer),
            },
        }
    }

    async fn serve(
        &self,
        Sent { number, service, fault }: Sent,
        request: Request<Bytes>,
        processing: Duration,
    ) -> Response<Option<Bytes>> {
        let ending = match service {
            Service::CleverTap => {
                if *request.method() == Method::POST {
                    self.clevertap.script([self.reply_to(&request, fault, processing)]);
                }
                let ending = self.clevertap.clone().answer(request).await;
                self.note_arrivals(number);
                ending
            }
            Service::SecretsManager => self.secrets_manager.clone().answer(request).await,
            Service::DynamoDb | Service::Sqs => self.answer_as_aws(&request),
            Service::Backend => {
                let mut state = self.state();
                let number = state.bodies.get(&claim_key(None, request.body())).copied();
                state.forwarded.extend(number);
                Ending::answer(200, "application/json", "{}")
            }
        };
        in_memory::received(ending).expect("no script ends a connection")
    }

    /// By the rules, except for one record: that of a fault, one that is poison, or for now one of revenue or a profile.
    fn reply_to(
        &self,
        request: &Request<Bytes>,
        fault: Option<Fault>,
        processing: Duration,
    ) -> Reply {
        if let Some(Fault::Record { number, code }) = fault {
            return Reply::RefuseRecord { number, code };
        }
        if self.scenario.load.is_some() {
            return Reply::Slow(processing);
        }
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let (takes_poison, no_revenue, no_profile) = {
            let mut state = self.state();
            let no_profile = self.elapsed() < state.profiles_refused && state.rng.bool();
            (state.takes_poison, self.elapsed() < state.revenue_refused, no_profile)
        };
        let is_poison = |record: &Value| {
            let event = record["evtData"]["event_id"].as_str().and_then(|id| self.event(id));
            !takes_poison && event.is_some_and(Event::is_poison)
        };
        for (record, number) in body["d"].as_array().into_iter().flatten().zip(1..) {
            if is_poison(record) {
                return Reply::RefuseRecord { number, code: 528 };
            }
            if no_revenue && record["evtName"] == "Charged"
                || no_profile && profile_of(record).is_some()
            {
                return Reply::RefuseRecord { number, code: 555 };
            }
        }
        Reply::Slow(processing)
    }

    fn note_arrivals(&self, exchange: usize) {
        let accepted = self.clevertap.take_accepted();
        let mut state = self.state();
        for record in accepted {
            let (at, data) = (self.elapsed(), &record["evtData"]);
            let transaction = data["store_transaction_id"].as_str();
            let (role, id) = match (profile_of(&record), data["Charged ID"].as_str(), transaction) {
                (Some(id), ..) => ("profile", id),
                (_, Some(id), _) => ("revenue", id),
                (.., Some(id)) => ("event", id),
                _ => continue,
            };
            if self.scenario.load.is_some() {
                if let Some(event) = self.event(id).filter(|_| role == "event") {
                    state.run.count_arrival(event, at);
                }
                continue;
            }
            let is_profile = role == "profile";
            let what = if is_profile { "the profile of" } else { role };
            state.note(at, format!("CleverTap has {what} {id} ({exchange})"));
            let arrival = Arrival { event_id: id.to_owned(), role, exchange, at };
            if !is_profile || self.is_profile_only(id) {
                state.arrivals.push(arrival.clone());
            }
            if is_profile {
                state.profiles.push(arrival);
            }
        }
    }

    fn answer_as_aws(&self, request: &Request<Bytes>) -> Ending {
        let input: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let (now, at) = (self.now(), self.elapsed());
        let mut state = self.state();
        let answer = |aws: &mut Resources| aws.answer(operation(request), &input, now);
        let (status, body) = state.noting_letters(at, answer);
        if input["QueueUrl"] == QUEUE_URL {
            self.queue_changed.notify_waiters();
        } else if input["TableName"].is_string() && self.scenario.load.is_none() {
            let moment = Moment { tick: state.next_tick(), at };
            let written = claims::read(&input).filter(|(_, it)| *it != Update::Claim);
            if let Some((key, _)) = written.filter(|_| status == 200) {
                for role in ROLES {
                    if state.aws.claims.knows(key, role) {
                        state.known.entry((key.to_owned(), role)).or_default().push(moment);
                    }
                }
            }
        }
        Ending::aws(status, &body)
    }

    /// A batch of the event queue, or when the next message may become visible.
    pub fn receive(&self) -> (Vec<Value>, Option<Duration>) {
        let (now, max) = (self.now(), self.scenario.max_receive_count);
        let mut state = self.state();
        let batch = state.noting_letters(self.elapsed(), |aws| aws.receive(now, max));
        let next = batch.is_empty().then(|| state.aws.events.next_visible(now)).flatten();
        (batch, next.map(|next| next.saturating_sub(now)))
    }

    /// Moves the dead letters into the event queue.
    pub fn redrive(&self) {
        let now = self.now();
        self.state().aws.redrive(now);
        self.queue_changed.notify_waiters();
    }

    /// Waits until the event queue is empty.
    pub async fn drain(&self, end: Instant) {
        while !self.state().aws.events.messages.is_empty() {
            if Instant::now() > end {
                return self.problem("the event queue is never empty".to_owned());
            }
            sleep(Duration::from_secs(20)).await;
        }
    }

    fn is_profile_only(&self, id: &str) -> bool {
        self.event(id).is_some_and(|event| event.kind == Kind::Profile)
    }

    /// The event with an id.
    pub fn event(&self, id: &str) -> Option<&Event> {
        let number = |digits: Option<&str>| usize::from_str_radix(digits?, 16).ok();
        let user = number(id.get(..8))?;
        self.events.get(user * self.scenario.events_per_user + number(id.get(24..))?)
    }
}

impl State {
    pub fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Notes which events come into the dead-letter queue, at its end.
    fn noting_letters<T>(
        &mut self,
        elapsed: Duration,
        change: impl FnOnce(&mut Resources) -> T,
    ) -> T {
        let before = self.aws.dead_letters.messages.len();
        let result = change(&mut self.aws);
        for letter in self.aws.dead_letters.messages.range(before..) {
            for id in ids_in(&letter.body) {
                self.lettered.entry(id).or_insert(elapsed);
            }
        }
        result
    }

    fn note(&mut self, elapsed: Duration, what: String) {
        let line = format!("{:>12.3} {what}", elapsed.as_secs_f64());
        line.hash(&mut self.digest);
        self.run.trace.push(line);
    }

    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }
}

/// The id of the event whose profile a record is.
fn profile_of(record: &Value) -> Option<&str> {
    record["profileData"]["product"].as_str()
}
