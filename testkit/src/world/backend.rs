//! A team's own backend, which accepts a webhook as Purchasely documents it: signed, by POST, and with any 2xx.
//! It does not know what is in a webhook. How it fails, [`super::faulty`] says.

use super::service::{Ending, Service};
use bytes::Bytes;
use hyper::{HeaderMap, Method, Request};
use purchasely_clevertap::purchasely::signature::SignatureHeaders;
use std::sync::{Arc, Mutex};

/// Clones are the same backend.
#[derive(Clone)]
pub struct Backend {
    shared_secret: Arc<str>,
    received: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl Backend {
    pub fn new(shared_secret: &str) -> Self {
        Self {
            shared_secret: shared_secret.into(),
            received: Arc::default(),
        }
    }

    /// What it accepted, in order.
    pub fn received(&self) -> Vec<Request<Bytes>> {
        self.received.lock().unwrap().clone()
    }

    /// Of any time, because the samples are old.
    fn is_signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let secrets = [&*self.shared_secret].into_iter();
        SignatureHeaders::read(headers)
            .is_ok_and(|headers| headers.verify(secrets, None, 0, body).is_ok())
    }
}

impl Service for Backend {
    async fn answer(self, request: Request<Bytes>) -> Ending {
        if request.method() == Method::HEAD {
            return Ending::answer(404, "text/plain", "");
        }
        if request.method() != Method::POST || !self.is_signed(request.headers(), request.body()) {
            return Ending::answer(401, "text/plain", "not from Purchasely");
        }
        self.received.lock().unwrap().push(request);
        Ending::answer(200, "application/json", "{}")
    }
}
