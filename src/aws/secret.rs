//! The one secret: its shape, and a cache of it that never makes an event wait longer than it must.
//!
//! It does not know what the values are used for. Source:
//! <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>.

use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as Flight;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A value is read again once it is this old, give or take a fifth so that environments started
/// together do not ask together.
const FRESH: Duration = Duration::from_mins(5);
/// An old value is still used for this long after that, while Secrets Manager does not answer.
const STALE: Duration = Duration::from_hours(1);
/// Between two refreshes that an answer forced, and after a refresh in the background that failed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// How long the read begun at start-up is given before a second one races it. It usually answers in
/// a few milliseconds; if the environment was frozen meanwhile, it never will.
const HEDGE: Duration = Duration::from_millis(250);

/// What the secret holds.
#[derive(Debug, Clone)]
pub struct Secret {
    /// Authenticates uploads to CleverTap.
    pub clevertap_passcode: SecretString,
    /// The same for the account that testers' purchases go to, where there is one.
    pub clevertap_sandbox_passcode: Option<SecretString>,
    /// Purchasely's client shared secret: the current one, then the previous one if it is still accepted.
    shared_secrets: Vec<SecretString>,
}

/// Why a secret's value cannot be used. Names the key, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misshapen {
    /// Not a JSON object.
    #[error(
        "the secret is not a JSON object: store {{\"clevertap_passcode\": \"…\", \"purchasely_shared_secret\": \"…\"}}"
    )]
    NotAnObject,
    /// Stored as bytes.
    #[error("the secret is binary: store it as text (SecretString)")]
    Binary,
    /// A key is absent or not text.
    #[error("the secret has no text under the key `{0}`")]
    Missing(&'static str),
    /// A key's value is empty.
    #[error("the secret's key `{0}` is empty")]
    Empty(&'static str),
    /// A key's value holds white space, often a line break at its end.
    #[error("the secret's key `{0}` holds white space or a line break: store the bare value")]
    WhiteSpace(&'static str),
    /// A key's value cannot go into a header.
    #[error("the secret's key `{0}` holds a character that is not printable ASCII")]
    NotAscii(&'static str),
}

/// Why no secret could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// It was read and cannot be used.
    #[error("{0}")]
    Misshapen(#[from] Misshapen),
    /// AWS refused, by its own error code.
    #[error(
        "Secrets Manager refused to give the secret ({0}): check SECRET_ID, the function's region and its permission secretsmanager:GetSecretValue"
    )]
    Refused(String),
    /// AWS did not answer, or there was no way to ask.
    #[error(
        "Secrets Manager could not be asked ({0}): check AWS_REGION, the credentials and the function's network"
    )]
    Unreachable(String),
}

impl Secret {
    /// Reads the secret's text. Without `signed`, Purchasely's secret may be absent.
    pub fn parse(text: &str, signed: bool) -> Result<Self, Misshapen> {
        let fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|_| Misshapen::NotAnObject)?;
        let optional = |key: &'static str| match fields.get(key) {
            None => Ok(None),
            // Emptied by hand once the old secret is no longer accepted.
            Some(Value::String(value)) if value.is_empty() => Ok(None),
            Some(_) => required(&fields, key).map(Some),
        };
        let current = if signed {
            Some(required(&fields, "purchasely_shared_secret")?)
        } else {
            None
        };
        let previous = optional("purchasely_shared_secret_previous")?;
        Ok(Self {
            clevertap_passcode: required(&fields, "clevertap_passcode")?,
            clevertap_sandbox_passcode: optional("clevertap_sandbox_passcode")?,
            shared_secrets: current.into_iter().chain(previous).collect(),
        })
    }

    /// The client shared secrets that a signature may be made with.
    pub fn shared_secrets(&self) -> impl Iterator<Item = &str> {
        self.shared_secrets.iter().map(ExposeSecret::expose_secret)
    }

    fn is(&self, other: &Self) -> bool {
        let sandbox = |secret: &Self| {
            let passcode = secret.clevertap_sandbox_passcode.clone();
            passcode.map(|passcode| passcode.expose_secret().to_owned())
        };
        self.clevertap_passcode.expose_secret() == other.clevertap_passcode.expose_secret()
            && sandbox(self) == sandbox(other)
            && self.shared_secrets().eq(other.shared_secrets())
    }
}

