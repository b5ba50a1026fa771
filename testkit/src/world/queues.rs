//! A FIFO queue of SQS in memory, with the rules that emulators leave out: locked groups, five minutes of
//! de-duplication, visibility, receive counts and the redrive policy. And Lambda's event source mapping.
//! It does not know who sends and who receives.

use serde_json::{Map, Value, json};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
    pub messages: VecDeque<Message>,
    /// When a de-duplication id came first.
    ids: BTreeMap<String, Duration>,
    /// How many ids there may be before those that have expired are looked for.
    max_ids: usize,
    /// The number of the message that was last received with a handle.
    in_flight: BTreeMap<String, u64>,
    /// The numbers of the messages of a group that were received.
    received_of: BTreeMap<String, BTreeSet<u64>>,
    /// No message was received more often.
    max_received: u32,
    sent: u64,
    received: u64,
}

#[derive(Default)]
pub struct Message {
    /// Its place among all that were ever sent.
    pub number: u64,
    pub id: String,
    pub group: String,
    pub body: String,
    /// As in `SendMessage`.
    pub attributes: Map<String, Value>,
    pub sent_at: Duration,
    /// Before SQS itself moved it to the dead-letter queue, which starts `sent_at` again.
    pub moved_from: Option<Duration>,
    pub receive_count: u32,
    pub receipt_handle: String,
    /// Until when it is hidden; its group is locked as long.
    pub hidden_until: Duration,
}

impl Queue {
    /// Stores the message of a `SendMessage`, unless it repeats one of the last five minutes.
    pub fn send(&mut self, input: &Value, now: Duration) -> (u16, Value) {
        let text = |name: &str| input[name].as_str().unwrap_or_default().to_owned();
        let message = Message {
            group: text("MessageGroupId"),
            body: text("MessageBody"),
            attributes: input["MessageAttributes"].as_object().cloned().unwrap_or_default(),
            ..Message::default()
        };
        let id = text("MessageDeduplicationId");
        if let Some(problem) = message.problem(&id) {
            return (400, json!({ "__type": "InvalidParameterValue", "message": problem }));
        }
        let is_recent = |first: Duration| now < first + DEDUPLICATION;
        if self.ids.len() > self.max_ids {
            self.ids.retain(|_, first| is_recent(*first));
            self.max_ids = 2 * self.ids.len();
        }
        // The scope is the group.
        if self.ids.insert(format!("{} {id}", message.group), now).is_some_and(is_recent) {
            return (200, json!({ "MessageId": "known" }));
        }
        self.push(message, now);
        (200, json!({ "MessageId": format!("m-{}", self.sent) }))
    }

    fn push(&mut self, message: Message, now: Duration) {
        self.sent += 1;
        self.messages.push_back(Message {
            number: self.sent,
            id: format!("m-{}", self.sent),
            sent_at: now,
            receive_count: 0,
            hidden_until: Duration::ZERO,
            ..message
        });
    }

    /// Moves the messages to another queue, where they count as sent now. What SQS itself moved here stays for some
    /// minutes: a thousand deliveries take far longer than the few of a world.
    pub fn redrive(&mut self, to: &mut Self, now: Duration) {
        let is_ready = |_: &Self, message: &Message| {
            message.moved_from.is_none_or(|sent| now > sent + MOVED_AFTER)
        };
        for message in self.take(is_ready) {
            to.push(message, now);
        }
    }

    /// When the next message may become visible.
    pub fn next_visible(&self, now: Duration) -> Option<Duration> {
        let hidden = self.messages.iter().map(|message| message.hidden_until);
        hidden.filter(|until| *until > now).min()
    }

    /// A batch as Lambda hands it to a function. What was received `max_receive_count` times goes to
    /// `dead_letters` instead.
    pub fn receive(
        &mut self,
        now: Duration,
        max_receive_count: u32,
        dead_letters: &mut Self,
    ) -> Vec<Value> {
        if self.max_received >= max_receive_count {
            let exhausted = self.take(|queue, message| {
                message.receive_count >= max_receive_count && !queue.is_locked(&message.group, now)
            });
            for message in exhausted {
                let moved_from = Some(message.sent_at);
                dead_letters.push(Message { moved_from, ..message }, now);
            }
        }
        let is_free =
            |message: &Message| message.hidden_until <= now && !self.is_locked(&message.group, now);
        let free = self.messages.iter().enumerate().filter(|(_, message)| is_free(message));
        let free: Vec<_> = free.map(|(place, _)| place).take(BATCH_SIZE).collect();
        let taken = free.into_iter().map(|place| {
            let message = &mut self.messages[place];
            self.in_flight.remove(&message.receipt_handle);
            self.received += 1;
            message.receive_count += 1;
            message.receipt_handle = format!("r-{}", self.received);
            message.hidden_until = now + VISIBILITY_TIMEOUT;
            self.max_received = self.max_received.max(message.receive_count);
            self.in_flight.insert(message.receipt_handle.clone(), message.number);
            self.received_of
                .entry(message.group.clone())
                .or_default()
                .insert(message.number);
            message.record()
        });
        taken.collect()
    }

