//! A FIFO queue of SQS in memory, with the rules that emulators leave out: locked groups, five minutes of
//! de-duplication, visibility, receive counts and the redrive policy.
//! It does not know who sends and who receives.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const BATCH_SIZE: usize = 10;
/// Of a body with its attributes.
const MAX_BYTES: usize = 1024 * 1024;
/// Twelve hours, in seconds.
const MAX_VISIBILITY: u64 = 43_200;
const DEDUPLICATION: Duration = Duration::from_mins(5);
/// By then the function knows that SQS moved a message.
const MOVED_AFTER: Duration = Duration::from_mins(6);
const VISIBILITY_TIMEOUT: Duration = Duration::from_mins(5);

/// A queue. Times are those of the world, since 1970.
#[derive(Default)]
pub struct Queue {
    /// Those that are not deleted, in the order of their arrival.
    messages: Vec<Message>,
    /// When a de-duplication id came first.
    ids: BTreeMap<String, Duration>,
    sent: u64,
    received: u64,
}

#[derive(Clone)]
pub struct Message {
    id: String,
    group: String,
    pub body: String,
    attributes: Value,
    sent_at: Duration,
    /// Before SQS itself moved it to the dead-letter queue, which starts `sent_at` again.
    moved_from: Option<Duration>,
    receive_count: u32,
    receipt_handle: String,
    /// Until when it is hidden; its group is locked as long.
    hidden_until: Duration,
}

impl Queue {
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Ends the waiting of every message.
    pub fn show_all(&mut self) {
        for message in &mut self.messages {
            message.hidden_until = Duration::ZERO;
        }
    }

    /// Takes all messages out, each as its body, group and attributes.
    pub fn take_letters(&mut self) -> Vec<Value> {
        let letter = |message: Message| {
            let attributes = message.attributes.as_object().into_iter().flatten();
            let attributes =
                attributes.map(|(name, value)| (name.clone(), value["StringValue"].clone()));
            let attributes: Map<_, _> = attributes.collect();
            json!({ "body": message.body, "group": message.group, "attributes": attributes })
        };
        self.messages.drain(..).map(letter).collect()
    }

    /// Stores the message of a `SendMessage`, unless it repeats one of the last five minutes.
    pub fn send(&mut self, input: &Value, now: Duration) -> (u16, Value) {
        let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
        let (body, group) = (text("MessageBody"), text("MessageGroupId"));
        let attributes = input.get("MessageAttributes").cloned().unwrap_or_else(|| json!({}));
        let id = text("MessageDeduplicationId");
        if let Some(problem) = problem_of(&body, &attributes, &[&group, &id]) {
            return (400, json!({ "__type": "InvalidParameterValue", "message": problem }));
        }
        self.ids.retain(|_, first| now < *first + DEDUPLICATION);
        // The scope is the group.
        if self.ids.insert(format!("{group} {id}"), now).is_some() {
            return (200, json!({ "MessageId": "known" }));
        }
        self.push(Message {
            id: String::new(),
            group,
            body,
            attributes,
            sent_at: now,
            moved_from: None,
            receive_count: 0,
            receipt_handle: String::new(),
            hidden_until: Duration::ZERO,
        });
        (200, json!({ "MessageId": format!("m-{}", self.sent) }))
    }

    fn push(&mut self, message: Message) {
        self.sent += 1;
        self.messages.push(Message { id: format!("m-{}", self.sent), ..message });
    }

    /// Moves the messages to another queue, where they count as sent now. What SQS itself moved here stays for some
    /// minutes: a thousand deliveries take far longer than the few of a world.
    pub fn redrive(&mut self, to: &mut Self, now: Duration) {
        let is_ready =
            |message: &mut Message| message.moved_from.is_none_or(|sent| now > sent + MOVED_AFTER);
        for message in self.messages.extract_if(.., is_ready) {
            to.push(Message {
                sent_at: now,
                receive_count: 0,
                hidden_until: Duration::ZERO,
                ..message
            });
        }
    }

    /// When the next message may become visible.
    pub fn next_visible(&self, now: Duration) -> Option<Duration> {
        self.messages
            .iter()
            .map(|message| message.hidden_until)
            .filter(|until| *until > now)
            .min()
    }

