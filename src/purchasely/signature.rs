//! What Purchasely's client shared secret is the key of: a webhook's signature, and the digest of a user's id.
//!
//! It does not know where headers, secrets and the time come from; all of them are arguments.
//! Purchasely sends `HMAC-SHA256(secret, timestamp header + raw body)` in hex
//! (<https://docs.purchasely.com/docs/webhook-1>, "Security").

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;
use std::time::Duration;

/// The signature: 64 hex digits.
pub const SIGNATURE_HEADER: &str = "x-purchasely-request-signature";
/// The time of signing: Unix seconds in ten digits, until the year 2286.
pub const TIMESTAMP_HEADER: &str = "x-purchasely-timestamp";
/// The older signature, which does not cover the body.
const DEPRECATED_HEADER: &str = "x-purchasely-signature";

/// The raw body of a verified webhook. Only this can be parsed into an event.
#[derive(Debug, Clone, Copy)]
pub struct Verified<'b>(&'b [u8]);

impl<'b> Verified<'b> {
    /// Trusts a body without a signature: `PURCHASELY_SIGNATURE=off`, or a message of our own queue.
    #[must_use]
    pub fn unsigned(body: &'b [u8]) -> Self {
        Self(body)
    }

    #[must_use]
    pub fn bytes(self) -> &'b [u8] {
        self.0
    }
}

/// Why a webhook is not verified. It is logged, but not part of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", prefix = "signature_", const_into_str)]
pub enum InvalidSignature {
    #[error("X-PURCHASELY-REQUEST-SIGNATURE or X-PURCHASELY-TIMESTAMP is missing")]
    Missing,
    #[error("only the deprecated X-PURCHASELY-SIGNATURE is present, which does not cover the body")]
    Deprecated,
    #[error("X-PURCHASELY-REQUEST-SIGNATURE or X-PURCHASELY-TIMESTAMP is present more than once")]
    Repeated,
    #[error(
        "the signature is not 64 hex digits or the timestamp is not ten digits of Unix seconds"
    )]
    Malformed,
    #[error("the signature does not match any client shared secret in the secret")]
    #[strum(serialize = "wrong")]
    Mismatch,
    #[error(
        "the signature matches but is older than PURCHASELY_SIGNATURE_TOLERANCE_SECONDS, or from the future"
    )]
    #[strum(serialize = "too_old")]
    OutsideTolerance,
}

/// The signature headers of a request: well formed, not yet verified.
#[derive(Debug)]
pub struct SignatureHeaders {
    mac: [u8; 32],
    timestamp: String,
    signed_at_seconds: u64,
}

impl SignatureHeaders {
    pub fn read(headers: &HeaderMap) -> Result<Self, InvalidSignature> {
        let signature = match single(headers, SIGNATURE_HEADER) {
            Err(InvalidSignature::Missing) if headers.contains_key(DEPRECATED_HEADER) => {
                return Err(InvalidSignature::Deprecated);
            }
            other => other?,
        };
        let timestamp = single(headers, TIMESTAMP_HEADER)?;
        let malformed = || InvalidSignature::Malformed;
        let mut mac = [0; 32];
        hex::decode_to_slice(signature, &mut mac).map_err(|_| malformed())?;
        // Of another length, digits could move between the timestamp and a body that begins with some.
        if timestamp.len() != 10 || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        Ok(Self {
            mac,
            timestamp: timestamp.to_owned(),
            signed_at_seconds: timestamp.parse().map_err(|_| malformed())?,
        })
    }

    /// Compares the signature with that of each secret, in constant time, and then checks its age.
    ///
    /// An empty secret never matches. `tolerance` is the maximum difference between `now_seconds` (Unix)
    /// and the time of signing, in either direction; `None` is no limit.
    pub fn verify<'b, 's>(
        &self,
        secrets: impl IntoIterator<Item = &'s str>,
        tolerance: Option<Duration>,
        now_seconds: u64,
        body: &'b [u8],
    ) -> Result<Verified<'b>, InvalidSignature> {
        let mut secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
        let matches = secrets.any(|secret| {
            let mac = keyed(secret).chain_update(&self.timestamp).chain_update(body);
            mac.verify_slice(&self.mac).is_ok()
        });
        if !matches {
            return Err(InvalidSignature::Mismatch);
        }
        // Only a timestamp that the signature covers can be trusted.
        let age = Duration::from_secs(now_seconds.abs_diff(self.signed_at_seconds));
        if tolerance.is_some_and(|tolerance| age > tolerance) {
            return Err(InvalidSignature::OutsideTolerance);
        }
        Ok(Verified(body))
    }
}

/// The signature that Purchasely would send for this body, in lower-case hex.
#[must_use]
pub fn sign(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let mac = keyed(secret).chain_update(timestamp).chain_update(body);
    hex::encode(mac.finalize().into_bytes())
}

/// The user's name in the log: 16 hex digits, which tell nothing about the id without the secret.
///
/// It says nothing about any signature either, because a signed message starts with a digit of its timestamp.
#[must_use]
pub fn user_digest(secret: &str, user_id: &str) -> String {
    let mac = keyed(secret).chain_update("user:").chain_update(user_id);
    hex::encode(&mac.finalize().into_bytes()[..8])
}

fn keyed(secret: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length")
}

/// The value of a header that must be present once.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, InvalidSignature> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(InvalidSignature::Missing)?;
    match value.to_str() {
        _ if values.next().is_some() => Err(InvalidSignature::Repeated),
        Err(_) => Err(InvalidSignature::Malformed),
        // API Gateway's payload 2.0 joins the values of a repeated header with a comma.
        Ok(value) if value.contains(',') => Err(InvalidSignature::Repeated),
        Ok(value) => Ok(value),
    }
}

#[cfg(test)]
mod tests;
