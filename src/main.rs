//! Puts the function together: log, settings, clients, a head start on what the first event needs,
//! and then the runtime's loop. It holds no rule of its own.

use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use lambda_runtime::{Error, LambdaEvent, Runtime, service_fn};
use purchasely_clevertap::aws::claims::Claims;
use purchasely_clevertap::aws::http::SharedClient;
use purchasely_clevertap::aws::queues::{DeadLetterQueue, EventQueue};
use purchasely_clevertap::aws::secret::Secrets;
use purchasely_clevertap::clevertap::Client;
use purchasely_clevertap::config::{self, Config, SignaturePolicy};
use purchasely_clevertap::handler::Handler;
use purchasely_clevertap::relay::Relay;
use purchasely_clevertap::telemetry;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::value::RawValue;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// `EX_CONFIG` of sysexits.h.
const MISCONFIGURED: u8 = 78;
const CONNECTING: Duration = Duration::from_secs(1);
/// Less than the idle timeout of load balancers, so that a kept connection is seldom a dead one.
const KEPT_IDLE: Duration = Duration::from_secs(45);
/// A connection on which nothing is acknowledged for this long is dead.
const UNACKNOWLEDGED: Duration = Duration::from_secs(2);
const AWS_ATTEMPT: Duration = Duration::from_millis(1500);
const AWS_OPERATION: Duration = Duration::from_millis(3500);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    telemetry::start(config::log_level(config::environment));
    let config = match Config::from_env(config::environment) {
        Ok(config) => config,
        Err(mistakes) => {
            let count = mistakes.len();
            let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            tracing::error!(
                mistakes = count,
                "the settings cannot be used: {}",
                told.join("; ")
            );
            return ExitCode::from(MISCONFIGURED);
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
        region = %config.region,
        "started"
    );
    for warning in config.warnings.iter().chain(&config.missing_guarantees()) {
        tracing::warn!("{warning}");
    }
    let http = http_client(config.root_certificates.as_deref())?;
    let aws = aws_config(http.clone()).await;
    let secrets = Arc::new(Secrets::new(
        aws_sdk_secretsmanager::Client::new(&aws),
        config.secret_id,
        config.signature != SignaturePolicy::Off,
    ));
    let mut client = Client::new(http, config.upload_url);
    if config.dry_run {
        client = client.dry();
    }
    // Both go on while the runtime asks for the first event.
    secrets.prefetch();
    client.warm_up();

    let event_queue = config
        .event_queue_url
        .map(|url| EventQueue::new(aws_sdk_sqs::Client::new(&aws), url));
    let handler = Arc::new(Handler {
        event_queue,
        cold: true.into(),
        signature: config.signature,
        secrets: Arc::clone(&secrets),
        relay: Relay {
            rules: config.rules,
            client,
            account_id: config.account_id,
            sandbox_account_id: config.sandbox_account_id,
            dry_run: config.dry_run,
            secrets,
            claims: config
                .deduplication_table
                .map(|table| Claims::new(aws_sdk_dynamodb::Client::new(&aws), table)),
            dead_letters: config
                .dead_letter_queue_url
                .map(|url| DeadLetterQueue::new(aws_sdk_sqs::Client::new(&aws), url)),
        },
    });
    let service = service_fn(move |invocation: LambdaEvent<Box<RawValue>>| {
        let handler = Arc::clone(&handler);
        async move { handler.handle(invocation).await.map_err(Error::from) }
    });
    Runtime::new(service).run_concurrent().await
}

/// One client for CleverTap and AWS: one TLS configuration, one pool, no redirects (which would take
/// the passcode along), no proxy, no repetition of its own.
fn http_client(root_certificates: Option<&Path>) -> Result<reqwest::Client, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(root_certificates)?)
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .connect_timeout(CONNECTING)
        .pool_idle_timeout(KEPT_IDLE)
        .tcp_user_timeout(UNACKNOWLEDGED)
        .tcp_nodelay(true)
        .build()?)
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let told = |error: &dyn std::fmt::Display| {
        format!(
            "SSL_CERT_FILE: {} holds no usable certificates in PEM: {error}",
            file.display()
        )
    };
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| told(&error))? {
        let certificate = certificate.map_err(|error| told(&error))?;
        roots.add(certificate).map_err(|error| told(&error))?;
    }
    if roots.is_empty() {
        return Err(told(&"it is empty").into());
    }
    Ok(roots)
}

/// Region, credentials and endpoints straight from Lambda's environment; the usual chain would look
/// in files and ask metadata services that are not there.
async fn aws_config(http: reqwest::Client) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(SharedClient(http))
        .region(EnvironmentVariableRegionProvider::new())
        .credentials_provider(EnvironmentVariableCredentialsProvider::new())
        .timeout_config(
            TimeoutConfig::builder()
                .operation_attempt_timeout(AWS_ATTEMPT)
                .operation_timeout(AWS_OPERATION)
                .build(),
        )
        .load()
        .await
}
