//! A relay with every crate at its default features: verify the signature, claim the event, upload its profile and
//! event, complete the claim, answer.

use aws_config::BehaviorVersion;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use hmac::{Hmac, KeyInit, Mac};
use lambda_http::{Error, Request, Response, run, service_fn, tracing};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use std::env;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const WITH_ACCESS: [&str; 4] = [
    "AUTO_RENEWING",
    "AUTO_RENEWING_CANCELED",
    "AUTO_RENEWING_CANCELLED",
    "IN_GRACE_PERIOD",
];
const PROFILE: &str = "subscription_status plan product store store_country offer_type is_family_shared original_purchased_at effective_next_renewal_at";

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
    dynamodb: aws_sdk_dynamodb::Client,
    table: String,
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
        dynamodb: aws_sdk_dynamodb::Client::new(&config),
        table: env::var("DEDUPLICATION_TABLE")?,
        http: reqwest::Client::builder().timeout(Duration::from_millis(6500)).build()?,
        upload_url: format!("{}/1/upload", env::var("CLEVERTAP_API_URL")?),
        account_id: env::var("CLEVERTAP_ACCOUNT_ID")?,
    };
    let relay = &relay;
    run(service_fn(move |request| async move {
        let (status, word) = match relay.answer(&request).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!("the event was not relayed: {error}");
                (503, "unavailable")
            }
        };
        let response =
            Response::builder().status(status).header("content-type", "application/json");
        Ok::<_, Error>(response.body(json!({ "status": word }).to_string())?)
    }))
    .await
}

impl Relay {
    async fn answer(&self, request: &Request) -> Result<(u16, &'static str), Error> {
        if !is_signed(request, &self.secret.purchasely_shared_secret) {
            return Ok((401, "unauthorized"));
        }
        let event: Map<String, Value> = serde_json::from_slice(request.body())?;
        let id = event.get("event_id").and_then(Value::as_str).ok_or("event_id is missing")?;
        let records = to_records(&event)?;
        if !self.claim(id).await? {
            return Ok((200, "duplicate"));
        }
        let started_at = Instant::now();
        // A claim that failed runs out before Purchasely sends the event again.
        self.upload(&json!({ "d": records })).await?;
        let took = started_at.elapsed();
        self.complete(id).await?;
        println!("{}", log_line(&event, took)?);
        Ok((200, "relayed"))
    }

    async fn upload(&self, upload: &Value) -> Result<(), Error> {
        let request = self
            .http
            .post(&self.upload_url)
            .header("X-CleverTap-Account-Id", &self.account_id)
            .header("X-CleverTap-Passcode", &self.secret.clevertap_passcode)
            .header("Content-Type", "application/json; charset=utf-8")
            .body(upload.to_string());
        let response = request.send().await?.error_for_status()?;
        let verdict: Verdict = serde_json::from_slice(&response.bytes().await?)?;
        if verdict.status == "success" {
            Ok(())
        } else {
            Err(format!("CleverTap answered {}", verdict.status).into())
        }
    }

    /// `false`: the event has been relayed. An error: another invocation may be at it.
    async fn claim(&self, id: &str) -> Result<bool, Error> {
        let now = now()?;
        let condition = "attribute_not_exists(#id) OR #expiry < :now OR (#status = :inprogress AND attribute_exists(#in_progress_expiry) AND #in_progress_expiry < :now_in_millis)";
        let put = self.dynamodb.put_item().table_name(&self.table);
        let result = put
            .item("event_id", text(id))
            .item("expiration", expiry(now))
            .item("status", text("INPROGRESS"))
            .item("in_progress_expiration", number(now.as_millis() + 9000))
            .condition_expression(condition)
            .expression_attribute_names("#id", "event_id")
            .expression_attribute_names("#expiry", "expiration")
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#in_progress_expiry", "in_progress_expiration")
            .expression_attribute_values(":now", number(now.as_secs()))
            .expression_attribute_values(":now_in_millis", number(now.as_millis()))
            .expression_attribute_values(":inprogress", text("INPROGRESS"))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let Err(error) = result.map_err(aws_sdk_dynamodb::Error::from) else {
            return Ok(true);
        };
        match &error {
            aws_sdk_dynamodb::Error::ConditionalCheckFailedException(failed)
                if failed.item().and_then(|item| item.get("status"))
                    == Some(&text("COMPLETED")) =>
            {
                Ok(false)
            }
            _ => Err(error.into()),
        }
    }

