//! The real template and the real zip, deployed into an emulator of AWS that checks signatures, roles and queue policies,
//! and runs the function. `make deployment` builds the zip and runs these tests.
//!
//! The emulator checks neither what monitors the function nor what AWS itself does under the function's role (read the
//! event queue, write the log) and under the API's permission; it lacks throttling, the table's expiry and redriving.

mod stack;

use serde_json::json;
use stack::{Stack, until};
use testkit::harness::{Answer, SHARED_SECRET, answered, event};
use testkit::world::clevertap::Reply;

fn step(stack: &str, what: &str) {
    println!("{stack}: {what}");
}

fn ended(status: &str, id: &str) -> Answer {
    answered(200, json!({ "status": status, "event_id": id }))
}

fn unavailable(id: &str) -> Answer {
    answered(503, json!({ "error": "unavailable", "event_id": id }))
}

#[tokio::test]
async fn a_deployed_function_relays_each_event_once() {
    let stack = Stack::create("direct", "direct").await;
    let first = event("e-1", "u-1");
    let without_secret = stack.post(&first).await;
    assert_eq!(without_secret, answered(503, json!({ "error": "unavailable" })));

    stack.store_secret().await;
    step("direct", "posts webhooks");
    assert_eq!(stack.post(&first).await, ended("relayed", "e-1"));
    assert_eq!(stack.post(&first).await, ended("duplicate", "e-1"));
    let forged = stack.post_with(&first, "another secret", "application/json").await;
    assert_eq!(forged, answered(401, json!({ "error": "unauthorized" })));
    // The API hands a body that is no text to the function in base64.
    let second = event("e-2", "u-1");
    let encoded = stack.post_with(&second, SHARED_SECRET, "application/octet-stream").await;
    assert_eq!(encoded, ended("relayed", "e-2"));
    assert_eq!(stack.accepted(), ["e-1", "e-2"]);

    step("direct", "posts six copies at once");
    let copy = event("e-3", "u-1");
    let post = || stack.post(&copy);
    let copies = tokio::join!(post(), post(), post(), post(), post(), post());
    let copies: [_; 6] = copies.into();
    let relayed = copies.iter().filter(|answer| **answer == ended("relayed", "e-3"));
    assert_eq!(relayed.count(), 1, "{copies:?}");
    let others = [ended("relayed", "e-3"), ended("duplicate", "e-3"), unavailable("e-3")];
    assert!(copies.iter().all(|answer| others.contains(answer)), "{copies:?}");
    assert_eq!(stack.accepted(), ["e-1", "e-2", "e-3"]);

    step("direct", "posts again what CleverTap answered with 503");
    let late = event("e-4", "u-1");
    // The function itself repeats an upload once after 503.
    stack.clevertap.script([Reply::Status(503), Reply::Status(503)]);
    assert_eq!(stack.post(&late).await, unavailable("e-4"));
    let answer = tokio::sync::Mutex::new(None);
    until("CleverTap has e-4", async || {
        let again = stack.post(&late).await;
        let is_over = again != unavailable("e-4");
        *answer.lock().await = Some(again);
        is_over
    })
    .await;
    assert_eq!(answer.into_inner(), Some(ended("relayed", "e-4")));
    assert_eq!(stack.accepted(), ["e-1", "e-2", "e-3", "e-4"]);
}

#[tokio::test]
async fn the_queue_keeps_the_order_of_each_user_while_clevertap_fails() {
    let stack = Stack::create("queue", "queue").await;
    stack.store_secret().await;
    stack.permit_the_batch().await;
    step(
        "queue",
        "posts events of two users, the first of which CleverTap refuses for a while",
    );
    stack.clevertap.script_for(
        "a-1",
        [Reply::Status(429), Reply::Status(429), Reply::Status(429), Reply::Status(429)],
    );
    let posted = [("a-1", "a"), ("b-1", "b"), ("a-2", "a"), ("b-2", "b"), ("a-3", "a")];
    for (id, user) in posted {
        assert_eq!(stack.post(&event(id, user)).await, ended("queued", id));
    }
    until("CleverTap has all events", async || stack.accepted().len() >= posted.len()).await;
    let of = |user: &str| {
        stack
            .accepted()
            .into_iter()
            .filter(|id| id.starts_with(user))
            .collect::<Vec<_>>()
    };
    assert_eq!(of("a"), ["a-1", "a-2", "a-3"]);
    assert_eq!(of("b"), ["b-1", "b-2"]);
}

