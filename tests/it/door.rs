//! What comes in, and the answer that goes out for it.

use purchasely_clevertap::purchasely::catalogue::EVENTS;
use serde_json::{Value, json};
use testkit::harness::{SHARED_SECRET, World, answered, body, now_seconds, relayed, signed};
use testkit::webhook::{Front, Webhook};

#[tokio::test]
async fn relays_a_signed_webhook_from_every_front() {
    let world = World::start(&[]).await;
    for front in [Front::HttpApi, Front::HttpApiBase64, Front::RestApi] {
        let event = signed(&body(), SHARED_SECRET).envelope(front);
        assert_eq!(world.invoke(&event).await, relayed(), "{front:?}");
    }
    // Emulators insist on `cookies` in payload 2.0; payload 1.0 does not know them.
    for (front, cookies) in [(Front::HttpApi, json!([])), (Front::RestApi, Value::Null)] {
        let event = signed(b"", SHARED_SECRET).envelope(front);
        assert_eq!(
            world.api.invoke(&event).await.unwrap()["cookies"],
            cookies,
            "{front:?}"
        );
    }
    let profile = json!({
        "identity": "u-1842",
        "type": "profile",
        "ts": 1_772_439_330,
        "profileData": {
            "has_active_subscription": true,
            "active_plans": { "$add": ["yearly"] },
            "plan": "yearly",
        },
    });
    let event = json!({
        "identity": "u-1842",
        "type": "event",
        "evtName": "SUBSCRIPTION_RENEWED",
        "ts": 1_772_439_330,
        "evtData": {
            "event_created_at": "$D_1772439330",
            "event_id": "0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11",
            "event_name": "SUBSCRIPTION_RENEWED",
            "plan": "yearly",
            "user_id": "u-1842",
        },
    });
    assert_eq!(
        world.clevertap.accepted(),
        vec![[profile, event]; 3].concat()
    );
}

#[tokio::test]
async fn relays_every_event_of_the_catalogue_and_an_invented_one() {
    let world = World::start(&[]).await;
    let names = EVENTS
        .iter()
        .map(|(name, _)| *name)
        .chain(["SOMETHING_NEW"]);
    for name in names {
        let body = json!({ "event_name": name, "user_id": "u", "event_id": "e" }).to_string();
        let answer = world.post(body.as_bytes()).await;
        assert_eq!(
            answer,
            answered(200, json!({ "status": "relayed", "event_id": "e" })),
            "{name}"
        );
    }
    let accepted = world.clevertap.accepted();
    let events = accepted.iter().filter(|record| record["type"] == "event");
    assert_eq!(events.count(), EVENTS.len() + 1);
}

#[tokio::test]
async fn refuses_what_is_not_shown_to_come_from_purchasely() {
    let world = World::start(&[]).await;
    let unauthorized = || answered(401, json!({ "error": "unauthorized" }));
    let right = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    let signature = right["headers"]["x-purchasely-request-signature"].clone();

    let mut missing = right.clone();
    missing["headers"]
        .as_object_mut()
        .unwrap()
        .remove("x-purchasely-request-signature");
    let mut deprecated = missing.clone();
    deprecated["headers"]["x-purchasely-signature"] = signature.clone();
    let mut doubled = right.clone();
    let twice = format!("{0},{0}", signature.as_str().unwrap());
    doubled["headers"]["x-purchasely-request-signature"] = json!(twice);
    let mut altered = right.clone();
    altered["body"] = json!(
        String::from_utf8(body())
            .unwrap()
            .replace("yearly", "weekly")
    );
    let wrong = signed(&body(), "another secret").envelope(Front::HttpApi);
    for (what, event) in [
        ("missing", missing),
        ("deprecated", deprecated),
        ("doubled", doubled),
        ("altered", altered),
        ("wrong", wrong),
    ] {
        assert_eq!(world.invoke(&event).await, unauthorized(), "{what}");
    }

    // A REST API repeats the last value of a header where the function could overlook the first.
    let mut doubled = signed(&body(), SHARED_SECRET).envelope(Front::RestApi);
    let signature = doubled["headers"]["x-purchasely-request-signature"].clone();
    doubled["multiValueHeaders"]["x-purchasely-request-signature"] =
        json!(["0".repeat(64), signature]);
    assert_eq!(world.invoke(&doubled).await, unauthorized());

    assert_eq!(world.clevertap.uploads().len(), 0);
}

