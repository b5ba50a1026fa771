//! A strict stand-in for CleverTap's upload endpoint: it refuses whatever CleverTap's documentation does not allow.
//! It does not know users, campaigns or an account's Schema, and it stores nothing beyond its own lifetime.
//!
//! Where the documentation is silent the stand-in refuses, so that nothing relies on an undocumented kindness.
//! Where a rule stands on one page below <https://developer.clevertap.com/docs/>, the page is named; the others are
//! CleverTap's general rules for names and values, or its SDKs'.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Method, Request};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};

use crate::connections::{Connections, Ending, Listener};

/// The path of the upload API (page `upload-events-api`).
const UPLOAD_PATH: &str = "/1/upload";

/// Records in one call (page `upload-events-api`).
const MAX_RECORDS: usize = 1000;

/// Uploads handled at once for one account; one more is a 429 (page `api-request-limit`).
const MAX_CONCURRENT_UPLOADS: usize = 15;

/// Properties of one event: the default of an account (page `upload-events-api`).
const MAX_EVENT_PROPERTIES: usize = 100;

/// Custom properties of profiles (page `upload-user-profiles-api`).
const MAX_PROFILE_PROPERTIES: usize = 256;

/// Characters in the key of an event property (page `upload-events-api`).
const MAX_KEY_CHARACTERS: usize = 120;

/// Bytes of UTF-8 in the key of a profile property: bytes, unlike for events (page `upload-user-profiles-api`).
const MAX_PROFILE_KEY_BYTES: usize = 120;

/// Characters in an event name. No page gives a limit, so the one for keys is taken.
const MAX_EVENT_NAME_CHARACTERS: usize = 120;

/// Bytes of UTF-8 in a text value (pages `upload-events-api` and `upload-user-profiles-api`).
const MAX_VALUE_BYTES: usize = 512;

/// `identity`, `objectId` and their like are shorter than this many characters: CleverTap's rule for identities.
const IDENTITY_CHARACTERS: usize = 1024;

/// Entries in `Items` of `Charged`. The documentation says 256, CleverTap's own SDKs stop at 50.
const MAX_ITEMS: usize = 50;

/// Values in one `$add` or `$remove`: as many as a multi-value property holds
/// (<https://docs.clevertap.com/docs/platform-considerations>).
const MAX_OPERATION_VALUES: usize = 100;

/// A `ts` from here on is in milliseconds: in seconds it would be the year 5138.
const FIRST_IMPLAUSIBLE_TIME: u64 = 100_000_000_000;

/// Characters that no name of an event or a property may hold: CleverTap's rule for names.
const FORBIDDEN_CHARACTERS: [char; 13] = [
    '%', '>', '<', '!', '|', '&', '.', ':', ';', '$', '\'', '"', '\\',
];

/// Forbidden in profile keys beside [`FORBIDDEN_CHARACTERS`]: CleverTap's rule for names.
const FORBIDDEN_IN_PROFILE_KEYS: char = '#';

/// How a date value starts; seconds since 1970 follow: CleverTap's rule for values.
const DATE_PREFIX: &str = "$D_";

/// The revenue event, the only one that may carry [`ITEMS`] and the one that needs a numeric [`AMOUNT`].
const CHARGED: &str = "Charged";
const AMOUNT: &str = "Amount";
const ITEMS: &str = "Items";

/// Events that only CleverTap raises (page `events`). Names compare without case and spaces.
const RESERVED_EVENTS: [&str; 29] = [
    "Notification Sent",
    "Notification Viewed",
    "Notification Clicked",
    "Notification Delivered",
    "Notification Replied",
    "Notification Bounced",
    "UTM Visited",
    "App Launched",
    "App Uninstalled",
    "App Installed",
    "App Version Changed",
    "Stayed",
    "Reply Sent",
    "Experiment Rendered",
    "Reachable By",
    "Identity Reset",
    "Identity Set",
    "Identity Error",
    "Geocluster Entered",
    "Geocluster Exited",
    "SCOutgoing",
    "SCIncoming",
    "SCEnd",
    "SCCampaignOptOut",
    "Push Impressions",
    "State Transitioned",
    "Session Concluded",
    "Channel Unsubscribed",
    "Web Page Viewed",
];

/// CleverTap's own prefix; `wzrk_d` is reserved, its siblings are best left alone as well.
const RESERVED_EVENT_PREFIX: &str = "wzrk_";

/// Keys of which a record carries exactly one (page `upload-events-api`).
const IDENTITY_KEYS: [&str; 4] = ["identity", OBJECT_ID_KEY, "FBID", "GPID"];
const OBJECT_ID_KEY: &str = "objectId";