    /// A batch as Lambda hands it to a function. What was received `max_receive_count` times goes to
    /// `dead_letters` instead.
    pub fn receive(
        &mut self,
        now: Duration,
        max_receive_count: u32,
        dead_letters: &mut Self,
    ) -> Vec<Value> {
        let hidden = self.messages.iter().filter(|message| message.hidden_until > now);
        let locked: BTreeSet<_> = hidden.map(|message| message.group.clone()).collect();
        let is_exhausted = |message: &mut Message| {
            !locked.contains(&message.group) && message.receive_count >= max_receive_count
        };
        for message in self.messages.extract_if(.., is_exhausted) {
            let moved_from = Some(message.sent_at);
            dead_letters.push(Message {
                sent_at: now,
                receive_count: 0,
                moved_from,
                ..message
            });
        }
        let free = self.messages.iter_mut().filter(|message| !locked.contains(&message.group));
        let taken = free.take(BATCH_SIZE).map(|message| {
            self.received += 1;
            message.receive_count += 1;
            message.receipt_handle = format!("r-{}", self.received);
            message.hidden_until = now + VISIBILITY_TIMEOUT;
            message.record()
        });
        taken.collect()
    }

    /// Applies a `ChangeMessageVisibilityBatch`.
    pub fn change_visibility(&mut self, input: &Value, now: Duration) -> (u16, Value) {
        let entries = input["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(problem) = problem_of_batch(entries) {
            return (400, json!({ "__type": problem, "message": "the batch" }));
        }
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let seconds = entry["VisibilityTimeout"].as_u64().unwrap_or_default();
            match self.in_flight(&entry["ReceiptHandle"], now) {
                Some(message) => {
                    message.hidden_until = now + Duration::from_secs(seconds);
                    successful.push(json!({ "Id": entry["Id"] }));
                }
                None => failed.push(json!({
                    "Id": entry["Id"], "Code": "MessageNotInflight", "SenderFault": true,
                })),
            }
        }
        (200, json!({ "Successful": successful, "Failed": failed }))
    }

    /// Deletes a message whose visibility timeout has not ended; afterwards a FIFO queue refuses to.
    pub fn delete(&mut self, receipt_handle: &Value, now: Duration) {
        if let Some(id) = self.in_flight(receipt_handle, now).map(|message| message.id.clone()) {
            self.messages.retain(|message| message.id != id);
        }
    }

    fn in_flight(&mut self, receipt_handle: &Value, now: Duration) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| {
            *receipt_handle == *message.receipt_handle && message.hidden_until > now
        })
    }
}

impl Message {
    fn record(&self) -> Value {
        let attribute = |(name, value): (&String, &Value)| {
            let value = json!({ "stringValue": value["StringValue"], "dataType": "String" });
            (name.clone(), value)
        };
        let attributes: Map<_, _> =
            self.attributes.as_object().into_iter().flatten().map(attribute).collect();
        json!({
            "messageId": self.id,
            "receiptHandle": self.receipt_handle,
            "body": self.body,
            "attributes": {
                "ApproximateReceiveCount": self.receive_count.to_string(),
                "MessageGroupId": self.group,
                "SentTimestamp": self.sent_at.as_millis().to_string(),
            },
            "messageAttributes": attributes,
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:events.fifo",
            "awsRegion": "eu-west-1",
        })
    }
}

/// Why SQS refuses a batch of changes, if it does.
fn problem_of_batch(entries: &[Value]) -> Option<&'static str> {
    let ids: BTreeSet<_> = entries.iter().map(|entry| entry["Id"].as_str()).collect();
    let seconds = |entry: &Value| entry["VisibilityTimeout"].as_u64();
    match entries.len() {
        0 => Some("EmptyBatchRequest"),
        1..=BATCH_SIZE if ids.len() < entries.len() => Some("BatchEntryIdsNotDistinct"),
        1..=BATCH_SIZE if !entries.iter().all(|it| seconds(it) <= Some(MAX_VISIBILITY)) => {
            Some("InvalidParameterValue")
        }
        1..=BATCH_SIZE => None,
        _ => Some("TooManyEntriesInBatchRequest"),
    }
}

/// Why SQS refuses a message, if it does.
fn problem_of(body: &str, attributes: &Value, ids: &[&str]) -> Option<&'static str> {
    let is_xml =
        |c: char| c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}') || "\t\n\r".contains(c);
    let is_id =
        |id: &str| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let attributes = attributes.as_object()?;
    let mut values = attributes.values().map(|value| value["StringValue"].as_str());
    let bytes = |(name, value): (&String, &Value)| {
        let text = |key: &str| value[key].as_str().map_or(0, str::len);
        name.len() + text("DataType") + text("StringValue")
    };
    let length = body.len() + attributes.iter().map(bytes).sum::<usize>();
    if length > MAX_BYTES {
        Some("the length")
    } else if body.is_empty() || !body.chars().all(is_xml) {
        Some("the body")
    } else if attributes.len() > 10 || !values.all(|text| text.is_some_and(|text| !text.is_empty()))
    {
        Some("the attributes")
    } else if !ids.iter().all(|id| is_id(id)) {
        Some("an id")
    } else {
        None
    }
}
