//! An AWS Secrets Manager with one secret, which answers `GetSecretValue`.
//! It does not know what the secret is for, and of a request's signature only that there is one.
//!
//! The shapes follow <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>.

use super::service::{Ending, Service, operation};
use bytes::Bytes;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// How every Signature Version 4 header starts.
const SIGNATURE_SCHEME: &[u8] = b"AWS4-HMAC-SHA256 ";

/// A service with one secret. Clones are the same one.
#[derive(Clone)]
pub struct SecretsManager {
    secret_id: String,
    /// The current value.
    secret: Arc<Mutex<String>>,
}

impl SecretsManager {
    /// It knows `secret_id`, a name or an ARN, with `value` as its `SecretString`.
    pub fn new(secret_id: &str, value: &str) -> Self {
        Self {
            secret_id: secret_id.to_owned(),
            secret: Arc::new(Mutex::new(value.to_owned())),
        }
    }

    /// Makes `value` the current version of the secret.
    pub fn set_value(&self, value: &str) {
        *self.secret.lock().unwrap() = value.to_owned();
    }

    /// The answer, or the code of an error.
    fn get_secret_value(&self, request: &Request<Bytes>) -> Result<Value, &'static str> {
        let input: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let authorization = request.headers().get(AUTHORIZATION);
        if !authorization.is_some_and(|value| value.as_bytes().starts_with(SIGNATURE_SCHEME)) {
            Err("MissingAuthenticationTokenException")
        } else if request.method() != Method::POST
            || operation(request) != "secretsmanager.GetSecretValue"
        {
            Err("UnknownOperationException")
        } else if !input["SecretId"].is_string() {
            Err("ValidationException")
        } else if input["SecretId"] != *self.secret_id {
            Err("ResourceNotFoundException")
        } else {
            Ok(json!({
                "CreatedDate": 1_772_439_330.0,
                "Name": self.secret_id,
                "SecretString": *self.secret.lock().unwrap(),
                "VersionStages": ["AWSCURRENT"],
            }))
        }
    }
}

impl Service for SecretsManager {
    async fn answer(self, request: Request<Bytes>) -> Ending {
        let (status, body) = match self.get_secret_value(&request) {
            Ok(body) => (200, body),
            Err(code) => (400, json!({ "__type": code, "Message": "as the service says" })),
        };
        Ending::answer(status, "application/x-amz-json-1.1", body.to_string())
    }
}
