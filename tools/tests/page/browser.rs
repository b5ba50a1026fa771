//! Chromium without a window, through the few commands of its driver that the page's test needs.
//! It does not know the page.

use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use testkit::process::{Group, free_port, plain_client};
use tokio::process::Command;

const INSTALL: &str = "`make browser` installs the browser, its driver and axe-core; CHROMIUM, CHROMEDRIVER and AXE are the paths of others";
const PATIENCE: Duration = Duration::from_secs(30);
/// The last one of them keeps every name but this machine's from being resolved.
const ARGUMENTS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // So that the browser ends with its driver.
    "--remote-debugging-pipe",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

pub struct Browser {
    _driver: Group,
    _profile: tempfile::TempDir,
    http: reqwest::Client,
    session: String,
}

impl Browser {
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder for the profile");
        let port = free_port().await;
        let mut command = Command::new(path("CHROMEDRIVER").unwrap_or("chromedriver".into()));
        command
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let driver = Group::spawn(&mut command);
        let driver = driver.unwrap_or_else(|error| panic!("chromedriver: {error}. {INSTALL}"));
        let (http, url) = (plain_client(), format!("http://127.0.0.1:{port}/session"));
        let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let mut options = json!({ "args": arguments });
        if let Some(binary) = path("CHROMIUM") {
            options["binary"] = json!(binary);
        }
        let logs = json!({ "browser": "ALL", "performance": "ALL" });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": logs });
        let wanted = json!({ "capabilities": { "alwaysMatch": wanted } });
        let until = tokio::time::Instant::now() + PATIENCE;
        // The driver takes a moment to listen.
        while http.get(&url).send().await.is_err() {
            assert!(tokio::time::Instant::now() < until, "chromedriver does not listen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let session = post(&http, &url, &wanted).await;
        let session = session.unwrap_or_else(|problem| panic!("{problem}. {INSTALL}"));
        let id = session["sessionId"].as_str().expect("a session");
        Self {
            _driver: driver,
            _profile: profile,
            session: format!("{url}/{id}"),
            http,
        }
    }

    async fn command(&self, path: &str, body: Value) -> Value {
        let answer = post(&self.http, &format!("{}/{path}", self.session), &body).await;
        answer.unwrap_or_else(|problem| panic!("{path} {body:.200}: {problem}"))
    }

    pub async fn open(&self, url: &str) {
        self.command("url", json!({ "url": url })).await;
    }

    /// What a function with this body returns, or what its promise resolves to.
    pub async fn run(&self, script: &str) -> Value {
        self.command("execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// The first value of this expression that is not empty, false or null.
    pub async fn wait_for(&self, expression: &str) -> Value {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let value = self.run(&format!("return {expression}")).await;
            if !matches!(value, Value::Null | Value::Bool(false)) && value != "" {
                return value;
            }
            if tokio::time::Instant::now() > until {
                let shown = self.run("return document.querySelector('main').innerText").await;
                panic!("not in time: {expression}; the page shows: {shown}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Clicks as a person does: what is hidden or covered is an error.
    pub async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.command(&format!("{element}/click"), json!({})).await;
    }

    /// Replaces what a field contains.
    pub async fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.command(&format!("{element}/clear"), json!({})).await;
        self.command(&format!("{element}/value"), json!({ "text": text })).await;
    }

    async fn element(&self, selector: &str) -> String {
        self.wait_for(&format!("document.querySelector({}) !== null", json!(selector)))
            .await;
        let found = json!({ "using": "css selector", "value": selector });
        let found = self.command("element", found).await;
        let id = found.as_object().and_then(|found| found.values().next()?.as_str());
        format!("element/{}", id.expect("an element"))
    }

    /// The size of the page, and `light` or `dark`.
    pub async fn show(&self, width: u32, height: u32, scheme: &str) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        // Without transitions, which a screenshot would catch half-way.
        let media = [("prefers-color-scheme", scheme), ("prefers-reduced-motion", "reduce")];
        let media = media.map(|(name, value)| json!({ "name": name, "value": value }));
        let media = json!({ "features": media });
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    /// A PNG in base64.
    pub async fn screenshot(&self) -> String {
        let image = self.devtools("Page.captureScreenshot", json!({})).await;
        image["data"].as_str().expect("an image").to_owned()
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
            .await
    }

    /// What the page wrote to the console.
    pub async fn console(&self) -> Vec<Value> {
        self.log("browser").await
    }

    /// The address of each request.
    pub async fn requests(&self) -> Vec<String> {
        let event = |entry: &Value| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let sent = event["message"]["method"] == "Network.requestWillBeSent";
            let url = event["message"]["params"]["request"]["url"].as_str();
            url.filter(|_| sent).map(str::to_owned)
        };
        self.log("performance").await.iter().filter_map(event).collect()
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.command("se/log", json!({ "type": kind })).await;
        entries.as_array().expect("a list").clone()
    }
}

/// axe-core, which finds what people with disabilities cannot use.
pub fn axe() -> String {
    let installed = testkit::process::repository().join(".tools/axe.min.js");
    let path = path("AXE").unwrap_or(installed);
    let source = std::fs::read_to_string(&path);
    source.unwrap_or_else(|error| panic!("{}: {error}. {INSTALL}", path.display()))
}

/// An empty variable counts as none.
fn path(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

async fn post(http: &reqwest::Client, url: &str, body: &Value) -> Result<Value, String> {
    let answer = http.post(url).body(body.to_string()).send().await;
    let text = answer.map_err(|error| error.to_string())?.text().await;
    let text = text.map_err(|error| error.to_string())?;
    let mut answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let value = answer["value"].take();
    match value["error"].as_str() {
        Some(error) => Err(format!("{error}: {}", value["message"])),
        None => Ok(value),
    }
}
