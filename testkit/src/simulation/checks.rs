//! What must hold after a run, whatever happened in it (docs/architecture.md, "Guarantees" and "Duplicates").
//! It does not know how the function keeps it.

use super::events::{Event, Kind, ids_in};
use super::faults::{Fault, Meaning, Service};
use super::history::{Arrival, Exchange, History, Invocation, Moment, Run};
use super::world::{ROLES, State, World};
use crate::world::claims::Update;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
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
    let mut run = std::mem::take(&mut state.run);
    let history = run.history.clone();
    let judged = Judged::new(world, &state, &history);
    run.problems.extend(judged.problems());
    for event in &world.events {
        run.history[event.number].settled = judged.settled(event);
    }
    for (first, again) in judged.pairs() {
        if let Some(event) = world.event(&again.event_id) {
            run.history[event.number].repeated.push(again.at);
        }
        match judged.cause(first, again) {
            Some(cause) => *run.duplicates.entry(cause).or_default() += 1,
            None => run.problems.push(format!(
                "{} {} arrived with {} and again with {}",
                first.role, first.event_id, first.exchange, again.exchange
            )),
        }
    }
    run.dead_letters = state.lettered.len();
    run.digest = state.digest();
    run
}

/// The totals of a world that only counts, where each event arrives once.
pub fn count(world: &World) -> Run {
    let mut state = world.state();
    let mut run = std::mem::take(&mut state.run);
    run.dead_letters = state.lettered.len();
    let is_cut = world.scenario.load.as_ref().is_some_and(|load| load.end < world.elapsed());
    for (event, history) in world.events.iter().zip(&run.history) {
        let (is_kept, is_settled) = (history.acknowledged.is_some(), history.settled.is_some());
        if is_kept != is_settled || !(is_kept || is_cut) {
            run.problems.push(format!("{} is lost", event.id));
        }
        if !history.repeated.is_empty() {
            run.problems.push(format!("{} arrived again", event.id));
        }
    }
    run
}

/// What there is to judge, by the ids of the events.
struct Judged<'s> {
    world: &'s World,
    state: &'s State,
    history: &'s [History],
    /// A record's arrivals with their places among all arrivals.
    arrivals: BTreeMap<(&'s str, &'static str), Vec<(usize, &'s Arrival)>>,
    /// The events that lie in the dead-letter queue.
    letters: BTreeSet<String>,
    /// The claims' keys. Only an event without an id may have several.
    keys: BTreeMap<&'s str, Vec<&'s str>>,
    /// The function's requests in their order, by the invocation.
    requests: BTreeMap<Option<usize>, Vec<&'s Exchange>>,
}

impl<'s> Judged<'s> {
    fn new(world: &'s World, state: &'s State, history: &'s [History]) -> Self {
        let letters = state.aws.dead_letters.messages.iter();
        let mut judged = Self {
            world,
            state,
            history,
            arrivals: BTreeMap::new(),
            letters: letters.flat_map(|letter| ids_in(&letter.body)).collect(),
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

    /// What must not happen and did.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut judge = |what: fmt::Arguments, verdicts: &[(bool, &str)]| {
            let broken = verdicts.iter().filter(|(is_broken, _)| *is_broken);
            problems.extend(broken.map(|(_, verdict)| format!("{what} {verdict}")));
        };
        let profiles = self.state.profiles.iter().map(|arrival| &*arrival.event_id);
        let profiles: BTreeSet<_> = profiles.collect();
        for event in &self.world.events {
            let has_profile = profiles.contains(&*event.id);
            let verdicts = [
                (self.is_lost(event), "is lost"),
                (self.is_not_ignored(event), "is not ignored"),
                (!has_profile && self.is_profile_lost(event), "has lost its profile"),
            ];
            judge(format_args!("{}", event.id), &verdicts);
        }
        for it in &self.state.exchanges {
            let verdicts = [
                (self.is_needless_letter(it), "is a dead letter without a cause"),
                (self.is_late(it), "is awaited for too long"),
            ];
            judge(format_args!("{:?}, sent at {:?},", it.events, it.sent.at), &verdicts);
        }
        for it in &self.state.invocations {
            let verdict = (self.is_needless_refusal(it), "refuses a valid webhook");
            judge(format_args!("the invocation at {:?}", it.started), &[verdict]);
        }
        for it in &self.state.arrivals {
            let verdict = (self.is_not_left(it), "is not left and arrives");
            let what = format_args!("{} of {} with {}", it.role, it.event_id, it.exchange);
            judge(what, &[verdict]);
        }
        problems.extend(self.out_of_order());
        problems.extend(self.needless_uploads());
        problems.extend(self.early_uploads());
        problems.extend(self.old_profiles());
        problems
    }

