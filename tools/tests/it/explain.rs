//! `cargo relay explain`: what it prints, and that the function sends the same.
//! The mapping's rules are tested in `src/mapping`.

use crate::tool;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tempfile::NamedTempFile;
use testkit::harness::World;
use testkit::process::repository;

type Settings<'s> = &'s [(&'s str, &'s str)];

const EVERY_OUTCOME: &str = "tools/tests/snapshots/every_outcome.json";
const TRANSACTION: &str = "events/TRANSACTION_PROCESSED.json";
const REVENUE: (&str, &str) = ("REVENUE_EVENT", "Charged");
/// Without them a note names them.
const TARGET: [(&str, &str); 3] = [
    ("CLEVERTAP_REGION", "in1"),
    ("CLEVERTAP_ACCOUNT_ID", "A-1"),
    ("SECRET_ID", "relay"),
];

/// Compares with a file of `tests/snapshots`; `UPDATE_SNAPSHOTS=1` writes it instead.
#[track_caller]
fn check_snapshot(name: &str, actual: &str) {
    let path = repository().join("tools/tests/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        actual, expected,
        "{name}; after a review run with UPDATE_SNAPSHOTS=1"
    );
}

/// Explains one body and returns the JSON.
async fn explain(settings: Settings<'_>, body: &str) -> Value {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), body).unwrap();
    let path = file.path().to_str().unwrap();
    let finished = tool::run(&["explain", path, "--json"], settings).await;
    serde_json::from_str(&finished.stdout).expect(&finished.stderr)
}

#[tokio::test]
async fn the_output_is_the_reviewed_one() {
    let settings = [
        &TARGET[..],
        &[REVENUE, ("PROPERTIES_OMITTED", "content_id")],
    ]
    .concat();
    let files = [TRANSACTION, EVERY_OUTCOME, "README.md"];
    let text = tool::run(&[&["explain"], &files[..]].concat(), &settings).await;
    assert_eq!((text.code, text.stderr.as_str()), (Some(1), ""));
    check_snapshot("explain.txt", &text.stdout);
    let json = tool::run(&[&["explain", "--json"], &files[..]].concat(), &settings).await;
    check_snapshot("explain.jsonl", &json.stdout);
}

#[tokio::test]
async fn the_upload_is_the_one_that_the_function_sends() {
    #[derive(Deserialize)]
    struct Explanation {
        upload: Box<RawValue>,
    }
    let settings = [REVENUE, ("EVENT_NAMES", "TRIAL_STARTED=Trial Started")];
    let world = World::start(&settings).await;
    let files = [
        "events/TRIAL_STARTED.json",
        TRANSACTION,
        "events/DEACTIVATE.json",
        EVERY_OUTCOME,
    ];
    let explained = tool::run(&[&["explain", "--json"], &files[..]].concat(), &settings).await;
    for (number, (file, line)) in files.iter().zip(explained.stdout.lines()).enumerate() {
        let body = std::fs::read(repository().join(file)).unwrap();
        assert_eq!(world.post(&body).await.status, 200, "{file}");
        let Explanation { upload } = serde_json::from_str(line).unwrap();
        assert_eq!(
            upload.get().as_bytes(),
            &world.clevertap.uploads()[number].body[..],
            "{file}"
        );
    }
}

#[tokio::test]
async fn the_samples_cover_every_documented_field_and_only_three_kinds_are_never_sent() {
    let finished = tool::run(&["explain", "--coverage", "events", "--json"], &[]).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(
        finished
            .stderr
            .contains("CLEVERTAP_REGION, CLEVERTAP_ACCOUNT_ID, SECRET_ID not set")
    );
    let coverage: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(coverage["not_mapped"], serde_json::json!({}));
    for (field, row) in coverage["fields"].as_object().unwrap() {
        let is_sent = !field.ends_with("_at_ms") && field != "purchase_token";
        let files = |key: &str| row[key].as_u64().unwrap();
        assert_eq!(files("mapped") > 0, is_sent, "{field}: {row}");
        assert_eq!(files("dropped") > 0, !is_sent, "{field}: {row}");
    }
    let text = tool::run(&["explain", "--coverage", "events"], &[])
        .await
        .stdout;
    assert!(
        text.contains(" 0 documented but in no file; 0 files not mapped\n"),
        "{text}"
    );
}

