//! Everything the function talks to, on this machine: a CleverTap that checks what it is sent, a
//! Secrets Manager with a sample secret and, if wanted, the function itself under `cargo lambda watch`.
//! It holds no rule of either vendor; those are in the modules beside it.

mod clevertap;
mod connections;
mod secrets_manager;
mod watch;
#[path = "../send/webhook.rs"]
mod webhook;

use clap::{Args, Parser, Subcommand};
use clevertap::CleverTap;
use secrets_manager::SecretsManager;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use watch::Watched;
use webhook::{SAMPLE_SHARED_SECRET, Webhook, http_client};

const SAMPLE_ACCOUNT_ID: &str = "ABC-123-4567";
const SAMPLE_PASSCODE: &str = "sample-passcode";
const SAMPLE_SECRET_ID: &str = "purchasely-clevertap";
/// What the function says during a demo.
const DEMO_LOG: &str = "target/demo.log";
/// `cargo lambda watch` compiles the function before it answers; on a new machine that takes minutes.
const COMPILING: Duration = Duration::from_mins(15);

type Failure = Box<dyn std::error::Error>;

/// A CleverTap and a Secrets Manager of your own.
///
/// Exit codes: 0, as it should be; 1, something was not relayed or could not be started; 2, the
/// command line cannot be used.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --example sandbox -- serve
  cargo run --example sandbox -- demo --json")]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Serve CleverTap and Secrets Manager; print what the function needs to use them.
    Serve(Ports),
    /// The same, and the function under `cargo lambda watch`, until Ctrl-C.
    Dev {
        #[command(flatten)]
        ports: Ports,
        /// Port of the function.
        #[arg(long, default_value_t = 9000)]
        function_port: u16,
        #[command(flatten)]
        watch: Watch,
    },
    /// Start all of it on free ports, send every sample, show what CleverTap received, and end.
    Demo {
        /// Folder of raw webhook bodies.
        #[arg(long, default_value = "events")]
        events: PathBuf,
        /// Print one JSON object instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        watch: Watch,
    },
}

#[derive(Args, Clone, Copy)]
struct Ports {
    /// Port of CleverTap; 0 is any free one.
    #[arg(long, default_value_t = 9100)]
    clevertap_port: u16,
    /// Port of Secrets Manager; 0 is any free one.
    #[arg(long, default_value_t = 9101)]
    secrets_manager_port: u16,
}

