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
use tokio::time::timeout;

/// Longer than it takes to compile the function, and than the function keeps a secret that was refused.
const PATIENCE: Duration = Duration::from_mins(5);

/// A running `cargo relay dev`. A drop asks it to end, because it has processes of its own to end.
pub struct Dev {
    relay: Child,
    pub origin: String,
    http: Client,
    events: Events,
}

/// The server-sent events of the page.
struct Events {
    response: Response,
    text: String,
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
        let (http, origin) = (plain_client(), format!("http://127.0.0.1:{page_port}"));
        let url = format!("{origin}/api/events");
        let response = timeout(PATIENCE, async {
            loop {
                if let Ok(response) = http.get(&url).send().await {
                    return response;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let response = response.await.expect("the page is served in time");
        let mut dev = Self {
            relay,
            origin,
            http,
            events: Events { response, text: String::new() },
        };
        if dev.get("/api/state").await["is_function_ready"] != true {
            dev.events.wait_for("ready", |_| true).await;
        }
        dev
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self.http.get(format!("{}{path}", self.origin)).send().await;
        json_of(response.expect("an answer"), StatusCode::OK).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let response = self.request(path, &body, &[]).await;
        let expected = match path {
            _ if path.ends_with("send") => StatusCode::ACCEPTED,
            _ => StatusCode::OK,
        };
        json_of(response, expected).await
    }

    async fn request(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Response {
        let mut request = self.http.post(format!("{}{path}", self.origin)).body(body.to_string());
        if headers.iter().all(|(name, _)| *name != "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer")
    }

    /// Sends an event of this user as Purchasely does, and returns its delivery's id.
    async fn send(&self, user: &str) -> u64 {
        let body = sample().replace("u-1842", user);
        let answer = self.post("/api/send", json!({ "body": body, "new_id": true })).await;
        answer["id"].as_u64().expect("an id")
    }

    /// The delivery's summary once it is in this state.
    async fn wait_for(&mut self, id: u64, state: &str) -> Value {
        let is_it = |summary: &Value| summary["id"] == id && summary["state"] == state;
        self.events.wait_for("delivery", is_it).await
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

impl Events {
    async fn wait_for(&mut self, event: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let search = async {
            loop {
                while let Some((message, rest)) = self.text.split_once("\n\n") {
                    let line =
                        |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
                    let data = line("data: ").map(|data| serde_json::from_str(data).expect("JSON"));
                    let found = data.filter(|data| line("event: ") == Some(event) && is_it(data));
                    self.text = rest.to_owned();
                    if let Some(found) = found {
                        return found;
                    }
                }
                let chunk = self.response.chunk().await.expect("a stream").expect("no end");
                self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            }
        };
        timeout(PATIENCE, search)
            .await
            .unwrap_or_else(|_| panic!("no such {event} in time"))
    }
}

fn sample() -> String {
    let path = repository().join("events/TRIAL_STARTED.json");
    std::fs::read_to_string(path).expect("a sample")
}

async fn json_of(response: Response, expected: StatusCode) -> Value {
    let (status, text) = (response.status(), response.text().await.expect("a body"));
    assert_eq!(status, expected, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn the_api_tells_what_becomes_of_each_webhook() {
    let mut dev = Dev::start(&[]).await;
    a_webhook_has_its_upload_and_its_explanation(&mut dev).await;
    other_sites_are_refused(&dev).await;
    dev.post("/api/speed", json!({ "speed": 3600 })).await;
    a_fault_blocks_the_users_next_event_until_it_is_over(&mut dev).await;
    a_silent_clevertap_is_given_up(&mut dev).await;
    a_changed_passcode_recovers(&mut dev).await;
    dev.post("/api/clear", json!({})).await;
    dev.events.wait_for("reset", |_| true).await;
    let printed = dev.end().await;
    assert_eq!(printed[0]["event"], "TRIAL_STARTED");
    assert!(printed.iter().all(|summary| summary["state"] == "done"), "{printed:?}");
}

async fn a_webhook_has_its_upload_and_its_explanation(dev: &mut Dev) {
    let id = dev.send("u-1842").await;
    dev.wait_for(id, "done").await;
    let delivery = dev.get(&format!("/api/deliveries/{id}")).await;
    let upload = &delivery["uploads_made"][0];
    assert_eq!(
        (&upload["status"], &upload["body"]),
        (&json!(200), &delivery["explanation"]["upload"])
    );
    assert!(delivery["curl"].as_str().expect("a command").contains("x-purchasely-"));
}

async fn other_sites_are_refused(dev: &Dev) {
    let send = json!({ "body": sample() });
    for header in [
        ("host", "rebound.example"),
        ("origin", "https://other.example"),
        ("content-type", "text/plain"),
    ] {
        let refused = dev.request("/api/send", &send, &[header]).await;
        let refused = json_of(refused, StatusCode::FORBIDDEN).await;
        assert!(refused["error"].is_string(), "{header:?}");
    }
    let page = dev.http.get(&dev.origin).header("host", "rebound.example").send().await;
    assert_eq!(page.expect("an answer").status(), StatusCode::FORBIDDEN);
    let page = dev.http.get(&dev.origin).send().await.expect("an answer");
    assert!(page.headers().contains_key("content-security-policy"));
}

async fn a_fault_blocks_the_users_next_event_until_it_is_over(dev: &mut Dev) {
    // One webhook uploads up to four times after a 429.
    dev.post("/api/fault", json!({ "id": "429", "times": 8 })).await;
    let first = dev.send("u-blocked").await;
    let second = dev.send("u-blocked").await;
    dev.wait_for(second, "blocked").await;
    let (first_done, second_done) =
        (dev.wait_for(first, "done").await, dev.wait_for(second, "done").await);
    assert_eq!([&first_done["attempts"], &first_done["uploads"]], [3, 9]);
    assert_eq!(second_done["attempts"], 1);
    let delivery = dev.get(&format!("/api/deliveries/{first}")).await;
    let attempts = delivery["attempts_made"].as_array().expect("a list");
    let statuses: Vec<_> = attempts.iter().map(|attempt| &attempt["status"]).collect();
    assert_eq!(statuses, [503, 503, 200]);
    let user = dev.get("/api/users/u-blocked").await;
    let events = user["events"].as_array().expect("a list").iter();
    let ids: Vec<_> = events.map(|event| &event["properties"]["event_id"]).collect();
    assert_eq!(ids, [&first_done["event_id"], &second_done["event_id"]]);
    assert_eq!(user["profile"]["plan"], "monthly");
}

async fn a_silent_clevertap_is_given_up(dev: &mut Dev) {
    dev.post("/api/fault", json!({ "id": "silent", "times": 0 })).await;
    let id = dev.send("u-silent").await;
    let failed = |summary: &Value| summary["id"] == id && summary["status"] == 503;
    dev.events.wait_for("delivery", failed).await;
    dev.post("/api/fault", json!({ "id": null })).await;
    dev.wait_for(id, "done").await;
}

async fn a_changed_passcode_recovers(dev: &mut Dev) {
    assert_eq!(dev.post("/api/passcode", json!({})).await["secret_in_ms"], 5000);
    let id = dev.send("u-passcode").await;
    let relayed = dev.wait_for(id, "done").await;
    assert!(relayed["attempts"].as_u64() > Some(1), "{relayed}");
    let delivery = dev.get(&format!("/api/deliveries/{id}")).await;
    assert_eq!(delivery["uploads_made"][0]["status"], 401);
}

#[tokio::test]
async fn a_queued_webhook_is_relayed_once_clevertap_has_it() {
    let mut dev = Dev::start(&["--delivery", "queue"]).await;
    let id = dev.send("u-queued").await;
    let is_queued = |summary: &Value| summary["outcome"] == "queued";
    dev.events.wait_for("delivery", is_queued).await;
    let is_relayed = |summary: &Value| summary["outcome"] == "relayed";
    let relayed = dev.events.wait_for("delivery", is_relayed).await;
    assert_eq!([&relayed["attempts"], &relayed["uploads"]], [1, 1]);
    let printed = dev.end().await;
    assert_eq!((printed.len(), &printed[0]["id"]), (1, &json!(id)));
}
