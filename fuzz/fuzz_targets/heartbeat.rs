//! haresources, ha.cf and authkeys, and what they mean to VRRP.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_config::heartbeat::{Node, authkeys, ha_cf, haresources, plan};

fuzz_target!(|text: &str| {
    let (resources, _) = haresources::read(text);
    let (ha_cf, _) = ha_cf::read(text);
    let (keys, _) = authkeys::read(text);
    let node = Node {
        name: "node1".into(),
        addrs: Vec::new(),
    };
    let plans = plan(&ha_cf, &resources, &keys, &node);
    assert_eq!(plans.len(), resources.groups.len());
});
