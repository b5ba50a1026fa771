//! The operator's own backend: what it receives, and what each of its answers does.
//! It does not know what CleverTap does with the same event.

use serde_json::{Value, json};
use std::time::Duration;
use testkit::harness::{
    PASSCODE, SECRET_ID, SHARED_SECRET, World, body, event, now_seconds, relayed, secret_value,
    signed, unavailable, with_resources,
};
use testkit::messages::{failures, message};
use testkit::sockets::server::Latency;
use testkit::sockets::servers::refusing_port;
use testkit::sockets::tls::Authority;
use testkit::sockets::{Server, server::listen};
use testkit::webhook::{Front, Webhook};
use testkit::world::backend::Backend;
use testkit::world::clevertap::Reply;
use testkit::world::faulty::{Fault, Faulty};
use testkit::world::secrets_manager::SecretsManager;
use testkit::world::service::Ending;

const HOP: &str = "x-purchasely-clevertap-hop";

async fn backend() -> Server<Faulty<Backend>> {
    Server::start(Faulty::new(Backend::new(SHARED_SECRET))).await
}

async fn world(backend: &str, settings: &[(&str, &str)]) -> World {
    let url = format!("{backend}/purchasely?token=of-the-tests");
    World::start(&[&[("FORWARD_URL", &*url)], settings].concat()).await
}

fn received(backend: &Backend) -> usize {
    backend.received().len()
}

