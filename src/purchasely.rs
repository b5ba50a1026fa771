//! Purchasely's side: webhook signature, event, and the catalogue of event names and payload fields.
//!
//! Nothing here knows CleverTap. Source: <https://docs.purchasely.com> (webhooks, events, payload).

pub mod catalogue;
mod event;
pub mod signature;

pub use event::{Environment, Event, Unreadable, digits, is_placeholder, time_ms};
pub use signature::Verified;
