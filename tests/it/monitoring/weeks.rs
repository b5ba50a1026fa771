//! Simulated weeks of a stack: which alarm is announced when, and which end. The deliveries come by Purchasely's schedule
//! and count what `situations.json` says; `weeks.json` has the messages, to be reviewed. It does not know CloudWatch; its
//! model is `alarms`.

use super::alarms::{Alarm, Metrics, STEP, Settings, alarms};
use super::{SITUATIONS, situations};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use testkit::simulation::{RETRIES, delay_after};

const WEEKS: &str = include_str!("../weeks.json");

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;
const WEDNESDAY: u64 = 2 * DAY;

/// Events of one moment that fare alike.
#[derive(Clone, Copy)]
struct Events {
    /// Their place in the week's list.
    number: usize,
    created: u64,
    failures: u64,
    times: f64,
}

impl Events {
    fn age(self, now: u64) -> u64 {
        now - self.created
    }
}

/// What becomes of a delivery at a moment: situations with their shares.
type Fate = Box<dyn Fn(u64, Events) -> Vec<(&'static str, f64)>>;

struct Week {
    name: &'static str,
    events: Vec<(u64, f64)>,
    /// Moments of requests that are not sent again.
    requests: Vec<u64>,
    fate: Fate,
    /// Letters in the dead-letter queue, and the age of the oldest message of the event queue, at a moment.
    queues: fn(u64) -> [u64; 2],
    throttling_rate: fn(u64) -> f64,
}

/// 20 events a day, none between midnight and seven. Each event has a user of its own, so none waits for another.
fn small() -> Vec<(u64, f64)> {
    let minute = |day: u64, number: u64| number * 51 + (number * number * 7 + day * 13) % 29;
    let time = |day, number| day * DAY + 7 * HOUR + minute(day, number) * 60 + number * 17 % 60;
    let days = (0..7).flat_map(|day| (0..20).map(move |number| (day, number)));
    days.map(|(day, number)| (time(day, number), 1.0)).collect()
}

/// 100 events a second, those of five minutes at once.
fn big() -> Vec<(u64, f64)> {
    (0..WEEK / 300).map(|part| (part * 300 + 30, 30_000.0)).collect()
}

fn week(name: &'static str, fate: impl Fn(u64, Events) -> &'static str + 'static) -> Week {
    let events = if name.starts_with("big app: ") { big() } else { small() };
    Week {
        name,
        events,
        requests: vec![],
        fate: Box::new(move |now, events| vec![(fate(now, events), 1.0)]),
        queues: |_| [0; 2],
        throttling_rate: |_| 250.0,
    }
}

/// Relayed but for some seconds.
fn but(name: &'static str, from: u64, seconds: u64, situation: &'static str) -> Week {
    let is_over = move |now| !(from..from + seconds).contains(&now);
    week(name, move |now, _| if is_over(now) { "relayed" } else { situation })
}

/// The same, for a situation that is another after five minutes.
fn but_held(name: &'static str, seconds: u64, first: &'static str, then: &'static str) -> Week {
    let from = WEDNESDAY + 10 * HOUR;
    week(name, move |now, events| match events.age(now) {
        _ if !(from..from + seconds).contains(&now) => "relayed",
        0..300 => first,
        _ => then,
    })
}

#[rustfmt::skip]
fn weeks() -> Vec<Week> {
    let ten = WEDNESDAY + 10 * HOUR;
    let busy = "CleverTap is busy";
    vec![
        week("small app: nothing happens", |_, events| match events.number % 10 {
            3 => "the buyer is not signed in",
            7 => "a sandbox purchase is dropped",
            _ => "relayed",
        }),
        week("big app: nothing happens", |_, _| "relayed"),
        but("small app: CleverTap is down for an hour", ten, HOUR, busy),
        but("big app: CleverTap is down for an hour", ten, HOUR, busy),
        but("small app: CleverTap is down for twelve hours", ten, 12 * HOUR, busy),
        but("big app: CleverTap is down for twelve hours", ten, 12 * HOUR, busy),
        Week {
            fate: Box::new(move |now, _| {
                if (ten..ten + DAY).contains(&now) { vec![("relayed", 0.75), (busy, 0.25)] } else { vec![("relayed", 1.0)] }
            }),
            ..week("big app: CleverTap fails a quarter of the uploads for a day", |_, _| "relayed")
        },
        but("small app: a wrong passcode on the first day until 16:00", 0, 16 * HOUR, "the passcode is revoked"),
        but("big app: a wrong passcode for an hour", ten, HOUR, "the passcode is revoked"),
        but("small app: no secret on the first day until 16:00", 0, 16 * HOUR, "the secret is empty"),
        but("small app: another shared secret for two days", ten, 48 * HOUR, "the shared secret is wrong"),
        but("small app: everything is ignored for two days", ten, 48 * HOUR, "an unknown event is disabled"),
        but("big app: everything is ignored for a day", ten, 24 * HOUR, "an unknown event is disabled"),
        but("small app: the function is paused and forgotten for two days", ten, 48 * HOUR, "Lambda refuses the invocation"),
        Week {
            throttling_rate: |now| if (WEDNESDAY + 10 * HOUR..WEDNESDAY + 58 * HOUR).contains(&now) { 0.0 } else { 250.0 },
            ..but("small app: the route is at zero and forgotten for two days", ten, 48 * HOUR, "the request is over the rate")
        },
        but("big app: the function is paused for ten minutes", ten, 10 * MINUTE, "Lambda refuses the invocation"),
        week("small app: one poisoned event, without a dead-letter queue", |_, events| match events.number {
            50 => "there is no dead-letter queue",
            _ => "relayed",
        }),
        week("small app: one event that CleverTap never takes", move |_, events| if events.number == 50 { busy } else { "relayed" }),
        Week {
            events: small().into_iter().chain((0..30).map(|letter| (WEDNESDAY + 2 * HOUR + letter * 60, 1.0))).collect(),
            queues: |now| [if (WEDNESDAY + 2 * HOUR..WEDNESDAY + 33 * HOUR).contains(&now) { 30 } else { 0 }, 0],
            ..week("small app: 30 dead letters in a night, redriven the next day", |_, events| match events.number {
                140.. => "a dead letter is stored",
                _ => "relayed",
            })
        },
        Week {
            requests: [0, 1, 1800, 1801].map(|second| WEDNESDAY + 2 * HOUR + second).to_vec(),
            ..week("small app: two runs of the doctor in a night", |now, _| {
                if now % DAY < 7 * HOUR { "the shared secret is wrong" } else { "relayed" }
            })
        },
        but("small app: a deployment that does not start, rolled back after 2 hours", ten, 2 * HOUR, "the function fails"),
        but("big app: a deployment that does not start, rolled back after 2 hours", ten, 2 * HOUR, "the function fails"),
        but_held("small app: the backend is down for two hours", 2 * HOUR, "the backend does not answer", "the backend does not answer for minutes"),
        but("big app: the backend is down for four minutes", ten, 4 * MINUTE, "the backend does not answer"),
        but_held("big app: the backend is down for two hours", 2 * HOUR, "the backend does not answer", "the backend does not answer for minutes"),
        week("small app: the sandbox account has no passcode", |_, events| match events.number % 4 {
            0 => "the sandbox account has no passcode",
            _ => "relayed",
        }),
        week("small app: a payment without an amount each Wednesday evening", |now, events| {
            if events.number % 20 > 16 && now / DAY == 2 { "a payment has no amount" } else { "relayed" }
        }),
        but("big app: the claims table is gone for a day", ten, 24 * HOUR, "the claims table does not exist"),
        Week {
            fate: Box::new(move |now, _| match now {
                now if (ten..ten + DAY).contains(&now) => vec![("queued", 1.0)],
                _ => vec![("queued", 1.0), ("relayed from the queue", 1.0)],
            }),
            queues: |now| {
                let since = WEDNESDAY + 10 * HOUR;
                [0, if (since..since + DAY).contains(&now) { now - since } else { 1 }]
            },
            ..week("big app: in queue mode nothing reads the queue for a day", |_, _| "relayed")
        },
    ]
}

impl Week {
    fn metrics(&self, situations: &Map<String, Value>) -> Metrics {
        let mut metrics = Metrics::default();
        let mut deliveries: BTreeMap<u64, Vec<Events>> = BTreeMap::new();
        for (number, &(created, times)) in self.events.iter().enumerate() {
            deliveries.entry(created).or_default().push(Events {
                number,
                created,
                failures: 0,
                times,
            });
        }
        for &created in &self.requests {
            let request = Events {
                number: usize::MAX,
                created,
                failures: RETRIES,
                times: 1.0,
            };
            deliveries.entry(created).or_default().push(request);
        }
        while let Some((now, events)) = deliveries.pop_first().filter(|(now, _)| *now < WEEK) {
            for events in events {
                for (situation, share) in (self.fate)(now, events) {
                    let row = &situations[situation];
                    let failed = Events {
                        failures: events.failures + 1,
                        times: events.times * share,
                        ..events
                    };
                    count(&mut metrics, now, failed, row);
                    if row["sent_again"] == true
                        && failed.failures <= RETRIES
                        && failed.times >= 1.0
                    {
                        let next = now + delay_after(failed.failures).as_secs();
                        deliveries.entry(next).or_default().push(failed);
                    }
                }
            }
        }
        for now in (0..WEEK).step_by(300) {
            let [letters, oldest] = (self.queues)(now).map(float);
            metrics.put("ApproximateNumberOfMessagesVisible", now, letters, 1.0);
            metrics.put("ApproximateAgeOfOldestMessage", now, oldest, 1.0);
        }
        metrics
    }
}

/// What a delivery counts: in the function's line, in the access log, in API Gateway and in Lambda.
fn count(metrics: &mut Metrics, now: u64, events: Events, row: &Value) {
    let is_seen = row["statuses"].is_null();
    let is_request = row["message"].is_null();
    for (metric, value) in row["metrics"].as_object().expect("metrics") {
        let value = match &**metric {
            "EventAge" => events.age(now) + 1,
            _ => value.as_u64().expect("a number"),
        };
        metrics.put(metric, now, float(value), events.times);
    }
    if is_seen && is_request {
        metrics.put("Refused", now, 0.0, events.times);
    }
    if is_seen || row["statuses"][1] == "200" {
        metrics.put("Errors", now, f64::from(u8::from(!is_seen)), events.times);
    }
    if is_request {
        metrics.put("Count", now, 1.0, events.times);
    }
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).expect("a small number"))
}

