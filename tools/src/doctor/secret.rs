//! The secret's shape. No value of it goes further than into the upload's header, and none is told.
//! It does not know whether the values are right.

use crate::finding::{Check, Findings};
use purchasely_clevertap::aws::secret::Secret;
use purchasely_clevertap::config::{Config, SignaturePolicy};
use serde_json::{Map, Value};
use std::path::Path;

const KEYS: [&str; 4] = [
    "clevertap_passcode",
    "purchasely_shared_secret",
    "purchasely_shared_secret_previous",
    "clevertap_sandbox_passcode",
];

/// Checks a file before it is stored.
pub fn check_file(path: &Path, config: Option<&Config>, findings: &mut Findings) -> Option<Secret> {
    let source = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => check(&source, &text, config, findings),
        Err(error) => {
            // An error of reading says nothing of what was read.
            findings.error(
                Check::Secret,
                format!("{source}: {error}"),
                "name the JSON file with the values, as the README's section Deploy shows it",
            );
            None
        }
    }
}

/// Checks the text of a secret as the function reads it.
pub fn check(
    source: &str,
    text: &str,
    config: Option<&Config>,
    findings: &mut Findings,
) -> Option<Secret> {
    let signed = config.is_none_or(|config| config.signature != SignaturePolicy::Off);
    let secret = match Secret::parse(text, signed) {
        Ok(secret) => secret,
        Err(misshapen) => {
            findings.error(
                Check::Secret,
                format!("{source}: {misshapen}"),
                "correct the file and put it with `aws secretsmanager put-secret-value --secret-id <id> --secret-string file://secret.json` (the stack's output PutSecretCommand); until then the function answers 503",
            );
            return None;
        }
    };
    let fields: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let unknown = fields.keys().filter(|key| !KEYS.contains(&key.as_str()));
    let unknown = unknown.count();
    if unknown > 0 {
        // Not by name: whoever mixes up key and value has the value there.
        findings.warning(
            Check::Secret,
            format!("{source}: {unknown} of its keys are not read"),
            format!("a typing error? The keys are {}", KEYS.join(", ")),
        );
    }
    let held = KEYS.iter().filter(|key| {
        let value = fields.get(**key).and_then(Value::as_str);
        value.is_some_and(|value| !value.is_empty())
    });
    let held: Vec<_> = held.copied().collect();
    findings.ok(Check::Secret, format!("{source} holds {}", held.join(", ")));
    sandbox_passcode(source, &secret, config, findings);
    Some(secret)
}

fn sandbox_passcode(
    source: &str,
    secret: &Secret,
    config: Option<&Config>,
    findings: &mut Findings,
) {
    let wanted = config.is_some_and(|config| config.sandbox_account_id.is_some());
    match (wanted, &secret.clevertap_sandbox_passcode) {
        (true, None) => findings.error(
            Check::SandboxPasscode,
            format!("{source} has no clevertap_sandbox_passcode, and CLEVERTAP_SANDBOX_ACCOUNT_ID is set: testers' purchases are answered 503"),
            "add the sandbox account's passcode under that key and put the whole JSON again",
        ),
        (true, Some(_)) => findings.ok(Check::SandboxPasscode, format!("{source} holds it")),
        (false, _) => {}
    }
}
