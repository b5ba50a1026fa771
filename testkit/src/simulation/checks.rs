//! What must hold after a run, whatever happened in it (docs/architecture.md, "Guarantees" and "Duplicates").
//! It does not know how the function keeps it.

use super::events::{Event, Kind, ids_in};
use super::faults::{Fault, Meaning, Service};
use super::history::{Arrival, Exchange, Invocation, Moment, Run};
use super::world::{ROLES, State, World};
use crate::world::claims::Update;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// After that, the table forgets a claim.
const CLAIMS_LAST: Duration = Duration::from_hours(30 * 24);
/// A claim in progress lasts two seconds longer than an invocation works.
const MAX_SKEW_MS: u64 = 2000;
/// What uploads may use of an invocation, of which the rest is for the claim and the dead letter.
const UPLOADS: Duration = Duration::from_millis(6550);
/// Between the minutes after which the function takes a message for moved and those after which worlds redrive one.
const MISDATED_MS: u64 = 50_000;
/// For so long a claim in progress keeps other invocations from uploading its event ("Duplicates").
const CLAIM: Duration = Duration::from_secs(10);
/// For so long an event that CleverTap may have waits in the event queue (docs/operations.md, "Retries").
const WAIT: Duration = Duration::from_mins(1);
/// For so long an environment that has asked for the secret may refuse what it does not know (docs/operations.md,
/// "Change a secret"), and a second in which it waited for the answer.
const ASKED: Duration = Duration::from_secs(31);
/// For so long an event is tried again from the event queue.
const QUEUE_LASTS: Duration = Duration::from_hours(13 * 24);

pub fn judge(world: &World) -> Run {
    let mut state = world.state();
    let mut problems = std::mem::take(&mut state.problems);
    let judged = Judged::new(world, &state);
    problems.extend(judged.lost());
    problems.extend(judged.not_ignored());
    problems.extend(judged.out_of_order());
    problems.extend(judged.needless_letters());
    problems.extend(judged.needless_uploads());
    problems.extend(judged.early_uploads());
    problems.extend(judged.late_uploads());
    problems.extend(judged.needless_refusals());
    problems.extend(judged.not_left());
    problems.extend(judged.old_profiles());
    problems.extend(judged.missing_profiles());
    let mut duplicates = BTreeMap::new();
    let mut repeated = BTreeMap::<String, Vec<Duration>>::new();
    for (first, again) in judged.pairs() {
        repeated.entry(again.event_id.clone()).or_default().push(again.at);
        match judged.cause(first, again) {
            Some(cause) => *duplicates.entry(cause).or_default() += 1,
            None => problems.push(format!(
                "{} {} arrived with {} and again with {}",
                first.role, first.event_id, first.exchange, again.exchange
            )),
        }
    }
    let settled: Vec<_> = world.events.iter().map(|event| judged.settled(event)).collect();
    for (event, settled) in world.events.iter().zip(settled) {
        let history = &mut state.history[event.number];
        history.settled = settled;
        history.repeated = repeated.remove(&*event.id).unwrap_or_default();
    }
    let mut faults = BTreeMap::new();
    for fault in state.exchanges.iter().filter_map(|exchange| exchange.fault) {
        *faults.entry(fault.kind()).or_default() += 1;
    }
    Run {
        command: world.scenario.command(),
        length: world.scenario.length,
        mode: world.scenario.mode(),
        digest: state.digest(),
        history: std::mem::take(&mut state.history),
        polls: state.polls,
        requests: state.exchanges.iter().map(|exchange| exchange.service).collect(),
        faults,
        throttled: state.throttled,
        kills: state.invocations.iter().filter(|invocation| invocation.is_killed).count(),
        duplicates,
        dead_letters: state.lettered.len(),
        problems,
        trace: std::mem::take(&mut state.trace),
    }
}

/// What there is to judge, by the ids of the events.
struct Judged<'s> {
    world: &'s World,
    state: &'s State,
    /// A record's arrivals with their places among all arrivals.
    arrivals: BTreeMap<(&'s str, &'static str), Vec<(usize, &'s Arrival)>>,
    /// The claims' keys. Only an event without an id may have several.
    keys: BTreeMap<&'s str, Vec<&'s str>>,
    /// The function's requests in their order, by the invocation.
    requests: BTreeMap<Option<usize>, Vec<&'s Exchange>>,
}

