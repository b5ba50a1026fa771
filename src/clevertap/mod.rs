//! CleverTap's side of the relay: records, limits, regions, the upload and its answers.
//!
//! Nothing here knows Purchasely. Facts follow <https://developer.clevertap.com> ("Upload Events",
//! "Upload User Profiles", "API Overview").

pub mod answer;
pub mod client;
pub mod limits;
mod record;
mod region;

pub use client::{Client, Credentials};
pub use record::{Change, Content, Record, Role, UnixSeconds, Upload, User, Value, upload_body};
pub use region::{REGIONS, Region};
