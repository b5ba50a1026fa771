//! A Lambda Runtime API that hands over one event at a time and notes when.
//! It does not know what the event is or what a good answer looks like.
//!
//! It follows <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use crate::http1::{Connection, Request};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PREFIX: &str = "/2018-06-01/runtime/";
/// The function's timeout.
const TIMEOUT: Duration = Duration::from_secs(9);
/// How long the bench waits for anything: far more than the slowest peer needs under a quota.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a wait looks whether the process is still there.
const GLANCE: Duration = Duration::from_millis(250);

/// The Runtime API of one process.
pub struct RuntimeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked_first_at: Option<Instant>,
    event: Option<Arc<Vec<u8>>>,
    handed_over_at: Option<Instant>,
    answered: Option<(Instant, Result<Vec<u8>, String>)>,
    closed: bool,
}

/// How one invocation went.
pub struct Invocation {
    /// From the moment the event was handed over until the whole answer was there.
    pub took: Duration,
    pub answered_at: Instant,
    pub answer: Vec<u8>,
}

impl RuntimeApi {
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let api = Self {
            address: listener.local_addr()?,
            shared: Arc::default(),
        };
        let shared = Arc::clone(&api.shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.state().closed {
                    break;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    if let Err(error) = shared.serve(stream) {
                        eprintln!("runtime API: {error}");
                    }
                });
            }
        });
        Ok(api)
    }

    /// Host and port: the value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// When the process asked for its first event.
    pub fn asked_first_at(&self) -> Option<Instant> {
        self.shared.state().asked_first_at
    }

    /// Hands an event over, as soon as it is asked for, and waits for the answer as long as `is_alive`.
    pub fn invoke(
        &self,
        event: &Arc<Vec<u8>>,
        mut is_alive: impl FnMut() -> bool,
    ) -> Result<Invocation, String> {
        let began = Instant::now();
        let mut state = self.shared.state();
        state.event = Some(Arc::clone(event));
        self.shared.changed.notify_all();
        loop {
            if let (Some(handed_over_at), Some((answered_at, answer))) =
                (state.handed_over_at, state.answered.take())
            {
                state.handed_over_at = None;
                return Ok(Invocation {
                    took: answered_at - handed_over_at,
                    answered_at,
                    answer: answer?,
                });
            }
            let (next, waited) = self
                .shared
                .changed
                .wait_timeout(state, GLANCE)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            if waited.timed_out() && !is_alive() {
                return Err("it ended before it answered".to_owned());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("no answer within {PATIENCE:?}"));
            }
        }
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts, so that it sees the end.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut connection = Connection::new(stream);
        while let Some(request) = connection.read()? {
            let arrived = Instant::now();
            if request.asks(&format!("GET {PREFIX}invocation/next ")) {
                let Some(event) = self.next(arrived) else {
                    return Ok(());
                };
                let headers = headers_of_an_event();
                self.state().handed_over_at = Some(Instant::now());
                connection.answer("200 OK", &headers, &event)?;
            } else {
                let answer = read_answer(request);
                // The process hears of it first: what the bench does next is not its wait.
                connection.answer(
                    "202 Accepted",
                    "Content-Type: application/json\r\n",
                    br#"{"status":"OK"}"#,
                )?;
                self.state().answered = Some((arrived, answer));
                self.changed.notify_all();
            }
        }
        Ok(())
    }

    /// Waits for the next event; `None` once the API is closed.
    fn next(&self, asked_at: Instant) -> Option<Arc<Vec<u8>>> {
        let mut state = self.state();
        state.asked_first_at.get_or_insert(asked_at);
        loop {
            if state.closed {
                return None;
            }
            if let Some(event) = state.event.take() {
                return Some(event);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn headers_of_an_event() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let deadline_ms = (now.unwrap_or_default() + TIMEOUT).as_millis();
    format!(
        "Content-Type: application/json\r\n\
         Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n\
         Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-west-1:123456789012:function:relay\r\n\
         Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0\r\n"
    )
}

fn read_answer(request: Request) -> Result<Vec<u8>, String> {
    if request.path().ends_with("/response") {
        return Ok(request.body);
    }
    Err(format!(
        "it reported to {}: {}",
        request.path(),
        String::from_utf8_lossy(&request.body)
    ))
}
