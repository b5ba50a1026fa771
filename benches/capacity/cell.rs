//! The loads, each as a world, and what a world says in figures.
//! It does not know prices.

use crate::page::Prices;
use std::time::Duration;
use testkit::simulation::{self, History, Limit, Run, Scenario, Service};

pub const ANSWERS_MS: [u64; 3] = [50, 200, 500];
/// And 1,000, an account's quota, with which each load runs.
pub const ENVIRONMENTS: [usize; 5] = [1, 5, 15, 50, 200];
/// `MaximumConcurrency` of the template's event source mapping, in each mode.
const POLLERS: [usize; 2] = [2, 10];
/// What services in the same region take for a request, roughly.
const DYNAMODB: Duration = Duration::from_millis(4);
const SQS: Duration = Duration::from_millis(10);
const OUTAGE: [Duration; 2] = [Duration::from_mins(5), Duration::from_mins(65)];
/// A message that waits longer in the event queue was not taken at once.
const LATE: f64 = 2.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Ten,
    Fifty,
    Thousand,
    TenMinutes,
    Burst,
    Outage,
}

/// What one load led to, in one mode and with one CleverTap.
#[derive(Debug)]
pub struct Cell {
    pub load: Load,
    pub is_queue: bool,
    pub answer_ms: u64,
    /// Of the account, or reserved for the function.
    pub environments: usize,
    pub most_environments: usize,
    /// Of all attempts, the share that each limit refused; the first one met is first.
    pub met: Vec<(Limit, f64)>,
    /// Whether messages waited for a batch.
    pub is_behind: bool,
    /// Events that reached CleverTap while others came.
    pub per_second: f64,
    /// From an event until Purchasely has its 200, in seconds: the median and p99, infinite where it has none.
    pub wait: [f64; 2],
    /// From the last event, or from the end of the outage, until all are in CleverTap, in seconds.
    pub last: f64,
    /// For each event, whether or not it reached CleverTap.
    pub sent_again: f64,
    /// For each event that reached CleverTap.
    pub per_event: PerEvent,
}

#[derive(Debug)]
pub struct PerEvent {
    /// What Purchasely sent.
    pub requests: f64,
    /// Of them, and of batches.
    pub invocations: [f64; 2],
    /// Seconds of all invocations.
    pub duration: f64,
    pub dynamodb: f64,
    /// The function's own.
    pub sqs: f64,
}

impl Load {
    pub const ALL: [Self; 6] = [
        Self::Ten,
        Self::Fifty,
        Self::Thousand,
        Self::TenMinutes,
        Self::Burst,
        Self::Outage,
    ];

    /// Events each second, for how many seconds, and how many of one user.
    pub fn shape(self) -> (u32, u32, usize) {
        match self {
            Self::Ten => (10, 600, 3),
            Self::Fifty => (50, 600, 3),
            Self::Thousand => (1000, 60, 3),
            Self::TenMinutes => (1000, 600, 3),
            Self::Burst => (200, 60, 1),
            Self::Outage => (20, 9000, 3),
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Ten => "10 per second",
            Self::Fifty => "50 per second",
            Self::Thousand => "1,000 per second",
            Self::TenMinutes => "1,000 per second for ten minutes",
            Self::Burst => "12,000 in a minute",
            Self::Outage => "20 per second, CleverTap is down for an hour",
        }
    }

    /// Whether it could go on for ever.
    pub fn is_steady(self) -> bool {
        !matches!(self, Self::Burst | Self::Outage)
    }

    pub fn scenario(
        self,
        is_queue: bool,
        answer_ms: u64,
        environments: usize,
        is_short: bool,
        prices: &Prices,
    ) -> Scenario {
        let (rate, seconds, events_per_user) = self.shape();
        let seconds = if is_short { seconds / 4 } else { seconds };
        let window = Duration::from_secs(seconds.into());
        // More than is carried: the API's limit is raised, and in the end Purchasely keeps what is not acknowledged.
        let is_flood = matches!(self, Self::Thousand | Self::TenMinutes);
        Scenario {
            // It names the load.
            seed: self as u64,
            length: simulation::Length::Short,
            users: (rate * seconds) as usize / events_per_user,
            events_per_user,
            is_queue,
            has_table: true,
            environments,
            pollers: POLLERS[usize::from(is_queue)],
            max_receive_count: 1000,
            load: Some(simulation::Load {
                window,
                end: if is_flood { window } else { Duration::MAX },
                clevertap: Duration::from_millis(answer_ms),
                dynamodb: DYNAMODB,
                sqs: SQS,
                cpu: prices.cpu,
                // For a flood, it is raised.
                throttling: (!is_flood).then_some(prices.throttling),
                outage: match self {
                    Self::Outage => OUTAGE[0]..OUTAGE[1],
                    _ => Duration::ZERO..Duration::ZERO,
                },
            }),
            ..Scenario::default()
        }
    }
}

impl Cell {
    pub fn of(run: &Run) -> Self {
        let scenario = &run.scenario;
        let load = scenario.load.as_ref().expect("a world that counts");
        let wait = |event: &History| Some((event.acknowledged? - event.due).as_secs_f64());
        let waits = sorted(run.history.iter().map(|event| wait(event).unwrap_or(f64::INFINITY)));
        let settled =
            sorted(run.history.iter().filter_map(|event| Some(event.settled?.as_secs_f64())));
        let queued = |event: &History| {
            Some(event.settled?.saturating_sub(event.acknowledged?).as_secs_f64())
        };
        let queued = sorted(run.history.iter().filter_map(queued));
        let answered = run.history.iter().filter(|event| event.acknowledged.is_some()).count();
        let is_cut = answered < run.history.len();
        let failures: u64 = run.history.iter().map(|event| event.failures).sum();
        let failures = usize::try_from(failures).expect("fewer than deliveries");
        let requests = answered + failures;
        let each = |count: usize| number(count) / number(settled.len());
        let of = |service| run.requests.iter().filter(|it| **it == service).count();
        let share = |(limit, count): &(Limit, usize)| {
            let all = if *limit == Limit::Uploads {
                of(Service::CleverTap)
            } else {
                requests
            };
            (*limit, number(*count) / number(all))
        };
        let from = if load.outage.is_empty() {
            load.window
        } else {
            load.outage.end
        };
        let window = load.window.as_secs_f64();
        Self {
            load: Load::ALL.into_iter().find(|it| *it as u64 == scenario.seed).expect("a load"),
            is_queue: scenario.is_queue,
            answer_ms: u64::try_from(load.clevertap.as_millis()).expect("a short time"),
            environments: scenario.environments,
            most_environments: run.environments,
            met: run.met.iter().map(share).collect(),
            is_behind: percentile(&queued, 99) > LATE,
            per_second: number(settled.partition_point(|at| *at <= window)) / window,
            wait: [50, 99].map(|percent| percentile(&waits, percent)),
            last: if is_cut {
                f64::INFINITY
            } else {
                (percentile(&settled, 100) - from.as_secs_f64()).max(0.0)
            },
            sent_again: number(failures) / number(run.history.len()),
            per_event: PerEvent {
                requests: each(requests),
                invocations: run.invocations.map(each),
                duration: run.billed.as_secs_f64() / number(settled.len()),
                dynamodb: each(of(Service::DynamoDb)),
                sqs: each(of(Service::Sqs)),
            },
        }
    }
}

fn sorted(seconds: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<_> = seconds.collect();
    all.sort_by(f64::total_cmp);
    all
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or_default()
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a count of this bench is below four billion"))
}
