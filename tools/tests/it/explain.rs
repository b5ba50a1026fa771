//! `cargo relay explain`: what it prints, and that the function sends the same.
//! The mapping's rules are tested in `src/mapping`.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use testkit::harness::World;
use testkit::process::repository;
use testkit::tool;

const EVERY_OUTCOME: &str = "tools/tests/snapshots/every_outcome.json";
const UNREADABLE: &str = "fuzz/corpus/webhook/version-two";
const TRANSACTION: &str = "events/TRANSACTION_PROCESSED.json";
const REVENUE: (&str, &str) = ("REVENUE_EVENT", "Charged");
const DEVICE: (&str, &str) = ("ANONYMOUS_USER_ID_AS", "clevertap_id");
/// Some of the default ones, so that the snapshots do not depend on those.
const PROFILE: &str = "has_active_subscription,active_plans,subscription_status,plan,product,store";
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
    assert_eq!(actual, expected, "{name}: UPDATE_SNAPSHOTS=1 writes it");
}

/// Explains one body and returns the JSON.
async fn explain(settings: &[(&str, &str)], body: &str) -> Value {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), body).unwrap();
    let arguments = format!("explain --json {}", file.path().display());
    let finished = tool::run(&arguments, settings).await;
    serde_json::from_str(&finished.stdout).expect(&finished.stderr)
}

#[tokio::test]
async fn the_output_is_the_reviewed_one() {
    let others = [("PROPERTIES_OMITTED", "content_id"), ("USER_PROPERTIES", PROFILE)];
    let settings = [&TARGET[..], &[REVENUE], &others].concat();
    let arguments = format!("explain {TRANSACTION} {EVERY_OUTCOME} {UNREADABLE}");
    let text = tool::run(&arguments, &settings).await;
    assert_eq!((text.code, text.stderr.as_str()), (Some(1), ""));
    check_snapshot("explain.txt", &text.stdout);
    let json = tool::run(&(arguments + " --json"), &settings).await;
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
    let files = [TRANSACTION, EVERY_OUTCOME, "events/TRIAL_STARTED.json"];
    let arguments = format!("explain --json {}", files.join(" "));
    let explained = tool::run(&arguments, &settings).await;
    for (number, (file, line)) in files.iter().zip(explained.stdout.lines()).enumerate() {
        let body = std::fs::read(repository().join(file)).unwrap();
        assert_eq!(world.post(&body).await.status, 200, "{file}");
        let Explanation { upload } = serde_json::from_str(line).unwrap();
        let sent = &world.clevertap.uploads()[number].body;
        assert_eq!(upload.get().as_bytes(), &sent[..], "{file}");
    }
}

