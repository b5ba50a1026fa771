//! What can be checked without network: tools, settings, the secret's shape.
//! It does not know whether the values are the right ones.

use super::finding::{Findings, Id};
use crate::aws;
use purchasely_clevertap::aws::secret::{self, Secret};
use purchasely_clevertap::config::{Config, SETTINGS, SignaturePolicy};
use purchasely_clevertap::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// `sam` takes two seconds on a slow machine.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);
/// Prefixes of variables that Lambda, its runtime or the AWS SDK read.
const FOREIGN_PREFIXES: [&str; 3] = ["AWS_", "RUST_", "_LAMBDA"];

pub type Variables = BTreeMap<String, String>;
type Version = [u32; 3];

/// Asks each tool for its version. Rust is recent enough, or this would not run.
pub async fn tools(findings: &mut Findings) {
    let cargo_lambda = std::env::var("CARGO_LAMBDA").ok();
    let cargo_lambda = cargo_lambda.filter(|path| !path.is_empty());
    let tools: [(&str, String, &[&str], Version); 3] = [
        // Older ones give a Function URL only one of the two permissions it needs.
        (
            "cargo-lambda",
            cargo_lambda.unwrap_or_else(|| "cargo-lambda".to_owned()),
            &["lambda", "--version"],
            [1, 9, 2],
        ),
        // Older ones build Rust only as a beta feature.
        ("sam", "sam".to_owned(), &["--version"], [1, 156, 0]),
        ("aws", aws::program(), &["--version"], [1, 0, 0]),
    ];
    for (name, program, arguments, minimum) in tools {
        let run = Command::new(program)
            .args(arguments)
            .env("SAM_CLI_TELEMETRY", "0")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let Ok(Ok(output)) = tokio::time::timeout(VERSION_TIMEOUT, run).await else {
            findings.add(Id::ToolMissing, name, "is not found");
            continue;
        };
        // Python 2 programs, and thus old AWS CLIs, print their version to standard error.
        let printed = [output.stdout, output.stderr].concat();
        match version(&String::from_utf8_lossy(&printed)) {
            None => findings.add(Id::ToolMissing, name, "prints no version"),
            Some(found) if found < minimum => {
                let what = format!("{} is older than {}", dotted(found), dotted(minimum));
                findings.add(Id::ToolOutdated, name, what);
            }
            Some(found) => findings.add(Id::Tool, name, dotted(found)),
        }
    }
}

/// The function's variables in this process's environment; `None` if none is set.
pub fn environment() -> Option<Variables> {
    let set = SETTINGS
        .iter()
        .filter_map(|(name, _)| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let variables: Variables = set.collect();
    // Other programs read SSL_CERT_FILE too.
    let has_own = variables.keys().any(|name| name != "SSL_CERT_FILE");
    has_own.then_some(variables)
}

/// Reads a file for `cargo lambda deploy --env-file`. What that might read in another way is an error.
pub fn env_file(path: &Path, findings: &mut Findings) -> Option<Variables> {
    let add = |what: String| findings.add(Id::EnvFileInvalid, path.to_string_lossy(), what);
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let variables = text.and_then(|text| {
        let lines = (1..).zip(text.lines());
        let lines =
            lines.filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with('#'));
        let read = |(number, line)| {
            assignment(line).ok_or_else(|| format!("line {number} is not NAME=value"))
        };
        lines.map(read).collect()
    });
    variables.map_err(add).ok()
}

/// A value is one word, perhaps with a comment behind it, or one quoted text. White space alone is none:
/// cargo lambda would take the next line for the value.
fn assignment(line: &str) -> Option<(String, String)> {
    let is_word = |text: &str| !text.contains(|c: char| c.is_whitespace() || "=#'`\"".contains(c));
    let line = line.trim_start();
    let (name, text) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let (name, value) = (name.trim(), text.trim());
    let quote = value.chars().next().filter(|c| "'`\"".contains(*c));
    let (value, is_valid) = if let Some(quote) = quote {
        let quoted = value.strip_prefix(quote)?.strip_suffix(quote)?;
        (quoted, !quoted.contains(quote))
    } else {
        let word = value.split(" #").next()?.trim();
        (word, is_word(word) && (text.is_empty() || !value.is_empty()))
    };
    let is_named = !name.is_empty() && is_word(name);
    (is_valid && is_named).then(|| (name.to_owned(), value.replace("\\n", "\n")))
}

