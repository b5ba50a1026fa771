//! A DynamoDB table that never has an item: every condition is met and every write succeeds.
//! It does not store anything; [`crate::resources`] is for tests that read back what was written.

use crate::connections::{Connections, Ending, Listener};
use bytes::Bytes;
use hyper::Request;
use serde_json::{Value, json};
use std::ops::Deref;

const AWS_JSON: &str = "application/x-amz-json-1.0";

/// A server with one such table. Clones are the same server.
#[derive(Clone, Default)]
pub struct DynamoDb(Connections);

impl DynamoDb {
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts for ever; each connection runs in its own task.
    pub async fn serve(self, listener: impl Into<Listener>) {
        let answer = |request| std::future::ready(answer(&request));
        self.0.serve_listener(listener, answer).await;
    }
}

impl Deref for DynamoDb {
    type Target = Connections;

    fn deref(&self) -> &Connections {
        &self.0
    }
}

fn answer(request: &Request<Bytes>) -> Ending {
    let target = request.headers().get("x-amz-target");
    let operation = target.and_then(|target| target.to_str().ok()?.split_once('.'));
    let (status, body) = match operation {
        // The item after the write; of its attributes, only the key is sure.
        Some((_, "UpdateItem")) => {
            let request: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            (200, json!({ "Attributes": request["Key"] }))
        }
        _ => (400, json!({ "__type": "UnknownOperationException" })),
    };
    Ending::answer(status, AWS_JSON, body.to_string())
}
