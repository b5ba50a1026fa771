//! Checks a deployment, or this machine and the settings before one, and says how to fix what it
//! finds. It changes nothing, and it does not know how a finding came about.

mod aws;
mod deployed;
mod endpoint;
mod finding;
mod local;
mod profile;

pub use finding::{CHECKS, Check, Level};

use crate::{Unusable, print, secret};
use aws::{Aws, Operation};
use deployed::{Deployment, Inspector};
use finding::{Findings, Id};
use indicatif::{ProgressBar, ProgressDrawTarget};
use local::Variables;
use profile::{Row, Webhook};
use purchasely_clevertap::aws::secret::Secret;
use purchasely_clevertap::config::{Config, SignaturePolicy};
use purchasely_clevertap::http;
use purchasely_clevertap::mapping::Account;
use reqwest::Url;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use testkit::webhook::http_client_trusting;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
#[rustfmt::skip]
const SECRET: Operation = (secret::READ, Id::SecretUnreadable);

/// Check a deployment, or this machine and the settings before one.
///
/// Without arguments it checks the tools and the settings in the environment, without network. With
/// `--stack` or `--function` it uses the AWS CLI and your profile (`AWS_PROFILE`, `AWS_REGION`);
/// settings, secret and address are then the deployed ones. With `--online` it reads the profile of an
/// unknown user from CleverTap. It changes nothing, and it shows no value of the secret. Exit code 1: at
/// least one error, or with `--strict` a warning.
///
/// With `--webhook` it prints a real user's data, because you ask for it: the profile that CleverTap has
/// beside what the function would send for the webhook. An id in `--user` stays in your shell's history;
/// the webhook's own does not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo relay doctor
  cargo relay doctor --env-file relay.env --secret-file secret.json --online
  cargo relay doctor --stack purchasely-clevertap --online
  cargo relay doctor --function purchasely-clevertap --json
  cargo relay doctor --stack purchasely-clevertap --webhook saved.json
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
    /// Compare the profile of the user of this raw webhook body with what CleverTap has; it includes --online.
    #[arg(long, value_name = "FILE")]
    webhook: Option<PathBuf>,
    /// Compare with the profile of this user id instead of the webhook's.
    #[arg(long, value_name = "ID", requires = "webhook")]
    user: Option<String>,
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
    aws: Aws,
    findings: Findings,
    /// The profile of the webhook's user, property by property.
    profile: Vec<Row>,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    // Hidden unless standard error is a terminal.
    let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    progress.enable_steady_tick(Duration::from_millis(100));
    let mut run = Run {
        options: &options,
        aws: Aws { progress: progress.clone(), is_unusable: false },
        findings: Findings::default(),
        profile: Vec::new(),
    };
    let checked = run.check().await;
    progress.finish_and_clear();
    checked?;
    let Run { findings, profile, .. } = run;
    print(&if options.json {
        let mut json = findings.json();
        if options.webhook.is_some() {
            json["profile"] = serde_json::json!(profile);
        }
        format!("{json}\n")
    } else {
        format!("{}{}", profile::text(&profile), findings.text())
    });
    Ok(match findings.worst() {
        Level::Error => ExitCode::FAILURE,
        Level::Warning if options.strict => ExitCode::FAILURE,
        Level::Ok | Level::Warning => ExitCode::SUCCESS,
    })
}

