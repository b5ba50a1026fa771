//! Tests of signatures: the published vectors, forged and odd headers, and the digest of a user.

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

/// `scripts/check_vectors.py` has them from Purchasely, openssl and Python.
#[test]
fn agrees_with_signatures_made_elsewhere() {
    let file = include_str!("../../../tests/vectors/signatures.json");
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
