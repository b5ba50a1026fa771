//! Profiles, revenue, the sandbox account and dry runs, as CleverTap sees them.

use serde_json::{Value, json};
use testkit::clevertap::{CleverTap, Reply};
use testkit::harness::{
    ACCOUNT_ID, PASSCODE, SHARED_SECRET, World, answered, body, relayed, unavailable,
};
use testkit::secrets_manager::SecretsManager;

const SANDBOX_ACCOUNT_ID: &str = "TEST-765-4321";
const SANDBOX_PASSCODE: &str = "sandbox-passcode-of-the-tests";

fn transaction(amount: f64) -> Vec<u8> {
    json!({
        "event_name": "TRANSACTION_PROCESSED",
        "event_id": "e-1",
        "user_id": "u-1842",
        "amount_in_usd": amount,
        "store_transaction_id": "t-1",
        "plan": "yearly",
    })
    .to_string()
    .into_bytes()
}

fn kinds(records: &[Value]) -> Vec<&str> {
    let kind = |record: &'static str| record;
    let of = |record: &Value| match record["evtName"].as_str() {
        Some("Charged") => kind("Charged"),
        Some(_) => kind("event"),
        None => kind("profile"),
    };
    records.iter().map(of).collect()
}

#[tokio::test]
async fn profile_and_event_go_in_one_upload() {
    let world = World::start(&[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(world.clevertap.uploads().len(), 1);
    assert_eq!(kinds(&world.clevertap.accepted()), ["profile", "event"]);
}

#[tokio::test]
async fn a_switched_off_event_still_keeps_the_profile() {
    let world = World::start(&[("EVENTS_DISABLED", "SUBSCRIPTION_RENEWED")]).await;
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(kinds(&world.clevertap.accepted()), ["profile"]);
}

#[tokio::test]
async fn a_refused_profile_never_decides() {
    let refused = |code| Reply::RefuseRecord { number: 1, code };
    for (reply, told) in [
        (refused(516), json!(516)),
        // Accepted at the second try.
        (refused(555), Value::Null),
        // A refusal of the whole: nothing says that it was not the profile.
        (Reply::FailWithoutReasons, json!(200)),
        (Reply::Status(400), json!(400)),
    ] {
        let world = World::start(&[]).await;
        world.clevertap.script([reply.clone()]);
        assert_eq!(world.post(&body()).await, relayed(), "{reply:?}");
        let accepted = world.clevertap.accepted();
        let events = kinds(&accepted)
            .into_iter()
            .filter(|kind| *kind == "event")
            .count();
        assert_eq!(events, 1, "{reply:?}");
        let line = world.line(|line| line["outcome"] == "relayed").await;
        assert_eq!(line["profile_refused"], told, "{reply:?}");
    }
}

#[tokio::test]
async fn a_profile_without_its_event_is_not_lost_to_a_passing_refusal() {
    let world = World::start(&[("EVENTS_DISABLED", "SUBSCRIPTION_RENEWED")]).await;
    let passing = Reply::RefuseRecord {
        number: 1,
        code: 555,
    };
    world.clevertap.script(std::iter::repeat_n(passing, 1000));
    assert_eq!(world.post(&body()).await, unavailable());
}

#[tokio::test]
async fn once_the_event_is_accepted_a_lost_profile_changes_nothing() {
    let world = World::start(&[]).await;
    let passing = Reply::RefuseRecord {
        number: 1,
        code: 555,
    };
    world
        .clevertap
        .script([passing, Reply::CloseBeforeAnswer, Reply::CloseBeforeAnswer]);
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(kinds(&world.clevertap.accepted()), ["event"]);
}

#[tokio::test]
async fn the_worse_of_event_and_revenue_decides() {
    let unavailable = answered(503, json!({ "error": "unavailable", "event_id": "e-1" }));
    for number in [1, 2] {
        let world = World::start(&[("REVENUE_EVENT", "Charged")]).await;
        world
            .clevertap
            .script([Reply::RefuseRecord { number, code: 512 }]);
        assert_eq!(world.post(&transaction(5.0)).await, unavailable, "{number}");
    }
}

#[tokio::test]
async fn what_was_accepted_is_not_sent_again_with_what_was_not() {
    let world = World::start(&[("REVENUE_EVENT", "Charged")]).await;
    world.clevertap.script([Reply::RefuseRecord {
        number: 2,
        code: 555,
    }]);
    let answer = world.post(&transaction(5.0)).await;
    assert_eq!(
        answer,
        answered(200, json!({ "status": "relayed", "event_id": "e-1" }))
    );
    assert_eq!(kinds(&world.clevertap.accepted()), ["event", "Charged"]);
    let second: Value = serde_json::from_slice(&world.clevertap.uploads()[1].body).unwrap();
    assert_eq!(kinds(second["d"].as_array().unwrap()), ["Charged"]);
}

#[tokio::test]
async fn money_is_told_where_it_is_wanted_and_refunds_are_not_revenue() {
    let world = World::start(&[("REVENUE_EVENT", "Charged")]).await;
    world.post(&transaction(65.0)).await;
    world.post(&transaction(-65.0)).await;
    let accepted = world.clevertap.accepted();
    assert_eq!(kinds(&accepted), ["event", "Charged", "event"]);
    assert_eq!(
        accepted[1]["evtData"],
        json!({
            "Amount": 65.0,
            "Currency": "USD",
            "Charged ID": "t-1",
            "source": "purchasely",
            "Items": [{ "plan": "yearly" }],
        })
    );
    assert_eq!(accepted[2]["evtData"]["amount_in_usd"], -65.0);

    let without = World::start(&[]).await;
    without.post(&transaction(65.0)).await;
    assert_eq!(kinds(&without.clevertap.accepted()), ["event"]);
}

fn sandbox_body() -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(&body()).unwrap();
    body["environment"] = json!("SANDBOX");
    body.to_string().into_bytes()
}

#[tokio::test]
async fn a_testers_purchase_goes_to_the_main_account_as_an_event_only() {
    let world = World::start(&[("SANDBOX_EVENTS", "relay")]).await;
    assert_eq!(world.post(&sandbox_body()).await, relayed());
    assert_eq!(kinds(&world.clevertap.accepted()), ["event"]);
}

#[tokio::test]
async fn or_whole_to_an_account_of_its_own_with_its_own_passcode() {
    let secret = json!({
        "clevertap_passcode": PASSCODE,
        "clevertap_sandbox_passcode": SANDBOX_PASSCODE,
        "purchasely_shared_secret": SHARED_SECRET,
    });
    let manager = SecretsManager::new("relay", &secret.to_string());
    let sandbox = CleverTap::new(SANDBOX_ACCOUNT_ID, SANDBOX_PASSCODE);
    let (listener, url) = testkit::harness::listen().await;
    tokio::spawn(sandbox.clone().serve(listener));
    let settings = [
        ("CLEVERTAP_SANDBOX_ACCOUNT_ID", SANDBOX_ACCOUNT_ID),
        ("CLEVERTAP_API_URL", &url),
    ];
    let world = World::start_with(manager, &settings).await;
    assert_eq!(world.post(&sandbox_body()).await, relayed());
    assert_eq!(kinds(&sandbox.accepted()), ["profile", "event"]);
    // Both accounts are at one address here, so a real purchase shows the other account's id.
    world.post(&body()).await;
    let accounts: Vec<_> = sandbox
        .uploads()
        .into_iter()
        .map(|upload| upload.account_id)
        .collect();
    assert_eq!(accounts[0].as_deref(), Some(SANDBOX_ACCOUNT_ID));
    assert_eq!(accounts[1].as_deref(), Some(ACCOUNT_ID));
}

#[tokio::test]
async fn a_missing_sandbox_passcode_holds_no_real_purchase() {
    let world = World::start(&[("CLEVERTAP_SANDBOX_ACCOUNT_ID", SANDBOX_ACCOUNT_ID)]).await;
    assert_eq!(world.post(&sandbox_body()).await, unavailable());
    let line = world
        .line(|line| line["reason"] == "no_sandbox_passcode")
        .await;
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("clevertap_sandbox_passcode"),
        "{line}"
    );
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn a_dry_run_stores_nothing_and_says_so() {
    let world = World::start(&[("CLEVERTAP_DRY_RUN", "true")]).await;
    let expected =
        json!({ "status": "dry_run", "event_id": "0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11" });
    assert_eq!(world.post(&body()).await, answered(200, expected));
    assert_eq!(
        world.clevertap.uploads()[0].query.as_deref(),
        Some("dryRun=1")
    );
    assert_eq!(world.clevertap.accepted().len(), 0);
    world.clevertap.script([Reply::RefuseRecord {
        number: 2,
        code: 513,
    }]);
    assert_eq!(world.post(&body()).await, unavailable());
}
