//! The stack's resources have the properties that the function's own constants name. It does not know the others;
//! `scripts/check_template.py` does.

use crate::template::of_type;
use purchasely_clevertap::aws::claims;
use purchasely_clevertap::relay::WORK;
use serde_json::{Value, json};

fn only(kind: &str) -> Value {
    let [(_, properties)] = &of_type(kind)[..] else {
        panic!("{kind}");
    };
    properties.clone()
}

#[test]
fn the_functions_work_ends_before_lambda_and_the_gateway_end_it() {
    let function = only("AWS::Serverless::Function");
    let lambda_ms = u128::from(function["Timeout"].as_u64().unwrap()) * 1000;
    let integration = only("AWS::ApiGatewayV2::Integration");
    let gateway_ms = u128::from(integration["TimeoutInMillis"].as_u64().unwrap());
    assert!(WORK.as_millis() < lambda_ms && lambda_ms < gateway_ms && gateway_ms < 10_000);
}

#[test]
fn the_table_has_the_keys_that_claims_are_written_with() {
    let table = only("AWS::DynamoDB::Table");
    for (property, value) in [
        ("KeySchema", json!([{ "AttributeName": claims::KEY, "KeyType": "HASH" }])),
        (
            "AttributeDefinitions",
            json!([{ "AttributeName": claims::KEY, "AttributeType": "S" }]),
        ),
        (
            "TimeToLiveSpecification",
            json!({ "AttributeName": claims::EXPIRES_AT, "Enabled": true }),
        ),
    ] {
        assert_eq!(table[property], value, "{property}");
    }
}