impl<'s> Judged<'s> {
    fn new(world: &'s World, state: &'s State) -> Self {
        let mut judged = Self {
            world,
            state,
            arrivals: BTreeMap::new(),
            keys: BTreeMap::new(),
            requests: BTreeMap::new(),
        };
        for (place, arrival) in state.arrivals.iter().enumerate() {
            let record = (&*arrival.event_id, arrival.role);
            judged.arrivals.entry(record).or_default().push((place, arrival));
        }
        for exchange in &state.exchanges {
            judged.requests.entry(exchange.invocation).or_default().push(exchange);
        }
        for (key, id) in &state.keys {
            judged.keys.entry(id).or_default().push(key);
        }
        judged
    }

    /// The first arrival of a record, with its place.
    fn first(&self, event_id: &str, role: &'static str) -> Option<(usize, &'s Arrival)> {
        self.arrivals.get(&(event_id, role))?.first().copied()
    }

    /// When an event first was where it belongs.
    fn settled(&self, event: &Event) -> Option<Duration> {
        let first = ["event", "profile"].iter().find_map(|role| self.first(&event.id, role));
        let arrived = first.map(|(_, arrival)| arrival.at);
        let lettered = self.state.lettered.get(&event.id).copied();
        let ignored = self.state.history[event.number].acknowledged;
        arrived.or(lettered).or(ignored)
    }

    /// Events that neither arrived whole, nor are ignored by rule, nor lie in the dead-letter queue.
    fn lost(&self) -> Vec<String> {
        let letters = &self.state.aws.dead_letters.messages;
        let letters: BTreeSet<_> = letters.iter().flat_map(|letter| ids_in(&letter.body)).collect();
        let is_lost = |event: &&Event| {
            let has = |role| self.first(&event.id, role).is_some();
            let is_letter = letters.contains(&event.id);
            match event.kind {
                Kind::Anonymous | Kind::Sandbox => false,
                Kind::Unreadable => !is_letter,
                Kind::Poison | Kind::WithoutId => !is_letter && !has("event"),
                Kind::Profile => {
                    !has("profile") && !self.is_profile_refused(event) && !self.is_redriven(event)
                }
                Kind::Plain { is_transaction } => {
                    !is_letter && !(has("event") && (!is_transaction || has("revenue")))
                }
            }
        };
        self.world
            .events
            .iter()
            .filter(is_lost)
            .map(|event| format!("{} is lost", event.id))
            .collect()
    }

    /// Events that the rules ignore and that arrived nevertheless.
    fn not_ignored(&self) -> Vec<String> {
        let mut ignored = Vec::from_iter(&self.world.events);
        ignored.retain(|event| matches!(event.kind, Kind::Anonymous | Kind::Sandbox));
        let arrived = ignored.iter().filter(|event| self.first(&event.id, "event").is_some());
        arrived.map(|event| format!("{} is not ignored", event.id)).collect()
    }

    /// Events of one user whose first arrival comes before that of an earlier one. Dead letters leave the order, and
    /// one upload may have several events.
    fn out_of_order(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for user in self.world.events.chunk_by(|one, next| one.user == next.user) {
            for (position, later) in user.iter().enumerate() {
                let Some((place, arrival)) = self.first(&later.id, "event") else {
                    continue;
                };
                let upload = &self.state.exchanges[arrival.exchange];
                for earlier in &user[..position] {
                    if self.state.lettered.contains_key(&earlier.id)
                        || upload.events.contains(&earlier.id)
                    {
                        continue;
                    }
                    let firsts = ["event", "revenue"].map(|role| self.first(&earlier.id, role));
                    if firsts.into_iter().flatten().any(|(first, _)| first > place) {
                        problems.push(format!("{} arrives before {}", later.id, earlier.id));
                    }
                }
            }
        }
        problems
    }

