//! Real servers as the director's own probes reach them: records beside those in services' lists.

use std::collections::HashSet;

use pointsman_core::layout::{SERVER_AVAILABLE, SERVER_PROBED};
use pointsman_core::probe;
use pointsman_model::{Family, ServerKey, ServerSpec, ServiceKey, Weight};

use super::Tables;
use super::servers::record;

impl Tables {
    /// Makes these the servers that probes reach, each by its service's VIP and its own forwarding method,
    /// whatever its weight and whether or not the service has it. The mark that leads to each, or
    /// nothing where there is no such service, or no room.
    pub fn set_probed(&mut self, wanted: &[(ServiceKey, ServerSpec)]) -> Vec<Option<u32>> {
        let keep: HashSet<_> = wanted.iter().map(|(key, spec)| (*key, spec.key)).collect();
        let all = self.probed.keys().copied();
        let gone: Vec<_> = all.filter(|probed| !keep.contains(probed)).collect();
        gone.iter().for_each(|probed| self.drop_probed(probed));
        let marks = wanted.iter().map(|(key, spec)| self.probe(key, spec));
        marks.collect()
    }

    /// Removes what probes through a service reach.
    pub(super) fn drop_probed_of(&mut self, service: &ServiceKey) {
        let all = self.probed.keys().copied();
        let gone: Vec<_> = all.filter(|(of, _)| of == service).collect();
        gone.iter().for_each(|probed| self.drop_probed(probed));
    }

    fn probe(&mut self, key: &ServiceKey, spec: &ServerSpec) -> Option<u32> {
        let index = self.index_of(key)?;
        // A weight of 0 would end connections early (`expire_nodest_conn`).
        let spec = ServerSpec {
            weight: Weight::DEFAULT,
            upper_threshold: 0,
            lower_threshold: 0,
            ..*spec
        };
        self.check_server(index, &spec).ok()?;
        if let Some(&server) = self.probed.get(&(*key, spec.key)) {
            let old = self.maps.servers.read(server);
            self.describe_server(server, &spec);
            if old.map(|old| old.method) != self.maps.servers.read(server).map(|new| new.method) {
                self.advance_epoch();
            }
            return Some(probe::mark(server));
        }
        let server = self.take_server().ok()?;
        let mut record = record(key, &spec.key);
        record.flags |= SERVER_PROBED;
        record.service = index;
        record.order = self.take_order();
        self.maps.servers.write(server, record);
        self.inherit(spec.key.addr, server);
        self.place_at(spec.key.addr, server);
        self.describe_server(server, &spec);
        self.probed.insert((*key, spec.key), server);
        Some(probe::mark(server))
    }

    fn drop_probed(&mut self, probed: &(ServiceKey, ServerKey)) {
        if let Some(server) = self.probed.remove(probed) {
            self.bury(server, probed.1);
            self.take_from(probed.1.addr, server);
        }
    }

    /// Into the trash under a name that nobody has: it waits there for connections to end.
    pub(super) fn bury(&mut self, server: u32, spec: ServerKey) {
        self.set_flag(server, SERVER_AVAILABLE, false);
        let key = ServiceKey::Mark {
            mark: u32::MAX - server,
            family: Family::V4,
        };
        self.trash.insert((key, spec), server);
    }
}
