//! Reads what Lambda invoked the function with: an HTTP request, a batch of SQS messages, or neither.
//!
//! The kind of the event decides, never a path or a body. No event, however broken, can panic here.
//! It does not know what a webhook is.

use crate::json::{self, Value};
use aws_lambda_events::event::apigw::{ApiGatewayProxyResponse, ApiGatewayV2httpResponse};
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage, SqsMessageAttribute};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use lambda_http::request::LambdaRequest;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::time::Duration;

/// What the function was invoked with.
#[derive(Debug)]
pub enum Envelope {
    Request(Request),
    /// A request whose parts cannot be read, or one of a load balancer: nothing in it is signed. The request
    /// is empty, for the response.
    UnreadableRequest(Request),
    Batch(Vec<Message>),
    /// Records that are not SQS messages, or one without an id, which a batch response could not name.
    UnreadableBatch,
    Neither,
}

/// An HTTP request, from an HTTP API or a Function URL (payload 2.0) or a REST API (payload 1.0).
#[derive(Debug, Default)]
pub struct Request {
    pub method: Method,
    pub headers: HeaderMap,
    /// The raw body. Where its base64 is broken, the text as it came: no signature fits that.
    pub body: Vec<u8>,
    /// When the gateway received it, as time since 1970; zero where unknown. Emulators send other units.
    pub received_at: Duration,
    payload: Payload,
}

/// A message of an SQS queue.
#[derive(Debug)]
pub struct Message {
    pub id: String,
    pub body: String,
    pub receipt_handle: Option<String>,
    /// How often SQS has delivered it, this time included.
    pub receive_count: u32,
    /// SQS delivers the messages of one group in their order.
    pub group: Option<String>,
    /// When SQS got it, as time since 1970.
    pub sent_at: Option<Duration>,
    attributes: HashMap<String, SqsMessageAttribute>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Payload {
    One,
    #[default]
    Two,
}

/// What the function returns to Lambda.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Response {
    One(ApiGatewayProxyResponse),
    Two(ApiGatewayV2httpResponse),
    Batch(SqsBatchResponse),
}

impl Envelope {
    /// Reads an event's JSON as it is or, where that fails, without what nobody needs.
    pub fn read(json: &str) -> Self {
        match Self::read_strictly(json) {
            read @ (Self::Request(_) | Self::Batch(_)) => read,
            other => repaired(json).map_or(other, |json| Self::read_strictly(&json)),
        }
    }

    /// The most frequent kind is tried first, because each try reads all of it.
    fn read_strictly(json: &str) -> Self {
        if let Ok(request) = serde_json::from_str(json).map(LambdaRequest::ApiGatewayV2) {
            return Self::Request(request.into());
        }
        let Ok(parts) = serde_json::from_str::<HashMap<String, &RawValue>>(json) else {
            return Self::Neither;
        };
        let has = |part| parts.contains_key(part);
        if has("requestContext") || has("headers") || has("httpMethod") {
            return match serde_json::from_str(json).map(LambdaRequest::ApiGatewayV1) {
                Ok(request) => Self::Request(request.into()),
                // What no gateway sends has no headers that could be trusted.
                Err(_) => Self::UnreadableRequest(Request::default()),
            };
        }
        let batch = serde_json::from_str::<SqsEvent>(json).ok();
        match batch.and_then(|batch| batch.records.into_iter().map(Message::read).collect()) {
            Some(messages) => Self::Batch(messages),
            None if has("Records") => Self::UnreadableBatch,
            None => Self::Neither,
        }
    }
}

/// The event without deep nesting, halves of surrogate pairs and headers that HTTP does not allow.
fn repaired(json: &str) -> Option<String> {
    let mut event = json::read(json.as_bytes()).ok()?;
    if let Value::Object(parts) = &mut event {
        for headers in ["headers", "multiValueHeaders"] {
            if let Some(Value::Object(headers)) = parts.get_mut(headers) {
                headers.retain(|name, value| {
                    HeaderName::from_bytes(name.as_bytes()).is_ok() && is_header(value)
                });
            }
        }
    }
    serde_json::to_string(&event).ok()
}

