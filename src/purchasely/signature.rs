//! Decides whether a webhook was sent by the holder of Purchasely's client shared secret.
//!
//! Pure: headers, secrets, body and clock come in as values. It does not know where they come from.
//!
//! Purchasely signs `HMAC-SHA256(secret, timestamp header + raw body)` and sends it as hex
//! (<https://docs.purchasely.com/docs/webhook-1>, "Security").

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;
use std::time::Duration;

/// Carries the signature: 64 hex digits.
pub const SIGNATURE_HEADER: &str = "x-purchasely-request-signature";
/// Carries the time of signing: Unix seconds.
pub const TIMESTAMP_HEADER: &str = "x-purchasely-timestamp";
/// The older signature does not cover the body, so it proves nothing about it.
const DEPRECATED_HEADER: &str = "x-purchasely-signature";

/// The raw body of a webhook that may be believed. Only this can be parsed into an event.
#[derive(Debug, Clone, Copy)]
pub struct Verified<'b>(&'b [u8]);

impl<'b> Verified<'b> {
    /// Believes a body without proof, for a sender that cannot sign (`PURCHASELY_SIGNATURE=off`).
    #[must_use]
    pub fn unsigned(body: &'b [u8]) -> Self {
        Self(body)
    }

    /// The raw bytes.
    #[must_use]
    pub fn bytes(self) -> &'b [u8] {
        self.0
    }
}

/// Why a webhook is not believed. The sender is told none of this; the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", prefix = "signature_")]
pub enum InvalidSignature {
    /// A signature or timestamp header is absent.
    #[error("the signature or its timestamp is missing")]
    Missing,
    /// Only the deprecated header is there.
    #[error("only the deprecated X-PURCHASELY-SIGNATURE is present, which does not cover the body")]
    Deprecated,
    /// A header came more than once, so that it is unclear which one counts.
    #[error("the signature or its timestamp came more than once")]
    Repeated,
    /// Not 64 hex digits, or a timestamp that is not a number of seconds.
    #[error("the signature is not 64 hex digits or its timestamp is not in Unix seconds")]
    Malformed,
    /// No known secret gives this signature.
    #[error("no known client shared secret gives this signature")]
    #[strum(serialize = "wrong")]
    Mismatch,
    /// Rightly signed, but outside `PURCHASELY_SIGNATURE_TOLERANCE_SECONDS`.
    #[error("the signature is right but its timestamp is outside the tolerance")]
    #[strum(serialize = "too_old")]
    OutsideTolerance,
}

/// The signature that a request presents, well formed but not yet checked.
#[derive(Debug)]
pub struct SignatureHeaders {
    mac: [u8; 32],
    timestamp: String,
    signed_at_seconds: u64,
}

impl SignatureHeaders {
    /// Reads the two headers.
    pub fn read(headers: &HeaderMap) -> Result<Self, InvalidSignature> {
        let signature = match single(headers, SIGNATURE_HEADER) {
            Err(InvalidSignature::Missing) if headers.contains_key(DEPRECATED_HEADER) => {
                return Err(InvalidSignature::Deprecated);
            }
            other => other?,
        };
        let timestamp = single(headers, TIMESTAMP_HEADER)?;
        let mut mac = [0; 32];
        hex::decode_to_slice(signature, &mut mac).map_err(|_| InvalidSignature::Malformed)?;
        // `u64::from_str` would take a leading plus sign.
        if !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidSignature::Malformed);
        }
        let signed_at_seconds = timestamp.parse().map_err(|_| InvalidSignature::Malformed)?;
        Ok(Self {
            mac,
            timestamp: timestamp.to_owned(),
            signed_at_seconds,
        })
    }

    /// Checks the signature against each secret in turn, in constant time, and then its age.
    ///
    /// An empty secret never matches. `tolerance` is the greatest distance allowed between
    /// `now_seconds` (Unix) and the time of signing, either way; `None` is no limit.
    pub fn verify<'b, 's>(
        &self,
        secrets: impl IntoIterator<Item = &'s str>,
        tolerance: Option<Duration>,
        now_seconds: u64,
        body: &'b [u8],
    ) -> Result<Verified<'b>, InvalidSignature> {
        let known = secrets
            .into_iter()
            .filter(|secret| !secret.is_empty())
            .any(|secret| {
                keyed(secret)
                    .chain_update(&self.timestamp)
                    .chain_update(body)
                    .verify_slice(&self.mac)
                    .is_ok()
            });
        if !known {
            return Err(InvalidSignature::Mismatch);
        }
        // The age is judged only after the signature, so that it means something.
        let age = Duration::from_secs(now_seconds.abs_diff(self.signed_at_seconds));
        if tolerance.is_some_and(|tolerance| age > tolerance) {
            return Err(InvalidSignature::OutsideTolerance);
        }
        Ok(Verified(body))
    }
}

