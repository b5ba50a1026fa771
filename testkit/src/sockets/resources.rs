//! A table and queues on a port, for the function's own AWS SDK.
//! It does not know SQS and DynamoDB ([`crate::world::aws`] does).

use super::server::Server;
use crate::world::aws::{Aws, DEAD_LETTER_QUEUE, EVENT_QUEUE, TABLE};
use crate::world::faulty::Faulty;
use std::ops::Deref;

/// The three resources of the template, alone on a port.
pub struct Resources {
    server: Server<Faulty<Aws>>,
    pub event_queue_url: String,
    pub dead_letter_queue_url: String,
}

impl Resources {
    pub async fn make() -> Self {
        let server = Server::start(Faulty::from(Aws::default())).await;
        let queue_url = |name| format!("{}/123456789012/{name}", server.url);
        Self {
            event_queue_url: queue_url(EVENT_QUEUE),
            dead_letter_queue_url: queue_url(DEAD_LETTER_QUEUE),
            server,
        }
    }

    pub fn settings(&self) -> [(&str, &str); 5] {
        [
            ("EVENT_QUEUE_URL", &self.event_queue_url),
            ("DEAD_LETTER_QUEUE_URL", &self.dead_letter_queue_url),
            ("DEDUPLICATION_TABLE", TABLE),
            ("AWS_ENDPOINT_URL_SQS", &self.server.url),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.server.url),
        ]
    }
}

impl Deref for Resources {
    type Target = Server<Faulty<Aws>>;

    fn deref(&self) -> &Server<Faulty<Aws>> {
        &self.server
    }
}
