//! smtp and submission against Exim; pop, pops, imap and imaps against Dovecot.

use pointsman_model::check::NegotiateService::{Imap, Imaps, Pop, Pops, Smtp, Submission};
use pointsman_model::check::{NegotiateCheck, NegotiateService};

use crate::common::{Lab, with_login};
use crate::ldirectord::{agrees, verdicts};

/// What Dovecot offers, and where.
pub const SERVICES: [(NegotiateService, u16); 4] =
    [(Pop, 110), (Pops, 995), (Imap, 143), (Imaps, 993)];

#[test]
fn exim_greets() {
    let mut lab = Lab::new();
    lab.file(
        "exim.conf",
        "primary_hostname = mx.checked.example
spool_directory = HOME/spool
log_file_path = HOME/%slog
pid_file_path = HOME/pid
exim_path = /usr/sbin/exim4
daemon_smtp_ports = 25 : 587
local_interfaces = 127.0.0.1
tls_advertise_hosts =
host_lookup =
acl_smtp_connect = accept
acl_smtp_helo = check_helo
begin acl
check_helo:
  deny condition = ${if exists{HOME/closed}}
       message = not today
  accept
begin routers
begin transports
begin retry
",
    );
    lab.directory("spool", Some("Debian-exim"));
    std::os::unix::fs::chown(&lab.home, Some(user("Debian-exim")), None).unwrap();
    lab.start("/usr/sbin/exim4", "-C HOME/exim.conf -bdf -v");
    lab.listening(25);
    let [smtp, submission] = [Smtp, Submission].map(NegotiateCheck::new);
    lab.up(&smtp, 25);
    lab.up(&submission, 587);
    agrees(
        &lab,
        &[(smtp.clone(), 25), (submission, 587), (smtp.clone(), 26)],
    );
    // Greets, and then does not want us.
    lab.file("closed", "");
    assert_eq!(verdicts(&lab, &[(smtp.clone(), 25)]), [false]);
    lab.down(&smtp, 25, "HELO was refused: \"550 not today");
    lab.refused(&smtp, 25);
}

fn user(name: &str) -> u32 {
    nix::unistd::User::from_name(name)
        .unwrap()
        .unwrap_or_else(|| panic!("no user {name}: is the package there?"))
        .uid
        .as_raw()
}

/// A Dovecot with all four services.
pub fn dovecot() -> Lab {
    let mut lab = Lab::new();
    lab.certificate();
    lab.file(
        "users",
        "checker:{PLAIN}open \"sesame\"\\\nplain:{PLAIN}barley\n",
    );
    lab.file(
        "dovecot.conf",
        "base_dir = HOME/run
state_dir = HOME/state
instance_name = checked
log_path = /dev/stderr
protocols = imap pop3
listen = 127.0.0.1
ssl = yes
ssl_cert = <HOME/cert.pem
ssl_key = <HOME/key.pem
disable_plaintext_auth = no
auth_failure_delay = 0
mail_location = maildir:HOME/mail/%u
first_valid_uid = 1
mail_max_userip_connections = 100
passdb {
  driver = passwd-file
  args = HOME/users
}
userdb {
  driver = static
  args = uid=mail gid=mail home=HOME/mail/%u
}
",
    );
    lab.directory("mail", Some("mail"));
    lab.start("/usr/sbin/dovecot", "-F -c HOME/dovecot.conf");
    for (_, port) in SERVICES {
        lab.listening(port);
    }
    lab
}

#[test]
fn dovecot_greets_and_lets_in() {
    let mut lab = dovecot();
    for (service, port) in SERVICES {
        let anonymous = NegotiateCheck::new(service);
        lab.up(&anonymous, port);
        let login = |password| with_login(NegotiateCheck::new(service), "checker", password);
        lab.up(&login("open \"sesame\"\\"), port);
        lab.down(&login("open barley"), port, "login was refused");
        lab.down(&login("two\r\nlines"), port, "must fit on one line");
    }
    let logins = |password| {
        let of = |service, port| {
            let check = NegotiateCheck::new(service);
            (with_login(check, "plain", password), port)
        };
        // Not over TLS: ldirectord's library wants a certificate that it can verify.
        [of(Pop, 110), of(Imap, 143)]
    };
    agrees(&lab, &[logins("barley"), logins("wheat")].concat());
    // Where they differ: to ldirectord all is well without a login, though nobody listens.
    let nobody = [(NegotiateCheck::new(Pop), 111)];
    assert_eq!(verdicts(&lab, &nobody), [true]);
    lab.down(&nobody[0].0, 111, "connection refused");
    // The wrong protocol.
    lab.down(&NegotiateCheck::new(Imap), 110, "not an IMAP server");
    lab.down(&NegotiateCheck::new(Pop), 143, "not a POP3 server");
    lab.down(&NegotiateCheck::new(Smtp), 143, "not the banner");
    lab.refused(&NegotiateCheck::new(Imap), 143);
}