    /// Dead letters of events that nothing has refused.
    fn needless_letters(&self) -> Vec<String> {
        let is_needless = |letter: &&Exchange| {
            let Some(event) = letter.events.iter().find_map(|id| self.world.event(id)) else {
                return false;
            };
            if letter.letter.as_deref() == Some("retries_exhausted") {
                let sent = self.state.history[event.number].sent;
                return letter.sent.at < sent + QUEUE_LASTS;
            }
            if event.kind == Kind::Profile {
                return true;
            }
            let refuses = |upload: &Exchange| {
                matches!(meaning(upload), Some(Meaning::Final | Meaning::Unclear))
            };
            !matches!(event.kind, Kind::Unreadable | Kind::Poison)
                && !self.uploads(letter.invocation, &event.id).any(refuses)
        };
        let letters = self.state.exchanges.iter().filter(|exchange| exchange.letter.is_some());
        let needless = letters.filter(is_needless);
        needless
            .map(|letter| format!("{:?} is a dead letter without a cause", letter.events))
            .collect()
    }

    /// Uploads after one in the same invocation whose records CleverTap may have. One that it probably has not may be
    /// repeated once.
    fn needless_uploads(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for invocation in (0..self.state.invocations.len()).map(Some) {
            let requests = self.requests.get(&invocation).into_iter().flatten();
            let ids: BTreeSet<_> = requests.flat_map(|request| &request.events).collect();
            for id in ids {
                let mut repeated = 0;
                let mut is_over = false;
                for upload in self.uploads(invocation, id) {
                    if is_over {
                        problems.push(format!("{id} is uploaded again at {:?}", upload.sent.at));
                    }
                    let meaning = meaning(upload).filter(|_| !upload.is_intact);
                    repeated += u32::from(meaning == Some(Meaning::ProbablyNothing));
                    is_over = repeated > 1 || meaning == Some(Meaning::Unknown);
                }
            }
        }
        problems
    }

    /// Uploads of an event that came too soon after another invocation's.
    fn early_uploads(&self) -> Vec<String> {
        let mut uploads = BTreeMap::<&str, Vec<&Exchange>>::new();
        for upload in &self.state.exchanges {
            if upload.service == Service::CleverTap {
                upload.events.iter().for_each(|id| uploads.entry(id).or_default().push(upload));
            }
        }
        let mut problems = Vec::new();
        for (id, uploads) in uploads {
            for pair in uploads.windows(2) {
                let (first, again) = (pair[0], pair[1]);
                if first.invocation != again.invocation
                    && again.sent.at < self.earliest(first, again, id)
                {
                    problems.push(format!("{id} is uploaded too soon at {:?}", again.sent.at));
                }
            }
        }
        problems
    }

    /// When an event may be uploaded again in another invocation.
    fn earliest(&self, first: &Exchange, again: &Exchange, id: &str) -> Duration {
        let mut earliest = Duration::ZERO;
        let is_batch = |upload: &Exchange| upload.invocation.is_some_and(|it| self.is_batch(it));
        let meaning = meaning(first).filter(|_| !first.is_intact);
        let may_be_stored = matches!(meaning, Some(Meaning::Unknown | Meaning::ProbablyNothing));
        if may_be_stored && is_batch(first) && is_batch(again) {
            earliest = first.awaited.unwrap_or(first.sent.at) + WAIT;
        }
        let is_claim = |call: &&Exchange| call.update == Some(Update::Claim);
        let is_claimed = |upload: &Exchange| {
            let mut claims = self.calls(upload, id).filter(is_claim);
            claims.any(|claim| claim.is_intact && claim.status == Some(200))
        };
        // Without an id, other bytes have another claim.
        let has_one_claim = self.keys.get(id).is_some_and(|keys| keys.len() == 1);
        let claim = self.calls(first, id).find(is_claim);
        let claim = claim.filter(|_| has_one_claim && is_claimed(first) && is_claimed(again));
        if let Some(claim) = claim {
            let is_replaced = |tick: &u64| (claim.sent.tick..again.sent.tick).contains(tick);
            // Each environment has a clock of its own, and either claim may have been the first.
            let skew = |upload: &Exchange| self.state.skews_ms[&upload.environment];
            let ahead_ms = skew(again).abs_diff(skew(first));
            if !self.state.replaced.iter().any(is_replaced) {
                let claimed =
                    (claim.sent.at + CLAIM).saturating_sub(Duration::from_millis(ahead_ms));
                earliest = earliest.max(claimed);
            }
        }
        earliest
    }