/// The signature Purchasely would send for this body: lower-case hex.
#[must_use]
pub fn sign(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let mac = keyed(secret).chain_update(timestamp).chain_update(body);
    hex::encode(mac.finalize().into_bytes())
}

fn keyed(secret: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length")
}

fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, InvalidSignature> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(InvalidSignature::Missing),
        (Some(_), Some(_)) => Err(InvalidSignature::Repeated),
        (Some(value), None) => match value.to_str() {
            Err(_) => Err(InvalidSignature::Malformed),
            // API Gateway's payload 2.0 joins a repeated header with a comma.
            Ok(value) if value.contains(',') => Err(InvalidSignature::Repeated),
            Ok(value) => Ok(value),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    // The vector that Purchasely publishes.
    const SECRET: &str = "foobar";
    const TIMESTAMP: &str = "1698322022";
    const BODY: &[u8] = br#"{"a_random_key":"a_random_value_ad"}"#;
    const SIGNATURE: &str = "f3c2a452e9ea72f41107321aeaf7999f1054148866a710c9b23f9f501785e2a4";
    const NOW: u64 = 1_698_322_022;

    fn headers(signature: &str, timestamp: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE_HEADER, HeaderValue::from_str(signature).unwrap());
        headers.insert(TIMESTAMP_HEADER, HeaderValue::from_str(timestamp).unwrap());
        headers
    }

    #[track_caller]
    fn check(
        headers: &HeaderMap,
        secrets: &[&str],
        body: &[u8],
        expected: Result<(), InvalidSignature>,
    ) {
        let verdict = SignatureHeaders::read(headers)
            .and_then(|p| p.verify(secrets.iter().copied(), None, NOW, body))
            .map(|verified| assert_eq!(verified.bytes(), body));
        assert_eq!(verdict, expected);
    }

    #[test]
    fn verifies_the_published_vector() {
        check(&headers(SIGNATURE, TIMESTAMP), &[SECRET], BODY, Ok(()));
        assert_eq!(sign(SECRET, TIMESTAMP, BODY), SIGNATURE);
    }

    #[test]
    fn verifies_with_the_previous_secret() {
        check(
            &headers(SIGNATURE, TIMESTAMP),
            &["newer", SECRET],
            BODY,
            Ok(()),
        );
    }

    #[test]
    fn refuses_one_flipped_bit_anywhere() {
        for bit in 0..BODY.len() * 8 {
            let mut body = BODY.to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            check(
                &headers(SIGNATURE, TIMESTAMP),
                &[SECRET],
                &body,
                Err(InvalidSignature::Mismatch),
            );
        }
        for bit in 0..32 * 8 {
            let mut mac = hex::decode(SIGNATURE).unwrap();
            mac[bit / 8] ^= 1 << (bit % 8);
            check(
                &headers(&hex::encode(mac), TIMESTAMP),
                &[SECRET],
                BODY,
                Err(InvalidSignature::Mismatch),
            );
        }
        for bit in 0..TIMESTAMP.len() * 8 {
            let mut timestamp = TIMESTAMP.as_bytes().to_vec();
            timestamp[bit / 8] ^= 1 << (bit % 8);
            let Ok(value) = HeaderValue::from_bytes(&timestamp) else {
                continue;
            };
            let mut headers = headers(SIGNATURE, TIMESTAMP);
            headers.insert(TIMESTAMP_HEADER, value);
            let verdict = SignatureHeaders::read(&headers)
                .and_then(|p| p.verify([SECRET], None, NOW, BODY))
                .map(Verified::bytes);
            assert!(
                matches!(
                    verdict,
                    Err(InvalidSignature::Mismatch
                        | InvalidSignature::Malformed
                        | InvalidSignature::Repeated)
                ),
                "bit {bit}: {verdict:?}"
            );
        }
    }

    #[test]
    fn refuses_an_empty_secret() {
        let signed_with_nothing = sign("", TIMESTAMP, BODY);
        check(
            &headers(&signed_with_nothing, TIMESTAMP),
            &[""],
            BODY,
            Err(InvalidSignature::Mismatch),
        );
    }

    #[test]
    fn refuses_when_no_secret_is_known() {
        check(
            &headers(SIGNATURE, TIMESTAMP),
            &[],
            BODY,
            Err(InvalidSignature::Mismatch),
        );
    }

    #[test]
    fn refuses_what_is_missing_or_malformed() {
        let short = &SIGNATURE[1..];
        for (signature, timestamp) in [
            (short, TIMESTAMP),
            ("", TIMESTAMP),
            (SIGNATURE, ""),
            (SIGNATURE, "+1698322022"),
            (SIGNATURE, "16983220.22"),
            (SIGNATURE, "99999999999999999999999"),
        ] {
            check(
                &headers(signature, timestamp),
                &[SECRET],
                BODY,
                Err(InvalidSignature::Malformed),
            );
        }
        for name in [SIGNATURE_HEADER, TIMESTAMP_HEADER] {
            let mut incomplete = headers(SIGNATURE, TIMESTAMP);
            incomplete.remove(name);
            check(&incomplete, &[SECRET], BODY, Err(InvalidSignature::Missing));
        }
    }

    #[test]
    fn refuses_two_values_even_if_one_is_right() {
        for name in [SIGNATURE_HEADER, TIMESTAMP_HEADER] {
            let mut doubled = headers(SIGNATURE, TIMESTAMP);
            let value = doubled[name].clone();
            doubled.append(name, value);
            check(&doubled, &[SECRET], BODY, Err(InvalidSignature::Repeated));
        }
        let joined = format!("{SIGNATURE},{SIGNATURE}");
        check(
            &headers(&joined, TIMESTAMP),
            &[SECRET],
            BODY,
            Err(InvalidSignature::Repeated),
        );
    }

    #[test]
    fn never_accepts_the_deprecated_header() {
        let mut deprecated = HeaderMap::new();
        deprecated.insert(DEPRECATED_HEADER, HeaderValue::from_static(SIGNATURE));
        deprecated.insert(TIMESTAMP_HEADER, HeaderValue::from_static(TIMESTAMP));
        check(
            &deprecated,
            &[SECRET],
            BODY,
            Err(InvalidSignature::Deprecated),
        );
    }

    #[test]
    fn a_tolerance_bounds_the_age_both_ways() {
        let presented = SignatureHeaders::read(&headers(SIGNATURE, TIMESTAMP)).unwrap();
        let at = |now| {
            presented
                .verify([SECRET], Some(Duration::from_mins(5)), now, BODY)
                .map(Verified::bytes)
        };
        assert_eq!(at(NOW + 300), Ok(BODY));
        assert_eq!(at(NOW - 300), Ok(BODY));
        assert_eq!(at(NOW + 301), Err(InvalidSignature::OutsideTolerance));
        assert_eq!(at(NOW - 301), Err(InvalidSignature::OutsideTolerance));
        assert_eq!(at(0), Err(InvalidSignature::OutsideTolerance));
        assert_eq!(at(u64::MAX), Err(InvalidSignature::OutsideTolerance));
    }

    #[test]
    fn a_wrong_signature_is_wrong_whatever_its_age() {
        let presented = SignatureHeaders::read(&headers(SIGNATURE, TIMESTAMP)).unwrap();
        let verdict = presented.verify(["other"], Some(Duration::from_secs(1)), 0, BODY);
        assert_eq!(
            verdict.map(Verified::bytes),
            Err(InvalidSignature::Mismatch)
        );
    }
}
