//! The one secret: its shape, and a cache that makes an event wait as little as possible.
//!
//! It does not know what the values are used for. Source:
//! <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>.

use crate::clock;
use crate::json::{self, Value};
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use secrecy::{ExposeSecret, SecretString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// The time to live of a value, give or take a fifth, so that environments started together do not read
/// it again together.
const TTL: Duration = Duration::from_mins(5);
/// How long past its TTL a value is still used while Secrets Manager is unavailable.
const MAX_STALE: Duration = Duration::from_hours(1);
/// The least time between two forced refreshes, and between two waits for a value past its TTL.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// How long an event waits for a read where there is another way: a value past its TTL, which must not stay
/// valid in an environment that is seldom used, or, beside the read that was started at start-up, a second
/// one. A read usually takes a few milliseconds; if the environment was frozen meanwhile, it never ends.
const PATIENCE: Duration = Duration::from_millis(250);

/// The keys of the secret's JSON.
pub const KEYS: [&str; 4] = [
    "clevertap_passcode",
    "clevertap_sandbox_passcode",
    "purchasely_shared_secret",
    "purchasely_shared_secret_previous",
];

/// What the secret holds.
#[derive(Debug, Clone)]
pub struct Secret {
    pub clevertap_passcode: SecretString,
    /// The passcode of the account for sandbox purchases, where there is one.
    pub clevertap_sandbox_passcode: Option<SecretString>,
    /// Purchasely's client shared secret: the current one, then the previous one if it is still accepted.
    shared_secrets: Vec<SecretString>,
    /// The optional keys that cannot be used, and why. Each costs what it is for, and nothing else.
    pub unusable: Vec<InvalidSecret>,
}

/// Why a secret's value cannot be used. Names the key, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    #[error(
        "the secret is not a JSON object: store {{\"clevertap_passcode\": \"…\", \"purchasely_shared_secret\": \"…\"}}"
    )]
    NotAnObject,
    #[error("the secret is binary: store it as text (SecretString)")]
    Binary,
    #[error("the secret has no text under the key `{0}`")]
    Missing(&'static str),
    #[error("the secret's key `{0}` is empty")]
    Empty(&'static str),
    /// Often a line break at the end.
    #[error("the secret's key `{0}` has white space or a line break: store the bare value")]
    WhiteSpace(&'static str),
    #[error("the secret's key `{0}` has a character that is not printable ASCII")]
    NotAscii(&'static str),
}

/// Why there is no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("{0}")]
    Invalid(#[from] InvalidSecret),
    /// AWS answered with this error code.
    #[error(
        "Secrets Manager refused to return the secret ({0}): check SECRET_ID, the function's region and its permission secretsmanager:GetSecretValue"
    )]
    Refused(String),
    #[error(
        "Secrets Manager is unavailable ({0}): check AWS_REGION, the credentials and the function's network"
    )]
    Unreachable(String),
}

impl Secret {
    /// Reads the secret's text. Without `signed`, Purchasely's secret may be absent.
    pub fn parse(text: &str, signed: bool) -> Result<Self, InvalidSecret> {
        let document = json::read(text.as_bytes()).map_err(|_| InvalidSecret::NotAnObject)?;
        let fields = document.as_object().ok_or(InvalidSecret::NotAnObject)?;
        let mut unusable = Vec::new();
        let mut optional = |key: &'static str| {
            let value = fields.get(key)?;
            match usable(Some(value), key) {
                Ok(value) => Some(value),
                // Emptied by hand once the old secret is no longer accepted.
                Err(InvalidSecret::Empty(_)) => None,
                Err(why) => {
                    unusable.push(why);
                    None
                }
            }
        };
        let required = |key| usable(fields.get(key), key);
        let [passcode, sandbox_passcode, current, previous] = KEYS;
        let current = if signed {
            Some(required(current)?)
        } else {
            optional(current)
        };
        let previous = optional(previous);
        Ok(Self {
            clevertap_passcode: required(passcode)?,
            clevertap_sandbox_passcode: optional(sandbox_passcode),
            shared_secrets: current.into_iter().chain(previous).collect(),
            unusable,
        })
    }

    /// The client shared secrets that a signature may be made with.
    pub fn shared_secrets(&self) -> impl Iterator<Item = &str> {
        self.shared_secrets.iter().map(ExposeSecret::expose_secret)
    }

    fn equals(&self, other: &Self) -> bool {
        let sandbox = |secret: &Self| {
            let passcode = secret.clevertap_sandbox_passcode.clone();
            passcode.map(|passcode| passcode.expose_secret().to_owned())
        };
        self.clevertap_passcode.expose_secret() == other.clevertap_passcode.expose_secret()
            && sandbox(self) == sandbox(other)
            && self.shared_secrets().eq(other.shared_secrets())
    }
}

