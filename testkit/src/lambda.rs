//! A Lambda Runtime API, and the process of a function that polls it.
//! It does not know what the function does: it hands events over and takes answers back.
//!
//! It follows <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>. Like Lambda, it gives up on the
//! invocations of a function that ends or takes too long; unlike Lambda, it never starts or ends one by itself.

use crate::sockets::{Server, listen};
use crate::world::Ending;
use bytes::Bytes;
use hyper::{Method, Request};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

const VERSION: &str = "/2018-06-01/runtime/";
const FUNCTION_ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:relay";
/// The function's timeout, from the moment it gets an event.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(9);
/// How long a test waits for anything. Far beyond every timeout of the function, so that it cuts off only hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// A Lambda Runtime API on a port of its own. Clones are the same server.
#[derive(Clone)]
pub struct RuntimeApi(Arc<State>);

#[derive(Debug)]
pub struct Invocation {
    /// The function's response, or the error that it reported or that Lambda would report for it.
    pub result: Result<Value, Value>,
    pub handed_over_at: Instant,
    pub answered_at: Instant,
}

/// The process of a function, killed on drop.
pub struct Function {
    /// Open as long as the function is there, if the command has it piped.
    pub stdin: Option<ChildStdin>,
    pid: u32,
    log: watch::Receiver<Vec<String>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// The task that owns the process: the process ends with it.
    owner: AbortHandle,
}

struct State {
    address: String,
    queue: mpsc::UnboundedSender<Event>,
    queued: tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>,
    /// Those who wait for an answer, by request id; the event is queued or in progress.
    callers: Mutex<HashMap<String, Caller>>,
    phase: watch::Sender<Phase>,
}

struct Event {
    request_id: String,
    json: String,
}

struct Caller {
    handed_over_at: Option<Instant>,
    answer: oneshot::Sender<Invocation>,
}

/// How far the function has come.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Starting,
    /// It called `next` for the first time at this moment.
    Ready(Instant),
    Ended,
}

impl Invocation {
    /// One that ends now.
    fn new(result: Result<Value, Value>, handed_over_at: Option<Instant>) -> Self {
        let answered_at = Instant::now();
        let handed_over_at = handed_over_at.unwrap_or(answered_at);
        Self { result, handed_over_at, answered_at }
    }
}

impl RuntimeApi {
    pub async fn start() -> Self {
        let (listener, url) = listen().await;
        let (queue, queued) = mpsc::unbounded_channel();
        let api = Self(Arc::new(State {
            address: url.trim_start_matches("http://").to_owned(),
            queue,
            queued: tokio::sync::Mutex::new(queued),
            callers: Mutex::default(),
            phase: watch::Sender::new(Phase::Starting),
        }));
        let server = api.clone();
        Server::start_at(listener, url, move |request| server.clone().answer(request));
        api
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// Queues an event, a JSON text or [`Value`], and resolves with the function's response, or with the error that it
    /// reports. A function that ends is the error `Runtime.ExitError`, and an answer after the function's timeout the
    /// error `Sandbox.Timedout`, as for Lambda's callers.
    pub async fn invoke(&self, event: impl Display) -> Result<Value, Value> {
        self.invoke_timed(event).await.result
    }

    /// The same, with the times between which the function had the event.
    pub async fn invoke_timed(&self, event: impl Display) -> Invocation {
        let request_id = next_request_id();
        let (answer, answered) = oneshot::channel();
        {
            // It is dropped where the function has ended.
            let caller = Caller { handed_over_at: None, answer };
            let mut callers = self.0.callers.lock().unwrap();
            if *self.0.phase.borrow() != Phase::Ended {
                callers.insert(request_id.clone(), caller);
            }
        }
        let _ = self.0.queue.send(Event { request_id, json: event.to_string() });
        let answered = patiently("the function to answer", answered).await;
        // Without a sender nobody is left who could answer.
        answered.unwrap_or_else(|_| Invocation::new(Err(error("Runtime.ExitError")), None))
    }

    /// Resolves when the function first calls `next`, with the time of that.
    pub async fn wait_until_ready(&self) -> Instant {
        let mut phase = self.0.phase.subscribe();
        let started = phase.wait_for(|phase| *phase != Phase::Starting);
        let phase = patiently("the function to call next", started).await;
        match phase.as_deref() {
            Ok(Phase::Ready(at)) => *at,
            _ => panic!("the function ended before it called next"),
        }
    }

    async fn answer(self, request: Request<Bytes>) -> Ending {
        let path = request.uri().path().strip_prefix(VERSION);
        let path: Vec<&str> = path.unwrap_or_default().split('/').collect();
        match (request.method(), path.as_slice()) {
            (&Method::GET, ["invocation", "next"]) => self.next().await,
            (&Method::POST, ["invocation", request_id, "response"]) => {
                self.settle(request_id, Ok, request.body())
            }
            (&Method::POST, ["invocation", request_id, "error"]) => {
                self.settle(request_id, Err, request.body())
            }
            _ => refusal(404, "NotFound"),
        }
    }

    async fn next(&self) -> Ending {
        self.0.phase.send_if_modified(|phase| {
            let is_first = !matches!(phase, Phase::Ready(_));
            if is_first {
                *phase = Phase::Ready(Instant::now());
            }
            is_first
        });
        let mut queued = self.0.queued.lock().await;
        loop {
            let event = queued.recv().await.expect("self has a sender");
            let mut callers = self.0.callers.lock().unwrap();
            // An invocation may have failed with the function that was there before.
            if let Some(caller) = callers.get_mut(&event.request_id) {
                caller.handed_over_at = Some(Instant::now());
                return handed_over(event);
            }
        }
    }

    fn settle(
        &self,
        request_id: &str,
        kind: fn(Value) -> Result<Value, Value>,
        body: &[u8],
    ) -> Ending {
        let Some(caller) = self.0.callers.lock().unwrap().remove(request_id) else {
            return refusal(400, "InvalidRequestID");
        };
        let timed_out = Err(error("Sandbox.Timedout"));
        let mut invocation = Invocation::new(timed_out, caller.handed_over_at);
        if invocation.answered_at < invocation.handed_over_at + FUNCTION_TIMEOUT {
            // A body that is not JSON is a text: Lambda passes on whatever the function returns.
            let text = |_| Value::String(String::from_utf8_lossy(body).into_owned());
            invocation.result = kind(serde_json::from_slice(body).unwrap_or_else(text));
        }
        // The test may have stopped waiting.
        let _ = caller.answer.send(invocation);
        Ending::answer(202, "application/json", r#"{"status":"OK"}"#)
    }

    /// Fails every invocation that the ended function can no longer answer.
    fn function_ended(&self) {
        let mut callers = self.0.callers.lock().unwrap();
        self.0.phase.send_replace(Phase::Ended);
        callers.clear();
    }
}

impl Function {
    /// Starts `binary` as Lambda does, with nothing in its environment but Lambda's own variables and `env`,
    /// which wins over them. The function before it has ended or been dropped, or is another environment that takes
    /// events from the same API and lives as long.
    pub fn spawn(binary: impl AsRef<Path>, api: &RuntimeApi, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary.as_ref());
        command
            .env_clear()
            .env("AWS_LAMBDA_FUNCTION_NAME", "relay")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_RUNTIME_API", api.address())
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "not-a-secret")
            .envs(env.iter().copied())
            .stdin(Stdio::null());
        Self::spawn_command(command, api)
    }

