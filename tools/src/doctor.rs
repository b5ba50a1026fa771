//! Checks a deployment, or this machine and the settings before one, and says how to fix what it
//! finds. It changes nothing, and it does not know how a finding came about.

mod aws;
mod deployed;
mod endpoint;
mod finding;
mod local;

pub use finding::{CHECKS, Check, Level};

use crate::Unusable;
use aws::{Aws, Operation};
use deployed::{Deployment, Inspector};
use finding::{Findings, Id};
use indicatif::{ProgressBar, ProgressDrawTarget};
use local::Variables;
use purchasely_clevertap::aws::secret::Secret;
use purchasely_clevertap::clevertap::Client;
use purchasely_clevertap::config::{Config, SignaturePolicy};
use reqwest::Url;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use testkit::webhook::{http_client, http_client_trusting};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const SECRET_VALUE: &str = "secretsmanager get-secret-value --secret-id";
const SECRET_VALUE_IN: &str = "secretsmanager get-secret-value --region";

/// Checks a deployment, or this machine and the settings before one.
///
/// Without arguments it checks the tools and the settings in the environment, without network. With
/// `--stack` or `--function` it uses the AWS CLI and your profile (`AWS_PROFILE`, `AWS_REGION`);
/// settings, secret and address are then the deployed ones. With `--online` it sends CleverTap a
/// dry-run upload. It changes nothing, and it shows no value of the secret.
///
/// Exit codes: 0, no error; 1, at least one error, or a warning with --strict; 2, it could not run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo relay doctor
  cargo relay doctor --env-file relay.env --secret-file secret.json --online
  cargo relay doctor --stack purchasely-clevertap --online
  cargo relay doctor --function purchasely-clevertap --json
  cargo relay doctor --url https://abc123.execute-api.eu-west-1.amazonaws.com/webhooks/purchasely")]
pub struct Options {
    /// Read the settings from a file for `cargo lambda deploy --env-file`.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Check the secret in this file, before it is stored.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Check that CleverTap accepts region, account id and passcode.
    #[arg(long)]
    online: bool,
    /// Check the stack of this name and its resources.
    #[arg(long, value_name = "NAME", conflicts_with = "function")]
    stack: Option<String>,
    /// Check the function of this name, deployed without a stack.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Check that this address refuses unsigned requests; by default the deployment's address.
    #[arg(long, value_name = "URL", value_parser = http_url)]
    url: Option<Url>,
    /// Let warnings count as errors.
    #[arg(long)]
    strict: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

struct Run<'a> {
    options: &'a Options,
    progress: ProgressBar,
    findings: Findings,
    /// Opened when it is first needed.
    aws: Option<Aws>,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    // Hidden unless standard error is a terminal.
    let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    progress.enable_steady_tick(Duration::from_millis(100));
    let mut run = Run {
        options: &options,
        progress,
        findings: Findings::default(),
        aws: None,
    };
    run.check().await?;
    run.progress.finish_and_clear();
    let findings = run.findings;
    let output = if options.json {
        format!("{:#}\n", findings.json())
    } else {
        findings.text()
    };
    // A reader such as `head` may close the pipe early.
    let _ = std::io::stdout().write_all(output.as_bytes());
    Ok(match findings.worst() {
        Level::Error => ExitCode::FAILURE,
        Level::Warning if options.strict => ExitCode::FAILURE,
        Level::Ok | Level::Warning => ExitCode::SUCCESS,
    })
}

