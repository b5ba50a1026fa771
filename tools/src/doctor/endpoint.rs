//! What answers over HTTP: the webhook's address, and CleverTap to the read of a profile. The `Date` of an
//! answer is compared with this machine's clock. It does not know what serves an address.

use super::finding::{Findings, Id};
use crate::destination::{printable, with_causes};
use http::{HeaderMap, HeaderValue, header};
use purchasely_clevertap::clevertap::response::{Response, by_code};
use purchasely_clevertap::forward::NOT_FORWARDED;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime};
use testkit::harness::now_seconds;
use testkit::webhook::Webhook;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// API Gateway answers within 9.5 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// From here on a signature with a short tolerance is refused.
const CLOCK_WARNING: Duration = Duration::from_mins(1);
/// From here on AWS refuses what this machine signs.
const CLOCK_ERROR: Duration = Duration::from_mins(5);
/// A user whom nobody has.
pub const TEST_USER: &str = "purchasely-clevertap-doctor";

/// Reads a user's profile, which proves that region, account id and passcode belong together. Returns its
/// properties, of which an unknown user has none; `None` if CleverTap does not say.
///
/// CleverTap does not document its answer for an unknown user
/// (<https://developer.clevertap.com/docs/get-user-profiles-api>), so each of its answers to whoever has the
/// passcode proves the same.
pub async fn clevertap(
    http: &reqwest::Client,
    host: &str,
    (account_id, passcode): (&HeaderValue, &SecretString),
    user: (&str, &str),
    findings: &mut Findings,
) -> Option<Map<String, Value>> {
    let account = String::from_utf8_lossy(account_id.as_bytes());
    let name = format!("account {account} at {host}");
    // The secret was validated when it was read. Should this fail, CleverTap's 401 says so.
    let mut passcode =
        HeaderValue::from_str(passcode.expose_secret()).unwrap_or(HeaderValue::from_static(""));
    passcode.set_sensitive(true);
    let url = Url::parse_with_params(&format!("{host}/1/profile.json"), [user]);
    let url = url.expect("a configured host is the beginning of a URL");
    let request = http.get(url).timeout(ANSWER_TIMEOUT);
    let request = request.header("x-clevertap-account-id", account_id);
    let request = request.header("x-clevertap-passcode", passcode);
    let answered = async {
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.text().await?))
    };
    let (status, body) = match answered.await {
        Ok(answered) => answered,
        Err(error) => {
            let error: reqwest::Error = error;
            let what = with_causes(&error.without_url());
            findings.add(Id::ClevertapUnreachable, name, what);
            return None;
        }
    };
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let is_clevertap = body["status"].is_string();
    let id = match (status, by_code(status)) {
        (200 | 404, _) if is_clevertap => Id::Clevertap,
        (401 | 403, _) => Id::ClevertapCredentials,
        (_, Some(Response::Transient(_))) => Id::ClevertapBusy,
        _ => Id::ClevertapUnexpected,
    };
    if id != Id::Clevertap {
        findings.add(id, name, format!("answers {status}"));
        return None;
    }
    findings.add(id, name, "accepts the passcode");
    Some(body["record"]["profileData"].as_object().cloned().unwrap_or_default())
}

/// The clock of a host that answers any request.
pub async fn host_clock(http: &reqwest::Client, host: &str, findings: &mut Findings) {
    let sent = SystemTime::now();
    if let Ok(answer) = http.head(host).timeout(ANSWER_TIMEOUT).send().await {
        clock(host, answer.headers(), sent, findings);
    }
}

/// Whether the operator's backend answers. It is sent no webhook, and only its host may be shown.
pub async fn backend(http: &reqwest::Client, url: Url, findings: &mut Findings) {
    let host = url.host_str().unwrap_or_default().to_owned();
    match http.head(url).timeout(ANSWER_TIMEOUT).send().await {
        Ok(answer) => {
            findings.add(Id::Backend, host, format!("answers a HEAD request {}", answer.status()));
        }
        Err(error) => {
            findings.add(Id::BackendUnreachable, host, with_causes(&error.without_url()));
        }
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
    let request = request.header(NOT_FORWARDED, "true");
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let response = request.body(body).send().await?;
    clock(url.as_str(), response.headers(), sent, findings);
    let status = response.status().as_u16();
    let text = response.text().await?;
    Ok((status, printable(&text)))
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
