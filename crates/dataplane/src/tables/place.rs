//! Making a service's scheduling table when its list changes, and keeping the scheduler's place.

use pointsman_core::atomic;
use pointsman_core::layout::Schedule;
use pointsman_model::{Error, Scheduler};

use super::schedule::{Candidate, Place};
use super::{Tables, schedule};

impl Tables {
    /// Notes where the scheduler stands, before the list changes; `leaving` is about to be removed.
    pub(super) fn keep_place(&mut self, index: u32, leaving: Option<u32>) {
        let candidates = self.candidates(index);
        let record = self
            .maps
            .services
            .read(index)
            .expect("given out below the limit");
        let service = self.service_mut(index);
        match service.spec.scheduler {
            Scheduler::Rr => {
                let eligible: Vec<u32> = candidates
                    .iter()
                    .filter(|c| c.weight > 0)
                    .map(|c| c.server)
                    .collect();
                if record.turn > record.first_turn && !eligible.is_empty() {
                    let last = ((record.turn - 1) % eligible.len() as u64) as usize;
                    service.place = Place::After(eligible[last]);
                }
                if let Some(leaving) = leaving
                    && service.place == Place::After(leaving)
                {
                    let at = service
                        .servers
                        .iter()
                        .position(|&s| s == leaving)
                        .unwrap_or(0);
                    service.place = match at {
                        0 => Place::Head,
                        _ => Place::After(service.servers[at - 1]),
                    };
                }
            }
            Scheduler::Wrr => {
                let begun = match service.place {
                    Place::Level(level) => level,
                    _ => 0,
                };
                let level = schedule::wrr_level(&candidates, record.first_turn, record.turn, begun);
                service.place = Place::Level(level);
            }
            Scheduler::Lc
            | Scheduler::Wlc
            | Scheduler::Lblc
            | Scheduler::Lblcr
            | Scheduler::Dh
            | Scheduler::Sh
            | Scheduler::Sed
            | Scheduler::Nq
            | Scheduler::Fo
            | Scheduler::Ovf
            | Scheduler::Mh
            | Scheduler::Twos
            | Scheduler::None => {}
        }
    }

    pub(super) fn candidates(&self, index: u32) -> Vec<Candidate> {
        let service = self.services[index as usize]
            .as_ref()
            .expect("indexed services exist");
        let candidate = |&server: &u32| {
            let spec = &self.servers[&server].spec;
            let record = self.maps.servers.read(server);
            Candidate {
                server,
                weight: spec.weight.get(),
                last_weight: record.map_or(0, |r| r.last_weight),
                identity: record
                    .map_or(0, |r| r.rip.folded())
                    .wrapping_add(spec.key.port.into()),
            }
        };
        service.servers.iter().map(candidate).collect()
    }

    /// Makes a service's scheduling table anew and puts it in place with one store.
    pub(super) fn compile(&mut self, index: u32) -> Result<(), Error> {
        let candidates = self.candidates(index);
        let service = self.services[index as usize]
            .as_mut()
            .expect("indexed services exist");
        let scheduler = service.spec.scheduler;
        if scheduler == Scheduler::Wrr {
            let level = match service.place {
                Place::Level(level) => level,
                _ => 0,
            };
            service.place = Place::Level(schedule::wrr_entry_level(&candidates, level));
        }
        let compiled = schedule::compile(scheduler, &candidates, service.place)?;
        let block = self.arena.take(compiled.words.len())?;
        for (i, word) in compiled.words.iter().enumerate() {
            self.maps.schedules.write(block.offset + i as u32, *word);
        }
        let word = Schedule::new(block.offset, compiled.len, schedule::number(scheduler)).0;
        let at = self
            .maps
            .services
            .at(index)
            .expect("given out below the limit");
        // SAFETY: the pointer is into the map. Turns first: a packet between the stores takes a
        // turn of the old table at a new place, which is a turn like any other.
        unsafe {
            atomic::swap64(&raw mut (*at).first_turn, compiled.turn);
            atomic::swap64(&raw mut (*at).turn, compiled.turn);
            atomic::swap64(&raw mut (*at).schedule, word);
        }
        if let Some(old) = self.service_mut(index).block.replace(block) {
            self.arena.give(old);
        }
        Ok(())
    }
}