fn usable(value: Option<&Value<'_>>, key: &'static str) -> Result<SecretString, InvalidSecret> {
    let value = value.and_then(Value::as_text).ok_or(InvalidSecret::Missing(key))?;
    if value.is_empty() {
        Err(InvalidSecret::Empty(key))
    } else if value.contains(char::is_whitespace) {
        Err(InvalidSecret::WhiteSpace(key))
    } else if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        Err(InvalidSecret::NotAscii(key))
    } else {
        Ok(SecretString::from(value))
    }
}

/// Reads the secret and caches it. Events that need a read wait for the same one.
#[derive(Debug)]
pub struct Secrets {
    client: aws_sdk_secretsmanager::Client,
    secret_id: String,
    is_signed: bool,
    cache: Mutex<Cache>,
    /// Held by the event that waits for a read; the others wait for that event.
    waiting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Cache {
    value: Option<Cached>,
    /// The read that was started at start-up, until an event has waited for it.
    prefetch: Option<JoinHandle<()>>,
    /// When a read was last forced, or was waited for in vain.
    retried_at: Option<SystemTime>,
}

#[derive(Debug)]
struct Cached {
    secret: Arc<Secret>,
    /// When it was asked for: its answer may have lain in a frozen environment for hours.
    asked: Asked,
    ttl: Duration,
}

/// When a read started.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// Gives the age of the value.
    at: SystemTime,
    /// Orders the reads, because it never goes back.
    instant: Instant,
}

impl Cached {
    fn age(&self) -> Duration {
        elapsed(self.asked.at)
    }
}

impl Secrets {
    /// `is_signed`: whether Purchasely's shared secret must be there.
    pub fn new(client: aws_sdk_secretsmanager::Client, secret_id: String, is_signed: bool) -> Self {
        Self {
            client,
            secret_id,
            is_signed,
            cache: Mutex::default(),
            waiting: tokio::sync::Mutex::default(),
        }
    }

    /// Starts the first read without waiting for it. Its failure does not fail the start-up.
    pub fn prefetch(self: &Arc<Self>) {
        let prefetch = self.read();
        self.cache().prefetch = Some(prefetch);
    }

    /// The secret: at once within its TTL. Past it, the secret is first read again, for a moment; the old
    /// value is used for up to an hour if that fails. The log says why there is none.
    pub async fn get(self: &Arc<Self>) -> Option<Arc<Secret>> {
        if let Some(secret) = self.usable() {
            return Some(secret);
        }
        let _waiting = self.waiting.lock().await;
        let prefetch = self.cache().prefetch.take();
        if let Some(prefetch) = prefetch {
            let _ = timeout(PATIENCE, prefetch).await;
        }
        if let Some(secret) = self.usable() {
            return Some(secret);
        }
        if self.cached_until(MAX_STALE).is_some() {
            let _ = timeout(PATIENCE, self.read()).await;
            if self.cached_until(Duration::ZERO).is_none() {
                self.cache().retried_at = Some(clock::now());
            }
        } else {
            let _ = self.read().await;
        }
        self.usable()
    }

    /// Reads the secret again because `seen` was rejected: `Some` if it has changed since. Calls Secrets
    /// Manager at most once in 30 seconds.
    pub async fn refresh(self: &Arc<Self>, seen: &Secret) -> Option<Arc<Secret>> {
        let changed = || self.cached_until(Duration::MAX).filter(|secret| !secret.equals(seen));
        let _waiting = self.waiting.lock().await;
        if changed().is_none() && !self.is_retried() {
            self.cache().retried_at = Some(clock::now());
            let _ = self.read().await;
        }
        changed()
    }

