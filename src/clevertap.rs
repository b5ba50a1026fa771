//! CleverTap's side: records, limits, regions, uploads and their responses.
//!
//! Nothing here knows Purchasely. Source: <https://developer.clevertap.com> ("Upload Events",
//! "Upload User Profiles", "API Overview").

pub mod client;
pub mod limits;
mod record;
mod region;
pub mod response;
mod uploader;

pub use client::{Client, Credentials};
pub use record::{
    Change, Content, Property, Record, Role, UnixSeconds, Upload, User, Value, upload_body,
};
pub use region::{REGIONS, Region};
pub use response::NO_CODE;
pub use uploader::{EventUpload, Unsettled, UploadFailure, UploadStats, Uploader};

/// One of the operator's CleverTap accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Account {
    /// `CLEVERTAP_ACCOUNT_ID`.
    Main,
    /// `CLEVERTAP_SANDBOX_ACCOUNT_ID`.
    Sandbox,
}
