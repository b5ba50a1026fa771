//! Queues and a table of moto's server, reached through the real AWS SDK.
//! It does not know what the function writes to them.
//!
//! All tests of a process share one server; each makes resources of its own in it.

use crate::harness::World;
use crate::process::{plain_client, tool};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ScalarAttributeType,
};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use purchasely_clevertap::aws::claims::KEY;
use purchasely_clevertap::http::SharedHttp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{OnceCell, oneshot};

static SERVER: OnceCell<String> = OnceCell::const_new();
/// Their standard inputs stay open as long as this process lives.
static SHELLS: Mutex<Vec<Child>> = Mutex::new(Vec::new());
static MADE: AtomicU32 = AtomicU32::new(0);

/// An event queue, a dead-letter queue and a table of claims.
pub struct Resources {
    pub endpoint: String,
    pub event_queue_url: String,
    pub dead_letter_queue_url: String,
    pub table: String,
    sqs: aws_sdk_sqs::Client,
    dynamodb: aws_sdk_dynamodb::Client,
}

/// The address of the shared server.
pub async fn endpoint() -> String {
    SERVER.get_or_init(start).await.clone()
}

/// Starts a server that no other test uses, and returns its address.
pub async fn start() -> String {
    // The shell ends the server when this process, which holds its standard input, ends.
    let script = r#""$0" --host 127.0.0.1 --port 0 & server=$!; read -r _; kill $server"#;
    let mut shell = Command::new("sh")
        .args(["-c", script])
        .arg(tool("MOTO_SERVER", "moto_server"))
        // AWS's own policies, which roles are given.
        .env("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let output = BufReader::new(shell.stderr.take().expect("a piped stderr"));
    SHELLS.lock().unwrap().push(shell);
    let (send_url, url) = oneshot::channel();
    // It reads to the end, or the server would block on a full pipe.
    std::thread::spawn(move || {
        let mut send_url = Some(send_url);
        for line in output.lines().map_while(Result::ok) {
            if let Some((_, url)) = line.split_once("Running on ")
                && let Some(send_url) = send_url.take()
            {
                let _ = send_url.send(url.trim().to_owned());
            }
        }
    });
    let url = tokio::time::timeout(Duration::from_mins(1), url).await;
    url.expect("moto starts in time").expect("moto prints its URL")
}

/// A relay with a dead-letter queue, an event queue and a claims table of its own.
pub async fn with_resources(settings: &[(&str, &str)]) -> (World, Resources) {
    let resources = Resources::make().await;
    let settings = [&resources.settings()[..], settings].concat();
    (World::start(&settings).await, resources)
}

impl Resources {
    pub async fn make() -> Self {
        Self::make_at(endpoint().await).await
    }

    /// The same in a server of the test's own.
    pub async fn make_at(endpoint: String) -> Self {
        let config = config(&endpoint).await;
        let sqs = aws_sdk_sqs::Client::new(&config);
        let dynamodb = aws_sdk_dynamodb::Client::new(&config);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let table = format!("claims-{number}");
        let key = AttributeDefinition::builder()
            .attribute_name(KEY)
            .attribute_type(ScalarAttributeType::S);
        let schema = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash);
        dynamodb
            .create_table()
            .table_name(&table)
            .attribute_definitions(key.build().unwrap())
            .key_schema(schema.build().unwrap())
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await
            .expect("a table");
        let dead_letter_queue_url = fifo(&sqs, &format!("dead-{number}.fifo"), &[]).await;
        let policy = json!({
            "deadLetterTargetArn": format!("arn:aws:sqs:eu-west-1:123456789012:dead-{number}.fifo"),
            "maxReceiveCount": 1000,
        });
        let attributes = [
            (QueueAttributeName::VisibilityTimeout, "300".to_owned()),
            (QueueAttributeName::RedrivePolicy, policy.to_string()),
        ];
        Self {
            event_queue_url: fifo(&sqs, &format!("events-{number}.fifo"), &attributes).await,
            dead_letter_queue_url,
            endpoint,
            table,
            sqs,
            dynamodb,
        }
    }

    /// The settings that make the function use them.
    pub fn settings(&self) -> [(&str, &str); 5] {
        [
            ("EVENT_QUEUE_URL", &self.event_queue_url),
            ("DEAD_LETTER_QUEUE_URL", &self.dead_letter_queue_url),
            ("DEDUPLICATION_TABLE", &self.table),
            ("AWS_ENDPOINT_URL_SQS", &self.endpoint),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.endpoint),
        ]
    }

    /// Takes the dead letters out, each as its body, group and attributes.
    pub async fn letters(&self) -> Vec<Value> {
        let url = &self.dead_letter_queue_url;
        let mut letters = Vec::new();
        loop {
            let receive = self.sqs.receive_message().queue_url(url).max_number_of_messages(10);
            let receive = receive
                .message_attribute_names("All")
                .message_system_attribute_names(MessageSystemAttributeName::All);
            let received = receive.send().await.expect("the queue answers");
            let messages = received.messages.unwrap_or_default();
            if messages.is_empty() {
                return letters;
            }
            for message in messages {
                letters.push(letter(&message));
                // Until it is deleted it blocks the next of its group.
                let handle = message.receipt_handle.expect("a handle");
                let delete = self.sqs.delete_message().queue_url(url).receipt_handle(handle);
                delete.send().await.expect("the queue answers");
            }
        }
    }

    /// The state of a claim: `None`, `in_progress` or `done`.
    pub async fn claim(&self, key: &str) -> Option<String> {
        let item = self.claim_item(key).await?;
        Some(item["state"].as_s().unwrap().clone())
    }

    /// The Unix seconds from which DynamoDB may delete a claim.
    pub async fn claim_expires_at(&self, key: &str) -> u64 {
        let item = self.claim_item(key).await.expect("a claim");
        item["expires_at"].as_n().unwrap().parse().unwrap()
    }

    async fn claim_item(&self, key: &str) -> Option<HashMap<String, AttributeValue>> {
        let key = AttributeValue::S(key.to_owned());
        let get = self.dynamodb.get_item().table_name(&self.table).key(KEY, key);
        get.send().await.expect("the table answers").item
    }

    /// Puts a claim in progress that may be taken over at `until_ms`.
    pub async fn claim_in_progress(&self, key: &str, until_ms: u128) {
        self.put_claim(key, "in_progress", until_ms).await;
    }

    /// Puts a claim with the attributes that the function's first version wrote.
    pub async fn put_claim(&self, key: &str, state: &str, until_ms: u128) {
        let put = self.dynamodb.put_item().table_name(&self.table);
        let put = put
            .item(KEY, AttributeValue::S(key.to_owned()))
            .item("state", AttributeValue::S(state.to_owned()))
            .item("until_ms", AttributeValue::N(until_ms.to_string()))
            .item("expires_at", AttributeValue::N("4102444800".to_owned()));
        put.send().await.expect("the table answers");
    }

    /// Lets a claim in progress be taken over, as time would.
    pub async fn expire_claim(&self, key: &str) {
        let update = self.dynamodb.update_item().table_name(&self.table);
        let update = update
            .key(KEY, AttributeValue::S(key.to_owned()))
            .update_expression("SET until_ms = :past")
            .condition_expression("attribute_exists(event_id)")
            .expression_attribute_values(":past", AttributeValue::N("0".to_owned()));
        // A claim that could not be written needs no end.
        let _ = update.send().await;
    }

    pub async fn delete_table(&self) {
        let delete = self.dynamodb.delete_table().table_name(&self.table);
        delete.send().await.expect("the table is deleted");
    }
}

