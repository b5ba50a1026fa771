//! What the webhook's address answers: to a request without a signature, and to one with a wrong one.
//! It does not know what serves the address.

use crate::clock::Reading;
use crate::finding::{Check, Findings};
use crate::webhook::Webhook;
use reqwest::Url;
use serde_json::{Value, json};
use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// API Gateway answers within 9.5 s.
const PATIENCE: Duration = Duration::from_secs(15);
const LONGEST_DETAIL: usize = 200;
/// The path that the template serves.
const PATH: &str = "/webhooks/purchasely";

struct Answered {
    status: u16,
    body: Value,
    /// The body as far as it is shown.
    shown: String,
}

/// Posts to the address twice. What comes back of the clocks is returned.
pub async fn check(http: &reqwest::Client, url: &Url, findings: &mut Findings) -> Option<Reading> {
    let asked = SystemTime::now();
    let unsigned = http.post(url.clone()).body(body());
    let (answered, reading) = match post(unsigned, asked, url).await {
        Ok(answered) => answered,
        Err(error) => {
            findings.error(
                Check::Webhook,
                format!("{url} does not answer: {}", chain(&error.without_url())),
                "check the address letter by letter, and this machine's network; the stack's output WebhookUrl, or `aws lambda get-function-url-config`, has the right one",
            );
            return None;
        }
    };
    judge_unsigned(url, &answered, findings);
    if findings.is_clean(Check::Webhook) {
        check_secret(http, url, findings).await;
    }
    reading
}

/// A signature that is wrong can only be refused with the right one at hand.
async fn check_secret(http: &reqwest::Client, url: &Url, findings: &mut Findings) {
    let made_up = format!("{:032x}", fastrand::u128(..));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let webhook = Webhook::new(body(), &made_up, now.unwrap_or_default().as_secs());
    let mut signed = http.post(url.clone()).body(body());
    for (name, value) in webhook.headers() {
        signed = signed.header(name, value);
    }
    match post(signed, SystemTime::now(), url).await {
        Ok((Answered { status: 401, .. }, _)) => findings.ok(
            Check::WebhookSecret,
            "a wrong signature is answered 401: the function has its secret",
        ),
        Ok((Answered { status: 503, .. }, _)) => findings.error(
            Check::WebhookSecret,
            "a wrong signature is answered 503: the function runs and has no secret",
            "put the secret; else check SECRET_ID and the role's secretsmanager:GetSecretValue: the log's line before `secret_unavailable` says which",
        ),
        Ok((Answered { status, shown, .. }, _)) => findings.warning(
            Check::WebhookSecret,
            format!("a wrong signature is answered {status}: {shown}"),
            "look the request up in the log; expected is 401",
        ),
        Err(error) => findings.warning(
            Check::WebhookSecret,
            format!("no answer to a wrong signature: {}", chain(&error.without_url())),
            "run it again; if it stays, look the request up in the log",
        ),
    }
}

/// An event that changes nothing in CleverTap even where signatures are not checked: by default both
/// a tester's purchase and a buyer who is not signed in are ignored.
fn body() -> Vec<u8> {
    json!({
        "event_name": "TRIAL_STARTED",
        "event_id": "purchasely-clevertap-doctor",
        "environment": "SANDBOX",
        "anonymous_user_id": "purchasely-clevertap-doctor",
    })
    .to_string()
    .into_bytes()
}

async fn post(
    request: reqwest::RequestBuilder,
    asked: SystemTime,
    url: &Url,
) -> Result<(Answered, Option<Reading>), reqwest::Error> {
    let response = request
        .header(http::header::CONTENT_TYPE, "application/json")
        .timeout(PATIENCE)
        .send()
        .await?;
    let reading = Reading::of(url.host_str().unwrap_or_default(), &response, asked);
    let status = response.status().as_u16();
    let text = response.text().await?;
    let plain = text.trim().chars().filter(|c| !c.is_control());
    let answered = Answered {
        status,
        body: serde_json::from_str(&text).unwrap_or_default(),
        shown: plain.take(LONGEST_DETAIL).collect(),
    };
    Ok((answered, reading))
}

fn judge_unsigned(url: &Url, answered: &Answered, findings: &mut Findings) {
    let Answered {
        status,
        body,
        shown,
    } = answered;
    if *status == 401 && *body == json!({ "error": "unauthorized" }) {
        let what = format!("{url} answers an unsigned request 401");
        return findings.ok(Check::Webhook, what);
    }
    let from_gateway = body.get("message").or(body.get("Message")).is_some();
    let wrong_path = format!(
        "with SAM the path is {PATH}: take the stack's output WebhookUrl as it is; behind a Function URL every path is served"
    );
    let (meaning, fix) = match status {
        200 => (
            "it takes unsigned requests, or this is not the function",
            "set PURCHASELY_SIGNATURE=required unless your sender cannot sign; else correct the address",
        ),
        300..=399 => (
            "it redirects, and Purchasely does not follow",
            "give Purchasely the address that it redirects to, beginning with https",
        ),
        401 => (
            "something before the function refuses, not the function",
            "remove the authorizer or proxy in front: the signature is the authentication",
        ),
        403 => (
            "AWS refuses before the function runs",
            "a Function URL needs AuthType NONE and two permissions for everyone, lambda:InvokeFunctionUrl and lambda:InvokeFunction: deploy again with cargo lambda 1.9.2 or later; else look for a firewall (WAF) or a resource policy",
        ),
        404 => ("there is no such path", wrong_path.as_str()),
        405 => (
            "the POST arrived as something else",
            "find the proxy or redirect in front that changes the method",
        ),
        429 => (
            "it is throttled",
            "run it again; if it stays, raise ThrottlingRate, or the account's or the function's concurrency",
        ),
        503 if !from_gateway => (
            "the function runs and could not answer",
            "look at the log line: with `secret_unavailable` put the secret, or give the role secretsmanager:GetSecretValue",
        ),
        500.. => (
            "the function could not start or run",
            "look in its log for `the settings cannot be used`; else for a wrong architecture or a timeout",
        ),
        _ => (
            "this is not the function's answer",
            "compare the address with the stack's output WebhookUrl or the Function URL",
        ),
    };
    findings.error(
        Check::Webhook,
        format!("{url} answers an unsigned request {status} ({shown}): {meaning}"),
        fix,
    );
}

/// An error with all its causes: where a request got stuck is mostly in the last of them.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut told: Vec<_> = causes.map(ToString::to_string).collect();
    told.dedup();
    told.join(": ")
}
