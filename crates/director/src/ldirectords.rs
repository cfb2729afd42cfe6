//! What every ldirectord of this network namespace told of its servers.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use pointsman_api::LdirectordView;
use pointsman_model::{ServerKey, ServiceView};

/// The last word of each, by its file.
#[derive(Default)]
pub(crate) struct Ldirectords(BTreeMap<String, LdirectordView>);

impl Ldirectords {
    /// One tells.
    pub fn tell(&mut self, mut view: LdirectordView) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        view.told_at = since.unwrap_or_default().as_secs();
        self.0.insert(view.file.clone(), view);
    }

    /// One told for the last time.
    pub fn end(&mut self, file: &str) {
        self.0.remove(file);
    }

    /// All of them, with what `services` has of their servers: weight and connections.
    pub fn views(&self, services: &[ServiceView]) -> Vec<LdirectordView> {
        let mut views: Vec<_> = self.0.values().cloned().collect();
        for pool in views.iter_mut().flat_map(|view| &mut view.virtual_servers) {
            let service = services
                .iter()
                .find(|service| pool.services.contains(&service.spec.key));
            for server in &mut pool.real_servers {
                let there = service.and_then(|service| {
                    let is_it = |key: ServerKey| key == server.server;
                    service.servers.iter().find(|there| is_it(there.spec.key))
                });
                server.table_weight = there.map(|there| there.spec.weight.get());
                server.active = there.map_or(0, |there| there.active);
                server.inactive = there.map_or(0, |there| there.inactive);
            }
        }
        views
    }
}
