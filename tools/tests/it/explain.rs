//! What `cargo run --example explain` tells, held against the library and against the real function.
//! The program itself only parses its command line, reads files and prints what is tested here.

#[path = "../../examples/explain/account.rs"]
mod account;
#[path = "../../examples/explain/coverage.rs"]
mod coverage;
#[path = "../../examples/explain/identity.rs"]
mod identity;
#[path = "../../examples/explain/settings.rs"]
mod settings;
#[path = "../../examples/explain/text.rs"]
mod text;
#[path = "../../examples/explain/words.rs"]
mod words;

use crate::world::{World, body};
use account::{Explanation, Outcome};
use coverage::Status;
use purchasely_clevertap::config::Config;
use purchasely_clevertap::mapping::{self, Mapped};
use purchasely_clevertap::purchasely::catalogue::EVENTS;
use purchasely_clevertap::purchasely::{Event, Verified};
use serde_json::{Value, json};
use std::path::Path;

type Variables<'v> = &'v [(&'v str, &'v str)];

const REVENUE: (&str, &str) = ("REVENUE_EVENT", "Charged");

fn config(variables: Variables<'_>) -> Config {
    let lookup = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    settings::read(lookup).config.unwrap()
}

fn explain(variables: Variables<'_>, body: &[u8]) -> Explanation {
    account::of("body.json", body, &config(variables).rules)
}

fn sample(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("events");
    std::fs::read(folder.join(format!("{name}.json"))).expect(name)
}

/// A payload with these fields beside a name and a user.
fn with(fields: &str) -> Vec<u8> {
    format!(r#"{{"event_name":"SUBSCRIPTION_RENEWED","user_id":"u-1"{fields}}}"#).into_bytes()
}

/// The fields of a payload, and of the objects in it, by name.
fn leaves(fields: &serde_json::Map<String, Value>) -> Vec<String> {
    let mut leaves = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Object(inside) => {
                leaves.extend(
                    self::leaves(inside)
                        .iter()
                        .map(|leaf| format!("{name}.{leaf}")),
                );
            }
            _ => leaves.push(name.clone()),
        }
    }
    leaves.sort();
    leaves
}

fn told(explanation: &Explanation) -> Vec<&str> {
    let fields = explanation.fields.iter();
    fields.map(|field| field.field.as_str()).collect()
}

#[test]
fn each_samples_body_is_the_librarys_and_each_field_has_one_line() {
    for variables in [
        &[][..],
        &[
            REVENUE,
            ("UNKNOWN_FIELDS", "drop"),
            ("PROPERTIES_OMITTED", "plan device_id"),
        ],
        &[
            ("USER_PROPERTIES", "none"),
            ("EVENT_NAMES", "TRIAL_STARTED=Trial Started"),
        ],
        &[
            ("EVENTS_ENABLED", "TRIAL_STARTED"),
            ("USER_ID_AS", "object_id"),
        ],
    ] {
        let rules = config(variables).rules;
        for (name, _) in EVENTS {
            let raw = sample(name);
            let explained = account::of(name, &raw, &rules);
            let event = Event::parse(Verified::unsigned(&raw)).unwrap();
            let body = match mapping::map(
                &event,
                &rules,
                mapping::Origin::Purchasely,
                &mut |_, _| {},
            ) {
                Mapped::Records { records, .. } => {
                    let records: Vec<_> = records.iter().collect();
                    let body = purchasely_clevertap::clevertap::upload_body(&records);
                    Some(String::from_utf8(body).unwrap())
                }
                Mapped::Ignored(_) => None,
                Mapped::Unmappable(why) => panic!("{name}: {why}"),
            };
            assert_eq!(explained.body, body, "{name} {variables:?}");
            let upload = explained.upload.as_ref().map(|upload| upload.get());
            assert_eq!(upload, body.as_deref(), "{name} {variables:?}");
            assert_eq!(told(&explained), leaves(event.fields()), "{name}");
        }
    }
}

