//! What the settings amount to: every mistake, every warning, and the rest in words.
//! It does not know where the variables come from.

use crate::env_file;
use crate::finding::{Check, Findings};
use purchasely_clevertap::config::{Config, SignaturePolicy, SETTINGS};
use purchasely_clevertap::mapping::SandboxRule;
use purchasely_clevertap::mapping::revenue::RevenueCurrency;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::collections::BTreeMap;
use std::path::Path;

/// Variables that the function's SDK or Lambda reads.
const OTHERS: [&str; 3] = ["AWS_", "RUST_", "_LAMBDA"];

/// Names and values.
pub type Variables = BTreeMap<String, String>;

/// The function's own variables in the environment of this process; `None` if nobody set them for it.
pub fn of_this_process() -> Option<Variables> {
    let names = SETTINGS.iter().map(|setting| setting.name);
    let variables: Variables = names
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect();
    // The one name that other programs have as well.
    let own = variables.keys().any(|name| name != "SSL_CERT_FILE");
    own.then_some(variables)
}

/// The variables of a file for `cargo lambda deploy --env-file`.
pub fn of_file(path: &Path, findings: &mut Findings) -> Option<Variables> {
    let name = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            findings.error(
                Check::EnvFile,
                format!("{name}: {error}"),
                "name the file that `cargo lambda deploy --env-file` gets",
            );
            return None;
        }
    };
    let variables = match env_file::read(&text) {
        Ok(variables) => variables,
        Err(error) => {
            findings.error(
                Check::EnvFile,
                format!("{name}: {error}"),
                "one NAME=value per line; a value that holds spaces, `=`, `#` or quotes stands in quotes",
            );
            return None;
        }
    };
    for variable in &variables.cut {
        findings.warning(
            Check::EnvFile,
            format!("{name}: the value of {variable} ends at a `#`, which begins a comment"),
            "put the value in quotes if the `#` belongs to it, else a space before the `#`",
        );
    }
    if findings.is_clean(Check::EnvFile) {
        findings.ok(Check::EnvFile, format!("{name} can be read"));
    }
    Some(variables.values)
}

/// Reads the variables as the function does.
pub fn check(source: &str, variables: &Variables, findings: &mut Findings) -> Option<Config> {
    for name in variables.keys().filter(|name| !is_known(name)) {
        findings.warning(
            Check::UnknownVariable,
            format!("{name} is nothing that the function reads: a typing error?"),
            "compare it with the README's table of settings, or remove it",
        );
    }
    let config = match Config::from_env(|name| variables.get(name).cloned()) {
        Ok(config) => config,
        Err(mistakes) => {
            for mistake in mistakes {
                findings.error(
                    Check::Setting,
                    mistake.to_string(),
                    format!(
                        "set {} right in {source}; the function does not start like this",
                        mistake.variable
                    ),
                );
            }
            return None;
        }
    };
    for warning in &config.warnings {
        findings.warning(
            Check::Setting,
            warning,
            format!("if that is not meant, correct it in {source}"),
        );
    }
    for lost in config.missing_guarantees() {
        findings.warning(
            Check::Promise,
            lost,
            "SAM makes queues and table (KeepEvents=true); with cargo lambda see step 6 of the README",
        );
    }
    findings.ok(Check::Settings, format!("{source}: {}", in_words(&config)));
    Some(config)
}

/// The root certificates that replace the compiled-in ones.
pub fn roots(config: &Config, findings: &mut Findings) -> Option<RootCertStore> {
    let file = config.root_certificates.as_deref()?;
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string());
    let added = read.and_then(|certificates| {
        for certificate in certificates {
            let certificate = certificate.map_err(|error| error.to_string())?;
            roots.add(certificate).map_err(|error| error.to_string())?;
        }
        Ok(roots.len())
    });
    let told = match added {
        Ok(0) => "it is empty".to_owned(),
        Ok(count) => {
            let what = format!(
                "{}: {count} in place of the compiled-in ones",
                file.display()
            );
            findings.ok(Check::RootCertificates, what);
            return Some(roots);
        }
        Err(error) => error,
    };
    findings.error(
        Check::RootCertificates,
        format!(
            "SSL_CERT_FILE: {} holds no usable certificates: {told}",
            file.display()
        ),
        "name a readable PEM file, or leave SSL_CERT_FILE out for the compiled-in ones",
    );
    None
}

fn is_known(name: &str) -> bool {
    let documented = SETTINGS.iter().any(|setting| setting.name == name);
    documented || OTHERS.iter().any(|prefix| name.starts_with(prefix))
}

fn in_words(config: &Config) -> String {
    let account = String::from_utf8_lossy(config.account_id.as_bytes());
    let sandbox = match (config.rules.sandbox, &config.sandbox_account_id) {
        (SandboxRule::OwnAccount, Some(id)) => {
            let id = String::from_utf8_lossy(id.as_bytes());
            format!("testers' purchases go to the account {id}")
        }
        (SandboxRule::Drop | SandboxRule::OwnAccount, _) => {
            "testers' purchases are dropped".to_owned()
        }
        (SandboxRule::EventsOnly, _) => {
            "of testers' purchases only the events are raised, in the same account".to_owned()
        }
        (SandboxRule::Whole, _) => "it is a test account and takes testers' purchases".to_owned(),
    };
    let revenue = match (&config.rules.revenue.event, config.rules.revenue.currency) {
        (None, _) => "no revenue event".to_owned(),
        (Some(name), RevenueCurrency::Integration) => {
            format!("revenue as {name}, in the app's one currency")
        }
        (Some(name), RevenueCurrency::Customer) => {
            format!("revenue as {name}, in the buyer's currency")
        }
    };
    let signature = match config.signature {
        SignaturePolicy::Required { tolerance: None } => {
            "signatures required, of any age".to_owned()
        }
        SignaturePolicy::Required {
            tolerance: Some(age),
        } => format!("signatures required, at most {} s old", age.as_secs()),
        SignaturePolicy::Off => "no signature is checked".to_owned(),
    };
    format!(
        "uploads to {} ({}), account {account}; {sandbox}; {revenue}; {signature}",
        config.upload_url, config.region
    )
}
