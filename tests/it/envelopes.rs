//! Whatever the function is invoked with, it answers: no envelope makes it panic or acknowledge an event.
//! It does not know which front sends such envelopes; the fields are those of API Gateway and SQS.

use crate::mapping::{self, property_config};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use testkit::harness::{SHARED_SECRET, World, body, signed};
use testkit::webhook::Front;

/// Text fields of both payload versions that do not decide whether a request is signed.
const TEXTS: [&str; 14] = [
    "/rawPath",
    "/rawQueryString",
    "/path",
    "/resource",
    "/headers/host",
    "/headers/user-agent",
    "/headers/x-forwarded-for",
    "/headers/x-forwarded-proto",
    "/queryStringParameters/a",
    "/pathParameters/proxy",
    "/stageVariables/a",
    "/requestContext/domainName",
    "/requestContext/stage",
    "/requestContext/http/path",
];

/// Fields that a front may leave out.
const OPTIONAL: [&str; 8] = [
    "/rawPath",
    "/rawQueryString",
    "/routeKey",
    "/headers/host",
    "/queryStringParameters",
    "/multiValueQueryStringParameters",
    "/stageVariables",
    "/requestContext/stage",
];

/// One field of an envelope, by its JSON pointer, and its value; `None` removes it.
pub type Change = (&'static str, Option<Value>);

fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,30}",
        "[%<>&=+ a-f0-9]{0,12}",
        select(&["not a host", "http://[", "%", "%zz", "a=%ff&<b>", "//", "*"][..])
            .prop_map(str::to_owned),
    ]
}

/// Changes that leave a request what it is, however odd it looks.
fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        6 => (select(&TEXTS[..]), odd_text()).prop_map(|(path, text)| (path, Some(json!(text)))),
        2 => select(&OPTIONAL[..]).prop_map(|path| (path, None)),
        1 => any::<i64>().prop_map(|ms| ("/requestContext/timeEpoch", Some(json!(ms)))),
        1 => any::<i64>().prop_map(|ms| ("/requestContext/requestTimeEpoch", Some(json!(ms)))),
        1 => vec(odd_text(), 0..3).prop_map(|all| ("/cookies", Some(json!(all)))),
        1 => vec(odd_text(), 0..3)
            .prop_map(|all| ("/multiValueQueryStringParameters/a", Some(json!(all)))),
    ];
    vec(change, 0..6)
}

/// Changes after which no signature can match.
fn unsigning() -> impl Strategy<Value = Vec<Change>> {
    let body = prop_oneof![odd_text(), ".{0,40}", Just("*** not base64 ***".to_owned())];
    let flags = (any::<bool>(), any::<bool>());
    (body, ".{0,10}", flags).prop_map(|(body, header, (in_base64, no_headers))| {
        let mut changes = vec![
            ("/headers/x-odd", Some(json!(header))),
            ("/headers/x-purchasely-request-signature", None),
            ("/multiValueHeaders/x-purchasely-request-signature", None),
            ("/body", Some(json!(body))),
            ("/isBase64Encoded", Some(json!(in_base64))),
        ];
        if no_headers {
            changes.push(("/headers", None));
            changes.push(("/multiValueHeaders", None));
        }
        changes
    })
}

fn request() -> impl Strategy<Value = Value> {
    let fronts = vec![Front::HttpApi, Front::HttpApiBase64, Front::RestApi];
    select(fronts).prop_map(|front| {
        let mut request = signed(&body(), SHARED_SECRET).envelope(front);
        for optional in ["queryStringParameters", "pathParameters", "stageVariables"] {
            request[optional] = json!({});
        }
        if front != Front::RestApi {
            request["cookies"] = json!([]);
        }
        request
    })
}

/// Changes the fields that this version of the payload has, and those of its open objects, such as headers.
pub fn apply(mut envelope: Value, changes: Vec<Change>) -> Value {
    for (pointer, value) in changes {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let Some(Value::Object(object)) = envelope.pointer_mut(parent) else {
            continue;
        };
        if let Some(value) = value {
            if !parent.is_empty() || object.contains_key(field) {
                object.insert(field.to_owned(), value);
            }
        } else {
            object.remove(field);
        }
    }
    envelope
}

