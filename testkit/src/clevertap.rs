//! A strict CleverTap: uploads and the read of a profile. It refuses whatever CleverTap's documentation does not allow.
//! It does not know users, campaigns or an account's Schema, and it stores nothing beyond its own lifetime.
//!
//! Where the documentation is silent it refuses, so that nothing relies on undocumented tolerance. Where a rule
//! is on one page below <https://developer.clevertap.com/docs/>, the page is named; the others are CleverTap's
//! general rules for names and values, or its SDKs'.

use crate::connections::{Connections, Ending, Listener};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request};
use reqwest::Url;
use serde_json::{Map, Value, json};
use std::collections::{HashSet, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, watch};

/// The path of the upload API (page `upload-events-api`).
const UPLOAD_PATH: &str = "/1/upload";
/// The path that returns one user's profile (page `get-user-profiles-api`), and its parameter, of which there is one.
const PROFILE_PATH: &str = "/1/profile.json";
const PROFILE_KEYS: [&str; 3] = ["identity", "objectId", "email"];
/// Records in one call (page `upload-events-api`).
const MAX_RECORDS: usize = 1000;
/// Concurrent uploads of one account; one more is a 429 (page `api-request-limit`).
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
/// The prefixes of an `objectId` that an app chose, on Android and on iOS, the characters that may follow besides
/// letters and digits, and how many in all (page `set-clevertap-id`).
const CUSTOM_ID_PREFIXES: [&str; 2] = ["__h", "-h"];
const CUSTOM_ID_SIGNS: &str = "()!:@$_-";
const MAX_CUSTOM_ID_CHARACTERS: usize = 64;
/// Entries in `Items` of `Charged`. The documentation says 256, CleverTap's own SDKs stop at 50.
const MAX_ITEMS: usize = 50;
/// Values in one `$add` or `$remove`: as many as a multi-value property holds
/// (<https://docs.clevertap.com/docs/platform-considerations>).
const MAX_OPERATION_VALUES: usize = 100;
/// A `ts` from here on is in milliseconds: in seconds it would be the year 5138.
const FIRST_IMPLAUSIBLE_TIME: u64 = 100_000_000_000;
/// Characters that no name of an event or a property may have: CleverTap's rule for names.
const FORBIDDEN_CHARACTERS: [char; 13] =
    ['%', '>', '<', '!', '|', '&', '.', ':', ';', '$', '\'', '"', '\\'];
/// Forbidden in profile keys in addition to [`FORBIDDEN_CHARACTERS`]: CleverTap's rule for names.
const FORBIDDEN_IN_PROFILE_KEYS: char = '#';
/// How a date value starts; seconds since 1970 follow: CleverTap's rule for values.
const DATE_PREFIX: &str = "$D_";
/// The revenue event in CleverTap's comparison, the only one with `Items` and the one that needs a numeric `Amount`.
const CHARGED: &str = "charged";
/// Events that only CleverTap raises (page `events`). Names compare without case and spaces.
#[rustfmt::skip]
const RESERVED_EVENTS: [&str; 29] = [
    "Notification Sent", "Notification Viewed", "Notification Clicked", "Notification Delivered",
    "Notification Replied", "Notification Bounced", "UTM Visited", "App Launched",
    "App Uninstalled", "App Installed", "App Version Changed", "Stayed", "Reply Sent",
    "Experiment Rendered", "Reachable By", "Identity Reset", "Identity Set", "Identity Error",
    "Geocluster Entered", "Geocluster Exited", "SCOutgoing", "SCIncoming", "SCEnd",
    "SCCampaignOptOut", "Push Impressions", "State Transitioned", "Session Concluded",
    "Channel Unsubscribed", "Web Page Viewed",
];
/// CleverTap's own prefix: `wzrk_d` is reserved, other names are refused to be safe.
const RESERVED_EVENT_PREFIX: &str = "wzrk_";
/// Keys of which a record has exactly one (page `upload-events-api`).
const IDENTITY_KEYS: [&str; 4] = ["identity", "objectId", "FBID", "GPID"];
/// Profile fields with a meaning of their own, in lower case, with the code of each (page `api-errors`).
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
/// The prefix of the fields with a user's consent to messages, in lower case.
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

