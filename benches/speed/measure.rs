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
use testkit::world::clevertap::CleverTap;
use testkit::world::secrets_manager::SecretsManager;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Invocations of a fresh process before any is measured.
const WARM_UP: usize = 100;
/// Events that one contestant receives before it is the next one's turn.
const TURN: usize = 50;

/// What the template configures. Nothing of this bench becomes a dead letter or a message.
const DEPLOYED: [(&str, &str); 3] = [
    ("DEDUPLICATION_TABLE", "claims"),
    (
        "DEAD_LETTER_QUEUE_URL",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/dead.fifo",
    ),
    (
        "EVENT_QUEUE_URL",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo",
    ),
];

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
    pub connections: usize,
    pub requests: usize,
}

/// One process that lives through all turns.
struct Lane {
    api: RuntimeApi,
    process: Process,
    samples: Samples,
}

struct Process {
    contestant: Contestant,
    function: Function,
    started_at: Instant,
    /// Used before that.
    cpu_before: Duration,
    group: Option<Group>,
}

/// The services that contestants call, and the events that they receive.
struct World {
    clevertap: Server<CleverTap>,
    secrets_manager: Server<SecretsManager>,
    dynamodb: Server<Table>,
    environment: Vec<(&'static str, String)>,
    events: Events,
    /// Exists as long as this.
    _authority: NamedTempFile,
}

/// Measures `rounds` cold starts of each contestant, in turn. Each round begins with another one.
pub async fn cold(
    contestants: &[Built],
    setting: &Setting,
    rounds: usize,
) -> Result<Vec<Samples>, Box<dyn Error>> {
    let mut world = World::start(setting).await?;
    let api = RuntimeApi::start().await;
    let samples = contestants.iter().map(|built| Samples::of(built.contestant));
    let mut samples: Vec<_> = samples.collect();
    // The first round fills the machine's caches and is not counted.
    for round in 0..=rounds {
        eprint!("\r  cold start {round} of {rounds} ");
        for turn in 0..contestants.len() {
            let position = (round + turn) % contestants.len();
            let built = &contestants[position];
            let mut process = Process::start(built, &api, &world, setting).await?;
            let mut uncounted = Samples::of(built.contestant);
            let counted = if round == 0 {
                &mut uncounted
            } else {
                &mut samples[position]
            };
            let result = world.cold_start(&api, &process, counted).await;
            process.end().await;
            result?;
        }
    }
    eprintln!();
    Ok(samples)
}

/// Measures about `count` warm events of each contestant, turn by turn.
pub async fn warm(
    contestants: &[Built],
    setting: &Setting,
    count: usize,
) -> Result<Vec<Samples>, Box<dyn Error>> {
    let mut world = World::start(setting).await?;
    let mut lanes = Vec::new();
    for built in contestants {
        let api = RuntimeApi::start().await;
        let process = Process::start(built, &api, &world, setting).await?;
        let lane = Lane {
            api,
            process,
            samples: Samples::of(built.contestant),
        };
        for _ in 0..WARM_UP.min(count) {
            world.invoke(&lane.api, &lane.process).await?;
        }
        if built.contestant.claims() {
            let webhook = world.events.webhook();
            world.relay(&lane.api, &lane.process, &webhook, 1).await?;
            world.relay(&lane.api, &lane.process, &webhook, 0).await?;
        }
        lanes.push(lane);
    }
    let turns = count.div_ceil(TURN);
    for turn in 1..=turns {
        eprint!("\r  warm turn {turn} of {turns} ");
        for lane in &mut lanes {
            lane.turn(&mut world, count.min(TURN)).await?;
        }
        // The next turn begins with another one.
        lanes.rotate_left(1);
    }
    eprintln!();
    let rotated = turns % lanes.len();
    lanes.rotate_right(rotated);
    for lane in &mut lanes {
        lane.process.end().await;
    }
    Ok(lanes.into_iter().map(|lane| lane.samples).collect())
}

impl Samples {
    fn of(contestant: Contestant) -> Self {
        let [next_ms, took_ms, cpu_ms, peak_mib] = [const { Vec::new() }; 4];
        Self {
            contestant,
            next_ms,
            took_ms,
            cpu_ms,
            peak_mib,
            connections: 0,
            requests: 0,
        }
    }
}

impl World {
    async fn start(setting: &Setting) -> Result<Self, Box<dyn Error>> {
        let authority = Authority::default();
        let clevertap = authority.serve(CleverTap::new(ACCOUNT_ID, PASSCODE)).await;
        clevertap.set_latency(setting.clevertap);
        let secret = secret_value(PASSCODE, SHARED_SECRET);
        let secrets_manager = authority.serve(SecretsManager::new(SECRET_ID, &secret)).await;
        secrets_manager.set_latency(setting.secrets_manager);
        let dynamodb = authority.serve(Table::default()).await;
        dynamodb.set_latency(setting.dynamodb);

        let authority = authority.pem_file();
        let pem_file = authority.path().to_str().ok_or("the path of the authority is not UTF-8")?;
        let events = Events::new()?;
        let environment = [
            ("AWS_LAMBDA_FUNCTION_NAME", "relay"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_DEFAULT_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
            ("AWS_ENDPOINT_URL_DYNAMODB", &dynamodb.url),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets_manager.url),
            ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
            ("CLEVERTAP_API_URL", &clevertap.url),
            ("CLEVERTAP_REGION", "in1"),
            ("SECRET_ID", SECRET_ID),
            ("FORWARDED_REQUEST", &events.upload()?),
            ("PATH", &env::var("PATH").unwrap_or_default()),
            // The authority: for Rust, Node and Python.
            ("SSL_CERT_FILE", pem_file),
            ("NODE_EXTRA_CA_CERTS", pem_file),
            ("AWS_CA_BUNDLE", pem_file),
        ];
        let environment = environment.map(|(name, value)| (name, value.to_owned())).to_vec();
        Ok(Self {
            clevertap,
            secrets_manager,
            dynamodb,
            environment,
            events,
            _authority: authority,
        })
    }