/// Profile fields with a meaning of their own, in lower case, with the code that guards each (page `api-errors`).
const SYSTEM_FIELDS: [(&str, u16); 10] = [
    ("name", STRUCTURE),
    ("identity", STRUCTURE),
    ("dob", STRUCTURE),
    ("gender", 514),
    ("email", 515),
    ("phone", 516),
    ("employed", 517),
    ("education", 518),
    ("married", 519),
    ("age", 520),
];

/// The prefix of the fields that hold a user's consent to messages, in lower case.
const CONSENT_PREFIX: &str = "msg-";

/// Record codes (page `api-errors`).
const NO_EVENT_NAME: u16 = 509;
const STRUCTURE: u16 = 512;
const RESERVED: u16 = 513;
const TOO_MANY_PROPERTIES: u16 = 522;
const NO_IDENTITY: u16 = 523;
const NO_TYPE: u16 = 524;
const TIME: u16 = 525;
const OBJECT_ID: u16 = 526;

/// An upload endpoint with one account. Clones are the same server.
#[derive(Clone)]
pub struct CleverTap(Arc<State>);

/// One `POST /1/upload`, whatever became of it.
#[derive(Clone, Debug)]
pub struct Upload {
    pub account_id: Option<String>,
    pub passcode: Option<String>,
    /// What followed the question mark.
    pub query: Option<String>,
    pub body: Bytes,
    /// The HTTP status of the answer; `None` as long as there is none.
    pub status: Option<u16>,
}

/// How one upload is answered instead of by the rules.
#[derive(Clone, Debug)]
pub enum Reply {
    /// By the rules after all.
    Normal,
    /// This HTTP status with an error body; nothing is accepted.
    Status(u16),
    /// Exactly this; nothing is accepted.
    Answer { status: u16, body: String },
    /// This HTTP status with a `Location`; nothing is accepted.
    Redirect { status: u16, location: String },
    /// No answer; the connection stays open and the upload goes on counting as concurrent.
    Silent,
    /// By the rules, after this long.
    Slow(Duration),
    /// The connection closes before an answer; nothing is accepted.
    CloseBeforeAnswer,
    /// The connection is reset before an answer (over TLS: closed); nothing is accepted.
    ResetBeforeAnswer,
    /// By the rules, but the connection closes before the answer: the ambiguous case.
    AcceptThenClose,
    /// By the rules, except that the record with this number, counted from 1, is refused with this code.
    RefuseRecord { number: usize, code: u16 },
    /// HTTP 200 with `fail` and an empty `unprocessed`, as CleverTap is known to answer.
    FailWithoutReasons,
}

struct State {
    account_id: String,
    passcode: Mutex<String>,
    script: Mutex<VecDeque<Reply>>,
    uploads: watch::Sender<Vec<Upload>>,
    accepted: watch::Sender<Vec<Value>>,
    slots: Semaphore,
    connections: Connections,
}

impl CleverTap {
    /// A server that knows one account.
    pub fn new(account_id: &str, passcode: &str) -> Self {
        Self(Arc::new(State {
            account_id: account_id.to_owned(),
            passcode: Mutex::new(passcode.to_owned()),
            script: Mutex::default(),
            uploads: watch::Sender::default(),
            accepted: watch::Sender::default(),
            slots: Semaphore::new(MAX_CONCURRENT_UPLOADS),
            connections: Connections::new(),
        }))
    }

    /// Accepts for ever; each connection runs in its own task.
    pub async fn serve(self, listener: impl Into<Listener>) {
        let connections = self.0.connections.clone();
        connections
            .serve_listener(listener, move |request| self.clone().answer(request))
            .await;
    }

