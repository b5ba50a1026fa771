//! A Lambda Runtime API for tests that run the real binary, and the process of such a binary.
//! It does not know what the function does: it hands events over and takes answers back.
//!
//! It follows <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>. Like Lambda, it gives up on the
//! invocations of a function that ends; unlike Lambda, it never starts one by itself.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::connections::{Connections, Ending};

/// The version of the Runtime API, as every path starts with it.
const VERSION: &str = "/2018-06-01/runtime/";

/// The function's name, in its environment and in its ARN.
const FUNCTION_NAME: &str = "relay";

/// The ARN that every invocation carries.
const FUNCTION_ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:relay";

/// The timeout that the deadline of an invocation is made of.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(9);

/// How long a test waits for anything. Far beyond every timeout of the function, so that only a hang is cut off.
const PATIENCE: Duration = Duration::from_mins(1);

/// A Lambda Runtime API on a port of its own. Clones are the same server.
#[derive(Clone)]
pub struct RuntimeApi(Arc<State>);

struct State {
    address: SocketAddr,
    queue: mpsc::UnboundedSender<Invocation>,
    queued: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    /// Those without an answer, queued or under way, by request id.
    unanswered: Mutex<HashMap<String, oneshot::Sender<Result<Value, Value>>>>,
    phase: watch::Sender<Phase>,
    init_error: Mutex<Option<Value>>,
}

struct Invocation {
    request_id: String,
    event: String,
}

/// How far the function has come.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Starting,
    /// It has asked for an event.
    Ready,
    Ended,
}

impl RuntimeApi {
    /// Starts the server on a free port of the loopback interface.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (queue, queued) = mpsc::unbounded_channel();
        let api = Self(Arc::new(State {
            address: listener.local_addr().expect("a bound address"),
            queue,
            queued: tokio::sync::Mutex::new(queued),
            unanswered: Mutex::default(),
            phase: watch::Sender::new(Phase::Starting),
            init_error: Mutex::default(),
        }));
        let server = api.clone();
        tokio::spawn(async move {
            Connections::new()
                .serve_listener(listener, move |request| server.clone().answer(request))
                .await;
        });
        api
    }

    /// Host and port, the value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.0.address.to_string()
    }

    /// Queues an event and resolves with the function's response, or with the error that it reports.
    ///
    /// A [`Value`] is sent as its JSON, a text as it stands. An invocation whose function ends is the error
    /// `Runtime.ExitError`, as it is for Lambda's callers.
    pub async fn invoke(&self, event: impl Display) -> Result<Value, Value> {
        let request_id = next_request_id();
        let (sender, answer) = oneshot::channel();
        {
            let mut unanswered = self.0.unanswered.lock().unwrap();
            if *self.0.phase.borrow() == Phase::Ended {
                return Err(exit_error());
            }
            unanswered.insert(request_id.clone(), sender);
        }
        let invocation = Invocation {
            request_id,
            event: event.to_string(),
        };
        self.0.queue.send(invocation).expect("a receiver");
        patiently("an answer of the function", answer)
            .await
            .expect("a sender is used, never dropped")
    }

    /// Resolves when the function asks for its first event.
    ///
    /// # Panics
    /// When the function ends before.
    pub async fn wait_until_ready(&self) {
        let mut phase = self.0.phase.subscribe();
        let reached = patiently(
            "the first event to be asked for",
            phase.wait_for(|phase| *phase != Phase::Starting),
        )
        .await
        .map(|phase| *phase);
        assert!(
            reached.is_ok_and(|phase| phase == Phase::Ready),
            "the function ended before it asked for an event; init error: {:?}",
            self.init_error(),
        );
    }

    /// What the function reported to `/init/error`, if anything.
    pub fn init_error(&self) -> Option<Value> {
        self.0.init_error.lock().unwrap().clone()
    }

    async fn answer(self, request: Request<Bytes>) -> Ending {
        let path = request.uri().path().strip_prefix(VERSION);
        let path: Vec<&str> = path.unwrap_or_default().split('/').collect();
        match (request.method(), path.as_slice()) {
            (&Method::GET, ["invocation", "next"]) => self.next().await,
            (&Method::POST, ["invocation", request_id, "response"]) => {
                self.settle(request_id, Ok(json_or_text(request.body())))
            }
            (&Method::POST, ["invocation", request_id, "error"]) => {
                self.settle(request_id, Err(json_or_text(request.body())))
            }
            (&Method::POST, ["init", "error"]) => {
                *self.0.init_error.lock().unwrap() = Some(json_or_text(request.body()));
                accepted()
            }
            _ => refusal(404, "NotFound"),
        }
    }

    /// Waits for an event and hands it over.
    async fn next(&self) -> Ending {
        self.0.phase.send_replace(Phase::Ready);
        let mut queued = self.0.queued.lock().await;
        loop {
            let invocation = queued.recv().await.expect("self holds a sender");
            let unanswered = self.0.unanswered.lock().unwrap();
            // An invocation may have failed with the function that was there before.
            if unanswered.contains_key(&invocation.request_id) {
                return handed_over(&invocation);
            }
        }
    }

    fn settle(&self, request_id: &str, answer: Result<Value, Value>) -> Ending {
        let sender = self.0.unanswered.lock().unwrap().remove(request_id);
        let Some(sender) = sender else {
            return refusal(400, "InvalidRequestID");
        };
        // The test may have stopped waiting.
        let _ = sender.send(answer);
        accepted()
    }

    /// Fails every invocation that the ended function can no longer answer.
    fn function_ended(&self) {
        let mut unanswered = self.0.unanswered.lock().unwrap();
        self.0.phase.send_replace(Phase::Ended);
        for (_, sender) in unanswered.drain() {
            let _ = sender.send(Err(exit_error()));
        }
    }
}