/// Such as `Wed 10:05 page Held`.
fn messages(alarms: &[Alarm], metrics: &Metrics, throttling_rate: fn(u64) -> f64) -> Vec<String> {
    let messages = |alarm: &Alarm| {
        let with =
            |is_filled| alarm.messages(metrics, Settings { throttling_rate, is_filled }, WEEK);
        let filled = with(true);
        assert!(!alarm.has_fill() || filled == with(false), "{} depends on FILL", alarm.name);
        filled
    };
    let mut all: Vec<_> = alarms.iter().flat_map(messages).collect();
    all.sort();
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Mon"];
    let time = |time: u64| {
        let day = days[usize::try_from(time / DAY).unwrap()];
        format!("{day} {:02}:{:02}", time % DAY / HOUR, time % HOUR / 60)
    };
    all.into_iter().map(|(at, message)| format!("{} {message}", time(at))).collect()
}

#[test]
fn each_week_has_the_alarms_that_were_reviewed() {
    let (situations, alarms) = (situations(SITUATIONS), alarms());
    let mut actual = Map::new();
    for week in weeks() {
        let metrics = week.metrics(&situations);
        let messages = messages(&alarms, &metrics, week.throttling_rate);
        actual.insert(week.name.to_owned(), json!(messages));
    }
    let reviewed: Value = serde_json::from_str(WEEKS).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = serde_json::to_string_pretty(&actual).unwrap() + "\n";
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/weeks.json"), text).unwrap();
    } else {
        assert_eq!(json!(actual), reviewed, "see `make docs`");
    }
}

/// CloudWatch evaluates each minute, the model less often.
#[test]
fn each_period_is_a_multiple_of_the_models_step() {
    let alarms = alarms();
    assert_eq!(alarms.len(), 10);
    assert!(alarms.iter().all(|alarm| alarm.period % STEP == 0));
}