fn required(fields: &Map<String, Value>, key: &'static str) -> Result<SecretString, Misshapen> {
    let value = fields.get(key).and_then(Value::as_str);
    let value = value.ok_or(Misshapen::Missing(key))?;
    if value.is_empty() {
        Err(Misshapen::Empty(key))
    } else if value.contains(char::is_whitespace) {
        Err(Misshapen::WhiteSpace(key))
    } else if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(Misshapen::NotAscii(key))
    } else {
        Ok(SecretString::from(value))
    }
}

/// Reads the secret and keeps it. One read is under way at a time, however many events wait.
#[derive(Debug)]
pub struct Secrets {
    client: aws_sdk_secretsmanager::Client,
    secret_id: String,
    signed: bool,
    cache: Mutex<Cache>,
    flight: Flight<()>,
}

#[derive(Debug, Default)]
struct Cache {
    held: Option<Held>,
    prefetch: Option<JoinHandle<Result<Secret, Unavailable>>>,
    /// When a refresh was last forced, or one in the background begun.
    forced_at: Option<Instant>,
    revalidated_at: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    secret: Arc<Secret>,
    read_at: Instant,
    fresh_for: Duration,
}

impl Secrets {
    /// `signed`: whether Purchasely's secret must be there.
    #[must_use]
    pub fn new(client: aws_sdk_secretsmanager::Client, secret_id: String, signed: bool) -> Self {
        Self {
            client,
            secret_id,
            signed,
            cache: Mutex::default(),
            flight: Flight::default(),
        }
    }

    /// Begins the first read without waiting for it. Its failure is no failure of the start-up.
    pub fn prefetch(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let reading = tokio::spawn(async move { this.fetch().await });
        self.cache().prefetch = Some(reading);
    }

    /// The secret: at once if it was read before, even if it is due to be read again.
    pub async fn get(self: &Arc<Self>) -> Result<Arc<Secret>, Unavailable> {
        if let Some(secret) = self.cached() {
            return Ok(secret);
        }
        let _flight = self.flight.lock().await;
        if let Some(secret) = self.cached() {
            return Ok(secret);
        }
        let prefetch = self.cache().prefetch.take();
        let read = match prefetch {
            None => self.fetch().await,
            Some(prefetch) => tokio::select! {
                Ok(Ok(secret)) = prefetch => Ok(secret),
                read = async {
                    tokio::time::sleep(HEDGE).await;
                    self.fetch().await
                } => read,
            },
        };
        read.map(|secret| self.keep(secret))
    }

    /// Reads the secret again because `seen` was not accepted: `Some` if it has changed since.
    /// Asks Secrets Manager at most once in 30 seconds.
    pub async fn refresh(self: &Arc<Self>, seen: &Secret) -> Option<Arc<Secret>> {
        let _flight = self.flight.lock().await;
        let held = self
            .cache()
            .held
            .as_ref()
            .map(|held| Arc::clone(&held.secret));
        if let Some(other) = held.filter(|held| !held.is(seen)) {
            return Some(other);
        }
        {
            let mut cache = self.cache();
            let now = Instant::now();
            if cache
                .forced_at
                .is_some_and(|at| now - at < REFRESH_INTERVAL)
            {
                return None;
            }
            cache.forced_at = Some(now);
        }
        match self.fetch().await {
            Ok(secret) => Some(self.keep(secret)).filter(|secret| !secret.is(seen)),
            Err(_) => None,
        }
    }

    /// How long ago the secret that is held was read.
    pub fn age(&self) -> Option<Duration> {
        Some(self.cache().held.as_ref()?.read_at.elapsed())
    }

    fn cached(self: &Arc<Self>) -> Option<Arc<Secret>> {
        let mut cache = self.cache();
        let now = Instant::now();
        let held = cache.held.as_ref()?;
        let (secret, age) = (Arc::clone(&held.secret), now - held.read_at);
        if age < held.fresh_for {
            return Some(secret);
        }
        if age > held.fresh_for + STALE {
            return None;
        }
        if cache
            .revalidated_at
            .is_none_or(|at| now - at >= REFRESH_INTERVAL)
        {
            cache.revalidated_at = Some(now);
            let this = Arc::clone(self);
            tokio::spawn(async move {
                if let Ok(secret) = this.fetch().await {
                    this.keep(secret);
                }
            });
        }
        Some(secret)
    }

