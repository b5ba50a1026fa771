//! A signed webhook, as Purchasely would post it and as API Gateway would hand it to the function.
//! It does not know who accepts it.

use base64::{Engine, engine::general_purpose::STANDARD};
use purchasely_clevertap::http::roots;
use purchasely_clevertap::purchasely::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The shared secret of `cargo relay dev` and of the envelopes in `events/api-gateway`. It protects nothing.
pub const SAMPLE_SHARED_SECRET: &str = "sample-shared-secret";

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
        let text = String::from_utf8_lossy(&self.body);
        match front {
            Front::HttpApi => self.payload_2(&text, false),
            Front::HttpApiBase64 => self.payload_2(&STANDARD.encode(&self.body), true),
            Front::RestApi => self.payload_1(&text),
        }
    }

    /// Posts it; the client decides on the timeout.
    pub async fn post(&self, http: &reqwest::Client, url: &str) -> reqwest::Result<(u16, String)> {
        let mut request = http.post(url).body(self.body.clone());
        for (name, value) in self.headers() {
            request = request.header(name, value);
        }
        let response = request.send().await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    fn payload_2(&self, body: &str, in_base64: bool) -> Value {
        let domain = "abc123.execute-api.eu-west-1.amazonaws.com";
        let mut headers: Map<_, _> = self.headers().map(named).into_iter().collect();
        headers.insert("host".to_owned(), json!(domain));
        json!({
            "version": "2.0",
            "routeKey": "POST /webhooks/purchasely",
            "rawPath": "/webhooks/purchasely",
            "rawQueryString": "",
            "headers": headers,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "abc123",
                "domainName": domain,
                "domainPrefix": "abc123",
                "http": {
                    "method": "POST",
                    "path": "/webhooks/purchasely",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                    "userAgent": "sample",
                },
                "requestId": "sample-request",
                "routeKey": "POST /webhooks/purchasely",
                "stage": "$default",
                "time": self.signed_at(),
                "timeEpoch": self.signed_at_seconds * 1000,
            },
            "body": body,
            "isBase64Encoded": in_base64,
        })
    }

    fn payload_1(&self, body: &str) -> Value {
        let headers: Map<_, _> = self.headers().map(named).into_iter().collect();
        let multi_value_headers: Map<_, _> = self
            .headers()
            .map(|(name, value)| (name.to_owned(), json!([value])))
            .into_iter()
            .collect();
        json!({
            "version": "1.0",
            "resource": "/webhooks/purchasely",
            "path": "/webhooks/purchasely",
            "httpMethod": "POST",
            "headers": headers,
            "multiValueHeaders": multi_value_headers,
            "queryStringParameters": null,
            "multiValueQueryStringParameters": null,
            "pathParameters": null,
            "stageVariables": null,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "abc123",
                "httpMethod": "POST",
                "identity": { "sourceIp": "192.0.2.1", "userAgent": "sample" },
                "path": "/prod/webhooks/purchasely",
                "protocol": "HTTP/1.1",
                "requestId": "sample-request",
                "requestTime": self.signed_at(),
                "requestTimeEpoch": self.signed_at_seconds * 1000,
                "resourcePath": "/webhooks/purchasely",
                "stage": "prod",
            },
            "body": body,
            "isBase64Encoded": false,
        })
    }

    fn signed_at(&self) -> String {
        let seconds = i64::try_from(self.signed_at_seconds).unwrap_or_default();
        let moment = OffsetDateTime::from_unix_timestamp(seconds);
        moment.ok().and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_default()
    }
}

fn named((name, value): (&'static str, &str)) -> (String, Value) {
    (name.to_owned(), json!(value))
}
