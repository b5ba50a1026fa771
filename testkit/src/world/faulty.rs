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

/// How a request fails. In the last three cases the service has done what it was called for.
#[derive(Clone, Debug)]
pub enum Fault {
    /// An error of the service.
    Error {
        status: u16,
        code: &'static str,
    },
    Closed,
    Reset,
    Silent,
    /// 200 with a page instead of JSON.
    Html,
    DoneThenStatus(u16),
    DoneThenClosed,
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
        Self { service, scripts: Arc::default() }
    }
}

impl<S> Faulty<S> {
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
        let fault = self.fault(&request);
        match fault {
            Some(Fault::Error { status, code }) => return error(status, code),
            Some(Fault::Closed) => return Ending::Close,
            Some(Fault::Reset) => return Ending::Reset,
            Some(Fault::Silent) => return pending().await,
            Some(Fault::Html) => return Ending::answer(200, "text/html", "<html></html>"),
            _ => {}
        }
        let ending = self.service.answer(request).await;
        match fault {
            Some(Fault::DoneThenStatus(status)) => error(status, "InternalServerError"),
            Some(Fault::DoneThenClosed) => Ending::Close,
            Some(Fault::CutShort) => ending.cut_short(),
            _ => ending,
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
