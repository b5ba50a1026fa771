//! A stand-in for the team's own backend, which can fail, and notes what it was sent until somebody takes it.
//! It does not know what is in a webhook, nor who sends it.

use bytes::Bytes;
use http::{Method, Request};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use testkit::webhook::SAMPLE_SHARED_SECRET;
use testkit::world::backend::Backend as Accepting;
use testkit::world::{Ending, Service};

/// Clones are the same backend.
#[derive(Clone)]
pub struct Backend {
    accepting: Accepting,
    state: Arc<Mutex<State>>,
}

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Status(u16),
    Close,
    Silent,
}

/// One webhook that it was sent, and its answer.
pub struct Received {
    pub webhook: Bytes,
    pub at: SystemTime,
    /// None if it does not answer.
    pub status: Option<u16>,
    pub answer: String,
}

#[derive(Default)]
struct State {
    next: VecDeque<Fault>,
    /// How it fails afterwards.
    usual: Option<Fault>,
    received: Vec<Received>,
}

impl Default for Backend {
    fn default() -> Self {
        let accepting = Accepting::new(SAMPLE_SHARED_SECRET);
        Self { accepting, state: Arc::default() }
    }
}

impl Backend {
    /// Fails so many times, or, with 0, until the next call. Without a fault it fails no more.
    pub fn fail(&self, fault: Option<Fault>, times: usize) {
        let mut state = self.state.lock().expect("no thread panics");
        state.next =
            fault.into_iter().flat_map(|fault| std::iter::repeat_n(fault, times)).collect();
        state.usual = fault.filter(|_| times == 0);
    }

    /// What it was sent since the last call.
    pub fn take_received(&self) -> Vec<Received> {
        std::mem::take(&mut self.state.lock().expect("no thread panics").received)
    }
}

impl Service for Backend {
    async fn answer(self, request: Request<Bytes>) -> Ending {
        // The function's warm-up opens a connection with it.
        if request.method() == Method::HEAD {
            return self.accepting.answer(request).await;
        }
        let (webhook, at) = (request.body().clone(), SystemTime::now());
        let fault = {
            let mut state = self.state.lock().expect("no thread panics");
            state.next.pop_front().or(state.usual)
        };
        let ending = match fault {
            None => Some(self.accepting.answer(request).await),
            Some(Fault::Status(status)) => {
                Some(Ending::answer(status, "text/plain", "It fails as the page says."))
            }
            Some(Fault::Close) => Some(Ending::Close),
            Some(Fault::Silent) => None,
        };
        let (status, answer) = match &ending {
            Some(Ending::Answer(answer)) => {
                let text = String::from_utf8_lossy(answer.body()).into_owned();
                (Some(answer.status().as_u16()), text)
            }
            Some(_) => (None, "The connection closed before the answer.".to_owned()),
            None => (None, "No answer in time.".to_owned()),
        };
        let received = Received { webhook, at, status, answer };
        self.state.lock().expect("no thread panics").received.push(received);
        match ending {
            Some(ending) => ending,
            None => std::future::pending().await,
        }
    }
}
