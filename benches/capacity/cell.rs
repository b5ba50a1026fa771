//! The loads, each as a world, and what a world says in figures.
//! It does not know prices.

use crate::page::Prices;
use std::time::Duration;
use testkit::simulation::{self, History, Limit, Run, Scenario, Service};

pub const ANSWERS_MS: [u64; 3] = [50, 200, 500];
pub const ENVIRONMENTS: [usize; 6] = [1, 5, 15, 50, 200, MOST];
/// An account's quota.
pub const MOST: usize = 1000;
/// `MaximumConcurrency` of the template's event source mapping, in each mode.
const POLLERS: [usize; 2] = [2, 10];
/// What services in the same region take for a request, roughly.
const DYNAMODB: Duration = Duration::from_millis(4);
const SQS: Duration = Duration::from_millis(10);
const OUTAGE: [Duration; 2] = [Duration::from_mins(5), Duration::from_mins(65)];
/// In seconds. A message that is longer in the event queue was not taken at once.
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

/// A load in one mode, with one CleverTap and so many environments: the account's, or those reserved for the function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub load: Load,
    pub is_queue: bool,
    pub answer_ms: u64,
    pub environments: usize,
}

/// What it led to. Times are in seconds.
#[derive(Debug)]
pub struct Cell {
    pub setup: Setup,
    pub most_environments: usize,
    /// The share of uploads or of webhooks that each limit refused, in the order of the first time.
    pub met: Vec<(Limit, f64)>,
    /// Whether messages waited for a batch.
    pub is_behind: bool,
    /// Events that reached CleverTap while others came.
    pub per_second: f64,
    /// From an event until Purchasely has its 200: the median and p99, infinite where it has none.
    pub wait: [f64; 2],
    /// From the last event until all are in CleverTap, or from the end of an outage until all are that came before it;
    /// infinite where Purchasely has some.
    pub last: f64,
    /// For each event.
    pub sent_again: f64,
    /// These are for each event that reached CleverTap: what Purchasely sent, the invocations with a webhook and with a
    /// batch and their duration, and the function's requests to DynamoDB and SQS.
    pub requests: f64,
    pub invocations: [f64; 2],
    pub duration: f64,
    pub writes: f64,
    pub sqs: f64,
}

impl Load {
    pub const ALL: [Self; 6] = [
        Self::Ten,
        Self::Fifty,
        Self::Thousand,
        Self::Burst,
        Self::TenMinutes,
        Self::Outage,
    ];
    /// Those that take long.
    pub const LONG: [Self; 2] = [Self::TenMinutes, Self::Outage];

    /// Its name, events each second, for how many seconds, and how many of one user.
    pub fn shape(self) -> (&'static str, u32, u32, usize) {
        match self {
            Self::Ten => ("10 per second", 10, 600, 3),
            Self::Fifty => ("50 per second", 50, 600, 3),
            Self::Thousand => ("1,000 per second", 1000, 60, 3),
            Self::TenMinutes => ("1,000 per second for ten minutes", 1000, 600, 3),
            Self::Burst => ("12,000 in a minute", 200, 60, 1),
            Self::Outage => ("20 per second, CleverTap is down for an hour", 20, 9000, 3),
        }
    }

    /// Whether it could go on for ever.
    pub fn is_steady(self) -> bool {
        !matches!(self, Self::Burst | Self::Outage)
    }

    /// Whether it is more than is carried: then API Gateway's throttling is lifted, and in the end Purchasely keeps what
    /// is not acknowledged.
    pub fn is_flood(self) -> bool {
        matches!(self, Self::Thousand | Self::TenMinutes)
    }
}

impl Setup {
    pub fn scenario(self, is_short: bool, prices: &Prices) -> Scenario {
        let (_, rate, seconds, events_per_user) = self.load.shape();
        let seconds = if is_short { seconds / 4 } else { seconds };
        let window = Duration::from_secs(seconds.into());
        let is_outage = self.load == Load::Outage;
        let load = simulation::Load {
            window,
            end: if self.load.is_flood() { window } else { Duration::MAX },
            clevertap: Duration::from_millis(self.answer_ms),
            dynamodb: DYNAMODB,
            sqs: SQS,
            cpu: prices.cpu,
            throttling: (!self.load.is_flood()).then_some(prices.throttling),
            outage: if is_outage {
                OUTAGE[0]..OUTAGE[1]
            } else {
                window..window
            },
        };
        Scenario {
            length: simulation::Length::Short,
            users: (rate * seconds) as usize / events_per_user,
            events_per_user,
            is_queue: self.is_queue,
            has_table: true,
            environments: self.environments,
            pollers: POLLERS[usize::from(self.is_queue)],
            max_receive_count: 1000,
            load: Some(load),
            ..Scenario::default()
        }
    }
}

impl Cell {
    pub fn of(setup: Setup, run: &Run) -> Self {
        let load = run.scenario.load.as_ref().expect("a world that counts");
        let window = load.window.as_secs_f64();
        let since = |to: Option<Duration>, from: Duration| {
            to.map_or(f64::INFINITY, |to| to.saturating_sub(from).as_secs_f64())
        };
        let sorted = |figure: &dyn Fn(&History) -> f64| {
            let mut figures: Vec<_> = run.history.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures
        };
        let is_awaited = |event: &&History| event.due <= load.outage.end;
        let awaited = run.history.iter().filter(is_awaited);
        let last = awaited.map(|event| since(event.settled, load.outage.end)).fold(0.0, f64::max);
        let settled = sorted(&|event| since(event.settled, Duration::ZERO));
        let waits = sorted(&|event| since(event.acknowledged, event.due));
        let queued = sorted(&|event| since(event.settled, event.acknowledged.unwrap_or_default()));
        let events = settled.partition_point(|at| at.is_finite());
        let failures: u64 = run.history.iter().map(|event| event.failures).sum();
        let failures = usize::try_from(failures).expect("fewer than deliveries");
        let each = |count: usize| number(count) / number(events);
        let of = |service| run.requests.iter().filter(|it| **it == service).count();
        let share = |(limit, count): &(Limit, usize)| {
            let is_upload = *limit == Limit::Uploads;
            let all = if is_upload {
                of(Service::CleverTap)
            } else {
                events + failures
            };
            (*limit, number(*count) / number(all))
        };
        Self {
            setup,
            most_environments: run.environments,
            met: run.met.iter().map(share).collect(),
            is_behind: queued[events * 99 / 100] > LATE,
            per_second: number(settled.partition_point(|at| *at <= window)) / window,
            wait: [50, 99].map(|percent| waits[waits.len() * percent / 100]),
            last,
            sent_again: number(failures) / number(run.history.len()),
            requests: each(events + failures),
            invocations: run.invocations.map(each),
            duration: run.billed.as_secs_f64() / number(events),
            writes: each(of(Service::DynamoDb)),
            sqs: each(of(Service::Sqs)),
        }
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a count of this bench is below four billion"))
}
