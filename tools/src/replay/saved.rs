//! Reads saved webhooks from files, in the order in which they happened.
//! It does not know where they are sent, nor which were sent before.

use crate::files::json_files;
use purchasely_clevertap::aws::claims;
use purchasely_clevertap::clevertap::User;
use purchasely_clevertap::mapping::identity::{Identified, IdentityRules, identify};
use purchasely_clevertap::purchasely::{Event, Verified, time_ms};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Some editors write it at the beginning of a file; it is not part of the webhook.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub struct Saved {
    /// The raw body.
    pub body: Vec<u8>,
    /// The file, and the line or element in it.
    pub source: String,
    /// Purchasely's name of the event; none if the function could not read the body.
    pub name: Option<String>,
    /// Purchasely's id of the event.
    pub id: Option<String>,
    /// The user, also if anonymous: a failed event blocks that user's later events.
    pub user: Option<String>,
    /// `event_created_at` in Unix milliseconds.
    pub created_at_ms: Option<i64>,
}

impl Saved {
    /// A JSON object that is not an event is replayed, too: the function decides about it.
    fn new(body: &[u8], source: String) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let event = Event::parse(Verified::unsigned(body)).ok();
        let event = event.as_ref();
        Some(Self {
            name: event.map(|event| event.name().to_owned()),
            id: event.and_then(Event::id).map(str::to_owned),
            user: event.and_then(user),
            created_at_ms: time_ms(&fields, "event_created_at"),
            body: body.to_vec(),
            source,
        })
    }

    /// The key of the function's claim on the event: copies have the same.
    pub fn key(&self) -> String {
        claims::key(self.id.as_deref(), &self.body)
    }
}

fn user(event: &Event) -> Option<String> {
    let rules = IdentityRules { anonymous_is_identity: true, ..IdentityRules::default() };
    match identify(event, &rules) {
        Identified::User(User::Identity(id) | User::ObjectId(id)) => Some(id.into_owned()),
        Identified::Anonymous | Identified::Nobody | Identified::TooLong => None,
    }
}

/// Reads all files, and the `.json` files of folders; every problem is reported. Events of the same
/// millisecond keep the order of the files; those without a time come last.
pub fn read(inputs: &[PathBuf]) -> Result<Vec<Saved>, Vec<String>> {
    let (mut events, mut problems) = (Vec::new(), Vec::new());
    for input in inputs {
        let files = if input.is_dir() { json_files(input) } else { Ok(vec![input.clone()]) };
        match files {
            Ok(files) => {
                for file in files {
                    read_file(&file, &mut events, &mut problems);
                }
            }
            Err(error) => problems.push(format!("{}: {error}", input.display())),
        }
    }
    if problems.is_empty() && events.is_empty() {
        problems.push("the files contain no webhook".to_owned());
    }
    events.sort_by_key(|event| event.created_at_ms.unwrap_or(i64::MAX));
    if problems.is_empty() { Ok(events) } else { Err(problems) }
}

fn read_file(file: &Path, events: &mut Vec<Saved>, problems: &mut Vec<String>) {
    let name = file.display().to_string();
    let content = match std::fs::read(file) {
        Ok(content) => content,
        Err(error) => return problems.push(format!("{name}: {error}")),
    };
    let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&content);
    if let Some(event) = Saved::new(content, name.clone()) {
        return events.push(event);
    }
    let bodies = if content.trim_ascii_start().starts_with(b"[") {
        match serde_json::from_slice::<Vec<&RawValue>>(content) {
            Ok(elements) => numbered("element", elements.iter().map(|raw| raw.get().as_bytes())),
            Err(error) => return problems.push(format!("{name}: not a JSON array: {error}")),
        }
    } else {
        numbered("line", content.split(|&byte| byte == b'\n'))
    };
    for (place, body) in bodies {
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        match Saved::new(body, format!("{name}, {place}")) {
            Some(event) => events.push(event),
            None if body.trim_ascii().is_empty() => {}
            None => return problems.push(format!(
                "{name}: {place} is not a JSON object; use one webhook per line (`jq -c .` writes such lines), an array of webhooks, or one webhook"
            )),
        }
    }
}

fn numbered<'f>(part: &str, bodies: impl Iterator<Item = &'f [u8]>) -> Vec<(String, &'f [u8])> {
    let numbers = (1..).map(|number| format!("{part} {number}"));
    numbers.zip(bodies).collect()
}