    /// Serves one connection on any stream, such as one under TLS, until either side ends it.
    pub async fn serve_connection<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connections = self.0.connections.clone();
        connections
            .serve_stream(stream, move |request| self.clone().answer(request))
            .await;
    }

    /// Replaces the passcode: the old one is a 401 from here on.
    pub fn set_passcode(&self, passcode: &str) {
        *self.0.passcode.lock().unwrap() = passcode.to_owned();
    }

    /// Answers the next uploads by `replies`, one each, before any check; afterwards by the rules again.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.0.script.lock().unwrap().extend(replies);
    }

    /// Every `POST /1/upload` so far, in the order of arrival.
    pub fn uploads(&self) -> Vec<Upload> {
        self.0.uploads.borrow().clone()
    }

    /// The records accepted so far, in order; those of dry runs are not among them.
    pub fn accepted(&self) -> Vec<Value> {
        self.0.accepted.borrow().clone()
    }

    /// Returns the uploads so far and forgets them and their records. No upload may be in progress.
    pub fn take_uploads(&self) -> Vec<Upload> {
        self.0.accepted.send_replace(Vec::new());
        self.0.uploads.send_replace(Vec::new())
    }

    /// Resolves as soon as at least `n` uploads have arrived, answered or not.
    pub async fn wait_for_uploads(&self, n: usize) {
        let mut uploads = self.0.uploads.subscribe();
        uploads
            .wait_for(|uploads| uploads.len() >= n)
            .await
            .expect("the sender lives as long as self");
    }

    /// Resolves as soon as at least `n` records are accepted.
    pub async fn wait_for_records(&self, n: usize) {
        let mut accepted = self.0.accepted.subscribe();
        let enough = accepted.wait_for(|accepted| accepted.len() >= n);
        enough.await.expect("the sender lives as long as self");
    }

    async fn answer(self, request: Request<Bytes>) -> Ending {
        match (request.method(), request.uri().path()) {
            (&Method::POST, UPLOAD_PATH) => self.upload(&request).await,
            (&Method::GET | &Method::HEAD, "/") => Answer::new(200, json!({})).into(),
            (_, UPLOAD_PATH | "/") => Answer::failure(405, "Method Not Allowed").into(),
            _ => Answer::failure(404, "Not Found").into(),
        }
    }

    async fn upload(&self, request: &Request<Bytes>) -> Ending {
        // The slot is held until the answer is ready, or until the peer gives up on it.
        let slot = self.0.slots.try_acquire();
        let (place, reply) = self.receive(request);
        let mut forced = None;
        let scripted = match reply {
            Reply::Silent => std::future::pending().await,
            Reply::CloseBeforeAnswer => return Ending::Close,
            Reply::ResetBeforeAnswer => return Ending::Reset,
            Reply::Status(status) => Some(Answer::failure(status, "Answered by a script")),
            Reply::Answer { status, body } => Some(Answer {
                status,
                body,
                location: None,
            }),
            Reply::Redirect { status, location } => Some(Answer {
                location: Some(location),
                ..Answer::new(status, json!({}))
            }),
            Reply::FailWithoutReasons => Some(Answer::verdict(0, Vec::new())),
            Reply::RefuseRecord { number, code } => {
                forced = Some((number, Refusal::new(code)));
                None
            }
            Reply::Slow(delay) => {
                tokio::time::sleep(delay).await;
                None
            }
            Reply::AcceptThenClose => {
                self.judge(request, slot.is_ok(), None);
                return Ending::Close;
            }
            Reply::Normal => None,
        };
        let answer = scripted.unwrap_or_else(|| self.judge(request, slot.is_ok(), forced));
        self.0
            .uploads
            .send_modify(|uploads| uploads[place].status = Some(answer.status));
        answer.into()
    }

    /// Notes the upload and takes its scripted reply, in one step, so that replies follow the order of arrival.
    fn receive(&self, request: &Request<Bytes>) -> (usize, Reply) {
        let mut script = self.0.script.lock().unwrap();
        let mut place = 0;
        self.0.uploads.send_modify(|uploads| {
            place = uploads.len();
            uploads.push(Upload {
                account_id: header(request, "x-clevertap-account-id"),
                passcode: header(request, "x-clevertap-passcode"),
                query: request.uri().query().map(str::to_owned),
                body: request.body().clone(),
                status: None,
            });
        });
        (place, script.pop_front().unwrap_or(Reply::Normal))
    }

    /// The answer by the rules; `forced` refuses one record, given by its number, whatever it holds.
    fn judge(
        &self,
        request: &Request<Bytes>,
        has_slot: bool,
        forced: Option<(usize, Refusal)>,
    ) -> Answer {
        if !has_slot {
            return Answer::failure(429, "Too many concurrent requests");
        }
        let is_known = header(request, "x-clevertap-account-id").as_ref()
            == Some(&self.0.account_id)
            && header(request, "x-clevertap-passcode").as_ref()
                == Some(&*self.0.passcode.lock().unwrap());
        if !is_known {
            // The recorded text; CleverTap does not tell which of the two is wrong.
            return Answer::failure(401, "Account ID is not valid");
        }
        if !is_json(header(request, CONTENT_TYPE.as_str()).as_deref()) {
            return Answer::failure(400, "Content-Type is not application/json");
        }
        let dry_run = match request.uri().query() {
            None => false,
            Some("dryRun=1") => true,
            Some(_) => return Answer::failure(400, "Query is not known"),
        };
        let Some(records) = records(request.body()) else {
            return Answer::failure(400, "Payload is not {\"d\":[1 to 1000 records]}");
        };

        let (mut accepted, mut unprocessed) = (Vec::new(), Vec::new());
        for (record, number) in records.into_iter().zip(1..) {
            let verdict = match &forced {
                Some((forced, refusal)) if *forced == number => Err(refusal.clone()),
                _ => check(&record),
            };
            match verdict {
                Ok(()) => accepted.push(Value::Object(record)),
                Err(refusal) => unprocessed.push(refusal.into_answer(number, record)),
            }
        }
        let answer = Answer::verdict(accepted.len(), unprocessed);
        if !dry_run {
            self.0.accepted.send_modify(|all| all.extend(accepted));
        }
        answer
    }
}

