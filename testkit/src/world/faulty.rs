//! A service of AWS that fails the requests which a test chooses.
//! It does not know what the service does.

use super::service::{Ending, Service, operation};
use bytes::Bytes;
use hyper::Request;
use serde_json::json;
use std::collections::VecDeque;
use std::future::pending;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

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

/// A service and the faults that are to come. Clones are the same service.
#[derive(Clone)]
pub struct Faulty<S> {
    service: S,
    /// Each for the requests that contain all of the texts.
    scripts: Arc<Mutex<Vec<Script>>>,
}

type Script = (Vec<String>, VecDeque<Fault>);

impl Fault {
    /// An error without a code of its own.
    pub fn status(status: u16) -> Self {
        Self::Error { status, code: "InternalServiceError" }
    }
}

impl<S> From<S> for Faulty<S> {
    fn from(service: S) -> Self {
        Self::new(service)
    }
}

impl<S> Faulty<S> {
    pub fn new(service: S) -> Self {
        Self { service, scripts: Arc::default() }
    }

    /// Fails the next requests, one for each fault.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script_for(&[], faults);
    }

    /// The same for those whose operation and body contain all of `texts`.
    pub fn script_for(&self, texts: &[&str], faults: impl IntoIterator<Item = Fault>) {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        self.scripts.lock().unwrap().push((texts, faults.into_iter().collect()));
    }

    /// Removes what is left of all scripts.
    pub fn forget(&self) {
        self.scripts.lock().unwrap().clear();
    }

    fn fault(&self, request: &Request<Bytes>) -> Option<Fault> {
        let body = String::from_utf8_lossy(request.body());
        let is_for = |text: &String| operation(request).contains(text) || body.contains(text);
        let mut scripts = self.scripts.lock().unwrap();
        let mut own = scripts.iter_mut().filter(|(texts, _)| texts.iter().all(is_for));
        own.find_map(|(_, faults)| faults.pop_front())
    }
}

impl<S: Service> Service for Faulty<S> {
    async fn answer(self, request: Request<Bytes>) -> Ending {
        let Some(fault) = self.fault(&request) else {
            return self.service.answer(request).await;
        };
        match fault {
            Fault::Error { status, code } => error(status, code),
            Fault::DoneThenStatus(status) => {
                self.service.answer(request).await;
                error(status, "InternalServerError")
            }
            Fault::DoneThenClosed => {
                self.service.answer(request).await;
                Ending::Close
            }
            Fault::DoneThenSilent => {
                self.service.answer(request).await;
                pending().await
            }
            Fault::Closed => Ending::Close,
            Fault::Reset => Ending::Reset,
            Fault::Silent => pending().await,
            Fault::Html => Ending::answer(200, "text/html", "<html></html>"),
            Fault::CutShort => match self.service.answer(request).await {
                Ending::Answer(response) => Ending::CutShort(response),
                other => other,
            },
        }
    }
}

impl<S> Deref for Faulty<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.service
    }
}

fn error(status: u16, code: &str) -> Ending {
    Ending::aws(status, &json!({ "__type": code, "message": "Answered by a script." }))
}
