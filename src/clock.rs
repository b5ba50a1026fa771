//! The one clock: wall-clock time for whatever outlives an invocation, monotonic time for its budget.
//!
//! An execution environment may be frozen for hours, and monotonic time may stop with it; so claims,
//! signatures and the age of the secret go by the wall clock. It does not know what is timed.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

thread_local! {
    static SIMULATED: Cell<Option<(SystemTime, Instant)>> = const { Cell::new(None) };
}

/// The wall clock.
pub fn now() -> SystemTime {
    match SIMULATED.get() {
        None => SystemTime::now(),
        Some((start, since)) => start + since.elapsed(),
    }
}

/// The wall clock as time since 1970.
pub fn unix_time() -> Duration {
    now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The monotonic clock.
pub fn instant() -> Instant {
    Instant::now()
}

/// Makes this thread's wall clock start at `start` and follow tokio's clock, which a test may pause.
pub fn simulate(start: SystemTime) {
    SIMULATED.set(Some((start, Instant::now())));
}
