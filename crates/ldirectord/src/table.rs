use std::collections::HashMap;

use pointsman_model::{Change, ServerKey, ServerSpec, ServiceKey, ServiceView};

/// What the director's table holds, as far as it matters here: services and their servers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    services: HashMap<ServiceKey, Vec<ServerSpec>>,
}

impl Table {
    /// The table of services as they stand.
    pub fn of(services: &[ServiceView]) -> Self {
        let servers = |service: &ServiceView| service.servers.iter().map(|s| s.spec).collect();
        Self {
            services: services.iter().map(|s| (s.spec.key, servers(s))).collect(),
        }
    }

    /// Whether it has a service.
    pub fn has(&self, service: &ServiceKey) -> bool {
        self.services.contains_key(service)
    }

    /// A server of a service.
    pub fn server(&self, service: &ServiceKey, server: &ServerKey) -> Option<ServerSpec> {
        let servers = self.services.get(service)?;
        servers.iter().find(|spec| spec.key == *server).copied()
    }

    /// The servers of a service.
    pub fn servers(&self, service: &ServiceKey) -> Vec<ServerKey> {
        let servers = self.services.get(service);
        servers.map_or(Vec::new(), |all| all.iter().map(|spec| spec.key).collect())
    }

    /// Follows a change that was asked for.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::AddService(spec) => {
                self.services.entry(spec.key).or_default();
            }
            Change::DeleteService(key) => {
                self.services.remove(key);
            }
            Change::AddServer { service, server } | Change::EditServer { service, server } => {
                let servers = self.services.entry(*service).or_default();
                servers.retain(|there| there.key != server.key);
                servers.push(*server);
            }
            Change::DeleteServer { service, server } => {
                if let Some(servers) = self.services.get_mut(service) {
                    servers.retain(|there| there.key != *server);
                }
            }
            // ldirectord asks for nothing else.
            _ => {}
        }
    }
}
