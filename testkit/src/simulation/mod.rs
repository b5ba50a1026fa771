//! The function's own code in a simulated world: both vendors, AWS and Lambda in memory, on tokio's paused clock.
//! It does not know the function beyond its wiring, its HTTP interface, its clock and its log.
//!
//! Everything that is random comes from the seed, so a run repeats exactly: [`run`] twice, on any threads, gives
//! the same digest. TLS, connection pools and real sockets are for the tests on loopback.

mod checks;
mod faults;
mod lambda;
mod link;
mod scenario;
mod sender;
mod world;

pub use faults::{Fault, Service};
pub use scenario::{Length, Scenario, once_failed};
pub(crate) use sender::ids_in;
pub use sender::{READ_TIMEOUT, RETRIES, delay_after};

use purchasely_clevertap::{config, telemetry};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;
use world::World;

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What happened in a run.
#[derive(Debug)]
pub struct Run {
    /// What runs it again.
    pub command: String,
    pub length: Length,
    /// The mode in which it begins.
    pub mode: &'static str,
    /// Of everything that happened, in its order.
    pub digest: u64,
    /// What must not happen and did.
    pub problems: Vec<String>,
    /// One line for each thing that happened.
    pub trace: Vec<String>,
    /// How each event fared.
    pub history: Vec<History>,
    /// How often the function's invocations were polled: each poll may be the last.
    pub polls: u64,
    /// The service of each request that the function sent.
    pub requests: Vec<Service>,
    /// Those that something befell, by the kind of fault.
    pub faults: BTreeMap<&'static str, usize>,
    pub kills: usize,
    /// Webhooks that Lambda refused because no environment was free.
    pub throttled: usize,
    /// Records that CleverTap accepted again, by the cause.
    pub duplicates: BTreeMap<&'static str, usize>,
    pub dead_letters: usize,
}

/// How an event fared. Times are since the world began.
#[derive(Debug)]
pub struct History {
    pub sent: Duration,
    /// How many attempts Purchasely saw fail.
    pub failures: u64,
    pub acknowledged: Option<Duration>,
    /// When CleverTap or the dead-letter queue first had it, or when it was ignored.
    pub settled: Option<Duration>,
    /// When a record of it arrived again.
    pub repeated: Vec<Duration>,
}

impl History {
    /// For how long its user's later events had to wait for it, if an attempt failed.
    pub fn block(&self) -> Option<Duration> {
        let acknowledged = self.acknowledged.filter(|_| self.failures > 0)?;
        Some(acknowledged.saturating_sub(self.sent))
    }
}

/// Runs a scenario on a thread of its own, because seeds, clock and log belong to the thread.
pub fn run(scenario: &Scenario) -> Run {
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
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(16 << 20);
        let running = thread.spawn_scoped(scope, || run_here(scenario)).expect("a thread");
        running.join().expect("the simulation itself does not panic")
    })
}

/// Every short run: a kill after each poll, each fault of each request, and some of the faults beside a kill.
pub fn short_runs() -> Vec<Scenario> {
    // A lost answer, a refused connection, and the longest delay of an answer.
    const BESIDE_A_KILL: [usize; 3] = [0, 1, 6];
    let mut scenarios = Vec::new();
    for (is_queue, is_revenue_refused) in
        [(false, false), (true, false), (false, true), (true, true)]
    {
        let short = Scenario::short(is_queue, is_revenue_refused);
        let calm = run(&short);
        scenarios.push(short.clone());
        scenarios.extend((1..=calm.polls).map(|poll| short.clone().killed_at(poll)));
        for (request, service) in calm.requests.iter().enumerate() {
            for fault in 0..service.faults().len() {
                let faulty = short.clone().with_fault(request, fault);
                if !is_revenue_refused && BESIDE_A_KILL.contains(&fault) {
                    let polls = calm.polls + 2;
                    scenarios.extend((1..=polls).map(|poll| faulty.clone().killed_at(poll)));
                }
                scenarios.push(faulty);
            }
        }
    }
    scenarios
}

/// Runs scenarios on all cores and hands over each run as it ends, until there is no scenario left or `on_end` breaks.
pub fn run_all(
    scenarios: impl IntoIterator<Item = Scenario, IntoIter: Send>,
    on_end: impl FnMut(Run) -> ControlFlow<()> + Send,
) {
    let (scenarios, on_end) = (Mutex::new(scenarios.into_iter().fuse()), Mutex::new(on_end));
    let is_over = AtomicBool::new(false);
    let next = || scenarios.lock().expect("no thread panics").next();
    let work = || {
        while !is_over.load(Ordering::Relaxed)
            && let Some(scenario) = next()
        {
            let mut run = run(&scenario);
            // Who wants it runs that scenario again.
            run.trace = Vec::new();
            if on_end.lock().expect("no thread panics")(run).is_break() {
                is_over.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(work);
        }
    });
}

fn run_here(scenario: &Scenario) -> Run {
    fastrand::seed(scenario.seed);
    telemetry::capture(|line| {
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        LOG.with_borrow_mut(|log| log.push(line));
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let world = Arc::new(World::new(scenario.clone()));
        world.set_clock(0);
        sender::play(&world).await;
        let run = checks::judge(&world);
        // Environments have the world, and the world has them.
        world.state().idle.clear();
        run
    })
}
