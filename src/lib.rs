//! Relays Purchasely's webhooks to CleverTap: one AWS Lambda function, one upload per webhook.
//!
//! An event goes one way: **request → verify → parse → map → claim → upload → outcome**.
//!
//! - [`config`]: the environment, read once; every mistake is named at once.
//! - [`handler`]: the two doors; an HTTP request or a batch of messages in, an answer out, whatever happens.
//! - [`purchasely`]: is it signed, and what does it say? Knows nothing of CleverTap.
//! - [`mapping`]: what CleverTap should be told. Pure; the only place that knows both vendors.
//! - [`relay`]: has it uploaded once, within the time that Purchasely waits, or kept as a dead letter.
//! - [`clevertap`]: records, limits, regions, the upload and its answers. Knows nothing of Purchasely.
//! - [`aws`]: the secret, the queues, the claims.
//! - [`outcome`]: what an event's end means: the status, the word, the severity.
//! - [`telemetry`]: the line that tells it.
//!
//! What always holds, and is held by tests:
//! - Only HTTP 200 counts as received at Purchasely, which otherwise sends the event again for 20 days
//!   and holds back that user's later events. So 200 means that CleverTap has the event, that
//!   it is safely kept, or that CleverTap rightly never gets it; whatever is not in [`outcome`]'s table is 503.
//! - An upload is repeated only where the first cannot have been stored, or CleverTap said so, or, once,
//!   where its connection was lost.
//! - The passcode goes to the region's host (or the override) and nowhere else; redirects are not followed.
//! - Secrets and users' ids reach no log, error, metric or answer.

pub mod aws;
pub mod clevertap;
pub mod config;
pub mod handler;
pub mod mapping;
pub mod outcome;
pub mod purchasely;
pub mod relay;
pub mod telemetry;
