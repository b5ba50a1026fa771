//! What must hold after a run, whatever happened in it (docs/architecture.md, "Guarantees" and "Duplicates").
//! It does not know how the function keeps it.

use super::Run;
use super::claims_table::Update;
use super::faults::{Fault, Service};
use super::sender::{Event, Kind};
use super::world::{Arrival, Exchange, State, World};
use std::collections::BTreeMap;

pub fn judge(world: &World) -> Run {
    let mut duplicates = BTreeMap::new();
    let mut problems = Vec::new();
    {
        let state = world.state();
        problems.extend(lost(world, &state));
        problems.extend(not_ignored(world, &state));
        problems.extend(out_of_order(world, &state));
        problems.extend(unexplained(&state, &mut duplicates));
    }
    let mut state = world.state();
    problems.append(&mut state.problems);
    Run {
        command: world.scenario.command(),
        digest: state.digest(),
        problems,
        trace: std::mem::take(&mut state.trace),
        events: world.events.len(),
        polls: state.polls,
        exchanges: state
            .exchanges
            .iter()
            .map(|sent| (sent.service, sent.fault.is_some()))
            .collect(),
        kills: state.invocations.iter().filter(|invocation| invocation.is_killed).count(),
        duplicates,
        dead_letters: state.lettered.len(),
    }
}

/// Events that neither arrived whole, nor are ignored by rule, nor lie in the dead-letter queue.
fn lost(world: &World, state: &State) -> Vec<String> {
    let is_lost = |event: &&Event| {
        let has = |role: &str| state.first(&event.id, role).is_some();
        let is_letter =
            state.dead_letters.messages().iter().any(|letter| letter.body.contains(&event.id));
        match event.kind {
            Kind::Anonymous | Kind::Sandbox => false,
            Kind::Unreadable => !is_letter,
            Kind::Poison => !is_letter && !has("event"),
            Kind::Plain { is_transaction } => {
                !is_letter && !(has("event") && (!is_transaction || has("revenue")))
            }
        }
    };
    world.events.iter().filter(is_lost).map(|event| format!("{} is lost", event.id)).collect()
}

/// Events that the rules ignore and that arrived nevertheless.
fn not_ignored(world: &World, state: &State) -> Vec<String> {
    let ignored =
        world.events.iter().filter(|event| matches!(event.kind, Kind::Anonymous | Kind::Sandbox));
    let arrived = ignored.filter(|event| state.first(&event.id, "event").is_some());
    arrived.map(|event| format!("{} is not ignored", event.id)).collect()
}

/// Events of one user whose first arrival comes before that of an earlier one. Dead letters leave the order, and
/// one upload may have several events.
fn out_of_order(world: &World, state: &State) -> Vec<String> {
    let mut problems = Vec::new();
    for (position, later) in world.events.iter().enumerate() {
        let Some(first) = state.first(&later.id, "event") else {
            continue;
        };
        let upload = &state.exchanges[state.arrivals[first].exchange];
        let is_earlier = |event: &&Event| {
            event.user == later.user
                && !state.lettered.contains(&event.id)
                && !upload.events.contains(&event.id)
        };
        for earlier in world.events[..position].iter().filter(is_earlier) {
            let roles = ["event", "revenue"].map(|role| state.first(&earlier.id, role));
            if roles.into_iter().flatten().any(|arrival| arrival > first) {
                problems.push(format!("{} arrives before {}", later.id, earlier.id));
            }
        }
    }
    problems
}

/// Records that arrived twice without a documented cause. Counts those that have one.
fn unexplained(state: &State, causes: &mut BTreeMap<&'static str, usize>) -> Vec<String> {
    let mut arrivals: BTreeMap<(&str, &str), Vec<&Arrival>> = BTreeMap::new();
    for arrival in &state.arrivals {
        arrivals.entry((&arrival.event_id, arrival.role)).or_default().push(arrival);
    }
    let mut problems = Vec::new();
    for ((id, role), mut copies) in arrivals {
        // A late request was sent early.
        copies.sort_by_key(|arrival| state.exchanges[arrival.exchange].sent);
        for pair in copies.windows(2) {
            match state.cause(pair[0], pair[1]) {
                Some(cause) => *causes.entry(cause).or_default() += 1,
                None => problems.push(format!(
                    "{role} {id} arrived with {} and again with {}",
                    pair[0].exchange, pair[1].exchange
                )),
            }
        }
    }
    problems
}

impl State {
    /// The place of a record's first arrival among all arrivals.
    fn first(&self, event_id: &str, role: &str) -> Option<usize> {
        let mut arrivals = self.arrivals.iter();
        arrivals.position(|arrival| arrival.event_id == event_id && arrival.role == role)
    }

    /// Why a record arrived again (docs/architecture.md, "Duplicates").
    fn cause(&self, first: &Arrival, again: &Arrival) -> Option<&'static str> {
        let (id, role) = (&first.event_id, first.role);
        let (first, again) = (&self.exchanges[first.exchange], &self.exchanges[again.exchange]);
        let is_known = |known: &u64| *known < again.sent;
        if self.known.get(&(id.clone(), role)).is_some_and(is_known) {
            return self
                .has_failed(again, id, |update| update == Update::Claim, 0)
                .then_some("no claim");
        }
        if !first.is_intact {
            let is_unclear = match first.fault {
                Some(Fault::Odd(odd)) => Service::CleverTap.odd()[odd].body.contains("partial"),
                _ => false,
            };
            return Some(if is_unclear { "unclear" } else { "no answer" });
        }
        let is_killed = |number: usize| self.invocations[number].is_killed;
        if first.invocation.is_some_and(is_killed) {
            return Some("stopped before the claim was written");
        }
        let is_write = |update: Update| update != Update::Claim;
        self.has_failed(first, id, is_write, first.sent).then_some("the claim was not written")
    }

    /// Whether a call to the table about an event failed, in the invocation of an upload and after a tick.
    fn has_failed(
        &self,
        upload: &Exchange,
        id: &String,
        is_meant: impl Fn(Update) -> bool,
        after: u64,
    ) -> bool {
        self.exchanges.iter().any(|exchange| {
            exchange.invocation == upload.invocation
                && exchange.sent > after
                && exchange.events.contains(id)
                && exchange.update.is_some_and(&is_meant)
                && !exchange.is_intact
        })
    }
}