impl Run<'_> {
    async fn check(&mut self) -> Result<(), String> {
        local::tools(&mut self.findings).await;
        let deployment = self.deployment().await;
        let config = self.settings(deployment.variables);
        let secret = self.secret(config.as_ref()).await;
        if self.is_online() {
            self.clevertap(config.as_ref(), secret.as_ref()).await?;
        }
        let found = deployment.webhook_url;
        let found = found.and_then(|url| Url::parse(&url).ok());
        let own = self.options.url.as_ref().or(found.as_ref());
        let forward_url = config.as_ref().and_then(|config| config.forward_url.as_ref());
        if let Some(backend) = forward_url.and_then(|url| Url::parse(url).ok()) {
            if own.is_some_and(|own| own.origin() == backend.origin()) {
                let host = backend.host_str().unwrap_or_default();
                self.findings.add(Id::BackendOwn, host, "is this API's own");
            } else if self.is_online() {
                endpoint::backend(&client(config.as_ref())?, backend, &mut self.findings).await;
            }
        }
        if let Some(url) = self.options.url.as_ref().or(found.as_ref()) {
            let config = config.as_ref();
            if config.is_some_and(|config| config.signature == SignaturePolicy::Off) {
                let what = "was not called";
                self.findings.add(Id::WebhookSkipped, url.as_str(), what);
            } else {
                let http = client(None)?;
                endpoint::webhook(&http, url, &mut self.findings).await;
            }
        }
        Ok(())
    }

    fn is_deployed(&self) -> bool {
        self.options.stack.is_some() || self.options.function.is_some()
    }

    fn is_online(&self) -> bool {
        self.options.online || self.options.webhook.is_some()
    }

    async fn deployment(&mut self) -> Deployment {
        let mut inspector = Inspector { aws: &mut self.aws, findings: &mut self.findings };
        let found = if let Some(name) = &self.options.stack {
            inspector.caller().await;
            inspector.stack(name).await
        } else if let Some(name) = &self.options.function {
            inspector.caller().await;
            inspector.function(name).await
        } else {
            None
        };
        found.unwrap_or_default()
    }

    /// The deployed settings, else those of the file, else those of the environment.
    fn settings(&mut self, deployed: Option<Variables>) -> Option<Config> {
        let is_deployed = self.is_deployed();
        let findings = &mut self.findings;
        let mut config = None;
        if let Some(path) = &self.options.env_file {
            let variables = local::env_file(path, findings)?;
            config = local::settings(&path.to_string_lossy(), &variables, findings);
        } else if !is_deployed {
            let Some(variables) = local::environment() else {
                findings.add(Id::SettingsAbsent, "the environment", "has none");
                return None;
            };
            config = local::settings("the environment", &variables, findings);
        }
        if let Some(mut variables) = deployed {
            // Its file is part of the deployment, not of this machine.
            variables.remove("SSL_CERT_FILE");
            config = local::settings("the deployed function", &variables, findings);
        }
        config
    }

    /// The stored secret, else the one in the file.
    async fn secret(&mut self, config: Option<&Config>) -> Option<Secret> {
        let mut secret = None;
        if let Some(path) = &self.options.secret_file {
            let source = path.to_string_lossy();
            let text = std::fs::read_to_string(path).map_err(|error| {
                let what = error.to_string();
                self.findings.add(Id::SecretUnreadable, &*source, what);
            });
            secret = local::secret(&source, &text.ok()?, config, &mut self.findings);
        }
        let is_stored = self.is_deployed() || self.is_online() && secret.is_none();
        let Some(config) = config.filter(|_| is_stored) else {
            return secret;
        };
        let (id, findings) = (&config.secret_id, &mut self.findings);
        let answer = self.aws.run(SECRET, id, id, findings).await?;
        // A binary secret has no SecretString; the function refuses it like an empty one.
        let text = answer["SecretString"].as_str().unwrap_or_default();
        local::secret(id, text, Some(config), findings)
    }

    async fn clevertap(
        &mut self,
        config: Option<&Config>,
        secret: Option<&Secret>,
    ) -> Result<(), String> {
        let findings = &mut self.findings;
        let (Some(config), Some(secret)) = (config, secret) else {
            findings.add(Id::ClevertapSkipped, "CleverTap", "was not called");
            return Ok(());
        };
        let webhook = match &self.options.webhook {
            Some(file) => Some(Webhook::read(file, self.options.user.clone(), &config.rules)?),
            None => None,
        };
        let http = client(Some(config))?;
        let host = config.upload_url.as_str();
        endpoint::host_clock(&http, host, findings).await;
        let main = (Account::Main, (&config.account_id, &secret.clevertap_passcode));
        let sandbox = config.sandbox_account_id.as_ref();
        let sandbox = sandbox.zip(secret.clevertap_sandbox_passcode.as_ref());
        let sandbox = sandbox.map(|credentials| (Account::Sandbox, credentials));
        for (account, credentials) in std::iter::once(main).chain(sandbox) {
            let webhook = webhook.as_ref().filter(|webhook| webhook.account == account);
            let user = webhook.map_or(("identity", endpoint::TEST_USER), Webhook::user);
            let profile = endpoint::clevertap(&http, host, credentials, user, findings).await;
            if let Some((webhook, profile)) = webhook.zip(profile) {
                self.profile = webhook.compare(&profile, findings);
            }
        }
        Ok(())
    }
}

/// More patient than the function's own client, and with the proxy and the certificates of this machine's user.
fn client(config: Option<&Config>) -> Result<reqwest::Client, String> {
    let file = std::env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty());
    let roots = match (file, config) {
        (None, Some(config)) => config.roots.clone(),
        (file, _) => http::roots(file.as_deref().map(Path::new))
            .map_err(|error| format!("SSL_CERT_FILE: {error}"))?,
    };
    let builder = http_client_trusting(roots).map_err(|error| error.to_string())?;
    let client = builder.connect_timeout(CONNECT_TIMEOUT).build();
    client.map_err(|error| error.to_string())
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    url.ok_or_else(|| "an http or https URL".to_owned())
}
