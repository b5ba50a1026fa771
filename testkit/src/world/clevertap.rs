//! A strict CleverTap: uploads and the read of a profile.
//! It does not know which records CleverTap refuses ([`rules`] do), nor users, campaigns or an account's Schema.
//!
//! The pages named are below <https://developer.clevertap.com/docs/>.

pub mod rules;

use super::service::{Ending, Service};
use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request};
use purchasely_clevertap::clock;
use reqwest::Url;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, watch};

/// The path of the upload API (page `upload-events-api`).
const UPLOAD_PATH: &str = "/1/upload";
/// The path that returns one user's profile (page `get-user-profiles-api`), and its parameter, of which there is one.
const PROFILE_PATH: &str = "/1/profile.json";
const PROFILE_KEYS: [&str; 3] = ["identity", "objectId", "email"];
/// Concurrent uploads of one account; one more is a 429 (page `api-request-limit`).
const MAX_CONCURRENT_UPLOADS: usize = 15;
const JSON: &str = "application/json";

/// An upload endpoint with one account. Clones are the same one.
#[derive(Clone)]
pub struct CleverTap(Arc<State>);

/// One `POST /1/upload`, whatever the answer.
#[derive(Clone, Debug)]
pub struct Upload {
    pub number: usize,
    pub arrived_at: SystemTime,
    pub account_id: Option<String>,
    pub passcode: Option<String>,
    /// What followed the question mark.
    pub query: Option<String>,
    pub body: Bytes,
    /// The HTTP status of the answer; `None` as long as there is none.
    pub status: Option<u16>,
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
    script: Mutex<Script>,
    uploads: watch::Sender<Log<Upload>>,
    accepted: Mutex<Log<Value>>,
    slots: Semaphore,
}

struct Script {
    next: VecDeque<Reply>,
    /// How requests are answered afterwards.
    usual: Reply,
    /// Replies to the requests that contain a text, before all others.
    by_text: Vec<(String, VecDeque<Reply>)>,
}

impl Script {
    fn reply_to(&mut self, request: &Request<Bytes>) -> Reply {
        let body = String::from_utf8_lossy(request.body());
        let mut own = self.by_text.iter_mut().filter(|(text, _)| body.contains(text.as_str()));
        let reply = own.find_map(|(_, replies)| replies.pop_front());
        reply.or_else(|| self.next.pop_front()).unwrap_or_else(|| self.usual.clone())
    }
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

impl Service for CleverTap {
    async fn answer(self, request: Request<Bytes>) -> Ending {
        match (request.method(), request.uri().path()) {
            (&Method::POST, UPLOAD_PATH) => self.upload(&request).await,
            (&Method::GET, PROFILE_PATH) => {
                let reply = self.0.script.lock().unwrap().reply_to(&request);
                answer_by(reply, |_| self.read_profile(&request)).await
            }
            (&Method::GET | &Method::HEAD, "/") => json_answer(200, &json!({})),
            (_, UPLOAD_PATH | PROFILE_PATH | "/") => failure(405, "Method Not Allowed"),
            _ => failure(404, "Not Found"),
        }
    }
}

impl CleverTap {
    pub fn new(account_id: &str, passcode: &str) -> Self {
        Self(Arc::new(State {
            account_id: account_id.to_owned(),
            passcode: Mutex::new(passcode.to_owned()),
            script: Mutex::new(Script {
                next: VecDeque::new(),
                usual: Reply::Normal,
                by_text: Vec::new(),
            }),
            uploads: watch::Sender::default(),
            accepted: Mutex::default(),
            slots: Semaphore::new(MAX_CONCURRENT_UPLOADS),
        }))
    }

    /// Replaces the passcode: the old one is a 401 from here on.
    pub fn set_passcode(&self, passcode: &str) {
        *self.0.passcode.lock().unwrap() = passcode.to_owned();
    }

    /// Answers the next uploads and reads by `replies`, one each, before any check; afterwards by the rules again.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.0.script.lock().unwrap().next.extend(replies);
    }

    /// Replaces what is left of the script, and how uploads and reads are answered after it.
    pub fn set_script(&self, replies: impl IntoIterator<Item = Reply>, usual: Reply) {
        let mut script = self.0.script.lock().unwrap();
        script.next = replies.into_iter().collect();
        script.usual = usual;
    }

    /// The same for the next uploads that contain `text`, whatever arrives in between. It replaces what is left of
    /// an earlier script for that text.
    pub fn script_for(&self, text: &str, replies: impl IntoIterator<Item = Reply>) {
        let mut script = self.0.script.lock().unwrap();
        script.by_text.retain(|(other, _)| other != text);
        script.by_text.push((text.to_owned(), replies.into_iter().collect()));
    }