    fn keep(&self, secret: Secret) -> Arc<Secret> {
        let secret = Arc::new(secret);
        self.cache().held = Some(Held {
            secret: Arc::clone(&secret),
            read_at: Instant::now(),
            fresh_for: FRESH.mul_f64(0.8 + 0.4 * fastrand::f64()),
        });
        secret
    }

    /// Asks Secrets Manager. A failure is told in the log, once for each time it was asked.
    async fn fetch(&self) -> Result<Secret, Unavailable> {
        let started = Instant::now();
        let answer = self
            .client
            .get_secret_value()
            .secret_id(&self.secret_id)
            .send()
            .await
            .map_err(|error| unavailable(&error));
        let secret = answer.and_then(|answer| {
            let text = answer.secret_string().ok_or(Misshapen::Binary)?;
            Ok(Secret::parse(text, self.signed)?)
        });
        match &secret {
            Ok(_) => {
                let took_ms = started.elapsed().as_millis();
                tracing::debug!(took_ms, "the secret was read");
            }
            Err(error) => tracing::error!("{error}"),
        }
        secret
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Unavailable {
    match error {
        SdkError::ServiceError(_) => Unavailable::Refused(super::told(error)),
        _ => Unavailable::Unreachable(super::told(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &Misshapen) {
        let error = Secret::parse(text, true).unwrap_err();
        assert_eq!(&error, expected, "{text}");
    }

    #[test]
    fn reads_the_passcode_and_both_shared_secrets() {
        let text = r#"{"clevertap_passcode":"p","purchasely_shared_secret":"new","purchasely_shared_secret_previous":"old","other":1}"#;
        let secret = Secret::parse(text, true).unwrap();
        assert_eq!(secret.clevertap_passcode.expose_secret(), "p");
        assert_eq!(secret.shared_secrets().collect::<Vec<_>>(), ["new", "old"]);
    }

    #[test]
    fn the_previous_secret_may_be_absent_or_emptied() {
        for previous in ["", r#","purchasely_shared_secret_previous":"""#] {
            let text =
                format!(r#"{{"clevertap_passcode":"p","purchasely_shared_secret":"s"{previous}}}"#);
            let secret = Secret::parse(&text, true).unwrap();
            assert_eq!(secret.shared_secrets().collect::<Vec<_>>(), ["s"]);
        }
    }

    #[test]
    fn an_unsigned_relay_needs_no_shared_secret() {
        let secret = Secret::parse(r#"{"clevertap_passcode":"p"}"#, false).unwrap();
        assert_eq!(secret.shared_secrets().count(), 0);
    }

    #[test]
    fn a_misshapen_secret_is_told_by_its_key() {
        let with = |passcode: &str| {
            format!(r#"{{"clevertap_passcode":{passcode},"purchasely_shared_secret":"s"}}"#)
        };
        check("p4ssc0de", &Misshapen::NotAnObject);
        check("[]", &Misshapen::NotAnObject);
        check("{}", &Misshapen::Missing("purchasely_shared_secret"));
        check(
            r#"{"purchasely_shared_secret":"s"}"#,
            &Misshapen::Missing("clevertap_passcode"),
        );
        check(&with("7"), &Misshapen::Missing("clevertap_passcode"));
        check(&with(r#""""#), &Misshapen::Empty("clevertap_passcode"));
        check(
            &with(r#""p\n""#),
            &Misshapen::WhiteSpace("clevertap_passcode"),
        );
        check(
            &with(r#"" p""#),
            &Misshapen::WhiteSpace("clevertap_passcode"),
        );
        check(
            &with(r#""p\u0001""#),
            &Misshapen::NotAscii("clevertap_passcode"),
        );
        check(&with(r#""pé""#), &Misshapen::NotAscii("clevertap_passcode"));
    }

    #[test]
    fn no_message_or_debug_output_holds_a_value() {
        let text = r#"{"clevertap_passcode":"hunter2","purchasely_shared_secret":"hunter3"}"#;
        let secret = Secret::parse(text, true).unwrap();
        assert!(!format!("{secret:?}").contains("hunter"));
        let bad = r#"{"clevertap_passcode":"hunter2 ","purchasely_shared_secret":"hunter3"}"#;
        let error = Secret::parse(bad, true).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter"));
    }
}
