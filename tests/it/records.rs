//! Profile, event and revenue records, the sandbox account and dry runs, as CleverTap receives them.
//! It does not know how each field is mapped; `golden.rs` and the unit tests of `src/mapping` do.

use serde_json::{Value, json};
use testkit::harness::{
    ACCOUNT_ID, PASSCODE, SHARED_SECRET, World, answered, body, refuse, relayed, unavailable,
};
use testkit::sockets::Server;
use testkit::sockets::resources::Resources;
use testkit::world::clevertap::CleverTap;
use testkit::world::secrets_manager::SecretsManager;

const SANDBOX_ACCOUNT_ID: &str = "TEST-765-4321";
const SANDBOX_PASSCODE: &str = "sandbox-passcode-of-the-tests";

fn transaction(amount: f64) -> Vec<u8> {
    let body = json!({
        "event_name": "TRANSACTION_PROCESSED",
        "event_id": "e-1",
        "user_id": "u-1842",
        "amount_in_usd": amount,
        "store_transaction_id": "t-1",
        "plan": "yearly",
    });
    body.to_string().into_bytes()
}

fn sandbox_body() -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(&body()).unwrap();
    body["environment"] = json!("SANDBOX");
    body.to_string().into_bytes()
}

fn kinds(records: &[Value]) -> Vec<&str> {
    let kind = |record: &Value| match record["evtName"].as_str() {
        Some("Charged") => "Charged",
        Some(_) => "event",
        None => "profile",
    };
    records.iter().map(kind).collect()
}

#[tokio::test]
async fn a_positive_amount_is_revenue_where_a_revenue_event_is_set() {
    let world = World::start(&[("REVENUE_EVENT", "Charged")]).await;
    world.post(&transaction(65.0)).await;
    world.post(&transaction(-65.0)).await;
    let accepted = world.clevertap.accepted();
    assert_eq!(kinds(&accepted), ["event", "Charged", "event"]);
    let revenue = json!({
        "Amount": 65.0,
        "Currency": "USD",
        "Charged ID": "t-1",
        "source": "purchasely",
        "Items": [{ "plan": "yearly" }],
    });
    assert_eq!(accepted[1]["evtData"], revenue);
    assert_eq!(accepted[2]["evtData"]["amount_in_usd"], -65.0);

    let without = World::start(&[]).await;
    without.post(&transaction(65.0)).await;
    assert_eq!(kinds(&without.clevertap.accepted()), ["event"]);
}

#[tokio::test]
async fn a_refund_is_raised_beside_its_event_and_counts_as_its_revenue_record() {
    let resources = Resources::make().await;
    let refund = ("REFUND_EVENT", "Refunded");
    let world = World::start(&[&resources.settings()[..], &[refund]].concat()).await;
    world.post(&transaction(-65.0)).await;
    let accepted = world.clevertap.accepted();
    let refund = json!({ "Amount": 65.0, "Currency": "USD", "Charged ID": "t-1" });
    assert_eq!(accepted[1]["evtName"], "Refunded");
    assert_eq!(accepted[1]["evtData"], refund);

    let again = transaction(-66.0);
    let again = String::from_utf8(again).unwrap().replace("e-1", "e-2");
    world.clevertap.script([refuse(2, 512)]);
    assert_eq!(world.post(again.as_bytes()).await.body["status"], "dead_lettered");
    let letter = &resources.letters()[0];
    assert_eq!(letter["attributes"]["records"], "revenue");
}

#[tokio::test]
async fn a_payment_without_the_wanted_amount_is_a_warning_with_its_reason() {
    let settings = [("REVENUE_EVENT", "Charged"), ("REVENUE_CURRENCY", "GBP")];
    let world = World::start(&settings).await;
    assert_eq!(world.post(&transaction(65.0)).await.status, 200);
    assert_eq!(kinds(&world.clevertap.accepted()), ["event"]);
    let line = world.line(|line| line["outcome"] == "relayed").await;
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["RevenueMissing"], 1);
    assert_eq!(line["adjusted"], json!(["revenue: no_amount"]));
    assert!(line["message"].as_str().unwrap().contains("REVENUE_CURRENCY"), "{line}");
}

#[tokio::test]
async fn a_buyer_without_an_account_is_the_device_where_the_store_tells_its_platform() {
    let setting = ("ANONYMOUS_USER_ID_AS", "clevertap_id");
    let world = World::start(&[setting]).await;
    let started = world.line(|line| line["message"] == "started").await;
    assert!(started["anonymous_buyers"].as_str().unwrap().contains("custom CleverTap ID"));
    let bought_in = |store: &str| {
        let body = json!({
            "event_name": "TRIAL_STARTED", "event_id": store, "anonymous_user_id": "B3CD-1", "store": store,
        });
        body.to_string().into_bytes()
    };
    for (store, prefix) in [("GOOGLE_PLAY_STORE", "__h"), ("APPLE_APP_STORE", "-h")] {
        assert_eq!(world.post(&bought_in(store)).await.body["status"], "relayed");
        for record in world.clevertap.take_uploads() {
            let record: Value = serde_json::from_slice(&record.body).unwrap();
            assert_eq!(record["d"][0]["objectId"], format!("{prefix}B3CD-1"));
        }
    }
    assert_eq!(world.post(&bought_in("STRIPE")).await.body["reason"], "anonymous_store");
    let line = world.line(|line| line["reason"] == "anonymous_store").await;
    assert_eq!(line["AnonymousIgnored"], 1);
}

