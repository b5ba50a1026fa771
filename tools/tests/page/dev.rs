//! `cargo relay dev` as people run it: the real function under `cargo lambda watch`, the page's API, and its output.
//! It does not know how the page looks.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;
use testkit::process::{built, cargo_variables, free_port, plain_client, repository, tool};
use tokio::process::{Child, Command};

/// Longer than the function keeps a secret that was refused.
const PATIENCE: Duration = Duration::from_mins(5);

/// A running `cargo relay dev`. A drop asks it to end, because it has processes of its own to end.
pub struct Dev {
    relay: Child,
    pub origin: String,
    http: Client,
}

impl Dev {
    pub async fn start(options: &[&str]) -> Self {
        let page_port = free_port().await.to_string();
        let mut command = Command::new(built("examples/relay"));
        for name in cargo_variables() {
            command.env_remove(name);
        }
        command.args(["dev", "--json", "--page-port", &page_port, "--function-port", "0"]);
        command
            .args(["--clevertap-port", "0", "--secrets-manager-port", "0"])
            .args(options);
        command.env("CARGO_LAMBDA", tool("CARGO_LAMBDA", "cargo-lambda"));
        let command =
            command.current_dir(repository()).stdout(Stdio::piped()).stderr(Stdio::null());
        let relay = command.spawn().expect("the tool starts");
        let origin = format!("http://127.0.0.1:{page_port}");
        let dev = Self { relay, origin, http: plain_client() };
        dev.wait_for("/api/state", |state| state["is_function_ready"] == true).await;
        dev
    }

