//! How a world is set up: so many users and events, so many faults, so many incidents.
//! It does not know what the faults do.

use std::ops::Range;
use std::time::Duration;

/// The long worlds that ever failed. In these, buyers came together and their retries met for hours, until there were not
/// environments enough.
pub fn once_failed() -> [Scenario; 4] {
    [800, 2800, 902_400, 903_200].map(|seed| Scenario::long(seed, false))
}

/// How much happens in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// Two events that CleverTap accepts, without any fault but those that are named.
    Short,
    /// A few users, for some minutes.
    #[default]
    Usual,
    /// 20,000 events of 500 users in two hours, all in one mode.
    Long,
}

/// One world. A seed alone makes one, see [`Scenario::of_seed`].
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    pub seed: u64,
    pub length: Length,
    pub users: usize,
    pub events_per_user: usize,
    /// Whether webhooks go into the event queue at first.
    pub is_queue: bool,
    /// Whether a backend of the team's gets each webhook first.
    pub forwards: bool,
    /// Whether events are claimed.
    pub has_table: bool,
    /// How long there are faults; then everything works.
    pub storm: Duration,
    /// The share of exchanges with a fault.
    pub fault_rate: f64,
    /// The share of invocations that are killed.
    pub kill_rate: f64,
    /// Outages, rotations, switches of the mode, redrives, jumps of the clock.
    pub incidents: usize,
    pub environments: usize,
    /// How many batches of the event queue are delivered at once.
    pub pollers: usize,
    pub max_receive_count: u32,
    /// How long CleverTap refuses revenue records for now.
    pub revenue_refused: Duration,
    /// How many events are sent once more, some of them after their claims expired.
    pub replays: usize,
    /// The poll, counted from 1, with which an environment ends.
    pub kill_at: Option<u64>,
    /// The exchange, counted from 0, that has the fault with this number in [`Service::faults`].
    ///
    /// [`Service::faults`]: super::Service::faults
    pub fault_at: Option<(usize, usize)>,
    /// Set in a world that only counts.
    pub load: Option<Load>,
}

/// How a world is loaded that only counts: it has no other faults, and no trace.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Events happen evenly over it, those of a user as far apart as possible.
    pub window: Duration,
    /// From when on Purchasely sends nothing, and keeps what is not acknowledged.
    pub end: Duration,
    /// How long CleverTap, DynamoDB and SQS take for a request.
    pub clevertap: Duration,
    pub dynamodb: Duration,
    pub sqs: Duration,
    /// For so long an event occupies its environment's share of a CPU, which the paused clock does not see.
    pub cpu: Duration,
    /// How many requests API Gateway accepts, a second and at once.
    pub throttling: Option<[f64; 2]>,
    /// When CleverTap refuses connections.
    pub outage: Range<Duration>,
}

impl Scenario {
    /// A world with a storm of 5 to 20 %.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let storm = Duration::from_secs(rng.u64(120..900));
        Self {
            seed,
            length: Length::Usual,
            users: rng.usize(2..8),
            events_per_user: rng.usize(2..9),
            is_queue: rng.bool(),
            storm,
            fault_rate: 0.05 + 0.15 * rng.f64(),
            kill_rate: 0.1 * rng.f64(),
            incidents: rng.usize(0..6),
            environments: rng.usize(2..20),
            pollers: 2,
            max_receive_count: if rng.u8(..8) == 0 { 4 } else { 1000 },
            revenue_refused: Duration::ZERO,
            replays: rng.usize(0..4),
            forwards: rng.u8(..4) == 0,
            has_table: true,
            kill_at: None,
            fault_at: None,
            load: None,
        }
    }

    /// [`Length::Long`].
    pub fn long(seed: u64, is_queue: bool) -> Self {
        Self {
            length: Length::Long,
            users: 500,
            events_per_user: 40,
            is_queue,
            storm: Duration::from_hours(2),
            incidents: 15,
            environments: 50,
            pollers: 5,
            max_receive_count: 1000,
            replays: 20,
            ..Self::of_seed(seed)
        }
    }

    /// Two events of one user, the first with revenue, without any fault but those that are set.
    pub fn short(is_queue: bool, is_revenue_refused: bool) -> Self {
        Self {
            length: Length::Short,
            users: 1,
            events_per_user: 2,
            is_queue,
            storm: Duration::from_secs(5),
            fault_rate: 0.0,
            kill_rate: 0.0,
            incidents: 0,
            environments: 2,
            max_receive_count: 1000,
            revenue_refused: Duration::from_secs(if is_revenue_refused { 30 } else { 0 }),
            replays: 0,
            forwards: false,
            ..Self::of_seed(1)
        }
    }

    /// The same with a backend, and without a claims table: what the backend does must not double an event.
    pub fn short_with_backend(is_queue: bool) -> Self {
        Self {
            forwards: true,
            has_table: false,
            ..Self::short(is_queue, false)
        }
    }

    /// The mode in which it begins.
    pub fn mode(&self) -> &'static str {
        if self.is_queue { "queue" } else { "direct" }
    }

    /// The command that runs it again and shows what happens.
    pub fn command(&self) -> String {
        let mode = self.mode();
        let set_up = match self.length {
            Length::Short => format!("--short {mode}"),
            Length::Usual => format!("--seed {}", self.seed),
            Length::Long => format!("--long {mode} --seed {}", self.seed),
        };
        let is_refused = !self.revenue_refused.is_zero();
        let revenue = if is_refused { " --revenue-refused" } else { "" };
        let backend = if self.has_table { "" } else { " --backend" };
        let kill = self.kill_at.map(|poll| format!(" --kill-at {poll}"));
        let fault = self.fault_at.map(|(at, number)| format!(" --fault {at}:{number}"));
        let (kill, fault) = (kill.unwrap_or_default(), fault.unwrap_or_default());
        format!("cargo relay simulate --trace {set_up}{backend}{revenue}{kill}{fault}")
    }
}
