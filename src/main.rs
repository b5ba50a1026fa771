//! The function's process: starts the log, reads the environment, builds the handler and runs it.
//!
//! It has no rule of its own.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::{BehaviorVersion, SdkConfig};
use lambda_runtime::{Error, LambdaEvent, Runtime, service_fn};
use purchasely_clevertap::config::{self, Config};
use purchasely_clevertap::http::SharedHttp;
use purchasely_clevertap::{app, http, telemetry};
use serde_json::value::RawValue;
use std::process::ExitCode;
use std::sync::Arc;

/// `EX_CONFIG` of sysexits.h.
const INVALID_CONFIGURATION: u8 = 78;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::start(config::log_level(config::environment));
    let config = match Config::from_env(config::environment) {
        Ok(config) => config,
        Err(errors) => {
            let count = errors.len();
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            tracing::error!(count, "invalid configuration: {}", errors.join("; "));
            return ExitCode::from(INVALID_CONFIGURATION);
        }
    };
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the function cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), Error> {
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        upload_url = config.upload_url,
        forward_host = config.forward_host(),
        region = %config.region,
        anonymous_buyers = config.rules.identity.anonymous_user_id_as.describe(),
        "started"
    );
    for warning in config.warnings.iter().chain(&config.missing_guarantees()) {
        tracing::warn!("{warning}");
    }
    let clients = http::Clients::new(config.roots.clone())?;
    let aws = aws_config(clients.aws).await;
    let handler = app::handler(config, clients.clevertap, &aws)?;
    app::warm_up(&handler);
    let handler = Arc::new(handler);
    let service = service_fn(move |invocation: LambdaEvent<Box<RawValue>>| {
        let handler = Arc::clone(&handler);
        async move { handler.handle(invocation).await.map_err(Error::from) }
    });
    Runtime::new(service).run_concurrent().await
}

/// Region, credentials and endpoints from Lambda's environment alone: the usual chain also looks in files
/// and calls metadata services that Lambda does not have.
async fn aws_config(http: SharedHttp) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .region(EnvironmentVariableRegionProvider::new())
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .load()
        .await
}