/// The process of a function, killed on drop.
pub struct Function {
    pid: u32,
    log: watch::Receiver<Vec<String>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// The task that owns the process: the process dies with it.
    keeper: AbortHandle,
}

impl Function {
    /// Starts `binary` as Lambda does, with nothing in its environment but Lambda's own variables and `env`,
    /// which wins over them. The function before it has ended or been dropped: an API serves one at a time.
    pub fn spawn(binary: impl AsRef<Path>, api: &RuntimeApi, env: &[(&str, &str)]) -> Self {
        let mut child = Command::new(binary.as_ref())
            .env_clear()
            .env("AWS_LAMBDA_FUNCTION_NAME", FUNCTION_NAME)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_RUNTIME_API", api.address())
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{} starts: {error}", binary.as_ref().display()));
        api.0.phase.send_replace(Phase::Starting);

        let pid = child.id().expect("a process that was not waited for");
        let stdout = child.stdout.take().expect("a piped stdout");
        let stderr = child.stderr.take().expect("a piped stderr");
        let (lines, log) = watch::channel(Vec::new());
        let (exited, exit) = watch::channel(None);
        let api = api.clone();
        let keeper = tokio::spawn(async move {
            // Every line is in the log before the exit is told.
            let (status, (), ()) = tokio::join!(
                child.wait(),
                collect(stdout, &lines),
                collect(stderr, &lines)
            );
            // Whoever sees the exit may start the next function, so the API hears of it first.
            api.function_ended();
            exited.send_replace(Some(status.expect("a process that can be waited for")));
        });
        Self {
            pid,
            log,
            exit,
            keeper: keeper.abort_handle(),
        }
    }

    /// The lines on stdout and stderr so far. Each stream is in order; their mixture is approximate.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Resolves with the first line, past or future, that the predicate accepts.
    ///
    /// # Panics
    /// When the function ends without such a line.
    pub async fn wait_for_log(&self, predicate: impl Fn(&str) -> bool) -> String {
        let find = |lines: &Vec<String>| lines.iter().find(|line| predicate(line)).cloned();
        let mut log = self.log.clone();
        let found = patiently("a line in the log", log.wait_for(|log| find(log).is_some())).await;
        match found.ok().and_then(|lines| find(&lines)) {
            Some(line) => line,
            None => panic!(
                "the function ended without the line; log: {:#?}",
                self.log()
            ),
        }
    }

    /// Resolves when the process has ended, by itself or by a signal, and its last line is in the log.
    pub async fn wait_for_exit(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let exit = patiently("the process to end", exit.wait_for(Option::is_some))
            .await
            .expect("a keeper that tells the exit");
        exit.expect("an exit status")
    }

    /// Stops the process as Lambda freezes an environment between invocations.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Ends the process as Lambda ends an environment: invocations under way fail with `Runtime.ExitError`.
    pub fn kill(&self) {
        self.signal("KILL");
    }

    fn signal(&self, name: &str) {
        // The system may have given the id of a process that has ended to another one.
        assert!(self.exit.borrow().is_none(), "the function has ended");
        // The shell's own `kill` needs no package.
        let status = std::process::Command::new("sh")
            .args(["-c", &format!("kill -s {name} {}", self.pid)])
            .status()
            .expect("a shell");
        assert!(status.success(), "SIG{name} was sent");
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Adds what the stream says to the log, line by line, until it ends.
async fn collect(stream: impl AsyncRead + Unpin, log: &watch::Sender<Vec<String>>) {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        log.send_modify(|log| log.push(String::from_utf8_lossy(&line).into_owned()));
    }
}

/// Awaits, but turns a hang into a failed test.
async fn patiently<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// An id in Lambda's form, unlike all others of this test process.
fn next_request_id() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// The answer to `/invocation/next`.
fn handed_over(invocation: &Invocation) -> Ending {
    let request_id = &invocation.request_id;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let deadline = now.expect("a clock after 1970") + FUNCTION_TIMEOUT;
    let unique = request_id.replace('-', "");
    let trace_id = format!("Root=1-67f1a2b3-{};Sampled=0", &unique[8..]);
    let mut ending = Ending::answer(200, "application/json", invocation.event.clone());
    if let Ending::Answer(response) = &mut ending {
        for (name, value) in [
            ("lambda-runtime-aws-request-id", request_id.clone()),
            (
                "lambda-runtime-deadline-ms",
                deadline.as_millis().to_string(),
            ),
            (
                "lambda-runtime-invoked-function-arn",
                FUNCTION_ARN.to_owned(),
            ),
            ("lambda-runtime-trace-id", trace_id),
        ] {
            let value = value.parse().expect("a header value");
            response.headers_mut().insert(name, value);
        }
    }
    ending
}

fn accepted() -> Ending {
    Ending::answer(202, "application/json", r#"{"status":"OK"}"#)
}

fn refusal(status: u16, error_type: &str) -> Ending {
    let body = json!({ "errorType": error_type, "errorMessage": error_type });
    Ending::answer(status, "application/json", body.to_string())
}

/// What Lambda tells a caller whose function ended.
fn exit_error() -> Value {
    json!({
        "errorType": "Runtime.ExitError",
        "errorMessage": "the function ended before it answered",
    })
}

/// A body that is not JSON is a text: Lambda passes on whatever the function returns.
fn json_or_text(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}
