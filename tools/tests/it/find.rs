//! `cargo relay find` without a log to search: the digests that it prints, beside the log of the real function.

use serde_json::{Value, json};
use std::io::Write;
use testkit::harness::{PASSCODE, SECRET_ID, SHARED_SECRET, World, signed};
use testkit::tool;
use testkit::webhook::Front;
use testkit::world::secrets_manager::SecretsManager;

const SECRET: (&str, &str) = ("PURCHASELY_SHARED_SECRET", SHARED_SECRET);

async fn digest(user_id: &str) -> String {
    let finished = tool::run(&format!("find {user_id} --json"), &[SECRET]).await;
    let line: Value = serde_json::from_str(&finished.stdout).expect(&finished.stderr);
    assert_eq!(line["secret"], "current");
    line["user"].as_str().expect("a text").to_owned()
}

/// The lines of events in a log so far, by event id, with the digest of each.
fn users(world: &World) -> Vec<(String, Value)> {
    let lines = world.function.log().into_iter();
    let lines = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let lines = lines.filter(|line| line["outcome"].is_string());
    let id = |line: &Value| line["event_id"].as_str().unwrap_or_default().to_owned();
    lines.map(|line| (id(&line), line["user"].clone())).collect()
}

#[tokio::test]
async fn the_log_names_a_user_by_the_digest_that_the_command_prints() {
    let world = World::start(&[("USER_PROPERTIES", "none")]).await;
    let event = |id: &str, user: Value| {
        let mut event = json!({ "event_name": "TRIAL_STARTED", "event_id": id });
        event.as_object_mut().unwrap().extend(user.as_object().unwrap().clone());
        event.to_string()
    };
    let both = json!({ "user_id": "private-user", "anonymous_user_id": "private-device" });
    let anonymous = json!({ "anonymous_user_id": "private-device" });
    let other_id = json!({ "user_id": 1842, "clevertap_id": "__private" });
    world.post(event("signed-in", both.clone()).as_bytes()).await;
    world.post(event("anonymous", anonymous).as_bytes()).await;
    world.post(event("number", other_id).as_bytes()).await;
    world.post(event("nobody", json!({})).as_bytes()).await;
    let forged = signed(event("forged", both.clone()).as_bytes(), "another secret");
    world.invoke(&forged.envelope(Front::HttpApi)).await;
    let message = json!({
        "messageId": "m", "body": event("queued", both), "eventSource": "aws:sqs", "attributes": {},
        "messageAttributes": {}, "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:events.fifo",
    });
    world.api.invoke(json!({ "Records": [message] })).await.expect("an answer");

    let (user, device) = (digest("private-user").await, digest("private-device").await);
    let expected = [
        ("signed-in", json!(user)),
        ("anonymous", json!(device)),
        ("number", json!(digest("1842").await)),
        ("nobody", Value::Null),
        ("", Value::Null),
        ("queued", json!(user)),
    ];
    assert_eq!(users(&world), expected.map(|(id, user)| (id.to_owned(), user)));
    assert_eq!(user.len(), 16);
    let log = world.function.log().join("\n");
    assert!(!log.contains("private"), "{log}");
}

#[tokio::test]
async fn unsigned_events_have_a_digest_only_if_there_is_a_shared_secret() {
    for (shared_secret, has_digest) in [(Some(SHARED_SECRET), true), (None, false)] {
        let secret =
            json!({ "clevertap_passcode": PASSCODE, "purchasely_shared_secret": shared_secret });
        let mut secret = secret.as_object().unwrap().clone();
        secret.retain(|_, value| !value.is_null());
        let manager = SecretsManager::new(SECRET_ID, &json!(secret).to_string());
        let world = World::start_with(manager, &[("PURCHASELY_SIGNATURE", "off")]).await;
        world
            .post(br#"{"event_name":"TRIAL_STARTED","event_id":"e-1","user_id":"u-1"}"#)
            .await;
        let user = if has_digest {
            json!(digest("u-1").await)
        } else {
            Value::Null
        };
        assert_eq!(users(&world), [("e-1".to_owned(), user)]);
    }
}

#[tokio::test]
async fn a_secret_file_gives_the_digests_of_the_current_and_the_previous_secret() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let secret = json!({
        "clevertap_passcode": PASSCODE,
        "purchasely_shared_secret": "rotated",
        "purchasely_shared_secret_previous": SHARED_SECRET,
    });
    file.write_all(secret.to_string().as_bytes()).unwrap();
    let arguments = format!("find u-1 --secret-file {}", file.path().display());
    // The file is named on the command line, so it wins.
    let finished = tool::run(&arguments, &[SECRET]).await;
    let (current, previous) = finished.stdout.trim_end().split_once('\n').expect("two lines");
    let old = digest("u-1").await;
    assert_eq!(previous, format!("{old}  previous secret"));
    assert!(current.ends_with("  current secret") && !current.contains(&old), "{current}");
}

#[tokio::test]
async fn without_a_user_id_or_a_secret_nothing_is_printed() {
    let no_id = tool::run("find", &[SECRET]).await;
    no_id.check_unusable("the user id is empty");
    let no_secret = tool::run("find u-1", &[]).await;
    no_secret.check_unusable("PURCHASELY_SHARED_SECRET is not set");
    let no_file = tool::run("find u-1 --secret-file missing.json", &[SECRET]).await;
    no_file.check_unusable("missing.json: ");
    let no_secret_file = tool::run("find u-1 --secret-file events/TRIAL_STARTED.json", &[]).await;
    no_secret_file.check_unusable("has no text under the key `purchasely_shared_secret`");
}