#[tokio::test]
async fn every_choice_has_its_reason() {
    let renewed = r#"{"event_name":"SUBSCRIPTION_RENEWED","user_id":"u"}"#;
    let sandbox = r#"{"event_name":"SUBSCRIPTION_RENEWED","user_id":"u","environment":"SANDBOX"}"#;
    let anonymous = r#"{"event_name":"A","anonymous_user_id":"a"}"#;
    let nested = r#"{"event_name":"A","user_id":"__h","custom":{"clevertap_id":"__h"}}"#;
    let long = format!(r#"{{"event_name":"A","user_id":"{}"}}"#, "x".repeat(1024));
    let transaction =
        |fields| format!(r#"{{"event_name":"TRANSACTION_PROCESSED","user_id":"u"{fields}}}"#);
    let refund = transaction(r#","amount_in_usd":-5"#);
    let (paid, amountless) = (transaction(r#","amount_in_usd":5"#), transaction(""));
    let many: String = (0..100).map(|n| format!(r#","z{n:03}":1"#)).collect();
    let many = format!(r#"{{"event_name":"A","user_id":"u"{many}}}"#);
    let rename = ("EVENT_NAMES", "SUBSCRIPTION_RENEWED=Renewed");
    #[rustfmt::skip]
    let cases = [
        (rename, renewed, "/event/sent", "Renewed"),
        (rename, renewed, "/event/why", "renamed by EVENT_NAMES"),
        (("EVENTS_DISABLED", "SUBSCRIPTION_RENEWED"), renewed, "/event/why", "EVENTS_DISABLED"),
        (("EVENTS_ENABLED", "ACTIVATE"), renewed, "/event/why", "not in EVENTS_ENABLED"),
        (("USER_ID_AS", "identity"), renewed, "/identity/sent", "identity u"),
        (("USER_ID_AS", "object_id"), renewed, "/identity/sent", "objectId u"),
        (("USER_ID_AS", "object_id"), renewed, "/identity/why", "USER_ID_AS=object_id"),
        (("USER_ID_AS", "identity"), nested, "/identity/sent", "objectId __h"),
        (("USER_ID_AS", "identity"), nested, "/identity/why", "custom.clevertap_id `__h`"),
        (("ANONYMOUS_USER_ID_AS", "ignore"), anonymous, "/why", "ANONYMOUS_USER_ID_AS=ignore"),
        (("ANONYMOUS_USER_ID_AS", "identity"), anonymous, "/identity/sent", "identity a"),
        (REVENUE, r#"{"event_name":"A"}"#, "/why", "names no user"),
        (REVENUE, &long, "/why", "1024 characters or more"),
        (REVENUE, "nonsense", "/outcome", "unreadable"),
        (REVENUE, &many, "/fields/101/why", "limit of 100"),
        (("USER_PROPERTIES", "store"), renewed, "/profile/why", "no property of USER_PROPERTIES to write"),
        (("SANDBOX_EVENTS", "drop"), sandbox, "/why", "SANDBOX_EVENTS=drop"),
        (("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-1"), sandbox, "/account", "sandbox"),
        (("REVENUE_CURRENCY", "customer"), &paid, "/revenue/why", "REVENUE_EVENT is not set"),
        (REVENUE, renewed, "/revenue/why", "only TRANSACTION_PROCESSED"),
        (REVENUE, &refund, "/revenue/why", "not positive"),
        (REVENUE, &amountless, "/revenue/why", "no amount in the currency"),
        (REVENUE, &paid, "/revenue/why", "Amount 5.0, Currency \"USD\""),
    ];
    for (setting, body, pointer, expected) in cases {
        let explanation = explain(&[setting], body).await;
        let found = explanation.pointer(pointer).and_then(Value::as_str);
        assert!(
            found.is_some_and(|found| found.contains(expected)),
            "{expected}: {explanation}"
        );
    }
}

#[tokio::test]
async fn every_problem_with_files_and_settings_is_an_error() {
    let missing = tool::run(
        &["explain", "none.json", TRANSACTION, "nothing.json"],
        &TARGET,
    )
    .await;
    missing.check_unusable("error: none.json: ");
    missing.check_unusable("error: nothing.json: ");
    let wrong = [("USER_ID_AS", "maybe"), ("UNKNOWN_FIELDS", "maybe")];
    let wrong = tool::run(&["explain", TRANSACTION], &wrong).await;
    wrong.check_unusable("error: USER_ID_AS");
    wrong.check_unusable("error: UNKNOWN_FIELDS");
    let empty = tempfile::tempdir().unwrap();
    let empty = tool::run(
        &["explain", "--coverage", empty.path().to_str().unwrap()],
        &[],
    )
    .await;
    empty.check_unusable("the folder has no .json file");
}
