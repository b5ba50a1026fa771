//! The function's own code in a simulated world: both vendors, AWS and Lambda in memory, on tokio's paused clock.
//! It does not know the function beyond its wiring, its HTTP interface, its clock and its log.
//!
//! Everything that is random comes from the seed, so a run repeats exactly: [`run`] twice, on any threads, gives
//! the same digest. TLS, connection pools and real sockets are for the tests on loopback.

mod checks;
mod claims_table;
mod faults;
mod lambda;
mod link;
mod scenario;
mod sender;
mod sqs;
mod world;

pub use faults::{Fault, Service};
pub use scenario::Scenario;

use purchasely_clevertap::{config, telemetry};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use world::World;

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What happened in a run.
#[derive(Debug)]
pub struct Run {
    /// What runs it again.
    pub command: String,
    /// Of everything that happened, in its order.
    pub digest: u64,
    /// What must not happen and did.
    pub problems: Vec<String>,
    /// One line for each thing that happened.
    pub trace: Vec<String>,
    pub events: usize,
    /// How often the function's invocations were polled: each poll may be the last.
    pub polls: u64,
    /// The service of each request that the function sent, and whether a fault befell it.
    pub exchanges: Vec<(Service, bool)>,
    pub kills: usize,
    /// Records that CleverTap accepted again, by the cause.
    pub duplicates: BTreeMap<&'static str, usize>,
    pub dead_letters: usize,
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

/// Every short run: each fault of each exchange, a kill after each poll, and some faults beside a kill.
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
        for (exchange, (service, _)) in calm.exchanges.iter().enumerate() {
            for fault in 0..service.faults().len() {
                let faulty = short.clone().with_fault(exchange, fault);
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

/// Runs scenarios on all cores in their order, calls `on_end` after each, which may stop it, and returns the runs in
/// the order in which they ended.
pub fn run_all(
    scenarios: &[Scenario],
    on_end: impl Fn(&Run) -> ControlFlow<()> + Sync,
) -> Vec<Run> {
    let (next, runs) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut run = run(scenario);
                    // Who wants it runs that scenario again.
                    run.trace.clear();
                    if on_end(&run).is_break() {
                        next.store(scenarios.len(), Ordering::Relaxed);
                    }
                    runs.lock().expect("no thread panics").push(run);
                }
            });
        }
    });
    runs.into_inner().expect("no thread panics")
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
        checks::judge(&world)
    })
}
