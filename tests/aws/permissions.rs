//! The permissions in `template.yaml`: the function's role grants what the function calls, and no more.
//! It does not know who calls whom in the source; it runs the function as a user of the emulator's IAM.

use crate::template;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use testkit::emulator::{self, Resources};
use testkit::harness::{Answer, PASSCODE, SECRET_ID, SHARED_SECRET, World, answered, secret_value};
use testkit::messages::message;
use testkit::process::tool;
use testkit::world::clevertap::Reply;
use testkit::world::secrets_manager::SecretsManager;
use tokio::process::Command;

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
    let (_, role) = template::of_type("AWS::IAM::Role").remove(0);
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

#[tokio::test]
async fn the_function_works_with_the_actions_of_its_role_and_with_none_fewer() {
    let granted = granted();
    let called: BTreeSet<_> = FUNCTION.iter().flat_map(|(_, actions)| *actions).collect();
    let left_out = [None].into_iter().chain(called.into_iter().map(Some));

    let resources = Resources::make().await;
    let secret_arn = create_secret(&resources.endpoint).await;
    let key = create_user(&resources.endpoint).await;
    for (number, left_out) in left_out.enumerate() {
        let statements: Vec<_> = granted
            .iter()
            .filter_map(|(resource, actions)| {
                let actions = actions.iter().filter(|action| Some(&action.as_str()) != left_out);
                statement(&arn(resource, &resources, &secret_arn), actions)
            })
            .collect();
        permit(&resources.endpoint, &statements).await;
        let receipt = receive_a_message(&resources, number).await;
        let world = start(&resources, &key).await;
        let answers = use_everything(&world, number, &receipt).await;
        let log = world.function.log();
        let log = log.iter().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        // A warning or error that is not the outcome of an event: a call to AWS failed.
        let is_problem = |line: &Value| {
            line["outcome"].is_null() && (line["level"] == "WARN" || line["level"] == "ERROR")
        };
        let problems: Vec<_> = log.filter(is_problem).collect();
        if let Some(action) = left_out {
            assert!(!problems.is_empty(), "nothing fails without {action}");
            continue;
        }
        assert!(problems.is_empty(), "{problems:#?}");
        let of_event = |status| json!({ "status": status, "event_id": event_id(number) });
        let dead_lettered =
            json!({ "status": "dead_lettered", "reason": "no_identity", "event_id": "e-dead" });
        let expected = [of_event("relayed"), of_event("duplicate"), dead_lettered];
        assert_eq!(answers, expected.map(|body| answered(200, body)));
    }
}

/// Creates a user of the emulator's, because a role would take one request more; policies are the same. The id and the
/// secret of its key.
async fn create_user(endpoint: &str) -> [String; 2] {
    iam(endpoint, &["create-user"]).await;
    let key = iam(endpoint, &["create-access-key"]).await;
    ["AccessKeyId", "SecretAccessKey"]
        .map(|name| key["AccessKey"][name].as_str().unwrap().to_owned())
}

/// Replaces what the user may do.
async fn permit(endpoint: &str, statements: &[Value]) {
    let policy = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    iam(
        endpoint,
        &["put-user-policy", "--policy-name", "role", "--policy-document", &policy],
    )
    .await;
}

/// Runs the AWS CLI, because the function has no SDK of this service.
async fn iam(endpoint: &str, arguments: &[&str]) -> Value {
    let mut aws = Command::new(tool("AWS_CLI", "aws"));
    aws.arg("iam")
        .args(arguments)
        .args(["--user-name", "function", "--endpoint-url", endpoint]);
    let output = aws.envs(emulator::VARIABLES).output().await.expect("the AWS CLI");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The ARN of what the template has under this name.
fn arn(name: &str, resources: &Resources, secret_arn: &str) -> String {
    let of_queue = |url: &str| {
        let (_, queue) = url.rsplit_once('/').expect("a path");
        format!("arn:aws:sqs:eu-west-1:123456789012:{queue}")
    };
    match name {
        "Secret" => secret_arn.to_owned(),
        "DeadLetterQueue" => of_queue(&resources.dead_letter_queue_url),
        "EventQueue" => of_queue(&resources.event_queue_url),
        "ClaimsTable" => {
            format!("arn:aws:dynamodb:eu-west-1:123456789012:table/{}", resources.table)
        }
        // Of AWS's own actions.
        _ => "*".to_owned(),
    }
}

/// `None` without actions: IAM takes no such statement. The emulator does not know that a permission is also that for the
/// batch.
fn statement<'a>(resource: &str, actions: impl Iterator<Item = &'a String>) -> Option<Value> {
    let actions = actions.flat_map(|action| match action.as_str() {
        "sqs:ChangeMessageVisibility" => vec![action.clone(), format!("{action}Batch")],
        _ => vec![action.clone()],
    });
    let actions: Vec<_> = actions.collect();
    let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": resource });
    (!actions.is_empty()).then_some(statement)
}

async fn create_secret(endpoint: &str) -> String {
    let config = emulator::config(endpoint).await;
    let create = aws_sdk_secretsmanager::Client::new(&config).create_secret().name(SECRET_ID);
    let create = create.secret_string(secret_value(PASSCODE, SHARED_SECRET));
    create.send().await.expect("a secret").arn.expect("its ARN")
}

/// Puts a message into the event queue, takes it out, and returns its receipt handle.
async fn receive_a_message(resources: &Resources, number: usize) -> String {
    let id = number.to_string();
    let queue = &resources.event_queue_url;
    let send = resources.sqs.send_message().queue_url(queue).message_body("-");
    let send = send.message_group_id(&id).message_deduplication_id(id);
    send.send().await.expect("the queue answers");
    let receive = resources.sqs.receive_message().queue_url(queue).visibility_timeout(600);
    let received = receive.send().await.expect("the queue answers").messages.expect("a message");
    received[0].receipt_handle.clone().expect("a handle")
}

async fn start(resources: &Resources, [key_id, secret_key]: &[String; 2]) -> World {
    let settings = [
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", resources.endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", key_id),
        ("AWS_SECRET_ACCESS_KEY", secret_key),
    ];
    // The secret is the emulator's: this one is never read.
    let unused = SecretsManager::new(SECRET_ID, "");
    World::start_with(unused, &[&resources.settings()[..], &settings].concat()).await
}

/// Sends what makes the function call each of AWS's services, and returns the answers to three webhooks.
async fn use_everything(world: &World, number: usize, receipt: &str) -> [Answer; 3] {
    let event = |id: String| json!({ "event_name": "ACTIVATE", "event_id": id, "user_id": "u" });
    let first = event(event_id(number)).to_string();
    let without_user = json!({ "event_name": "ACTIVATE", "event_id": "e-dead" });
    let answers = [
        world.post(first.as_bytes()).await,
        world.post(first.as_bytes()).await,
        world.post(without_user.to_string().as_bytes()).await,
    ];
    // A message that fails is delayed by its visibility timeout.
    world.clevertap.script([Reply::Status(408)]);
    let mut message = message(&event(format!("m-{number}")), &[]);
    message["receiptHandle"] = receipt.into();
    world.api.invoke(json!({ "Records": [message] })).await.expect("an answer");
    answers
}

fn event_id(number: usize) -> String {
    format!("e-{number}")
}