const JSON: &str = "application/json";

/// An upload endpoint with one account. Clones are the same server.
#[derive(Clone)]
pub struct CleverTap(Arc<State>);

/// One `POST /1/upload`, whatever the answer.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Counted from 0.
    pub number: usize,
    pub arrived_at: SystemTime,
    pub account_id: Option<String>,
    pub passcode: Option<String>,
    /// What followed the question mark.
    pub query: Option<String>,
    pub body: Bytes,
    /// The HTTP status of the answer; `None` as long as there is none.
    pub status: Option<u16>,
    /// The body of the answer.
    pub answer: Bytes,
}

/// How one request is answered instead of by the rules.
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
    /// No answer; the connection stays open and the upload counts as concurrent.
    Silent,
    /// By the rules, after this long; a 429 comes at once.
    Slow(Duration),
    /// `success`, but the connection closes before the last byte of it.
    CutShort,
    /// The connection closes before an answer; nothing is accepted.
    CloseBeforeAnswer,
    /// By the rules, but the connection closes before the answer.
    AcceptThenClose,
    /// The connection is reset before an answer; nothing is accepted.
    ResetBeforeAnswer,
    /// By the rules, except that the record with this number, counted from 1, is refused with this code.
    RefuseRecord { number: usize, code: u16 },
    /// HTTP 200 with `fail` and an empty `unprocessed`, as CleverTap is known to answer.
    FailWithoutReasons,
}

struct State {
    account_id: String,
    passcode: Mutex<String>,
    script: Mutex<VecDeque<Reply>>,
    /// How requests are answered for which there is no script.
    usual: Mutex<Reply>,
    /// Replies to the uploads that contain a text.
    scripts: Mutex<Vec<(String, VecDeque<Reply>)>>,
    uploads: watch::Sender<Log<Upload>>,
    accepted: watch::Sender<Log<Value>>,
    slots: Semaphore,
    connections: Connections,
}

/// The latest entries of a list that only grows.
struct Log<T> {
    /// The number of the first one that is kept.
    first: usize,
    max: usize,
    entries: Vec<T>,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self { first: 0, max: usize::MAX, entries: Vec::new() }
    }
}

impl<T: Clone> Log<T> {
    fn next(&self) -> usize {
        self.first + self.entries.len()
    }

    fn extend(&mut self, entries: impl IntoIterator<Item = T>) {
        self.entries.extend(entries);
        let excess = self.entries.len().saturating_sub(self.max);
        self.entries.drain(..excess);
        self.first += excess;
    }

    fn since(&self, number: usize) -> Vec<T> {
        self.entries.iter().skip(number.saturating_sub(self.first)).cloned().collect()
    }

    fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.entries.get_mut(number.checked_sub(self.first)?)
    }

    fn take(&mut self) -> Vec<T> {
        self.first = self.next();
        std::mem::take(&mut self.entries)
    }
}

impl CleverTap {
    /// A server that knows one account.
    pub fn new(account_id: &str, passcode: &str) -> Self {
        Self(Arc::new(State {
            account_id: account_id.to_owned(),
            passcode: Mutex::new(passcode.to_owned()),
            script: Mutex::default(),
            usual: Mutex::new(Reply::Normal),
            scripts: Mutex::default(),
            uploads: watch::Sender::default(),
            accepted: watch::Sender::default(),
            slots: Semaphore::new(MAX_CONCURRENT_UPLOADS),
            connections: Connections::new(),
        }))
    }

    /// Accepts for ever; each connection runs in its own task.
    pub async fn serve(self, listener: impl Into<Listener>) {
        let connections = self.0.connections.clone();
        let answer = move |request| self.clone().answer(request);
        connections.serve_listener(listener, answer).await;
    }

    /// Replaces the passcode: the old one is a 401 from here on.
    pub fn set_passcode(&self, passcode: &str) {
        *self.0.passcode.lock().unwrap() = passcode.to_owned();
    }