    async fn complete(&self, id: &str) -> Result<(), Error> {
        let update = self.dynamodb.update_item().table_name(&self.table).key("event_id", text(id));
        update
            .update_expression("SET #expiry = :expiry, #status = :status")
            .expression_attribute_names("#expiry", "expiration")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":expiry", expiry(now()?))
            .expression_attribute_values(":status", text("COMPLETED"))
            .send()
            .await?;
        Ok(())
    }
}

fn now() -> Result<Duration, Error> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn expiry(now: Duration) -> AttributeValue {
    number(now.as_secs() + 30 * 86_400)
}

async fn read_secret(secrets_manager: &aws_sdk_secretsmanager::Client) -> Result<Secret, Error> {
    let request = secrets_manager.get_secret_value();
    let response = request.secret_id(env::var("SECRET_ID")?).send().await?;
    let text = response.secret_string().ok_or("the secret is binary")?;
    Ok(serde_json::from_str(text)?)
}

fn is_signed(request: &Request, shared_secret: &str) -> bool {
    let header = |name| request.headers().get(name)?.to_str().ok();
    let signature = header("x-purchasely-request-signature").and_then(|hex| hex::decode(hex).ok());
    let (Some(timestamp), Some(signature)) = (header("x-purchasely-timestamp"), signature) else {
        return false;
    };
    let mac = Hmac::<Sha256>::new_from_slice(shared_secret.as_bytes());
    let mac = mac.map(|mac| mac.chain_update(timestamp).chain_update(request.body().as_ref()));
    mac.is_ok_and(|mac| mac.verify_slice(&signature).is_ok())
}

/// The profile and the event: flat fields under their own names, times as CleverTap dates.
fn to_records(event: &Map<String, Value>) -> Result<[Value; 2], Error> {
    let field = |name: &str| event.get(name).ok_or(format!("{name} is missing"));
    let mut properties = Map::new();
    for (name, value) in event {
        if let (Some(name), Some(at)) = (name.strip_suffix("_ms"), value.as_i64()) {
            properties.insert(name.to_owned(), json!(format!("$D_{}", at / 1000)));
        } else if !event.contains_key(&format!("{name}_ms"))
            && !(value.is_null() || value.is_object() || value.is_array())
        {
            properties.insert(name.clone(), value.clone());
        }
    }
    let of_profile = |name: &str| Some((name.to_owned(), properties.get(name)?.clone()));
    let mut profile: Map<_, _> = PROFILE.split(' ').filter_map(of_profile).collect();
    let status = event.get("subscription_status").and_then(Value::as_str);
    let has_access = status.is_some_and(|status| WITH_ACCESS.contains(&status));
    profile.insert("has_active_subscription".to_owned(), json!(has_access));
    if let Some(plan) = event.get("plan") {
        let change = if has_access { "$add" } else { "$remove" };
        profile.insert("active_plans".to_owned(), json!({ change: [plan] }));
    }
    let (identity, name) = (field("user_id")?, field("event_name")?);
    let ts = field("event_created_at_ms")?
        .as_i64()
        .ok_or("event_created_at_ms is no number")?
        / 1000;
    Ok([
        json!({ "identity": identity, "ts": ts, "type": "profile", "profileData": profile }),
        json!({ "identity": identity, "ts": ts, "type": "event", "evtName": name, "evtData": properties }),
    ])
}

/// One line with metrics in CloudWatch's embedded format.
fn log_line(event: &Map<String, Value>, upload: Duration) -> Result<Value, Error> {
    let metrics = json!([
        { "Name": "Relayed", "Unit": "Count" },
        { "Name": "UploadLatency", "Unit": "Milliseconds" },
    ]);
    let directive =
        json!({ "Namespace": "Relay", "Dimensions": [["service"]], "Metrics": metrics });
    let timestamp = u64::try_from(now()?.as_millis())?;
    Ok(json!({
        "_aws": { "Timestamp": timestamp, "CloudWatchMetrics": [directive] },
        "service": "relay",
        "event_id": event.get("event_id"),
        "event_name": event.get("event_name"),
        "outcome": "relayed",
        "Relayed": 1,
        "UploadLatency": upload.as_secs_f64() * 1e3,
    }))
}