    /// Webhooks that were refused although Secrets Manager had their shared secret: the environment knew it, or did not
    /// ask.
    fn needless_refusals(&self) -> Vec<String> {
        let mut reads = Vec::from_iter(&self.state.exchanges);
        reads.retain(|exchange| exchange.service == Service::SecretsManager);
        let secrets = &self.state.shared_secrets;
        let is_needless = |invocation: &&Invocation| {
            let (Some(number), Some(at)) = (invocation.signed_with, invocation.refused) else {
                return false;
            };
            let Some(since) = secrets.get(number).filter(|since| **since < at) else {
                return false;
            };
            let is_removed = secrets.get(number + 2).is_some_and(|removed| *removed <= at);
            let mut reads = reads.iter().filter(|read| read.environment == invocation.environment);
            let is_known = |read: &&&Exchange| read.sent.at > *since && read.awaited <= Some(at);
            let knows = reads.clone().filter(is_known).any(|read| read.is_intact);
            !is_removed
                && (knows || !reads.any(|read| (read.sent.at..read.sent.at + ASKED).contains(&at)))
        };
        let needless = self.state.invocations.iter().filter(is_needless);
        let refused = needless.map(|it| format!("a valid webhook is refused at {:?}", it.started));
        refused.collect()
    }

    fn is_batch(&self, invocation: usize) -> bool {
        self.state.invocations[invocation].signed_with.is_none()
    }

    /// Uploads that leave too little time for what follows them.
    fn late_uploads(&self) -> Vec<String> {
        let is_late = |upload: &&Exchange| {
            let invocation = upload.invocation.map(|number| &self.state.invocations[number]);
            let invocation = invocation.filter(|invocation| !invocation.is_killed);
            upload.service == Service::CleverTap
                && !upload.events.is_empty()
                && invocation.is_some_and(|it| upload.awaited > Some(it.started + UPLOADS))
        };
        let late = self.state.exchanges.iter().filter(is_late);
        late.map(|upload| format!("{:?} is awaited until {:?}", upload.events, upload.awaited))
            .collect()
    }

    /// Records that came with a dead letter which names others as those that are left.
    fn not_left(&self) -> Vec<String> {
        let is_not_left = |arrival: &&Arrival| {
            let invocation = self.state.exchanges[arrival.exchange].invocation;
            let left = invocation
                .and_then(|number| self.state.invocations[number].left.get(&arrival.event_id));
            left.is_some_and(|left| !left.split(',').any(|role| role == arrival.role))
        };
        let arrived = self.state.arrivals.iter().filter(is_not_left);
        arrived
            .map(|it| {
                format!(
                    "{} of {} is not left and arrives with {}",
                    it.role, it.event_id, it.exchange
                )
            })
            .collect()
    }

    /// Profiles that CleverTap took after a newer one of the same user's, unless their event is repeated, too.
    fn old_profiles(&self) -> Vec<String> {
        let mut newest = BTreeMap::<usize, &Event>::new();
        let mut problems = Vec::new();
        for arrival in &self.state.profiles {
            let event = self.world.event(&arrival.event_id).expect("an event's own profile");
            let newest = newest.entry(event.user).or_insert(event);
            if newest.number <= event.number {
                *newest = event;
            } else if !self.is_documented(arrival, event) {
                problems.push(format!(
                    "the profile of {} arrives with {} after that of {}",
                    event.id, arrival.exchange, newest.id
                ));
            }
        }
        problems
    }

