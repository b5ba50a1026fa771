//! CleverTap's side: records, limits, regions, uploads and their responses.
//!
//! Nothing here knows Purchasely. Source: <https://developer.clevertap.com> ("Upload Events",
//! "Upload User Profiles", "API Overview").

pub mod answer;
pub mod client;
pub mod limits;
mod record;
mod region;

pub use client::{Client, Credentials};
pub use record::{
    Change, Content, Property, Record, Role, UnixSeconds, Upload, User, Value, upload_body,
};
pub use region::{REGIONS, Region};
