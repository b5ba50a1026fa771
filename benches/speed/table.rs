//! The claims table of every contestant: the function's own requests go to the world's table, those of its peers are
//! evaluated here. It refuses every other expression, so that a change of them cannot go unnoticed.

use bytes::Bytes;
use http::Request;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use testkit::world::aws::{Aws, TABLE};
use testkit::world::{Ending, Service, operation};

/// With which Powertools claims an event, and the peer in Rust.
const CONDITION: &str = "attribute_not_exists(#id) OR #expiry < :now OR (#status = :inprogress AND attribute_exists(#in_progress_expiry) AND #in_progress_expiry < :now_in_millis)";
/// By which a claim is completed: in Python, in Node, and in Rust.
const UPDATES: [&str; 3] = [
    "SET #response_data = :response_data, #expiry = :expiry, #status = :status",
    "SET #expiry = :expiry, #status = :status, #response_data = :response_data",
    "SET #expiry = :expiry, #status = :status",
];

type Item = Map<String, Value>;

/// Clones are the same table.
#[derive(Clone, Default)]
pub struct Table {
    world: Aws,
    items: Arc<Mutex<BTreeMap<String, Item>>>,
}

impl Service for Table {
    async fn answer(self, request: Request<Bytes>) -> Ending {
        let input: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        match self.evaluate(operation(&request), &input) {
            Some(Ok(())) => Ending::aws(200, &json!({})),
            Some(Err(item)) => {
                let code = "ConditionalCheckFailedException";
                Ending::aws(400, &json!({ "__type": code, "message": "no", "Item": item }))
            }
            None => self.world.answer(request).await,
        }
    }
}

impl Table {
    /// Makes a peer's change, or returns the item that forbids it. `None`: this is no peer's request.
    fn evaluate(&self, operation: &str, input: &Value) -> Option<Result<(), Item>> {
        let key_of = |item: &Value| item["event_id"]["S"].as_str().map(str::to_owned);
        if input["TableName"] != TABLE {
            return None;
        }
        let mut items = self.items.lock().expect("nothing panics while it has them");
        match operation {
            "DynamoDB_20120810.PutItem" if input["ConditionExpression"] == CONDITION => {
                let (key, item) = (key_of(&input["Item"])?, input["Item"].as_object()?);
                if let Some(current) = items.get(&key).filter(|current| !may_claim(input, current))
                {
                    return Some(Err(current.clone()));
                }
                items.insert(key, item.clone());
            }
            "DynamoDB_20120810.UpdateItem" => {
                let update = UPDATES.iter().find(|update| input["UpdateExpression"] == **update)?;
                let item = items.entry(key_of(&input["Key"])?).or_default();
                for change in update.trim_start_matches("SET ").split(", ") {
                    let (name, value) = change.split_once(" = ")?;
                    let value = &input["ExpressionAttributeValues"][value];
                    item.insert(attribute(input, name).to_owned(), value.clone());
                }
            }
            "DynamoDB_20120810.DeleteItem" if input["ConditionExpression"].is_null() => {
                items.remove(&key_of(&input["Key"])?);
            }
            _ => return None,
        }
        Some(Ok(()))
    }
}

/// Evaluates [`CONDITION`] for an item that exists.
fn may_claim(input: &Value, item: &Item) -> bool {
    let number = |value: &Value| value["N"].as_str().and_then(|number| number.parse::<f64>().ok());
    let is_before = |name, limit| {
        let time = item.get(attribute(input, name)).and_then(number);
        time.is_some_and(|time| Some(time) < number(&input["ExpressionAttributeValues"][limit]))
    };
    let status = item.get(attribute(input, "#status"));
    is_before("#expiry", ":now")
        || status == Some(&input["ExpressionAttributeValues"][":inprogress"])
            && is_before("#in_progress_expiry", ":now_in_millis")
}

fn attribute<'i>(input: &'i Value, name: &str) -> &'i str {
    input["ExpressionAttributeNames"][name].as_str().unwrap_or_default()
}
