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
const TEXTS: &str = "/rawPath /rawQueryString /path /resource /headers/host /headers/user-agent \
    /headers/x-forwarded-for /headers/x-forwarded-proto /queryStringParameters/a /pathParameters/proxy \
    /stageVariables/a /requestContext/domainName /requestContext/stage /requestContext/http/path";
/// Fields that a front may leave out.
const OPTIONAL: &str = "/rawPath /rawQueryString /routeKey /headers/host /queryStringParameters \
    /multiValueQueryStringParameters /stageVariables /requestContext/stage";
const TIMES: &str = "/requestContext/timeEpoch /requestContext/requestTimeEpoch";
const LISTS: &str = "/cookies /multiValueQueryStringParameters/a";

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
    fn set<V: Into<Value> + std::fmt::Debug>(
        places: &'static str,
        value: impl Strategy<Value = V>,
    ) -> impl Strategy<Value = Change> {
        let places: Vec<_> = places.split_whitespace().collect();
        (select(places), value).prop_map(|(place, value)| (place, Some(value.into())))
    }
    let optional: Vec<_> = OPTIONAL.split_whitespace().collect();
    let change = prop_oneof![
        6 => set(TEXTS, odd_text()),
        2 => select(optional).prop_map(|place| (place, None)),
        2 => set(TIMES, any::<i64>()),
        2 => set(LISTS, vec(odd_text(), 0..3)),
    ];
    vec(change, 0..6)
}

/// Changes after which no signature can match.
fn unsigning() -> impl Strategy<Value = Vec<Change>> {
    let body = prop_oneof![odd_text(), ".{0,40}", Just("*** not base64 ***".to_owned())];
    (body, ".{0,10}", any::<[bool; 2]>()).prop_map(|(body, header, [in_base64, no_headers])| {
        let headers: &[_] = if no_headers {
            &["/headers", "/multiValueHeaders"]
        } else {
            &[
                "/headers/x-purchasely-request-signature",
                "/multiValueHeaders/x-purchasely-request-signature",
            ]
        };
        let set = [
            ("/headers/x-odd", json!(header)),
            ("/body", json!(body)),
            ("/isBase64Encoded", json!(in_base64)),
        ];
        let set = set.map(|(place, value)| (place, Some(value))).into_iter();
        set.chain(headers.iter().map(|place| (*place, None))).collect()
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
fn check<I: std::fmt::Debug>(
    property: impl AsyncFn(&World, &I) -> bool,
    inputs: impl Strategy<Value = I>,
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(crate::start(&[]));
    let mut runner = TestRunner::new(property_config(file!()));
    let result = runner.run(&inputs, |input| {
        prop_assert!(runtime.block_on(property(&world, &input)), "{input:#?}");
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
fn a_signed_request_is_relayed_and_an_unsigned_one_is_401_whatever_else_is_wrong_with_it() {
    let requests = (request(), changes(), unsigning()).prop_map(|(request, odd, unsigned)| {
        let signed = apply(request, odd);
        [(apply(signed.clone(), unsigned), 401), (signed, 200)]
    });
    let are_answered = async |world: &World, requests: &[(Value, u64); 2]| {
        for (request, status) in requests {
            let answer = world.api.invoke(request).await;
            if !answer.is_ok_and(|answer| answer["statusCode"] == *status) {
                return false;
            }
        }
        true
    };
    check(are_answered, requests);
}

#[test]
fn nothing_else_is_ever_acknowledged() {
    let envelopes = prop_oneof![broken_request(), batch(), mapping::value()];
    let is_not_acknowledged = async |world: &World, envelope: &Value| {
        let is_safe = match world.api.invoke(envelope).await {
            Err(_) => true,
            Ok(answer) => match (answer["statusCode"].as_u64(), &answer["batchItemFailures"]) {
                (Some(status), _) => status != 200,
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
