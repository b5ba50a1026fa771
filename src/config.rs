//! The function's settings: environment variables, read once and checked.
//!
//! It reads them through a closure and returns all errors together; it does not know what the settings
//! are used for.

mod reader;
mod rules;

use crate::clevertap::Region;
use crate::mapping::Rules;
use http::{HeaderValue, Uri};
use reader::Reader;
use rustls::RootCertStore;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Every variable that the function reads, and the value that an absent or empty one stands for, or `must be set`, or
/// in words what happens without it. `docs/settings.md` says what each decides.
pub const SETTINGS: &[(&str, &str)] = &[
    ("CLEVERTAP_REGION", "must be set"),
    ("CLEVERTAP_ACCOUNT_ID", "must be set"),
    ("SECRET_ID", "must be set"),
    ("PURCHASELY_SIGNATURE", "required"),
    ("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "2160000"),
    ("EVENTS_ENABLED", "all"),
    ("EVENTS_DISABLED", "none"),
    ("EVENT_NAMES", "not set"),
    ("USER_PROPERTIES", "the default set"),
    ("USER_PROPERTY_NAMES", "not set"),
    ("REVENUE_EVENT", "none"),
    ("REFUND_EVENT", "none"),
    ("REVENUE_CURRENCY", "integration"),
    ("USER_ID_AS", "identity"),
    ("ANONYMOUS_USER_ID_AS", "ignore"),
    ("CLEVERTAP_ID_FIELD", "clevertap_id"),
    ("PROPERTIES_OMITTED", "none"),
    ("UNKNOWN_FIELDS", "send"),
    ("SANDBOX_EVENTS", "drop"),
    ("CLEVERTAP_SANDBOX_ACCOUNT_ID", "not set"),
    ("FORWARD_URL", "not set"),
    ("DELIVERY", "direct"),
    ("EVENT_QUEUE_URL", "not set"),
    ("DEAD_LETTER_QUEUE_URL", "not set"),
    ("DEDUPLICATION_TABLE", "not set"),
    ("CLEVERTAP_DRY_RUN", "false"),
    ("CLEVERTAP_API_URL", "from the region"),
    ("SSL_CERT_FILE", "compiled-in roots"),
];

/// The value that an absent or empty variable stands for.
#[must_use]
pub fn default_of(variable: &str) -> &'static str {
    let mut settings = SETTINGS.iter();
    settings.find(|(name, _)| *name == variable).map_or("", |(_, default)| default)
}

/// The settings of a function that can start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where uploads go: scheme and authority, without a path.
    pub upload_url: String,
    /// The configured region; `upload_url` may be another host's.
    pub region: Region,
    pub account_id: HeaderValue,
    /// The account, in the same region, for testers' purchases.
    pub sandbox_account_id: Option<HeaderValue>,
    /// Whether CleverTap only checks uploads and stores nothing.
    pub dry_run: bool,
    /// The operator's own backend, which gets each verified webhook first.
    pub forward_url: Option<String>,
    pub delivery: DeliveryMode,
    /// The FIFO queue whose messages the function relays. With [`DeliveryMode::Queue`] there is one.
    pub event_queue_url: Option<String>,
    /// The FIFO queue for events that can never be relayed.
    pub dead_letter_queue_url: Option<String>,
    /// The DynamoDB table of the events that CleverTap has accepted.
    pub deduplication_table: Option<String>,
    /// Name or ARN.
    pub secret_id: String,
    pub signature: SignaturePolicy,
    pub rules: Rules,
    /// The compiled-in root certificates, or those of the configured file.
    pub roots: RootCertStore,
    /// Valid settings that are probably mistakes, or risky.
    pub warnings: Vec<String>,
}

/// Whether and how signatures are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignaturePolicy {
    Required {
        /// The maximum difference between the time of signing and now; `None` is no limit.
        tolerance: Option<Duration>,
    },
    /// Not at all, for a sender that cannot sign.
    Off,
}

/// What happens to a webhook before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryMode {
    /// It is relayed.
    Direct,
    /// It is put into the event queue.
    Queue,
}

/// A variable that prevents the function from starting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct ConfigError {
    pub variable: &'static str,
    /// What is wrong and what to set instead.
    pub problem: String,
}

