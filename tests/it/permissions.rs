//! The role in `template.yaml` grants what the function calls, and no more.
//! It does not know what happens without a permission; `tests/deployment/` does.

use crate::template::of_type;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

type Grants<'g> = &'g [(&'g str, &'g [&'g str])];

/// The actions that the function calls, by resource.
const FUNCTION: Grants<'_> = &[
    ("Secret", &["secretsmanager:GetSecretValue"]),
    ("DeadLetterQueue", &["sqs:SendMessage"]),
    ("EventQueue", &["sqs:ChangeMessageVisibility", "sqs:SendMessage"]),
    ("ClaimsTable", &["dynamodb:UpdateItem"]),
];

/// The actions that AWS calls under the function's role.
const AWS: Grants<'_> = &[
    // https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    (
        "EventQueue",
        &["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"],
    ),
    ("SecretKmsKeyArn", &["kms:Decrypt"]),
    ("FunctionLogGroup", &["logs:CreateLogStream", "logs:PutLogEvents"]),
    ("*", &["xray:PutTraceSegments", "xray:PutTelemetryRecords"]),
];

/// The role's actions by resource, with everything created that the template can create.
fn granted() -> BTreeMap<String, BTreeSet<String>> {
    let (_, role) = of_type("AWS::IAM::Role").remove(0);
    let mut granted = BTreeMap::<_, BTreeSet<_>>::new();
    for policy in role["Policies"].as_array().unwrap() {
        for statement in policy["PolicyDocument"]["Statement"].as_array().unwrap() {
            let statement = if_created(statement);
            assert_eq!(statement["Effect"], "Allow");
            let resource = name(&statement["Resource"]);
            let actions = match &statement["Action"] {
                Value::Array(actions) => actions.clone(),
                action => vec![action.clone()],
            };
            let actions = actions.iter().map(|action| action.as_str().unwrap().to_owned());
            granted.entry(resource).or_default().extend(actions);
        }
    }
    granted
}

fn if_created(value: &Value) -> &Value {
    value.get("Fn::If").map_or(value, |choice| &choice[1])
}

/// `*`, or the name of a resource or parameter of the template.
fn name(resource: &Value) -> String {
    let resource = if_created(resource);
    let reference = resource.get("Ref").or_else(|| resource.get("Fn::GetAtt"));
    let text = reference.unwrap_or(resource).as_str().unwrap();
    text.trim_end_matches(".Arn").trim_end_matches(".Id").to_owned()
}

#[test]
fn the_role_grants_each_resource_the_listed_actions_and_no_others() {
    let mut listed = BTreeMap::<_, BTreeSet<_>>::new();
    for (resource, actions) in FUNCTION.iter().chain(AWS) {
        let actions = actions.iter().map(|action| (*action).to_owned());
        listed.entry((*resource).to_owned()).or_default().extend(actions);
    }
    assert_eq!(granted(), listed);
}
