//! `haresources` with `ha.cf` and `authkeys`.

use ipnet::IpNet;
use pointsman_model::Script;
use pointsman_model::vrrp::{Broadcast, VirtualAddress};

use super::Converted;
use crate::heartbeat::haresources::Kind;
use crate::heartbeat::{Address, VrrpPlan};

/// Groups as VRRP instances with their addresses; `interface` is for those that name none.
///
/// keepalived knows no order between addresses and scripts: scripts are called when the state
/// changes, each by its own line.
pub fn heartbeat(plans: &[VrrpPlan]) -> Converted {
    let mut converted = Converted::default();
    for plan in plans {
        let mut instance = plan.instance.clone();
        let mut take = Vec::new();
        for resource in &plan.group.resources {
            match &resource.kind {
                Kind::Address(address) => match virtual_address(address) {
                    Some(virtual_address) if address.addr.is_ipv4() => {
                        instance.addresses.push(virtual_address);
                    }
                    Some(virtual_address) => instance.excluded.push(virtual_address),
                    None => converted
                        .remarks
                        .push(format!("{}: no address", resource.text)),
                },
                Kind::Ldirectord(file) => converted.remarks.push(format!(
                    "{}: convert {file} too; its services are there on both nodes then",
                    resource.text
                )),
                Kind::Script => {
                    let mut words = vec![format!("/etc/ha.d/resource.d/{}", resource.script)];
                    words.extend(resource.args.iter().cloned());
                    take.push(words.join(" "));
                }
            }
        }
        if !take.is_empty() {
            let line = |word: &str, list: &mut dyn Iterator<Item = &String>| {
                let commands: Vec<_> = list.map(|command| format!("{command} {word}")).collect();
                Script::new(["/bin/sh".to_owned(), "-c".to_owned(), commands.join(" && ")])
            };
            let start = line("start", &mut take.iter());
            let stop = line("stop", &mut take.iter().rev());
            instance.notify.master = Some(start);
            instance.notify.backup = Some(stop.clone());
            instance.notify.fault = Some(stop.clone());
            instance.notify.stop = Some(stop);
            converted.remarks.push(format!(
                "{}: scripts are called when the state has changed, not in their order with addresses",
                instance.name
            ));
        }
        let delay = plan.startup_delay;
        converted.site.vrrp.globals.startup_delay =
            converted.site.vrrp.globals.startup_delay.max(delay);
        converted.remarks.extend(plan.remarks.iter().cloned());
        converted.site.vrrp.instances.push(instance);
    }
    converted
}

fn virtual_address(address: &Address) -> Option<VirtualAddress> {
    let longest = if address.addr.is_ipv4() { 32 } else { 128 };
    let prefix_len = address.prefix_len.unwrap_or(longest);
    let net = IpNet::new(address.addr, prefix_len).ok()?;
    let mut virtual_address = VirtualAddress::new(net);
    virtual_address.interface.clone_from(&address.interface);
    virtual_address.label.clone_from(&address.label);
    virtual_address.broadcast = address.broadcast.map(Broadcast::Address);
    Some(virtual_address)
}
