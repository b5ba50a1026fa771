//! The wiring: from a configuration, the way out and the AWS configuration to the handler.
//!
//! A simulation builds the same handler on a world of its own. It has no rule of its own.

use crate::aws::Clients;
use crate::aws::claims::Claims;
use crate::aws::queues::Queue;
use crate::aws::secret::Secrets;
use crate::clevertap::{Client, Uploader};
use crate::config::{Config, DeliveryMode, SignaturePolicy};
use crate::forward::Backend;
use crate::handler::Handler;
use crate::http::SharedHttp;
use crate::relay::Relay;
use crate::telemetry::UnknownEvents;
use ::http::uri::InvalidUri;
use aws_config::SdkConfig;
use std::sync::Arc;

/// Builds the handler. `http` is the way to CleverTap and to the operator's backend; `aws` has its own, the region and
/// the credentials.
pub fn handler(config: Config, http: SharedHttp, aws: &SdkConfig) -> Result<Handler, InvalidUri> {
    let clients = Clients::new(aws);
    let is_signed = config.signature != SignaturePolicy::Off;
    let secrets = Secrets::new(clients.secrets_manager, config.secret_id, is_signed);
    let secrets = Arc::new(secrets);
    let queue = |setting, url: Option<String>| {
        url.map(|url| Queue { client: clients.sqs.clone(), url, setting })
    };
    let event_queue = queue("EVENT_QUEUE_URL", config.event_queue_url);
    let backend = config.forward_url.map(|url| Backend::new(http.clone(), &url)).transpose()?;
    let table = config.deduplication_table.filter(|_| !config.dry_run);
    Ok(Handler {
        signature: config.signature,
        backend,
        relay: Relay {
            rules: config.rules,
            uploader: Uploader {
                client: Client::new(http, &config.upload_url, config.dry_run)?,
                secrets: Arc::clone(&secrets),
                account_id: config.account_id,
                sandbox_account_id: config.sandbox_account_id,
            },
            is_dry_run: config.dry_run,
            unknown_events: UnknownEvents::default(),
            claims: table.map(|table| Claims::new(clients.dynamodb, table)),
            dead_letters: queue("DEAD_LETTER_QUEUE_URL", config.dead_letter_queue_url),
        },
        secrets,
        webhook_queue: event_queue.clone().filter(|_| config.delivery == DeliveryMode::Queue),
        event_queue,
        is_cold: true.into(),
    })
}

/// Starts what the first event needs: the secret, a connection to the operator's backend and, unless webhooks go into
/// a queue, connections to CleverTap and to the claims table. All go on while the runtime asks for that event.
pub fn warm_up(handler: &Handler) {
    handler.secrets.prefetch();
    if let Some(backend) = &handler.backend {
        backend.warm_up();
    }
    if handler.webhook_queue.is_none() {
        handler.relay.uploader.client.warm_up();
        if let Some(claims) = &handler.relay.claims {
            claims.warm_up();
        }
    }
}
