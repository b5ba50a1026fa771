//! The AWS services that the function calls: Secrets Manager, SQS, DynamoDB.
//!
//! Nothing here knows either vendor's protocol.

pub mod claims;
pub mod queues;
pub mod secret;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_types::retry::ReconnectMode;
use std::time::Duration;

/// For calls to a queue or the table. They come after the uploads, when 1.5 s are left, and one attempt
/// that hangs must leave time for another.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(400);
const CALL_TIMEOUT: Duration = Duration::from_millis(1200);
const SECRET_ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
const SECRET_CALL_TIMEOUT: Duration = Duration::from_millis(3200);
const FIRST_BACKOFF: Duration = Duration::from_millis(25);
const MAX_BACKOFF: Duration = Duration::from_millis(50);

/// The clients of one configuration, each with its timeouts.
#[derive(Debug)]
pub struct Clients {
    pub secrets_manager: aws_sdk_secretsmanager::Client,
    pub sqs: aws_sdk_sqs::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
}

impl Clients {
    /// `config` has the HTTP client, the region and the credentials.
    pub fn new(config: &SdkConfig) -> Self {
        let retries = RetryConfig::standard()
            .with_initial_backoff(FIRST_BACKOFF)
            .with_max_backoff(MAX_BACKOFF)
            // Connections are the HTTP client's. The SDK would log an ERROR at each retry that it has none to close.
            .with_reconnect_mode(ReconnectMode::ReuseAllConnections);
        let with_timeouts = |attempt, call| {
            let timeouts = TimeoutConfig::builder()
                .operation_attempt_timeout(attempt)
                .operation_timeout(call)
                .build();
            config
                .to_builder()
                .retry_config(retries.clone())
                .timeout_config(timeouts)
                .build()
        };
        let config = with_timeouts(ATTEMPT_TIMEOUT, CALL_TIMEOUT);
        let secret_config = with_timeouts(SECRET_ATTEMPT_TIMEOUT, SECRET_CALL_TIMEOUT);
        Self {
            secrets_manager: aws_sdk_secretsmanager::Client::new(&secret_config),
            sqs: aws_sdk_sqs::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
        }
    }
}

/// Why an AWS call failed, without anything that was sent or received.
fn describe<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    match error {
        SdkError::ServiceError(answer) => answer.err().code().unwrap_or("no error code").to_owned(),
        SdkError::TimeoutError(_) => "no answer in time".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            "no answer in time".to_owned()
        }
        SdkError::DispatchFailure(failure) if failure.is_io() => "no connection".to_owned(),
        SdkError::ResponseError(_) => "an answer that is not documented".to_owned(),
        _ => "no request could be made".to_owned(),
    }
}
