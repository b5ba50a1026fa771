//! Outages, rotations of secrets, switches of the mode, redrives and clocks that are wrong.
//! It does not know who notices.

use super::faults::Service;
use super::lambda::Lambda;
use super::scenario::Length;
use super::world::{MAX_DRAIN, World};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// For so long faults and incidents have an effect: an outage ends after five minutes, and a claim in progress after
/// ten seconds by clocks that are twenty minutes apart.
const AFTERMATH: Duration = Duration::from_mins(30);

#[derive(Clone, Copy, Debug)]
pub enum Incident {
    Away(Service, Duration),
    /// CleverTap's passcode changes, and the secret before or after it.
    Passcode {
        is_secret_first: bool,
    },
    /// Purchasely's shared secret changes, and the secret before or after it.
    SharedSecret {
        is_secret_first: bool,
    },
    Mode,
    Redrive,
    /// The claims table is empty.
    TableReplaced,
    RevenueRefused(Duration),
    ProfilesRefused(Duration),
    /// The clocks of environments that start from here on are wrong.
    Clock(i64),
}

pub async fn happen(world: &World, lambda: &Lambda) {
    let begin = Instant::now();
    let mut drawn: Vec<_> = {
        let mut state = world.state();
        let storm = world.scenario.storm.as_secs();
        let may_switch = world.scenario.length != Length::Long;
        let draw = |_| {
            let at = Duration::from_secs(state.rng.u64(..storm));
            (at, Incident::draw(&mut state.rng, may_switch))
        };
        (0..world.scenario.incidents).map(draw).collect()
    };
    drawn.sort_by_key(|(at, _)| *at);
    for (at, incident) in drawn {
        sleep_until(begin + at).await;
        world.note(format!("{incident:?}"));
        incident.happen(world, lambda).await;
    }
    let calm_from = world.elapsed().max(world.scenario.storm) + AFTERMATH;
    world.state().calm_from = Some(calm_from);
}

impl Incident {
    pub async fn happen(self, world: &World, lambda: &Lambda) {
        let gap = Duration::from_secs(world.state().rng.u64(..90));
        match self {
            Self::Away(service, duration) => {
                world.state().away.insert(service, world.elapsed() + duration);
            }
            Self::Passcode { is_secret_first } | Self::SharedSecret { is_secret_first } => {
                self.rotate(world, is_secret_first);
                sleep(gap).await;
                self.rotate(world, !is_secret_first);
            }
            Self::Mode => {
                if lambda.is_queue() {
                    // As docs/operations.md describes it: Purchasely keeps what comes until the queue is empty.
                    world.state().is_api_closed = true;
                    sleep(Duration::from_mins(1)).await;
                    world.drain(Instant::now() + MAX_DRAIN).await;
                }
                lambda.switch();
                world.state().is_api_closed = false;
            }
            Self::Redrive => world.redrive(),
            Self::TableReplaced => {
                let mut state = world.state();
                state.aws.claims.0.clear();
                let tick = state.next_tick();
                state.replaced.push(tick);
            }
            Self::RevenueRefused(duration) => {
                world.state().revenue_refused = world.elapsed() + duration;
            }
            Self::ProfilesRefused(duration) => {
                world.state().profiles_refused = world.elapsed() + duration;
            }
            Self::Clock(skew_ms) => lambda.set_skew(skew_ms),
        }
    }

    /// Changes a value in the secret, or where it is used.
    fn rotate(self, world: &World, is_secret: bool) {
        let mut state = world.state();
        match (self, is_secret) {
            (Self::Passcode { .. }, true) => state.secret_passcode += 1,
            (Self::Passcode { .. }, false) => state.passcode += 1,
            (_, true) => state.shared_secrets.push(world.elapsed()),
            (_, false) => state.signs_with += 1,
        }
        drop(state);
        world.publish_secrets();
    }

    fn draw(rng: &mut fastrand::Rng, may_switch: bool) -> Self {
        let services =
            [Service::CleverTap, Service::SecretsManager, Service::DynamoDb, Service::Sqs];
        match rng.u8(..10) {
            0..=2 => {
                let seconds = rng.u64(20..300);
                Self::Away(services[rng.usize(..services.len())], Duration::from_secs(seconds))
            }
            3 => Self::Passcode { is_secret_first: rng.bool() },
            4 => Self::SharedSecret { is_secret_first: rng.bool() },
            5 if may_switch => Self::Mode,
            6 => Self::Redrive,
            7 => Self::TableReplaced,
            8 => {
                let duration = Duration::from_secs(rng.u64(20..300));
                if rng.bool() {
                    Self::RevenueRefused(duration)
                } else {
                    Self::ProfilesRefused(duration)
                }
            }
            _ => {
                let longest = if rng.bool() { 1_000 } else { 600_000 };
                Self::Clock(rng.i64(-longest..=longest))
            }
        }
    }
}
