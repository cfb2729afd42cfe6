//! The variables of `net.ipv4.vs`, and the defence that some of them ask for.

use pointsman_core::layout::Runtime;
use pointsman_model::{Error, Range, RateEstimator, Variable};

use super::{Tables, counters, sweep};

impl Tables {
    /// The value of a variable, as text; `None` for one that always has its default.
    pub fn variable(&self, variable: Variable) -> Option<String> {
        let at = self.place_of(variable)?;
        // SAFETY: the pointer is into the map.
        let value = unsafe { at.read_volatile() } as i32;
        let value = match variable.range() {
            Range::Seconds => value / self.hz as i32,
            _ => value,
        };
        Some(value.to_string())
    }

    /// Sets a variable. [`Tables::defend`] has to follow.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a value it does not take.
    pub fn set_variable(&mut self, variable: Variable, value: &str) -> Result<(), Error> {
        let Some(at) = self.place_of(variable) else {
            return Err(Error::Invalid(format!("{variable} cannot be changed")));
        };
        let mut value = variable.number(value)?;
        if variable.range() == Range::Seconds {
            let most = i32::MAX / self.hz as i32;
            if value > most {
                return Err(Error::Invalid(format!(
                    "{}: {value} seconds; {most} at most",
                    variable.name()
                )));
            }
            value = value.wrapping_mul(self.hz as i32);
        }
        // SAFETY: the pointer is into the map; user space alone writes these.
        let old = unsafe { at.read_volatile() };
        if variable == Variable::RunEstimation && old == 0 && value != 0 {
            self.restart_estimation();
        }
        // SAFETY: as above.
        unsafe { at.write_volatile(value as u32) };
        Ok(())
    }

    /// Follows the automatic modes of `drop_entry`, `drop_packet` and `secure_tcp`, with the pages of
    /// memory that are free or buffers; to be called every second and when a variable was set.
    pub fn defend(&mut self, available_pages: u64) {
        let at = self.runtime();
        // SAFETY: the pointer is into the map; user space alone writes what is written here, but for
        // the counter, which packets change.
        unsafe {
            let defence = &raw mut (*at).defence;
            let settings = &raw mut (*at).settings;
            let threshold =
                ((&raw const (*defence).amemthresh).read_volatile() as i32).max(0) as u64;
            let low = available_pages < threshold;
            // True where the defence is up.
            let follow = |mode: *mut u32| match mode.read_volatile() {
                0 => false,
                3.. => true,
                old => {
                    let new = if low { 2 } else { 1 };
                    if old != new {
                        mode.write_volatile(new);
                    }
                    low
                }
            };
            follow(&raw mut (*defence).drop_entry);

            let mode = &raw mut (*defence).drop_packet;
            let up = follow(mode);
            let rate = match mode.read_volatile() {
                3.. => (&raw const (*defence).am_droprate).read_volatile(),
                _ if up => {
                    let rate = (threshold / (threshold - available_pages)) as u32;
                    (&raw mut (*settings).drop_counter).write_volatile(rate);
                    rate
                }
                _ => 0,
            };
            (&raw mut (*settings).drop_rate).write_volatile(rate);

            let secure = follow(&raw mut (*defence).secure_tcp);
            (&raw mut (*at).secure_tcp).write_volatile(secure.into());
        }
    }

    /// Removes what the variables ask for beyond what lapsed; part of [`Tables::tend`].
    pub(super) fn sweep_by_settings(&mut self) {
        if std::mem::take(&mut self.nodest_due) {
            sweep::expire_nodest(&self.maps);
        }
        let defence = self.maps.runtime.read(0).expect("one record").defence;
        if defence.drop_entry >= 2 {
            let random = &mut self.random;
            sweep::drop_entries(&self.maps, &mut || {
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                (*random >> 32) as u32
            });
        }
    }

    /// Whether connections of a server go when it does.
    pub(super) fn expires_nodest(&self) -> bool {
        let settings = self.maps.runtime.read(0).expect("one record").settings;
        settings.expire_nodest_conn != 0
    }

    /// Whether rates are estimated.
    pub(super) fn estimates(&self) -> bool {
        let defence = self.maps.runtime.read(0).expect("one record").defence;
        defence.run_estimation != 0
    }

    /// Rates go on from what is counted now.
    fn restart_estimation(&mut self) {
        let totals: Vec<_> = (0..self.services.len() as u32)
            .map(|i| {
                self.services[i as usize]
                    .as_ref()
                    .map(|_| self.counters_of(i))
            })
            .collect();
        for (service, total) in self.services.iter_mut().zip(totals) {
            if let (Some(service), Some(total)) = (service, total) {
                service.rates = RateEstimator::starting_at(total);
            }
        }
        for (index, server) in &mut self.servers {
            server.rates = RateEstimator::starting_at(counters::raw(&self.maps, *index));
        }
        self.totals = RateEstimator::starting_at(self.sum());
    }

    fn runtime(&self) -> *mut Runtime {
        self.maps.runtime.at(0).expect("one record")
    }

    /// Where a variable lies; `None` for one that always has its default.
    fn place_of(&self, variable: Variable) -> Option<*mut u32> {
        let at = self.runtime();
        // SAFETY: the pointer is into the map.
        let (settings, defence) = unsafe { (&raw mut (*at).settings, &raw mut (*at).defence) };
        // SAFETY: as above.
        Some(unsafe {
            match variable {
                Variable::AmDroprate => &raw mut (*defence).am_droprate,
                Variable::Amemthresh => &raw mut (*defence).amemthresh,
                Variable::DropEntry => &raw mut (*defence).drop_entry,
                Variable::DropPacket => &raw mut (*defence).drop_packet,
                Variable::SecureTcp => &raw mut (*defence).secure_tcp,
                Variable::RunEstimation => &raw mut (*defence).run_estimation,
                Variable::CacheBypass => &raw mut (*settings).cache_bypass,
                Variable::ConnReuseMode => &raw mut (*settings).conn_reuse_mode,
                Variable::ExpireNodestConn => &raw mut (*settings).expire_nodest_conn,
                Variable::ExpireQuiescentTemplate => &raw mut (*settings).expire_quiescent_template,
                Variable::IgnoreTunneled => &raw mut (*settings).ignore_tunneled,
                Variable::LblcExpiration => &raw mut (*settings).lblc_expiration,
                Variable::LblcrExpiration => &raw mut (*settings).lblcr_expiration,
                Variable::NatIcmpSend => &raw mut (*settings).nat_icmp_send,
                Variable::PmtuDisc => &raw mut (*settings).pmtu_disc,
                Variable::ScheduleIcmp => &raw mut (*settings).schedule_icmp,
                Variable::SloppySctp => &raw mut (*settings).sloppy_sctp,
                Variable::SloppyTcp => &raw mut (*settings).sloppy_tcp,
                Variable::BackupOnly
                | Variable::Conntrack
                | Variable::EstCpulist
                | Variable::EstNice
                | Variable::SnatReroute
                | Variable::SyncPersistMode
                | Variable::SyncPorts
                | Variable::SyncQlenMax
                | Variable::SyncRefreshPeriod
                | Variable::SyncRetries
                | Variable::SyncSockSize
                | Variable::SyncThreshold
                | Variable::SyncVersion => return None,
            }
        })
    }
}