impl Run<'_> {
    async fn check(&mut self) -> Result<(), Unusable> {
        self.progress.set_message("looking for tools");
        local::tools(&mut self.findings).await;
        let deployment = self.deployment().await;
        let config = self.settings(deployment.variables);
        let secret = self.secret(config.as_ref()).await;
        if self.options.online {
            self.clevertap(config.as_ref(), secret.as_ref()).await?;
        }
        let found = deployment.webhook_url.and_then(|url| Url::parse(&url).ok());
        let Some(url) = self.options.url.clone().or(found) else {
            return Ok(());
        };
        let is_unsigned = |config: &Config| config.signature == SignaturePolicy::Off;
        if config.as_ref().is_some_and(is_unsigned) {
            let what = "no request was sent";
            self.findings.add(Id::WebhookSkipped, url.as_str(), what);
            return Ok(());
        }
        self.progress.set_message(format!("posting to {url}"));
        let http = client(None)?;
        endpoint::webhook(&http, &url, &mut self.findings).await;
        Ok(())
    }

    async fn deployment(&mut self) -> Deployment {
        let (stack, function) = (&self.options.stack, &self.options.function);
        if stack.is_none() && function.is_none() {
            return Deployment::default();
        }
        self.open_aws().await;
        let Some(aws) = &mut self.aws else {
            return Deployment::default();
        };
        let findings = &mut self.findings;
        let mut inspector = Inspector { aws, findings };
        let found = match (stack, function) {
            (Some(name), _) => inspector.stack(name).await,
            (None, Some(name)) => inspector.function(name).await,
            (None, None) => None,
        };
        found.unwrap_or_default()
    }

    async fn open_aws(&mut self) {
        if self.aws.is_none() {
            let progress = self.progress.clone();
            self.aws = Some(Aws::open(progress, &mut self.findings).await);
        }
    }

    /// The deployed settings, else those of the file, else those of the environment.
    fn settings(&mut self, deployed: Option<Variables>) -> Option<Config> {
        let Options {
            env_file,
            stack,
            function,
            ..
        } = self.options;
        let findings = &mut self.findings;
        let mut config = None;
        if let Some(path) = env_file
            && let Some(variables) = local::env_file(path, findings)
        {
            config = local::settings(&path.to_string_lossy(), &variables, findings);
        }
        if let Some(mut variables) = deployed {
            // Its file is part of the deployment, not of this machine.
            variables.remove("SSL_CERT_FILE");
            return local::settings("the deployed function", &variables, findings);
        }
        if env_file.is_some() || stack.is_some() || function.is_some() {
            return config;
        }
        let Some(variables) = local::environment() else {
            findings.add(Id::SettingsAbsent, "the environment", "has none");
            return None;
        };
        local::settings("the environment", &variables, findings)
    }

    /// The stored secret, else the one in the file.
    async fn secret(&mut self, config: Option<&Config>) -> Option<Secret> {
        let options = self.options;
        let mut secret = None;
        if let Some(path) = &options.secret_file {
            let source = path.to_string_lossy();
            match std::fs::read_to_string(path) {
                Ok(text) => secret = local::secret(&source, &text, config, &mut self.findings),
                Err(error) => {
                    let what = error.to_string();
                    self.findings.add(Id::SecretUnreadable, source, what);
                }
            }
        }
        let is_deployed = options.stack.is_some() || options.function.is_some();
        let is_wanted = is_deployed || (options.online && options.secret_file.is_none());
        let Some(config) = config.filter(|_| is_wanted) else {
            return secret;
        };
        self.open_aws().await;
        let id = &config.secret_id;
        let region = id
            .strip_prefix("arn:")
            .and_then(|arn| arn.split(':').nth(2));
        let (operation, values) = match region {
            Some(region) => (SECRET_VALUE_IN, vec![region, "--secret-id", id]),
            None => (SECRET_VALUE, vec![id.as_str()]),
        };
        let operation: Operation = (operation, Id::SecretUnreadable);
        let aws = self.aws.as_mut()?;
        let answer = aws.run(operation, id, &values, &mut self.findings).await?;
        // A binary secret has no SecretString, and the function refuses it like an empty one.
        let text = answer["SecretString"].as_str().unwrap_or_default();
        local::secret(id, text, Some(config), &mut self.findings)
    }

    async fn clevertap(
        &mut self,
        config: Option<&Config>,
        secret: Option<&Secret>,
    ) -> Result<(), Unusable> {
        let findings = &mut self.findings;
        let (Some(config), Some(secret)) = (config, secret) else {
            findings.add(Id::ClevertapSkipped, "CleverTap", "nothing was sent");
            return Ok(());
        };
        let host = config.upload_url.as_str();
        self.progress.set_message(format!("uploading to {host}"));
        let http = client(Some(config))?;
        endpoint::host_clock(&http, host, findings).await;
        let client = Client::new(http, host.to_owned()).dry();
        let (account, passcode) = (&config.account_id, &secret.clevertap_passcode);
        endpoint::clevertap(&client, host, account, passcode, findings).await;
        let passcode = secret.clevertap_sandbox_passcode.as_ref();
        if let Some((account, passcode)) = config.sandbox_account_id.as_ref().zip(passcode) {
            endpoint::clevertap(&client, host, account, passcode, findings).await;
        }
        Ok(())
    }
}

fn client(config: Option<&Config>) -> Result<reqwest::Client, Unusable> {
    let file = config.and_then(|config| config.root_certificates.as_deref());
    let builder = match file.map(local::roots).transpose() {
        Ok(Some(roots)) => http_client_trusting(roots),
        Ok(None) => http_client(),
        Err(error) => return Err(Unusable(vec![format!("SSL_CERT_FILE: {error}")])),
    };
    let builder = builder.map_err(|error| Unusable(vec![error.to_string()]))?;
    let client = builder.connect_timeout(CONNECT_TIMEOUT).build();
    client.map_err(|error| Unusable(vec![error.to_string()]))
}

fn http_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => Err("an http or https URL".to_owned()),
    }
}
