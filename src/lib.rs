//! Relays Purchasely's webhooks to CleverTap: one AWS Lambda function, one upload per webhook.
//!
//! Data flows one way: **request → verify → parse → map → claim → upload → outcome**. With `DELIVERY=queue`,
//! the webhook is queued once it is mapped, and a second invocation takes all steps from parsing on. In reading order:
//!
//! - [`config`]: the environment, read once; every mistake is reported at once.
//! - [`app`]: the wiring, from the configuration to the handler.
//! - [`envelope`]: what Lambda invoked the function with.
//! - [`handler`]: verifies and parses a webhook, has it relayed, answers.
//! - [`purchasely`]: its signature, events and fields. Knows nothing of CleverTap.
//! - [`forward`]: the operator's own backend, which gets each verified webhook first.
//! - [`mapping`]: from an event to records. Pure; the only place that knows both vendors.
//! - [`relay`]: claims, uploads and settles each event within the time that Purchasely waits.
//! - [`clevertap`]: records, limits, regions, uploads and their answers. Knows nothing of Purchasely.
//! - [`aws`]: the secret, the queues, the claims.
//! - [`outcome`]: the one table of what an outcome means.
//! - [`report`], [`telemetry`]: what is said of an event, the log line and its metrics.
//! - [`json`], [`http`], [`clock`]: tolerant JSON, the one way out, and the one clock.
//!
//! Invariants, each with a test:
//! - Purchasely takes only HTTP 200 for received; otherwise it sends the event again for 20 days and sends
//!   none of that user's later events. So 200 means that CleverTap has the event, that it is safely
//!   stored, or that there is nothing to send. Whatever is not in [`outcome`]'s table is 503.
//! - An upload is repeated only where the first surely was not stored, or, once, after a 503 or a lost connection.
//! - The passcode goes to the region's host (or the override) and nowhere else; redirects are not followed.
//! - Secrets and user ids reach no log, error, metric or response.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod app;
pub mod aws;
pub mod clevertap;
#[allow(clippy::disallowed_methods)]
pub mod clock;
pub mod config;
pub mod envelope;
pub mod forward;
pub mod handler;
#[allow(clippy::disallowed_types)]
pub mod http;
pub mod json;
pub mod mapping;
pub mod outcome;
pub mod purchasely;
pub mod relay;
pub mod report;
pub mod telemetry;