fn is_header(value: &Value<'_>) -> bool {
    match value {
        Value::Text(text) => HeaderValue::from_str(text).is_ok(),
        Value::List(values) => values.iter().all(is_header),
        _ => false,
    }
}

impl Request {
    /// The response in the form that this kind of gateway reads.
    pub fn response(&self, status: u16, headers: HeaderMap, body: String) -> Response {
        match self.payload {
            Payload::One => {
                let mut response = ApiGatewayProxyResponse::default();
                response.status_code = status.into();
                response.headers = headers;
                response.body = Some(body.into());
                Response::One(response)
            }
            Payload::Two => {
                let mut response = ApiGatewayV2httpResponse::default();
                response.status_code = status.into();
                response.headers = headers;
                response.body = Some(body.into());
                Response::Two(response)
            }
        }
    }
}

impl From<LambdaRequest> for Request {
    fn from(request: LambdaRequest) -> Self {
        match request {
            LambdaRequest::ApiGatewayV1(request) => Self {
                method: request.http_method,
                // `headers` has only the last value of a repeated header.
                headers: if request.multi_value_headers.is_empty() {
                    request.headers
                } else {
                    request.multi_value_headers
                },
                body: body(request.body, request.is_base64_encoded),
                received_at: milliseconds(request.request_context.request_time_epoch),
                payload: Payload::One,
            },
            LambdaRequest::ApiGatewayV2(request) => Self {
                method: request.request_context.http.method,
                headers: request.headers,
                body: body(request.body, request.is_base64_encoded),
                received_at: milliseconds(request.request_context.time_epoch),
                payload: Payload::Two,
            },
            // No other kind is read.
            _ => Self::default(),
        }
    }
}

impl Message {
    fn read(mut message: SqsMessage) -> Option<Self> {
        let number = |attribute: &str| message.attributes.get(attribute)?.parse().ok();
        let received: Option<u64> = number("ApproximateReceiveCount");
        Some(Self {
            id: message.message_id?,
            body: message.body.unwrap_or_default(),
            receipt_handle: message.receipt_handle,
            receive_count: received.and_then(|count| count.try_into().ok()).unwrap_or(1),
            sent_at: number("SentTimestamp").map(Duration::from_millis),
            group: message.attributes.remove("MessageGroupId"),
            attributes: message.message_attributes,
        })
    }

    /// The text of an attribute that the sender has set.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.string_value.as_deref()
    }
}

fn body(text: Option<String>, is_base64: bool) -> Vec<u8> {
    let text = text.unwrap_or_default();
    if is_base64 && let Ok(body) = STANDARD.decode(&text) {
        return body;
    }
    text.into_bytes()
}

fn milliseconds(since_1970: i64) -> Duration {
    Duration::from_millis(u64::try_from(since_1970).unwrap_or_default())
}

