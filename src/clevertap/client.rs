//! One attempt to upload: the only code that sends the passcode anywhere.
//!
//! It does not know whether an attempt may be repeated; the relay decides that.

use super::answer::{self, Answer};
use http::header::{CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// An answer longer than this is not read on. CleverTap echoes each refused record, and a record of
/// ours is at most about 64 KB.
const LONGEST_ANSWER: usize = 2 * 1024 * 1024;
/// How long the first upload waits for the connection begun at start-up before it opens another: it is
/// worth no more than a handshake, and if the environment was frozen meanwhile, it never comes.
const WARMING: Duration = Duration::from_millis(20);

/// Uploads to one address.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base_url: String,
    upload_url: String,
    /// The request that opens the first connection, until an upload has waited for it.
    warming: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Whose upload it is.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'c> {
    /// The account id.
    pub account_id: &'c HeaderValue,
    /// One of the account's passcodes.
    pub passcode: &'c SecretString,
}

/// What became of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// CleverTap answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// What it means.
        answer: Answer,
    },
    /// No connection: nothing was sent.
    NotConnected,
    /// The connection was closed or reset before an answer: CleverTap may have the records.
    ConnectionLost,
    /// No answer in time: CleverTap may have the records.
    TimedOut,
}

impl Client {
    /// `base_url` is the region's `https://` host, or the override; it has no path and no final slash.
    #[must_use]
    pub fn new(http: reqwest::Client, base_url: String) -> Self {
        let upload_url = format!("{base_url}/1/upload");
        Self {
            http,
            base_url,
            upload_url,
            warming: Arc::default(),
        }
    }

    /// The same, but CleverTap only checks what it is sent and stores nothing.
    #[must_use]
    pub fn dry(mut self) -> Self {
        self.upload_url.push_str("?dryRun=1");
        self
    }

    /// Begins to open a connection, for the first upload. Failing changes nothing: an upload opens its own.
    pub fn warm_up(&self) {
        let request = self.http.head(&self.base_url).send();
        let warming = tokio::spawn(async move {
            let _ = request.await;
        });
        *self.warming() = Some(warming);
    }

    /// Sends one upload of `records` records and reads its answer.
    pub async fn upload(
        &self,
        credentials: Credentials<'_>,
        body: Vec<u8>,
        records: usize,
        deadline: Instant,
    ) -> Attempt {
        let attempt = async {
            self.warmed_up().await;
            self.send(credentials, body, records).await
        };
        timeout_at(deadline, attempt)
            .await
            .unwrap_or(Attempt::TimedOut)
    }

    /// The first upload does not open a second connection beside the one that is about to be there.
    async fn warmed_up(&self) {
        let warming = self.warming().take();
        if let Some(warming) = warming {
            let _ = timeout(WARMING, warming).await;
        }
    }

    fn warming(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.warming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, credentials: Credentials<'_>, body: Vec<u8>, records: usize) -> Attempt {
        // The secret's shape was checked when it was read, so this cannot fail; if it ever does,
        // CleverTap's 401 says so better than a panic.
        let mut passcode = HeaderValue::from_str(credentials.passcode.expose_secret())
            .unwrap_or(HeaderValue::from_static(""));
        passcode.set_sensitive(true);
        let sent = self
            .http
            .post(&self.upload_url)
            .header("X-CleverTap-Account-Id", credentials.account_id)
            .header("X-CleverTap-Passcode", passcode)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body)
            .send()
            .await;
        let mut response = match sent {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Attempt::NotConnected,
            Err(_) => return Attempt::ConnectionLost,
        };
        let status = response.status().as_u16();
        let mut answered = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if answered.len() + chunk.len() <= LONGEST_ANSWER => {
                    answered.extend_from_slice(&chunk);
                }
                Ok(None) => break,
                // Cut short or endless. Its status is known all the same, and only a 200 needs the body.
                Ok(Some(_)) | Err(_) => {
                    answered.clear();
                    break;
                }
            }
        }
        Attempt::Answered {
            status,
            answer: answer::read(status, &answered, records),
        }
    }
}
