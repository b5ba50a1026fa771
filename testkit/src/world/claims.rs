//! A DynamoDB table in memory that evaluates the expressions which the function's claims are made of.
//! It refuses every other expression, so that a change of them cannot go unnoticed.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const CLAIM: &str = "SET #state = :in_progress, #until = :until, #owner = :owner, #expires = :expires, #first = if_not_exists(#first, :first)";
const COMPLETE: &str = "SET #state = :done, #expires = :expires";
const ADD: &str = "ADD #accepted :accepted SET #expires = :expires";

/// The items by their keys, each as DynamoDB's JSON.
#[derive(Default)]
pub struct ClaimsTable(pub BTreeMap<String, Map<String, Value>>);

/// What an `UpdateItem` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    Claim,
    Complete,
    AddAccepted,
}

/// The item's key and the kind of an `UpdateItem`.
pub fn read(input: &Value) -> Option<(&str, Update)> {
    let key = input["Key"]["event_id"]["S"].as_str()?;
    let update = match input["UpdateExpression"].as_str()? {
        CLAIM => Update::Claim,
        COMPLETE => Update::Complete,
        ADD => Update::AddAccepted,
        _ => return None,
    };
    Some((key, update))
}

impl ClaimsTable {
    /// Whether CleverTap's acceptance of a record with this role stands in the item.
    pub fn knows(&self, key: &str, role: &str) -> bool {
        self.0.get(key).is_some_and(|item| {
            let accepted = item.get("accepted").and_then(|set| set["SS"].as_array());
            item.get("state").is_some_and(|state| state["S"] == "done")
                || accepted.is_some_and(|roles| roles.iter().any(|known| known == role))
        })
    }

    /// Deletes every second item that has expired: DynamoDB takes days for it.
    pub fn expire(&mut self, now_seconds: u64) {
        let mut is_late = true;
        self.0.retain(|_, item| {
            let expires_at = item.get("expires_at").and_then(number);
            let is_expired = expires_at.is_some_and(|at| at <= now_seconds);
            is_late ^= is_expired;
            !is_expired || is_late
        });
    }

    /// Applies an `UpdateItem`, and returns the status and body of the answer.
    pub fn update(&mut self, input: &Value) -> (u16, Value) {
        let Some((key, update)) = read(input) else {
            return (400, json!({ "__type": "ValidationException", "message": "unknown update" }));
        };
        let current = self.0.get(key);
        if update == Update::Claim && !may_claim(input, current) {
            let code = "ConditionalCheckFailedException";
            return (400, json!({ "__type": code, "message": "no", "Item": current }));
        }
        let values = &input["ExpressionAttributeValues"];
        let item = self.0.entry(key.to_owned()).or_default();
        let mut set = |name: &str, value: &Value| drop(item.insert(name.to_owned(), value.clone()));
        set("event_id", &json!({ "S": key }));
        set("expires_at", &values[":expires"]);
        match update {
            Update::Claim => {
                set("state", &values[":in_progress"]);
                set("until_ms", &values[":until"]);
                set("owner", &values[":owner"]);
                item.entry("first_at").or_insert_with(|| values[":first"].clone());
            }
            Update::Complete => set("state", &values[":done"]),
            Update::AddAccepted => {
                let set = item.entry("accepted").or_insert_with(|| json!({ "SS": [] }));
                let known = set["SS"].as_array_mut().expect("a set");
                for role in values[":accepted"]["SS"].as_array().into_iter().flatten() {
                    if !known.contains(role) {
                        known.push(role.clone());
                    }
                }
            }
        }
        (200, json!({ "Attributes": item }))
    }
}

/// Evaluates the condition: alternatives of which the first asks for an attribute that does not exist.
fn may_claim(input: &Value, item: Option<&Map<String, Value>>) -> bool {
    let condition = input["ConditionExpression"].as_str().unwrap_or_default();
    let (first, rest) = condition.split_once(" OR ").unwrap_or_default();
    assert_eq!(
        rest, "(#state = :in_progress AND (#until < :now OR #owner = :owner))",
        "the table knows this condition only"
    );
    let name = first.strip_prefix("attribute_not_exists(");
    let name = name.and_then(|name| name.strip_suffix(')')).expect("the first alternative");
    let name = input["ExpressionAttributeNames"][name].as_str().expect("an attribute's name");
    let Some(item) = item.filter(|item| item.contains_key(name)) else {
        return true;
    };
    let values = &input["ExpressionAttributeValues"];
    let has_expired = item.get("until_ms").and_then(number) < number(&values[":now"]);
    item.get("state") == Some(&values[":in_progress"])
        && (has_expired || item.get("owner") == Some(&values[":owner"]))
}

fn number(value: &Value) -> Option<u64> {
    value["N"].as_str()?.parse().ok()
}
