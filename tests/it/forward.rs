//! The operator's own backend: what it receives, and what each of its answers does.
//! It does not know what CleverTap does with the same event.

use crate::{STATED, start, with_resources};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::harness::{
    PASSCODE, SECRET_ID, SHARED_SECRET, World, body, event, now_seconds, relayed, secret_value,
    signed, unavailable,
};
use testkit::messages::{failures, message};
use testkit::sockets::resources::Resources;
use testkit::sockets::servers::refusing_port;
use testkit::sockets::tls::Authority;
use testkit::sockets::{Latency, Server};
use testkit::webhook::{Front, Webhook};
use testkit::world::backend::Backend;
use testkit::world::clevertap::Reply;
use testkit::world::faulty::{Fault, Faulty};
use testkit::world::secrets_manager::SecretsManager;

const HOP: &str = "x-purchasely-clevertap-hop";
/// Part of the address, which no log may have.
const TOKEN: &str = "token-of-the-tests";

async fn backend() -> Server<Faulty<Backend>> {
    Server::start(Faulty::from(Backend::new(SHARED_SECRET))).await
}

fn address(backend: &str) -> String {
    format!("{backend}/purchasely?token={TOKEN}")
}

async fn relay_beside(backend: &str) -> (World, Resources) {
    with_resources(&[("FORWARD_URL", &address(backend))]).await
}

fn received(backend: &Backend) -> usize {
    backend.received().len()
}

#[tokio::test]
async fn the_backend_gets_a_webhook_as_it_came_so_its_signature_holds() {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/signatures.json")).unwrap();
    let published = &vectors["vectors"][0];
    let secret = published["secret"].as_str().unwrap();
    let backend = Server::start(Backend::new(secret)).await;
    let resources = Resources::make().await;
    let (forward_url, tolerance) = (address(&backend.url), "0");
    let settings = [
        ("FORWARD_URL", &*forward_url),
        ("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", tolerance),
    ];
    let settings = [&STATED, &resources.settings()[..], &settings].concat();
    let secrets = SecretsManager::new(SECRET_ID, &secret_value(PASSCODE, secret));
    let world = World::start_with(secrets, &settings).await;
    // Purchasely's own example is no event, so it becomes a dead letter, but the backend has it.
    let example = br#"{"a_random_key":"a_random_value_ad"}"#;
    let webhook = Webhook::new(example.to_vec(), secret, 1_698_322_022);
    let mut envelope = webhook.envelope(Front::HttpApi);
    envelope["headers"]["x-purchasely-extra"] = json!("kept");
    envelope["headers"]["content-type"] = json!("application/json");
    envelope["headers"]["authorization"] = json!("not the backend's");
    assert_eq!(world.invoke(&envelope).await.status, 200);
    assert_eq!(resources.letters().len(), 1);
    let request = &backend.received()[0];
    assert_eq!((request.uri().to_string(), &request.body()[..]), (address(""), &example[..]));
    let text = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
    for (name, value) in [
        ("x-purchasely-request-signature", published["signature"].as_str()),
        ("x-purchasely-timestamp", published["timestamp"].as_str()),
        ("x-purchasely-extra", Some("kept")),
        (HOP, Some("1")),
        ("content-type", Some("application/json")),
        ("authorization", None),
    ] {
        assert_eq!(text(name), value, "{name}");
    }
}

#[tokio::test]
async fn without_a_2xx_nothing_is_written_and_the_next_delivery_begins_again() {
    let error = |status| Fault::Error { status, code: "backend" };
    for faults in [
        vec![error(302)],
        vec![error(409)],
        vec![error(500)],
        vec![Fault::Closed, Fault::Reset],
        vec![Fault::Silent],
    ] {
        let backend = backend().await;
        let (world, resources) = relay_beside(&backend.url).await;
        let context = format!("{faults:?}");
        backend.script_for(&["event_name"], faults);
        assert_eq!(world.post(&body()).await, unavailable(), "{context}");
        let line = world.line(|line| line["reason"] == "forward_failed").await;
        let expected = (&json!("ERROR"), &json!("forward"), &json!("SUBSCRIPTION_RENEWED"));
        assert_eq!((&line["level"], &line["Class"], &line["event_name"]), expected);
        assert_eq!((world.clevertap.uploads().len(), resources.letters().len()), (0, 0));
        assert_eq!(world.post(&body()).await, relayed(), "{context}");
        // A claim of the first delivery would have kept this one from its upload.
        assert_eq!((received(&backend), world.clevertap.uploads().len()), (1, 1), "{context}");
        let line = world.line(|line| line["outcome"] == "relayed").await;
        assert_eq!(line["Forwarded"], 1);
        assert!(line["ForwardLatency"].is_u64());
        assert!(!world.function.log().concat().contains(TOKEN));
    }
}

