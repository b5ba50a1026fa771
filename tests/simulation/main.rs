//! The function's own code in simulated worlds: guarantees under faults, kills and incidents.
//! It opens no socket; `tests/it` does.

use testkit::simulation::{Scenario, run, run_all};

/// As many as `make test` has time for; `cargo relay simulate` runs more.
const WORLDS: u64 = 200;

/// Runs all scenarios on all cores. Each that fails is one line, with the command that repeats it.
#[track_caller]
fn check(scenarios: &[Scenario]) {
    let failures: Vec<_> = run_all(scenarios, |_| {})
        .into_iter()
        .filter_map(|run| Some(format!("{}: {}", run.command, run.problems.first()?)))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {}:\n{}",
        failures.len(),
        scenarios.len(),
        failures.join("\n")
    );
}

#[test]
fn a_seed_repeats_exactly() {
    for seed in 0..4 {
        let scenario = Scenario::of_seed(seed);
        let [first, second] = [run(&scenario), run(&scenario)];
        let difference = first.trace.iter().zip(&second.trace).find(|(a, b)| a != b);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}

#[test]
fn no_kill_and_no_fault_breaks_a_short_run() {
    // A lost answer, a refused connection, and the longest delay of an answer.
    const BESIDE_A_KILL: [usize; 3] = [0, 1, 6];
    let mut scenarios = Vec::new();
    for (is_queue, is_revenue_refused) in
        [(false, false), (true, false), (false, true), (true, true)]
    {
        let short = Scenario::short(is_queue, is_revenue_refused);
        let calm = run(&short);
        assert!(calm.problems.is_empty(), "{:?}", calm.problems);
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
    check(&scenarios);
}

#[test]
fn storms_break_no_guarantee() {
    let scenarios: Vec<_> = (0..WORLDS).map(Scenario::of_seed).collect();
    check(&scenarios);
}
