//! Log lines about the function itself and from its dependencies, in the form of an event's line.
//!
//! It does not know what is worth a line. It replaces tracing-subscriber, which does the same and makes
//! the binary larger (benches/README.md).

use serde::Serialize;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

thread_local! {
    static LAST_PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

tokio::task_local! {
    static INVOCATION: Invocation;
}

struct Invocation {
    request_id: String,
    trace_id: Option<String>,
    /// How many unique ids it has been given.
    ids: Cell<u32>,
}

/// Writes the function's own lines from `level` on to standard output, and those of other crates from WARN
/// on: at TRACE the Lambda runtime prints whole webhooks.
pub fn start(level: LevelFilter) {
    // Only a test can have set one before.
    let _ = tracing::subscriber::set_global_default(Lines { level });
    std::panic::set_hook(Box::new(note_panic));
}

fn note_panic(panic: &PanicHookInfo<'_>) {
    // The message may quote the webhook; the place is enough.
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "panicked");
    LAST_PANIC.set(Some(place));
}

/// Notes the places of panics as [`start`] does; other tests of the process still get their messages.
#[cfg(test)]
pub fn note_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        note_panic(panic);
        report(panic);
    }));
}

/// Runs pure code. If it panics, the error is the place in the source, once [`start`] was called.
pub fn catch_panic<T>(pure: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(pure)).map_err(|_| LAST_PANIC.take().unwrap_or_default())
}

/// Puts an invocation's ids into each line that is written while `serving` runs.
pub fn with_request_ids<F: Future>(
    request_id: String,
    trace_id: Option<String>,
    serving: F,
) -> impl Future<Output = F::Output> {
    INVOCATION.scope(Invocation { request_id, trace_id, ids: Cell::new(0) }, serving)
}

/// An id that nobody else has: Lambda's for the invocation and a number. Without that, a random one, which
/// comes from the time alone.
pub fn unique_id() -> String {
    let of_invocation = INVOCATION.try_with(|invocation| {
        invocation.ids.update(|ids| ids + 1);
        let (request_id, number) = (&invocation.request_id, invocation.ids.get());
        (!request_id.is_empty()).then(|| format!("{request_id}-{number}"))
    });
    let of_invocation = of_invocation.ok().flatten();
    of_invocation.unwrap_or_else(|| format!("{:032x}", fastrand::u128(..)))
}

struct Lines {
    level: LevelFilter,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        let level = if own {
            self.level
        } else {
            self.level.min(LevelFilter::WARN)
        };
        metadata.is_event() && *metadata.level() <= level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let Fields(mut fields) = fields;
        // Outside an invocation there are no ids.
        let ids = INVOCATION
            .try_with(|invocation| (invocation.request_id.clone(), invocation.trace_id.clone()));
        let (request_id, trace_id) = ids.ok().unzip();
        super::print(&Line {
            timestamp: super::timestamp(crate::clock::now()),
            level: event.metadata().level().as_str(),
            message: fields.remove("message").unwrap_or_default(),
            target: event.metadata().target(),
            request_id,
            trace_id: trace_id.flatten(),
            fields,
        });
    }

    // A line has all its fields itself, so spans are never enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[derive(Serialize)]
struct Line<'l> {
    timestamp: String,
    level: &'l str,
    message: Value,
    target: &'l str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }
    fn record_u128(&mut self, field: &Field, value: u128) {
        self.insert(field, u64::try_from(value).unwrap_or(u64::MAX));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_id_is_unique_by_its_invocation_and_number() {
        let ids = |request_id: &str| {
            with_request_ids(request_id.to_owned(), None, async { [unique_id(), unique_id()] })
        };
        assert_eq!(ids("a").await, ["a-1", "a-2"]);
        assert_eq!(ids("b").await, ["b-1", "b-2"]);
        let [one, other] = ids("").await;
        assert_ne!(one, other);
        assert_ne!(unique_id(), unique_id());
    }
}
