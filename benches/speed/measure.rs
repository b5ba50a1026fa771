//! Starts the contestants in turn, hands them events, and notes times, memory and traffic.
//! It does not know which figures are good.

use crate::contestants::{Built, Contestant};
use crate::events::{Events, check};
use crate::quota::{Group, Quota};
use crate::report::{Cold, Traffic, Warm, ms};
use crate::spread::Spread;
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
use testkit::world::aws::Aws;
use testkit::world::clevertap::CleverTap;
use testkit::world::secrets_manager::SecretsManager;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Invocations of a fresh process before any is measured.
const WARM_UP: u32 = 100;
/// Events that one contestant receives before it is the next one's turn.
const TURN: u32 = 50;

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

/// What the services add, as if they were on other machines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latencies {
    pub secrets_manager: Latency,
    pub clevertap: Latency,
    pub dynamodb: Latency,
}

impl Latencies {
    /// The round trips that follow each other however fast the function is: a connection, the secret, the claim,
    /// the upload, the claim's completion. Other connections open meanwhile.
    pub fn critical_path(self, has_table: bool) -> Duration {
        let claim = if has_table {
            2 * self.dynamodb.request
        } else {
            Duration::ZERO
        };
        let secret = self.secrets_manager.connection + self.secrets_manager.request;
        secret + claim + self.clevertap.request
    }
}

/// One contestant's cold starts, a value for each.
#[derive(Default)]
struct Samples {
    next_ms: Vec<f64>,
    answer_ms: Vec<f64>,
    cpu_ms: Vec<f64>,
    peak_mib: Vec<f64>,
    traffic: Traffic,
}

/// One process that lives through all turns.
struct Lane {
    contestant: Contestant,
    api: RuntimeApi,
    process: Process,
    took_us: Vec<f64>,
    cpu_us: Vec<f64>,
    traffic: Traffic,
}

struct Process {
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
    dynamodb: Server<Aws>,
    environment: Vec<(&'static str, String)>,
    events: Events,
    /// As of the last call of `take_traffic`.
    seen: Traffic,
    /// Exists as long as this.
    _authority: NamedTempFile,
}

/// Measures `rounds` cold starts of each contestant, in turn. Each round begins with another one.
pub async fn cold(
    contestants: &[Built],
    quota: Option<&Quota>,
    latencies: Latencies,
    rounds: usize,
) -> Result<Vec<Cold>, Box<dyn Error>> {
    let mut world = World::start(latencies).await?;
    let api = RuntimeApi::start().await;
    let mut samples: Vec<Samples> = contestants.iter().map(|_| Samples::default()).collect();
    // The first round fills the machine's caches and is not counted.
    for round in 0..=rounds {
        eprint!("\r  cold start {round} of {rounds} ");
        for turn in 0..contestants.len() {
            let position = (round + turn) % contestants.len();
            let built = &contestants[position];
            let mut process = Process::start(built, &api, &world.environment, quota).await?;
            let mut uncounted = Samples::default();
            let samples = match round {
                0 => &mut uncounted,
                _ => &mut samples[position],
            };
            let result = world.cold_start(built.contestant, &api, &process, samples).await;
            process.end().await;
            result.map_err(|error| process.describe(built.contestant, error.as_ref()))?;
        }
    }
    eprintln!();
    let figures = contestants.iter().zip(samples).map(|(built, samples)| {
        Some(Cold {
            contestant: built.contestant,
            next_ms: Spread::of(samples.next_ms)?,
            answer_ms: Spread::of(samples.answer_ms)?,
            cpu_ms: Spread::of(samples.cpu_ms)?,
            peak_mib: Spread::of(samples.peak_mib)?,
            traffic: samples.traffic,
        })
    });
    Ok(figures.collect::<Option<_>>().ok_or("there were no cold starts")?)
}

/// Measures about `count` warm events of each contestant, turn by turn.
pub async fn warm(contestants: &[Built], count: u32) -> Result<Vec<Warm>, Box<dyn Error>> {
    let mut world = World::start(Latencies::default()).await?;
    let mut lanes = Vec::new();
    for built in contestants {
        let api = RuntimeApi::start().await;
        let lane = Lane {
            contestant: built.contestant,
            process: Process::start(built, &api, &world.environment, None).await?,
            api,
            took_us: Vec::new(),
            cpu_us: Vec::new(),
            traffic: Traffic::default(),
        };
        for _ in 0..WARM_UP {
            lane.invoke(&mut world).await?;
        }
        lanes.push(lane);
    }
    let turns = count.div_ceil(TURN);
    for turn in 1..=turns {
        eprint!("\r  warm turn {turn} of {turns} ");
        for lane in &mut lanes {
            lane.turn(&mut world).await?;
        }
        // The next turn begins with another one.
        lanes.rotate_left(1);
    }
    eprintln!();
    let rotated = usize::try_from(turns)? % lanes.len();
    lanes.rotate_right(rotated);
    lanes.into_iter().map(Lane::figures).collect()
}

impl World {
    async fn start(latencies: Latencies) -> Result<Self, Box<dyn Error>> {
        let authority = Authority::default();
        let clevertap = authority.serve(CleverTap::new(ACCOUNT_ID, PASSCODE)).await;
        clevertap.set_latency(latencies.clevertap);
        let secret = secret_value(PASSCODE, SHARED_SECRET);
        let secrets_manager = authority.serve(SecretsManager::new(SECRET_ID, &secret)).await;
        secrets_manager.set_latency(latencies.secrets_manager);
        let dynamodb = authority.serve(Aws::default()).await;
        dynamodb.set_latency(latencies.dynamodb);

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
            seen: Traffic::default(),
            _authority: authority,
        })
    }

    async fn cold_start(
        &mut self,
        contestant: Contestant,
        api: &RuntimeApi,
        process: &Process,
        samples: &mut Samples,
    ) -> Result<(), Box<dyn Error>> {
        self.take_traffic();
        let invocation = self.invoke(contestant, api).await?;
        samples.cpu_ms.push(ms(process.cpu_time()?));
        samples.peak_mib.push(process.peak_mib()?);
        let next_at = api.wait_until_ready().await;
        samples.next_ms.push(ms(next_at - process.started_at));
        samples.answer_ms.push(ms(invocation.answered_at - process.started_at));
        samples.traffic = samples.traffic.max(self.take_traffic());
        Ok(())
    }

    /// Invokes a contestant with the next event and checks that it was relayed.
    async fn invoke(
        &mut self,
        contestant: Contestant,
        api: &RuntimeApi,
    ) -> Result<Invocation, Box<dyn Error>> {
        let invocation = api.invoke_timed(self.events.webhook()).await;
        let accepted = self.clevertap.accepted();
        let uploads = self.clevertap.take_uploads().len();
        let expected = usize::from(contestant.uploads());
        if uploads != expected {
            return Err(format!("{uploads} uploads, and the answer {:?}", invocation.result).into());
        }
        match &invocation.result {
            Ok(answer) => check(answer, &accepted, expected)?,
            Err(error) => return Err(format!("the invocation failed: {error}").into()),
        }
        Ok(invocation)
    }

    /// What has reached the services since the last call.
    fn take_traffic(&mut self) -> Traffic {
        let (clevertap, secrets, dynamodb) =
            (&self.clevertap, &self.secrets_manager, &self.dynamodb);
        let requests = [clevertap.requests(), secrets.requests(), dynamodb.requests()];
        let connections = [clevertap.connections(), secrets.connections(), dynamodb.connections()];
        let before = self.seen;
        self.seen = Traffic {
            requests: count(requests.iter().sum()),
            connections: count(connections.iter().sum()),
        };
        Traffic {
            requests: self.seen.requests - before.requests,
            connections: self.seen.connections - before.connections,
        }
    }
}