    fn arrivals<'a>(&'a self, event_id: &'a str, role: &'static str) -> &'a [(usize, &'s Arrival)] {
        self.arrivals.get(&(event_id, role)).map_or(&[], Vec::as_slice)
    }

    /// The first arrival of a record, with its place.
    fn first(&self, event_id: &str, role: &'static str) -> Option<(usize, &'s Arrival)> {
        self.arrivals(event_id, role).first().copied()
    }

    fn exchange(&self, arrival: &Arrival) -> &'s Exchange {
        &self.state.exchanges[arrival.exchange]
    }

    fn invocation(&self, exchange: &Exchange) -> Option<&'s Invocation> {
        exchange.invocation.map(|number| &self.state.invocations[number])
    }

    fn is_killed(&self, exchange: &Exchange) -> bool {
        self.invocation(exchange).is_some_and(|invocation| invocation.is_killed)
    }

    fn is_of_batch(&self, exchange: &Exchange) -> bool {
        self.invocation(exchange)
            .is_some_and(|invocation| invocation.signed_with.is_none())
    }

    fn skew_ms(&self, exchange: &Exchange) -> i64 {
        self.state.skews_ms[&exchange.environment]
    }

    /// The requests about an event in an invocation.
    fn calls(&self, invocation: Option<usize>, id: &str) -> impl Iterator<Item = &'s Exchange> {
        let requests = self.requests.get(&invocation).into_iter().flatten().copied();
        requests.filter(move |request| request.is_about(id))
    }

    /// The uploads of an event in an invocation.
    fn uploads(&self, invocation: Option<usize>, id: &str) -> impl Iterator<Item = &'s Exchange> {
        let calls = self.calls(invocation, id);
        calls.filter(|request| request.service == Service::CleverTap)
    }

    /// The claims of an event in the invocation of an upload.
    fn claims(&self, upload: &Exchange, id: &str) -> impl Iterator<Item = &'s Exchange> {
        let calls = self.calls(upload.invocation, id);
        calls.filter(|call| call.update == Some(Update::Claim))
    }

    /// When an event first was where it belongs.
    fn settled(&self, event: &Event) -> Option<Duration> {
        let first = ["event", "profile"].iter().find_map(|role| self.first(&event.id, role));
        let arrived = first.map(|(_, arrival)| arrival.at);
        let lettered = self.state.lettered.get(&event.id).copied();
        let ignored = self.history[event.number].acknowledged;
        arrived.or(lettered).or(ignored)
    }

    /// Whether an event neither arrived whole, nor is ignored by rule, nor lies in the dead-letter queue.
    fn is_lost(&self, event: &Event) -> bool {
        let has = |role| self.first(&event.id, role).is_some();
        let is_letter = self.letters.contains(&event.id);
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
    }

    /// Whether the rules ignore an event that arrived nevertheless.
    fn is_not_ignored(&self, event: &Event) -> bool {
        let is_ignored = matches!(event.kind, Kind::Anonymous | Kind::Sandbox);
        is_ignored && self.first(&event.id, "event").is_some()
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
                let upload = self.exchange(arrival);
                let is_after = |earlier: &&Event| {
                    let firsts = ["event", "revenue"].map(|role| self.first(&earlier.id, role));
                    let is_out = self.state.lettered.contains_key(&earlier.id)
                        || upload.is_about(&earlier.id);
                    !is_out && firsts.into_iter().flatten().any(|(first, _)| first > place)
                };
                let before = user[..position].iter().filter(is_after);
                let problem =
                    |earlier: &Event| format!("{} arrives before {}", later.id, earlier.id);
                problems.extend(before.map(problem));
            }
        }
        problems
    }

    /// Whether a request is a dead letter of an event that nothing has refused.
    fn is_needless_letter(&self, letter: &Exchange) -> bool {
        let event = letter.events.iter().find_map(|id| self.world.event(id));
        let (Some(reason), Some(event)) = (&letter.letter, event) else {
            return false;
        };
        if reason == "retries_exhausted" {
            return letter.sent.at < self.history[event.number].sent + QUEUE_LASTS;
        }
        let refuses =
            |upload: &Exchange| matches!(meaning(upload), Some(Meaning::Final | Meaning::Unclear));
        match event.kind {
            Kind::Profile => true,
            Kind::Unreadable | Kind::Poison => false,
            _ => !self.uploads(letter.invocation, &event.id).any(refuses),
        }
    }

    /// Uploads after one in the same invocation whose records CleverTap may have. One that it probably has not may be
    /// repeated once.
    fn needless_uploads(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (invocation, requests) in &self.requests {
            let ids: BTreeSet<_> = requests.iter().flat_map(|request| &request.events).collect();
            for id in ids {
                let mut repeated = 0;
                let mut is_over = false;
                for upload in self.uploads(*invocation, id) {
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
                let [first, again] = [pair[0], pair[1]];
                let is_another = first.invocation != again.invocation;
                if is_another && again.sent.at < self.earliest(first, again, id) {
                    problems.push(format!("{id} is uploaded too soon at {:?}", again.sent.at));
                }
            }
        }
        problems
    }

    /// When an event may be uploaded again in another invocation.
    fn earliest(&self, first: &Exchange, again: &Exchange, id: &str) -> Duration {
        let mut earliest = Duration::ZERO;
        let meaning = meaning(first).filter(|_| !first.is_intact);
        let may_be_stored = matches!(meaning, Some(Meaning::Unknown | Meaning::ProbablyNothing));
        if may_be_stored && self.is_of_batch(first) && self.is_of_batch(again) {
            earliest = first.awaited.unwrap_or(first.sent.at) + WAIT;
        }
        let is_claimed = |upload: &Exchange| {
            let mut claims = self.claims(upload, id);
            claims.any(|claim| claim.is_intact && claim.status == Some(200))
        };
        // Without an id, other bytes have another claim.
        let has_one_claim = self.keys.get(id).is_some_and(|keys| keys.len() == 1);
        let claim = self.claims(first, id).next();
        let claim = claim.filter(|_| has_one_claim && is_claimed(first) && is_claimed(again));
        if let Some(claim) = claim {
            let is_replaced = |tick: &u64| (claim.sent.tick..again.sent.tick).contains(tick);
            // Each environment has a clock of its own, and either claim may have been the first.
            let ahead_ms = self.skew_ms(again).abs_diff(self.skew_ms(first));
            if !self.state.replaced.iter().any(is_replaced) {
                let claimed =
                    (claim.sent.at + CLAIM).saturating_sub(Duration::from_millis(ahead_ms));
                earliest = earliest.max(claimed);
            }
        }
        earliest
    }

    /// Whether a webhook was refused although Secrets Manager had its shared secret: the environment knew it, or did not
    /// ask.
    fn is_needless_refusal(&self, invocation: &Invocation) -> bool {
        let (Some(number), Some(at)) = (invocation.signed_with, invocation.refused) else {
            return false;
        };
        let secrets = &self.state.shared_secrets;
        let Some(since) = secrets.get(number).filter(|since| **since < at) else {
            return false;
        };
        let is_removed = secrets.get(number + 2).is_some_and(|removed| *removed <= at);
        let mut reads = self.state.exchanges.iter().filter(|read| {
            read.service == Service::SecretsManager && read.environment == invocation.environment
        });
        let is_known =
            |read: &Exchange| read.is_intact && read.sent.at > *since && read.awaited <= Some(at);
        let is_asked = |read: &Exchange| (read.sent.at..read.sent.at + ASKED).contains(&at);
        !is_removed && (reads.clone().any(is_known) || !reads.any(is_asked))
    }

    /// Whether an upload leaves too little time for what follows it.
    fn is_late(&self, upload: &Exchange) -> bool {
        let invocation = self.invocation(upload).filter(|invocation| !invocation.is_killed);
        upload.service == Service::CleverTap
            && !upload.events.is_empty()
            && invocation.is_some_and(|it| upload.awaited > Some(it.started + UPLOADS))
    }

    /// Whether a record came with a dead letter which names others as those that are left.
    fn is_not_left(&self, arrival: &Arrival) -> bool {
        let invocation = self.invocation(self.exchange(arrival));
        let left = invocation.and_then(|invocation| invocation.left.get(&arrival.event_id));
        left.is_some_and(|left| !left.split(',').any(|role| role == arrival.role))
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
        let upload = self.exchange(arrival);
        let is_repeated = ROLES.iter().any(|role| {
            let arrivals = self.arrivals(&event.id, role);
            let is_here = |(_, arrival): &(usize, &Arrival)| {
                self.exchange(arrival).invocation == upload.invocation
            };
            arrivals.len() > 1 && arrivals.iter().any(is_here)
        });
        let is_letter = self.state.lettered.contains_key(&event.id);
        // The message of a dead letter is deleted, so it keeps no later one waiting, nor does one without a done claim.
        let is_late = matches!(upload.fault, Some(Fault::Late(_)))
            && (is_letter
                || self.has_failed_to_write(upload, &event.id)
                || upload.invocation.is_some() && !self.is_of_batch(upload));
        // A dead letter's claim is never done. Purchasely sent it again although it was acknowledged, or the function
        // stopped before it could say that the letter is stored.
        let has_stopped = |sent: &Exchange| {
            sent.letter.is_some() && sent.is_about(&event.id) && self.is_killed(sent)
        };
        let is_letter_again = is_letter
            && (self.history[event.number].is_copied
                || self.state.exchanges.iter().any(has_stopped));
        // Nothing of an event arrived whose only record was refused, so its copy is no repeat.
        let is_refused_again = event.kind == Kind::Profile
            && self.is_profile_refused(event)
            && self.may_lack_claim(upload, event);
        is_repeated || is_late || is_letter_again || is_refused_again || self.is_misdated(event)
    }

    /// Whether the claim that settled an event may be unknown to a later upload.
    fn may_lack_claim(&self, upload: &Exchange, event: &Event) -> bool {
        let is_lost = |call: &Exchange| {
            let is_write = call.update.is_some_and(|update| update != Update::Claim);
            is_write && call.is_about(&event.id) && !call.is_intact && call.fault.is_some()
        };
        self.state.replaced.iter().any(|tick| *tick < upload.sent.tick)
            || upload.sent.at >= self.history[event.number].sent + CLAIMS_LAST
            || self.is_unclaimed(upload, &event.id)
            || self.state.exchanges.iter().any(is_lost)
    }

    /// Whether an event was queued by an environment whose clock was so wrong that the function cannot tell whether SQS
    /// moved the message.
    fn is_misdated(&self, event: &Event) -> bool {
        self.state.exchanges.iter().any(|sent| {
            sent.service == Service::Sqs
                && sent.letter.is_none()
                && sent.is_about(&event.id)
                && self.skew_ms(sent).unsigned_abs() > MISDATED_MS
        })
    }

    /// Whether CleverTap's not having a profile has no reason, although its event was relayed and nothing refused it for
    /// good: it must have been sent once more, without its event.
    fn is_profile_lost(&self, event: &Event) -> bool {
        // A late first copy is not the one whose delivery was settled.
        let arrivals = self.arrivals(&event.id, "event");
        let with_event = || arrivals.iter().map(|(_, arrival)| self.exchange(arrival));
        let is_sent_again = |upload: &Exchange| {
            upload.profiles.iter().any(|(_, id)| *id == event.id)
                && upload.events.is_empty()
                && with_event().any(|first| {
                    upload.invocation == first.invocation && upload.sent.tick > first.sent.tick
                })
        };
        let is_settled_otherwise = || {
            self.is_redriven(event)
                || self.is_profile_refused(event)
                || with_event().any(|first| self.is_killed(first))
                || self.state.exchanges.iter().any(is_sent_again)
        };
        event.has_profile() && !arrivals.is_empty() && !is_settled_otherwise()
    }

    /// Whether CleverTap refused an event's profile for good. What would make a letter of an event ends one that has only
    /// a profile, because a redrive writes none: an unclear answer, or 13 days in the queue.
    fn is_profile_refused(&self, event: &Event) -> bool {
        let is_alone = event.kind == Kind::Profile;
        let given_up = self.history[event.number].sent + QUEUE_LASTS;
        self.state.exchanges.iter().any(|request| {
            let number = request.profiles.iter().find(|(_, id)| *id == event.id);
            let is_refused = number.is_some_and(|(number, _)| {
                let is_other = matches!(request.fault, Some(Fault::Record { number: other, .. }) if other != *number);
                let meaning = meaning(request);
                !is_other
                    && (meaning == Some(Meaning::Final)
                        || is_alone && meaning == Some(Meaning::Unclear))
            });
            let is_late = || request.is_about(&event.id) && request.sent.at >= given_up;
            is_refused || is_alone && is_late()
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
            copies.sort_by_key(|arrival| self.exchange(arrival).sent.tick);
            pairs.extend(copies.windows(2).map(|pair| (pair[0], pair[1])));
        }
        pairs
    }

    /// Why a record arrived again (docs/architecture.md, "Duplicates").
    fn cause(&self, first: &Arrival, again: &Arrival) -> Option<&'static str> {
        let (id, role) = (&*first.event_id, first.role);
        let (first, again) = (self.exchange(first), self.exchange(again));
        let keys = self.keys.get(id).map_or(&[][..], Vec::as_slice);
        // What the table knew as the second copy was claimed; the first may be completed after that.
        let claim = self.claims(again, id).find(|claim| claim.is_intact);
        let known = self.known_before(keys, role, claim.unwrap_or(again).sent.tick);
        let begun = || self.calls(first.invocation, id).next().map(|call| call.sent.tick);
        let since = known.map_or_else(begun, |known| Some(known.tick)).unwrap_or(0);
        let is_replaced = |tick: &u64| (since..again.sent.tick).contains(tick);
        let is_expired = known.is_some_and(|known| again.sent.at >= known.at + CLAIMS_LAST);
        let is_unknown = known.is_none();
        let is_unanswered = is_unknown && !first.is_intact;
        let is_unclear = meaning(first) == Some(Meaning::Unclear);
        let is_unclaimed =
            self.is_unclaimed(again, id) || is_unknown && self.is_unclaimed(first, id);
        let is_unwritten = is_unknown && self.has_failed_to_write(first, id);
        let skew_ms = self.skew_ms(first).abs_diff(self.skew_ms(again));
        let causes = [
            (is_expired, "the claim had expired"),
            (is_unclaimed, "the event was not claimed"),
            (is_unanswered && is_unclear, "the answer was unclear"),
            (is_unanswered, "no clear answer"),
            (is_unknown && self.is_killed(first), "stopped before the claim was written"),
            (is_unwritten, "the claim was not written"),
            (self.state.replaced.iter().any(is_replaced), "the table was replaced"),
            (skew_ms > MAX_SKEW_MS, "the clocks differed"),
            (keys.len() > 1, "the claim had another key"),
        ];
        causes.into_iter().find_map(|(is_so, cause)| is_so.then_some(cause))
    }

    /// The last update before a tick that left one of the claims knowing of a record.
    fn known_before(&self, keys: &[&str], role: &'static str, tick: u64) -> Option<Moment> {
        let known = keys.iter().filter_map(|key| self.state.known.get(&((*key).to_owned(), role)));
        let before = known.flatten().filter(|moment| moment.tick < tick);
        before.max_by_key(|moment| moment.tick).copied()
    }

    /// Whether faults kept an event from being claimed in the invocation of an upload.
    fn is_unclaimed(&self, upload: &Exchange, id: &str) -> bool {
        let mut claims = self.claims(upload, id).peekable();
        claims.peek().is_some() && claims.all(|claim| !claim.is_intact && claim.fault.is_some())
    }

    /// Whether an update after an upload was not answered.
    fn has_failed_to_write(&self, upload: &Exchange, id: &str) -> bool {
        self.calls(upload.invocation, id).any(|call| {
            let is_write = call.update.is_some_and(|update| update != Update::Claim);
            let is_lost = !call.is_intact && call.fault.is_some();
            is_write && call.sent.tick > upload.sent.tick && is_lost
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