    /// Answers the next uploads and reads by `replies`, one each, before any check; afterwards by the rules again.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.0.script.lock().unwrap().extend(replies);
    }

    /// Replaces what is left of the script, and how uploads and reads are answered after it.
    pub fn set_script(&self, replies: impl IntoIterator<Item = Reply>, usual: Reply) {
        let mut script = self.0.script.lock().unwrap();
        *script = replies.into_iter().collect();
        *self.0.usual.lock().unwrap() = usual;
    }

    /// Keeps only so many uploads and records from here on, the latest ones.
    pub fn keep_latest(&self, uploads: usize, records: usize) {
        self.0.uploads.send_modify(|log| log.max = uploads);
        self.0.accepted.send_modify(|log| log.max = records);
    }

    /// The same for the next uploads that contain `text`, whatever arrives in between. It replaces what is left of
    /// an earlier script for that text.
    pub fn script_for(&self, text: &str, replies: impl IntoIterator<Item = Reply>) {
        let mut scripts = self.0.scripts.lock().unwrap();
        scripts.retain(|(other, _)| other != text);
        scripts.push((text.to_owned(), replies.into_iter().collect()));
    }

    /// Every `POST /1/upload` so far, in the order of arrival.
    pub fn uploads(&self) -> Vec<Upload> {
        self.0.uploads.borrow().entries.clone()
    }

    /// Resolves as soon as an upload arrives or is answered after the last call with this receiver.
    pub fn subscribe(&self) -> watch::Receiver<impl Sized + use<>> {
        self.0.uploads.subscribe()
    }

    /// Returns the uploads so far and forgets them and their records. No upload may be in progress.
    pub fn take_uploads(&self) -> Vec<Upload> {
        self.take_accepted();
        let mut taken = Vec::new();
        self.0.uploads.send_modify(|log| taken = log.take());
        taken
    }

    /// The records accepted so far, in order; those of dry runs are not among them.
    pub fn accepted(&self) -> Vec<Value> {
        self.0.accepted.borrow().entries.clone()
    }

    /// The accepted records from this one on, counted from 0, and the number of the next.
    pub fn accepted_since(&self, number: usize) -> (Vec<Value>, usize) {
        let log = self.0.accepted.borrow();
        (log.since(number), log.next())
    }

    /// Returns the records accepted since the last call.
    pub(crate) fn take_accepted(&self) -> Vec<Value> {
        let mut taken = Vec::new();
        self.0.accepted.send_modify(|log| taken = log.take());
        taken
    }

    /// Resolves as soon as at least `n` uploads have arrived, answered or not.
    pub async fn wait_for_uploads(&self, n: usize) {
        let mut uploads = self.0.uploads.subscribe();
        let enough = uploads.wait_for(|uploads| uploads.entries.len() >= n);
        enough.await.expect("the sender lives as long as self");
    }

    pub(crate) async fn answer(self, request: Request<Bytes>) -> Ending {
        match (request.method(), request.uri().path()) {
            (&Method::POST, UPLOAD_PATH) => self.upload(&request).await,
            (&Method::GET, PROFILE_PATH) => {
                let reply = self.0.script.lock().unwrap().pop_front();
                let reply = reply.unwrap_or_else(|| self.0.usual.lock().unwrap().clone());
                answer_by(reply, |_| self.read_profile(&request)).await
            }
            (&Method::GET | &Method::HEAD, "/") => json_answer(200, &json!({})),
            (_, UPLOAD_PATH | PROFILE_PATH | "/") => failure(405, "Method Not Allowed"),
            _ => failure(404, "Not Found"),
        }
    }

    async fn upload(&self, request: &Request<Bytes>) -> Ending {
        // The slot is in use until the answer is ready, or until the peer gives up on it.
        let slot = self.0.slots.try_acquire();
        let (number, mut reply) = self.receive(request);
        if slot.is_err() && matches!(reply, Reply::Slow(_)) {
            reply = Reply::Normal;
        }
        let judge = |forced| match slot {
            Ok(_) => self.judge(request, forced),
            Err(_) => failure(429, "Too many concurrent requests"),
        };
        let ending = answer_by(reply, judge).await;
        if let Ending::Answer(response) = &ending {
            let status = response.status().as_u16();
            let answer = response.body().clone().collect().await;
            let answer = answer.unwrap_or_else(|never| match never {}).to_bytes();
            self.0.uploads.send_modify(|uploads| {
                if let Some(upload) = uploads.get_mut(number) {
                    upload.status = Some(status);
                    upload.answer = answer;
                }
            });
        }
        ending
    }

    /// Notes the upload and takes its scripted reply, in one step, so that replies follow the order of arrival.
    fn receive(&self, request: &Request<Bytes>) -> (usize, Reply) {
        let mut script = self.0.script.lock().unwrap();
        let mut number = 0;
        self.0.uploads.send_modify(|uploads| {
            number = uploads.next();
            uploads.extend([Upload {
                number,
                arrived_at: SystemTime::now(),
                account_id: header(request, "x-clevertap-account-id").map(str::to_owned),
                passcode: header(request, "x-clevertap-passcode").map(str::to_owned),
                query: request.uri().query().map(str::to_owned),
                body: request.body().clone(),
                status: None,
                answer: Bytes::new(),
            }]);
        });
        let body = String::from_utf8_lossy(request.body());
        let mut scripts = self.0.scripts.lock().unwrap();
        let own = scripts.iter_mut().filter(|(text, _)| body.contains(text.as_str()));
        let reply = own.map(|(_, replies)| replies).find_map(VecDeque::pop_front);
        let reply = reply.or_else(|| script.pop_front());
        (number, reply.unwrap_or_else(|| self.0.usual.lock().unwrap().clone()))
    }

    fn authenticates(&self, request: &Request<Bytes>) -> bool {
        let account_id = header(request, "x-clevertap-account-id");
        let passcode = header(request, "x-clevertap-passcode");
        account_id == Some(&self.0.account_id)
            && passcode == Some(&*self.0.passcode.lock().unwrap())
    }

    /// A user's profile as the accepted records made it. No page says what CleverTap answers for an unknown user;
    /// integrations have seen a success without a record.
    fn read_profile(&self, request: &Request<Bytes>) -> Ending {
        if !self.authenticates(request) {
            return unauthorized();
        }
        if request.headers().contains_key(CONTENT_TYPE) {
            return failure(400, "Content-Type is for requests with a body");
        }
        let url =
            Url::parse(&format!("http://localhost{}", request.uri())).expect("a URI is a URL");
        let parameters: Vec<_> = url.query_pairs().collect();
        let [(key, id)] = parameters.as_slice() else {
            return failure(400, "Query is not one id");
        };
        if !PROFILE_KEYS.contains(&key.as_ref()) {
            return failure(400, "Query is not one id");
        }
        let accepted = self.0.accepted.borrow();
        let own = accepted
            .entries
            .iter()
            .filter(|record| record[key.as_ref()].as_str() == Some(id));
        let profile = own.fold(None, |profile, record| {
            let mut profile: Map<String, Value> = profile.unwrap_or_default();
            let changes = record["profileData"].as_object().into_iter().flatten();
            changes.for_each(|(name, change)| apply(&mut profile, name, change));
            Some(profile)
        });
        let record = profile.map(|profile| json!({ "profileData": profile }));
        json_answer(200, &json!({ "status": "success", "record": record }))
    }

    /// The answer by the rules; `forced` refuses one record, given by its number, with a code.
    fn judge(&self, request: &Request<Bytes>, forced: Option<(usize, u16)>) -> Ending {
        if !self.authenticates(request) {
            return unauthorized();
        }
        let content_type = header(request, CONTENT_TYPE.as_str()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default();
        if !essence.trim().eq_ignore_ascii_case(JSON) {
            return failure(400, "Content-Type is not application/json");
        }
        let dry_run = match request.uri().query() {
            None => false,
            Some("dryRun=1") => true,
            Some(_) => return failure(400, "Query is not known"),
        };
        let Some(records) = records(request.body()) else {
            return failure(400, "Payload is not {\"d\":[1 to 1000 records]}");
        };

        let (mut accepted, mut unprocessed) = (Vec::new(), Vec::new());
        for (record, number) in records.into_iter().zip(1..) {
            let checked = match forced {
                Some((forced, code)) if forced == number => Err(Refusal::new(code)),
                _ => check(&record),
            };
            match checked {
                Ok(()) => accepted.push(Value::Object(record)),
                Err(refusal) => unprocessed.push(refusal.into_answer(number, record)),
            }
        }
        let answer = verdict(accepted.len(), &unprocessed);
        if !dry_run {
            self.0.accepted.send_modify(|all| all.extend(accepted));
        }
        answer
    }
}