#[tokio::test]
async fn the_backend_gets_a_webhook_as_it_came_before_clevertap_does() {
    let vectors = include_str!("../vectors/signatures.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let secret = vectors["vectors"][0]["secret"].as_str().unwrap();
    let backend = Server::start(Backend::new(secret)).await;
    let secrets = SecretsManager::new(SECRET_ID, &secret_value(PASSCODE, secret));
    let settings = [
        ("FORWARD_URL", &*format!("{}/purchasely?token=of-the-tests", backend.url)),
        ("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "0"),
    ];
    let (world, resources) = {
        let resources = testkit::sockets::resources::Resources::make().await;
        let settings = [&resources.settings()[..], &settings].concat();
        (World::start_with(secrets, &settings).await, resources)
    };
    // Purchasely's own example is no event, so it ends as a dead letter, once the backend has it.
    let mut example = Webhook::new(br#"{"a_random_key":"a_random_value_ad"}"#.to_vec(), secret, 1_698_322_022)
        .envelope(Front::HttpApi);
    example["headers"]["x-purchasely-extra"] = json!("kept");
    example["headers"]["authorization"] = json!("not the backend's");
    assert_eq!(world.invoke(&example).await.status, 200);
    let request = &backend.received()[0];
    assert_eq!(request.uri(), "/purchasely?token=of-the-tests");
    assert_eq!(&request.body()[..], br#"{"a_random_key":"a_random_value_ad"}"#);
    let headers = request.headers();
    let signature = vectors["vectors"][0]["signature"].as_str().unwrap();
    assert_eq!(headers["x-purchasely-request-signature"], signature);
    assert_eq!((&headers["x-purchasely-extra"], &headers[HOP]), (&"kept".parse().unwrap(), &"1".parse().unwrap()));
    assert_eq!(headers["content-type"], "application/json");
    assert!(!headers.contains_key("authorization"));
    assert_eq!(resources.letters().len(), 1);
}

#[tokio::test]
async fn without_a_2xx_nothing_is_written_anywhere_and_the_next_delivery_begins_again() {
    let error = |status| Fault::Error { status, code: "backend" };
    for faults in [
        vec![error(302)],
        vec![error(409)],
        vec![error(500)],
        vec![Fault::Closed, Fault::Reset],
        vec![Fault::Silent],
    ] {
        let backend = backend().await;
        let resources = testkit::sockets::resources::Resources::make().await;
        let world = world(&backend.url, &resources.settings()).await;
        let first = format!("{faults:?}");
        backend.script_for(&["event_name"], faults);
        assert_eq!(world.post(&body()).await, unavailable(), "{first}");
        let line = world.line(|line| line["reason"] == "forward_failed").await;
        assert_eq!((&line["level"], &line["Class"]), (&json!("ERROR"), &json!("forward")));
        assert!(!world.function.log().concat().contains("of-the-tests"));
        assert_eq!((world.clevertap.uploads().len(), resources.letters().len()), (0, 0));
        assert_eq!(resources.claims(), 0, "{first}");
        assert_eq!(world.post(&body()).await, relayed(), "{first}");
        assert_eq!((received(&backend), world.clevertap.uploads().len()), (1, 1), "{first}");
        let line = world.line(|line| line["outcome"] == "relayed").await;
        assert_eq!(line["Forwarded"], 1);
        assert!(line["ForwardLatency"].is_u64());
    }
}

#[tokio::test]
async fn a_lost_connection_is_replaced_once_and_any_2xx_counts() {
    for fault in [Fault::Closed, Fault::Reset, Fault::DoneThenStatus(204)] {
        let backend = backend().await;
        let world = world(&backend.url, &[]).await;
        backend.script_for(&["event_name"], [fault]);
        assert_eq!(world.post(&body()).await, relayed());
        assert_eq!(received(&backend), 1);
    }
}

#[tokio::test]
async fn a_backend_that_is_slow_answers_in_time_until_four_seconds_after_receipt() {
    let backend = backend().await;
    backend.set_latency(Latency { request: Duration::from_millis(300), ..Latency::default() });
    let world = world(&backend.url, &[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    let mut event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    // Four seconds after receipt end before this one arrived.
    event["requestContext"]["timeEpoch"] = json!((now_seconds() - 4) * 1000);
    assert_eq!(world.invoke(&event).await, unavailable());
    world.line(|line| line["reason"] == "too_late").await;
    assert_eq!(received(&backend), 1);
}

#[tokio::test]
async fn an_address_without_a_backend_or_with_another_name_receives_nothing() {
    let (_socket, refusing) = refusing_port();
    let authority = Authority::new();
    let named_otherwise = authority.serve(Backend::new(SHARED_SECRET)).await;
    let by_address = named_otherwise.url.replace("localhost", "127.0.0.1");
    let roots = authority.pem_file();
    let roots = ("SSL_CERT_FILE", roots.path().to_str().unwrap());
    for url in [refusing, by_address] {
        let world = world(&url, &[roots]).await;
        assert_eq!(world.post(&body()).await, unavailable(), "{url}");
        world.line(|line| line["reason"] == "forward_failed").await;
    }
    assert_eq!(received(&named_otherwise), 0);
}

#[tokio::test]
async fn an_address_that_leads_back_here_ends_and_writes_nothing() {
    let (listener, url) = listen().await;
    let world = world(&url, &[]).await;
    let api = world.api.clone();
    let back = move |request: hyper::Request<bytes::Bytes>| {
        let api = api.clone();
        async move {
            let (head, body) = request.into_parts();
            let mut envelope = Webhook::new(body.to_vec(), "", now_seconds()).envelope(Front::HttpApi);
            let headers = head.headers.iter();
            envelope["headers"] = headers
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                .collect();
            let answer = api.invoke(envelope).await.expect("an answer, not an error");
            let status = u16::try_from(answer["statusCode"].as_u64().unwrap()).unwrap();
            Ending::answer(status, "application/json", "{}")
        }
    };
    Server::start_at(listener, url, back);
    assert_eq!(world.post(&body()).await, unavailable());
    world
        .line(|line| line["message"].as_str().unwrap_or_default().contains("leads back"))
        .await;
    assert_eq!(world.clevertap.uploads().len(), 0);
}

#[tokio::test]
async fn only_what_purchasely_itself_sends_is_forwarded() {
    let backend = backend().await;
    let (world, _resources) = {
        let resources = testkit::sockets::resources::Resources::make().await;
        (world(&backend.url, &resources.settings()).await, resources)
    };
    for mark in ["x-replayed", "x-not-forwarded"] {
        let mut marked = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
        marked["headers"][mark] = json!("true");
        assert_eq!(world.invoke(&marked).await.status, 200);
    }
    let unsigned = signed(&body(), "another secret").envelope(Front::HttpApi);
    assert_eq!(world.invoke(&unsigned).await.status, 401);
    assert_eq!(failures(&world, &[message(&event("e-1", "ann"), &[])]).await, [""; 0]);
    assert_eq!(received(&backend), 0);
    // Whatever becomes of it: a duplicate, a sandbox purchase, an unreadable one.
    let sandbox = json!({ "event_name": "ACTIVATE", "user_id": "u", "environment": "SANDBOX" });
    for body in [body(), sandbox.to_string().into_bytes(), b"[]".to_vec()] {
        assert_eq!(world.post(&body).await.status, 200);
    }
    assert_eq!(received(&backend), 3);
}

#[tokio::test]
async fn in_queue_mode_the_backend_is_first_too() {
    let backend = backend().await;
    let resources = testkit::sockets::resources::Resources::make().await;
    let settings = [&resources.settings()[..], &[("DELIVERY", "queue")]].concat();
    let world = world(&backend.url, &settings).await;
    backend.script_for(&["event_name"], [Fault::status(500)]);
    assert_eq!(world.post(&body()).await, unavailable());
    assert_eq!(world.post(&body()).await.body["status"], "queued");
    assert_eq!(received(&backend), 1);
}

#[tokio::test]
async fn a_clevertap_that_fails_does_not_keep_the_backend_from_its_event() {
    let backend = backend().await;
    let world = world(&backend.url, &[]).await;
    world.clevertap.script([Reply::Status(500)]);
    assert_eq!(world.post(&body()).await, unavailable());
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(received(&backend), 2);
    let _ = with_resources;
}