    /// Starts any command that polls `api`, with the environment and the standard input that it says.
    pub fn spawn_command(mut command: Command, api: &RuntimeApi) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        api.0.phase.send_replace(Phase::Starting);
        let spawned = command.spawn();
        let mut child =
            spawned.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));

        let pid = child.id().expect("a process that was not waited for");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("a piped stdout");
        let stderr = child.stderr.take().expect("a piped stderr");
        let (lines, log) = watch::channel(Vec::new());
        let (exited, exit) = watch::channel(None);
        let api = api.clone();
        let owner = tokio::spawn(async move {
            // Every line is in the log before the exit is visible.
            let (status, (), ()) =
                tokio::join!(child.wait(), collect(stdout, &lines), collect(stderr, &lines));
            // Whoever sees the exit may start the next function, so the API is first.
            api.function_ended();
            exited.send_replace(Some(status.expect("a process that can be waited for")));
        });
        Self { stdin, pid, log, exit, owner: owner.abort_handle() }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The lines on stdout and stderr so far. Each stream is in order; their mixture is approximate.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Resolves with the first line, past or future, that the predicate accepts.
    pub async fn wait_for_log(&self, predicate: impl Fn(&str) -> bool) -> String {
        let find = |lines: &Vec<String>| lines.iter().find(|line| predicate(line)).cloned();
        let mut log = self.log.clone();
        let found = patiently("a line in the log", log.wait_for(|log| find(log).is_some())).await;
        match found.ok().and_then(|lines| find(&lines)) {
            Some(line) => line,
            None => panic!("the function ended without the line; log: {:#?}", self.log()),
        }
    }

    /// Resolves when the process has ended, by itself or by a signal, and its last line is in the log.
    pub async fn wait_for_exit(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let exit = patiently("the process to end", exit.wait_for(Option::is_some)).await;
        exit.expect("its owner sends the status").expect("a status")
    }

    /// Stops the process as Lambda freezes an environment between invocations.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Ends the process as Lambda ends an environment: invocations in progress fail with `Runtime.ExitError`.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        // The system may have given the id of a process that has ended to another one.
        if self.exit.borrow().is_none() {
            let pid = i32::try_from(self.pid).expect("a process id");
            kill(Pid::from_raw(pid), signal).expect("the process takes the signal");
        }
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.owner.abort();
    }
}

/// Adds what comes from the stream to the log, line by line, until it ends.
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
fn handed_over(event: Event) -> Ending {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let deadline_ms = (now.expect("a clock after 1970") + FUNCTION_TIMEOUT).as_millis();
    let unique = event.request_id.replace('-', "");
    let trace_id = format!("Root=1-67f1a2b3-{};Sampled=0", &unique[8..]);
    Ending::answer(200, "application/json", event.json)
        .with_header("lambda-runtime-aws-request-id", &event.request_id)
        .with_header("lambda-runtime-deadline-ms", &deadline_ms.to_string())
        .with_header("lambda-runtime-invoked-function-arn", FUNCTION_ARN)
        .with_header("lambda-runtime-trace-id", &trace_id)
}

fn refusal(status: u16, kind: &str) -> Ending {
    Ending::answer(status, "application/json", error(kind).to_string())
}

/// An error in Lambda's form.
fn error(kind: &str) -> Value {
    json!({ "errorType": kind, "errorMessage": kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::plain_client;

    #[tokio::test]
    async fn a_function_that_ends_fails_its_invocation() {
        let api = RuntimeApi::start().await;
        // The test itself polls the API for it.
        let mut command = Command::new("sleep");
        command.arg("600");
        let function = Function::spawn_command(command, &api);
        let ends = async {
            let next = format!("http://{}{VERSION}invocation/next", api.address());
            plain_client().get(next).send().await.unwrap();
            function.kill();
        };
        let (result, ()) = tokio::join!(api.invoke("{}"), ends);
        assert_eq!(result.unwrap_err()["errorType"], "Runtime.ExitError");
        assert_eq!(api.invoke("{}").await.unwrap_err()["errorType"], "Runtime.ExitError");
    }
}
