//! Starts the contestants in turn, hands them events, and notes times, memory and traffic.
//! It does not know which figures are good.

use crate::contestants::{Built, Contestant};
use crate::events::{Events, check};
use crate::quota::{Group, Quota};
use crate::table::Table;
use std::env;
use std::error::Error;
use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{fs, io};
use tempfile::NamedTempFile;
use testkit::harness::{ACCOUNT_ID, PASSCODE, SECRET_ID, SHARED_SECRET, secret_value};
use testkit::lambda::{Function, Invocation, RuntimeApi};
use testkit::sockets::tls::Authority;
use testkit::sockets::{Latency, Server};
use testkit::world::aws::{DEAD_LETTER_QUEUE, EVENT_QUEUE, TABLE};
use testkit::world::clevertap::CleverTap;
use testkit::world::secrets_manager::SecretsManager;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Invocations of a fresh process before any is measured.
const WARM_UP: usize = 100;
/// Events that one contestant receives before it is the next one's turn.
const TURN: usize = 50;
/// Nothing of this bench becomes a message or a dead letter.
const QUEUES: &str = "https://sqs.eu-west-1.amazonaws.com/123456789012";

/// Where the contestants run, and how far away the services are.
#[derive(Default)]
pub struct Setting {
    pub quota: Option<Quota>,
    pub secrets_manager: Latency,
    pub clevertap: Latency,
    pub dynamodb: Latency,
}

/// What one contestant took, a value for each start or for each event.
pub struct Samples {
    pub contestant: Contestant,
    /// From the start to the first `next`; none for an event.
    pub next_ms: Vec<f64>,
    /// From the start, or from when an event was handed over, to its answer.
    pub took_ms: Vec<f64>,
    pub cpu_ms: Vec<f64>,
    /// Since the start.
    pub peak_mib: Vec<f64>,
    /// What reached the services.
    pub traffic: Traffic,
}

#[derive(Clone, Copy, Default)]
pub struct Traffic {
    pub connections: usize,
    pub requests: usize,
}

/// A process of a contestant, and the Lambda that invokes it.
struct Environment {
    contestant: Contestant,
    api: RuntimeApi,
    function: Function,
    started_at: Instant,
    /// Used before that.
    cpu_before: Duration,
    group: Option<Group>,
}

/// The services that contestants call, and the events that they receive.
struct World<'s> {
    setting: &'s Setting,
    clevertap: Server<CleverTap>,
    secrets_manager: Server<SecretsManager>,
    dynamodb: Server<Table>,
    authority: NamedTempFile,
    events: Events,
}

/// Measures `rounds` cold starts of each contestant, in turn. Each round begins with another one.
pub async fn cold(
    contestants: &[Built],
    setting: &Setting,
    rounds: usize,
) -> Result<Vec<Samples>, Box<dyn Error>> {
    let mut world = World::start(setting).await?;
    let mut all: Vec<_> = contestants.iter().map(Samples::of).collect();
    // The first round fills the machine's caches and is not counted.
    for round in 0..=rounds {
        eprint!("\r  cold start {round} of {rounds} ");
        for turn in 0..contestants.len() {
            let position = (round + turn) % contestants.len();
            let before = world.traffic();
            let mut environment = world.environment(&contestants[position]).await?;
            let invocation = world.invoke(&environment).await?;
            let (cpu, peak) = (environment.cpu_time()?, environment.peak_mib()?);
            let next_at = environment.api.wait_until_ready().await;
            if round > 0 {
                let samples = &mut all[position];
                samples.next_ms.push(ms(next_at - environment.started_at));
                samples.took_ms.push(ms(invocation.answered_at - environment.started_at));
                samples.cpu_ms.push(ms(cpu));
                samples.peak_mib.push(peak);
                samples.traffic.add(before, world.traffic());
            }
            environment.end().await;
        }
    }
    eprintln!();
    Ok(all)
}