/// As docs/architecture.md says under Guarantees.
#[tokio::test]
async fn each_missing_permission_has_the_consequence_that_the_page_names() {
    let stack = Stack::create("permissions", "direct").await;
    stack.store_secret().await;
    let no_event = answered(503, json!({ "error": "unavailable" }));
    let first = event("e-1", "u");
    let post = stack.post(&first);
    assert_eq!(stack.without("secretsmanager:GetSecretValue", "Secret", post).await, no_event);
    stack.expect_line("secret_unavailable").await;

    let without_user = json!({ "event_name": "ACTIVATE", "event_id": "e-2" });
    let post = stack.post(&without_user);
    assert_eq!(
        stack.without("sqs:SendMessage", "DeadLetterQueue", post).await,
        unavailable("e-2")
    );

    let twice = event("e-3", "u");
    let post = async { [stack.post(&twice).await, stack.post(&twice).await] };
    let answers = stack.without("dynamodb:UpdateItem", "ClaimsTable", post).await;
    assert_eq!(answers, [ended("relayed", "e-3"), ended("relayed", "e-3")]);
    assert_eq!(stack.accepted(), ["e-3", "e-3"]);

    stack.deploy("queue").await;
    let queued = event("e-4", "u");
    let post = stack.post(&queued);
    assert_eq!(stack.without("sqs:SendMessage", "EventQueue", post).await, unavailable("e-4"));

    // The emulator never grants this one, unless the queue's policy does.
    stack.clevertap.set_script([], Reply::Status(429));
    assert_eq!(stack.post(&event("e-5", "u")).await, ended("queued", "e-5"));
    stack
        .expect_line("the visibility of a failed message could not be changed")
        .await;
    assert_eq!(stack.messages("EventQueue").await, ["0", "1"], "visible and invisible");
}

#[tokio::test]
async fn a_stack_changes_its_mode_both_ways_and_leaves_what_exists_nowhere_else() {
    let stack = Stack::create("modes", "direct").await;
    stack.store_secret().await;
    let printed = stack.deploy("direct").await;
    assert!(printed.contains("No changes"), "{printed}");

    stack.deploy("queue").await;
    assert_eq!(stack.post(&event("e-1", "u")).await, ended("queued", "e-1"));
    until("CleverTap has e-1", async || stack.accepted() == ["e-1"]).await;
    // The emulator does not create the expiry, and it could not create the alarms.
    let gaps = ["claims_table_expiry", "claims_table_expiry", "alarms_missing"];
    assert_eq!(stack.doctor().await, gaps);

    stack.deploy("direct").await;
    assert_eq!(stack.post(&event("e-1", "u")).await, ended("duplicate", "e-1"));
    assert_eq!(stack.post(&event("e-2", "u")).await, ended("relayed", "e-2"));
    assert_eq!(stack.post(&json!({ "event_name": "ACTIVATE" })).await.status, 200);

    stack.delete().await;
    let mut left = Vec::new();
    for (name, command) in [
        ("DeadLetterQueue", "sqs get-queue-attributes --queue-url"),
        ("EventQueue", "sqs get-queue-attributes --queue-url"),
        ("Secret", "secretsmanager get-secret-value --secret-id"),
        ("ClaimsTable", "dynamodb describe-table --table-name"),
        ("Function", "lambda get-function --function-name"),
    ] {
        if stack.run(command, &[stack.resource(name)]).await.is_ok() {
            left.push(name);
        }
    }
    assert_eq!(left, ["DeadLetterQueue", "EventQueue", "Secret"]);
}
