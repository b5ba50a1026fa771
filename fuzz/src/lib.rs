//! What must hold of each of the function's parsers, whatever bytes it is given: no panic, and no result that
//! breaks a rule. It does not know where the bytes come from: libFuzzer, or the files of the test below.

use http::{HeaderMap, HeaderValue};
use purchasely_clevertap::aws::secret::Secret;
use purchasely_clevertap::clevertap::response::{self, Response, Verdict};
use purchasely_clevertap::clevertap::{Record, Role, upload_body};
use purchasely_clevertap::envelope::{Envelope, json_headers};
use purchasely_clevertap::mapping::identity::{AnonymousUserIdAs, IdentityRules};
use purchasely_clevertap::mapping::revenue::{RevenueCurrency, RevenueRules};
use purchasely_clevertap::mapping::{Mapped, Origin, Rules, SandboxRule, map};
use purchasely_clevertap::purchasely::signature::{
    SIGNATURE_HEADER, SignatureHeaders, TIMESTAMP_HEADER, sign,
};
use purchasely_clevertap::purchasely::{Event, Verified};
use serde_json::Value;
use testkit::records::mistake_in;

/// A check of one parser. It panics if the parser does something wrong with the input.
type Check = fn(&[u8]);

/// Each parser by the name of its folder in `corpus/`.
pub const PARSERS: [(&str, Check); 5] = [
    ("envelope", envelope),
    ("signature", signature),
    ("webhook", webhook),
    ("answer", answer),
    ("secret", secret),
];

const SHARED_SECRET: &str = "foobar";

/// What Lambda invokes the function with.
fn envelope(input: &[u8]) {
    let Ok(json) = std::str::from_utf8(input) else {
        return;
    };
    match Envelope::read(json) {
        Envelope::Request(request) => {
            let _ = SignatureHeaders::read(&request.headers);
            let response = request.response(503, json_headers(), "{}".to_owned());
            let response = serde_json::to_value(response).expect("a response is JSON");
            assert_eq!(response["statusCode"], 503);
        }
        Envelope::Batch(_)
        | Envelope::UnreadableRequest(_)
        | Envelope::UnreadableBatch
        | Envelope::Neither => {}
    }
}

/// The header with the signature, a line break, the one with the time, a line break, the body.
fn signature(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (signature, timestamp, body) = (part(), part(), part());
    let mut headers = HeaderMap::new();
    for (name, value) in [(SIGNATURE_HEADER, signature), (TIMESTAMP_HEADER, timestamp)] {
        let Ok(value) = HeaderValue::from_bytes(value) else {
            return;
        };
        headers.append(name, value);
    }
    let verify = |headers: &HeaderMap| {
        let read = SignatureHeaders::read(headers)?;
        read.verify([SHARED_SECRET], None, 0, body).map(Verified::bytes)
    };
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let genuine = sign(SHARED_SECRET, text(timestamp), body);
    let is_genuine = text(signature).eq_ignore_ascii_case(&genuine);
    let result = verify(&headers);
    assert!(result.is_err() || is_genuine, "accepted a wrong signature");
    headers.insert(SIGNATURE_HEADER, HeaderValue::from_str(&genuine).expect("hex"));
    let result = verify(&headers);
    let is_time = timestamp.len() == 10 && timestamp.iter().all(u8::is_ascii_digit);
    assert_eq!(result.is_ok(), is_time, "{result:?}");
}

