//! The function's own code in a simulated world: both vendors, AWS and Lambda in memory, on tokio's paused clock.
//! It does not know the function beyond its wiring, its HTTP interface, its clock and its log.
//!
//! Everything that is random comes from the seed, so a run repeats exactly: [`run`] twice, on any threads, gives
//! the same digest. TLS, connection pools and real sockets are for the tests on loopback.
//!
//! Each file imports only from those before it: `scenario`, `faults`, `events`, `history`, `world`, `http`, `lambda`, `purchasely` and `incidents`, `checks`.

mod checks;
mod events;
mod faults;
mod history;
mod http;
mod incidents;
mod lambda;
mod purchasely;
mod scenario;
mod world;

pub use faults::{Fault, Service};
pub use history::{History, Limit, Run};
pub use purchasely::{READ_TIMEOUT, RETRIES, delay_after};
pub use scenario::{Length, Load, Scenario, once_failed};

use crate::in_memory;
use incidents::Incident;
use lambda::Lambda;
use purchasely::Purchasely;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use world::{MAX_DRAIN, World};

const CLEVERTAP_FIXED: Duration = Duration::from_mins(10);

/// Runs a scenario on a thread of its own, because seeds, clock and log belong to the thread.
pub fn run(scenario: &Scenario) -> Run {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(16 << 20);
        let running = thread.spawn_scoped(scope, || run_here(scenario)).expect("a thread");
        running.join().expect("the simulation itself does not panic")
    })
}

/// Every short run: a kill after each poll, each fault of each request, and some of the faults beside a kill; with a
/// backend and without a claims table, each fault of each request to the backend.
pub fn short_runs() -> Vec<Scenario> {
    // A lost answer, a refused connection, and the longest delay of an answer.
    const BESIDE_A_KILL: [usize; 3] = [0, 1, 6];
    let killed = |scenario: &Scenario, poll| Scenario { kill_at: Some(poll), ..scenario.clone() };
    let mut scenarios = Vec::new();
    for (is_queue, is_revenue_refused) in
        [(false, false), (true, false), (false, true), (true, true)]
    {
        let short = Scenario::short(is_queue, is_revenue_refused);
        let calm = run(&short);
        scenarios.push(short.clone());
        scenarios.extend((1..=calm.polls).map(|poll| killed(&short, poll)));
        for (request, service) in calm.requests.iter().enumerate() {
            for fault in 0..service.faults().len() {
                let faulty = Scenario { fault_at: Some((request, fault)), ..short.clone() };
                if !is_revenue_refused && BESIDE_A_KILL.contains(&fault) {
                    let polls = calm.polls + 2;
                    scenarios.extend((1..=polls).map(|poll| killed(&faulty, poll)));
                }
                scenarios.push(faulty);
            }
        }
    }
    for short in [false, true].map(Scenario::short_with_backend) {
        let requests = run(&short).requests;
        let to_backend = requests.iter().enumerate().filter(|(_, to)| **to == Service::Backend);
        for (request, backend) in to_backend {
            let faulty = |fault| Scenario { fault_at: Some((request, fault)), ..short.clone() };
            scenarios.extend((0..backend.faults().len()).map(faulty));
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
    in_memory::run(async {
        let world = Arc::new(World::new(scenario.clone()));
        if scenario.load.is_some() {
            count(&world).await;
            return checks::count(&world);
        }
        play(&world).await;
        checks::judge(&world)
    })
}

/// Lets a world run that has nothing but a load.
async fn count(world: &Arc<World>) {
    let (_, purchasely) = begin(world);
    buy(world, &purchasely).await;
    world.drain(Instant::now() + 10 * MAX_DRAIN).await;
}

/// The function's deployment, with Lambda's pollers, and its sender.
fn begin(world: &Arc<World>) -> (Arc<Lambda>, Arc<Purchasely>) {
    let lambda = Arc::new(Lambda::new(world));
    for _ in 0..world.scenario.pollers {
        tokio::spawn(Arc::clone(&lambda).deliver());
    }
    let purchasely = Arc::new(Purchasely::new(world, &lambda));
    (lambda, purchasely)
}

/// Sends all events until they are acknowledged.
async fn buy(world: &Arc<World>, purchasely: &Arc<Purchasely>) {
    let users: Vec<_> = (0..world.scenario.users)
        .map(|user| tokio::spawn(Arc::clone(purchasely).user(user)))
        .collect();
    for (user, task) in users.into_iter().enumerate() {
        if task.await.is_err() {
            world.problem(format!("user {user} panicked"));
        }
    }
}

/// Lets a world run from its first event until nothing is under way.
async fn play(world: &Arc<World>) {
    let (lambda, purchasely) = begin(world);
    let incidents = {
        let (world, lambda) = (Arc::clone(world), Arc::clone(&lambda));
        tokio::spawn(async move { incidents::happen(&world, &lambda).await })
    };
    buy(world, &purchasely).await;
    let end = Instant::now() + MAX_DRAIN;
    if !matches!(timeout_at(end, incidents).await, Ok(Ok(()))) {
        world.problem("the switch to direct never ends".to_owned());
    }
    world.drain(end).await;
    sleep(CLEVERTAP_FIXED).await;
    world.state().takes_poison = true;
    // What dead letters say about their records must do without the table.
    if world.scenario.length == Length::Usual && world.state().rng.bool() {
        Incident::TableReplaced.happen(world, &lambda).await;
    }
    world.redrive();
    world.drain(Instant::now() + MAX_DRAIN).await;
    purchasely.replay().await;
    // Requests that are still under way.
    sleep(Duration::from_mins(2)).await;
    world.note("the end");
}