#[tokio::test]
async fn a_lost_connection_is_replaced_once_and_any_2xx_counts() {
    for fault in [Fault::Closed, Fault::Reset, Fault::DoneThenStatus(204)] {
        let backend = backend().await;
        let (world, _resources) = relay_beside(&backend.url).await;
        backend.script_for(&["event_name"], [fault]);
        assert_eq!(world.post(&body()).await, relayed());
        assert_eq!(received(&backend), 1);
    }
}

#[tokio::test]
async fn the_backend_has_until_four_seconds_after_receipt_by_the_gateways_time() {
    let backend = backend().await;
    backend.set_latency(Latency {
        request: Duration::from_millis(300),
        ..Latency::default()
    });
    let (world, _resources) = relay_beside(&backend.url).await;
    assert_eq!(world.post(&body()).await, relayed());
    let mut envelope = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    envelope["requestContext"]["timeEpoch"] = json!((now_seconds() - 4) * 1000);
    assert_eq!(world.invoke(&envelope).await, unavailable());
    world.line(|line| line["reason"] == "too_late").await;
    assert_eq!(received(&backend), 1);
}

#[tokio::test]
async fn an_address_without_a_backend_or_with_another_name_receives_nothing() {
    let (_socket, refusing) = refusing_port();
    let authority = Authority::default();
    let named_otherwise = authority.serve(Backend::new(SHARED_SECRET)).await;
    let by_address = named_otherwise.url.replace("localhost", "127.0.0.1");
    let roots = authority.pem_file();
    let roots = ("SSL_CERT_FILE", roots.path().to_str().unwrap());
    for url in [refusing, by_address] {
        let world = start(&[("FORWARD_URL", &*url), roots]).await;
        assert_eq!(world.post(&body()).await, unavailable(), "{url}");
        world.line(|line| line["reason"] == "forward_failed").await;
    }
    assert_eq!(received(&named_otherwise), 0);
}

#[tokio::test]
async fn an_address_that_leads_back_here_ends_after_three_times_and_writes_nothing() {
    let backend = backend().await;
    let (world, resources) = relay_beside(&backend.url).await;
    let mut returned = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    for hops in ["3", "unreadable"] {
        returned["headers"][HOP] = json!(hops);
        assert_eq!(world.invoke(&returned).await, unavailable(), "{hops}");
    }
    let leads_back = |line: &Value| line["message"].to_string().contains("leads back");
    assert_eq!(world.line(leads_back).await["level"], "ERROR");
    assert_eq!((world.clevertap.uploads().len(), resources.letters().len()), (0, 0));
    returned["headers"][HOP] = json!("2");
    assert_eq!(world.invoke(&returned).await, relayed());
    assert_eq!(backend.received()[0].headers()[HOP], "3");
}

#[tokio::test]
async fn only_what_purchasely_itself_sends_is_forwarded_whatever_becomes_of_it() {
    let backend = backend().await;
    let (world, _resources) = relay_beside(&backend.url).await;
    for mark in ["x-replayed", "x-not-forwarded"] {
        let mut marked = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
        marked["headers"][mark] = json!("true");
        assert_eq!(world.invoke(&marked).await.status, 200);
    }
    let forged = signed(&body(), "another secret").envelope(Front::HttpApi);
    assert_eq!(world.invoke(&forged).await.status, 401);
    assert_eq!(failures(&world, &[message(&event("e-1", "ann"), &[])]).await, [""; 0]);
    assert_eq!(received(&backend), 0);
    let sandbox = json!({ "event_name": "ACTIVATE", "user_id": "u", "environment": "SANDBOX" });
    let duplicate = body();
    for body in [duplicate, sandbox.to_string().into_bytes(), b"[]".to_vec()] {
        assert_eq!(world.post(&body).await.status, 200);
    }
    assert_eq!(received(&backend), 3);
}

#[tokio::test]
async fn in_queue_mode_the_backend_is_first_too() {
    let backend = backend().await;
    let forward = address(&backend.url);
    let (world, _resources) =
        with_resources(&[("FORWARD_URL", &forward), ("DELIVERY", "queue")]).await;
    backend.script_for(&["event_name"], [Fault::status(500)]);
    assert_eq!(world.post(&body()).await, unavailable());
    assert_eq!(world.post(&body()).await.body["status"], "queued");
    assert_eq!(received(&backend), 1);
}

#[tokio::test]
async fn a_clevertap_that_fails_does_not_keep_the_backend_from_its_event() {
    let backend = backend().await;
    let (world, _resources) = relay_beside(&backend.url).await;
    world.clevertap.script([Reply::Status(500)]);
    assert_eq!(world.post(&body()).await, unavailable());
    assert_eq!(received(&backend), 1);
}