    /// What a function's answer does to a batch: it deletes the messages that it does not name, none where the function
    /// failed, all where the answer has no list. After its visibility timeout, a FIFO queue deletes no message.
    pub fn settle(&mut self, batch: &[Value], answer: Option<&Value>, now: Duration) {
        let Some(answer) = answer else {
            return;
        };
        let failures = answer["batchItemFailures"].as_array().into_iter().flatten();
        let failed: Vec<_> = failures.map(|failure| &failure["itemIdentifier"]).collect();
        for record in batch.iter().filter(|record| !failed.contains(&&record["messageId"])) {
            let handle = record["receiptHandle"].as_str().unwrap_or_default();
            if let Some(message) = self.place(handle, now).and_then(|it| self.messages.remove(it)) {
                self.in_flight.remove(handle);
                if let Entry::Occupied(mut received) = self.received_of.entry(message.group) {
                    received.get_mut().remove(&message.number);
                    if received.get().is_empty() {
                        received.remove();
                    }
                }
            }
        }
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
            let handle = entry["ReceiptHandle"].as_str().unwrap_or_default();
            match self.place(handle, now) {
                Some(place) => {
                    self.messages[place].hidden_until = now + Duration::from_secs(seconds);
                    successful.push(json!({ "Id": entry["Id"] }));
                }
                None => failed.push(json!({
                    "Id": entry["Id"], "Code": "MessageNotInflight", "SenderFault": true,
                })),
            }
        }
        (200, json!({ "Successful": successful, "Failed": failed }))
    }

    /// The place of the message that is in flight with a receipt handle.
    fn place(&self, receipt_handle: &str, now: Duration) -> Option<usize> {
        self.hidden(*self.in_flight.get(receipt_handle)?, now)
    }

    /// The place of a message that is hidden.
    fn hidden(&self, number: u64, now: Duration) -> Option<usize> {
        let place = self.messages.binary_search_by_key(&number, |message| message.number).ok()?;
        (self.messages[place].hidden_until > now).then_some(place)
    }

    fn is_locked(&self, group: &str, now: Duration) -> bool {
        let mut received = self.received_of.get(group).into_iter().flatten();
        received.any(|number| self.hidden(*number, now).is_some())
    }

    /// Takes out the messages of which this is true, in their order.
    fn take(&mut self, is_one: impl Fn(&Self, &Message) -> bool) -> Vec<Message> {
        let places = self.messages.iter().enumerate().filter(|(_, it)| is_one(self, it));
        let places: Vec<_> = places.map(|(place, _)| place).collect();
        let taken = places.into_iter().rev().filter_map(|place| self.messages.remove(place));
        let mut taken: Vec<_> = taken.collect();
        taken.reverse();
        taken
    }
}

impl Message {
    /// Its body, group and attributes.
    pub fn letter(&self) -> Value {
        let attributes = self.attributes(Value::clone);
        json!({ "body": self.body, "group": self.group, "attributes": attributes })
    }

    /// As Lambda hands it to a function.
    pub fn record(&self) -> Value {
        let attribute = |text: &Value| json!({ "stringValue": text, "dataType": "String" });
        json!({
            "messageId": self.id,
            "receiptHandle": self.receipt_handle,
            "body": self.body,
            "attributes": {
                "ApproximateReceiveCount": self.receive_count.to_string(),
                "MessageGroupId": self.group,
                "SentTimestamp": self.sent_at.as_millis().to_string(),
            },
            "messageAttributes": self.attributes(attribute),
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:events.fifo",
            "awsRegion": "eu-west-1",
        })
    }

    fn attributes(&self, shown: impl Fn(&Value) -> Value) -> Map<String, Value> {
        let attributes = self.attributes.iter();
        attributes.map(|(name, it)| (name.clone(), shown(&it["StringValue"]))).collect()
    }

    /// Why SQS refuses it, if it does.
    fn problem(&self, deduplication_id: &str) -> Option<&'static str> {
        let is_xml =
            |c: char| c >= ' ' && !matches!(c, '\u{fffe}' | '\u{ffff}') || "\t\n\r".contains(c);
        let is_id = |id: &str| {
            (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let text = |value: &Value, key: &str| value[key].as_str().map_or(0, str::len);
        let attributes = self.attributes.iter();
        let bytes = attributes
            .map(|(name, it)| name.len() + text(it, "DataType") + text(it, "StringValue"));
        let has_empty = self.attributes.values().any(|it| text(it, "StringValue") == 0);
        let problems = [
            (self.body.len() + bytes.sum::<usize>() > MAX_BYTES, "the length"),
            (self.body.is_empty() || !self.body.chars().all(is_xml), "the body"),
            (self.attributes.len() > 10 || has_empty, "the attributes"),
            (!is_id(&self.group) || !is_id(deduplication_id), "an id"),
        ];
        problems.into_iter().find_map(|(is_so, problem)| is_so.then_some(problem))
    }
}

/// Why SQS refuses a batch of changes, if it does.
fn problem_of_batch(entries: &[Value]) -> Option<&'static str> {
    let ids: BTreeSet<_> = entries.iter().map(|entry| entry["Id"].as_str()).collect();
    let is_too_long = |entry: &Value| entry["VisibilityTimeout"].as_u64() > Some(MAX_VISIBILITY);
    match entries.len() {
        0 => Some("EmptyBatchRequest"),
        11.. => Some("TooManyEntriesInBatchRequest"),
        all if ids.len() < all => Some("BatchEntryIdsNotDistinct"),
        _ => entries.iter().any(is_too_long).then_some("InvalidParameterValue"),
    }
}
