//! ldap and ldaps against slapd, radius against FreeRADIUS.

use std::process::Command;

use pointsman_model::check::NegotiateCheck;
use pointsman_model::check::NegotiateService::{Ldap, Ldaps, Radius};
use pointsman_model::check::Secret;

use crate::common::{Lab, check, with_login};
use crate::ldirectord::agrees;

#[test]
fn slapd_finds_an_entry() {
    let mut lab = Lab::new();
    lab.certificate();
    lab.directory("db", None);
    let config = lab.file(
        "slapd.conf",
        "include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile HOME/pid
TLSCertificateFile HOME/cert.pem
TLSCertificateKeyFile HOME/key.pem
database mdb
suffix dc=example,dc=org
rootdn cn=admin,dc=example,dc=org
rootpw sesame
directory HOME/db
access to * by anonymous auth by * none
access to dn.base=dc=example,dc=org by * read
",
    );
    let ldif = lab.file(
        "entries",
        "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n",
    );
    let mut slapadd = Command::new("/usr/sbin/slapadd");
    lab.run(slapadd.arg("-f").arg(&config).arg("-l").arg(&ldif));
    lab.file(
        "run",
        "exec /usr/sbin/slapd -d 0 -f HOME/slapd.conf -h 'ldap://127.0.0.1 ldaps://127.0.0.1'",
    );
    lab.start("sh", "HOME/run");
    for (service, port) in [(Ldap, 389), (Ldaps, 636)] {
        lab.listening(port);
        let entry = |receive, password| {
            let check = check(service, "dc=example,dc=org", receive);
            with_login(check, "cn=admin,dc=example,dc=org", password)
        };
        lab.up(&entry("", "sesame"), port);
        lab.up(&entry("^dc=example", "sesame"), port);
        lab.down(&entry("^dc=other", "sesame"), port, "does not match");
        lab.down(&entry("", "wrong"), port, "bind was refused: \"result 49");
        let nowhere = check(service, "dc=nowhere", "");
        let nowhere = with_login(nowhere, "cn=admin,dc=example,dc=org", "sesame");
        lab.down(&nowhere, port, "search was refused: \"result 32");
        agrees(
            &lab,
            &[
                (entry("", "sesame"), port),
                (entry("^dc=example", "sesame"), port),
                (entry("^dc=other", "sesame"), port),
                (entry("", "wrong"), port),
                (nowhere, port),
            ],
        );
    }
    lab.refused(&check(Ldap, "dc=example,dc=org", ""), 389);
}

#[test]
fn freeradius_lets_in() {
    let mut lab = Lab::new();
    lab.file(
        "radiusd.conf",
        "prefix = /usr
libdir = /usr/lib/freeradius
logdir = HOME
run_dir = HOME
raddbdir = HOME
security {
  user = root
  group = root
  allow_core_dumps = no
  max_attributes = 200
  reject_delay = 0
  status_server = no
}
client checker {
  ipaddr = 127.0.0.1
  secret = tongue
  require_message_authenticator = no
}
modules {
  pap { }
  files {
    usersfile = HOME/users
  }
}
server default {
  listen {
    type = auth
    ipaddr = 127.0.0.1
    port = 1812
  }
  authorize {
    files
    pap
  }
  authenticate {
    pap
  }
}
",
    );
    lab.file(
        "users",
        "checker Cleartext-Password := \"open sesame, open sesame\"\n",
    );
    std::fs::copy(
        "/etc/freeradius/3.0/dictionary",
        lab.home.join("dictionary"),
    )
    .unwrap();
    lab.start("/usr/sbin/freeradius", "-f -l stdout -d HOME");
    lab.bound(1812);
    let login = |name, password, secret: &str| NegotiateCheck {
        secret: Some(Secret::new(secret)),
        ..with_login(NegotiateCheck::new(Radius), name, password)
    };
    lab.up(
        &login("checker", "open sesame, open sesame", "tongue"),
        1812,
    );
    let wrong = login("checker", "wrong", "tongue");
    lab.down(&wrong, 1812, "access was refused: \"Access-Reject");
    let nobody = login("nobody", "wrong", "tongue");
    lab.down(&nobody, 1812, "Access-Reject");
    let right = login("checker", "open sesame, open sesame", "tongue");
    agrees(
        &lab,
        &[(right, 1812), (wrong.clone(), 1812), (nobody, 1812)],
    );
    // A server does not answer who does not know the secret.
    let stranger = login("checker", "open sesame, open sesame", "lips");
    let limit = std::time::Duration::from_secs(2);
    let silence = lab.probe_within(limit, &stranger, 1812).unwrap_err();
    assert!(
        silence.to_string().contains("no answer within"),
        "{silence}"
    );
    lab.stop(1812);
    let none = lab.probe_within(limit, &wrong, 1812).unwrap_err();
    assert!(none.to_string().contains("connection refused"), "{none}");
}