impl Deref for CleverTap {
    type Target = Connections;

    fn deref(&self) -> &Connections {
        &self.0.connections
    }
}

/// Answers as a script says; `judge` answers by the rules, and may have to refuse a record with a code.
async fn answer_by(reply: Reply, judge: impl FnOnce(Option<(usize, u16)>) -> Ending) -> Ending {
    match reply {
        Reply::Normal => judge(None),
        Reply::Status(status) => failure(status, "Answered by a script"),
        Reply::Answer { status, body } => Ending::answer(status, JSON, body),
        Reply::Redirect { status, location } => {
            json_answer(status, &json!({})).with_header("location", &location)
        }
        Reply::Silent => std::future::pending().await,
        Reply::Slow(delay) => {
            tokio::time::sleep(delay).await;
            judge(None)
        }
        Reply::CutShort => match verdict(1, &[]) {
            Ending::Answer(response) => Ending::CutShort(response),
            other => other,
        },
        Reply::CloseBeforeAnswer => Ending::Close,
        Reply::AcceptThenClose => {
            judge(None);
            Ending::Close
        }
        Reply::ResetBeforeAnswer => Ending::Reset,
        Reply::RefuseRecord { number, code } => judge(Some((number, code))),
        Reply::FailWithoutReasons => verdict(0, &[]),
    }
}

