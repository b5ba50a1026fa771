//! What happened in a world, which the checks judge, and how a run ended.
//! It does not know why it happened.

use super::events::Event;
use super::faults::{Fault, Service};
use super::scenario::Scenario;
use crate::world::claims::Update;
use std::collections::BTreeMap;
use std::time::Duration;

/// A tick, and the time since the world began.
#[derive(Clone, Copy)]
pub struct Moment {
    pub tick: u64,
    pub at: Duration,
}

/// A request of the function.
pub struct Exchange {
    pub service: Service,
    pub environment: usize,
    pub invocation: Option<usize>,
    pub sent: Moment,
    pub fault: Option<Fault>,
    /// The ids of the events that it is about; of an upload, those with other records than a profile beside them.
    pub events: Vec<String>,
    /// Of an upload, the ids of the events with a profile in it, in their order.
    pub profiles: Vec<(usize, String)>,
    pub update: Option<Update>,
    pub letter: Option<String>,
    /// Until when the function waited for the answer.
    pub awaited: Option<Duration>,
    pub status: Option<u16>,
    /// Whether the function got the service's own answer.
    pub is_intact: bool,
}

impl Exchange {
    pub fn is_about(&self, event_id: &str) -> bool {
        self.events.iter().any(|id| id == event_id)
    }
}

/// A record that CleverTap accepted.
#[derive(Clone)]
pub struct Arrival {
    pub event_id: String,
    pub role: &'static str,
    pub exchange: usize,
    pub at: Duration,
}

/// Once the function is invoked.
pub struct Invocation {
    pub environment: usize,
    pub started: Duration,
    /// The number of the shared secret that the webhook is signed with. A batch of the event queue has none.
    pub signed_with: Option<usize>,
    /// When it was answered 401.
    pub refused: Option<Duration>,
    /// Of a batch, the events that are dead letters with only some records left.
    pub left: BTreeMap<String, String>,
    /// Whether the environment ended before its answer was out.
    pub is_killed: bool,
}

#[derive(Debug, Default)]
pub struct Run {
    pub scenario: Scenario,
    /// Of everything that happened, in its order.
    pub digest: u64,
    /// What must not happen and did.
    pub problems: Vec<String>,
    pub trace: Vec<String>,
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
    /// The limits that were met, in the order of the first time, and how often.
    pub met: Vec<(Limit, usize)>,
    /// How many times the function was invoked with a webhook and with a batch, and for how long in all.
    pub invocations: [usize; 2],
    pub billed: Duration,
    /// How many environments there were at once.
    pub environments: usize,
    /// Records that CleverTap accepted again, by the cause.
    pub duplicates: BTreeMap<&'static str, usize>,
    pub dead_letters: usize,
}

/// What refuses a request because there are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// API Gateway's throttling.
    Requests,
    Environments,
    /// CleverTap's, of uploads at once.
    Uploads,
}

impl Run {
    pub fn meet(&mut self, limit: Limit) {
        match self.met.iter_mut().find(|(met, _)| *met == limit) {
            Some((_, count)) => *count += 1,
            None => self.met.push((limit, 1)),
        }
    }

    /// Notes that CleverTap has an event, of which each comes once and after the one before of its user.
    pub fn count_arrival(&mut self, event: &Event, at: Duration) {
        let is_first = event.number.is_multiple_of(self.scenario.events_per_user);
        if !is_first && self.history[event.number - 1].settled.is_none() {
            self.problems.push(format!("{} is out of order", event.id));
        }
        let history = &mut self.history[event.number];
        if history.settled.is_some() {
            history.repeated.push(at);
        }
        history.settled.get_or_insert(at);
    }
}

/// How an event fared. Times are since the world began.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub due: Duration,
    pub sent: Duration,
    /// How many attempts Purchasely saw fail.
    pub failures: u64,
    pub acknowledged: Option<Duration>,
    pub is_copied: bool,
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