#[tokio::test]
async fn accepts_the_previous_shared_secret() {
    let secret = json!({
        "clevertap_passcode": testkit::harness::PASSCODE,
        "purchasely_shared_secret": "the-next-one",
        "purchasely_shared_secret_previous": SHARED_SECRET,
    });
    let manager = testkit::secrets_manager::SecretsManager::new("relay", &secret.to_string());
    let world = World::start_with(manager, &[]).await;
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn an_old_signature_is_refused_only_within_a_tolerance() {
    let old = Webhook::new(body(), SHARED_SECRET, now_seconds() - 20 * 24 * 3600);
    let event = old.envelope(Front::HttpApi);
    let world = World::start(&[]).await;
    assert_eq!(world.invoke(&event).await, relayed());
    let strict = World::start(&[("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "300")]).await;
    assert_eq!(strict.invoke(&event).await.status, 401);
    assert_eq!(strict.post(&body()).await, relayed());
}

#[tokio::test]
async fn an_unsigned_webhook_is_believed_where_the_owner_says_so() {
    let world = World::start(&[("PURCHASELY_SIGNATURE", "off")]).await;
    let mut event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    event["headers"] = json!({});
    assert_eq!(world.invoke(&event).await, relayed());
    let warning = world.line(|line| line["level"] == "WARN").await;
    let message = warning["message"].as_str().unwrap();
    assert!(
        message.starts_with("PURCHASELY_SIGNATURE is off"),
        "{message}"
    );
}

#[tokio::test]
async fn serves_only_post() {
    let world = World::start(&[]).await;
    for method in ["GET", "PUT", "DELETE", "HEAD"] {
        let mut event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
        event["requestContext"]["http"]["method"] = json!(method);
        let answer = world.api.invoke(&event).await.unwrap();
        assert_eq!(answer["statusCode"], 405);
        assert_eq!(answer["headers"]["allow"], "POST");
        assert_eq!(answer["body"], r#"{"error":"method_not_allowed"}"#);
    }
}

#[tokio::test]
async fn a_body_over_256_kib_is_too_large() {
    let world = World::start(&[]).await;
    let too_large = answered(413, json!({ "error": "payload_too_large" }));
    assert_eq!(world.post(&vec![b'x'; 2 * 1024 * 1024]).await, too_large);
    assert_eq!(world.post(&vec![b'x'; 256 * 1024 + 1]).await, too_large);
    let mut largest = body();
    largest.resize(256 * 1024, b' ');
    assert_eq!(world.post(&largest).await, relayed());
}

/// Whether the answer is one of the table's; its status and word.
fn known(answer: &Value) -> (u64, String) {
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    let word = body["status"].as_str().or(body["error"].as_str()).unwrap();
    (answer["statusCode"].as_u64().unwrap(), word.to_owned())
}

#[tokio::test]
async fn no_request_is_left_without_an_answer() {
    let world = World::start(&[]).await;
    let signed = |body: &[u8]| signed(body, SHARED_SECRET).envelope(Front::HttpApiBase64);
    let nested = [
        b"{\"a\":".repeat(10_000),
        b"1".to_vec(),
        b"}".repeat(10_000),
    ]
    .concat();
    let nested_list = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    for (what, body) in [
        ("nothing", &b""[..]),
        ("invalid UTF-8", b"\xff\xfe{"),
        ("no object", b"[]"),
        ("no name", b"{}"),
        (
            "version 2",
            br#"{"name":"ACTIVATE","user":{"vendor_id":"u"}}"#,
        ),
        ("nobody", br#"{"event_name":"ACTIVATE"}"#),
        ("ten thousand objects", &nested),
        ("ten thousand lists", &nested_list),
    ] {
        let answer = world.api.invoke(signed(body)).await.unwrap();
        assert_eq!(known(&answer), (503, "unavailable".to_owned()), "{what}");
    }

    let mut no_body = signed(b"");
    no_body["body"] = Value::Null;
    no_body["headers"] = json!({});
    assert_eq!(known(&world.api.invoke(&no_body).await.unwrap()).0, 401);

    let mut bad_base64 = signed(&body());
    bad_base64["body"] = json!("*** not base64 ***");
    assert_eq!(known(&world.api.invoke(&bad_base64).await.unwrap()).0, 503);

    let mut bad_host = signed(&body());
    bad_host["headers"]["host"] = json!("not a host");
    assert_eq!(known(&world.api.invoke(&bad_host).await.unwrap()).0, 503);

    for event in ["{}", "[]", "null", "7", "\"text\""] {
        let answer = world.api.invoke(event).await.unwrap();
        assert_eq!(known(&answer).0, 503, "{event}");
    }
    // The function is as well as before.
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn a_request_shaped_like_a_batch_is_a_request() {
    let world = World::start(&[]).await;
    let shaped = json!({ "Records": [{ "eventSource": "aws:sqs", "body": "{}" }] }).to_string();
    let mut event = signed(shaped.as_bytes(), SHARED_SECRET).envelope(Front::HttpApi);
    event["headers"] = json!({});
    event["rawPath"] = json!("/events");
    assert_eq!(world.invoke(&event).await.status, 401);
}

#[tokio::test]
async fn what_is_rightly_not_sent_is_acknowledged() {
    let settings = [("EVENTS_DISABLED", "ACTIVATE"), ("USER_PROPERTIES", "none")];
    let world = World::start(&settings).await;
    for (fields, reason) in [
        (
            json!({ "event_name": "ACTIVATE", "user_id": "u" }),
            "event_disabled",
        ),
        (
            json!({ "event_name": "TRIAL_STARTED", "user_id": "u", "environment": "SANDBOX" }),
            "sandbox",
        ),
        (
            json!({ "event_name": "TRIAL_STARTED", "anonymous_user_id": "a" }),
            "anonymous",
        ),
    ] {
        let answer = world.post(fields.to_string().as_bytes()).await;
        let expected = json!({ "status": "ignored", "reason": reason });
        assert_eq!(answer, answered(200, expected), "{reason}");
    }
    assert_eq!(world.clevertap.uploads().len(), 0);
}

#[tokio::test]
async fn five_mistakes_are_told_in_one_line_and_end_the_start() {
    use testkit::lambda::{Function, RuntimeApi};
    let api = RuntimeApi::start().await;
    let function = Function::spawn(
        testkit::harness::function_path(),
        &api,
        &[
            ("CLEVERTAP_REGION", "mars"),
            ("USER_ID_AS", "email"),
            ("UNKNOWN_FIELDS", "keep"),
            ("SECRET_ID", "relay"),
            ("CLEVERTAP_API_URL", "http://example.com"),
        ],
    );
    assert_eq!(function.wait_for_exit().await.code(), Some(78));
    let line = function
        .wait_for_log(|line| line.contains("settings"))
        .await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["mistakes"], 5);
    let message = line["message"].as_str().unwrap();
    for variable in [
        "CLEVERTAP_REGION",
        "CLEVERTAP_ACCOUNT_ID",
        "USER_ID_AS",
        "UNKNOWN_FIELDS",
        "CLEVERTAP_API_URL",
    ] {
        assert!(
            message.contains(&format!("{variable}: ")),
            "{variable} in {message}"
        );
    }
}

#[tokio::test]
async fn the_log_is_json_lines_without_secrets_bodies_or_users() {
    let world = World::start(&[("AWS_LAMBDA_LOG_LEVEL", "TRACE")]).await;
    let body = json!({
        "event_name": "SUBSCRIPTION_RENEWED",
        "event_id": "e-77",
        "user_id": "user-to-be-kept-quiet",
        "plan": "plan-to-be-kept-quiet",
        "presentation": "x".repeat(600),
    });
    let answer = world.post(body.to_string().as_bytes()).await;
    assert_eq!(
        answer,
        answered(200, json!({ "status": "relayed", "event_id": "e-77" }))
    );
    let line = world.line(|line| line["outcome"] == "relayed").await;
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["event_id"], "e-77");
    assert_eq!(line["event_name"], "SUBSCRIPTION_RENEWED");
    assert_eq!(line["clevertap_status"], 200);
    assert_eq!(line["attempts"], 1);
    assert_eq!(line["adjusted"], json!(["presentation: sanitized"]));
    for field in [
        "timestamp",
        "request_id",
        "trace_id",
        "upload_ms",
        "duration_ms",
    ] {
        assert!(!line[field].is_null(), "{field}");
    }
    let started = world.line(|line| line["message"] == "started").await;
    assert!(
        started["upload_url"]
            .as_str()
            .unwrap()
            .starts_with("http://127.0.0.1:")
    );
    assert_eq!(started["region"], "in1 (India)");
    for line in world.function.log() {
        let parsed: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            !parsed["level"].is_null() && !parsed["timestamp"].is_null(),
            "{line}"
        );
        for quiet in ["kept-quiet", testkit::harness::PASSCODE, SHARED_SECRET] {
            assert!(!line.contains(quiet), "{line}");
        }
    }
}

#[tokio::test]
async fn settings_decide_names_and_properties() {
    let world = World::start(&[
        ("EVENT_NAMES", "TRIAL_STARTED=Trial Started"),
        ("PROPERTIES_OMITTED", "device_id"),
        ("UNKNOWN_FIELDS", "drop"),
        ("ANONYMOUS_USER_ID_AS", "identity"),
        ("SANDBOX_EVENTS", "relay"),
    ])
    .await;
    let body = json!({
        "event_name": "TRIAL_STARTED",
        "environment": "SANDBOX",
        "anonymous_user_id": "a-1",
        "device_id": "d",
        "brand_new": 1,
    });
    assert_eq!(world.post(body.to_string().as_bytes()).await.status, 200);
    let record = &world.clevertap.accepted()[0];
    assert_eq!(record["identity"], "a-1");
    assert_eq!(record["evtName"], "Trial Started");
    assert_eq!(
        record["evtData"],
        json!({
            "anonymous_user_id": "a-1",
            "environment": "SANDBOX",
            "event_name": "TRIAL_STARTED",
        })
    );
}
