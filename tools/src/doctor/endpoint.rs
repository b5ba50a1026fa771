//! What answers over HTTP: the webhook's address, and CleverTap to a dry-run upload. The `Date` of an
//! answer is compared with this machine's clock. It does not know what serves an address.

use super::finding::{Findings, Id};
use crate::send::with_causes;
use http::{HeaderMap, HeaderValue, header};
use purchasely_clevertap::clevertap::client::Attempt;
use purchasely_clevertap::clevertap::response::{Response, Verdict, meaning};
use purchasely_clevertap::clevertap::{
    Client, Content, Credentials, Record, Role, UnixSeconds, User, upload_body,
};
use purchasely_clevertap::http::SharedHttp;
use reqwest::Url;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use testkit::harness::now_seconds;
use testkit::webhook::Webhook;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::time::Instant;

/// API Gateway answers within 9.5 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_SHOWN_CHARS: usize = 200;
/// From here on a signature with a short tolerance is refused.
const CLOCK_WARNING: Duration = Duration::from_mins(1);
/// From here on AWS refuses what this machine signs.
const CLOCK_ERROR: Duration = Duration::from_mins(5);
/// What would appear in CleverTap if it did store the upload.
const TEST_USER: &str = "purchasely-clevertap-doctor";
const TEST_EVENT: &str = "Doctor Check";

/// Uploads one harmless record, as a dry run.
pub async fn clevertap(
    http: &reqwest::Client,
    host: &str,
    (account_id, passcode): (&HeaderValue, &SecretString),
    findings: &mut Findings,
) {
    let account = String::from_utf8_lossy(account_id.as_bytes());
    let name = format!("account {account} at {host}");
    let client = match Client::new(SharedHttp(Arc::new(http.clone())), host, true) {
        Ok(client) => client,
        Err(error) => return findings.add(Id::ClevertapUnreachable, name, error.to_string()),
    };
    let record = Record {
        role: Role::Event,
        user: User::Identity(TEST_USER.into()),
        at: Some(UnixSeconds(now_seconds().cast_signed())),
        content: Content::Event { name: TEST_EVENT.into(), properties: Vec::new() },
    };
    let credentials = Credentials { account_id, passcode };
    let deadline = Instant::now() + UPLOAD_TIMEOUT;
    let body = upload_body(&[&record]);
    let attempt = client.upload(credentials, body, &[Role::Event], deadline).await;
    let (id, what) = judge_upload(&attempt);
    findings.add(id, name, what);
}

fn judge_upload(attempt: &Attempt) -> (Id, String) {
    let (status, response) = match attempt {
        Attempt::Answered { status, response } => (status, response),
        other => return (Id::ClevertapUnreachable, format!("{other:?}")),
    };
    match response {
        Response::Verdicts(verdicts) => match verdicts.first() {
            Some(Verdict::Refused(code)) => {
                let what = format!("record refused with {code}: {}", meaning(*code));
                (Id::ClevertapRefused, what)
            }
            Some(Verdict::Transient(code)) => (Id::ClevertapBusy, format!("code {code}")),
            Some(Verdict::Unnamed) => (Id::ClevertapUnexpected, format!("answers {status}")),
            Some(Verdict::Accepted) | None => {
                let what = "accepts the passcode; nothing was stored";
                (Id::Clevertap, what.to_owned())
            }
        },
        Response::Unauthorized(code) => (Id::ClevertapCredentials, format!("answers {code}")),
        Response::Transient(code) => (Id::ClevertapBusy, format!("answers {code}")),
        Response::Refused(_) | Response::Unclear | Response::CutShort | Response::Unexpected(_) => {
            (Id::ClevertapUnexpected, format!("answers {status}"))
        }
    }
}

/// The clock of a host that answers any request.
pub async fn host_clock(http: &reqwest::Client, host: &str, findings: &mut Findings) {
    let sent = SystemTime::now();
    if let Ok(answer) = http.head(host).timeout(ANSWER_TIMEOUT).send().await {
        clock(host, answer.headers(), sent, findings);
    }
}