    /// How long ago the cached secret was asked for.
    pub fn age(&self) -> Option<Duration> {
        self.cache().value.as_ref().map(Cached::age)
    }

    /// The cached secret, if it needs no read: within its TTL, or past it if a read has just failed.
    fn usable(&self) -> Option<Arc<Secret>> {
        let past_ttl = if self.is_retried() { MAX_STALE } else { Duration::ZERO };
        self.cached_until(past_ttl)
    }

    /// The cached secret, until so long past its TTL.
    fn cached_until(&self, past_ttl: Duration) -> Option<Arc<Secret>> {
        let cache = self.cache();
        let cached = cache.value.as_ref()?;
        let is_in_time = cached.age() < cached.ttl.saturating_add(past_ttl);
        is_in_time.then(|| Arc::clone(&cached.secret))
    }

    fn is_retried(&self) -> bool {
        let retried_at = self.cache().retried_at;
        retried_at.is_some_and(|moment| elapsed(moment) < REFRESH_INTERVAL)
    }

    /// Starts a read, which goes on even if nobody waits for it any longer. Its value is cached, unless a read
    /// that started later has returned before; otherwise the log says why there is none.
    fn read(self: &Arc<Self>) -> JoinHandle<()> {
        let this = Arc::clone(self);
        let asked = Asked { at: clock::now(), instant: clock::instant() };
        tokio::spawn(async move {
            let secret = match this.fetch().await {
                Ok(secret) => secret,
                Err(error) => return tracing::error!("{error}"),
            };
            let duration_ms = asked.instant.elapsed().as_millis();
            tracing::debug!(duration_ms, "read the secret");
            for problem in &secret.unusable {
                tracing::error!("{problem}; it is ignored");
            }
            let mut cache = this.cache();
            if cache.value.as_ref().is_none_or(|cached| cached.asked.instant <= asked.instant) {
                let ttl = TTL.mul_f64(0.8 + 0.4 * fastrand::f64());
                cache.value = Some(Cached { secret: Arc::new(secret), asked, ttl });
            }
        })
    }

