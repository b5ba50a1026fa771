//! The function's own code in this process, on tokio's paused clock, with the services behind its HTTP interface.
//! It does not know connections and the Runtime API; [`crate::harness`] has the real binary.

use crate::world::aws::Aws;
use crate::world::clevertap::CleverTap;
use crate::world::faulty::Faulty;
use crate::world::secrets_manager::SecretsManager;
use crate::world::{Ending, Service, operation};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{
    Credentials, IdentityCache, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_smithy_async::time::TimeSource;
use bytes::Bytes;
use hyper::{Request, Response};
use lambda_runtime::{Context, LambdaEvent};
use purchasely_clevertap::config::{self, Config};
use purchasely_clevertap::handler::Handler;
use purchasely_clevertap::http::{Exchange, Http, NoResponse, SharedHttp};
use purchasely_clevertap::{app, clock, telemetry};
use serde_json::Value;
use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::SystemTime;

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone)]
pub struct Services {
    pub clevertap: CleverTap,
    pub secrets_manager: Faulty<SecretsManager>,
    pub aws: Faulty<Aws>,
}

/// An environment of the function, as the deployed binary makes it, on another way out.
pub struct Function(Arc<Handler>);

/// Runs something in virtual time, which begins now, and collects what the function logs.
pub fn run<T>(what: impl Future<Output = T>) -> T {
    capture_log();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        clock::simulate(SystemTime::now());
        what.await
    })
}

/// Makes this thread collect what the function logs.
fn capture_log() {
    static START: Once = Once::new();
    START.call_once(|| {
        telemetry::start(config::log_level(|_| Some("DEBUG".to_owned())));
        // The function's log has only the place of a panic; a test that fails has more to say.
        let note = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            note(panic);
            eprintln!("{panic}");
        }));
    });
    telemetry::capture(|line| {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        LOG.with_borrow_mut(|log| log.push(line));
    });
}

/// The lines that the function has logged on this thread since the last call.
pub fn take_log() -> Vec<String> {
    LOG.take()
}

impl Function {
    /// It starts with what the first event needs.
    pub fn start(http: impl Http + 'static, settings: &[(&str, &str)]) -> Self {
        let value = |name: &str| {
            let (_, value) = settings.iter().find(|(setting, _)| *setting == name)?;
            Some((*value).to_owned())
        };
        let config = Config::from_env(value).expect("valid settings");
        let http = SharedHttp(Arc::new(http));
        let handler = app::handler(config, http.clone(), &aws_config(http));
        let handler = Arc::new(handler.expect("a valid URL"));
        app::warm_up(&handler);
        Self(handler)
    }

    /// Invokes it as Lambda does; `Err` is an error of the invocation.
    pub async fn invoke(&self, event: &Value, request_id: &str) -> Result<Value, String> {
        let payload = serde_json::value::to_raw_value(event).expect("JSON");
        let mut context = Context::default();
        context.request_id = request_id.to_owned();
        let event = LambdaEvent::new(payload, context);
        let answer = Arc::clone(&self.0).handle(event).await.map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(answer).expect("an answer is JSON"))
    }
}

impl Http for Services {
    fn exchange(&self, request: Request<Bytes>, max_bytes: usize) -> Exchange {
        let services = self.clone();
        Box::pin(async move {
            let ending = match operation(&request).split('.').next() {
                Some("secretsmanager") => services.secrets_manager.answer(request).await,
                Some("") | None => services.clevertap.answer(request).await,
                Some(_) => services.aws.answer(request).await,
            };
            let response = received(ending)?;
            Ok(response.map(|body| body.filter(|body| body.len() <= max_bytes)))
        })
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Services")
    }
}

/// What the function sees of an answer.
pub fn received(ending: Ending) -> Result<Response<Option<Bytes>>, NoResponse> {
    match ending {
        Ending::Answer(response) => Ok(response.map(Some)),
        Ending::CutShort(response) => Ok(response.map(|_| None)),
        Ending::Close | Ending::Reset => Err(NoResponse::Lost),
    }
}

#[derive(Debug)]
struct Clock;

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        clock::now()
    }
}

fn aws_config(http: SharedHttp) -> SdkConfig {
    // The SDK shares its budget of retries among all clients of a process that have one region.
    static REGIONS: AtomicU64 = AtomicU64::new(0);
    let region = REGIONS.fetch_add(1, Ordering::Relaxed);
    let credentials = Credentials::new("id", "key", None, None, "simulation");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(format!("simulated-{region}")))
        .endpoint_url("https://aws.example")
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .identity_cache(IdentityCache::lazy().build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .time_source(Clock)
        .http_client(http)
        .build()
}
