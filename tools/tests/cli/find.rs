//! `cargo relay find` in the log of a stack.

use crate::deployed::Stack;
use serde_json::{Value, json};
use testkit::harness::{
    PASSCODE, SECRET_ID, SHARED_SECRET, World, event, now_seconds, secret_value,
};
use testkit::world::clevertap::Reply;
use testkit::world::secrets_manager::SecretsManager;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The log of a real function.
async fn log(secret: &str, events: &[(Reply, Value)]) -> Vec<String> {
    let secrets = SecretsManager::new(SECRET_ID, &secret_value(PASSCODE, secret));
    let world = World::start_with(secrets, &[]).await;
    for (reply, event) in events {
        world.clevertap.script([reply.clone()]);
        let body = event.to_string();
        let webhook = testkit::harness::signed(body.as_bytes(), secret);
        world.invoke(&webhook.envelope(testkit::webhook::Front::HttpApi)).await;
    }
    world.function.log()
}

#[tokio::test]
async fn a_users_deliveries_are_found_by_both_secrets_and_explained() {
    let stack = Stack::make("find", "").await;
    stack
        .store(&json!({
            "clevertap_passcode": PASSCODE,
            "purchasely_shared_secret": SHARED_SECRET,
            "purchasely_shared_secret_previous": "rotated",
        }))
        .await;
    let old = log("rotated", &[(Reply::Normal, event("first", "u-1842"))]).await;
    let refused = Reply::Status(401);
    let new = log(
        SHARED_SECRET,
        &[(Reply::Normal, event("another's", "u-2")), (refused, event("second", "u-1842"))],
    )
    .await;
    let now_ms = now_seconds() * 1000;
    stack.log(now_ms - 1000, &new).await;
    stack.log(now_ms - 10 * DAY_MS, &old).await;

    let found = stack.run("find u-1842 --days 20 --json", "").await;
    let json: Value = serde_json::from_str(&found.stdout).expect(&found.stderr);
    let deliveries = json["deliveries"].as_array().unwrap().iter();
    let deliveries: Vec<_> = deliveries.map(|it| (&it["event_id"], &it["outcome"])).collect();
    let expected = [(json!("first"), json!("relayed")), (json!("second"), json!("unavailable"))];
    let expected: Vec<_> = expected.iter().map(|(id, outcome)| (id, outcome)).collect();
    assert_eq!((deliveries, found.code), (expected, Some(1)), "{json}");
    assert_eq!((&json["open"], &json["meaning"]), (&json!(["second"]), &Value::Null));

    // The emulator does not search: that the lines of others are not among these is the tool's own work.
    let found = stack.run("find", "u-1842\n").await;
    let lines: Vec<_> = found.stdout.lines().collect();
    assert!(
        lines[0].ends_with("  SUBSCRIPTION_RENEWED  unavailable (credentials_rejected)  second"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("  not relayed: CleverTap"), "{lines:?}");
    assert!(lines[2].starts_with("  what to do: Check that passcode, "), "{lines:?}");
    assert_eq!(lines[3..], ["", "deliveries in the last 7 days: 1", "not settled: second"]);
    for secret in ["u-1842", PASSCODE, SHARED_SECRET] {
        assert!(!format!("{json}{}{}", found.stdout, found.stderr).contains(secret), "{secret}");
    }

    let nobody = stack.run("find u-3", "").await;
    assert!(
        nobody.stdout.starts_with("No line of the log names this user."),
        "{}",
        nobody.stdout
    );
    assert_eq!(nobody.code, Some(1));
}

#[tokio::test]
async fn without_the_stack_or_its_secret_nothing_is_searched() {
    let stack = Stack::make("find-empty", "").await;
    let empty = stack.run("find u-1", "").await;
    empty.check_unusable("the secret's key `purchasely_shared_secret` is empty");
    let missing = Stack { name: "nowhere", ..stack }.run("find u-1", "").await;
    missing.check_unusable("describe-stacks --stack-name: ValidationError: ");
}