    async fn fetch(&self) -> Result<Secret, Unavailable> {
        let read = self.client.get_secret_value().secret_id(&self.secret_id).send().await;
        let value = read.map_err(|error| unavailable(&error))?;
        let text = value.secret_string().ok_or(InvalidSecret::Binary)?;
        Ok(Secret::parse(text, self.is_signed)?)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn elapsed(since: SystemTime) -> Duration {
    clock::now().duration_since(since).unwrap_or_default()
}

fn unavailable<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Unavailable {
    match error {
        SdkError::ServiceError(_) => Unavailable::Refused(super::describe(error)),
        _ => Unavailable::Unreachable(super::describe(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Exchange, Http, SharedHttp};
    use ::http::{Request, Response, StatusCode};
    use aws_sdk_secretsmanager::config::{Credentials, SharedCredentialsProvider};
    use bytes::Bytes;
    use serde_json::json;
    use std::collections::VecDeque;
    use tokio::time::Instant;

    #[track_caller]
    fn check(text: &str, expected: &InvalidSecret) {
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
        let text = r#"{"clevertap_passcode":"p"}"#;
        assert_eq!(Secret::parse(text, false).unwrap().shared_secrets().count(), 0);
        // Where there is one, the log names users by it.
        let text = r#"{"clevertap_passcode":"p","purchasely_shared_secret":"s"}"#;
        assert_eq!(Secret::parse(text, false).unwrap().shared_secrets().collect::<Vec<_>>(), ["s"]);
    }

    #[test]
    fn an_invalid_secret_is_reported_by_its_key() {
        let with = |passcode: &str| {
            format!(r#"{{"clevertap_passcode":{passcode},"purchasely_shared_secret":"s"}}"#)
        };
        check("p4ssc0de", &InvalidSecret::NotAnObject);
        check("[]", &InvalidSecret::NotAnObject);
        check("{}", &InvalidSecret::Missing("purchasely_shared_secret"));
        check(
            r#"{"purchasely_shared_secret":"s"}"#,
            &InvalidSecret::Missing("clevertap_passcode"),
        );
        check(&with("7"), &InvalidSecret::Missing("clevertap_passcode"));
        check(&with(r#""""#), &InvalidSecret::Empty("clevertap_passcode"));
        check(&with(r#""p\n""#), &InvalidSecret::WhiteSpace("clevertap_passcode"));
        check(&with(r#"" p""#), &InvalidSecret::WhiteSpace("clevertap_passcode"));
        check(&with(r#""p\u0001""#), &InvalidSecret::NotAscii("clevertap_passcode"));
        check(&with(r#""pé""#), &InvalidSecret::NotAscii("clevertap_passcode"));
    }

    #[test]
    fn an_optional_key_that_cannot_be_used_costs_that_key_alone() {
        const PREVIOUS: &str = "purchasely_shared_secret_previous";
        for (value, why) in [
            ("null", InvalidSecret::Missing(PREVIOUS)),
            ("7", InvalidSecret::Missing(PREVIOUS)),
            ("[1e400]", InvalidSecret::Missing(PREVIOUS)),
            (r#""old\n""#, InvalidSecret::WhiteSpace(PREVIOUS)),
            (r#""\ud83c""#, InvalidSecret::NotAscii(PREVIOUS)),
        ] {
            let text = format!(
                r#"{{"clevertap_passcode":"p","purchasely_shared_secret":"s","{PREVIOUS}":{value}}}"#
            );
            let secret = Secret::parse(&text, true).unwrap();
            assert_eq!(secret.shared_secrets().collect::<Vec<_>>(), ["s"], "{value}");
            assert_eq!(secret.unusable, [why], "{value}");
        }
        let text = r#"{"clevertap_passcode":"p","purchasely_shared_secret":null,"clevertap_sandbox_passcode":" "}"#;
        let secret = Secret::parse(text, false).unwrap();
        assert!(secret.clevertap_sandbox_passcode.is_none());
        assert_eq!(secret.unusable.len(), 2);
    }

    #[test]
    fn what_nobody_needs_costs_nothing() {
        let text = "\u{feff}{\"clevertap_passcode\":\"p\",\"purchasely_shared_secret\":\"s\",\"\\ud83c\":[\"\\ud83c\",1e400]}";
        let secret = Secret::parse(text, true).unwrap();
        assert_eq!(secret.clevertap_passcode.expose_secret(), "p");
        assert_eq!(secret.unusable, []);
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

    /// Answers each read after a delay, on tokio's paused clock: with a shared secret, or with an error.
    #[derive(Debug, Clone, Default)]
    struct SecretsManager(Arc<Mutex<VecDeque<Answer>>>);

    type Answer = (Duration, Option<&'static str>);

    impl Http for SecretsManager {
        fn exchange(&self, _: Request<Bytes>, _: usize) -> Exchange {
            let answer = self.0.lock().unwrap().pop_front();
            let (delay, shared_secret) = answer.expect("a read that the test expects");
            Box::pin(async move {
                tokio::time::sleep(delay).await;
                let Some(shared_secret) = shared_secret else {
                    let error = json!({ "__type": "ResourceNotFoundException" }).to_string();
                    let mut response = Response::new(Some(error.into()));
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                    return Ok(response);
                };
                let secret =
                    json!({ "clevertap_passcode": "p", "purchasely_shared_secret": shared_secret });
                let body = json!({ "SecretString": secret.to_string() }).to_string();
                Ok(Response::new(Some(body.into())))
            })
        }
    }

    impl SecretsManager {
        fn will_answer(&self, delay_ms: u64, shared_secret: Option<&'static str>) {
            let answer = (Duration::from_millis(delay_ms), shared_secret);
            self.0.lock().unwrap().push_back(answer);
        }

        fn all_read(&self) -> bool {
            self.0.lock().unwrap().is_empty()
        }
    }

    fn secrets() -> (SecretsManager, Arc<Secrets>) {
        clock::simulate(SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_439_330));
        let server = SecretsManager::default();
        let config = aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::v2026_01_12())
            .region(aws_config::Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
            .http_client(SharedHttp(Arc::new(server.clone())))
            .build();
        let clients = crate::aws::Clients::new(&config);
        let secrets = Secrets::new(clients.secrets_manager, "relay".to_owned(), true);
        (server, Arc::new(secrets))
    }

    async fn shared_secret(secrets: &Arc<Secrets>) -> String {
        let secret = secrets.get().await.unwrap();
        secret.shared_secrets().next().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn past_its_ttl_a_secret_is_read_again_before_it_is_used() {
        let (server, secrets) = secrets();
        server.will_answer(10, Some("old"));
        assert_eq!(shared_secret(&secrets).await, "old");
        tokio::time::sleep(Duration::from_mins(3)).await;
        assert_eq!(shared_secret(&secrets).await, "old");
        tokio::time::sleep(Duration::from_mins(4)).await;
        server.will_answer(200, Some("new"));
        assert_eq!(shared_secret(&secrets).await, "new");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_waits_a_quarter_of_a_second_for_a_new_value_and_then_nobody_for_half_a_minute()
     {
        let (server, secrets) = secrets();
        server.will_answer(10, Some("old"));
        assert_eq!(shared_secret(&secrets).await, "old");
        tokio::time::sleep(Duration::from_mins(7)).await;
        server.will_answer(400, None);
        let started = Instant::now();
        assert_eq!(shared_secret(&secrets).await, "old");
        assert_eq!(started.elapsed().as_millis(), 250);
        assert_eq!(shared_secret(&secrets).await, "old");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(shared_secret(&secrets).await, "old");
        assert_eq!(started.elapsed().as_secs(), 20);
        assert!(server.all_read());
        tokio::time::sleep(Duration::from_secs(11)).await;
        server.will_answer(10, Some("new"));
        assert_eq!(shared_secret(&secrets).await, "new");
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_value_is_used_for_an_hour_past_its_ttl_and_no_longer() {
        let (server, secrets) = secrets();
        server.will_answer(10, Some("old"));
        assert_eq!(shared_secret(&secrets).await, "old");
        tokio::time::sleep(Duration::from_mins(63)).await;
        server.will_answer(10, None);
        assert_eq!(shared_secret(&secrets).await, "old");
        tokio::time::sleep(Duration::from_mins(4)).await;
        server.will_answer(10, None);
        assert!(secrets.get().await.is_none());
    }

    /// The environment is frozen for so long: only the wall clock goes on.
    fn freeze(time: Duration) {
        clock::simulate(clock::now() + time);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_counts_from_when_it_was_asked_for() {
        for minutes in [7, 4 * 60] {
            let (server, secrets) = secrets();
            server.will_answer(10, Some("revoked"));
            server.will_answer(10, Some("new"));
            secrets.prefetch();
            freeze(Duration::from_mins(minutes));
            assert_eq!(shared_secret(&secrets).await, "new", "{minutes} minutes");
            assert!(secrets.age().unwrap() < Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_value_is_read_again_once_in_half_a_minute() {
        let (server, secrets) = secrets();
        server.will_answer(10, Some("old"));
        let seen = secrets.get().await.unwrap();
        server.will_answer(10, Some("old"));
        for _ in 0..3 {
            assert!(secrets.refresh(&seen).await.is_none());
        }
        assert!(server.all_read());
        tokio::time::sleep(Duration::from_secs(31)).await;
        server.will_answer(10, Some("new"));
        for _ in 0..3 {
            assert!(secrets.refresh(&seen).await.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_older_read_never_replaces_a_newer_value() {
        let (server, secrets) = secrets();
        // The read at start-up is overtaken by the one that races it.
        server.will_answer(900, Some("old"));
        server.will_answer(10, Some("new"));
        secrets.prefetch();
        assert_eq!(shared_secret(&secrets).await, "new");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(shared_secret(&secrets).await, "new");
        assert!(server.all_read());
    }
}
