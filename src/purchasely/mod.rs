//! Purchasely's side of the relay: its signature, its event, its catalogue of names and fields.
//!
//! Nothing here knows CleverTap. Facts follow <https://docs.purchasely.com> (webhooks, events, payload).

pub mod catalogue;
mod event;
pub mod signature;

pub use event::{Environment, Event, Unreadable, time_ms};
pub use signature::Verified;