#[test]
fn the_pretty_upload_is_the_same_upload() {
    let explained = explain(&[REVENUE], &sample("TRANSACTION_PROCESSED"));
    let read = |text: Option<String>| serde_json::from_str::<Value>(&text.unwrap()).unwrap();
    assert_eq!(read(explained.pretty), read(explained.body));
}

#[tokio::test]
async fn the_body_is_the_one_that_the_function_sends() {
    let variables = [REVENUE, ("EVENT_NAMES", "TRIAL_STARTED=Trial Started")];
    let world = World::start(&variables).await;
    for (number, name) in ["TRIAL_STARTED", "TRANSACTION_PROCESSED", "DEACTIVATE"]
        .into_iter()
        .enumerate()
    {
        let raw = sample(name);
        assert_eq!(world.post(&raw).await.status, 200, "{name}");
        let sent = world.clevertap.uploads()[number].body.to_vec();
        let explained = explain(&variables, &raw).body.unwrap();
        assert_eq!(explained, String::from_utf8(sent).unwrap(), "{name}");
    }
}

#[track_caller]
fn check_fate(variables: Variables<'_>, fields: &str, field: &str, expected: (&str, &str)) {
    let explained = explain(variables, &with(fields));
    let found: Vec<_> = explained
        .fields
        .iter()
        .filter(|line| line.field == field)
        .map(|line| (line.fate, line.why.as_str()))
        .collect();
    assert_eq!(found, [expected], "{fields}");
}

#[track_caller]
fn check(fields: &str, field: &str, fate: &str, why: &str) {
    check_fate(&[], fields, field, (fate, why));
}

#[test]
fn how_a_field_is_sent_is_told_in_words() {
    check(
        r#","plan":"p""#,
        "plan",
        "sent",
        "under its own name, as text",
    );
    check(
        r#","brand_new":5"#,
        "brand_new",
        "sent",
        "under its own name, as it is (not documented)",
    );
    check(
        r#","a.b":[1,2]"#,
        "a.b",
        "sent",
        "under its name made to fit CleverTap's rules, as it is (not documented), the list joined to one text",
    );
    check(
        r#","attribution":{"utm_source":"x"}"#,
        "attribution.utm_source",
        "sent",
        "with its object's name in front, as text",
    );
    let times = r#","purchased_at":"2027-03-02T08:15:00Z","purchased_at_ms":1803975300000"#;
    check(
        times,
        "purchased_at",
        "date",
        "under its own name, as a date",
    );
    check(
        times,
        "purchased_at_ms",
        "millisecond_twin",
        "left out: the millisecond twin of purchased_at, which carries the time",
    );
    check(
        r#","purchased_at_ms":1803975300000"#,
        "purchased_at_ms",
        "date",
        "as purchased_at, of which only this twin is in the payload, as a date",
    );
}

