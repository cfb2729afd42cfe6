//! Rules of `ipvsadm`, and services as they stand.

use pointsman_model::{
    Change, PoolServer, ServiceKey, ServiceSpec, ServiceView, VirtualId, VirtualName, VirtualServer,
};

use super::Converted;

/// Changes of a rule file, in their order.
pub fn changes<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Converted {
    let mut converted = Converted::default();
    for change in changes {
        match change {
            Change::AddService(spec) | Change::EditService(spec) => {
                let servers = find(&mut converted, &spec.key).map(|old| old.servers.clone());
                let mut new = virtual_server(spec);
                new.servers = servers.unwrap_or_default();
                remove(&mut converted, &spec.key);
                converted.site.virtual_servers.push(new);
            }
            Change::DeleteService(key) => remove(&mut converted, key),
            Change::Flush => converted.site.virtual_servers.clear(),
            Change::AddServer { service, server } | Change::EditServer { service, server } => {
                match find(&mut converted, service) {
                    Some(virtual_server) => {
                        virtual_server.servers.retain(|s| s.spec.key != server.key);
                        virtual_server.servers.push(PoolServer::new(*server));
                    }
                    None => converted
                        .remarks
                        .push(format!("a server of {service}, which is not there")),
                }
            }
            Change::DeleteServer { service, server } => {
                if let Some(virtual_server) = find(&mut converted, service) {
                    virtual_server.servers.retain(|s| s.spec.key != *server);
                }
            }
            Change::SetTimeouts(timeouts) => {
                let known = converted.site.globals.lvs_timeouts;
                converted.site.globals.lvs_timeouts = known.with(*timeouts);
            }
            other => converted
                .remarks
                .push(format!("{other:?} has no words here")),
        }
    }
    converted
}

/// Services as a director has them.
pub fn services(services: &[ServiceView]) -> Converted {
    let mut converted = Converted::default();
    for service in services {
        let mut server = virtual_server(&service.spec);
        // Oldest first, as they were configured.
        let specs = service.servers.iter().rev().map(|view| view.spec);
        server.servers = specs.map(PoolServer::new).collect::<Vec<_>>();
        converted.site.virtual_servers.push(server);
    }
    converted
}

fn virtual_server(spec: &ServiceSpec) -> VirtualServer {
    let (name, protocol) = match spec.key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => (VirtualName::Address { addr, port }, Some(protocol)),
        ServiceKey::Mark { mark, .. } => (VirtualName::Mark(mark), None),
    };
    let mut server = VirtualServer::new(VirtualId { name, protocol }, vec![spec.key]);
    server.scheduler = spec.scheduler;
    server.sched_flags = spec.sched_flags;
    server.persistence = spec.persistence;
    server.netmask = spec.netmask;
    server.prefix_len = spec.prefix_len;
    server.one_packet = spec.one_packet;
    server
        .persistence_engine
        .clone_from(&spec.persistence_engine);
    server
}

fn find<'a>(converted: &'a mut Converted, key: &ServiceKey) -> Option<&'a mut VirtualServer> {
    let servers = &mut converted.site.virtual_servers;
    servers.iter_mut().find(|server| server.keys == [*key])
}

fn remove(converted: &mut Converted, key: &ServiceKey) {
    converted
        .site
        .virtual_servers
        .retain(|server| server.keys != [*key]);
}