impl Process {
    async fn start(
        built: &Built,
        api: &RuntimeApi,
        environment: &[(&'static str, String)],
        quota: Option<&Quota>,
    ) -> Result<Self, Box<dyn Error>> {
        let group = quota.map(Quota::create_group).transpose()?;
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
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .env("AWS_LAMBDA_RUNTIME_API", api.address())
            .stdin(Stdio::piped());
        if built.contestant == Contestant::Relay {
            command.envs(DEPLOYED);
        }
        let mut process = Self {
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

    /// The error, with the end of the process's log.
    fn describe(&self, contestant: Contestant, error: &dyn Error) -> String {
        let log = self.function.log();
        let end = log[log.len().saturating_sub(5)..].join("\n");
        format!("{contestant:?}: {error}; its log ends with:\n{end}")
    }
}

impl Lane {
    async fn turn(&mut self, world: &mut World) -> Result<(), Box<dyn Error>> {
        // The others' turns have emptied the caches, so the first invocation is not counted.
        self.invoke(world).await?;
        world.take_traffic();
        for _ in 0..TURN {
            let cpu_before = self.process.cpu_time()?;
            let invocation = self.invoke(world).await?;
            let took = invocation.answered_at - invocation.handed_over_at;
            let cpu = self.process.cpu_time()?.saturating_sub(cpu_before);
            self.took_us.push(ms(took) * 1e3);
            self.cpu_us.push(ms(cpu) * 1e3);
        }
        let traffic = world.take_traffic();
        self.traffic.requests += traffic.requests;
        self.traffic.connections += traffic.connections;
        Ok(())
    }

    async fn invoke(&self, world: &mut World) -> Result<Invocation, Box<dyn Error>> {
        let result = world.invoke(self.contestant, &self.api).await;
        result.map_err(|error| self.process.describe(self.contestant, error.as_ref()).into())
    }

    fn figures(self) -> Result<Warm, Box<dyn Error>> {
        Ok(Warm {
            contestant: self.contestant,
            events: count(self.took_us.len()),
            took_us: Spread::of(self.took_us).ok_or("there were no warm events")?,
            cpu_us: Spread::of(self.cpu_us).ok_or("there were no warm events")?,
            peak_mib: self.process.peak_mib()?,
            traffic: self.traffic,
        })
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

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a count of this bench is below four billion")
}