impl Config {
    /// Reads the settings through `lookup`, which returns a variable's value. An empty variable is an
    /// absent one.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<ConfigError>> {
        let mut reader = Reader::new(&lookup);
        let region = reader.region("CLEVERTAP_REGION");
        let account_id = reader.required(
            "CLEVERTAP_ACCOUNT_ID",
            "the account id (project id) from CleverTap's Settings, Project",
        );
        let account_id = account_id.and_then(|id| reader.account_id("CLEVERTAP_ACCOUNT_ID", &id));
        let secret_id =
            reader.required("SECRET_ID", "the name or ARN of the secret in Secrets Manager");
        let signature = reader.signature();
        let sandbox_account_id = reader
            .value("CLEVERTAP_SANDBOX_ACCOUNT_ID")
            .and_then(|id| reader.account_id("CLEVERTAP_SANDBOX_ACCOUNT_ID", &id));
        let rules = rules::read(&mut reader, account_id.as_ref(), sandbox_account_id.as_ref());
        let dry_run = reader.choice("CLEVERTAP_DRY_RUN", &[("false", false), ("true", true)]);
        if dry_run {
            reader.warnings.push(
                "CLEVERTAP_DRY_RUN is true: CleverTap stores nothing, and Purchasely does not send these events again"
                    .to_owned(),
            );
        }
        let forward_url = reader.forward_url("FORWARD_URL");
        if forward_url.is_some() && signature == SignaturePolicy::Off {
            let problem = "is set and PURCHASELY_SIGNATURE is off, so anyone could write to the backend; remove it, or set PURCHASELY_SIGNATURE to required";
            reader.error("FORWARD_URL", problem);
        }
        let modes = [("direct", DeliveryMode::Direct), ("queue", DeliveryMode::Queue)];
        let delivery = reader.choice("DELIVERY", &modes);
        if delivery == DeliveryMode::Queue {
            reader.required("EVENT_QUEUE_URL", "the queue's URL, or set DELIVERY to direct");
            if dry_run {
                let problem =
                    "is `true` and DELIVERY is `queue`; set it to false, or DELIVERY to direct";
                reader.error("CLEVERTAP_DRY_RUN", problem);
            }
        }
        let event_queue_url = reader.queue_url("EVENT_QUEUE_URL");
        let dead_letter_queue_url = reader.queue_url("DEAD_LETTER_QUEUE_URL");
        if event_queue_url.is_some() && event_queue_url == dead_letter_queue_url {
            reader.error(
                "DEAD_LETTER_QUEUE_URL",
                "is the event queue, which would deliver each dead letter again at once; set it to another queue",
            );
        }
        let deduplication_table = reader.value("DEDUPLICATION_TABLE");
        let upload_url = reader.origin("CLEVERTAP_API_URL");
        let roots = reader.roots("SSL_CERT_FILE");
        let (Some(region), Some(account_id), Some(secret_id), Some(roots), []) =
            (region, account_id, secret_id, roots, &reader.errors[..])
        else {
            return Err(reader.errors);
        };
        Ok(Self {
            upload_url: upload_url.unwrap_or_else(|| format!("https://{}", region.host)),
            region,
            account_id,
            sandbox_account_id,
            dry_run,
            forward_url,
            delivery,
            event_queue_url,
            dead_letter_queue_url,
            deduplication_table,
            secret_id,
            signature,
            rules,
            roots,
            warnings: reader.warnings,
        })
    }

    /// The backend's host, which is all of its address that may be logged.
    #[must_use]
    pub fn forward_host(&self) -> Option<String> {
        let url: Uri = self.forward_url.as_ref()?.parse().ok()?;
        url.host().map(str::to_owned)
    }

    /// What the function cannot guarantee because a queue or the table is not configured.
    #[must_use]
    pub fn missing_guarantees(&self) -> Vec<String> {
        let guarantees = [
            (
                self.deduplication_table.is_none(),
                "DEDUPLICATION_TABLE is not set: an event that Purchasely sends again is raised again",
            ),
            (
                self.dead_letter_queue_url.is_none(),
                match self.delivery {
                    DeliveryMode::Direct => {
                        "DEAD_LETTER_QUEUE_URL is not set: an event that can never be relayed blocks that user's later events for 20 days"
                    }
                    DeliveryMode::Queue => {
                        "DEAD_LETTER_QUEUE_URL is not set: an event that CleverTap refuses blocks that user's later events for 14 days and is then lost"
                    }
                },
            ),
            (
                self.event_queue_url.is_none(),
                "EVENT_QUEUE_URL is not set: dead letters cannot be redriven, and failed messages come back without a delay",
            ),
        ];
        let missing = guarantees.iter().filter(|(is_missing, _)| *is_missing);
        missing.map(|(_, text)| (*text).to_owned()).collect()
    }
}

/// The log level in Lambda's setting; `INFO` if it is absent or unknown.
#[must_use]
pub fn log_level(lookup: impl Fn(&str) -> Option<String>) -> LevelFilter {
    let level = lookup("AWS_LAMBDA_LOG_LEVEL").unwrap_or_default();
    match level.to_ascii_uppercase().as_str() {
        "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "WARN" => LevelFilter::WARN,
        "ERROR" | "FATAL" => LevelFilter::ERROR,
        _ => LevelFilter::INFO,
    }
}

/// The lookup of the process's own environment.
#[must_use]
#[allow(clippy::disallowed_methods)]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests;
