//! Checks a deployment, or the machine and the settings before one, and tells how to mend what it
//! finds. It changes nothing anywhere, and it does not know why something came to be as it is.

mod address;
mod aws;
mod clevertap;
mod clock;
mod deployed;
mod env_file;
mod finding;
mod resources;
mod secret;
mod settings;
mod template;
mod tools;
#[path = "../send/webhook.rs"]
mod webhook;

use aws::Aws;
use clap::Parser;
use clevertap::Account;
use clock::Reading;
use deployed::Deployment;
use finding::{Check, Findings, Level};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use purchasely_clevertap::aws::secret::Secret;
use purchasely_clevertap::clevertap::{Client, UnixSeconds};
use purchasely_clevertap::config::{Config, SignaturePolicy};
use reqwest::Url;
use rustls::RootCertStore;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CONNECTING: Duration = Duration::from_secs(5);
/// For the answer to a request that asks for nothing but the time.
const GREETING: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);

/// Checks a deployment, or the machine and the settings before one.
///
/// Without arguments it looks at the tools and at the settings in the environment, and asks nobody.
/// With `--stack` or `--function` it asks AWS, by the AWS CLI and thus with your profile
/// (`AWS_PROFILE`, `AWS_REGION`); settings, secret and address are then the deployed ones. With
/// `--online` it asks CleverTap. It changes nothing, and no value of the secret is ever shown.
///
/// Exit codes: 0, no error was found; 1, at least one; 2, the command line cannot be used. Warnings
/// count only with `--strict`.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --example doctor
  cargo run --example doctor -- --env-file relay.env --secret-file secret.json --online
  cargo run --example doctor -- --stack purchasely-clevertap --online
  cargo run --example doctor -- --function purchasely-clevertap --json
  cargo run --example doctor -- --url https://abc123.execute-api.eu-west-1.amazonaws.com/webhooks/purchasely")]
struct Arguments {
    /// Read the settings from the file that `cargo lambda deploy --env-file` gets.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Check the secret in this file, before it is stored.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Ask CleverTap whether region, account and passcode belong together, by an upload that it
    /// checks and does not store.
    #[arg(long)]
    online: bool,
    /// Check the stack of this name, and all that it made, against the local template.
    #[arg(long, value_name = "NAME", conflicts_with = "function")]
    stack: Option<String>,
    /// Check the function of this name, deployed by cargo lambda.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Check that this address answers an unsigned request 401; by default that of the deployment.
    #[arg(long, value_name = "URL", value_parser = address)]
    url: Option<Url>,
    /// The local template.
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    template: PathBuf,
    /// Let warnings count as errors.
    #[arg(long)]
    strict: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn is_deployed(&self) -> bool {
        self.stack.is_some() || self.function.is_some()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // On a terminal only; it stays hidden otherwise.
    let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_style(ProgressStyle::default_spinner());
    progress.enable_steady_tick(TICK);
    let findings = Examination::new(&arguments, progress.clone()).run().await;
    progress.finish_and_clear();
    let told = if arguments.json {
        format!("{}\n", findings.json())
    } else {
        findings.text()
    };
    // A reader that has seen enough, such as `head`, is no failure.
    let _ = std::io::stdout().write_all(told.as_bytes());
    match findings.worst() {
        Level::Ok => ExitCode::SUCCESS,
        Level::Warning if !arguments.strict => ExitCode::SUCCESS,
        Level::Warning | Level::Error => ExitCode::FAILURE,
    }
}

struct Examination<'a> {
    arguments: &'a Arguments,
    progress: ProgressBar,
    findings: Findings,
}

impl<'a> Examination<'a> {
    fn new(arguments: &'a Arguments, progress: ProgressBar) -> Self {
        Self {
            arguments,
            progress,
            findings: Findings::default(),
        }
    }

    async fn run(mut self) -> Findings {
        self.progress.set_message("looking for tools");
        tools::check(&mut self.findings).await;

        let mut aws = None;
        let deployment = self.deployment(&mut aws).await;
        let config = self.settings(deployment.variables);
        let secret = self.secret(config.as_ref(), &mut aws).await;

        let roots = match &config {
            // The deployed function's file is not on this machine.
            Some(config) if !self.arguments.is_deployed() => {
                settings::roots(config, &mut self.findings)
            }
            _ => None,
        };

        let mut reading = None;
        if self.arguments.online {
            match &config {
                Some(config) if self.findings.is_clean(Check::RootCertificates) => {
                    reading = self.clevertap(config, secret.as_ref(), roots).await;
                }
                _ => self.findings.warning(
                    Check::Clevertap,
                    "not asked: there are no usable settings to ask with",
                    "mend the settings first",
                ),
            }
        }
        let url = deployment.webhook_url.as_deref().map(Url::parse);
        let url = self.arguments.url.clone().or(url.and_then(Result::ok));
        if let Some(url) = url {
            reading = self.webhook(&url, config.as_ref()).await.or(reading);
        }
        if let Some(reading) = reading {
            clock::check(&reading, &mut self.findings);
        }
        self.findings
    }

    async fn deployment(&mut self, aws: &mut Option<Aws>) -> Deployment {
        let Arguments {
            stack, function, ..
        } = self.arguments;
        if !self.arguments.is_deployed() {
            return Deployment::default();
        }
        let Some(template) = self.template() else {
            return Deployment::default();
        };
        let aws = self.aws(aws).await;
        if let Some(name) = stack {
            deployed::stack(aws, name, &template, &mut self.findings).await
        } else if let Some(name) = function {
            deployed::function(aws, name, &template, &mut self.findings).await
        } else {
            Deployment::default()
        }
    }

