//! Which event names outside the catalogue are new today, so that each is counted once.
//! It does not know how such an event is handled.

use crate::clock;
use crate::purchasely::catalogue;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

const SECONDS_PER_DAY: u64 = 86_400;
/// A sender that makes up names must not fill the memory.
const MAX_NAMES: usize = 100;
/// Names that are equal up to here count as one.
const MAX_NAME_BYTES: usize = 120;

/// The names that this environment reported today.
#[derive(Debug, Default)]
pub struct UnknownEvents(Mutex<Today>);

#[derive(Debug, Default)]
struct Today {
    /// Since 1970.
    day: u64,
    names: HashSet<String>,
}

impl UnknownEvents {
    /// Whether the name is outside the catalogue and was not reported today.
    pub fn is_new_today(&self, name: &str) -> bool {
        if catalogue::is_known_event(name) {
            return false;
        }
        let day = clock::unix_time().as_secs() / SECONDS_PER_DAY;
        let mut today = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day != day {
            *today = Today { day, names: HashSet::new() };
        }
        let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
        today.names.len() < MAX_NAMES && today.names.insert(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn an_unknown_event_is_new_once_a_day() {
        let unknown = UnknownEvents::default();
        for (day, is_new) in [(20_000, true), (20_000, false), (20_001, true)] {
            clock::simulate(UNIX_EPOCH + Duration::from_hours(24 * day));
            assert_eq!(unknown.is_new_today("NOT_IN_THE_CATALOGUE"), is_new, "day {day}");
        }
    }

    #[test]
    fn of_a_long_unknown_name_only_the_beginning_is_remembered() {
        let unknown = UnknownEvents::default();
        let long = "é".repeat(100_000);
        assert!(unknown.is_new_today(&long));
        assert!(!unknown.is_new_today(&format!("{long}!")));
        assert!(unknown.0.lock().unwrap().names.iter().all(|name| name.len() <= 120));
    }
}