/// Posts twice: without a signature, and with a wrong one, which only a function with its secret can refuse.
pub async fn webhook(http: &reqwest::Client, url: &Url, findings: &mut Findings) {
    let (status, answer) = match post(http, url, None, findings).await {
        Ok(answered) => answered,
        Err(error) => {
            return findings.add(
                Id::WebhookUnreachable,
                url.as_str(),
                with_causes(&error.without_url()),
            );
        }
    };
    let what = format!("answers an unsigned request {status} {answer}");
    let body: Value = serde_json::from_str(&answer).unwrap_or_default();
    let is_gateway = body.get("message").or(body.get("Message")).is_some();
    let id = match status {
        401 if body == json!({ "error": "unauthorized" }) => Id::Webhook,
        200 => Id::WebhookUnsigned,
        300..=399 => Id::WebhookRedirect,
        401 => Id::WebhookIntercepted,
        403 => Id::WebhookForbidden,
        404 => Id::WebhookPath,
        429 => Id::WebhookThrottled,
        503 if !is_gateway => Id::WebhookUnavailable,
        500.. => Id::WebhookFailing,
        _ => Id::WebhookUnexpected,
    };
    findings.add(id, url.as_str(), what);
    if id != Id::Webhook {
        return;
    }
    let made_up = format!("{:032x}", fastrand::u128(..));
    let (id, what) = match post(http, url, Some(&made_up), findings).await {
        Ok((401, _)) => (Id::WebhookSecret, "401".to_owned()),
        Ok((503, _)) => (Id::WebhookSecretMissing, "503".to_owned()),
        Ok((status, answer)) => (Id::WebhookSecretUnknown, format!("{status} {answer}")),
        Err(error) => (Id::WebhookSecretUnknown, with_causes(&error.without_url())),
    };
    findings.add(id, url.as_str(), format!("answers a wrong signature {what}"));
}

/// Status and the beginning of the body. The event changes nothing in CleverTap even where signatures
/// are not checked: a tester's purchase without a signed-in user is ignored by default.
async fn post(
    http: &reqwest::Client,
    url: &Url,
    secret: Option<&str>,
    findings: &mut Findings,
) -> reqwest::Result<(u16, String)> {
    let body = json!({
        "event_name": "TRIAL_STARTED",
        "event_id": TEST_USER,
        "environment": "SANDBOX",
        "anonymous_user_id": TEST_USER,
    });
    let body = body.to_string().into_bytes();
    let mut request = http.post(url.clone()).timeout(ANSWER_TIMEOUT);
    if let Some(secret) = secret {
        let webhook = Webhook::new(body.clone(), secret, now_seconds());
        for (name, value) in webhook.headers() {
            request = request.header(name, value);
        }
    }
    let sent = SystemTime::now();
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let response = request.body(body).send().await?;
    clock(url.as_str(), response.headers(), sent, findings);
    let status = response.status().as_u16();
    let text = response.text().await?;
    let shown = text.trim().chars().filter(|c| !c.is_control());
    Ok((status, shown.take(MAX_SHOWN_CHARS).collect()))
}

/// Judges this machine's clock by the first answer with a `Date`.
fn clock(name: &str, headers: &HeaderMap, sent: SystemTime, findings: &mut Findings) {
    let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok());
    let Some(date) = date.map(SystemTime::from) else {
        return;
    };
    if findings.contains_group("Clock") {
        return;
    }
    // The answer was dated between sending and receiving, in whole seconds.
    let is_ahead = sent.duration_since(date + Duration::from_secs(1));
    let is_behind = date.duration_since(SystemTime::now());
    let off = is_ahead.or(is_behind).unwrap_or_default();
    let id = match off {
        off if off > CLOCK_ERROR => Id::ClockWrong,
        off if off > CLOCK_WARNING => Id::ClockOff,
        _ => Id::Clock,
    };
    findings.add(id, name, format!("{} s apart", off.as_secs()));
}