/// Headers of a JSON response.
pub fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_request(event: &serde_json::Value) -> Request {
        match Envelope::read(&event.to_string()) {
            Envelope::Request(request) => request,
            other => panic!("not a request: {other:?}"),
        }
    }

    fn payload_2() -> serde_json::Value {
        json!({
            "version": "2.0",
            "rawPath": "/", "rawQueryString": "a=<&b=%zz&c= d",
            "headers": { "x-a": "1" },
            "requestContext": { "http": { "method": "POST" }, "timeEpoch": 1_772_439_330_250_u64 },
            "body": "eA==", "isBase64Encoded": true,
        })
    }

    #[test]
    fn reads_a_request_of_an_http_api() {
        let request = read_request(&payload_2());
        assert_eq!(request.method, Method::POST);
        assert_eq!(request.body, b"x");
        assert_eq!(request.headers["x-a"], "1");
        assert_eq!(request.received_at.as_millis(), 1_772_439_330_250);
    }

    #[test]
    fn broken_base64_is_kept_as_text() {
        let mut event = payload_2();
        event["body"] = json!("***");
        assert_eq!(read_request(&event).body, b"***");
    }

    #[test]
    fn a_rest_api_shows_every_value_of_a_repeated_header() {
        let request = read_request(&json!({
            "httpMethod": "POST", "path": "/",
            "headers": { "x-a": "2" }, "multiValueHeaders": { "x-a": ["1", "2"] },
            "requestContext": { "httpMethod": "POST", "requestTimeEpoch": -1 },
            "body": "x", "isBase64Encoded": false,
        }));
        assert_eq!(request.headers.get_all("x-a").iter().count(), 2);
        assert_eq!(request.received_at, Duration::ZERO);
        let response = serde_json::to_value(request.response(200, json_headers(), "{}".into()));
        assert_eq!(response.unwrap().get("cookies"), None);
    }

    #[test]
    fn local_emulators_find_the_cookies_that_they_need() {
        let response = read_request(&payload_2()).response(200, json_headers(), "{}".into());
        let response = serde_json::to_value(response).unwrap();
        assert_eq!(response["cookies"], json!([]));
        assert_eq!(response["headers"]["content-type"], "application/json");
        assert_eq!(response["body"], "{}");
    }

    #[test]
    fn a_request_that_cannot_be_read_says_so() {
        for event in [
            json!({ "headers": { "x-a": "1" } }),
            json!({ "requestContext": null, "httpMethod": "POST" }),
            json!({ "requestContext": {}, "Records": [] }),
            json!({ "requestContext": { "http": { "method": "P OST" } }, "headers": { "x-a": "1" } }),
            // A load balancer's.
            json!({
                "requestContext": { "elb": { "targetGroupArn": "arn" } },
                "httpMethod": "POST", "path": "/", "headers": { "x-a": "1" }, "body": "x",
            }),
        ] {
            match Envelope::read(&event.to_string()) {
                Envelope::UnreadableRequest(request) => {
                    assert!(request.headers.is_empty(), "{event}");
                    let response = request.response(401, json_headers(), "{}".into());
                    assert_eq!(serde_json::to_value(response).unwrap()["statusCode"], 401);
                }
                other => panic!("{event}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_nobody_needs_costs_nothing() {
        let whole = payload_2().to_string();
        let deep = format!(r#""x":{}{},"version""#, "[".repeat(500), "]".repeat(500));
        for (part, odd) in [
            (r#""x-a":"1""#, r#""x-a":"1","x-b":"\ud83c","x-c":"caf\u00e9","\udf0d":"1""#),
            (r#""version""#, &deep),
            (r#""version""#, r#""\ud83c":1e400,"version""#),
            ("{\"body", "\u{feff}{\"body"),
        ] {
            let event = whole.replacen(part, odd, 1);
            assert_ne!(event, whole);
            let Envelope::Request(request) = Envelope::read(&event) else {
                panic!("not a request: {event}");
            };
            assert_eq!(request.body, b"x", "{event}");
            assert_eq!(request.headers["x-a"], "1", "{event}");
            assert!(!request.headers.contains_key("x-b"));
        }
        let batch = r#"{"Records":[{"messageId":"1","body":"\ud83c","x":1e400}]}"#;
        let batch = Envelope::read(batch);
        assert!(matches!(batch, Envelope::Batch(messages) if messages.len() == 1));
    }

    #[test]
    fn a_batch_has_records_with_ids_and_no_request() {
        let read = |event: serde_json::Value| Envelope::read(&event.to_string());
        let batch = read(json!({ "Records": [{ "messageId": "1", "body": "{}" }] }));
        assert!(matches!(batch, Envelope::Batch(messages) if messages.len() == 1));
        for records in [json!([{ "body": "{}" }]), json!([1]), json!("x"), json!(null)] {
            let batch = read(json!({ "Records": records }));
            assert!(matches!(batch, Envelope::UnreadableBatch));
        }
        for event in [json!({}), json!([]), json!("x")] {
            assert!(matches!(read(event), Envelope::Neither));
        }
    }
}
