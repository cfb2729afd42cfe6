use pointsman_model::{Change, ServerSpec, ServiceSpec, ServiceView};

/// The changes that lead from the table as it is to what is wanted, for wanted services only:
/// missing ones are added and different ones edited; servers of theirs that nobody wants go.
/// Foreign services are not looked at, nor is the order of what is there.
pub fn repairs(wanted: &[(ServiceSpec, Vec<ServerSpec>)], table: &[ServiceView]) -> Vec<Change> {
    let mut changes = Vec::new();
    for (service, servers) in wanted {
        let key = service.key;
        let there = table.iter().find(|view| view.spec.key == key);
        match there {
            None => changes.push(Change::AddService(service.clone())),
            Some(view) if view.spec != *service => {
                changes.push(Change::EditService(service.clone()));
            }
            Some(_) => {}
        }
        let present = there.map_or(&[][..], |view| &view.servers);
        for view in present {
            if !servers.iter().any(|server| server.key == view.spec.key) {
                changes.push(Change::DeleteServer {
                    service: key,
                    server: view.spec.key,
                });
            }
        }
        for &server in servers {
            match present.iter().find(|view| view.spec.key == server.key) {
                None => changes.push(Change::AddServer {
                    service: key,
                    server,
                }),
                Some(view) if view.spec != server => changes.push(Change::EditServer {
                    service: key,
                    server,
                }),
                Some(_) => {}
            }
        }
    }
    changes
}