#[test]
fn why_a_field_is_left_out_is_told_in_words() {
    check(
        r#","purchase_token":"t""#,
        "purchase_token",
        "sensitive",
        "left out: a credential, which is never sent",
    );
    check(
        r#","plan":null"#,
        "plan",
        "empty",
        "left out: there is nothing in it",
    );
    check(
        r#","plan":["p"]"#,
        "plan",
        "wrong_type",
        "left out: it is a list, which cannot be read as text",
    );
    check(
        r#","attribution":"x""#,
        "attribution",
        "wrong_type",
        "left out: it is text, which cannot be read as an object of texts",
    );
    check(
        r#","!":1"#,
        "!",
        "unusable_name",
        "left out: its name has no character that CleverTap allows",
    );
    check(
        r#","a.b":1,"ab":2"#,
        "ab",
        "collision",
        "left out: its name becomes ab, and a.b is sent under that",
    );
    check(
        r#","plan!":1"#,
        "plan!",
        "collision",
        "left out: its name becomes plan, which is kept for Purchasely's own field",
    );
    check(
        r#","plan":"$D_1""#,
        "plan",
        "sanitized",
        "under its own name, made to fit: without its leading $, or CleverTap would read a date",
    );
    let long = format!(r#","plan":"{}""#, "x".repeat(513));
    check(
        &long,
        "plan",
        "sanitized",
        "under its own name, made to fit: cut to 512 bytes",
    );
    let many: String = (0..100).map(|n| format!(r#","z{n:03}":1"#)).collect();
    check(
        &many,
        "z099",
        "over_limit",
        "left out: CleverTap takes 100 properties, and the least known give way",
    );
    let omitted = ("omitted", "left out by PROPERTIES_OMITTED");
    check_fate(
        &[("PROPERTIES_OMITTED", "plan")],
        r#","plan":"p""#,
        "plan",
        omitted,
    );
    let unknown = (
        "unknown",
        "left out by UNKNOWN_FIELDS=drop: Purchasely does not document it",
    );
    check_fate(&[("UNKNOWN_FIELDS", "drop")], r#","new":1"#, "new", unknown);
}

#[test]
fn every_field_has_one_line_whatever_it_holds() {
    let fields = r#","a":{"b":{"c":1},"d":[{"e":1}],"f":{}},"plan":{"x":1},"attribution":{},"n":null,"purchase_token":"t","s_at_ms":1,"x!":1,"x":2"#;
    for variables in [&[][..], &[("UNKNOWN_FIELDS", "drop")], &[REVENUE]] {
        let explained = explain(variables, &with(fields));
        let flattened = ["a.b.c", "a.d", "a.f"];
        let inside: &[&str] = if variables == [("UNKNOWN_FIELDS", "drop")] {
            &["a"]
        } else {
            &flattened
        };
        let rest = [
            "attribution",
            "event_name",
            "n",
            "plan",
            "purchase_token",
            "s_at_ms",
            "user_id",
            "x",
            "x!",
        ];
        assert_eq!(told(&explained), [inside, &rest].concat());
    }
}

#[track_caller]
fn check_identity(variables: Variables<'_>, body: &str, expected: [Option<&str>; 3], why: &str) {
    let identity = explain(variables, body.as_bytes()).identity.unwrap();
    let found = [
        identity.key,
        identity.id.as_deref(),
        identity.field.as_deref(),
    ];
    assert_eq!(found, expected, "{body}");
    assert!(identity.why.contains(why), "{body}: {}", identity.why);
}

#[test]
fn the_field_that_names_the_user_is_told() {
    let both = r#"{"event_name":"A","user_id":"u","anonymous_user_id":"a"}"#;
    let told = |key, id, field| [Some(key), Some(id), Some(field)];
    check_identity(
        &[],
        both,
        told("identity", "u", "user_id"),
        "USER_ID_AS=identity",
    );
    let object_id = [("USER_ID_AS", "object_id")];
    check_identity(
        &object_id,
        both,
        told("objectId", "u", "user_id"),
        "USER_ID_AS=object_id",
    );
    let inside = r#"{"event_name":"A","user_id":"__h","custom":{"clevertap_id":"__h"}}"#;
    check_identity(
        &[],
        inside,
        told("objectId", "__h", "custom.clevertap_id"),
        "wins over every other id",
    );
    let blank = r#"{"event_name":"A","user_id":7,"clevertap_id":" "}"#;
    check_identity(
        &[],
        blank,
        told("identity", "7", "user_id"),
        "there is no CleverTap ID",
    );
    let anonymous = r#"{"event_name":"A","anonymous_user_id":"a"}"#;
    let nobody = [None, Some("a"), Some("anonymous_user_id")];
    check_identity(&[], anonymous, nobody, "ANONYMOUS_USER_ID_AS=ignore");
    let counted = r#"{"event_name":"A","user_id":1.5,"anonymous_user_id":7}"#;
    let nobody = [None, Some("7"), Some("anonymous_user_id")];
    check_identity(&[], counted, nobody, "ANONYMOUS_USER_ID_AS=ignore");
    let same_field = [("CLEVERTAP_ID_FIELD", "user_id")];
    check_identity(
        &same_field,
        both,
        told("objectId", "u", "user_id"),
        "CLEVERTAP_ID_FIELD",
    );
    let wanted = [("ANONYMOUS_USER_ID_AS", "identity")];
    check_identity(
        &wanted,
        anonymous,
        told("identity", "a", "anonymous_user_id"),
        "ANONYMOUS_USER_ID_AS=identity",
    );
    check_identity(&[], r#"{"event_name":"A"}"#, [None; 3], "names no user");
    let id = "x".repeat(1024);
    let long = format!(r#"{{"event_name":"A","user_id":"{id}"}}"#);
    check_identity(
        &[],
        &long,
        [None, Some(&id), Some("user_id")],
        "1024 characters or more",
    );
}

#[test]
fn the_profile_row_and_what_it_wrote_are_told() {
    let variables = [
        (
            "USER_PROPERTIES",
            "active_plans subscription_started_at store",
        ),
        ("USER_PROPERTY_NAMES", "subscription_started_at=Since"),
    ];
    let fields = r#","plan":"yearly","original_purchased_at_ms":1803975300000"#;
    let profile = explain(&variables, &with(fields)).profile.unwrap();
    assert_eq!((profile.row, profile.why), (8, None));
    let written: Vec<_> = profile
        .written
        .iter()
        .map(|written| {
            (
                written.property.as_str(),
                written.value.clone(),
                written.from.as_str(),
            )
        })
        .collect();
    assert_eq!(
        written,
        [
            ("active_plans", json!({ "$add": ["yearly"] }), "plan"),
            ("Since", json!("$D_1803975300"), "original_purchased_at"),
        ]
    );
    assert_eq!(profile.untouched, ["store"]);
}

#[test]
fn a_missing_profile_record_is_explained() {
    let sandbox = with(r#","environment":"SANDBOX""#);
    let transaction = sample("TRANSACTION_PROCESSED");
    let renewed = with("");
    for (variables, body, expected) in [
        (&[][..], &transaction, "row 2 changes nothing"),
        (
            &[("USER_PROPERTIES", "none")],
            &renewed,
            "USER_PROPERTIES is `none`",
        ),
        (
            &[("USER_PROPERTIES", "plan")],
            &renewed,
            "the payload has nothing of what row 8 writes and USER_PROPERTIES asks for",
        ),
        (
            &[("SANDBOX_EVENTS", "relay")],
            &sandbox,
            "a tester's purchase changes no real profile (SANDBOX_EVENTS=relay)",
        ),
        (&[], &sandbox, "nothing is sent of this event"),
    ] {
        let profile = explain(variables, body).profile.unwrap();
        assert_eq!(profile.why.as_deref(), Some(expected));
        assert!(profile.written.is_empty());
    }
}

#[test]
fn every_row_of_the_profile_table_has_words() {
    for (name, _) in EVENTS {
        let profile = explain(&[], &sample(name)).profile.unwrap();
        assert_ne!(profile.says, words::row(0), "{name}: row {}", profile.row);
    }
}

#[test]
fn the_revenue_decision_is_told() {
    let transaction = |fields: &str| {
        format!(r#"{{"event_name":"TRANSACTION_PROCESSED","user_id":"u"{fields}}}"#).into_bytes()
    };
    let paid = transaction(r#","amount_in_usd":5,"event_id":"e-1""#);
    let tested = transaction(r#","amount_in_usd":5,"environment":"SANDBOX""#);
    for (variables, body, expected) in [
        (&[][..], &paid, "off"),
        (&[REVENUE], &paid, "raised"),
        (&[REVENUE], &with(""), "not_money"),
        (
            &[REVENUE],
            &transaction(r#","amount_in_usd":-5"#),
            "not_positive",
        ),
        (&[REVENUE], &transaction(""), "no_amount"),
        (&[REVENUE], &tested, "not_sent"),
        (&[REVENUE, ("SANDBOX_EVENTS", "relay")], &tested, "sandbox"),
    ] {
        assert_eq!(explain(variables, body).revenue.unwrap().decision, expected);
    }
    let revenue = explain(&[REVENUE], &paid).revenue.unwrap();
    assert_eq!(revenue.event.as_deref(), Some("Charged"));
    assert_eq!(
        revenue.why,
        "5.0 USD, the integration currency (REVENUE_CURRENCY=integration); Charged ID e-1 from event_id"
    );
}

#[test]
fn what_is_not_sent_says_why() {
    let renewed = "SUBSCRIPTION_RENEWED";
    for (variables, body, outcome, why) in [
        (
            &[][..],
            &b"nonsense"[..],
            Outcome::Unreadable,
            "the body is not readable JSON",
        ),
        (
            &[],
            br#"{"api_version":2,"name":"A"}"#,
            Outcome::Unreadable,
            "choose version 3",
        ),
        (
            &[],
            br#"{"event_name":"A"}"#,
            Outcome::Unmappable,
            "names no user",
        ),
        (
            &[],
            br#"{"event_name":"A","anonymous_user_id":"a"}"#,
            Outcome::Ignored,
            "not signed in",
        ),
        (
            &[],
            &with(r#","environment":"SANDBOX""#),
            Outcome::Ignored,
            "SANDBOX_EVENTS=drop",
        ),
        (
            &[("EVENTS_DISABLED", renewed), ("USER_PROPERTIES", "none")],
            &with(""),
            Outcome::Ignored,
            "switched off by EVENTS_DISABLED",
        ),
        (
            &[("EVENTS_ENABLED", "ACTIVATE"), ("USER_PROPERTIES", "none")],
            &with(""),
            Outcome::Ignored,
            "not among EVENTS_ENABLED",
        ),
    ] {
        let explained = explain(variables, body);
        assert_eq!(explained.outcome, outcome);
        assert!(
            explained.why.as_ref().unwrap().contains(why),
            "{explained:?}"
        );
        assert!(explained.body.is_none() && explained.account.is_none());
        assert!(text::account(&explained).contains(why));
    }
}

#[test]
fn an_event_that_is_switched_off_may_still_tell_its_profile() {
    let explained = explain(&[("EVENTS_DISABLED", "SUBSCRIPTION_RENEWED")], &with(""));
    assert_eq!(explained.outcome, Outcome::Sent);
    let event = explained.event.as_ref().unwrap();
    assert_eq!((event.raised, &event.sent_as), (false, &None));
    let text = text::account(&explained);
    assert!(text.contains("if the event were raised"), "{text}");
}

#[test]
fn the_sandbox_account_is_named() {
    let variables = [("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-1")];
    let explained = explain(&variables, &with(r#","environment":"SANDBOX""#));
    assert_eq!(explained.account, Some("sandbox"));
    assert_eq!(explain(&variables, &body()).account, Some("main"));
}

#[test]
fn the_json_has_its_keys_for_every_outcome() {
    for body in [&body()[..], b"nonsense"] {
        let line = text::json(&explain(&[], body));
        assert_eq!(line.find('\n'), Some(line.len() - 1), "one line");
        let told: Value = serde_json::from_str(&line).unwrap();
        let mut keys: Vec<_> = told.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(
            keys,
            [
                "account", "body", "event", "fields", "file", "identity", "outcome", "profile",
                "revenue", "upload", "why"
            ]
        );
    }
}

#[test]
fn settings_that_only_say_where_to_send_may_be_missing() {
    let settings = settings::read(|name| (name == "SECRET_ID").then(|| "relay".to_owned()));
    assert!(settings.config.is_ok());
    assert_eq!(
        settings.missing,
        ["CLEVERTAP_REGION", "CLEVERTAP_ACCOUNT_ID"]
    );
    assert!(
        settings
            .note()
            .unwrap()
            .contains("CLEVERTAP_REGION, CLEVERTAP_ACCOUNT_ID")
    );
    let complete = settings::read(|name| match name {
        "CLEVERTAP_REGION" => Some("in1".to_owned()),
        "CLEVERTAP_ACCOUNT_ID" => Some("TEST-1".to_owned()),
        "SECRET_ID" => Some("relay".to_owned()),
        _ => None,
    });
    assert_eq!(complete.note(), None);
    let sandbox = complete.config.unwrap().rules.sandbox;
    assert_eq!(sandbox, mapping::SandboxRule::Whole);
    let wrong = settings::read(|name| match name {
        "CLEVERTAP_REGION" => Some("atlantis".to_owned()),
        "UNKNOWN_FIELDS" | "USER_ID_AS" => Some("maybe".to_owned()),
        _ => None,
    });
    let mistaken: Vec<_> = wrong
        .config
        .unwrap_err()
        .iter()
        .map(|m| m.variable)
        .collect();
    assert_eq!(
        mistaken,
        ["CLEVERTAP_REGION", "USER_ID_AS", "UNKNOWN_FIELDS"]
    );
}

#[test]
fn the_samples_cover_every_documented_field() {
    let rules = config(&[]).rules;
    let told: Vec<_> = EVENTS
        .iter()
        .map(|(name, _)| account::of(name, &sample(name), &rules))
        .collect();
    let coverage = coverage::of(&told);
    assert_eq!(coverage.never_seen, [""; 0]);
    assert_eq!(coverage.events.len(), EVENTS.len());
    assert!(coverage.not_mapped.is_empty());
    for row in &coverage.fields {
        assert_eq!(
            row.mapped + row.dropped + row.absent,
            EVENTS.len(),
            "{}",
            row.field
        );
        let left = row.field.ends_with("_at_ms") || row.field == "purchase_token";
        let expected = if left {
            Status::Dropped
        } else {
            Status::Mapped
        };
        assert_eq!(row.status, expected, "{}", row.field);
    }
    let text = text::coverage(&coverage);
    assert!(
        text.ends_with(" 0 documented but never seen; 0 files not mapped\n"),
        "{text}"
    );
}

#[test]
fn coverage_tells_what_is_absent_and_what_was_never_seen() {
    let rules = config(&[]).rules;
    let told: Vec<_> = [
        &with(r#","plan":"p""#)[..],
        &with(""),
        br#"{"event_name":"B","user_id":1,"plan":[]}"#,
        b"{}",
    ]
    .into_iter()
    .map(|body| account::of("x.json", body, &rules))
    .collect();
    let coverage = coverage::of(&told);
    assert_eq!(coverage.files, 4);
    assert_eq!(coverage.events, ["B", "SUBSCRIPTION_RENEWED"]);
    let row = |field: &str| {
        coverage
            .fields
            .iter()
            .find(|row| row.field == field)
            .unwrap()
    };
    let plan = serde_json::to_value(row("plan")).unwrap();
    assert_eq!(
        plan,
        json!({
            "field": "plan", "status": "mapped", "mapped": 1, "dropped": 1, "absent": 1,
            "fates": { "empty": 1, "sent": 1 },
            "events": { "B": ["empty"], "SUBSCRIPTION_RENEWED": ["sent"] },
        })
    );
    assert_eq!(row("store").status, Status::NeverSeen);
    let never_seen: Vec<_> = coverage.never_seen.iter().map(String::as_str).collect();
    for field in ["attribution", "amount_in_<currency>", "store"] {
        assert!(never_seen.contains(&field), "{field}");
    }
    assert!(!never_seen.contains(&"plan"));
    assert_eq!(coverage.not_mapped[0].outcome, Outcome::Unreadable);
    assert!(text::coverage(&coverage).contains("x.json: not mapped: the body has no event_name"));
}
