//! Reads webhooks from files: one, one per line, an array, or messages as the AWS CLI prints them.
//! It does not know what a command does with them.

use crate::Unusable;
use purchasely_clevertap::aws::{claims, queues};
use purchasely_clevertap::json;
use purchasely_clevertap::mapping::identity::purchasely_id;
use purchasely_clevertap::purchasely::{Event, Verified, time_ms};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Deserializer, Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Some editors write it at the beginning of a file; it is not part of the webhook.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
pub const NO_WEBHOOK: &str = "the files contain no webhook";

pub struct Saved {
    /// The raw body.
    pub body: Vec<u8>,
    /// The file, and the line or element in it.
    pub source: String,
    /// Purchasely's name of the event; none if the function could not read the body.
    pub name: Option<String>,
    /// Purchasely's id of the event.
    pub id: Option<String>,
    /// Purchasely's own user, also if anonymous: a failed event blocks that user's later events.
    pub user: Option<String>,
    /// `event_created_at` in Unix milliseconds.
    pub created_at_ms: Option<i64>,
    /// The attributes of the message that contained it, such as a dead letter.
    pub attributes: BTreeMap<String, String>,
}

/// What the files contain.
pub struct Input {
    pub events: Vec<Saved>,
    /// Descriptions of what is not a webhook.
    pub invalid: Vec<String>,
}

/// What `aws sqs receive-message` prints.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Received {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    body: String,
    #[serde(default)]
    message_attributes: BTreeMap<String, Attribute>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute {
    string_value: Option<String>,
}

struct Reader {
    input: Input,
    problems: Vec<String>,
}

/// Reads all files, and the `.json` files of folders; every problem with a file is reported.
pub fn read(inputs: &[PathBuf]) -> Result<Input, Unusable> {
    let input = Input { events: Vec::new(), invalid: Vec::new() };
    let mut reader = Reader { input, problems: Vec::new() };
    for input in inputs {
        let files = if input.is_dir() {
            json_files(input)
        } else {
            Ok(vec![input.clone()])
        };
        match files {
            Ok(files) => files.iter().for_each(|file| reader.read_file(file)),
            Err(error) => reader.problems.push(format!("{}: {error}", input.display())),
        }
    }
    let Reader { input, problems } = reader;
    if problems.is_empty() {
        Ok(input)
    } else {
        Err(Unusable(problems))
    }
}

/// The same, where each of them must be a webhook.
pub fn read_all(inputs: &[PathBuf]) -> Result<Vec<Saved>, Unusable> {
    let Input { events, invalid } = read(inputs)?;
    match (events.is_empty(), invalid.is_empty()) {
        (_, false) => Err(Unusable(invalid)),
        (true, true) => Err(NO_WEBHOOK.to_owned().into()),
        (false, true) => Ok(events),
    }
}

/// The `.json` files of a folder, sorted by name; subfolders are not searched.
fn json_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let files: io::Result<Vec<_>> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut files = files?;
    files.retain(|path| path.extension().is_some_and(|end| end == "json") && path.is_file());
    files.sort();
    Ok(files)
}

impl Saved {
    /// A body that is not an event is replayed, too: the function decides about it.
    fn new(body: &[u8], source: String) -> Self {
        let document = json::read(body).ok();
        let event = Event::parse(Verified::unsigned(body)).ok();
        let event = event.as_ref();
        Self {
            name: event.map(|event| event.name().to_owned()),
            id: event.and_then(Event::id).map(str::to_owned),
            user: event.and_then(purchasely_id).map(Cow::into_owned),
            created_at_ms: document
                .as_ref()
                .and_then(json::Value::as_object)
                .and_then(|fields| time_ms(fields, "event_created_at")),
            body: body.to_vec(),
            source,
            attributes: BTreeMap::new(),
        }
    }

    /// The only records of the event that are still to be sent; all, if it does not say.
    pub fn records(&self) -> Option<&str> {
        self.attributes.get(queues::RECORDS).map(String::as_str)
    }

    /// The key of the function's claim on the event, with the records to be sent: copies have the same.
    pub fn key(&self) -> String {
        let key = claims::key(self.id.as_deref(), &self.body);
        self.records().map_or(key.clone(), |records| format!("{key} {records}"))
    }
}

