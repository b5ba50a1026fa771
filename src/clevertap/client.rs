//! One attempt to upload: the only code that sends the passcode anywhere.
//!
//! It does not know whether an attempt may be repeated; the uploader decides that.

use super::Role;
use super::response::{self, Response};
use crate::http::{NoResponse, SharedHttp, WarmUp};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::uri::{InvalidUri, Uri};
use http::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};

const ACCOUNT_ID: HeaderName = HeaderName::from_static("x-clevertap-account-id");
const PASSCODE: HeaderName = HeaderName::from_static("x-clevertap-passcode");
/// CleverTap echoes each refused record, and a record of ours has at most about 64 KB.
const MAX_RESPONSE_BYTES: usize = 2 * 1024 * 1024;

/// Uploads to one host.
#[derive(Debug, Clone)]
pub struct Client {
    http: SharedHttp,
    base_url: Uri,
    upload_url: Uri,
    warm_up: WarmUp,
}

/// The account to upload to.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'c> {
    pub account_id: &'c HeaderValue,
    pub passcode: &'c SecretString,
}

/// The result of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Answered {
        /// The HTTP status.
        status: u16,
        response: Response,
    },
    /// Nothing was sent.
    NotConnected,
    /// The connection was closed or reset before an answer: CleverTap may have the records.
    ConnectionLost,
    /// CleverTap may have the records.
    TimedOut,
}

impl Client {
    /// `base_url` has a scheme and a host, no path and no final slash. With `dry_run` CleverTap checks the
    /// records and stores nothing.
    pub fn new(http: SharedHttp, base_url: &str, dry_run: bool) -> Result<Self, InvalidUri> {
        let query = if dry_run { "?dryRun=1" } else { "" };
        Ok(Self {
            http,
            base_url: base_url.parse()?,
            upload_url: format!("{base_url}/1/upload{query}").parse()?,
            warm_up: WarmUp::default(),
        })
    }

    /// Starts to open a connection for the first upload.
    pub fn warm_up(&self) {
        self.warm_up.connect(&self.http, &self.base_url);
    }

    /// Sends one upload of records with these roles and reads the answer, until `deadline`.
    pub async fn upload(
        &self,
        credentials: Credentials<'_>,
        body: Vec<u8>,
        roles: &[Role],
        deadline: Instant,
    ) -> Attempt {
        let attempt = async {
            self.warm_up.wait().await;
            self.send(credentials, body, roles).await
        };
        timeout_at(deadline, attempt).await.unwrap_or(Attempt::TimedOut)
    }

    async fn send(&self, credentials: Credentials<'_>, body: Vec<u8>, roles: &[Role]) -> Attempt {
        // The secret was validated when it was read. Should this fail, CleverTap's 401 says so.
        let mut passcode = HeaderValue::from_str(credentials.passcode.expose_secret())
            .unwrap_or(HeaderValue::from_static(""));
        passcode.set_sensitive(true);
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(&self.upload_url);
        let headers = request.headers_mut();
        headers.insert(ACCOUNT_ID, credentials.account_id.clone());
        headers.insert(PASSCODE, passcode);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        let answer = match self.http.0.exchange(request, MAX_RESPONSE_BYTES).await {
            Ok(answer) => answer,
            Err(NoResponse::NotConnected) => return Attempt::NotConnected,
            Err(NoResponse::Lost | NoResponse::Unsendable) => return Attempt::ConnectionLost,
        };
        let status = answer.status().as_u16();
        let body = answer.into_body();
        Attempt::Answered {
            status,
            response: response::read(status, body.as_deref(), roles),
        }
    }
}
