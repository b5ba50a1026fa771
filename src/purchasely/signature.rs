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
#[strum(serialize_all = "snake_case", prefix = "signature_")]
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
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use http::HeaderValue;

    // The example that Purchasely publishes.
    const SECRET: &str = "foobar";
    const TIMESTAMP: &str = "1698322022";
    const BODY: &[u8] = br#"{"a_random_key":"a_random_value_ad"}"#;
    const SIGNATURE: &str = "f3c2a452e9ea72f41107321aeaf7999f1054148866a710c9b23f9f501785e2a4";
    const NOW: u64 = 1_698_322_022;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn signed(signature: &str, timestamp: &[u8]) -> HeaderMap {
        headers(&[(SIGNATURE_HEADER, signature.as_bytes()), (TIMESTAMP_HEADER, timestamp)])
    }

    /// `Ok`, or the reason's word.
    fn verify(headers: &HeaderMap, secrets: &[&str], body: &[u8]) -> Result<(), &'static str> {
        SignatureHeaders::read(headers)
            .and_then(|read| read.verify(secrets.iter().copied(), None, NOW, body))
            .map(|verified| assert_eq!(verified.bytes(), body))
            .map_err(<&str>::from)
    }

    #[track_caller]
    fn check(headers: &HeaderMap, expected: Result<(), &str>) {
        assert_eq!(verify(headers, &[SECRET], BODY), expected, "{headers:?}");
    }

    #[derive(serde::Deserialize)]
    struct VectorFile {
        now: u64,
        tolerance_seconds: u64,
        vectors: Vec<Vector>,
    }

    #[derive(serde::Deserialize)]
    struct Vector {
        name: String,
        secret: String,
        timestamp: String,
        body: String,
        signature: String,
        /// `valid`, or the reason's word.
        result: String,
    }

    /// Purchasely, openssl and Python made them. `scripts/check_signatures.py` computes them again.
    #[test]
    fn agrees_with_signatures_made_elsewhere() {
        let file = include_str!("../../tests/vectors/signatures.json");
        let VectorFile { now, tolerance_seconds, vectors } = serde_json::from_str(file).unwrap();
        let tolerance = Some(Duration::from_secs(tolerance_seconds));
        for Vector { name, secret, timestamp, body, signature, result } in vectors {
            let body = STANDARD.decode(body).unwrap();
            let verified = SignatureHeaders::read(&signed(&signature, timestamp.as_bytes()))
                .and_then(|read| read.verify([secret.as_str()], tolerance, now, &body));
            let word = verified.map_or_else(<&str>::from, |_| "signature_valid");
            assert_eq!(word, format!("signature_{result}"), "{name}");
            let is_genuine = sign(&secret, &timestamp, &body) == signature.to_lowercase();
            assert!(is_genuine || ["wrong", "malformed"].contains(&result.as_str()), "{name}");
        }
    }

    #[test]
    fn rejects_one_flipped_bit_anywhere() {
        fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
            (0..bytes.len() * 8).map(|bit| {
                let mut bytes = bytes.to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes
            })
        }
        let genuine = signed(SIGNATURE, TIMESTAMP.as_bytes());
        for body in flipped(BODY) {
            assert_eq!(verify(&genuine, &[SECRET], &body), Err("signature_wrong"));
        }
        for mac in flipped(&hex::decode(SIGNATURE).unwrap()) {
            let headers = signed(&hex::encode(mac), TIMESTAMP.as_bytes());
            check(&headers, Err("signature_wrong"));
        }
        for timestamp in flipped(TIMESTAMP.as_bytes()) {
            if HeaderValue::from_bytes(&timestamp).is_ok() {
                let result = verify(&signed(SIGNATURE, &timestamp), &[SECRET], BODY);
                assert!(result.is_err(), "{timestamp:?}");
            }
        }
    }

    #[test]
    fn a_users_digest_is_short_and_differs_by_user_and_secret() {
        // printf user:u-1842 | openssl dgst -sha256 -hmac foobar
        assert_eq!(user_digest(SECRET, "u-1842"), "9a3a251cf96fa271");
        assert_ne!(user_digest(SECRET, "u-1842"), user_digest(SECRET, "u-1843"));
        assert_ne!(user_digest(SECRET, "u-1842"), user_digest("other", "u-1842"));
    }

    #[test]
    fn whoever_knows_digests_cannot_sign_with_them() {
        let digest = user_digest(SECRET, "u-1842");
        for (timestamp, body) in [("user:", "u-1842"), ("user:u-1842", ""), ("", "user:u-1842")] {
            let signature = sign(SECRET, timestamp, body.as_bytes());
            assert!(signature.starts_with(&digest));
            check(&signed(&signature, timestamp.as_bytes()), Err("signature_malformed"));
        }
    }

    #[test]
    fn accepts_any_known_secret_but_an_empty_one() {
        let with_foobar = signed(SIGNATURE, TIMESTAMP.as_bytes());
        let with_nothing = signed(&sign("", TIMESTAMP, BODY), TIMESTAMP.as_bytes());
        for (headers, secrets, expected) in [
            (&with_foobar, &["newer", SECRET][..], Ok(())),
            (&with_foobar, &["newer"], Err("signature_wrong")),
            (&with_foobar, &[], Err("signature_wrong")),
            (&with_nothing, &[""], Err("signature_wrong")),
        ] {
            assert_eq!(verify(headers, secrets, BODY), expected, "{secrets:?}");
        }
    }

    #[test]
    fn rejects_missing_and_repeated_headers() {
        for name in [SIGNATURE_HEADER, TIMESTAMP_HEADER] {
            let mut headers = signed(SIGNATURE, TIMESTAMP.as_bytes());
            let value = headers.remove(name).unwrap();
            check(&headers, Err("signature_missing"));
            headers.append(name, value.clone());
            headers.append(name, value);
            check(&headers, Err("signature_repeated"));
        }
        let joined = format!("{SIGNATURE},{SIGNATURE}");
        let joined = signed(&joined, TIMESTAMP.as_bytes());
        check(&joined, Err("signature_repeated"));
        let deprecated = headers(&[
            (DEPRECATED_HEADER, SIGNATURE.as_bytes()),
            (TIMESTAMP_HEADER, TIMESTAMP.as_bytes()),
        ]);
        check(&deprecated, Err("signature_deprecated"));
    }

    #[test]
    fn the_age_of_a_correct_signature_is_limited_whatever_the_clock_says() {
        let read = SignatureHeaders::read(&signed(SIGNATURE, TIMESTAMP.as_bytes())).unwrap();
        for (now, secret, expected) in [
            (NOW, SECRET, Ok(BODY)),
            (0, SECRET, Err("signature_too_old")),
            (u64::MAX, SECRET, Err("signature_too_old")),
            (0, "other", Err("signature_wrong")),
        ] {
            let tolerance = Some(Duration::from_mins(5));
            let result = read.verify([secret], tolerance, now, BODY);
            let result = result.map(Verified::bytes).map_err(<&str>::from);
            assert_eq!(result, expected, "{now} {secret}");
        }
    }
}