/// Changes one property of a profile as an accepted record says; the function sends no `$incr`.
pub fn apply(profile: &mut Map<String, Value>, name: &str, change: &Value) {
    let Some((operator, operand)) = change.as_object().and_then(|change| change.iter().next())
    else {
        profile.insert(name.to_owned(), change.clone());
        return;
    };
    let own = profile.entry(name).or_insert_with(|| json!([]));
    let mut values = own.as_array().cloned().unwrap_or_default();
    let operand = operand.as_array().map(Vec::as_slice).unwrap_or_default();
    values.retain(|value| !operand.contains(value));
    if operator == "$add" {
        values.extend_from_slice(operand);
    }
    *own = json!(values);
}

fn json_answer(status: u16, body: &Value) -> Ending {
    Ending::answer(status, JSON, body.to_string())
}

/// A request refused as a whole, in the recorded shape of a 401.
fn failure(status: u16, error: &str) -> Ending {
    json_answer(status, &json!({ "status": "fail", "error": error, "code": status }))
}

/// The recorded text; CleverTap does not say whether account id or passcode is wrong.
fn unauthorized() -> Ending {
    failure(401, "Account ID is not valid")
}

/// HTTP 200 in one of its three shapes (page `upload-events-api`).
fn verdict(processed: usize, unprocessed: &[Value]) -> Ending {
    let status = match (processed, unprocessed) {
        (0, _) => "fail",
        (_, []) => "success",
        _ => "partial",
    };
    let body = json!({ "status": status, "processed": processed, "unprocessed": unprocessed });
    json_answer(200, &body)
}

/// Why one record is refused.
#[derive(Debug, PartialEq)]
struct Refusal {
    code: u16,
    /// What is wrong with this very record, for the developer who reads the answer; names, never values.
    detail: String,
}

impl Refusal {
    fn new(code: u16) -> Self {
        let detail = String::new();
        Self { code, detail }
    }

