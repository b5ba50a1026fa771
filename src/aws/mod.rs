//! What the function asks of AWS.
//!
//! Nothing here knows either vendor's protocol.

pub mod http;
pub mod secret;
