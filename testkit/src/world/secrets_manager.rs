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

const GET_SECRET_VALUE: &str = "secretsmanager.GetSecretValue";
/// How every Signature Version 4 header starts.
const SIGNATURE_SCHEME: &str = "AWS4-HMAC-SHA256 ";
const AWS_JSON: &str = "application/x-amz-json-1.1";
const ARN_PREFIX: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:";

/// A service with one secret. Clones are the same one.
#[derive(Clone)]
pub struct SecretsManager(Arc<State>);

struct State {
    secret_id: String,
    /// The current value, and the number of its version.
    secret: Mutex<(String, u64)>,
}

impl SecretsManager {
    /// It knows `secret_id`, a name or an ARN, with `value` as its `SecretString`.
    pub fn new(secret_id: &str, value: &str) -> Self {
        Self(Arc::new(State {
            secret_id: secret_id.to_owned(),
            secret: Mutex::new((value.to_owned(), 1)),
        }))
    }

    /// Makes `value` the current version of the secret.
    pub fn set_value(&self, value: &str) {
        let mut secret = self.0.secret.lock().unwrap();
        *secret = (value.to_owned(), secret.1 + 1);
    }

    fn get_secret_value(&self, request: &Request<Bytes>) -> Ending {
        let authorization = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        if !authorization.is_some_and(|value| value.starts_with(SIGNATURE_SCHEME)) {
            let code = "MissingAuthenticationTokenException";
            return refusal(400, code, "Missing Authentication Token");
        }
        if request.method() != Method::POST || operation(request) != GET_SECRET_VALUE {
            let message = "Only GetSecretValue is known.";
            return refusal(400, "UnknownOperationException", message);
        }
        let input: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let Some(id) = input["SecretId"].as_str() else {
            return refusal(400, "ValidationException", "SecretId is missing.");
        };
        if id != self.0.secret_id {
            let message = "Secrets Manager can't find the specified secret.";
            return refusal(400, "ResourceNotFoundException", message);
        }
        let arn = if id.starts_with("arn:") {
            id.to_owned()
        } else {
            format!("{ARN_PREFIX}{id}-AbCdEf")
        };
        let (value, version) = &*self.0.secret.lock().unwrap();
        let body = json!({
            "ARN": arn,
            "CreatedDate": 1_772_439_330.0,
            "Name": name(id),
            "SecretString": value,
            // AWS gives every version an id of its own, of 32 to 64 characters.
            "VersionId": format!("00000000-0000-4000-8000-{version:012}"),
            "VersionStages": ["AWSCURRENT"],
        });
        Ending::answer(200, AWS_JSON, body.to_string())
    }
}

impl Service for SecretsManager {
    async fn answer(self, request: Request<Bytes>) -> Ending {
        self.get_secret_value(&request)
    }
}

/// The secret's name: an ARN ends in the name, a hyphen and six characters that AWS adds.
fn name(secret_id: &str) -> &str {
    if !secret_id.starts_with("arn:") {
        return secret_id;
    }
    let (_, resource) = secret_id.rsplit_once(':').unwrap_or(("", secret_id));
    resource.rsplit_once('-').map_or(resource, |(name, _)| name)
}

/// An error in the shape of AWS JSON 1.1.
fn refusal(status: u16, code: &str, message: &str) -> Ending {
    let body = json!({ "__type": code, "Message": message });
    Ending::answer(status, AWS_JSON, body.to_string())
}