#[derive(Args, Clone)]
struct Watch {
    /// The `cargo-lambda` executable.
    #[arg(long, env = "CARGO_LAMBDA", default_value = "cargo-lambda")]
    cargo_lambda: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Arguments::parse().mode {
        Mode::Serve(ports) => serve(ports).await,
        Mode::Dev {
            ports,
            function_port,
            watch,
        } => dev(ports, function_port, &watch).await,
        Mode::Demo {
            events,
            json,
            watch,
        } => demo(&events, json, &watch).await,
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(ports: Ports) -> Result<ExitCode, Failure> {
    let sandbox = Sandbox::start(ports).await?;
    println!("The function uses this sandbox with these variables:\n");
    for (name, value) in sandbox.variables() {
        println!("export {name}='{value}'");
    }
    println!("\nWhat CleverTap accepts is printed below. Ctrl-C ends it.");
    let mut interrupted = Interrupted::new()?;
    tokio::select! {
        () = sandbox.print_accepted() => {}
        () = interrupted.wait() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn dev(ports: Ports, port: u16, watch: &Watch) -> Result<ExitCode, Failure> {
    let mut interrupted = Interrupted::new()?;
    let sandbox = Sandbox::start(ports).await?;
    let mut function = Watched::start(&watch.cargo_lambda, None, port, &sandbox.variables(), None)?;
    println!(
        "The function is being compiled; then it answers at {url}\n\n\
         Try, in another terminal:\n  \
         cargo run --example send -- events/TRIAL_STARTED.json --to {url}\n  \
         curl -i {url}\n\n\
         What CleverTap accepts is printed below. Ctrl-C ends all of it.",
        url = function.url
    );
    let code = tokio::select! {
        () = sandbox.print_accepted() => ExitCode::SUCCESS,
        () = interrupted.wait() => ExitCode::SUCCESS,
        ended = function.ended() => {
            eprintln!("sandbox: {ended}");
            ExitCode::FAILURE
        }
    };
    function.end().await;
    Ok(code)
}

async fn demo(events: &Path, json: bool, watch: &Watch) -> Result<ExitCode, Failure> {
    let mut interrupted = Interrupted::new()?;
    let any = Ports {
        clevertap_port: 0,
        secrets_manager_port: 0,
    };
    let sandbox = Sandbox::start(any).await?;
    std::fs::create_dir_all("target")?;
    let log = std::fs::File::create(DEMO_LOG)?;
    let port = free_port().await?;
    let mut function = Watched::start(
        &watch.cargo_lambda,
        Some(Ipv4Addr::LOCALHOST),
        port,
        &sandbox.variables(),
        Some(log),
    )?;
    let url = function.url.clone();
    let shown = tokio::select! {
        shown = show(events, json, &sandbox, &url) => shown,
        () = interrupted.wait() => Err("interrupted".into()),
        ended = function.ended() => Err(format!("{ended}; see {DEMO_LOG}").into()),
    };
    function.end().await;
    shown
}

/// Sends every sample and tells what CleverTap made of it.
async fn show(
    events: &Path,
    as_json: bool,
    sandbox: &Sandbox,
    url: &str,
) -> Result<ExitCode, Failure> {
    let http = http_client()?.timeout(COMPILING).build()?;
    eprintln!("Waiting for cargo lambda watch to start the function (its log: {DEMO_LOG}) ...");
    watch::wait_until_served(&http, url, COMPILING).await?;
    let mut rows = Vec::new();
    let mut all_relayed = true;
    for file in samples(events)? {
        let webhook = Webhook::new(std::fs::read(&file)?, SAMPLE_SHARED_SECRET, now_seconds());
        let before = sandbox.clevertap.accepted().len();
        let started = Instant::now();
        let (status, answer) = webhook.post(&http, url).await?;
        let took = started.elapsed();
        let accepted = sandbox.clevertap.accepted().split_off(before);
        all_relayed &= status == 200 && !accepted.is_empty();
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if !as_json {
            let made = accepted.iter().map(summary).collect::<Vec<_>>().join("; ");
            println!("{status}  {name:<50} {:>4} ms  {made}", took.as_millis());
        }
        rows.push(
            json!({ "file": name, "status": status, "answer": answer, "accepted": accepted }),
        );
    }
    let accepted = sandbox.clevertap.accepted();
    if as_json {
        println!("{}", json!({ "relayed": all_relayed, "samples": rows }));
    } else {
        println!(
            "\nThe last record that CleverTap accepted:\n{:#}\n\n\
             {} webhooks sent, {} records accepted; the function's log is in {DEMO_LOG}.",
            accepted.last().unwrap_or(&Value::Null),
            rows.len(),
            accepted.len()
        );
    }
    Ok(if all_relayed && !rows.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The two services, serving.
struct Sandbox {
    clevertap: CleverTap,
    clevertap_url: String,
    secrets_manager_url: String,
}

impl Sandbox {
    async fn start(ports: Ports) -> Result<Self, Failure> {
        let secret = json!({
            "clevertap_passcode": SAMPLE_PASSCODE,
            "purchasely_shared_secret": SAMPLE_SHARED_SECRET,
        });
        let clevertap = CleverTap::new(SAMPLE_ACCOUNT_ID, SAMPLE_PASSCODE);
        let secrets_manager = SecretsManager::new(SAMPLE_SECRET_ID, &secret.to_string());
        let (listener, clevertap_url) = listen(ports.clevertap_port).await?;
        tokio::spawn(clevertap.clone().serve(listener));
        let (listener, secrets_manager_url) = listen(ports.secrets_manager_port).await?;
        tokio::spawn(secrets_manager.serve(listener));
        Ok(Self {
            clevertap,
            clevertap_url,
            secrets_manager_url,
        })
    }

    /// What makes a function use it.
    fn variables(&self) -> [(&'static str, &str); 8] {
        [
            ("CLEVERTAP_REGION", "in1"),
            ("CLEVERTAP_ACCOUNT_ID", SAMPLE_ACCOUNT_ID),
            ("CLEVERTAP_API_URL", &self.clevertap_url),
            ("SECRET_ID", SAMPLE_SECRET_ID),
            (
                "AWS_ENDPOINT_URL_SECRETS_MANAGER",
                &self.secrets_manager_url,
            ),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "sandbox"),
            ("AWS_SECRET_ACCESS_KEY", "sandbox"),
        ]
    }

    async fn print_accepted(&self) {
        let mut uploads = 0;
        let mut printed = 0;
        loop {
            uploads += 1;
            self.clevertap.wait_for_uploads(uploads).await;
            // An upload is seen before it is judged.
            tokio::time::sleep(Duration::from_millis(50)).await;
            for record in self.clevertap.accepted().split_off(printed) {
                println!("{record:#}");
                printed += 1;
            }
        }
    }
}

/// Ctrl-C, or a polite request to end.
struct Interrupted {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupted {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A record in a few words.
fn summary(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or("?");
    let properties = record["evtData"]
        .as_object()
        .map_or(0, serde_json::Map::len);
    let user = record["identity"]
        .as_str()
        .unwrap_or_else(|| text("objectId"));
    format!(
        "{} {} of {user}, {properties} properties",
        text("type"),
        text("evtName")
    )
}

fn samples(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for entry in
        std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?
    {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

async fn listen(port: u16) -> Result<(TcpListener, String), Failure> {
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("port {port}: {error}"))?;
    let url = format!("http://{}", listener.local_addr()?);
    Ok((listener, url))
}

async fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

fn now_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