    /// Keeps only so many uploads and records from here on, the latest ones.
    pub fn keep_latest(&self, uploads: usize, records: usize) {
        self.0.uploads.send_modify(|log| log.max = uploads);
        self.0.accepted.lock().unwrap().max = records;
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
        self.0.accepted.lock().unwrap().entries.clone()
    }

    /// The accepted records from this one on, counted from 0, and the number of the next.
    pub fn accepted_since(&self, number: usize) -> (Vec<Value>, usize) {
        let log = self.0.accepted.lock().unwrap();
        (log.since(number), log.next())
    }

    /// Returns the records accepted since the last call.
    pub(crate) fn take_accepted(&self) -> Vec<Value> {
        self.0.accepted.lock().unwrap().take()
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
            self.0.uploads.send_modify(|uploads| {
                if let Some(upload) = uploads.get_mut(number) {
                    upload.status = Some(response.status().as_u16());
                    upload.answer = response.body().clone();
                }
            });
        }
        ending
    }

    /// Notes the upload and takes its scripted reply, in one step, so that replies follow the order of arrival.
    fn receive(&self, request: &Request<Bytes>) -> (usize, Reply) {
        let mut script = self.0.script.lock().unwrap();
        let number = self.0.uploads.borrow().next();
        self.0.uploads.send_modify(|uploads| {
            uploads.extend([Upload {
                number,
                arrived_at: clock::now(),
                account_id: header(request, "x-clevertap-account-id").map(str::to_owned),
                passcode: header(request, "x-clevertap-passcode").map(str::to_owned),
                query: request.uri().query().map(str::to_owned),
                body: request.body().clone(),
                status: None,
                answer: Bytes::new(),
            }]);
        });
        (number, script.reply_to(request))
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
        let (key, id) = match parameters.as_slice() {
            [(key, id)] if PROFILE_KEYS.contains(&&**key) => (&**key, &**id),
            _ => return failure(400, "Query is not one id"),
        };
        let mut profile = None;
        for record in self.accepted().iter().filter(|record| record[key] == *id) {
            let profile = profile.get_or_insert_with(Map::new);
            let changes = record["profileData"].as_object().into_iter().flatten();
            changes.for_each(|(name, change)| apply(profile, name, change));
        }
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
        let Some((accepted, answer)) = rules::judge(request.body(), forced) else {
            return failure(400, "Payload is not {\"d\":[1 to 1000 records]}");
        };
        if !dry_run {
            self.0.accepted.lock().unwrap().extend(accepted);
        }
        json_answer(200, &answer)
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
        Reply::CutShort => json_answer(200, &rules::answer(1, &[])).cut_short(),
        Reply::CloseBeforeAnswer => Ending::Close,
        Reply::ResetBeforeAnswer => Ending::Reset,
        Reply::RefuseRecord { number, code } => judge(Some((number, code))),
        Reply::FailWithoutReasons => json_answer(200, &rules::answer(0, &[])),
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

fn header<'r>(request: &'r Request<Bytes>, name: &str) -> Option<&'r str> {
    request.headers().get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;

    #[tokio::test]
    async fn refuses_the_sixteenth_concurrent_upload() {
        let clevertap = CleverTap::new("account", "passcode");
        let upload = || {
            let event = json!({ "identity": "u", "type": "event", "evtName": "e", "evtData": {} });
            let request = Request::post(UPLOAD_PATH)
                .header(CONTENT_TYPE, JSON)
                .header("x-clevertap-account-id", "account")
                .header("x-clevertap-passcode", "passcode")
                .body(json!({ "d": [event] }).to_string().into());
            clevertap.clone().answer(request.unwrap())
        };
        let status = |ending: Ending| match ending {
            Ending::Answer(response) => response.status().as_u16(),
            other => panic!("{other:?}"),
        };
        clevertap.script(vec![Reply::Silent; MAX_CONCURRENT_UPLOADS]);
        let mut waiting: JoinSet<_> = (0..MAX_CONCURRENT_UPLOADS).map(|_| upload()).collect();
        while clevertap.uploads().len() < MAX_CONCURRENT_UPLOADS {
            tokio::task::yield_now().await;
        }
        assert_eq!(status(upload().await), 429);
        assert_eq!(clevertap.accepted(), [Value::Null; 0]);

        waiting.shutdown().await;
        assert_eq!(status(upload().await), 200);
    }
}