    /// Whether a profile may be older than the one that it replaces (docs/architecture.md, "Duplicates").
    fn is_documented(&self, arrival: &Arrival, event: &Event) -> bool {
        let upload = &self.state.exchanges[arrival.exchange];
        let invocation = |arrival: &Arrival| self.state.exchanges[arrival.exchange].invocation;
        let is_repeated = ROLES.iter().any(|role| {
            let arrivals = self.arrivals.get(&(&*event.id, *role)).map_or(&[][..], Vec::as_slice);
            let is_here =
                |(_, arrival): &(usize, &Arrival)| invocation(arrival) == upload.invocation;
            arrivals.len() > 1 && arrivals.iter().any(is_here)
        });
        // The message of a dead letter is deleted, so it keeps no later one waiting.
        let is_late = matches!(upload.fault, Some(Fault::Late(_)))
            && (self.state.lettered.contains_key(&event.id)
                || upload.invocation.is_some_and(|number| !self.is_batch(number)));
        // A dead letter's claim is never done. Purchasely sent it again although it was acknowledged, or the function
        // stopped before it could say that the letter is stored.
        let has_stopped = |sent: &Exchange| {
            sent.letter.is_some()
                && sent.events.contains(&event.id)
                && sent.invocation.is_some_and(|number| self.state.invocations[number].is_killed)
        };
        let is_letter_again = self.state.lettered.contains_key(&event.id)
            && (self.state.history[event.number].is_copied
                || self.state.exchanges.iter().any(has_stopped));
        is_repeated || is_late || is_letter_again || self.is_misdated(event)
    }

    /// Whether an event was queued by an environment whose clock was so wrong that the function cannot tell whether SQS
    /// moved the message.
    fn is_misdated(&self, event: &Event) -> bool {
        self.state.exchanges.iter().any(|sent| {
            sent.service == Service::Sqs
                && sent.letter.is_none()
                && sent.events.contains(&event.id)
                && self.state.skews_ms[&sent.environment].unsigned_abs() > MISDATED_MS
        })
    }

    /// Profiles that CleverTap does not have, although their events were relayed and nothing refused them for good: it
    /// must have been sent once more, without its event.
    fn missing_profiles(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let arrived: BTreeSet<_> =
            self.state.profiles.iter().map(|arrival| &arrival.event_id).collect();
        for event in self.world.events.iter().filter(|event| event.has_profile()) {
            let Some(arrivals) = self.arrivals.get(&(&*event.id, "event")) else {
                continue;
            };
            // A late first copy is not the one whose delivery was settled.
            let with_event = || arrivals.iter().map(|(_, it)| &self.state.exchanges[it.exchange]);
            let is_sent_again = |upload: &Exchange| {
                upload.profiles.iter().any(|(_, id)| *id == event.id)
                    && upload.events.is_empty()
                    && with_event().any(|first| {
                        upload.invocation == first.invocation && upload.sent.tick > first.sent.tick
                    })
            };
            let is_killed = |first: &Exchange| {
                first.invocation.is_some_and(|it| self.state.invocations[it].is_killed)
            };
            let is_settled_otherwise = arrived.contains(&event.id)
                || self.is_redriven(event)
                || self.is_profile_refused(event)
                || with_event().any(is_killed);
            if !is_settled_otherwise && !self.state.exchanges.iter().any(is_sent_again) {
                problems.push(format!("the profile of {} is lost", event.id));
            }
        }
        problems
    }

    /// Whether CleverTap refused an event's profile for good.
    fn is_profile_refused(&self, event: &Event) -> bool {
        self.state.exchanges.iter().any(|upload| {
            let number = upload.profiles.iter().find(|(_, id)| *id == event.id);
            number.is_some_and(|(number, _)| {
                let is_other = matches!(upload.fault, Some(Fault::Record { number: other, .. }) if other != *number);
                !is_other && meaning(upload) == Some(Meaning::Final)
            })
        })
    }

    /// Whether the event came, or may have come, out of the dead-letter queue: then it writes no profile.
    fn is_redriven(&self, event: &Event) -> bool {
        self.state.lettered.contains_key(&event.id) || self.is_misdated(event)
    }

    /// Each arrival of a record that had arrived before, with the one before it.
    fn pairs(&self) -> Vec<(&'s Arrival, &'s Arrival)> {
        let mut pairs = Vec::new();
        for arrivals in self.arrivals.values() {
            let mut copies: Vec<_> = arrivals.iter().map(|(_, arrival)| *arrival).collect();
            // A late request was sent early.
            copies.sort_by_key(|arrival| self.state.exchanges[arrival.exchange].sent.tick);
            pairs.extend(copies.windows(2).map(|pair| (pair[0], pair[1])));
        }
        pairs
    }