/// Reads the variables as the function does.
pub fn settings(source: &str, variables: &Variables, findings: &mut Findings) -> Option<Config> {
    for name in variables.keys() {
        let is_own = SETTINGS.iter().any(|(known, _)| known == name);
        if !is_own && !FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            findings.add(Id::SettingUnknown, name, format!("set in {source}"));
        }
    }
    let config = match Config::from_env(|name| variables.get(name).cloned()) {
        Ok(config) => config,
        Err(errors) => {
            for error in errors {
                findings.add(Id::SettingInvalid, error.variable, error.problem);
            }
            return None;
        }
    };
    for warning in &config.warnings {
        findings.add(Id::SettingDoubtful, source, warning);
    }
    for missing in config.missing_guarantees() {
        findings.add(Id::GuaranteeMissing, source, missing);
    }
    let account = String::from_utf8_lossy(config.account_id.as_bytes());
    let sandbox = config.sandbox_account_id.as_ref();
    let sandbox = sandbox.map(|id| String::from_utf8_lossy(id.as_bytes()));
    let revenue = config.rules.revenue.event.as_ref();
    let what = format!(
        "uploads to {} ({}); account {account}; sandbox account {}; revenue event {}; signatures {}",
        config.upload_url,
        config.region,
        sandbox.as_deref().unwrap_or("none"),
        revenue.map_or_else(|| "none".to_owned(), ToString::to_string),
        if config.signature == SignaturePolicy::Off {
            "off"
        } else {
            "required"
        },
    );
    findings.add(Id::Settings, source, what);
    Some(config)
}

/// Checks a secret's text as the function does. No value of it is part of a finding.
pub fn secret(
    source: &str,
    text: &str,
    config: Option<&Config>,
    findings: &mut Findings,
) -> Option<Secret> {
    let is_signed = config.is_none_or(|config| config.signature != SignaturePolicy::Off);
    let secret = match Secret::parse(text, is_signed) {
        Ok(secret) => secret,
        Err(invalid) => {
            findings.add(Id::SecretInvalid, source, invalid.to_string());
            return None;
        }
    };
    for why in &secret.unusable {
        findings.add(Id::SecretKeyUnusable, source, why.to_string());
    }
    let document = json::read(text.as_bytes()).unwrap_or(json::Value::Null);
    let (known, unknown): (Vec<_>, Vec<_>) = document
        .as_object()
        .into_iter()
        .flat_map(json::Object::iter)
        .filter(|(_, value)| value.as_text() != Some(""))
        .map(|(key, _)| key)
        .partition(|key| secret::KEYS.contains(key));
    if !unknown.is_empty() {
        // Not by name: if key and value were swapped, the name is the secret.
        let what = format!("{} of its keys are not read", unknown.len());
        findings.add(Id::SecretKeyUnknown, source, what);
    }
    findings.add(Id::Secret, source, format!("has {}", known.join(", ")));
    let has_sandbox = config.is_some_and(|config| config.sandbox_account_id.is_some());
    if has_sandbox && secret.clevertap_sandbox_passcode.is_none() {
        findings.add(Id::SandboxPasscodeMissing, source, "is incomplete");
    }
    Some(secret)
}

/// The first thing in a text that looks like `1.2.3` or `1.2`.
fn version(text: &str) -> Option<Version> {
    let mut words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    words.find_map(|word| {
        let mut parts = word.split('.').map(|part| part.parse().ok());
        let (major, minor) = (parts.next()??, parts.next()??);
        Some([major, minor, parts.next().flatten().unwrap_or(0)])
    })
}

fn dotted([major, minor, patch]: Version) -> String {
    format!("{major}.{minor}.{patch}")
}
