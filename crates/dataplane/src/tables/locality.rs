//! Upkeep of what lblc and lblcr remember: entries go when nobody used them for long, as in IPVS.

use pointsman_core::host::Tables as _;
use pointsman_core::layout::LOCALITIES;
use pointsman_core::locality::{self, MAX_ENTRIES, WAYS};
use pointsman_model::Scheduler;

use super::Tables;
use super::maps::Maps;

/// Seconds from one run to the next.
const INTERVAL_SECS: u32 = 60;
/// Of so many runs, the last one removes every entry that expired.
const RUNS: u32 = 30;
/// Seconds after which an entry may go from a cache that is too large.
const UNUSED_SECS: u32 = 6 * 60;

/// Sets of entries.
const SETS: u32 = LOCALITIES / WAYS;

/// The timer of one service's cache.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Jiffies of the next run.
    due: Option<u32>,
    /// Runs since the last full one.
    runs: u32,
    /// The set that was visited last.
    rover: u32,
}

impl Tables {
    /// Runs the timers that are due.
    pub(super) fn tend_caches(&mut self) {
        let now = self.maps.now();
        let settings = self.maps.runtime.read(0).expect("one record").settings;
        for (index, service) in (0..).zip(&mut self.services) {
            let Some(service) = service else { continue };
            let expiration = match service.spec.scheduler {
                Scheduler::Lblc => settings.lblc_expiration,
                Scheduler::Lblcr => settings.lblcr_expiration,
                _ => continue,
            };
            let interval = INTERVAL_SECS * self.hz;
            let due = service.upkeep.due.get_or_insert(now.wrapping_add(interval));
            if (now.wrapping_sub(*due) as i32) < 0 {
                continue;
            }
            *due = now.wrapping_add(interval);
            let cache = Cache {
                maps: &self.maps,
                service: index,
            };
            service
                .upkeep
                .run(&cache, expiration, UNUSED_SECS * self.hz);
        }
    }

    /// Removes what a service of lblc or lblcr remembers.
    pub(super) fn forget_cache(&mut self, index: u32, scheduler: Scheduler) {
        if matches!(scheduler, Scheduler::Lblc | Scheduler::Lblcr) {
            let cache = Cache {
                maps: &self.maps,
                service: index,
            };
            for set in 0..SETS {
                cache.remove(set, 0);
            }
        }
        if let Some(Some(service)) = self.services.get_mut(index as usize) {
            service.upkeep = Upkeep::default();
        }
    }
}

impl Upkeep {
    fn run(&mut self, cache: &Cache<'_>, expiration: u32, unused: u32) {
        self.runs += 1;
        if self.runs == RUNS {
            self.runs = 0;
            for set in 0..SETS {
                cache.remove(set, expiration);
            }
            return;
        }
        let record = cache.maps.services.read(cache.service);
        let entries = record.map_or(0, |r| (r.cached as i32).max(0) as u32);
        if entries <= MAX_ENTRIES {
            return;
        }
        let mut goal = ((entries - MAX_ENTRIES) * 4 / 3).min(MAX_ENTRIES / 2);
        for _ in 0..SETS {
            self.rover = (self.rover + 1) % SETS;
            goal = goal.saturating_sub(cache.remove(self.rover, unused));
            if goal == 0 {
                break;
            }
        }
    }
}

/// The entries of one service.
struct Cache<'a> {
    maps: &'a Maps,
    service: u32,
}

impl Cache<'_> {
    /// Removes those entries of a set that were not used for `unused` jiffies; how many.
    fn remove(&self, set: u32, unused: u32) -> u32 {
        (set * WAYS..(set + 1) * WAYS)
            .filter(|&index| locality::remove(self.maps, index, self.service, unused))
            .count() as u32
    }
}
