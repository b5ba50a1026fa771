//! Starts the contestants in turn, hands them events and takes down what it sees.
//! It does not know which figures are good.

use crate::contestants::{Built, Contestant};
use crate::events;
use crate::figures::Spread;
use crate::process::Process;
use crate::quota::Quota;
use crate::runtime_api::{Invocation, RuntimeApi};
use crate::services::{AllTraffic, Latency, Services};
use serde::Serialize;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tempfile::NamedTempFile;

/// Events that a fresh process is sent before any is measured.
const WARM_UP: usize = 100;
/// Events that one contestant is sent before it is the next one's turn.
const TURN: usize = 50;
/// Batches that it is sent in its turn.
const TURN_OF_BATCHES: usize = 10;

/// Cold starts of one contestant, each up to its first answer.
#[derive(Debug, Clone, Serialize)]
pub struct Cold {
    pub contestant: Contestant,
    pub next_ms: Spread,
    pub answer_ms: Spread,
    pub cpu_ms: Spread,
    pub peak_mib: Spread,
    /// The most that was seen.
    pub traffic: AllTraffic,
}

/// Events that one contestant was sent after its first ones.
#[derive(Debug, Clone, Serialize)]
pub struct Warm {
    pub contestant: Contestant,
    /// Events in one invocation.
    pub events_at_once: usize,
    /// For each invocation.
    pub took_us: Spread,
    /// For each invocation.
    pub cpu_us: Spread,
    /// Since the process began.
    pub peak_mib: f64,
    pub invocations: usize,
    pub traffic: AllTraffic,
}

/// Under what conditions cold starts are measured.
pub struct Conditions<'c> {
    pub quota: Option<&'c Quota>,
    pub latency: Latency,
}

#[derive(Default)]
struct ColdStarts {
    next_ms: Vec<f64>,
    answer_ms: Vec<f64>,
    cpu_ms: Vec<f64>,
    peak_mib: Vec<f64>,
    traffic: AllTraffic,
}

/// One process that lives through all turns.
struct Lane<'b> {
    built: &'b Built,
    batches: bool,
    event: Arc<Vec<u8>>,
    // Ended before its API, so that it is not left waiting.
    process: Process,
    api: RuntimeApi,
    took_us: Vec<f64>,
    cpu_us: Vec<f64>,
    traffic: AllTraffic,
}

struct Stage {
    services: Services,
    authority: NamedTempFile,
}

/// Measures `rounds` cold starts of each, in turn, each round beginning with another one.
pub fn cold(
    contestants: &[Built],
    conditions: &Conditions<'_>,
    rounds: usize,
) -> Result<Vec<Cold>, Box<dyn Error>> {
    let stage = Stage::set(conditions.latency)?;
    let event = events::single()?;
    let mut starts: Vec<ColdStarts> = Vec::new();
    starts.resize_with(contestants.len(), ColdStarts::default);
    // The first round fills the machine's caches and is not counted.
    for round in 0..=rounds {
        eprint!("\r  cold start {round} of {rounds} ");
        for turn in 0..contestants.len() {
            let position = (round + turn) % contestants.len();
            let mut ignored = ColdStarts::default();
            let start = match round {
                0 => &mut ignored,
                _ => &mut starts[position],
            };
            let built = &contestants[position];
            stage
                .cold_start(built, conditions.quota, &event, start)
                .map_err(|error| failed(built, error.as_ref()))?;
        }
    }
    eprintln!();
    let figures = contestants.iter().zip(starts).map(|(built, start)| {
        Some(Cold {
            contestant: built.contestant,
            next_ms: Spread::of(start.next_ms)?,
            answer_ms: Spread::of(start.answer_ms)?,
            cpu_ms: Spread::of(start.cpu_ms)?,
            peak_mib: Spread::of(start.peak_mib)?,
            traffic: start.traffic,
        })
    });
    figures
        .collect::<Option<_>>()
        .ok_or_else(|| "nothing was measured".into())
}

/// Measures `count` warm events of each, turn by turn, and as many batches of the function's as make
/// up the same number of events.
pub fn warm(contestants: &[Built], count: usize) -> Result<Vec<Warm>, Box<dyn Error>> {
    let stage = Stage::set(Latency::default())?;
    let mut lanes = Vec::new();
    for built in contestants {
        let batched = built.contestant == Contestant::Relay;
        for batches in [false, true] {
            if batches && !batched {
                continue;
            }
            let lane = stage.lane(built, batches);
            lanes.push(lane.map_err(|error| failed(built, error.as_ref()))?);
        }
    }
    let turns = count.div_ceil(TURN);
    for turn in 1..=turns {
        eprint!("\r  warm turn {turn} of {turns} ");
        let first = turn % lanes.len();
        let (late, early) = lanes.split_at_mut(first);
        for lane in early.iter_mut().chain(late) {
            let built = lane.built;
            stage
                .turn(lane)
                .map_err(|error| failed(built, error.as_ref()))?;
        }
    }
    eprintln!();
    lanes.into_iter().map(Lane::figures).collect()
}

