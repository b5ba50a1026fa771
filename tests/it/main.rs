//! Runs the real function against strict stand-ins of both vendors and of AWS, over real sockets. It takes Rust alone.
//! It does not measure how fast the function is; `make bench` does.

mod claims;
mod connections;
mod dead_letters;
mod documents;
mod envelopes;
mod forward;
mod http;
mod logs;
mod mapping;
mod monitoring;
mod odd_answers;
mod permissions;
mod queue;
mod samples;
mod secret;
mod sqs;
mod stack;
mod start;
mod template;
mod tidy;

use serde_json::Value;
use testkit::harness::{Answer, PASSCODE, SECRET_ID, SHARED_SECRET, World, secret_value};
use testkit::sockets::resources::Resources;
use testkit::world::faulty::Faulty;
use testkit::world::secrets_manager::SecretsManager;

/// The settings that a test depends on without naming them, so that another default makes none test something else.
const STATED: [(&str, &str); 9] = [
    ("ANONYMOUS_USER_ID_AS", "ignore"),
    ("DELIVERY", "direct"),
    ("PURCHASELY_SIGNATURE", "required"),
    ("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "2160000"),
    ("REFUND_EVENT", "none"),
    ("REVENUE_EVENT", "none"),
    ("SANDBOX_EVENTS", "drop"),
    ("UNKNOWN_FIELDS", "send"),
    ("USER_ID_AS", "identity"),
];

/// A status that CleverTap's pages do not name: the answer is not its own, and the event is sent again.
const UNDOCUMENTED: u16 = 418;

/// A function and all that it talks to, with these settings beside those of [`STATED`].
async fn start(settings: &[(&str, &str)]) -> World {
    start_with(SecretsManager::new(SECRET_ID, &secret_value(PASSCODE, SHARED_SECRET)), settings)
        .await
}

async fn start_with(
    secrets_manager: impl Into<Faulty<SecretsManager>>,
    settings: &[(&str, &str)],
) -> World {
    World::start_with(secrets_manager, &[&STATED, settings].concat()).await
}

/// A function with a dead-letter queue, an event queue and a claims table of its own.
async fn with_resources(settings: &[(&str, &str)]) -> (World, Resources) {
    let resources = Resources::make().await;
    (start(&[&resources.settings()[..], settings].concat()).await, resources)
}

/// Posts an event as Purchasely does.
async fn post(world: &World, event: &Value) -> Answer {
    world.post(event.to_string().as_bytes()).await
}