    /// What the path returns once it is this.
    async fn wait_for(&self, path: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let url = format!("{}{path}", self.origin);
        let search = async {
            loop {
                if let Ok(response) = self.http.get(&url).send().await {
                    let found = json_of(response).await;
                    if is_it(&found) {
                        return found;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, search).await;
        found.unwrap_or_else(|_| panic!("not in time: {path}"))
    }

    pub async fn get(&self, path: &str) -> Value {
        self.wait_for(path, |_| true).await
    }

    /// The delivery once it is this.
    async fn delivery(&self, id: u64, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(&format!("/api/deliveries/{id}"), is_it).await
    }

    async fn done(&self, id: u64) -> Value {
        self.delivery(id, |delivery| delivery["state"] == "done").await
    }

    async fn post(&self, path: &str, body: Value, header: (&str, &str)) -> (StatusCode, Value) {
        let request = self.http.post(format!("{}{path}", self.origin)).body(body.to_string());
        let headers = [("content-type", "application/json")].into_iter();
        let headers = headers.filter(|(name, _)| *name != header.0).chain([header]);
        let request = headers.fold(request, |request, (name, value)| request.header(name, value));
        let response = request.send().await.expect("an answer");
        (response.status(), json_of(response).await)
    }

    async fn act(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body, ("accept", "*/*")).await;
        assert!(status.is_success(), "{answer}");
        answer
    }

    /// Sends an event of this user as Purchasely does, and returns its delivery's id.
    async fn send(&self, user: &str) -> u64 {
        let body = sample().replace("u-1842", user);
        let answer = self.act("/api/send", json!({ "body": body, "new_id": true })).await;
        answer["id"].as_u64().expect("an id")
    }

    /// What it printed, after Ctrl-C.
    async fn end(mut self) -> Vec<Value> {
        self.signal(Signal::SIGINT);
        let mut stdout = self.relay.stdout.take().expect("a piped output");
        let mut output = String::new();
        let reading = tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut output);
        reading.await.expect("UTF-8");
        let status = self.relay.wait().await.expect("an end");
        assert_eq!(status.code(), Some(0));
        output
            .lines()
            .map(|line| serde_json::from_str(line).expect("only JSON"))
            .collect()
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.relay.id() {
            let id = Pid::from_raw(i32::try_from(id).expect("a process id"));
            let _ = kill(id, signal);
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
    }
}

fn sample() -> String {
    let path = repository().join("events/TRIAL_STARTED.json");
    std::fs::read_to_string(path).expect("a sample")
}

async fn json_of(response: Response) -> Value {
    serde_json::from_str(&response.text().await.expect("a body")).expect("JSON")
}

fn statuses(made: &Value) -> Vec<&Value> {
    made.as_array().expect("a list").iter().map(|made| &made["status"]).collect()
}

#[tokio::test]
async fn the_api_tells_what_becomes_of_each_webhook() {
    let dev = Dev::start(&["--backend"]).await;
    let delivery = dev.done(dev.send("u-1842").await).await;
    assert_eq!(statuses(&delivery["forwards_made"]), [200]);
    assert_eq!(statuses(&delivery["uploads_made"]), [200]);
    assert_eq!(delivery["uploads_made"][0]["body"], delivery["explanation"]["upload"]);
    assert!(delivery["curl"].as_str().expect("a command").contains("x-purchasely-"));

    other_sites_are_refused(&dev).await;
    dev.act("/api/speed", json!({ "speed": 3600 })).await;
    a_fault_blocks_the_users_next_event_until_it_is_over(&dev).await;
    a_silent_clevertap_is_given_up(&dev).await;
    a_failing_backend_keeps_an_event_from_clevertap(&dev).await;
    a_changed_passcode_recovers(&dev).await;
    let printed = dev.end().await;
    assert_eq!(printed[0]["event"], "TRIAL_STARTED");
    assert!(printed.iter().all(|summary| summary["state"] == "done"), "{printed:?}");
}

async fn other_sites_are_refused(dev: &Dev) {
    for header in [
        ("host", "rebound.example"),
        ("origin", "https://other.example"),
        ("content-type", "text/plain"),
    ] {
        let (status, answer) = dev.post("/api/send", json!({ "body": sample() }), header).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{header:?}");
        assert!(answer["error"].is_string(), "{header:?}");
    }
    let page = dev.http.get(&dev.origin).header("host", "rebound.example").send().await;
    assert_eq!(page.expect("an answer").status(), StatusCode::FORBIDDEN);
    let page = dev.http.get(&dev.origin).send().await.expect("an answer");
    assert!(page.headers().contains_key("content-security-policy"));
}

async fn a_fault_blocks_the_users_next_event_until_it_is_over(dev: &Dev) {
    // One webhook uploads up to four times after a 429.
    dev.act("/api/fault", json!({ "id": "429", "times": 8 })).await;
    let (first, second) = (dev.send("u-blocked").await, dev.send("u-blocked").await);
    dev.delivery(second, |second| second["state"] == "blocked").await;
    let (first, second) = (dev.done(first).await, dev.done(second).await);
    assert_eq!(statuses(&first["attempts_made"]), [503, 503, 200]);
    assert_eq!([&first["uploads"], &second["attempts"]], [9, 1]);
    let user = dev.get("/api/users/u-blocked").await;
    let events = user["events"].as_array().expect("a list").iter();
    let ids: Vec<_> = events.map(|event| &event["properties"]["event_id"]).collect();
    assert_eq!(ids, [&first["event_id"], &second["event_id"]]);
    assert_eq!(user["profile"]["plan"], "monthly");
}

async fn a_silent_clevertap_is_given_up(dev: &Dev) {
    dev.act("/api/fault", json!({ "id": "silent", "times": 0 })).await;
    let id = dev.send("u-silent").await;
    dev.delivery(id, |delivery| delivery["attempts_made"][0]["status"] == 503).await;
    dev.act("/api/fault", json!({ "id": null })).await;
    dev.done(id).await;
}

async fn a_changed_passcode_recovers(dev: &Dev) {
    assert_eq!(dev.act("/api/passcode", json!({})).await["secret_in_ms"], 5000);
    let delivery = dev.done(dev.send("u-passcode").await).await;
    assert!(delivery["attempts"].as_u64() > Some(1), "{delivery}");
    assert_eq!(delivery["uploads_made"][0]["status"], 401);
}

async fn a_failing_backend_keeps_an_event_from_clevertap(dev: &Dev) {
    dev.act("/api/fault", json!({ "id": "backend_409", "times": 1 })).await;
    let delivery = dev.done(dev.send("u-backend").await).await;
    assert_eq!(statuses(&delivery["attempts_made"]), [503, 200]);
    assert_eq!(statuses(&delivery["forwards_made"]), [409, 200]);
    assert_eq!(delivery["uploads"], 1);
    dev.act("/api/fault", json!({ "id": "backend_silent", "times": 0 })).await;
    let id = dev.send("u-backend").await;
    dev.delivery(id, |delivery| delivery["attempts_made"][0]["status"] == 503).await;
    dev.act("/api/fault", json!({ "id": null })).await;
    let delivery = dev.done(id).await;
    assert_eq!(
        (&delivery["forwards_made"][0]["status"], &delivery["uploads"]),
        (&json!(null), &json!(1))
    );
}

#[tokio::test]
async fn a_queued_webhook_is_relayed_once_clevertap_has_it() {
    let dev = Dev::start(&["--delivery", "queue"]).await;
    let id = dev.send("u-queued").await;
    let relayed = dev.delivery(id, |delivery| delivery["outcome"] == "relayed").await;
    let answer = relayed["attempts_made"][0]["answer"].as_str().expect("an answer");
    assert!(answer.contains("queued"), "{answer}");
    assert_eq!([&relayed["attempts"], &relayed["uploads"]], [1, 1]);
    let printed = dev.end().await;
    assert_eq!((printed.len(), &printed[0]["id"]), (1, &json!(id)));
}