    /// Why a record arrived again (docs/architecture.md, "Duplicates").
    fn cause(&self, first: &Arrival, again: &Arrival) -> Option<&'static str> {
        let (id, role) = (&*first.event_id, first.role);
        let (first, again) =
            (&self.state.exchanges[first.exchange], &self.state.exchanges[again.exchange]);
        let keys = self.keys.get(id).map_or(&[][..], Vec::as_slice);
        let is_killed = |number: usize| self.state.invocations[number].is_killed;
        // What the table knew as the second copy was claimed; the first may be completed after that.
        let mut claims = self.calls(again, id).filter(|call| call.update == Some(Update::Claim));
        let asked = claims.find(|call| call.is_intact).map_or(again.sent, |call| call.sent).tick;
        let known = self.known_before(keys, role, asked);
        let mut begun = self.calls(first, id).map(|call| call.sent.tick);
        let since = known.map_or_else(|| begun.next(), |known| Some(known.tick));
        let is_replaced = |tick: &u64| (since.unwrap_or(0)..again.sent.tick).contains(tick);
        if known.is_some_and(|known| again.sent.at >= known.at + CLAIMS_LAST) {
            return Some("the claim had expired");
        }
        if self.is_unclaimed(again, id) || known.is_none() && self.is_unclaimed(first, id) {
            return Some("the event was not claimed");
        }
        if known.is_none() && !first.is_intact {
            return Some(if meaning(first) == Some(Meaning::Unclear) {
                "the answer was unclear"
            } else {
                "no clear answer"
            });
        }
        if known.is_none() && first.invocation.is_some_and(is_killed) {
            return Some("stopped before the claim was written");
        }
        if known.is_none() && self.has_failed_to_write(first, id) {
            return Some("the claim was not written");
        }
        if self.state.replaced.iter().any(is_replaced) {
            return Some("the table was replaced");
        }
        let skew = |upload: &Exchange| self.state.skews_ms[&upload.environment];
        if skew(first).abs_diff(skew(again)) > MAX_SKEW_MS {
            return Some("the clocks differed");
        }
        (keys.len() > 1).then_some("the claim had another key")
    }

    /// The last update before a tick that left one of the claims knowing of a record.
    fn known_before(&self, keys: &[&str], role: &'static str, tick: u64) -> Option<Moment> {
        let known = keys.iter().filter_map(|key| self.state.known.get(&((*key).to_owned(), role)));
        let before = known.flatten().filter(|moment| moment.tick < tick);
        before.max_by_key(|moment| moment.tick).copied()
    }

    /// Whether faults kept an event from being claimed in the invocation of an upload.
    fn is_unclaimed(&self, upload: &Exchange, id: &str) -> bool {
        let claims = self.calls(upload, id).filter(|call| call.update == Some(Update::Claim));
        let mut claims = claims.peekable();
        claims.peek().is_some() && claims.all(|claim| !claim.is_intact && claim.fault.is_some())
    }

    /// Whether an update after an upload was not answered.
    fn has_failed_to_write(&self, upload: &Exchange, id: &str) -> bool {
        self.calls(upload, id).any(|call| {
            let is_write = call.update.is_some_and(|update| update != Update::Claim);
            let is_lost = !call.is_intact && call.fault.is_some();
            is_write && call.sent.tick > upload.sent.tick && is_lost
        })
    }

    /// The requests about an event in the invocation of an upload.
    fn calls(&self, upload: &Exchange, id: &str) -> impl Iterator<Item = &'s Exchange> {
        let requests = self.requests[&upload.invocation].iter();
        requests
            .copied()
            .filter(move |request| request.events.iter().any(|event| event == id))
    }

    /// The uploads of an event in an invocation.
    fn uploads(&self, invocation: Option<usize>, id: &str) -> impl Iterator<Item = &'s Exchange> {
        let requests = self.requests.get(&invocation).into_iter().flatten().copied();
        requests.filter(move |request| {
            request.service == Service::CleverTap && request.events.iter().any(|event| event == id)
        })
    }
}

/// What the function learnt from an answer that was not the usual one.
fn meaning(upload: &Exchange) -> Option<Meaning> {
    // Without a body, a refusal is still one.
    if upload.fault == Some(Fault::CutShort) && upload.status.is_some_and(|status| status != 200) {
        return Some(Meaning::ForNow);
    }
    upload.fault.map(|fault| fault.meaning(upload.service))
}
