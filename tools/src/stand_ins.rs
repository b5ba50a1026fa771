//! CleverTap, Secrets Manager, SQS and the team's own backend on this machine, and what CleverTap accepted in few words.
//! It does not know who uses them.

pub mod backend;

use crate::Unusable;
use backend::Backend;
use purchasely_clevertap::clevertap::Role;
use serde_json::{Value, json};
use testkit::harness::secret_value;
use testkit::sockets::Server;
use testkit::sockets::resources::Resources;
use testkit::webhook::SAMPLE_SHARED_SECRET;
use testkit::world::clevertap::CleverTap;
use testkit::world::secrets_manager::SecretsManager;
use tokio::net::TcpListener;

const ACCOUNT_ID: &str = "ABC-123-4567";
const PASSCODE: &str = "sample-passcode";
const SECRET_ID: &str = "purchasely-clevertap";
const REVENUE_EVENT: &str = "Charged";
/// Columns of printed JSON.
const WIDTH: usize = 100;

pub struct StandIns {
    pub clevertap: Server<CleverTap>,
    pub delivery: Delivery,
    secrets_manager: Server<SecretsManager>,
    /// Queues and a table, with [`Delivery::Queue`].
    resources: Option<Resources>,
    pub backend: Option<Server<Backend>>,
    /// Its address, or nothing: one in this process's environment would get webhooks that nobody bought.
    forward_url: String,
}

/// `DELIVERY` of the function.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    Direct,
    Queue,
}

impl StandIns {
    /// Port 0 is any free one.
    pub async fn start(
        clevertap_port: u16,
        secrets_manager_port: u16,
        delivery: Delivery,
    ) -> Result<Self, Unusable> {
        let resources = match delivery {
            Delivery::Direct => None,
            Delivery::Queue => Some(Resources::make().await),
        };
        let clevertap = CleverTap::new(ACCOUNT_ID, PASSCODE);
        let secrets_manager =
            SecretsManager::new(SECRET_ID, &secret_value(PASSCODE, SAMPLE_SHARED_SECRET));
        let (listener, url) = listen(clevertap_port).await?;
        let clevertap = Server::start_at(listener, url, clevertap);
        let (listener, url) = listen(secrets_manager_port).await?;
        let secrets_manager = Server::start_at(listener, url, secrets_manager);
        Ok(Self {
            clevertap,
            delivery,
            secrets_manager,
            resources,
            backend: None,
            forward_url: String::new(),
        })
    }

    /// From here on, [`Self::variables`] make the function forward webhooks.
    pub async fn start_backend(&mut self, port: u16) -> Result<(), Unusable> {
        let (listener, url) = listen(port).await?;
        self.forward_url = format!("{url}/purchasely");
        self.backend = Some(Server::start_at(listener, url, Backend::default()));
        Ok(())
    }

    /// The environment variables that make the function use them.
    pub fn variables(&self) -> Vec<(&str, &str)> {
        let mut variables = vec![
            ("CLEVERTAP_REGION", "in1"),
            ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
            ("CLEVERTAP_API_URL", &self.clevertap.url),
            ("REVENUE_EVENT", REVENUE_EVENT),
            ("FORWARD_URL", &self.forward_url),
            ("SECRET_ID", SECRET_ID),
            // The envelopes in `events/api-gateway` were signed long ago.
            ("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "0"),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &self.secrets_manager.url),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "sample"),
            ("AWS_SECRET_ACCESS_KEY", "sample"),
        ];
        if let Some(resources) = &self.resources {
            variables.push(("DELIVERY", "queue"));
            variables.extend(resources.settings());
        }
        variables
    }

    /// Changes the passcode in the secret.
    pub fn set_secret_passcode(&self, passcode: &str) {
        self.secrets_manager.set_value(&secret_value(passcode, SAMPLE_SHARED_SECRET));
    }

    /// Delivers what the event queue has; what failed waits.
    pub async fn deliver_queued(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) {
        if let Some(resources) = &self.resources {
            while resources.poll(&invoke).await > 0 {}
        }
    }

    /// Delivers the event queue's messages for ever.
    pub async fn deliver(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) {
        match &self.resources {
            Some(resources) => resources.deliver(invoke).await,
            None => std::future::pending().await,
        }
    }
}

/// What an uploaded record is for.
pub fn role(record: &Value) -> Role {
    match record["evtName"].as_str() {
        None => Role::Profile,
        Some(REVENUE_EVENT) => Role::Revenue,
        Some(_) => Role::Event,
    }
}

/// CleverTap's key of the user.
pub fn user(record: &Value) -> &str {
    let id = record["identity"].as_str().or(record["objectId"].as_str());
    id.unwrap_or_default()
}

/// The records of one webhook, without their user; an event's name only where it is not this one.
pub fn in_words(records: &[Value], event: &str) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let count = |properties: &Value| properties.as_object().map_or(0, serde_json::Map::len);
    let in_words = |record: &&Value| {
        let (name, data) = (text(&record["evtName"]), &record["evtData"]);
        let name = if name == event {
            String::new()
        } else {
            format!(" {name}")
        };
        match role(record) {
            Role::Event => format!("event{name} ({} properties)", count(data)),
            Role::Revenue => {
                format!("revenue{name} {} {}", data["Amount"], text(&data["Currency"]))
            }
            Role::Profile => format!("profile ({} properties)", count(&record["profileData"])),
        }
    };
    let mut records: Vec<&Value> = records.iter().collect();
    records.sort_by_key(|record| role(record) == Role::Profile);
    records.iter().map(in_words).collect::<Vec<_>>().join(", ")
}

/// A record as JSON with several properties in a line.
pub fn json_lines(record: &Value) -> String {
    let entry = |key: &str, value: &Value| format!("{}: {value}", json!(key));
    let is_profile = role(record) == Role::Profile;
    let data_key = if is_profile { "profileData" } else { "evtData" };
    let keys = ["type", "evtName", "identity", "objectId", "ts"].into_iter();
    let head: Vec<String> = keys.filter_map(|key| Some(entry(key, record.get(key)?))).collect();
    let mut lines = format!("{{{}, \"{data_key}\": {{", head.join(", "));
    let mut column = WIDTH;
    let data = record[data_key].as_object().into_iter().flatten();
    for (number, (key, value)) in data.enumerate() {
        let entry = entry(key, value);
        if number > 0 {
            lines.push(',');
        }
        if column + entry.len() + 2 > WIDTH {
            lines.push_str("\n ");
            column = 1;
        }
        lines.push(' ');
        lines.push_str(&entry);
        column += entry.len() + 2;
    }
    lines + "\n}}"
}

/// A port of this machine's own; 0 is any free one.
pub async fn listen(port: u16) -> Result<(TcpListener, String), Unusable> {
    let unusable = |error| format!("port {port}: {error}; choose another one (see --help)");
    let listener = TcpListener::bind(("127.0.0.1", port)).await.map_err(unusable)?;
    let url = format!("http://{}", listener.local_addr().map_err(unusable)?);
    Ok((listener, url))
}
