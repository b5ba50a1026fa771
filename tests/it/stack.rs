//! The stack has the names and times that the code relies on. It does not know how the stack is deployed;
//! `scripts/check_template.py` checks what the template says by itself.

use crate::template::of_type;
use purchasely_clevertap::aws::claims;
use purchasely_clevertap::relay::WORK;
use serde_json::{Value, json};

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
fn the_table_has_the_keys_that_claims_are_written_with() {
    let table = only("AWS::DynamoDB::Table");
    let key = json!([{ "AttributeName": claims::KEY, "KeyType": "HASH" }]);
    let attributes = json!([{ "AttributeName": claims::KEY, "AttributeType": "S" }]);
    let expiry = json!({ "AttributeName": claims::EXPIRES_AT, "Enabled": true });
    assert_eq!(table["KeySchema"], key);
    assert_eq!(table["AttributeDefinitions"], attributes);
    assert_eq!(table["TimeToLiveSpecification"], expiry);
}