/// Measures about `count` warm events of each contestant, turn by turn.
pub async fn warm(
    contestants: &[Built],
    setting: &Setting,
    count: usize,
) -> Result<Vec<Samples>, Box<dyn Error>> {
    let mut world = World::start(setting).await?;
    let mut environments = Vec::new();
    for built in contestants {
        let environment = world.environment(built).await?;
        for _ in 0..WARM_UP.min(count) {
            world.invoke(&environment).await?;
        }
        if built.contestant.claims() {
            let webhook = world.events.webhook();
            world.relay(&environment, &webhook, 1).await?;
            world.relay(&environment, &webhook, 0).await?;
        }
        environments.push(environment);
    }
    let mut all: Vec<_> = contestants.iter().map(Samples::of).collect();
    let turns = count.div_ceil(TURN);
    for turn in 0..turns * contestants.len() {
        eprint!("\r  warm turn {} of {} ", turn + 1, turns * contestants.len());
        // Each round begins with another one.
        let position = (turn + turn / contestants.len()) % contestants.len();
        let (environment, samples) = (&environments[position], &mut all[position]);
        // The others' turns have emptied the caches, so the first invocation is not counted.
        world.invoke(environment).await?;
        let before = world.traffic();
        for _ in 0..TURN.min(count) {
            let cpu_before = environment.cpu_time()?;
            let invocation = world.invoke(environment).await?;
            samples.took_ms.push(ms(invocation.answered_at - invocation.handed_over_at));
            samples.cpu_ms.push(ms(environment.cpu_time()?.saturating_sub(cpu_before)));
        }
        samples.peak_mib = vec![environment.peak_mib()?];
        samples.traffic.add(before, world.traffic());
    }
    eprintln!();
    for environment in &mut environments {
        environment.end().await;
    }
    Ok(all)
}

impl Samples {
    fn of(built: &Built) -> Self {
        let [next_ms, took_ms, cpu_ms, peak_mib] = [const { Vec::new() }; 4];
        let traffic = Traffic::default();
        Self {
            contestant: built.contestant,
            next_ms,
            took_ms,
            cpu_ms,
            peak_mib,
            traffic,
        }
    }
}

impl Traffic {
    fn add(&mut self, before: Self, after: Self) {
        self.connections += after.connections - before.connections;
        self.requests += after.requests - before.requests;
    }
}

impl<'s> World<'s> {
    async fn start(setting: &'s Setting) -> Result<Self, Box<dyn Error>> {
        let authority = Authority::default();
        let secret = secret_value(PASSCODE, SHARED_SECRET);
        let world = Self {
            setting,
            clevertap: authority.serve(CleverTap::new(ACCOUNT_ID, PASSCODE)).await,
            secrets_manager: authority.serve(SecretsManager::new(SECRET_ID, &secret)).await,
            dynamodb: authority.serve(Table::default()).await,
            authority: authority.pem_file(),
            events: Events::new()?,
        };
        world.clevertap.set_latency(setting.clevertap);
        world.secrets_manager.set_latency(setting.secrets_manager);
        world.dynamodb.set_latency(setting.dynamodb);
        Ok(world)
    }