impl Stage {
    fn set(latency: Latency) -> Result<Self, Box<dyn Error>> {
        let services = Services::start(latency)?;
        let mut authority = NamedTempFile::new()?;
        authority.write_all(services.authority_pem.as_bytes())?;
        Ok(Self {
            services,
            authority,
        })
    }

    fn begin(
        &self,
        built: &Built,
        quota: Option<&Quota>,
    ) -> Result<(Process, RuntimeApi), Box<dyn Error>> {
        let api = RuntimeApi::start()?;
        let start = built.start(api.address(), &self.services, self.authority.path())?;
        Ok((Process::start(&start, quota)?, api))
    }

    fn cold_start(
        &self,
        built: &Built,
        quota: Option<&Quota>,
        event: &Arc<Vec<u8>>,
        into: &mut ColdStarts,
    ) -> Result<(), Box<dyn Error>> {
        let before = self.services.traffic();
        let (mut process, api) = self.begin(built, quota)?;
        let invocation = api.invoke(event, || process.is_alive())?;
        let cpu = process.cpu()?;
        let peak = process.peak_memory()?;
        let uploads = self.services.take_uploads();
        events::check_single(&invocation.answer, &uploads, built.contestant.relays())?;
        let traffic = self.services.traffic() - before;
        let began = process.began_at();
        let asked = api.asked_first_at().ok_or("it asked for no event")?;
        into.next_ms.push(ms(asked - began));
        into.answer_ms.push(ms(invocation.answered_at - began));
        into.cpu_ms.push(ms(cpu));
        into.peak_mib.push(mib(peak));
        into.traffic = into.traffic.most(traffic);
        // Before its API, so that it is never left without one.
        drop(process);
        Ok(())
    }

    fn lane<'b>(&self, built: &'b Built, batches: bool) -> Result<Lane<'b>, Box<dyn Error>> {
        let (process, api) = self.begin(built, None)?;
        let mut lane = Lane {
            built,
            batches,
            event: if batches {
                events::batch()?
            } else {
                events::single()?
            },
            process,
            api,
            took_us: Vec::new(),
            cpu_us: Vec::new(),
            traffic: AllTraffic::default(),
        };
        for _ in 0..WARM_UP {
            self.invoke(&mut lane)?;
        }
        Ok(lane)
    }

    fn invoke(&self, lane: &mut Lane<'_>) -> Result<Invocation, Box<dyn Error>> {
        let process = &mut lane.process;
        let invocation = lane.api.invoke(&lane.event, || process.is_alive())?;
        let uploads = self.services.take_uploads();
        if lane.batches {
            events::check_batch(&invocation.answer, &uploads)?;
        } else {
            let relays = lane.built.contestant.relays();
            events::check_single(&invocation.answer, &uploads, relays)?;
        }
        Ok(invocation)
    }

    fn turn(&self, lane: &mut Lane<'_>) -> Result<(), Box<dyn Error>> {
        let count = if lane.batches { TURN_OF_BATCHES } else { TURN };
        // It is cold from the others' turns; the first event is not counted.
        self.invoke(lane)?;
        let before = self.services.traffic();
        for _ in 0..count {
            let cpu_before = lane.process.cpu()?;
            let invocation = self.invoke(lane)?;
            lane.took_us.push(ms(invocation.took) * 1e3);
            lane.cpu_us
                .push(ms(lane.process.cpu()?.saturating_sub(cpu_before)) * 1e3);
        }
        lane.traffic = lane.traffic + (self.services.traffic() - before);
        Ok(())
    }
}

impl Lane<'_> {
    fn figures(self) -> Result<Warm, Box<dyn Error>> {
        let invocations = self.took_us.len();
        Ok(Warm {
            contestant: self.built.contestant,
            events_at_once: if self.batches { events::BATCH } else { 1 },
            took_us: Spread::of(self.took_us).ok_or("nothing was measured")?,
            cpu_us: Spread::of(self.cpu_us).ok_or("nothing was measured")?,
            peak_mib: mib(self.process.peak_memory()?),
            invocations,
            traffic: self.traffic,
        })
    }
}

fn failed(built: &Built, error: &dyn Error) -> String {
    format!(
        "{:?}: {error}; it wrote last:\n{}",
        built.contestant,
        built.last_words()
    )
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let bytes = bytes as f64;
    bytes / f64::from(1024 * 1024)
}