#[tokio::test]
async fn settings_decide_names_and_properties() {
    let settings = [
        ("EVENT_NAMES", "TRIAL_STARTED=Trial Started"),
        ("PROPERTIES_OMITTED", "device_id"),
        ("UNKNOWN_FIELDS", "drop"),
        ("ANONYMOUS_USER_ID_AS", "identity"),
        ("SANDBOX_EVENTS", "relay"),
    ];
    let world = World::start(&settings).await;
    let body = json!({
        "event_name": "TRIAL_STARTED",
        "environment": "SANDBOX",
        "anonymous_user_id": "a-1",
        "device_id": "d",
        "brand_new": 1,
    });
    assert_eq!(world.post(body.to_string().as_bytes()).await.status, 200);
    let record = &world.clevertap.accepted()[0];
    assert_eq!(
        (&record["identity"], &record["evtName"]),
        (&json!("a-1"), &json!("Trial Started"))
    );
    let properties = json!({
        "anonymous_user_id": "a-1", "environment": "SANDBOX", "event_name": "TRIAL_STARTED",
    });
    assert_eq!(record["evtData"], properties);
}

#[tokio::test]
async fn a_sandbox_purchase_goes_to_the_main_account_as_an_event_only() {
    let world = World::start(&[("SANDBOX_EVENTS", "relay")]).await;
    assert_eq!(world.post(&sandbox_body()).await, relayed());
    assert_eq!(kinds(&world.clevertap.accepted()), ["event"]);
}

#[tokio::test]
async fn a_sandbox_purchase_goes_whole_to_an_account_of_its_own() {
    let secret = json!({
        "clevertap_passcode": PASSCODE,
        "clevertap_sandbox_passcode": SANDBOX_PASSCODE,
        "purchasely_shared_secret": SHARED_SECRET,
    });
    let manager = SecretsManager::new("relay", &secret.to_string());
    let sandbox = Server::start(CleverTap::new(SANDBOX_ACCOUNT_ID, SANDBOX_PASSCODE)).await;
    let settings = [
        ("CLEVERTAP_SANDBOX_ACCOUNT_ID", SANDBOX_ACCOUNT_ID),
        ("CLEVERTAP_API_URL", &*sandbox.url),
    ];
    let world = World::start_with(manager, &settings).await;
    assert_eq!(world.post(&sandbox_body()).await, relayed());
    assert_eq!(kinds(&sandbox.accepted()), ["profile", "event"]);
    // Both accounts share one address here, so a production purchase shows the other account's credentials.
    world.post(&body()).await;
    let production = &sandbox.uploads()[1];
    assert_eq!(production.account_id.as_deref(), Some(ACCOUNT_ID));
    assert_eq!(production.passcode.as_deref(), Some(PASSCODE));
}

#[tokio::test]
async fn a_missing_sandbox_passcode_blocks_no_production_purchase() {
    let world = World::start(&[("CLEVERTAP_SANDBOX_ACCOUNT_ID", SANDBOX_ACCOUNT_ID)]).await;
    assert_eq!(world.post(&sandbox_body()).await, unavailable());
    let line = world.line(|line| line["reason"] == "no_sandbox_passcode").await;
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("clevertap_sandbox_passcode"), "{line}");
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn a_lone_profile_that_is_refused_is_ignored_with_a_warning() {
    let world = World::start(&[("EVENTS_DISABLED", "SUBSCRIPTION_RENEWED")]).await;
    world.clevertap.script([refuse(1, 512)]);
    let answer = world.post(testkit::harness::event("e-1", "u").to_string().as_bytes()).await;
    let ignored = json!({ "status": "ignored", "reason": "profile_refused", "event_id": "e-1" });
    assert_eq!(answer, answered(200, ignored));
    let line = world.line(|line| line["reason"] == "profile_refused").await;
    assert_eq!((&line["level"], &line["ProfileRefused"]), (&json!("WARN"), &json!(1)));
}

#[tokio::test]
async fn a_dry_run_stores_nothing_and_is_reported_as_one() {
    let world = World::start(&[("CLEVERTAP_DRY_RUN", "true")]).await;
    let dry_run =
        json!({ "status": "dry_run", "event_id": "0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11" });
    assert_eq!(world.post(&body()).await, answered(200, dry_run));
    assert_eq!(world.clevertap.uploads()[0].query.as_deref(), Some("dryRun=1"));
    world.clevertap.script([refuse(2, 513)]);
    assert_eq!(world.post(&body()).await, unavailable());
    assert_eq!(world.clevertap.accepted().len(), 0);
}