    async fn cold_start(
        &mut self,
        api: &RuntimeApi,
        process: &Process,
        samples: &mut Samples,
    ) -> Result<(), Box<dyn Error>> {
        let before = self.traffic();
        let invocation = self.invoke(api, process).await?;
        samples.cpu_ms.push(ms(process.cpu_time()?));
        samples.peak_mib.push(process.peak_mib()?);
        let next_at = api.wait_until_ready().await;
        samples.next_ms.push(ms(next_at - process.started_at));
        samples.took_ms.push(ms(invocation.answered_at - process.started_at));
        samples.count(before, self.traffic());
        Ok(())
    }

    /// Invokes a contestant with the next event and checks that it was relayed.
    async fn invoke(
        &mut self,
        api: &RuntimeApi,
        process: &Process,
    ) -> Result<Invocation, Box<dyn Error>> {
        let webhook = self.events.webhook();
        self.relay(api, process, &webhook, usize::from(process.contestant.uploads()))
            .await
    }

    /// Invokes a contestant and checks that this led to so many uploads.
    async fn relay(
        &self,
        api: &RuntimeApi,
        process: &Process,
        webhook: &str,
        expected: usize,
    ) -> Result<Invocation, Box<dyn Error>> {
        let invocation = api.invoke_timed(webhook).await;
        let accepted = self.clevertap.accepted();
        let uploads = self.clevertap.take_uploads().len();
        let problem = match &invocation.result {
            _ if uploads != expected => {
                format!("{uploads} uploads, not {expected}, and the answer {:?}", invocation.result)
            }
            Err(error) => format!("the invocation failed: {error}"),
            Ok(answer) => match check(answer, &accepted, expected) {
                Ok(()) => return Ok(invocation),
                Err(problem) => problem,
            },
        };
        let log = process.function.log();
        let end = log[log.len().saturating_sub(5)..].join("\n");
        Err(format!("{:?}: {problem}; its log ends with:\n{end}", process.contestant).into())
    }

    /// The connections and requests that have reached the services.
    fn traffic(&self) -> [usize; 2] {
        let (clevertap, secrets, dynamodb) =
            (&self.clevertap, &self.secrets_manager, &self.dynamodb);
        [
            clevertap.connections() + secrets.connections() + dynamodb.connections(),
            clevertap.requests() + secrets.requests() + dynamodb.requests(),
        ]
    }
}

impl Samples {
    fn count(&mut self, before: [usize; 2], after: [usize; 2]) {
        self.connections += after[0] - before[0];
        self.requests += after[1] - before[1];
    }
}

impl Process {
    async fn start(
        built: &Built,
        api: &RuntimeApi,
        world: &World,
        setting: &Setting,
    ) -> Result<Self, Box<dyn Error>> {
        let group = setting.quota.as_ref().map(Quota::create_group).transpose()?;
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
            .envs(world.environment.iter().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", api.address())
            .stdin(Stdio::piped());
        if built.contestant.has_table() {
            command.envs(DEPLOYED);
        }
        let mut process = Self {
            contestant: built.contestant,
            started_at: Instant::now(),
            cpu_before: Duration::ZERO,
            group: None,
            function: Function::spawn_command(command, api),
        };
        if let Some(group) = group {
            group.add(process.function.pid())?;
            process.group = Some(group);
            process.cpu_before = cpu_time(process.function.pid())?;
            process.started_at = Instant::now();
            let stdin = process.function.stdin.as_mut().ok_or("the shell has no standard input")?;
            stdin.write_all(b"\n").await?;
        }
        Ok(process)
    }

    fn cpu_time(&self) -> io::Result<Duration> {
        Ok(cpu_time(self.function.pid())?.saturating_sub(self.cpu_before))
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

impl Lane {
    async fn turn(&mut self, world: &mut World, events: usize) -> Result<(), Box<dyn Error>> {
        // The others' turns have emptied the caches, so the first invocation is not counted.
        world.invoke(&self.api, &self.process).await?;
        let before = world.traffic();
        for _ in 0..events {
            let cpu_before = self.process.cpu_time()?;
            let invocation = world.invoke(&self.api, &self.process).await?;
            let took = invocation.answered_at - invocation.handed_over_at;
            let cpu = self.process.cpu_time()?.saturating_sub(cpu_before);
            self.samples.took_ms.push(ms(took));
            self.samples.cpu_ms.push(ms(cpu));
        }
        self.samples.peak_mib.push(self.process.peak_mib()?);
        self.samples.count(before, world.traffic());
        Ok(())
    }
}

/// How long the threads of a process have run. The kernel counts it in nanoseconds.
fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while it is read.
        let times = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let ran = times.split(' ').next().and_then(|ran| ran.parse().ok());
        nanoseconds += ran.unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