impl std::ops::Deref for CleverTap {
    type Target = Connections;

    fn deref(&self) -> &Connections {
        &self.0.connections
    }
}

/// An HTTP answer with a JSON body.
struct Answer {
    status: u16,
    body: String,
    location: Option<String>,
}

impl Answer {
    fn new(status: u16, body: Value) -> Self {
        Self {
            status,
            body: body.to_string(),
            location: None,
        }
    }

    /// A request refused as a whole, in the recorded shape of a 401.
    fn failure(status: u16, error: &str) -> Self {
        Self::new(
            status,
            json!({ "status": "fail", "error": error, "code": status }),
        )
    }

    /// HTTP 200 in one of its three shapes (page `upload-events-api`).
    fn verdict(processed: usize, unprocessed: Vec<Value>) -> Self {
        let status = match (processed, unprocessed.as_slice()) {
            (0, _) => "fail",
            (_, []) => "success",
            _ => "partial",
        };
        Self::new(
            200,
            json!({ "status": status, "processed": processed, "unprocessed": unprocessed }),
        )
    }
}

impl From<Answer> for Ending {
    fn from(answer: Answer) -> Self {
        let mut ending = Ending::answer(answer.status, "application/json", answer.body);
        if let (Ending::Answer(response), Some(location)) = (&mut ending, answer.location) {
            let location = HeaderValue::try_from(location).expect("a header value");
            response.headers_mut().insert(LOCATION, location);
        }
        ending
    }
}

/// Why one record is refused.
#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    code: u16,
    /// What is wrong with this very record, for the developer who reads the answer; names, never values.
    detail: String,
}

impl Refusal {
    fn new(code: u16) -> Self {
        Self {
            code,
            detail: String::new(),
        }
    }

    fn because(code: u16, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }

    /// The entry of `unprocessed` for the record with this number, counted from 1.
    fn into_answer(self, number: usize, mut record: Map<String, Value>) -> Value {
        // The sentences for 509, 513 and 525 are recorded ones; the others follow the page `api-errors`.
        let sentence = match self.code {
            509 => "Event name is mandatory",
            512 => "Event structure is not valid",
            513 => {
                "Event Name is incorrect. ErrorCode: 513 - Trying to raise a restricted system event"
            }
            514 => "Gender is not valid",
            515 => "Email is not valid",
            516 => "Phone number is not valid",
            517 => "Employment status is not valid",
            518 => "Education status is not valid",
            519 => "Marital status is not valid",
            520 => "Age is not valid",
            522 => "Event properties limit exceeded",
            523 => "Identity is missing",
            524 => "Data is neither event nor profile",
            525 => "Timestamp should be present in the Unix Epoch format",
            526 => "objectId is not valid",
            528 => "Discarded event is raised",
            555 => "Miscellaneous server error",
            _ => "Record is not valid",
        };
        let detail = match self.detail.as_str() {
            "" => String::new(),
            detail => format!(" ({detail})"),
        };
        // CleverTap is inconsistent about this space. Even codes go without, so that nobody counts on it.
        let space = if self.code.is_multiple_of(2) { "" } else { " " };
        // The echo may be normalised and is deliberately never equal to what was sent: the number tells which it is.
        record.remove("ts");
        json!({
            "status": "fail",
            "code": self.code,
            "error": format!("{sentence}{detail}.{space}Skipped record number : {number}"),
            "record": record,
        })
    }
}

/// Why CleverTap would refuse this record, if it would.
pub fn refusal_of(record: &Value) -> Option<String> {
    let Some(record) = record.as_object() else {
        return Some("not an object".to_owned());
    };
    let refusal = check(record).err()?;
    Some(format!("{}: {}", refusal.code, refusal.detail))
}

