//! What the page shows, as it changes: deliveries and users. It passes webhooks to the function and notes what
//! the stand-ins got. It does not know who sends a webhook, nor what the page looks like.

use super::deliveries::{Deliveries, Delivery, Forward, Upload};
use super::purchasely::Purchasely;
use super::settings::Settings;
use super::users::Users;
use crate::destination::with_causes;
use crate::stand_ins::{StandIns, in_words};
use crate::{Unusable, http_client, print};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use testkit::cargo_lambda::INSTANCES;
use tokio::sync::{Semaphore, broadcast, watch};

/// `cargo lambda watch` compiles the function before it answers.
const COMPILING: Duration = Duration::from_mins(15);
const POLL: Duration = Duration::from_millis(250);
/// Uploads and records that CleverTap keeps until they are noted here. It has at most 15 uploads in progress.
const MAX_UPLOADS: usize = 200;
const MAX_RECORDS: usize = 1000;
/// Changes that a page which is slow to read them may be behind; then it connects again.
const MAX_BEHIND: usize = 4096;

pub struct Live {
    pub stand_ins: StandIns,
    pub settings: Settings,
    pub purchasely: Purchasely,
    pub users: Mutex<Users>,
    /// Where webhooks are sent to.
    pub public_url: String,
    /// Where the function itself is served: scheme and authority.
    function_origin: String,
    pub is_ready: watch::Sender<bool>,
    deliveries: Mutex<Deliveries>,
    noted: Mutex<Noted>,
    /// Of requests to the function: `cargo lambda watch` stops answering for ever if many wait in it.
    slots: Semaphore,
    changes: broadcast::Sender<Change>,
    pub http: reqwest::Client,
    /// What standard output has of each webhook that settles.
    output: Option<Output>,
}

/// What is known of CleverTap.
#[derive(Default)]
struct Noted {
    /// By the upload's number, whether its answer is noted.
    uploads: BTreeMap<usize, bool>,
    next_record: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Lines,
    Json,
}

/// A server-sent event of the page.
#[derive(Clone, Debug)]
pub struct Change {
    pub event: &'static str,
    pub data: String,
}

/// The function's answer, or why there is none.
pub type Answer = Result<Response<Bytes>, String>;

impl Live {
    pub fn new(
        stand_ins: StandIns,
        public_url: String,
        function_origin: String,
        output: Option<Output>,
    ) -> Result<Arc<Self>, Unusable> {
        stand_ins.clevertap.keep_latest(MAX_UPLOADS, MAX_RECORDS);
        Ok(Arc::new(Self {
            settings: Settings::read(&stand_ins.variables())?,
            stand_ins,
            purchasely: Purchasely::default(),
            users: Mutex::default(),
            public_url,
            function_origin,
            is_ready: watch::Sender::new(false),
            deliveries: Mutex::default(),
            noted: Mutex::default(),
            slots: Semaphore::new(INSTANCES),
            changes: broadcast::Sender::new(MAX_BEHIND),
            http: http_client(COMPILING)?,
            output,
        }))
    }

