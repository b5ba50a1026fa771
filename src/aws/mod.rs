//! What the function asks of AWS.
//!
//! Nothing here knows either vendor's protocol.

pub mod claims;
pub mod http;
pub mod queues;
pub mod secret;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a call to a queue or the table may take with all its attempts: such a call comes after
/// the uploads have ended, when there are 1.5 s left.
const OPERATION: Duration = Duration::from_millis(1200);

/// What an AWS call failed with, in words that hold nothing of what was sent or received.
fn told<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::ServiceError(answer) => answer.err().code().unwrap_or("no error code").to_owned(),
        SdkError::TimeoutError(_) => "no answer in time".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            "no answer in time".to_owned()
        }
        SdkError::DispatchFailure(failure) if failure.is_io() => "no connection".to_owned(),
        SdkError::ResponseError(_) => "its answer was not understood".to_owned(),
        _ => "no request could be made".to_owned(),
    }
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