impl Reader {
    fn read_file(&mut self, file: &Path) {
        let name = file.display().to_string();
        let content = match std::fs::read(file) {
            Ok(content) => content,
            Err(error) => return self.problems.push(format!("{name}: {error}")),
        };
        let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&content);
        match values(content) {
            // As it is, with white space around it.
            Ok(values) if values.len() == 1 => self.add(content, name),
            Ok(values) => {
                for (line, value) in values {
                    self.add(value, format!("{name}, line {line}"));
                }
            }
            // The function reads what serde_json does not.
            Err(_) if Event::parse(Verified::unsigned(content)).is_ok() => self.add(content, name),
            Err(error) if content.trim_ascii_start().starts_with(b"[") => {
                self.input.invalid.push(format!("{name}: not a JSON array: {error}"));
            }
            Err(_) => {
                let (events, invalid) = (self.input.events.len(), self.input.invalid.len());
                for (number, line) in (1..).zip(content.split(|&byte| byte == b'\n')) {
                    if !line.trim_ascii().is_empty() {
                        let line = line.strip_suffix(b"\r").unwrap_or(line);
                        self.add(line, format!("{name}, line {number}"));
                    }
                }
                // Such a file does not have lines of webhooks.
                if self.input.events.len() == events {
                    self.input.invalid.truncate(invalid);
                    self.add_invalid(&name);
                }
            }
        }
    }

    /// Adds what one JSON value contains: a webhook, a message, received messages, or several in an array.
    fn add(&mut self, json: &[u8], source: String) {
        let elements = serde_json::from_slice::<Vec<&RawValue>>(json).unwrap_or_default();
        if !elements.is_empty() {
            for (number, element) in (1..).zip(elements) {
                self.add(element.get().as_bytes(), format!("{source}, element {number}"));
            }
        } else if Event::parse(Verified::unsigned(json)).is_ok() {
            self.input.events.push(Saved::new(json, source));
        } else if let Ok(Received { messages }) = serde_json::from_slice(json) {
            for (number, message) in (1..).zip(messages) {
                self.add_message(message, format!("{source}, message {number}"));
            }
        } else if let Ok(message) = serde_json::from_slice(json) {
            self.add_message(message, source);
        } else if serde_json::from_slice::<Map<String, Value>>(json).is_ok() {
            self.input.events.push(Saved::new(json, source));
        } else {
            self.add_invalid(&source);
        }
    }

    fn add_invalid(&mut self, source: &str) {
        self.input.invalid.push(format!(
            "{source} is not a JSON object; use one webhook per line (`jq -c .` writes such lines), an array of webhooks, one webhook, or what `aws sqs receive-message` prints"
        ));
    }

    fn add_message(&mut self, message: Message, source: String) {
        let attributes = message.message_attributes.into_iter();
        let mut attributes: BTreeMap<_, _> = attributes
            .filter_map(|(name, value)| Some((name, value.string_value?)))
            .collect();
        if attributes.is_empty() {
            // They say which records CleverTap has already.
            return self.input.invalid.push(format!(
                "{source} has no MessageAttributes; run `aws sqs receive-message` with `--message-attribute-names All`"
            ));
        }
        let encoding = attributes.remove(queues::ENCODING);
        attributes.remove(queues::REPLAYED);
        match queues::webhook_of(&message.body, encoding.as_deref()) {
            Some(body) => {
                let event = Saved::new(&body, source);
                self.input.events.push(Saved { attributes, ..event });
            }
            None => self.input.invalid.push(format!("{source}: its Body is not in its `encoding`")),
        }
    }
}

pub fn iso8601(milliseconds: i64) -> Option<String> {
    let nanoseconds = i128::from(milliseconds) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
    time.format(&Rfc3339).ok()
}

/// The JSON values of a file, each with the number of the line where it starts.
fn values(content: &[u8]) -> serde_json::Result<Vec<(usize, &[u8])>> {
    let (mut line, mut counted) = (1, 0);
    let values = Deserializer::from_slice(content).into_iter::<&RawValue>();
    let numbered = values.map(|value| {
        let value = value?.get().as_bytes();
        let start = value.as_ptr().addr() - content.as_ptr().addr();
        line += content[counted..start].split(|&byte| byte == b'\n').count() - 1;
        counted = start;
        Ok((line, value))
    });
    numbered.collect()
}