    /// Watches everything, for ever.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.watch_function(), self.watch_clevertap());
    }

    /// Reads or changes the deliveries; the changes are published in their order.
    pub fn deliveries<T>(&self, act: impl FnOnce(&mut Deliveries) -> T) -> T {
        let mut deliveries = self.deliveries.lock().expect("no thread panics");
        let result = act(&mut deliveries);
        for (summary, has_settled) in deliveries.take_changed() {
            self.publish("delivery", &json!(summary));
            if let Some(delivery) = deliveries.get(summary.id).filter(|_| has_settled) {
                self.print(delivery);
            }
        }
        result
    }

    /// A new delivery of this body.
    pub fn open(&self, body: Bytes, is_retried: bool) -> u64 {
        let explanation = self.settings.explain(String::new(), &body);
        let upload = explanation.upload.map(|upload| serde_json::from_str::<Value>(upload.get()));
        let records = match upload {
            Some(Ok(mut upload)) => serde_json::from_value(upload["d"].take()).unwrap_or_default(),
            _ => Vec::new(),
        };
        self.deliveries(|deliveries| deliveries.open(body, records, is_retried, now_ms()))
    }

    /// All deliveries, and the changes from here on.
    pub fn subscribe(&self) -> (Vec<Change>, broadcast::Receiver<Change>) {
        self.deliveries(|deliveries| {
            let change = |summary| Change {
                event: "delivery",
                data: json!(summary).to_string(),
            };
            (deliveries.summaries().map(change).collect(), self.changes.subscribe())
        })
    }

    /// Forgets deliveries and users.
    pub fn clear(&self) {
        self.deliveries(|deliveries| {
            deliveries.clear();
            self.users.lock().expect("no thread panics").clear();
            self.publish("reset", &json!({}));
        });
        self.purchasely.forget();
    }

    /// Notes an attempt of this delivery, and the function's answer.
    pub async fn attempt(
        &self,
        id: u64,
        answering: impl Future<Output = Answer>,
        patience: Duration,
    ) -> Answer {
        let number = self.deliveries(|deliveries| deliveries.begin(id, now_ms()));
        let late = |_| format!("the function did not answer within {patience:?}");
        let answer = tokio::time::timeout(patience, answering).await.map_err(late);
        let answer = answer.and_then(|answer| answer);
        let (status, text) = match &answer {
            Ok(answer) => (
                Some(answer.status().as_u16()),
                String::from_utf8_lossy(answer.body()).into_owned(),
            ),
            Err(problem) => (None, problem.clone()),
        };
        // What the answer is based on is shown first.
        if let Some(backend) = &self.stand_ins.backend {
            for received in backend.take_received() {
                let (at_ms, status) = (unix_ms(received.at), received.status);
                let forward = Forward { at_ms, status, answer: received.answer };
                self.deliveries(|deliveries| deliveries.forward(&received.webhook, forward));
            }
        }
        self.note_clevertap();
        self.deliveries(|deliveries| deliveries.end(id, number, status, text, now_ms()));
        answer
    }

    /// Passes a request on to the function.
    pub async fn forward(&self, request: Request<Bytes>) -> Answer {
        let failed = |error: reqwest::Error| {
            let causes = with_causes(&error);
            format!("the function does not answer: {causes}; see the log of cargo lambda watch")
        };
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{}{path}", self.function_origin);
        drop_headers_of_the_connection(&mut head.headers);
        let request = self.http.request(head.method, url).headers(head.headers).body(body);
        let _slot = self.slots.acquire().await.map_err(|closed| closed.to_string())?;
        let mut received = request.send().await.map_err(failed)?;
        let (status, mut headers) = (received.status(), std::mem::take(received.headers_mut()));
        drop_headers_of_the_connection(&mut headers);
        let mut answer = Response::new(received.bytes().await.map_err(failed)?);
        (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
        Ok(answer)
    }

    async fn watch_function(&self) {
        // It refuses such a request itself: it is up, and nothing was sent.
        let is_up = async || {
            let answer = self.http.get(&self.function_origin).send().await;
            answer.is_ok_and(|answer| answer.status() == 405)
        };
        while !is_up().await {
            tokio::time::sleep(POLL).await;
        }
        self.is_ready.send_replace(true);
        self.publish("ready", &json!({}));
    }

    async fn watch_clevertap(&self) {
        let mut changes = self.stand_ins.clevertap.subscribe();
        while changes.changed().await.is_ok() {
            self.note_clevertap();
        }
    }

    /// Notes the uploads and records that are not noted yet.
    pub fn note_clevertap(&self) {
        let clevertap = &self.stand_ins.clevertap;
        let mut noted = self.noted.lock().expect("no thread panics");
        let uploads = clevertap.uploads();
        if let Some(first) = uploads.first() {
            noted.uploads = noted.uploads.split_off(&first.number);
        }
        for upload in uploads {
            let is_answered = upload.status.is_some();
            if noted.uploads.insert(upload.number, is_answered) != Some(is_answered) {
                let at_ms = unix_ms(upload.arrived_at);
                let mut made = Upload::new(upload.number, at_ms, &upload.body);
                made.status = upload.status;
                made.answer = String::from_utf8_lossy(&upload.answer).into_owned();
                self.deliveries(|deliveries| deliveries.upload(&made));
            }
        }
        let (records, next) = clevertap.accepted_since(noted.next_record);
        noted.next_record = next;
        for record in &records {
            self.users.lock().expect("no thread panics").accept(record, now_ms());
        }
    }

    fn publish(&self, event: &'static str, data: &Value) {
        // Without a page there is nobody to receive it.
        let _ = self.changes.send(Change { event, data: data.to_string() });
    }

    fn print(&self, delivery: &Delivery) {
        let (summary, accepted) = (delivery.summary(), delivery.accepted());
        match self.output {
            None => {}
            Some(Output::Json) => {
                let mut line = json!(summary);
                line["accepted"] = json!(accepted);
                print(&format!("{line}\n"));
            }
            Some(Output::Lines) => {
                let status = summary.status.map_or("---".to_owned(), |status| status.to_string());
                let text = |text: &Option<String>| text.clone().unwrap_or("-".to_owned());
                let (event, user, took) =
                    (text(&summary.event), text(&summary.user), summary.latency_ms.unwrap_or(0));
                let words = if accepted.is_empty() {
                    text(&summary.outcome)
                } else {
                    in_words(accepted, &event)
                };
                print(&format!("{status}  {event:<34}  {took:>4} ms  {user:<6}  {words}\n"));
            }
        }
    }
}

/// Each side of the proxy has a connection of its own.
fn drop_headers_of_the_connection(headers: &mut HeaderMap) {
    for name in [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
}

pub fn now_ms() -> u64 {
    unix_ms(SystemTime::now())
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("a time before the year 584 million")
}
