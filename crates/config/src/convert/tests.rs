use pointsman_model::{CheckKind, Scheduler};

use super::*;
use crate::heartbeat::{Node, authkeys, ha_cf, haresources, plan};
use crate::ipvsadm::{Numeric, read_rules};

#[test]
fn ldirectord_becomes_virtual_servers() {
    let text = "checkinterval=3\nquiescent=yes\nfallback=127.0.0.1\nemailalert=\"a@x, b@x\"\n\
        virtual=192.0.2.1:80\n\treal=10.0.0.2:8080 masq 5\n\treal=10.0.0.3->10.0.0.4:80 gate\n\
        \trequest=\"index.html\"\n\treceive=\"Test Page\"\n\tvirtualhost=x.y.z\n\
        \tfailurecount=3\n\tfallbackcommand=/bin/fb\n\tmonitorfile=/dev/null\n\
        virtual=192.0.2.1:3306\n\treal=10.0.0.2:3306 gate\n";
    let config = crate::ldirectord::read(text, &crate::ldirectord::Numeric)
        .config()
        .unwrap();
    let converted = ldirectord(&config);
    let [web, sql] = &converted.site.virtual_servers[..] else {
        panic!("{converted:?}")
    };
    assert_eq!(web.scheduler, Scheduler::Wrr);
    assert_eq!(web.servers.len(), 3);
    assert!(web.servers[0].inhibit_on_failure && web.alpha);
    let CheckKind::Http(http) = &web.servers[0].checks[0].kind else {
        panic!("{web:?}")
    };
    assert_eq!(http.urls[0].path, "/index.html");
    assert_eq!(http.urls[0].host.as_deref(), Some("x.y.z"));
    assert_eq!(web.servers[0].checks[0].pace.retries, 2);
    assert_eq!(web.sorry_server.unwrap().key.port, 80);
    assert_eq!(
        web.quorum_down.as_ref().unwrap().argv[2],
        "/bin/fb start 192.0.2.1:80 tcp"
    );
    assert_eq!(
        converted.site.globals.mail.as_ref().unwrap().to,
        ["a@x", "b@x"]
    );
    assert_eq!(sql.servers[0].checks[0].kind, CheckKind::Tcp);
    assert_eq!(
        converted.remarks,
        [
            "line 5: monitorfile: there is none",
            "line 15: a mysql check became a plain connection (TCP_CHECK)",
        ]
    );
}

#[test]
fn rules_become_virtual_servers() {
    let rules = read_rules(
        "-A -t 192.0.2.1:80 -s wlc -p 300\n-a -t 192.0.2.1:80 -r 10.0.0.2:8080 -m -w 5\n\
         -a -t 192.0.2.1:80 -r 10.0.0.3:80 -g\n-A -f 7 -s rr\n",
        &Numeric,
    )
    .unwrap();
    let converted = changes(rules.iter().map(|rule| &rule.change));
    assert_eq!(converted.remarks, [""; 0]);
    let servers = &converted.site.virtual_servers;
    assert_eq!(servers.len(), 2);
    assert_eq!(servers[0].servers[0].spec.weight.get(), 5);
    assert_eq!(servers[0].persistence.unwrap().timeout_secs.get(), 300);
    assert_eq!(servers[1].id.to_string(), "FWM 7");
}

#[test]
fn haresources_becomes_instances() {
    let (ha_cf, _) =
        ha_cf::read("keepalive 1\ndeadtime 4\nbcast eth0\nnode a b\nauto_failback on\n");
    let (resources, _) = haresources::read(
        "a IPaddr::192.168.7.100/24/eth0 ldirectord Filesystem::/dev/sda1::/x httpd\n",
    );
    let (keys, _) = authkeys::read("auth 1\n1 crc\n");
    let node = Node {
        name: "a".into(),
        addrs: Vec::new(),
    };
    let converted = heartbeat(&plan(&ha_cf, &resources, &keys, &node));
    let instance = &converted.site.vrrp.instances[0];
    assert_eq!(
        instance.addresses[0].address.to_string(),
        "192.168.7.100/24"
    );
    let start = &instance.notify.master.as_ref().unwrap().argv[2];
    assert_eq!(
        start,
        "/etc/ha.d/resource.d/Filesystem /dev/sda1 /x start && /etc/ha.d/resource.d/httpd start"
    );
    let stop = &instance.notify.backup.as_ref().unwrap().argv[2];
    assert!(
        stop.starts_with("/etc/ha.d/resource.d/httpd stop"),
        "{stop}"
    );
    assert_eq!(converted.remarks.len(), 2);
}
