//! The function's own code in simulated worlds: guarantees under faults, kills and incidents.
//! It opens no socket; `tests/it` does.

use std::ops::ControlFlow;
use std::time::Duration;
use testkit::simulation::{History, Length, Limit, Load, Scenario, run, run_all, short_runs};

/// As many as `make test` has time for; `make soak` runs more.
const WORLDS: u64 = 200;

/// Runs all scenarios on all cores. Each that fails is one line, with the command that repeats it.
#[track_caller]
fn check(scenarios: impl IntoIterator<Item = Scenario, IntoIter: Send>) {
    let (mut count, mut failures) = (0, Vec::new());
    run_all(scenarios, |run| {
        count += 1;
        let command = run.scenario.command();
        failures.extend(run.problems.first().map(|problem| format!("{command}: {problem}")));
        ControlFlow::Continue(())
    });
    assert!(
        count > 0 && failures.is_empty(),
        "{} of {count}:\n{}",
        failures.len(),
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
    check(short_runs());
}

#[test]
fn storms_break_no_guarantee() {
    check((0..WORLDS).map(Scenario::of_seed));
}

#[test]
fn a_retry_that_finds_no_environment_is_no_failure_of_the_function() {
    // Buyers who come together meet again with each retry, for hours after the storm.
    let run = run(&Scenario {
        users: 40,
        events_per_user: 3,
        environments: 2,
        storm: Duration::from_hours(2),
        is_queue: false,
        ..Scenario::of_seed(902_400)
    });
    let longest = run.history.iter().filter_map(History::block).max();
    assert!(run.throttled > 0);
    assert!(longest > Some(Duration::from_hours(5)), "{longest:?}");
    assert_eq!(run.problems, [""; 0]);
}

/// The bench `capacity` is made of such worlds.
#[test]
fn a_world_that_only_counts_meets_a_limit_and_loses_nothing() {
    let seconds = Duration::from_secs;
    // CleverTap takes 15 uploads at once: 75 a second if each takes 200 ms.
    let load = Load {
        window: seconds(2),
        end: Duration::MAX,
        clevertap: Duration::from_millis(200),
        outage: seconds(0)..seconds(1),
        ..Load::default()
    };
    for is_queue in [false, true] {
        let run = run(&Scenario {
            length: Length::Short,
            users: 100,
            events_per_user: 2,
            is_queue,
            has_table: true,
            environments: 1000,
            pollers: 10,
            max_receive_count: 1000,
            load: Some(load.clone()),
            ..Scenario::default()
        });
        assert_eq!(run.problems, [""; 0]);
        assert!(run.history.iter().all(|event| event.settled > Some(event.due)));
        assert_eq!(run.met.iter().any(|(limit, _)| *limit == Limit::Uploads), !is_queue);
        assert!(run.history.iter().any(|event| event.failures > 0) != is_queue);
    }
}

#[test]
fn each_deliberate_defect_still_applies() {
    let defects = testkit::template::parse(include_str!("defects.yaml")).unwrap();
    for defect in defects.as_array().unwrap() {
        let [name, file, find, replace] =
            ["name", "file", "find", "replace"].map(|key| defect[key].as_str().expect(key));
        let code = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR")));
        let count = code.expect(file).matches(find).count();
        assert!(count == 1 && find != replace, "{name} {count} times in {file}: {find}");
    }
}