/// The schema as JSON.
async fn schema(settings: &[(&str, &str)]) -> Value {
    let finished = tool::run("explain --schema --json", settings).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let note = "CLEVERTAP_REGION, CLEVERTAP_ACCOUNT_ID, SECRET_ID not set";
    assert!(finished.stderr.contains(note), "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).unwrap()
}

/// What an upload contains, as rows of the CSV, that the schema lacks.
fn undefined(schema: &Value, upload: &Value) -> Vec<String> {
    let data_type = |value: &Value| match value {
        Value::String(text) if text.starts_with("$D_") => "Date",
        Value::String(_) => "String",
        Value::Bool(_) => "Boolean",
        Value::Number(number) if number.is_f64() => "Float",
        Value::Number(_) => "Integer",
        _ => "List",
    };
    let family = |name: &str| {
        let (prefix, any) = name.rsplit_once('_').unwrap_or_default();
        let is_money = any.len() == 3 && prefix.ends_with("_in");
        let prefix = if is_money {
            prefix
        } else {
            name.split('_').next().unwrap_or_default()
        };
        format!("{prefix}_{}", if is_money { "<currency>" } else { "<name>" })
    };
    let mut undefined = Vec::new();
    for record in upload["d"].as_array().unwrap() {
        let event = record["evtName"].as_str();
        let defined = event.map_or(&schema["user_properties"], |event| &schema["events"][event]);
        let properties = record["evtData"].as_object().or(record["profileData"].as_object());
        for (name, value) in properties.unwrap() {
            let item = value.get(0).and_then(Value::as_object).into_iter().flatten();
            let item = item.map(|(name, value)| (format!("Items / {name}"), value));
            for (name, value) in item.chain([(name.clone(), value)]) {
                let found = defined.get(&name).or(defined.get(family(&name)));
                if found.is_none_or(|found| found != "Mixed" && found != data_type(value)) {
                    undefined.push(format!("{event:?},{name},{}", data_type(value)));
                }
            }
        }
    }
    undefined
}

#[tokio::test]
async fn the_schema_has_all_that_is_sent_and_follows_the_settings() {
    #[rustfmt::skip]
    let others = [
        ("EVENT_NAMES", "TRIAL_STARTED=Trial Started;BRAND_NEW=Brand New"), ("EVENTS_DISABLED", "ACTIVATE"),
        ("USER_PROPERTIES", "plan,device_id,tier"), ("USER_PROPERTY_NAMES", "plan=Current Plan"),
        ("REVENUE_EVENT", "Purchase"), ("REVENUE_CURRENCY", "customer"), ("PROPERTIES_OMITTED", "content_id"),
    ];
    let both = [REVENUE, ("REFUND_EVENT", "Refunded")];
    let (revenue, others) = (schema(&both).await, schema(&others).await);
    let mut uploads: Vec<_> = std::fs::read_dir(repository().join("tests/golden"))
        .unwrap()
        .map(|file| serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap())
        .collect();
    uploads.retain(|upload| !undefined(&revenue, upload).is_empty());
    assert_eq!(uploads, Vec::<Value>::new());

    assert_eq!(revenue["events"]["Charged"]["Items"], "List");
    assert_eq!(revenue["events"]["Charged"]["Items / plan"], "String");
    assert_eq!(revenue["events"]["Refunded"]["Amount"], "Float");
    assert_eq!(revenue["user_properties"]["active_plans"], "List");
    assert_eq!(revenue["counts"][0]["count"], 48);
    let events = others["events"].as_object().unwrap();
    assert!(!events.contains_key("TRIAL_STARTED") && !events.contains_key("ACTIVATE"));
    assert!(!events.contains_key("Charged") && events.contains_key("Brand New"));
    assert_eq!(others["events"]["Trial Started"]["commitment_<name>"], "Mixed");
    assert_eq!(others["events"]["Trial Started"]["content_id"], Value::Null);
    assert_eq!(others["events"]["Purchase"].get("Items"), None);
    let expected = json!({ "Current Plan": "String", "device_id": "String", "tier": "Mixed" });
    assert_eq!(others["user_properties"], expected);
}

#[tokio::test]
async fn the_schema_is_a_table_per_property_and_warns_beyond_a_limit() {
    let off = [("EVENTS_DISABLED", "all"), REVENUE, ("USER_PROPERTIES", "none")];
    let csv = tool::run("explain --schema --csv", &[&TARGET[..], &off].concat()).await;
    let expected = "Event name,Property name,Required,Data type
Charged,Amount,No,Float
Charged,Charged ID,No,String
Charged,Currency,No,String
Charged,Customer Amount,No,Float
Charged,Customer Currency,No,String
Charged,Items,No,List
Charged,Items / plan,No,String
Charged,Items / product,No,String
Charged,Items / store_product_id,No,String
Charged,source,No,String
";
    assert_eq!((csv.stdout.as_str(), csv.stderr.as_str()), (expected, ""));
    let names: Vec<_> = (0..250).map(|n| format!("tier_{n}")).collect();
    let names = format!("plan,{}", names.join(","));
    let settings = [&TARGET[..], &[("USER_PROPERTIES", names.as_str())]].concat();
    let excess = tool::run("explain --schema", &settings).await;
    assert_eq!(excess.code, Some(1));
    let warning = " properties of one event, but CleverTap allows 100";
    assert!(excess.stderr.contains(warning), "{}", excess.stderr);
    let last = excess.stdout.lines().last().unwrap();
    assert!(last.starts_with("46 of 512 event types; "), "{last}");
    assert!(
        last.ends_with(" of 100 properties of one event; 251 of 256 user properties"),
        "{last}"
    );
    let names = (0..467).map(|n| format!("NEW_{n}=New {n}")).collect::<Vec<_>>().join(";");
    let settings = [&TARGET[..], &[("EVENT_NAMES", names.as_str())]].concat();
    let excess = tool::run("explain --schema", &settings).await;
    assert_eq!(excess.code, Some(1));
    let warning = "warning: 513 event types, but CleverTap allows 512";
    assert!(excess.stderr.contains(warning), "{}", excess.stderr);
}

#[tokio::test]
async fn every_choice_has_its_reason() {
    let renewed = r#"{"event_name":"SUBSCRIPTION_RENEWED","user_id":"u"}"#;
    let sandbox = r#"{"event_name":"SUBSCRIPTION_RENEWED","user_id":"u","environment":"SANDBOX"}"#;
    let anonymous = r#"{"event_name":"A","anonymous_user_id":"a"}"#;
    let nested = r#"{"event_name":"A","user_id":"__h1","custom":{"clevertap_id":"__h1"}}"#;
    let long = format!(r#"{{"event_name":"A","user_id":"{}"}}"#, "x".repeat(1024));
    let paid =
        |fields| format!(r#"{{"event_name":"TRANSACTION_PROCESSED","user_id":"u"{fields}}}"#);
    let (refund, amountless) = (paid(r#","amount_in_usd":-5"#), paid(""));
    let paid = paid(r#","amount_in_usd":5"#);
    let many: String = (0..100).map(|n| format!(r#","z{n:03}":1"#)).collect();
    let many = format!(r#"{{"event_name":"A","user_id":"u"{many}}}"#);
    let bought = r#"{"event_name":"DEACTIVATE","anonymous_user_id":"a","store":"APPLE_APP_STORE","plan":"p"}"#;
    let unfit = r#"{"event_name":"A","anonymous_user_id":"a b","store":"APPLE_APP_STORE"}"#;
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
        (("USER_ID_AS", "identity"), nested, "/identity/sent", "objectId __h1"),
        (("USER_ID_AS", "identity"), nested, "/identity/why", "custom.clevertap_id `__h1`"),
        (("ANONYMOUS_USER_ID_AS", "ignore"), anonymous, "/why", "ANONYMOUS_USER_ID_AS=ignore"),
        (("ANONYMOUS_USER_ID_AS", "identity"), anonymous, "/identity/sent", "identity a"),
        (DEVICE, bought, "/identity/sent", "objectId -ha"),
        (DEVICE, bought, "/profile/why", "may have signed in"),
        (DEVICE, anonymous, "/why", "does not tell the platform"),
        (DEVICE, unfit, "/identity/why", "anonymous_user_id `a b`"),
        (DEVICE, unfit, "/why", "CleverTap ID cannot exist"),
        (("EVENTS_DISABLED", "DEACTIVATE"), r#"{"event_name":"DEACTIVATE","plan":"p"}"#, "/why", "no user for its other"),
        (REVENUE, r#"{"event_name":"A"}"#, "/why", "has no user"),
        (REVENUE, &long, "/why", "1024 characters or more"),
        (REVENUE, "{}", "/outcome", "unreadable"),
        (REVENUE, &many, "/fields/101/why", "limit of 100"),
        (("USER_PROPERTIES", "store"), renewed, "/profile/why", "no property of USER_PROPERTIES to write"),
        (("SANDBOX_EVENTS", "drop"), sandbox, "/why", "SANDBOX_EVENTS=drop"),
        (("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-1"), sandbox, "/account", "sandbox"),
        (("REVENUE_CURRENCY", "customer"), &paid, "/revenue/why", "REVENUE_EVENT is not set"),
        (REVENUE, renewed, "/revenue/why", "only TRANSACTION_PROCESSED"),
        (REVENUE, &refund, "/revenue/why", "not positive"),
        (("REFUND_EVENT", "Refunded"), &refund, "/revenue/sent", "Refunded"),
        (("REFUND_EVENT", "Refunded"), &paid, "/revenue/why", "REVENUE_EVENT is not set"),
        (REVENUE, &amountless, "/revenue/why", "no amount in the currency"),
        (("FORWARD_URL", "https://backend.example.com/hook"), &paid, "/forward/sent", "backend.example.com"),
        (REVENUE, &paid, "/revenue/why", "Amount 5.0, Currency \"USD\""),
    ];
    for (setting, body, pointer, expected) in cases {
        let explanation = explain(&[setting], body).await;
        let found = explanation.pointer(pointer).and_then(Value::as_str);
        let is_found = found.is_some_and(|found| found.contains(expected));
        assert!(is_found, "{expected}: {explanation}");
    }
}

#[tokio::test]
async fn every_problem_with_files_and_settings_is_an_error() {
    let missing = tool::run("explain none.json nothing.json", &TARGET).await;
    missing.check_unusable("error: none.json: ");
    missing.check_unusable("error: nothing.json: ");
    let other = tool::run("explain README.md", &TARGET).await;
    other.check_unusable("error: README.md is not a JSON object");
    let wrong = [("USER_ID_AS", "maybe"), ("UNKNOWN_FIELDS", "maybe")];
    let wrong = tool::run("explain README.md", &wrong).await;
    wrong.check_unusable("error: USER_ID_AS");
    wrong.check_unusable("error: UNKNOWN_FIELDS");
    let empty = tempfile::tempdir().unwrap();
    let empty = tool::run(&format!("explain {}", empty.path().display()), &[]).await;
    empty.check_unusable("the files contain no webhook");
}