fn letter(message: &Message) -> Value {
    let text = |value: &aws_sdk_sqs::types::MessageAttributeValue| value.string_value.clone();
    let attributes = message.message_attributes.iter().flatten();
    let attributes: HashMap<_, _> =
        attributes.map(|(name, value)| (name.clone(), text(value))).collect();
    let system = message.attributes.as_ref().expect("system attributes");
    json!({
        "body": message.body,
        "group": system[&MessageSystemAttributeName::MessageGroupId],
        "attributes": attributes,
    })
}

pub(crate) async fn config(endpoint: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(SharedHttp(std::sync::Arc::new(plain_client())))
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .test_credentials()
        .load()
        .await
}

/// A queue as the template creates it.
async fn fifo(
    sqs: &aws_sdk_sqs::Client,
    name: &str,
    attributes: &[(QueueAttributeName, String)],
) -> String {
    let create = sqs.create_queue().queue_name(name).set_attributes(Some(HashMap::from([
        (QueueAttributeName::FifoQueue, "true".to_owned()),
        (QueueAttributeName::DeduplicationScope, "messageGroup".to_owned()),
        (QueueAttributeName::FifoThroughputLimit, "perMessageGroupId".to_owned()),
    ])));
    let create = attributes
        .iter()
        .fold(create, |create, (name, value)| create.attributes(name.clone(), value));
    create.send().await.expect("a queue").queue_url.expect("its URL")
}