    fn template(&mut self) -> Option<Value> {
        let path = &self.arguments.template;
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
        let read = text.and_then(|text| template::read(&text).map_err(|error| error.to_string()));
        read.map_err(|error| {
            self.findings.error(
                Check::Template,
                format!("{}: {error}", path.display()),
                "run it in the project's folder, or name the template with --template",
            );
        })
        .ok()
    }

    async fn aws<'b>(&mut self, aws: &'b mut Option<Aws>) -> &'b mut Aws {
        if aws.is_none() {
            *aws = Some(Aws::open(self.progress.clone(), &mut self.findings).await);
        }
        aws.as_mut().expect("it was opened a moment ago")
    }

    /// The deployed settings, else those of the file, else those of this process's environment.
    fn settings(&mut self, deployed: Option<settings::Variables>) -> Option<Config> {
        let env_file = &self.arguments.env_file;
        let findings = &mut self.findings;
        let mut config = None;
        if let Some(path) = env_file
            && let Some(variables) = settings::of_file(path, findings)
        {
            let source = path.display().to_string();
            config = settings::check(&source, &variables, findings);
        }
        if let Some(variables) = deployed {
            return settings::check("the deployed function", &variables, findings);
        }
        if env_file.is_some() || self.arguments.is_deployed() {
            return config;
        }
        let Some(variables) = settings::of_this_process() else {
            // Nobody who deploys with SAM sets them here.
            findings.warning(
                Check::Settings,
                "none is set in this environment, so none was checked",
                "name a file with --env-file, set them as the README's section Settings says, or check a deployment with --stack or --function",
            );
            return None;
        };
        settings::check("the environment", &variables, findings)
    }

    /// The secret in use, else the one in the file.
    async fn secret(&mut self, config: Option<&Config>, aws: &mut Option<Aws>) -> Option<Secret> {
        let Arguments {
            secret_file,
            online,
            ..
        } = self.arguments;
        let mut secret = None;
        if let Some(path) = secret_file {
            secret = secret::check_file(path, config, &mut self.findings);
        }
        let asked = self.arguments.is_deployed() || (*online && secret_file.is_none());
        let Some(config) = config.filter(|_| asked) else {
            return secret;
        };
        let id = &config.secret_id;
        let mut arguments = vec!["secretsmanager", "get-secret-value", "--secret-id", id];
        if let Some(region) = id
            .strip_prefix("arn:")
            .and_then(|arn| arn.split(':').nth(2))
        {
            arguments.extend(["--region", region]);
        }
        let aws = self.aws(aws).await;
        let answer = aws
            .ask(Check::Secret, &arguments, &mut self.findings)
            .await?;
        let Some(text) = answer["SecretString"].as_str() else {
            self.findings.error(
                Check::Secret,
                format!("{id} is binary"),
                "put it as text, with `--secret-string file://secret.json`",
            );
            return None;
        };
        secret::check(id, text, Some(config), &mut self.findings)
    }

    async fn clevertap(
        &mut self,
        config: &Config,
        secret: Option<&Secret>,
        roots: Option<RootCertStore>,
    ) -> Option<Reading> {
        let made = match roots {
            Some(roots) => webhook::http_client_trusting(roots),
            None => webhook::http_client(),
        };
        let http = made.ok()?.connect_timeout(CONNECTING).build().ok()?;
        let Some(secret) = secret else {
            self.findings.warning(
                Check::Clevertap,
                "not asked: there is no passcode to ask with",
                "mend the secret, or name a file with --secret-file",
            );
            return None;
        };
        let host = config.upload_url.as_str();
        self.progress.set_message(format!("asking {host}"));
        let reading = greeted(&http, host).await;
        let client = Client::new(http, host.to_owned()).dry();
        let sandbox = config
            .sandbox_account_id
            .as_ref()
            .zip(secret.clevertap_sandbox_passcode.as_ref())
            .map(|(id, passcode)| (Check::ClevertapSandbox, id, passcode));
        let main = (
            Check::Clevertap,
            &config.account_id,
            &secret.clevertap_passcode,
        );
        for (check, id, passcode) in std::iter::once(main).chain(sandbox) {
            let account = Account {
                check,
                host,
                id,
                passcode,
            };
            clevertap::check(&client, account, now(), &mut self.findings).await;
        }
        reading
    }

    async fn webhook(&mut self, url: &Url, config: Option<&Config>) -> Option<Reading> {
        if config.is_some_and(|config| config.signature == SignaturePolicy::Off) {
            self.findings.warning(
                Check::Webhook,
                "not asked: PURCHASELY_SIGNATURE is off, and the request might be relayed",
                "set it to `required` unless your sender cannot sign",
            );
            return None;
        }
        let http = webhook::http_client().ok()?;
        let http = http.connect_timeout(CONNECTING).build().ok()?;
        self.progress.set_message(format!("asking {url}"));
        address::check(&http, url, &mut self.findings).await
    }
}

/// What time it is there. Who does not answer this is told of by the upload.
async fn greeted(http: &reqwest::Client, host: &str) -> Option<Reading> {
    let asked = SystemTime::now();
    let answer = http.head(host).timeout(GREETING).send().await.ok()?;
    let by = Url::parse(host).ok()?;
    Reading::of(by.host_str().unwrap_or(host), &answer, asked)
}

fn now() -> UnixSeconds {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = elapsed.unwrap_or_default().as_secs();
    UnixSeconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn address(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => Err("an http or https URL".to_owned()),
    }
}
