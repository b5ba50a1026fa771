//! The permissions in `template.yaml`: the function's role grants what the function calls, and no more.
//! It does not know who calls whom in the source; it runs the function under moto's IAM.

use crate::template;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use testkit::harness::{Answer, PASSCODE, SECRET_ID, SHARED_SECRET, World, answered, secret_value};
use testkit::messages::message;
use testkit::moto::{self, Resources};
use testkit::world::clevertap::Reply;
use testkit::world::secrets_manager::SecretsManager;

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
    text.trim_end_matches(".Arn").to_owned()
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
    let role: Vec<String> = granted().into_values().flatten().collect();
    let called = FUNCTION.iter().flat_map(|(_, actions)| *actions);
    let left_out = [None].into_iter().chain(called.map(Some));

    let server = moto::start().await;
    let resources = Resources::make_at(server.clone()).await;
    let secret =
        json!({ "Name": SECRET_ID, "SecretString": secret_value(PASSCODE, SHARED_SECRET) });
    call(&server, "secretsmanager", "secretsmanager.CreateSecret", secret.to_string()).await;
    let mut users = Vec::new();
    for left_out in left_out {
        let actions: Vec<_> =
            role.iter().filter(|action| Some(&action.as_str()) != left_out).collect();
        users.push((left_out, create_user(&server, users.len(), &actions).await));
    }
    let mut receipts = Vec::new();
    for number in 0..users.len() {
        receipts.push(receive_a_message(&server, &resources.event_queue_url, number).await);
    }
    // From here on the server checks signatures and policies.
    call(&server, "moto-api", "reset-auth", "0".to_owned()).await;

    for (number, (left_out, key)) in users.iter().enumerate() {
        let world = start(&resources, key).await;
        let answers = use_everything(&world, number, &receipts[number]).await;
        let log = world.function.log();
        let problems: Vec<_> = log.iter().filter(|line| is_problem(line)).collect();
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

/// A warning or error that is not the outcome of an event: a call to AWS failed.
fn is_problem(line: &str) -> bool {
    let line: Value = serde_json::from_str(line).expect("a line is JSON");
    line["outcome"].is_null() && (line["level"] == "WARN" || line["level"] == "ERROR")
}

/// An access key of a user of moto's.
struct AccessKey {
    id: String,
    secret: String,
}

/// Moto compares actions only, so the policy names no resource. It does not know that a permission is also that
/// for the batch.
async fn create_user(server: &str, number: usize, actions: &[&String]) -> AccessKey {
    let batch = |action: &&String| {
        (*action == "sqs:ChangeMessageVisibility").then(|| format!("{action}Batch"))
    };
    let actions: Vec<_> = actions
        .iter()
        .map(ToString::to_string)
        .chain(actions.iter().filter_map(batch))
        .collect();
    let statement = json!({ "Effect": "Allow", "Action": actions, "Resource": "*" });
    let policy = json!({ "Version": "2012-10-17", "Statement": [statement] });
    let user = format!("UserName=user-{number}");
    call(server, "iam", "CreateUser", user.clone()).await;
    let put = format!("{user}&PolicyName=role&PolicyDocument={policy}");
    call(server, "iam", "PutUserPolicy", put).await;
    let created = call(server, "iam", "CreateAccessKey", user).await;
    let element = |name: &str| {
        let (_, rest) = created.split_once(&format!("<{name}>")).expect(name);
        rest.split('<').next().unwrap().to_owned()
    };
    AccessKey {
        id: element("AccessKeyId"),
        secret: element("SecretAccessKey"),
    }
}

/// Calls moto without the SDK, which the function has for three services only.
async fn call(server: &str, service: &str, action: &str, body: String) -> String {
    let credential =
        format!("AWS4-HMAC-SHA256 Credential=admin/20260101/eu-west-1/{service}/aws4_request");
    let request = testkit::process::plain_client();
    let request = match service {
        "moto-api" => request.post(format!("{server}/moto-api/{action}")).body(body),
        "iam" => request
            .post(server)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("Action={action}&Version=2010-05-08&{body}")),
        _ => request
            .post(server)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", action)
            .body(body),
    };
    let answer = request.header("authorization", credential).send().await.expect("moto");
    let status = answer.status();
    let text = answer.text().await.expect("a text");
    assert!(status.is_success(), "{action}: {status}\n{text}");
    text
}

/// Puts a message into the queue, takes it out, and returns its receipt handle.
async fn receive_a_message(server: &str, queue: &str, number: usize) -> String {
    let id = number.to_string();
    let message = json!({
        "QueueUrl": queue,
        "MessageBody": "-",
        "MessageGroupId": id,
        "MessageDeduplicationId": id,
    });
    call(server, "sqs", "AmazonSQS.SendMessage", message.to_string()).await;
    let receive = json!({ "QueueUrl": queue, "VisibilityTimeout": 600 });
    let received = call(server, "sqs", "AmazonSQS.ReceiveMessage", receive.to_string()).await;
    let received: Value = serde_json::from_str(&received).expect("JSON");
    let handle = received["Messages"][0]["ReceiptHandle"].as_str();
    handle.expect("a message").to_owned()
}

async fn start(resources: &Resources, key: &AccessKey) -> World {
    let settings = [
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", resources.endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", &key.id),
        ("AWS_SECRET_ACCESS_KEY", &key.secret),
    ];
    // The secret is moto's: this one is never read.
    let unused = SecretsManager::new(SECRET_ID, "");
    World::start_with(unused, &[&resources.settings()[..], &settings].concat()).await
}

/// Sends what makes the function call each of AWS's services, and returns the answers to three webhooks.
async fn use_everything(world: &World, number: usize, receipt: &str) -> [Answer; 3] {
    let event = json!({ "event_name": "ACTIVATE", "event_id": event_id(number), "user_id": "u" });
    let without_user = json!({ "event_name": "ACTIVATE", "event_id": "e-dead" });
    let answers = [
        world.post(event.to_string().as_bytes()).await,
        world.post(event.to_string().as_bytes()).await,
        world.post(without_user.to_string().as_bytes()).await,
    ];
    // A message that fails is delayed by its visibility timeout.
    world.clevertap.script([Reply::Status(408)]);
    let event =
        json!({ "event_name": "ACTIVATE", "event_id": format!("m-{number}"), "user_id": "u" });
    let mut message = message(&event, &[]);
    message["receiptHandle"] = receipt.into();
    world.api.invoke(json!({ "Records": [message] })).await.expect("an answer");
    answers
}

fn event_id(number: usize) -> String {
    format!("e-{number}")
}
