//! Ministack, an emulator of AWS that checks signatures and policies, with resources as the template creates them.
//! It does not know what the function writes to them. [`crate::world::aws`] has the same in memory.
//!
//! All tests of a process share one server; each makes resources of its own in it.
//!
//! It runs deployed functions too, as processes that inherit its environment: see [`start_under_tls`].

use crate::harness::eventually;
use crate::process::{free_port, plain_client, tool};
use crate::sockets::tls::Authority;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider, StalledStreamProtectionConfig};
use aws_sdk_sqs::types::QueueAttributeName;
use purchasely_clevertap::aws::claims::KEY;
use purchasely_clevertap::http::SharedHttp;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::OnceCell;

/// The environment of a program that may do everything. The function has these credentials too, unless a test gives it
/// others.
pub const VARIABLES: [(&str, &str); 4] = [
    ("AWS_REGION", REGION),
    // The AWS CLI reads only this one.
    ("AWS_DEFAULT_REGION", REGION),
    ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
    ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
];
const REGION: &str = "eu-west-1";
const ACCESS_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET_ACCESS_KEY: &str = "not-a-secret";

const HOST: &str = "127.0.0.1";

static SERVER: OnceCell<String> = OnceCell::const_new();
/// Their standard input stays open as long as this process lives.
static SHELLS: Mutex<Vec<Child>> = Mutex::new(Vec::new());
static MADE: AtomicU32 = AtomicU32::new(0);

pub struct Resources {
    pub endpoint: String,
    pub event_queue_url: String,
    pub dead_letter_queue_url: String,
    pub table: String,
    pub sqs: aws_sdk_sqs::Client,
}

pub async fn endpoint() -> String {
    SERVER.get_or_init(|| start("http", &[])).await.clone()
}

/// A server under TLS, without which the template's queue policies refuse every request. The functions deployed into it
/// call it, and trust the authority, whose certificate is in `roots`. Its address.
pub async fn start_under_tls(authority: &Authority, roots: &str) -> String {
    let files = authority.server_files(HOST);
    let [certificate, key] = files.each_ref().map(|file| file.path().to_str().expect("UTF-8"));
    let variables = [
        ("USE_SSL", "1"),
        ("MINISTACK_SSL_CERT", certificate),
        ("MINISTACK_SSL_KEY", key),
        ("SSL_CERT_FILE", roots),
    ];
    start("https", &variables).await
}

async fn start(scheme: &str, variables: &[(&str, &str)]) -> String {
    let port = free_port().await.to_string();
    let address = format!("{HOST}:{port}");
    let endpoint = format!("{scheme}://{address}");
    // The shell ends the server when this process, which holds its standard input, ends.
    let script = r#""$0" & server=$!; read -r _; kill $server"#;
    let shell = Command::new("sh")
        .args(["-c", script])
        .arg(tool("MINISTACK", "ministack"))
        .envs([
            ("BIND_HOST", HOST),
            ("GATEWAY_PORT", &port),
            ("MINISTACK_HOST", HOST),
            ("MINISTACK_ACCOUNT_ID", "123456789012"),
            ("MINISTACK_REGION", REGION),
            ("AUTH", "true"),
            ("IOT_MTLS_ENABLED", "0"),
            ("SFTP_ENABLED", "0"),
            ("LOG_LEVEL", "ERROR"),
            ("AWS_ENDPOINT_URL", &endpoint),
        ])
        .envs(VARIABLES)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    SHELLS.lock().unwrap().push(shell);
    eventually("ministack listens", || TcpStream::connect(&address).is_ok()).await;
    endpoint
}

/// Runs the AWS CLI as who may do everything, with more arguments that may contain spaces. What it answers, or says instead.
pub async fn aws(endpoint: &str, command: &str, last: &[&str]) -> Result<Value, String> {
    let mut aws = tokio::process::Command::new(tool("AWS_CLI", "aws"));
    // Version 1 reads the variable for other services than SQS.
    aws.args(command.split_whitespace()).args(last).args([
        "--output",
        "json",
        "--endpoint-url",
        endpoint,
    ]);
    let run = aws.env_clear().envs(VARIABLES).output().await.expect("the AWS CLI");
    if run.status.success() {
        Ok(serde_json::from_slice(&run.stdout).unwrap_or_default())
    } else {
        Err(String::from_utf8_lossy(&run.stderr).into_owned())
    }
}

/// The names and values in a list of the AWS CLI, such as a stack's outputs.
pub fn pairs(list: &Value, key: &str, value: &str) -> BTreeMap<String, String> {
    let text = |entry: &Value, name: &str| entry[name].as_str().expect(name).to_owned();
    let entries = list.as_array().expect("a list").iter();
    entries.map(|entry| (text(entry, key), text(entry, value))).collect()
}

/// A client's configuration with the credentials of who may do everything.
pub async fn config(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new(ACCESS_KEY_ID, SECRET_ACCESS_KEY, None, None, "tests");
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(SharedHttp(Arc::new(plain_client())))
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .load()
        .await
}

impl Resources {
    pub async fn make() -> Self {
        let endpoint = endpoint().await;
        // The emulator's first answers may take seconds, and what is created twice is refused.
        let config = config(&endpoint).await.into_builder();
        let config = config
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        let sqs = aws_sdk_sqs::Client::new(&config);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let table = format!("claims-{number}");
        make_table(&aws_sdk_dynamodb::Client::new(&config), &table).await;
        Self {
            event_queue_url: make_queue(&sqs, &format!("events-{number}.fifo")).await,
            dead_letter_queue_url: make_queue(&sqs, &format!("dead-{number}.fifo")).await,
            endpoint,
            table,
            sqs,
        }
    }

    pub fn settings(&self) -> [(&str, &str); 5] {
        [
            ("EVENT_QUEUE_URL", &self.event_queue_url),
            ("DEAD_LETTER_QUEUE_URL", &self.dead_letter_queue_url),
            ("DEDUPLICATION_TABLE", &self.table),
            ("AWS_ENDPOINT_URL_SQS", &self.endpoint),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.endpoint),
        ]
    }
}

async fn make_table(dynamodb: &aws_sdk_dynamodb::Client, name: &str) {
    let key = AttributeDefinition::builder()
        .attribute_name(KEY)
        .attribute_type(ScalarAttributeType::S);
    let schema = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash);
    let create = dynamodb
        .create_table()
        .table_name(name)
        .attribute_definitions(key.build().unwrap())
        .key_schema(schema.build().unwrap())
        .billing_mode(BillingMode::PayPerRequest);
    create.send().await.expect("a table");
}

async fn make_queue(sqs: &aws_sdk_sqs::Client, name: &str) -> String {
    let create = sqs.create_queue().queue_name(name).set_attributes(Some(HashMap::from([
        (QueueAttributeName::FifoQueue, "true".to_owned()),
        (QueueAttributeName::DeduplicationScope, "messageGroup".to_owned()),
        (QueueAttributeName::FifoThroughputLimit, "perMessageGroupId".to_owned()),
    ])));
    create.send().await.expect("a queue").queue_url.expect("its URL")
}
