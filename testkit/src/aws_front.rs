//! A front before a service of AWS, or before what stands in for one, that fails the requests that a test chooses.
//! It does not know what it forwards.

use crate::connections::{Connections, Ending, Listener};
use crate::process::plain_client;
use bytes::Bytes;
use hyper::Request;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST};
use serde_json::json;
use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};

const AWS_JSON: &str = "application/x-amz-json-1.0";

/// A front before one server. Clones are the same front.
#[derive(Clone)]
pub struct Front(Arc<State>);

/// How a request fails.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error of the service, which has done nothing.
    Error {
        status: u16,
        code: &'static str,
    },
    /// The service has done what it was called for, and this status is answered.
    DoneThenStatus(u16),
    /// The service has done what it was called for, and the connection closes.
    DoneThenClosed,
    /// The service has done what it was called for, and no answer comes.
    DoneThenSilent,
    Closed,
    Reset,
    Silent,
    /// 200 with a page instead of JSON.
    Html,
    /// The service's own answer without its last byte.
    CutShort,
}

struct State {
    upstream: String,
    http: reqwest::Client,
    /// Each for the requests that contain all of the texts.
    scripts: Mutex<Vec<(Vec<String>, VecDeque<Fault>)>>,
}

impl Front {
    /// `upstream` has a scheme, a host and a port.
    pub fn new(upstream: &str) -> Self {
        Self(Arc::new(State {
            upstream: upstream.to_owned(),
            http: plain_client(),
            scripts: Mutex::default(),
        }))
    }

    /// Accepts for ever; each connection runs in its own task.
    pub async fn serve(self, listener: impl Into<Listener>) {
        let answer = move |request| self.clone().answer(request);
        Connections::new().serve_listener(listener, answer).await;
    }

    /// Fails the next requests whose operation and body contain all of `texts`, one for each fault.
    pub fn script_for(&self, texts: &[&str], faults: impl IntoIterator<Item = Fault>) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.0.scripts.lock().unwrap().push((texts, faults.into_iter().collect()));
    }

    /// Removes what is left of the scripts that have `text` among their texts.
    pub fn forget(&self, text: &str) {
        let has_text = |texts: &Vec<String>| texts.iter().any(|other| other == text);
        self.0.scripts.lock().unwrap().retain(|(texts, _)| !has_text(texts));
    }

    async fn answer(self, request: Request<Bytes>) -> Ending {
        match self.fault(&request) {
            None => self.forward(request).await,
            Some(Fault::Error { status, code }) => error(status, code),
            Some(Fault::DoneThenStatus(status)) => {
                self.forward(request).await;
                error(status, "InternalServerError")
            }
            Some(Fault::DoneThenClosed) => {
                self.forward(request).await;
                Ending::Close
            }
            Some(Fault::DoneThenSilent) => {
                self.forward(request).await;
                pending().await
            }
            Some(Fault::Closed) => Ending::Close,
            Some(Fault::Reset) => Ending::Reset,
            Some(Fault::Silent) => pending().await,
            Some(Fault::Html) => Ending::answer(200, "text/html", "<html></html>"),
            Some(Fault::CutShort) => match self.forward(request).await {
                Ending::Answer(response) => Ending::CutShort(response),
                other => other,
            },
        }
    }

    fn fault(&self, request: &Request<Bytes>) -> Option<Fault> {
        let operation = request.headers().get("x-amz-target");
        let operation = operation.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let body = String::from_utf8_lossy(request.body());
        let is_for = |text: &String| operation.contains(text) || body.contains(text);
        let mut scripts = self.0.scripts.lock().unwrap();
        let mut own = scripts.iter_mut().filter(|(texts, _)| texts.iter().all(is_for));
        own.find_map(|(_, faults)| faults.pop_front())
    }

    async fn forward(&self, request: Request<Bytes>) -> Ending {
        let (mut head, body) = request.into_parts();
        head.headers.remove(HOST);
        head.headers.remove(CONTENT_LENGTH);
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{}{path}", self.0.upstream);
        let request = self.0.http.request(head.method, url).headers(head.headers).body(body);
        let response = request.send().await.expect("the service answers");
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.expect("the service answers");
        let ending = Ending::answer(status.as_u16(), AWS_JSON, body);
        match headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) {
            Some(kind) => ending.with_header("content-type", kind),
            None => ending,
        }
    }
}

fn error(status: u16, code: &str) -> Ending {
    let body = json!({ "__type": code, "message": "Answered by a script." });
    Ending::answer(status, AWS_JSON, body.to_string())
}
