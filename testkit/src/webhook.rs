//! A signed webhook, as Purchasely would post it and as API Gateway would hand it to the function.
//! It does not know who accepts it.

use base64::{Engine, engine::general_purpose::STANDARD};
use purchasely_clevertap::http::roots;
use purchasely_clevertap::purchasely::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The shared secret of `cargo relay dev` and of the envelopes in `events/api-gateway`. It protects nothing.
pub const SAMPLE_SHARED_SECRET: &str = "sample-shared-secret";

/// A sample of each payload version, of which [`Webhook::envelope`] keeps what is the same for all webhooks.
const HTTP_API: &str = include_str!("../../events/api-gateway/TRIAL_STARTED.http-api.json");
const REST_API: &str =
    include_str!("../../events/api-gateway/SUBSCRIPTION_TERMINATED.rest-api.json");

/// A raw body with the two headers that go with it.
pub struct Webhook {
    body: Vec<u8>,
    signature: String,
    timestamp: String,
    signed_at_seconds: u64,
}

/// A client that trusts the public roots and follows no redirect: only the endpoint itself may acknowledge a webhook.
pub fn http_client() -> Result<reqwest::ClientBuilder, rustls::Error> {
    let roots = roots(None).expect("the compiled-in roots");
    http_client_trusting(roots)
}

/// The same with other roots.
pub fn http_client_trusting(
    roots: rustls::RootCertStore,
) -> Result<reqwest::ClientBuilder, rustls::Error> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never()))
}

/// The form in which the service in front invokes the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// An HTTP API of API Gateway or a Function URL: payload version 2.0.
    HttpApi,
    /// The same, with the body in base64, as it comes for a content type that is not text.
    HttpApiBase64,
    /// A REST API of API Gateway: payload version 1.0.
    RestApi,
}

impl Front {
    /// The fields with the time of a request, as a text and in milliseconds.
    pub fn times(self) -> [&'static str; 2] {
        match self {
            Self::RestApi => ["requestTime", "requestTimeEpoch"],
            Self::HttpApi | Self::HttpApiBase64 => ["time", "timeEpoch"],
        }
    }
}

impl Webhook {
    /// Signs a body as at `signed_at_seconds` (Unix).
    pub fn new(body: Vec<u8>, secret: &str, signed_at_seconds: u64) -> Self {
        let timestamp = signed_at_seconds.to_string();
        Self {
            signature: sign(secret, &timestamp, &body),
            body,
            timestamp,
            signed_at_seconds,
        }
    }

    /// The headers that Purchasely documents.
    pub fn headers(&self) -> [(&'static str, &str); 3] {
        [
            ("accept", "application/json"),
            (SIGNATURE_HEADER, &self.signature),
            (TIMESTAMP_HEADER, &self.timestamp),
        ]
    }

    /// The event that the service in front would invoke the function with. Deterministic.
    pub fn envelope(&self, front: Front) -> Value {
        let is_rest = front == Front::RestApi;
        let sample = if is_rest { REST_API } else { HTTP_API };
        let mut envelope: Value = serde_json::from_str(sample).expect("JSON");
        for (name, value) in self.headers() {
            envelope["headers"][name] = json!(value);
            if is_rest {
                envelope["multiValueHeaders"][name] = json!([value]);
            }
        }
        let [time, epoch] = front.times();
        let seconds = i64::try_from(self.signed_at_seconds).unwrap_or_default();
        let moment = OffsetDateTime::from_unix_timestamp(seconds).ok();
        let text = moment.and_then(|moment| moment.format(&Rfc3339).ok());
        envelope["requestContext"][time] = json!(text.unwrap_or_default());
        envelope["requestContext"][epoch] = json!(self.signed_at_seconds * 1000);
        let is_base64 = front == Front::HttpApiBase64;
        envelope["isBase64Encoded"] = json!(is_base64);
        envelope["body"] = if is_base64 {
            json!(STANDARD.encode(&self.body))
        } else {
            json!(String::from_utf8_lossy(&self.body))
        };
        envelope
    }
}