    fn because(detail: impl Into<String>) -> Self {
        let (code, detail) = (STRUCTURE, detail.into());
        Self { code, detail }
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
        // The echo may be normalised and is deliberately never equal to what was sent: the number identifies the record.
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

fn header<'r>(request: &'r Request<Bytes>, name: &str) -> Option<&'r str> {
    request.headers().get(name)?.to_str().ok()
}

/// The records of a well-formed body: an object with the one key `d`, a list of 1 to 1000 objects.
fn records(body: &[u8]) -> Option<Vec<Map<String, Value>>> {
    let mut body: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let Some(Value::Array(records)) = body.remove("d") else {
        return None;
    };
    if !body.is_empty() || !(1..=MAX_RECORDS).contains(&records.len()) {
        return None;
    }
    let objects = records.into_iter().map(|record| match record {
        Value::Object(record) => Some(record),
        _ => None,
    });
    objects.collect()
}

/// Refuses the record with a code and the reason unless the condition is met.
macro_rules! require {
    ($is_met:expr => $code:expr, $($reason:tt)+) => {
        if !$is_met {
            let detail = format!($($reason)+);
            return Err(Refusal { code: $code, detail });
        }
    };
}

/// Checks one record against every documented rule.
fn check(record: &Map<String, Value>) -> Result<(), Refusal> {
    let present = |key: &&str| record.contains_key(*key);
    let keys: Vec<&str> = IDENTITY_KEYS.into_iter().filter(present).collect();
    require!(keys.len() == 1 => NO_IDENTITY, "{} identities", keys.len());
    let key = keys[0];
    let is_valid = |text: &str| (1..IDENTITY_CHARACTERS).contains(&text.chars().count());
    let is_valid = record[key].as_str().is_some_and(is_valid);
    let code = if key == "objectId" { OBJECT_ID } else { NO_IDENTITY };
    require!(is_valid => code, "{key} is not a text of 1 to 1023 characters");
    let id = record[key].as_str().unwrap_or_default();
    let custom = CUSTOM_ID_PREFIXES.iter().find_map(|prefix| id.strip_prefix(prefix));
    let is_valid = key != "objectId" || custom.is_none_or(is_custom_id);
    require!(is_valid => OBJECT_ID, "objectId is not a custom CleverTap ID");

    let ts = record.get("ts").map(|ts| ts.as_u64().unwrap_or_default());
    let is_seconds = ts.is_none_or(|ts| (1..FIRST_IMPLAUSIBLE_TIME).contains(&ts));
    require!(is_seconds => TIME, "ts is not in Unix seconds");
    match record.get("type").and_then(Value::as_str) {
        Some("event") => check_event(record),
        Some("profile") => check_profile(record),
        _ => Err(Refusal::new(NO_TYPE)),
    }
}

fn check_event(record: &Map<String, Value>) -> Result<(), Refusal> {
    check_fields(record, &["evtName", "evtData"])?;
    let name = record.get("evtName").and_then(Value::as_str).unwrap_or_default();
    require!(!name.is_empty() => NO_EVENT_NAME, "no name");
    let compared = compared(name);
    let is_reserved = RESERVED_EVENTS.iter().any(|event| self::compared(event) == compared)
        || compared.starts_with(RESERVED_EVENT_PREFIX);
    require!(!is_reserved => RESERVED, "{name} is reserved");
    let length = name.chars().count();
    require!(length <= MAX_EVENT_NAME_CHARACTERS => STRUCTURE, "{name} is too long");
    require!(!name.contains(FORBIDDEN_CHARACTERS) => STRUCTURE, "{name} has a forbidden character");

    let Some(Value::Object(properties)) = record.get("evtData") else {
        return Err(Refusal::because("evtData is not an object"));
    };
    let is_charged = compared == CHARGED;
    let has_amount = properties.get("Amount").is_some_and(Value::is_number);
    require!(!is_charged || has_amount => STRUCTURE, "Amount is not a number");
    check_keys(properties)?;
    for (key, value) in properties {
        match value {
            Value::Array(items) if is_charged && key == "Items" => check_items(items)?,
            _ => check_value(key, value)?,
        }
    }
    Ok(())
}

