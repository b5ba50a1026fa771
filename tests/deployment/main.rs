//! The real template and the real zip, deployed into an emulator of AWS that checks signatures, roles and queue policies,
//! and runs the function. `make deployment` builds the zip and runs these tests.
//!
//! The emulator does not check what AWS itself may do: invoke the function, and under its role read the event queue and
//! write the log. It lacks throttling, the table's expiry, redriving, and what monitors the function.

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

/// What happens without a permission is as docs/architecture.md says under Guarantees.
#[tokio::test]
async fn a_deployed_function_relays_each_event_once_and_needs_each_permission() {
    let stack = Stack::create("direct", "direct").await;
    let first = event("e-1", "u-1");
    let no_secret = answered(503, json!({ "error": "unavailable" }));
    // It has no values yet.
    assert_eq!(stack.post(&first).await, no_secret);
    stack.store_secret().await;
    let post = stack.post(&first);
    assert_eq!(stack.without("secretsmanager:GetSecretValue", "Secret", post).await, no_secret);

    step("direct", "posts webhooks");
    assert_eq!(stack.post(&first).await, ended("relayed", "e-1"));
    assert_eq!(stack.post(&first).await, ended("duplicate", "e-1"));
    let forged = stack.post_with(&first, "another secret", "application/json").await;
    assert_eq!(forged, answered(401, json!({ "error": "unauthorized" })));
    // The API hands a body that is no text to the function in base64.
    let second = event("e-2", "u-1");
    let encoded = stack.post_with(&second, SHARED_SECRET, "application/octet-stream").await;
    assert_eq!(encoded, ended("relayed", "e-2"));

    step("direct", "posts six copies at once");
    let copy = event("e-3", "u-1");
    let post = || stack.post(&copy);
    let copies: [_; 6] = tokio::join!(post(), post(), post(), post(), post(), post()).into();
    let (relayed, others): (Vec<_>, Vec<_>) =
        copies.into_iter().partition(|answer| *answer == ended("relayed", "e-3"));
    assert_eq!(relayed.len(), 1, "{others:?}");
    let expected = [ended("duplicate", "e-3"), unavailable("e-3")];
    assert!(others.iter().all(|answer| expected.contains(answer)), "{others:?}");
    assert_eq!(stack.accepted(), ["e-1", "e-2", "e-3"]);

    step("direct", "posts again what CleverTap answered with 503");
    // The function itself repeats an upload once after 503.
    stack.clevertap.script([Reply::Status(503), Reply::Status(503)]);
    let late = event("e-4", "u-1");
    assert_eq!(stack.post(&late).await, unavailable("e-4"));
    // Until the claim has expired, a copy is unavailable too.
    until("e-4 is relayed", async || stack.post(&late).await == ended("relayed", "e-4")).await;

    let without_user = json!({ "event_name": "ACTIVATE", "event_id": "e-5" });
    let post = stack.post(&without_user);
    assert_eq!(
        stack.without("sqs:SendMessage", "DeadLetterQueue", post).await,
        unavailable("e-5")
    );
    let twice = event("e-6", "u-1");
    let post = async { [stack.post(&twice).await, stack.post(&twice).await] };
    let answers = stack.without("dynamodb:UpdateItem", "ClaimsTable", post).await;
    assert_eq!(answers, [ended("relayed", "e-6"), ended("relayed", "e-6")]);
    assert_eq!(stack.accepted(), ["e-1", "e-2", "e-3", "e-4", "e-6", "e-6"]);
}

#[tokio::test]
async fn the_queue_keeps_each_users_order_while_clevertap_fails() {
    let stack = Stack::create("queue", "queue").await;
    stack.store_secret().await;
    let not_queued = event("c-1", "c");
    let post = stack.post(&not_queued);
    assert_eq!(stack.without("sqs:SendMessage", "EventQueue", post).await, unavailable("c-1"));

    step("queue", "may not change the visibility of a message, which fails");
    stack.clevertap.script_for("d-1", std::iter::repeat_n(Reply::Status(429), 4));
    assert_eq!(stack.post(&event("d-1", "d")).await, ended("queued", "d-1"));
    stack.expect_line("the visibility of a failed message could not be").await;

    stack.permit_the_batch().await;
    step("queue", "posts events of two users, the first of which fails for a while");
    stack.clevertap.script_for("a-1", std::iter::repeat_n(Reply::Status(429), 4));
    let posted = [("a-1", "a"), ("b-1", "b"), ("a-2", "a"), ("b-2", "b"), ("a-3", "a")];
    for (id, user) in posted {
        assert_eq!(stack.post(&event(id, user)).await, ended("queued", id));
    }
    let of = |user: &str| -> Vec<_> {
        stack.accepted().into_iter().filter(|id| id.starts_with(user)).collect()
    };
    let all = async || of("a").len() + of("b").len() == posted.len();
    until("CleverTap has all events", all).await;
    assert_eq!(of("a"), ["a-1", "a-2", "a-3"]);
    assert_eq!(of("b"), ["b-1", "b-2"]);
}

#[tokio::test]
async fn a_stack_changes_its_mode_both_ways_and_leaves_what_exists_nowhere_else() {
    let stack = Stack::create("modes", "direct").await;
    stack.store_secret().await;
    // The clone that the bundle is from makes the same stack.
    let printed = stack.deploy_with_make("direct").await;
    assert!(printed.contains("has no changes"), "{printed}");

    stack.deploy("queue").await;
    assert_eq!(stack.post(&event("e-1", "u")).await, ended("queued", "e-1"));
    until("CleverTap has e-1", async || stack.accepted() == ["e-1"]).await;
    // The emulator does not create the expiry, and it could not create the alarms.
    let gaps = ["claims_table_expiry", "claims_table_expiry", "alarms_missing"];
    assert_eq!(stack.doctor().await, gaps);

    stack.deploy_with_sam("direct").await;
    assert_eq!(stack.post(&event("e-1", "u")).await, ended("duplicate", "e-1"));
    assert_eq!(stack.post(&event("e-2", "u")).await, ended("relayed", "e-2"));

    stack.delete().await;
    let mut left = Vec::new();
    for (name, command) in [
        ("DeadLetterQueue", "sqs get-queue-attributes --queue-url"),
        ("EventQueue", "sqs get-queue-attributes --queue-url"),
        ("Secret", "secretsmanager get-secret-value --secret-id"),
        ("ClaimsTable", "dynamodb describe-table --table-name"),
        ("Function", "lambda get-function --function-name"),
    ] {
        match stack.run(command, &[stack.resource(name)]).await {
            Ok(_) => left.push(name),
            Err(problem) => assert!(problem.contains("ResourceNotFound"), "{problem}"),
        }
    }
    assert_eq!(left, ["DeadLetterQueue", "EventQueue", "Secret"]);
}