fn header(request: &Request<Bytes>, name: &str) -> Option<String> {
    let value = request.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

fn is_json(content_type: Option<&str>) -> bool {
    let essence = content_type.and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The records of a well-formed body: an object with the one key `d`, holding 1 to 1000 objects.
fn records(body: &[u8]) -> Option<Vec<Map<String, Value>>> {
    let Ok(Value::Object(mut body)) = serde_json::from_slice(body) else {
        return None;
    };
    let Some(Value::Array(records)) = body.remove("d") else {
        return None;
    };
    if !body.is_empty() || !(1..=MAX_RECORDS).contains(&records.len()) {
        return None;
    }
    records
        .into_iter()
        .map(|record| match record {
            Value::Object(record) => Some(record),
            _ => None,
        })
        .collect()
}

/// Checks one record against every documented rule.
fn check(record: &Map<String, Value>) -> Result<(), Refusal> {
    check_identity(record)?;
    check_time(record)?;
    match record.get("type").and_then(Value::as_str) {
        Some("event") => check_event(record),
        Some("profile") => check_profile(record),
        _ => Err(Refusal::new(NO_TYPE)),
    }
}

fn check_identity(record: &Map<String, Value>) -> Result<(), Refusal> {
    let mut present = IDENTITY_KEYS
        .into_iter()
        .filter_map(|key| Some((key, record.get(key)?)));
    let Some((key, value)) = present.next() else {
        return Err(Refusal::new(NO_IDENTITY));
    };
    if let Some((second, _)) = present.next() {
        return Err(Refusal::because(
            NO_IDENTITY,
            format!("both {key} and {second} are present"),
        ));
    }
    let fits = |text: &str| (1..IDENTITY_CHARACTERS).contains(&text.chars().count());
    if value.as_str().is_some_and(fits) {
        return Ok(());
    }
    let code = if key == OBJECT_ID_KEY {
        OBJECT_ID
    } else {
        NO_IDENTITY
    };
    Err(Refusal::because(
        code,
        format!("{key} is not a text of 1 to 1023 characters"),
    ))
}

fn check_time(record: &Map<String, Value>) -> Result<(), Refusal> {
    let Some(ts) = record.get("ts") else {
        return Ok(());
    };
    match ts.as_u64() {
        Some(1..FIRST_IMPLAUSIBLE_TIME) => Ok(()),
        Some(FIRST_IMPLAUSIBLE_TIME..) => Err(Refusal::because(TIME, "ts is in milliseconds")),
        _ => Err(Refusal::new(TIME)),
    }
}

fn check_event(record: &Map<String, Value>) -> Result<(), Refusal> {
    check_fields(record, &["evtName", "evtData"])?;
    let name = match record.get("evtName").and_then(Value::as_str) {
        None | Some("") => return Err(Refusal::new(NO_EVENT_NAME)),
        Some(name) => name,
    };
    let compared = folded(name);
    if compared.starts_with(RESERVED_EVENT_PREFIX)
        || RESERVED_EVENTS
            .iter()
            .any(|event| folded(event) == compared)
    {
        return Err(Refusal::new(RESERVED));
    }
    if name.chars().count() > MAX_EVENT_NAME_CHARACTERS || name.contains(FORBIDDEN_CHARACTERS) {
        return Err(structure(
            "the event name is too long or has a forbidden character",
        ));
    }

    let Some(Value::Object(properties)) = record.get("evtData") else {
        return Err(structure("evtData is not an object"));
    };
    let is_charged = compared == folded(CHARGED);
    if is_charged && !properties.get(AMOUNT).is_some_and(Value::is_number) {
        return Err(structure("Amount of Charged is not a number"));
    }
    check_keys(properties)?;
    for (key, value) in properties {
        match value {
            Value::Array(items) if is_charged && key == ITEMS => check_items(items)?,
            _ => check_value(key, value)?,
        }
    }
    Ok(())
}

fn check_items(items: &[Value]) -> Result<(), Refusal> {
    if items.len() > MAX_ITEMS {
        return Err(structure("Items has too many entries"));
    }
    for item in items {
        let Value::Object(properties) = item else {
            return Err(structure("an entry of Items is not an object"));
        };
        check_keys(properties)?;
        for (key, value) in properties {
            check_value(key, value)?;
        }
    }
    Ok(())
}

/// The keys of an event's or an item's properties: how many, how long, of which characters.
fn check_keys(properties: &Map<String, Value>) -> Result<(), Refusal> {
    if properties.len() > MAX_EVENT_PROPERTIES {
        return Err(Refusal::new(TOO_MANY_PROPERTIES));
    }
    for key in properties.keys() {
        if key.chars().count() > MAX_KEY_CHARACTERS {
            return Err(structure(format!("the key {key} is too long")));
        }
        check_key(key)?;
    }
    check_distinct(properties)
}

fn check_profile(record: &Map<String, Value>) -> Result<(), Refusal> {
    check_fields(record, &["profileData"])?;
    let Some(Value::Object(properties)) = record.get("profileData") else {
        return Err(structure("profileData is not an object"));
    };
    if properties.len() > MAX_PROFILE_PROPERTIES {
        return Err(structure("profileData has too many properties"));
    }
    for (key, value) in properties {
        let compared = folded(key);
        if compared.starts_with(CONSENT_PREFIX) {
            return Err(structure(format!("{key} is a system field")));
        }
        if let Some((_, code)) = SYSTEM_FIELDS.iter().find(|(field, _)| *field == compared) {
            return Err(Refusal::because(*code, format!("{key} is a system field")));
        }
        if key.len() > MAX_PROFILE_KEY_BYTES {
            return Err(structure(format!("the key {key} is too long")));
        }
        if key.contains(FORBIDDEN_IN_PROFILE_KEYS) {
            return Err(structure(format!(
                "the key {key} has a forbidden character"
            )));
        }
        check_key(key)?;
        match value {
            Value::Object(operation) => check_operation(key, operation)?,
            _ => check_value(key, value)?,
        }
    }
    check_distinct(properties)
}

/// One operation on a profile property: `$add`, `$remove` or `$incr` (page `upload-user-profiles-api`).
fn check_operation(key: &str, operation: &Map<String, Value>) -> Result<(), Refusal> {
    let wrong = || structure(format!("the operation on {key} is not valid"));
    let mut entries = operation.iter();
    let (Some((operator, operand)), None) = (entries.next(), entries.next()) else {
        return Err(wrong());
    };
    match (operator.as_str(), operand) {
        ("$incr", Value::Number(_)) => Ok(()),
        ("$add" | "$remove", Value::Array(values))
            if (1..=MAX_OPERATION_VALUES).contains(&values.len())
                && values.iter().all(Value::is_string) =>
        {
            values.iter().try_for_each(|value| check_value(key, value))
        }
        _ => Err(wrong()),
    }
}

/// A record has no keys but those of its type.
fn check_fields(record: &Map<String, Value>, own: &[&str]) -> Result<(), Refusal> {
    let is_known = |key: &str| {
        IDENTITY_KEYS.contains(&key) || ["type", "ts"].contains(&key) || own.contains(&key)
    };
    match record.keys().find(|key| !is_known(key)) {
        None => Ok(()),
        Some(key) => Err(structure(format!("{key} is not a key of this record"))),
    }
}

/// What the keys of events and profiles have in common.
fn check_key(key: &str) -> Result<(), Refusal> {
    if key.trim().is_empty() {
        return Err(structure("a key is empty"));
    }
    if key.contains(FORBIDDEN_CHARACTERS) {
        return Err(structure(format!(
            "the key {key} has a forbidden character"
        )));
    }
    Ok(())
}

/// Keys that differ only in surrounding white space would be one property.
fn check_distinct(properties: &Map<String, Value>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    match properties.keys().find(|key| !seen.insert(key.trim())) {
        None => Ok(()),
        Some(key) => Err(structure(format!("the key {key} is there twice"))),
    }
}

/// A flat value: text, boolean, number or date. null is undocumented, and so refused.
fn check_value(key: &str, value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) if text.len() > MAX_VALUE_BYTES => {
            Err(structure(format!("the text of {key} is too long")))
        }
        Value::String(text) => match text.strip_prefix(DATE_PREFIX) {
            Some(seconds) if !is_date(seconds) => Err(structure(format!(
                "the date of {key} is not in whole seconds"
            ))),
            _ => Ok(()),
        },
        Value::Null => Err(structure(format!("{key} is null"))),
        Value::Array(_) | Value::Object(_) => Err(structure(format!("{key} is not a flat value"))),
    }
}