fn check_items(items: &[Value]) -> Result<(), Refusal> {
    require!(items.len() <= MAX_ITEMS => STRUCTURE, "Items has too many entries");
    for item in items {
        let Value::Object(properties) = item else {
            return Err(Refusal::because("an entry of Items is not an object"));
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
    let count = properties.len();
    require!(count <= MAX_EVENT_PROPERTIES => TOO_MANY_PROPERTIES, "{count} properties");
    for key in properties.keys() {
        let length = key.chars().count();
        require!(length <= MAX_KEY_CHARACTERS => STRUCTURE, "the key {key} is too long");
        check_key(key)?;
    }
    check_distinct(properties)
}

fn check_profile(record: &Map<String, Value>) -> Result<(), Refusal> {
    check_fields(record, &["profileData"])?;
    let Some(Value::Object(properties)) = record.get("profileData") else {
        return Err(Refusal::because("profileData is not an object"));
    };
    let count = properties.len();
    require!(count <= MAX_PROFILE_PROPERTIES => STRUCTURE, "{count} properties");
    for (key, value) in properties {
        let compared = compared(key);
        let system_field = SYSTEM_FIELDS.iter().find(|(field, _)| *field == compared);
        let code = system_field.map_or(STRUCTURE, |(_, code)| *code);
        require!(system_field.is_none() => code, "{key} is a system field");
        require!(!compared.starts_with(CONSENT_PREFIX) => STRUCTURE, "{key} is a system field");
        require!(key.len() <= MAX_PROFILE_KEY_BYTES => STRUCTURE, "the key {key} is too long");
        let is_forbidden = key.contains(FORBIDDEN_IN_PROFILE_KEYS);
        require!(!is_forbidden => STRUCTURE, "the key {key} has a forbidden character");
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
    let mut entries = operation.iter().map(|(operator, operand)| (operator.as_str(), operand));
    match (entries.next(), entries.next()) {
        (Some(("$incr", Value::Number(_))), None) => Ok(()),
        (Some(("$add" | "$remove", Value::Array(values))), None) => {
            let is_valid = (1..=MAX_OPERATION_VALUES).contains(&values.len());
            let is_valid = is_valid && values.iter().all(Value::is_string);
            require!(is_valid => STRUCTURE, "{key} has an operation without 1 to 100 texts");
            values.iter().try_for_each(|value| check_value(key, value))
        }
        _ => Err(Refusal::because(format!("{key} has an invalid operation"))),
    }
}

fn is_custom_id(id: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || CUSTOM_ID_SIGNS.contains(c);
    (1..=MAX_CUSTOM_ID_CHARACTERS).contains(&id.chars().count()) && id.chars().all(is_allowed)
}

/// A record has no keys but those of its type.
fn check_fields(record: &Map<String, Value>, own: &[&str]) -> Result<(), Refusal> {
    for key in record.keys() {
        let lists = [&IDENTITY_KEYS[..], &["type", "ts"], own];
        let is_known = lists.iter().any(|keys| keys.contains(&key.as_str()));
        require!(is_known => STRUCTURE, "{key} is not a key of this record");
    }
    Ok(())
}

/// What the keys of events and profiles have in common.
fn check_key(key: &str) -> Result<(), Refusal> {
    require!(!key.trim().is_empty() => STRUCTURE, "a key is empty");
    let is_forbidden = key.contains(FORBIDDEN_CHARACTERS);
    require!(!is_forbidden => STRUCTURE, "the key {key} has a forbidden character");
    Ok(())
}

/// Keys that differ only in surrounding white space would be one property.
fn check_distinct(properties: &Map<String, Value>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for key in properties.keys() {
        require!(seen.insert(key.trim()) => STRUCTURE, "the key {key} is there twice");
    }
    Ok(())
}

/// A flat value: text, boolean, number or date. null is undocumented, and so refused.
fn check_value(key: &str, value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) => {
            require!(text.len() <= MAX_VALUE_BYTES => STRUCTURE, "the text of {key} is too long");
            let is_valid = text.strip_prefix(DATE_PREFIX).is_none_or(is_seconds);
            require!(is_valid => STRUCTURE, "the date of {key} is not in whole seconds");
            Ok(())
        }
        _ => Err(Refusal::because(format!("{key} is not a flat value"))),
    }
}

/// Digits alone, and not so many that they can only be milliseconds.
fn is_seconds(text: &str) -> bool {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number && text.parse().is_ok_and(|seconds: u64| seconds < FIRST_IMPLAUSIBLE_TIME)
}

/// A name as CleverTap compares it: without case and without spaces.
fn compared(name: &str) -> String {
    let visible = name.chars().filter(|character| !character.is_whitespace());
    visible.flat_map(char::to_lowercase).collect()
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
        [526, "profile", "/objectId", "__h"],
        [526, "profile", "/objectId", "__ha b"],
        [526, "profile", "/objectId", "-ha.b"],
        [526, "profile", "/objectId", "-hé"],
        [null, "profile", "/objectId", "-haZ09()!:@$_-"],
        [null, "profile", "/objectId", "__g1"],
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
        let text = |n: usize| json!("é".repeat(n));
        let key = |n: usize| json!({ "é".repeat(n): 1 });
        let properties = |n: usize| (0..n).map(|i| (format!("p{i}"), json!(i))).collect();
        let items = |n: usize| json!(vec![json!({ "plan": "yearly" }); n]);
        let values = |n: usize| json!({ "$remove": vec!["a"; n] });
        limited_to(1023, "event", "/identity", text);
        limited_to(64, "profile", "/objectId", |n| json!(format!("-h{}", "a".repeat(n))));
        limited_to(120, "event", "/evtName", text);
        limited_to(100, "event", "/evtData", properties);
        limited_to(120, "event", "/evtData", key);
        limited_to(256, "event", "/evtData/plan", text);
        limited_to(50, "charged", "/evtData/Items", items);
        limited_to(256, "profile", "/profileData", properties);
        limited_to(60, "profile", "/profileData", key);
        limited_to(100, "profile", "/profileData/plans", values);
    }

    #[track_caller]
    fn limited_to(n: usize, name: &str, pointer: &str, value: impl Fn(usize) -> Value) {
        assert_eq!(code(&with(name, pointer, Some(value(n)))), None);
        assert!(code(&with(name, pointer, Some(value(n + 1)))).is_some());
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
        assert_eq!(worded(509), "Event name is mandatory. Skipped record number : 2");
        assert_eq!(worded(526), "objectId is not valid.Skipped record number : 2");
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
            async move { request.send().await.map(|response| response.status().as_u16()) }
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

    #[tokio::test]
    async fn returns_a_profile_by_one_id_as_the_accepted_records_made_it() {
        let clevertap = CleverTap::new(ACCOUNT_ID, PASSCODE);
        let (listener, url) = listen().await;
        tokio::spawn(clevertap.clone().serve(listener));
        let removed = json!({
            "objectId": "__hA1B2", "type": "profile",
            "profileData": { "active_plans": { "$remove": ["yearly"] } },
        });
        clevertap.0.accepted.send_modify(|all| all.extend([record("profile"), removed]));
        let read = |passcode, query| {
            let request = plain_client().get(format!("{url}{PROFILE_PATH}?{query}"));
            let request = request.header("x-clevertap-account-id", ACCOUNT_ID);
            let request = request.header("x-clevertap-passcode", passcode);
            async move {
                let response = request.send().await.unwrap();
                (response.status().as_u16(), response.text().await.unwrap())
            }
        };
        let profile =
            json!({ "profileData": { "has_active_subscription": true, "active_plans": [] } });
        for (query, record) in [("objectId=__hA1B2", profile), ("identity=a%20b", Value::Null)] {
            let expected = json!({ "status": "success", "record": record });
            assert_eq!(read(PASSCODE, query).await, (200, expected.to_string()));
        }
        assert_eq!(read("another", "identity=u").await.0, 401);
        for query in ["", "name=u", "identity=u&email=u"] {
            assert_eq!(read(PASSCODE, query).await.0, 400, "{query}");
        }
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
        check(record.as_object().unwrap()).err().map(|refusal| refusal.code)
    }
}
