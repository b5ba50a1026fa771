//! Saved webhooks: the raw bodies that files hold, and the order in which they happened.
//! It does not know where they go, nor whether they were sent before.

use purchasely_clevertap::aws::claims;
use purchasely_clevertap::clevertap::User;
use purchasely_clevertap::mapping::identity::{Identified, IdentityRules, identify};
use purchasely_clevertap::purchasely::{Event, Verified, time_ms};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;
use std::path::{Path, PathBuf};

/// Some editors put it in front of UTF-8; it belongs to the file, not to the body.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One webhook, as it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The raw body.
    pub body: Vec<u8>,
    /// The file, and the place in it.
    pub source: String,
    /// Purchasely's name of the event; `None` if the function could not read it as one.
    pub name: Option<String>,
    /// Purchasely's id of the event.
    pub id: Option<String>,
    /// Whose event it is, as the function sees it where it takes anonymous ids too: what comes after
    /// an event of this user that failed has to wait.
    pub user: Option<String>,
    /// `event_created_at`, in Unix milliseconds.
    pub created_at_ms: Option<i64>,
}

/// One body within a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body<'f> {
    /// Where it is.
    pub place: Place,
    /// As it stands in the file.
    pub bytes: &'f [u8],
}

/// Where in a file a body is; numbers begin at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is the whole file.
    Whole,
    /// A line of its own.
    Line(usize),
    /// An element of the array that the file is.
    Element(usize),
}

/// A file, or a place in it, that holds no webhook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It begins as an array but is none.
    #[error("is not a readable JSON array: {0}")]
    Array(String),
    /// Neither the whole file nor this part of it is an object.
    #[error(
        "{0} is not a JSON object: give one body per line (`jq -c .` makes such lines), an array of objects or a single object"
    )]
    NotAnObject(Place),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the file"),
            Self::Line(number) => write!(f, "line {number}"),
            Self::Element(number) => write!(f, "element {number}"),
        }
    }
}

impl Saved {
    /// Reads what is needed of a body that is a JSON object, whether or not it is a readable event:
    /// the function decides what becomes of one that is not.
    pub fn new(body: Vec<u8>, source: String) -> Option<Self> {
        let fields = object(&body)?;
        let event = Event::parse(Verified::unsigned(&body)).ok();
        let event = event.as_ref();
        Some(Self {
            name: event.map(|event| event.name().to_owned()),
            id: event.and_then(Event::id).map(str::to_owned),
            user: event.and_then(user_of),
            created_at_ms: time_ms(&fields, "event_created_at"),
            body,
            source,
        })
    }

    /// What tells it from other events: the key of the function's claim on it.
    pub fn key(&self) -> String {
        claims::key(self.id.as_deref(), &self.body)
    }
}

/// Reads every file, and every `.json` file of every folder; all mistakes at once.
pub fn read(inputs: &[PathBuf]) -> Result<Vec<Saved>, Vec<String>> {
    let mut events = Vec::new();
    let mut mistakes = Vec::new();
    for input in inputs {
        let told = |error: std::io::Error| format!("{}: {error}", input.display());
        let files = if input.is_dir() {
            files_in(input).map_err(told)
        } else {
            Ok(vec![input.clone()])
        };
        for file in files.unwrap_or_else(|mistake| {
            mistakes.push(mistake);
            Vec::new()
        }) {
            match events_in(&file) {
                Ok(found) => events.extend(found),
                Err(mistake) => mistakes.push(mistake),
            }
        }
    }
    if mistakes.is_empty() && events.is_empty() {
        mistakes.push("there is no webhook in what was given".to_owned());
    }
    if mistakes.is_empty() {
        Ok(events)
    } else {
        Err(mistakes)
    }
}

/// By `event_created_at`; those of one moment stay as they stand, those without a time come last.
pub fn in_order(mut events: Vec<Saved>) -> Vec<Saved> {
    events.sort_by_key(|event| (event.created_at_ms.is_none(), event.created_at_ms));
    events
}

/// The bodies in the content of a file: an array of objects, one object, or one object per line.
/// Their bytes stay as they are.
pub fn bodies(file: &[u8]) -> Result<Vec<Body<'_>>, Unusable> {
    let file = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file);
    let bodies: Vec<_> = if file.trim_ascii_start().starts_with(b"[") {
        let elements: Vec<&RawValue> =
            serde_json::from_slice(file).map_err(|error| Unusable::Array(error.to_string()))?;
        let place = |position| Place::Element(position + 1);
        numbered(elements.iter().map(|raw| raw.get().as_bytes()), place).collect()
    } else if object(file).is_some() {
        return Ok(vec![Body {
            place: Place::Whole,
            bytes: file,
        }]);
    } else {
        let lines = file
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        numbered(lines, |position| Place::Line(position + 1))
            .filter(|line| !line.bytes.trim_ascii().is_empty())
            .collect()
    };
    match bodies.iter().find(|body| object(body.bytes).is_none()) {
        Some(body) => Err(Unusable::NotAnObject(body.place)),
        None => Ok(bodies),
    }
}

fn numbered<'f>(
    parts: impl Iterator<Item = &'f [u8]>,
    place: impl Fn(usize) -> Place,
) -> impl Iterator<Item = Body<'f>> {
    parts.enumerate().map(move |(position, bytes)| Body {
        place: place(position),
        bytes,
    })
}

fn events_in(file: &Path) -> Result<Vec<Saved>, String> {
    let name = file.display();
    let content = std::fs::read(file).map_err(|error| format!("{name}: {error}"))?;
    let bodies = bodies(&content).map_err(|error| format!("{name}: {error}"))?;
    let events = bodies.iter().filter_map(|body| {
        let source = match body.place {
            Place::Whole => name.to_string(),
            place => format!("{name}, {place}"),
        };
        Saved::new(body.bytes.to_vec(), source)
    });
    Ok(events.collect())
}

/// The `.json` files of a folder, by name, without those of its subfolders.
fn files_in(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_json = path.extension().is_some_and(|end| end == "json");
        if is_json && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn object(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(body).ok()
}

fn user_of(event: &Event) -> Option<String> {
    let rules = IdentityRules {
        anonymous_is_identity: true,
        ..IdentityRules::default()
    };
    match identify(event, &rules) {
        Identified::User(User::Identity(id) | User::ObjectId(id)) => Some(id.into_owned()),
        Identified::Anonymous | Identified::Nobody | Identified::TooLong => None,
    }
}
