//! A function with everything it talks to, each on a port of its own.
//! It does not know what the function should do.

use crate::lambda::{Function, RuntimeApi};
use crate::process::built;
use crate::sockets::Server;
use crate::sockets::resources::Resources;
use crate::webhook::{Front, Webhook};
use crate::world::Ending;
use crate::world::clevertap::{CleverTap, Reply};
use crate::world::faulty::Faulty;
use crate::world::secrets_manager::SecretsManager;
use bytes::Bytes;
use hyper::Request;
use purchasely_clevertap::clock::unix_time;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

pub const ACCOUNT_ID: &str = "ABC-123-4567";
pub const PASSCODE: &str = "passcode-of-the-tests";
pub const SHARED_SECRET: &str = "shared-secret-of-the-tests";
pub const SECRET_ID: &str = "relay";

const EVENT_ID: &str = "0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11";

pub struct World {
    pub clevertap: Server<CleverTap>,
    pub secrets_manager: Server<Faulty<SecretsManager>>,
    pub api: RuntimeApi,
    pub function: Function,
}

#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u64,
    pub body: Value,
}

/// A body that every rule accepts.
pub fn body() -> Vec<u8> {
    json!({
        "event_name": "SUBSCRIPTION_RENEWED",
        "event_id": EVENT_ID,
        "event_created_at_ms": 1_772_439_330_250_u64,
        "user_id": "u-1842",
        "plan": "yearly",
    })
    .to_string()
    .into_bytes()
}

pub fn secret_value(passcode: &str, shared_secret: &str) -> String {
    json!({ "clevertap_passcode": passcode, "purchasely_shared_secret": shared_secret }).to_string()
}

pub fn answered(status: u64, body: Value) -> Answer {
    Answer { status, body }
}

/// The answer to [`body`] that makes Purchasely send it again.
pub fn unavailable() -> Answer {
    answered(503, json!({ "error": "unavailable", "event_id": EVENT_ID }))
}

/// The answer to [`body`] once CleverTap has it.
pub fn relayed() -> Answer {
    answered(200, json!({ "status": "relayed", "event_id": EVENT_ID }))
}

pub fn now_seconds() -> u64 {
    unix_time().as_secs()
}

pub fn event(id: &str, user: &str) -> Value {
    json!({ "event_name": "SUBSCRIPTION_RENEWED", "event_id": id, "user_id": user, "plan": "p" })
}

/// The answer that refuses one record of an upload, counted from 1.
pub fn refuse(number: usize, code: u16) -> Reply {
    Reply::RefuseRecord { number, code }
}

/// Waits until the condition holds. Only a hang fails.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(1), holds).await;
    assert!(waited.is_ok(), "never: {what}");
}

/// A relay with a dead-letter queue, an event queue and a claims table of its own.
pub async fn with_resources(settings: &[(&str, &str)]) -> (World, Resources) {
    let resources = Resources::make().await;
    let settings = [&resources.settings()[..], settings].concat();
    (World::start(&settings).await, resources)
}

impl World {
    /// Starts everything, with these settings beside the required ones, and waits for the function.
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let secret = secret_value(PASSCODE, SHARED_SECRET);
        Self::start_with(SecretsManager::new(SECRET_ID, &secret), settings).await
    }

    pub async fn start_with(
        secrets_manager: impl Into<Faulty<SecretsManager>>,
        settings: &[(&str, &str)],
    ) -> Self {
        Self::start_binary(built("purchasely-clevertap"), secrets_manager, settings).await
    }

    /// The same with another build of the function.
    pub async fn start_binary(
        binary: impl AsRef<Path>,
        secrets_manager: impl Into<Faulty<SecretsManager>>,
        settings: &[(&str, &str)],
    ) -> Self {
        let clevertap = Server::start(CleverTap::new(ACCOUNT_ID, PASSCODE)).await;
        let secrets_manager = Server::start(secrets_manager.into()).await;
        let api = RuntimeApi::start().await;
        let required = [
            ("CLEVERTAP_REGION", "in1"),
            ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
            ("CLEVERTAP_API_URL", &*clevertap.url),
            ("SECRET_ID", SECRET_ID),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets_manager.url),
        ];
        let environment = [&required[..], settings].concat();
        let function = Function::spawn(binary, &api, &environment);
        api.wait_until_ready().await;
        Self { clevertap, secrets_manager, api, function }
    }

    /// Posts a body, correctly signed, through an HTTP API.
    pub async fn post(&self, body: &[u8]) -> Answer {
        let event = signed(body, SHARED_SECRET).envelope(Front::HttpApi);
        self.invoke(&event).await
    }

    /// Invokes the function with an event and reads its HTTP answer.
    pub async fn invoke(&self, event: &Value) -> Answer {
        let answer = self.api.invoke(event).await.expect("an answer, not an error");
        assert_eq!(answer["headers"]["content-type"], "application/json");
        assert_eq!(answer["isBase64Encoded"], false);
        let status = answer["statusCode"].as_u64().expect("a status");
        let body = answer["body"].as_str().expect("a text");
        answered(status, serde_json::from_str(body).expect("JSON"))
    }

    /// The address of the webhook in an HTTP API before the function.
    pub async fn http_api(&self) -> String {
        let api = self.api.clone();
        let answer = move |request: Request<Bytes>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let mut envelope = Webhook::new(body.to_vec(), "", 0).envelope(Front::HttpApi);
                let headers = head.headers.iter();
                envelope["headers"] = headers
                    .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                    .collect();
                let answer = api.invoke(envelope).await.expect("an answer, not an error");
                let status = answer["statusCode"].as_u64().unwrap().try_into().unwrap();
                let body = answer["body"].as_str().unwrap().to_owned();
                Ending::answer(status, "application/json", body)
            }
        };
        format!("{}/webhooks/purchasely", Server::start(answer).await.url)
    }

    /// The first line of the log that the predicate accepts, as JSON.
    pub async fn line(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        let read = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_default();
        let line = self.function.wait_for_log(|line| is_it(&read(line))).await;
        read(&line)
    }
}

pub fn signed(body: &[u8], secret: &str) -> Webhook {
    Webhook::new(body.to_vec(), secret, now_seconds())
}