/// The body of a webhook: what it is mapped to is what CleverTap's limits accept.
fn webhook(input: &[u8]) {
    let Ok(event) = Event::parse(Verified::unsigned(input)) else {
        return;
    };
    let mut cautious = rules(RevenueCurrency::Code("eur".into()), AnonymousUserIdAs::ClevertapId);
    cautious.properties.drop_unknown = true;
    for rules in [
        rules(RevenueCurrency::Integration, AnonymousUserIdAs::Identity),
        rules(RevenueCurrency::Customer, AnonymousUserIdAs::Ignored),
        cautious,
    ] {
        let Some(upload) = upload(&event, &rules) else {
            continue;
        };
        let read: Value = serde_json::from_slice(&upload).expect("an upload is JSON");
        let records = read["d"].as_array().expect("an upload has a list");
        assert!(!records.is_empty());
        for record in records {
            assert_eq!(mistake_in(record), None, "{record}");
            let properties = record["evtData"].as_object().into_iter().flatten();
            for (name, _) in properties {
                assert!(!name.to_lowercase().contains("purchase_token"), "{name}");
            }
        }
        assert_eq!(Some(upload), self::upload(&event, &rules), "the same event, another upload");
    }
}

fn rules(currency: RevenueCurrency, anonymous_user_id_as: AnonymousUserIdAs) -> Rules {
    Rules {
        sandbox: SandboxRule::Whole,
        identity: IdentityRules { anonymous_user_id_as, ..IdentityRules::default() },
        revenue: RevenueRules {
            event: Some("Charged".to_owned()),
            refund_event: Some("Money Returned".to_owned()),
            currency,
        },
        ..Rules::default()
    }
}

fn upload(event: &Event<'_>, rules: &Rules) -> Option<Vec<u8>> {
    match map(event, rules, Origin::Purchasely, &mut |_, _| {}).mapped {
        Mapped::Records { records, .. } => {
            Some(upload_body(&records.iter().collect::<Vec<&Record<'_>>>()))
        }
        Mapped::Ignored(_) | Mapped::Unmappable(_) => None,
    }
}

/// The body of CleverTap's answer: a record counts as accepted only if the answer says so.
fn answer(input: &[u8]) {
    use Role::{Event, Profile, Revenue};
    // What is not JSON only in a field that the function skips, such as a byte that is not UTF-8, is read all the same.
    let said: Option<Value> = serde_json::from_slice(input).ok();
    let may_accept = said
        .as_ref()
        .is_none_or(|said| matches!(said["status"].as_str(), Some("success" | "partial")));
    let refusals = said.as_ref().and_then(|said| said["unprocessed"].as_array());
    let is_partial = refusals.is_some_and(|refusals| !refusals.is_empty());
    for roles in [&[Event][..], &[Profile, Event, Revenue], &[Event, Profile, Event]] {
        if let Response::Verdicts(verdicts) = response::read(200, Some(input), roles) {
            assert_eq!(verdicts.len(), roles.len());
            let is_accepted = |verdict: &Verdict| *verdict == Verdict::Accepted;
            assert!(may_accept || !verdicts.iter().any(is_accepted), "{verdicts:?}");
            assert!(!is_partial || !verdicts.iter().all(is_accepted), "{verdicts:?}");
        }
        for status in [202, 302, 400, 401, 429, 500, 503] {
            let read = response::read(status, Some(input), roles);
            assert!(!matches!(read, Response::Verdicts(_)), "{status}: {read:?}");
        }
    }
}

/// The text of the secret: what is read from it can be sent in a header.
fn secret(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(secret) = Secret::parse(text, true) else {
        return;
    };
    assert!(Secret::parse(text, false).is_ok(), "a secret for less is refused");
    let is_usable =
        |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic());
    assert!(secret.shared_secrets().all(is_usable));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths.filter(|path| path.is_file()).collect()
    }

    /// libFuzzer starts from the same folders (`Makefile`).
    #[test]
    fn every_input_of_the_corpus_keeps_the_rules() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (name, check) in PARSERS {
            for folder in ["../events", "../events/api-gateway", &format!("corpus/{name}")] {
                let files = files(&root.join(folder));
                assert!(!files.is_empty(), "{folder}");
                for file in files {
                    // A panic names the rule; this names the input.
                    println!("{}", file.display());
                    check(&std::fs::read(file).expect("an input"));
                }
            }
        }
    }
}
