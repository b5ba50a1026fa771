//! The stack's resources have the properties that the code relies on. It does not know how the stack is deployed.

use crate::template::{of_type, resources};
use purchasely_clevertap::aws::claims;
use purchasely_clevertap::relay::WORK;
use serde_json::{Value, json};

const FOURTEEN_DAYS: u64 = 14 * 24 * 60 * 60;

#[track_caller]
fn only(kind: &str) -> Value {
    let found = of_type(kind);
    assert_eq!(found.len(), 1, "{kind}");
    found.into_iter().next().unwrap().1
}

#[test]
fn each_stage_ends_before_the_one_that_waits_for_it() {
    let function = only("AWS::Serverless::Function");
    let lambda_ms = u128::from(function["Timeout"].as_u64().unwrap()) * 1000;
    let gateway = &function["Events"]["Webhook"]["Properties"]["TimeoutInMillis"];
    let gateway_ms = u128::from(gateway.as_u64().unwrap());
    assert!(WORK.as_millis() < lambda_ms && lambda_ms < gateway_ms && gateway_ms < 10_000);
}

#[test]
fn both_queues_are_fifo_and_keep_messages_for_14_days() {
    let queues = of_type("AWS::SQS::Queue");
    assert_eq!(queues.len(), 2);
    for (name, queue) in queues {
        for (property, value) in [
            ("FifoQueue", json!(true)),
            ("ContentBasedDeduplication", json!(false)),
            ("DeduplicationScope", json!("messageGroup")),
            ("FifoThroughputLimit", json!("perMessageGroupId")),
            ("SqsManagedSseEnabled", json!(true)),
            ("MessageRetentionPeriod", json!(FOURTEEN_DAYS)),
            // The largest webhook in base64 has 342 KiB.
            ("MaximumMessageSize", json!(1024 * 1024)),
        ] {
            assert_eq!(queue[property], value, "{name}: {property}");
        }
    }
}

#[test]
fn a_message_does_not_expire_before_its_last_attempt() {
    let queue = resources()["EventQueue"]["Properties"].take();
    let timeout = only("AWS::Serverless::Function")["Timeout"].as_u64().unwrap();
    // Lambda needs six times the timeout; a claim in progress lasts 10 s.
    let visibility = queue["VisibilityTimeout"].as_u64().unwrap();
    assert!(visibility >= 6 * timeout && visibility > 10);
    assert_eq!(visibility, 300);
    let redrive = &queue["RedrivePolicy"];
    let dead_letters = json!({ "Fn::GetAtt": "DeadLetterQueue.Arn" });
    assert_eq!(redrive["deadLetterTargetArn"], dead_letters);
    // 1000 is the most that SQS allows; a failed message waits for up to 20 minutes.
    let attempts = redrive["maxReceiveCount"].as_u64().unwrap();
    assert!(attempts <= 1000 && attempts * (20 * 60 + timeout) < FOURTEEN_DAYS);
}

#[test]
fn the_event_source_mapping_reports_failed_messages_one_by_one() {
    let mapping = only("AWS::Lambda::EventSourceMapping");
    let source = json!({ "Fn::GetAtt": "EventQueue.Arn" });
    assert_eq!(mapping["EventSourceArn"], source);
    assert_eq!(mapping["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]));
    assert!(mapping["BatchSize"].as_u64().unwrap() <= 10);
    // CleverTap accepts 15 concurrent uploads; in direct mode, webhooks need most of them.
    let concurrency = json!({ "Fn::If": ["QueueMode", 10, 2] });
    assert_eq!(mapping["ScalingConfig"]["MaximumConcurrency"], concurrency);
}

#[test]
fn the_table_has_the_keys_that_claims_are_written_with() {
    let table = only("AWS::DynamoDB::Table");
    let key = json!([{ "AttributeName": claims::KEY, "KeyType": "HASH" }]);
    let attributes = json!([{ "AttributeName": claims::KEY, "AttributeType": "S" }]);
    let expiry = json!({ "AttributeName": claims::EXPIRES_AT, "Enabled": true });
    assert_eq!(table["KeySchema"], key);
    assert_eq!(table["AttributeDefinitions"], attributes);
    assert_eq!(table["TimeToLiveSpecification"], expiry);
}

#[test]
fn queues_and_table_are_created_together() {
    let resources = resources().into_iter();
    let created = resources.filter(|(_, resource)| resource["Condition"] == "CreateQueues");
    let mut names: Vec<_> = created.map(|(name, _)| name).collect();
    names.sort();
    let expected = [
        "ClaimsTable",
        "DeadLetterQueue",
        "DeadLetterQueuePolicy",
        "EventQueue",
        "EventQueueMapping",
        "EventQueuePolicy",
    ];
    assert_eq!(names, expected);
}
