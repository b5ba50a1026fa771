//! What a service is: request in, answer out, or another end of the connection.
//! It does not know any service.

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode};

/// What answers requests. Clones are the same service.
pub trait Service: Clone + Send + Sync + 'static {
    fn answer(self, request: Request<Bytes>) -> impl Future<Output = Ending> + Send;
}

/// How a request ends, and the connection that it came on.
#[derive(Clone, Debug)]
pub enum Ending {
    Answer(Response<Bytes>),
    /// The same, but the connection closes before the last byte of the body.
    CutShort(Response<Bytes>),
    /// The connection closes in the orderly way, without an answer.
    Close,
    /// The peer sees a TCP reset.
    Reset,
}

impl Ending {
    /// # Panics
    /// When `status` is not an HTTP status, which is a mistake in the test.
    pub fn answer(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(body.into());
        *response.status_mut() = StatusCode::from_u16(status).expect("an HTTP status");
        Self::Answer(response).with_header(CONTENT_TYPE.as_str(), content_type)
    }

    /// An answer in AWS's JSON 1.0, as SQS and DynamoDB give it.
    pub fn aws(status: u16, body: &serde_json::Value) -> Self {
        Self::answer(status, "application/x-amz-json-1.0", body.to_string())
    }

    /// A header more, on an answer.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer(response) = &mut self {
            let value = value.parse().expect("a header value");
            response.headers_mut().insert(name, value);
        }
        self
    }

    /// An answer becomes one that is cut short.
    #[must_use]
    pub fn cut_short(self) -> Self {
        match self {
            Self::Answer(response) => Self::CutShort(response),
            other => other,
        }
    }
}

impl<H, F> Service for H
where
    H: Fn(Request<Bytes>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Ending> + Send,
{
    fn answer(self, request: Request<Bytes>) -> impl Future<Output = Ending> + Send {
        self(request)
    }
}

/// The operation of a request to AWS, such as `AmazonSQS.SendMessage`.
pub fn operation(request: &Request<Bytes>) -> &str {
    let target = request.headers().get("x-amz-target");
    target.and_then(|target| target.to_str().ok()).unwrap_or_default()
}