    /// Starts a contestant.
    async fn environment(&self, built: &Built) -> Result<Environment, Box<dyn Error>> {
        let api = RuntimeApi::start().await;
        let authority = self.authority.path();
        let group = self.setting.quota.as_ref().map(Quota::create_group).transpose()?;
        let mut command = if group.is_some() {
            // The shell waits until it is in the group.
            let mut shell = Command::new("sh");
            shell.args(["-c", r#"read -r _; exec "$0" "$@""#]).arg(&built.program);
            shell
        } else {
            Command::new(&built.program)
        };
        command
            .args(&built.arguments)
            .env_clear()
            .envs([
                ("AWS_LAMBDA_FUNCTION_NAME", "relay"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
                ("AWS_LAMBDA_RUNTIME_API", api.address()),
                ("AWS_REGION", "eu-west-1"),
                ("AWS_DEFAULT_REGION", "eu-west-1"),
                ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
                ("AWS_ENDPOINT_URL_DYNAMODB", &self.dynamodb.url),
                ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &self.secrets_manager.url),
                ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
                ("CLEVERTAP_API_URL", &self.clevertap.url),
                ("CLEVERTAP_REGION", "in1"),
                ("SECRET_ID", SECRET_ID),
                ("FORWARDED_REQUEST", &self.events.upload()?),
                ("PATH", &env::var("PATH").unwrap_or_default()),
            ])
            // For Rust, Node and Python.
            .envs(
                ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE"]
                    .map(|name| (name, authority)),
            )
            .stdin(Stdio::piped());
        if built.contestant.has_table() {
            command
                .env("DEDUPLICATION_TABLE", TABLE)
                .env("EVENT_QUEUE_URL", format!("{QUEUES}/{EVENT_QUEUE}"))
                .env("DEAD_LETTER_QUEUE_URL", format!("{QUEUES}/{DEAD_LETTER_QUEUE}"));
        }
        let mut environment = Environment {
            contestant: built.contestant,
            started_at: Instant::now(),
            cpu_before: Duration::ZERO,
            group: None,
            function: Function::spawn_command(command, &api),
            api,
        };
        if let Some(group) = group {
            group.add(environment.function.pid())?;
            environment.group = Some(group);
            environment.cpu_before = environment.cpu_time()?;
            environment.started_at = Instant::now();
            let stdin = environment.function.stdin.as_mut();
            stdin.ok_or("the shell has no standard input")?.write_all(b"\n").await?;
        }
        Ok(environment)
    }

    /// Invokes a contestant with the next event and checks that it was relayed.
    async fn invoke(&mut self, environment: &Environment) -> Result<Invocation, Box<dyn Error>> {
        let webhook = self.events.webhook();
        let expected = usize::from(environment.contestant != Contestant::Nothing);
        self.relay(environment, &webhook, expected).await
    }

    /// Invokes a contestant and checks that this led to so many uploads.
    async fn relay(
        &self,
        environment: &Environment,
        webhook: &str,
        expected: usize,
    ) -> Result<Invocation, Box<dyn Error>> {
        let invocation = environment.api.invoke_timed(webhook).await;
        let accepted = self.clevertap.accepted();
        let uploads = self.clevertap.take_uploads().len();
        let problem = match &invocation.result {
            Err(error) => format!("the invocation failed: {error}"),
            Ok(answer) if uploads != expected => {
                format!("{uploads} uploads, not {expected}, and the answer {answer}")
            }
            Ok(answer) => match check(answer, &accepted, expected) {
                Ok(()) => return Ok(invocation),
                Err(problem) => problem,
            },
        };
        let log = environment.function.log();
        let end = log[log.len().saturating_sub(5)..].join("\n");
        Err(format!("{:?}: {problem}; its log ends with:\n{end}", environment.contestant).into())
    }

    /// What has reached the services.
    fn traffic(&self) -> Traffic {
        let (clevertap, secrets, table) = (&self.clevertap, &self.secrets_manager, &self.dynamodb);
        Traffic {
            connections: clevertap.connections() + secrets.connections() + table.connections(),
            requests: clevertap.requests() + secrets.requests() + table.requests(),
        }
    }
}

impl Environment {
    /// How long its threads have run since the start. The kernel counts it in nanoseconds.
    fn cpu_time(&self) -> io::Result<Duration> {
        let mut nanoseconds = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.function.pid()))? {
            // A thread may end while it is read.
            let times = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
            let ran = times.split(' ').next().and_then(|ran| ran.parse().ok());
            nanoseconds += ran.unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanoseconds).saturating_sub(self.cpu_before))
    }

    /// The most memory that it has had at once.
    fn peak_mib(&self) -> Result<f64, Box<dyn Error>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.function.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: u32 = kibibytes.ok_or("its status has no VmHWM")?.parse()?;
        Ok(f64::from(kibibytes) / 1024.0)
    }

    async fn end(&mut self) {
        self.function.kill();
        self.function.wait_for_exit().await;
        self.group = None;
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