/// A request with a value of any type in the place of one of its fields.
fn broken_request() -> impl Strategy<Value = Value> {
    let place = (any::<Index>(), any::<bool>());
    (request(), place, mapping::value()).prop_map(|(mut request, (index, is_deep), value)| {
        let target = if is_deep {
            &mut request["requestContext"]
        } else {
            &mut request
        };
        let fields = target.as_object_mut().unwrap();
        let name = fields.keys().nth(index.index(fields.len())).unwrap().clone();
        fields.insert(name, value);
        // Whatever else is wrong with it, it is not signed.
        apply(request, vec![("/headers", None), ("/multiValueHeaders", None)])
    })
}

/// A batch none of whose messages is an event.
fn batch() -> impl Strategy<Value = Value> {
    let message = (odd_text(), mapping::value(), mapping::value(), any::<bool>());
    let message = message.prop_map(|(body, attribute, other, is_odd)| {
        let mut message = json!({ "messageId": "m", "eventSource": "aws:sqs", "body": body });
        if is_odd {
            message["messageAttributes"] = json!({ "encoding": attribute });
            message["attributes"] = other;
        }
        message
    });
    let records = prop_oneof![
        4 => vec(message, 0..5).prop_map(Value::from),
        1 => vec(mapping::value(), 0..3).prop_map(Value::from),
        1 => mapping::value(),
    ];
    records.prop_map(|records| json!({ "Records": records }))
}

/// Runs a property against one function, which must not have panicked at the end.
fn check(property: impl AsyncFn(&World, &Value) -> bool, envelopes: impl Strategy<Value = Value>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::start(&[]));
    let mut runner = TestRunner::new(property_config(file!()));
    let result = runner.run(&envelopes, |envelope| {
        prop_assert!(runtime.block_on(property(&world, &envelope)), "{envelope:#}");
        Ok(())
    });
    let _runtime = runtime.enter();
    let log = world.function.log();
    let panics: Vec<_> = log.iter().filter(|line| line.contains("panicked")).collect();
    assert!(panics.is_empty(), "{panics:#?}");
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn an_unsigned_request_is_401_whatever_else_is_wrong_with_it() {
    let unsigned = (request(), changes(), unsigning())
        .prop_map(|(request, odd, unsigned)| apply(apply(request, odd), unsigned));
    let is_unauthorized = async |world: &World, envelope: &Value| {
        let answer = world.api.invoke(envelope).await;
        answer.is_ok_and(|answer| answer["statusCode"] == 401)
    };
    check(is_unauthorized, unsigned);
}

#[test]
fn a_signed_request_is_relayed_whatever_surrounds_it() {
    let signed = (request(), changes()).prop_map(|(request, odd)| apply(request, odd));
    let is_relayed = async |world: &World, envelope: &Value| {
        let answer = world.api.invoke(envelope).await;
        answer.is_ok_and(|answer| answer["statusCode"] == 200)
    };
    check(is_relayed, signed);
}

#[test]
fn nothing_else_is_ever_acknowledged() {
    let envelopes = prop_oneof![broken_request(), batch(), mapping::value()];
    let is_not_acknowledged = async |world: &World, envelope: &Value| {
        let is_safe = match world.api.invoke(envelope).await {
            Err(_) => true,
            Ok(answer) => match (&answer["statusCode"], &answer["batchItemFailures"]) {
                (Value::Number(status), _) => {
                    [401, 405, 413, 503].contains(&status.as_u64().unwrap())
                }
                // SQS deletes what is not named.
                (_, Value::Array(failures)) => {
                    envelope["Records"].as_array().map(Vec::len) == Some(failures.len())
                }
                _ => false,
            },
        };
        is_safe && world.clevertap.uploads().is_empty()
    };
    check(is_not_acknowledged, envelopes);
}