/// Digits alone, and not so many that they can only be milliseconds.
fn is_date(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number
        && text
            .parse()
            .is_ok_and(|seconds: u64| seconds < FIRST_IMPLAUSIBLE_TIME)
}

/// A name as CleverTap compares it: without case and without spaces.
fn folded(name: &str) -> String {
    let visible = name.chars().filter(|character| !character.is_whitespace());
    visible.flat_map(char::to_lowercase).collect()
}

fn structure(detail: impl Into<String>) -> Refusal {
    Refusal::because(STRUCTURE, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{ACCOUNT_ID, PASSCODE, listen};
    use crate::process::plain_client;
    use tokio::task::JoinSet;

    /// A record, a pointer into it, the value that is put there (none: it is removed), and the code of the
    /// refusal (null: accepted).
    const CASES: &str = r##"[
        [523, "event", "/identity"],
        [523, "event", "/identity", ""],
        [523, "event", "/identity", 1842],
        [523, "event", "/objectId", "__h1"],
        [526, "profile", "/objectId", ""],
        [524, "event", "/type"],
        [524, "event", "/type", "token"],
        [null, "event", "/ts"],
        [525, "event", "/ts", 0],
        [525, "event", "/ts", -1],
        [525, "event", "/ts", 1.5],
        [525, "event", "/ts", "1772439330"],
        [525, "event", "/ts", null],
        [525, "event", "/ts", 1772439330000],
        [509, "event", "/evtName"],
        [509, "event", "/evtName", ""],
        [512, "event", "/evtName", "Plan: yearly"],
        [513, "event", "/evtName", "App Launched"],
        [513, "event", "/evtName", "applaunched"],
        [513, "event", "/evtName", "WEB PAGEVIEWED"],
        [513, "event", "/evtName", "Wzrk_x"],
        [512, "event", "/evtData"],
        [512, "event", "/evtData", []],
        [512, "event", "/evtdata", {}],
        [512, "event", "/profileData", {}],
        [512, "profile", "/evtData", {}],
        [512, "event", "/evtData", { "": 1 }],
        [512, "event", "/evtData", { " ": 1 }],
        [512, "event", "/evtData", { "a.b": 1 }],
        [512, "event", "/evtData", { "a$": 1 }],
        [512, "event", "/evtData", { "it's": 1 }],
        [null, "event", "/evtData", { "#": 1 }],
        [512, "event", "/evtData", { "plan": "a", "plan ": "b" }],
        [512, "event", "/evtData/offer", { "id": 1 }],
        [512, "event", "/evtData/offers", ["a"]],
        [512, "event", "/evtData/Items", [{ "id": 1 }]],
        [512, "event", "/evtData/plan", null],
        [null, "event", "/evtData/at", "$D_1803975300"],
        [512, "event", "/evtData/at", "$D_"],
        [512, "event", "/evtData/at", "$D_soon"],
        [512, "event", "/evtData/at", "$D_-1"],
        [512, "event", "/evtData/at", "$D_+1"],
        [512, "event", "/evtData/at", "$D_1.5"],
        [512, "event", "/evtData/at", "$D_1803975300000"],
        [512, "charged", "/evtData/Amount"],
        [512, "charged", "/evtData/Amount", "9.99"],
        [512, "charged", "/evtData/Items", [1]],
        [512, "charged", "/evtData/Items", [{ "a": {} }]],
        [512, "profile", "/profileData"],
        [512, "profile", "/profileData", "yearly"],
        [512, "profile", "/profileData/plans", ["a"]],
        [512, "profile", "/profileData/plan", null],
        [512, "profile", "/profileData/Name", "Ada"],
        [515, "profile", "/profileData/email", "a@example.com"],
        [512, "profile", "/profileData/MSG-push", true],
        [512, "profile", "/profileData", { "plan#": 1 }],
        [512, "profile", "/profileData", { "a.b": 1 }],
        [512, "profile", "/profileData", { "": 1 }],
        [512, "profile", "/profileData", { "plan": "a", "plan ": "b" }],
        [512, "profile", "/profileData/plans", {}],
        [512, "profile", "/profileData/plans", { "$add": [] }],
        [512, "profile", "/profileData/plans", { "$add": "a" }],
        [512, "profile", "/profileData/plans", { "$add": [1] }],
        [512, "profile", "/profileData/plans", { "$set": ["a"] }],
        [512, "profile", "/profileData/plans", { "$add": ["a"], "$remove": ["b"] }],
        [null, "profile", "/profileData/renewals", { "$incr": 1 }],
        [512, "profile", "/profileData/renewals", { "$incr": "1" }]
    ]"##;

    #[test]
    fn refuses_what_the_documentation_does_not_allow() {
        let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
        for case in cases {
            let name = case[1].as_str().unwrap();
            let record = with(name, case[2].as_str().unwrap(), case.get(3).cloned());
            assert_eq!(json!(code(&record)), case[0], "{case}");
        }
    }

    #[test]
    fn accepts_up_to_each_limit_and_nothing_above() {
        let properties = |n: usize| {
            (0..n)
                .map(|i| (format!("p{i}"), json!(i)))
                .collect::<Value>()
        };
        let text = |n: usize| json!("é".repeat(n));
        let key = |n: usize| json!({ "é".repeat(n): 1 });
        let items = |n: usize| json!(vec![json!({ "plan": "yearly" }); n]);
        let values = |n: usize| json!({ "$remove": vec!["a"; n] });
        let event = |pointer, value| with("event", pointer, Some(value));
        let profile = |pointer, value| with("profile", pointer, Some(value));
        let charged = |value| with("charged", "/evtData/Items", Some(value));
        for (most, too_much) in [
            (
                event("/identity", text(1023)),
                event("/identity", text(1024)),
            ),
            (event("/evtName", text(120)), event("/evtName", text(121))),
            (
                event("/evtData", properties(100)),
                event("/evtData", properties(101)),
            ),
            (event("/evtData", key(120)), event("/evtData", key(121))),
            (
                event("/evtData/plan", text(256)),
                event("/evtData/plan", text(257)),
            ),
            (charged(items(50)), charged(items(51))),
            (
                profile("/profileData", key(60)),
                profile("/profileData", key(61)),
            ),
            (
                profile("/profileData", properties(256)),
                profile("/profileData", properties(257)),
            ),
            (
                profile("/profileData/plans", values(100)),
                profile("/profileData/plans", values(101)),
            ),
        ] {
            assert_eq!(code(&most), None, "{most}");
            assert!(code(&too_much).is_some(), "{too_much}");
        }
    }

    #[test]
    fn accepts_only_bodies_of_1_to_1000_records() {
        let body = |n: usize| json!({ "d": vec![record("event"); n] });
        let count = |body: Value| records(body.to_string().as_bytes()).map(|records| records.len());
        assert_eq!(count(body(1000)), Some(1000));
        for refused in [
            body(0),
            body(1001),
            json!({ "d": [1] }),
            json!({ "d": [{}], "e": 1 }),
            json!([{}]),
        ] {
            assert_eq!(count(refused), None);
        }
        assert_eq!(records(b"{"), None);
    }

    #[test]
    fn words_refusals_as_recorded() {
        let worded = |code| Refusal::new(code).into_answer(2, Map::new())["error"].clone();
        assert_eq!(
            worded(509),
            "Event name is mandatory. Skipped record number : 2"
        );
        assert_eq!(
            worded(526),
            "objectId is not valid.Skipped record number : 2"
        );
    }

    #[tokio::test]
    async fn refuses_the_sixteenth_concurrent_upload() {
        let clevertap = CleverTap::new(ACCOUNT_ID, PASSCODE);
        let (listener, url) = listen().await;
        tokio::spawn(clevertap.clone().serve(listener));
        let upload = || {
            let request = plain_client()
                .post(format!("{url}{UPLOAD_PATH}"))
                .header("x-clevertap-account-id", ACCOUNT_ID)
                .header("x-clevertap-passcode", PASSCODE)
                .header(CONTENT_TYPE, "application/json")
                .body(json!({ "d": [record("event")] }).to_string());
            async move {
                request
                    .send()
                    .await
                    .map(|response| response.status().as_u16())
            }
        };
        clevertap.script(vec![Reply::Silent; MAX_CONCURRENT_UPLOADS]);
        let mut waiting = JoinSet::new();
        for _ in 0..MAX_CONCURRENT_UPLOADS {
            waiting.spawn(upload());
        }
        clevertap.wait_for_uploads(MAX_CONCURRENT_UPLOADS).await;
        assert_eq!(upload().await.unwrap(), 429);
        assert_eq!(clevertap.accepted(), Vec::<Value>::new());

        clevertap.close_connections();
        assert!(waiting.join_all().await.iter().all(Result::is_err));
        assert_eq!(upload().await.unwrap(), 200);
    }

    /// A record that every rule accepts.
    fn record(name: &str) -> Value {
        match name {
            "event" => json!({
                "identity": "u-1842", "type": "event", "evtName": "SUBSCRIPTION_RENEWED", "ts": 1_772_439_330,
                "evtData": { "plan": "yearly", "price": 10.0, "next_renewal_at": "$D_1803975300" },
            }),
            "charged" => json!({
                "identity": "u-1842", "type": "event", "evtName": "Charged",
                "evtData": { "Amount": 9.99, "Items": [{ "plan": "yearly" }] },
            }),
            "profile" => json!({
                "objectId": "__hA1B2", "type": "profile", "ts": 1_772_439_330,
                "profileData": { "has_active_subscription": true, "active_plans": { "$add": ["yearly"] } },
            }),
            _ => unreachable!("{name} is not a record of these tests"),
        }
    }

    fn with(name: &str, pointer: &str, value: Option<Value>) -> Value {
        let mut record = record(name);
        assert_eq!(code(&record), None, "{record}");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = record.pointer_mut(parent).unwrap();
        match value {
            Some(value) => parent[key] = value,
            None => drop(parent.as_object_mut().unwrap().remove(key).unwrap()),
        }
        record
    }

    fn code(record: &Value) -> Option<u16> {
        check(record.as_object().unwrap())
            .err()
            .map(|refusal| refusal.code)
    }
}
