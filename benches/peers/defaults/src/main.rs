//! A plain relay: verify the signature, map the fields to one CleverTap event, upload it, answer.
//! It has no profiles, revenue, limits, claims, queues, retries or deadline.

use std::env;

use aws_config::BehaviorVersion;
use hmac::{Hmac, KeyInit, Mac};
use lambda_http::{Error, Request, Response, run, service_fn, tracing};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::Sha256;

#[derive(Deserialize)]
struct Secret {
    clevertap_passcode: String,
    purchasely_shared_secret: String,
}

#[derive(Deserialize)]
struct Verdict {
    status: String,
}

struct Relay {
    secret: Secret,
    http: reqwest::Client,
    upload_url: String,
    account_id: String,
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let relay = Relay {
        secret: read_secret(&aws_sdk_secretsmanager::Client::new(&config)).await?,
        http: reqwest::Client::new(),
        upload_url: format!("{}/1/upload", env::var("CLEVERTAP_API_URL")?),
        account_id: env::var("CLEVERTAP_ACCOUNT_ID")?,
    };
    let relay = &relay;
    run(service_fn(move |request| answer(relay, request))).await
}

async fn answer(relay: &Relay, request: Request) -> Result<Response<String>, Error> {
    let (status, word) = match relay.relay(&request).await {
        Ok(true) => (200, "relayed"),
        Ok(false) => (401, "unauthorized"),
        Err(error) => {
            tracing::error!("the event was not relayed: {error}");
            (503, "unavailable")
        }
    };
    let body = json!({ "status": word }).to_string();
    let response = Response::builder().status(status);
    Ok(response
        .header("content-type", "application/json")
        .body(body)?)
}

impl Relay {
    /// `false`: the signature is invalid.
    async fn relay(&self, request: &Request) -> Result<bool, Error> {
        if !is_signed(request, &self.secret.purchasely_shared_secret) {
            return Ok(false);
        }
        let event: Map<String, Value> = serde_json::from_slice(request.body())?;
        self.upload(&map(&event)?).await?;
        tracing::info!(event_id = event["event_id"].as_str(), "relayed");
        Ok(true)
    }

    async fn upload(&self, upload: &Value) -> Result<(), Error> {
        let response = self
            .http
            .post(&self.upload_url)
            .header("X-CleverTap-Account-Id", &self.account_id)
            .header("X-CleverTap-Passcode", &self.secret.clevertap_passcode)
            .header("Content-Type", "application/json; charset=utf-8")
            .body(upload.to_string())
            .send()
            .await?
            .error_for_status()?;
        let verdict: Verdict = serde_json::from_slice(&response.bytes().await?)?;
        if verdict.status == "success" {
            Ok(())
        } else {
            Err(format!("CleverTap answered {}", verdict.status).into())
        }
    }
}

async fn read_secret(secrets_manager: &aws_sdk_secretsmanager::Client) -> Result<Secret, Error> {
    let request = secrets_manager.get_secret_value();
    let response = request.secret_id(env::var("SECRET_ID")?).send().await?;
    let text = response.secret_string().ok_or("the secret is binary")?;
    Ok(serde_json::from_str(text)?)
}

fn is_signed(request: &Request, shared_secret: &str) -> bool {
    let header = |name| request.headers().get(name)?.to_str().ok();
    let Some(timestamp) = header("x-purchasely-timestamp") else {
        return false;
    };
    let signature = header("x-purchasely-request-signature").and_then(|hex| hex::decode(hex).ok());
    let Some(signature) = signature else {
        return false;
    };
    let mac = Hmac::<Sha256>::new_from_slice(shared_secret.as_bytes());
    mac.is_ok_and(|mac| {
        mac.chain_update(timestamp)
            .chain_update(request.body().as_ref())
            .verify_slice(&signature)
            .is_ok()
    })
}

/// One event record: flat fields unchanged, times as CleverTap dates.
fn map(event: &Map<String, Value>) -> Result<Value, Error> {
    let name = event.get("event_name").ok_or("event_name is missing")?;
    let identity = event.get("user_id").ok_or("user_id is missing")?;
    let mut properties = Map::new();
    for (field, value) in event {
        if let Some(name) = field.strip_suffix("_ms") {
            if let Some(at) = value.as_i64() {
                properties.insert(name.to_owned(), json!(format!("$D_{}", at / 1000)));
            }
        } else if !event.contains_key(&format!("{field}_ms"))
            && !(value.is_null() || value.is_object() || value.is_array())
        {
            properties.insert(field.clone(), value.clone());
        }
    }
    let mut record = json!({
        "identity": identity, "type": "event", "evtName": name, "evtData": properties,
    });
    if let Some(at) = event.get("event_created_at_ms").and_then(Value::as_i64) {
        record["ts"] = json!(at / 1000);
    }
    Ok(json!({ "d": [record] }))
}
