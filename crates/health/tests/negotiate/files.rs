//! ftp against vsftpd, nntp against Leafnode, simpletcp against a Unix filter.

use pointsman_model::check::NegotiateCheck;
use pointsman_model::check::NegotiateService::{Ftp, Nntp, Simpletcp};

use crate::common::{Lab, check, with_login};
use crate::ldirectord::{agrees, verdicts};

/// A vsftpd with a file.
pub fn vsftpd() -> Lab {
    let mut lab = Lab::new();
    lab.file("root/status.txt", "load 0.1\nready\n");
    lab.directory("empty", None);
    lab.file("passwords", "let-me-in\n");
    lab.file(
        "vsftpd.conf",
        "listen=YES\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\nseccomp_sandbox=NO
xferlog_enable=NO\nanon_root=HOME/root\nsecure_chroot_dir=HOME/empty
secure_email_list_enable=YES\nemail_password_file=HOME/passwords
connect_from_port_20=NO\n",
    );
    lab.start("vsftpd", "HOME/vsftpd.conf");
    lab.listening(21);
    lab
}

#[test]
fn vsftpd_gives_a_file() {
    let mut lab = vsftpd();
    let file = |name, receive| with_login(check(Ftp, name, receive), "anonymous", "let-me-in");
    lab.up(&file("status.txt", "^load .*\nready$"), 21);
    lab.up(&file("status.txt", ""), 21);
    // Only the login.
    let login = |password| with_login(NegotiateCheck::new(Ftp), "anonymous", password);
    lab.up(&login("let-me-in"), 21);
    lab.down(&login("wrong"), 21, "login was refused: \"530");
    lab.down(&NegotiateCheck::new(Ftp), 21, "login was refused");
    lab.down(&file("status.txt", "broken"), 21, "does not match /broken/");
    lab.down(&file("none.txt", ""), 21, "transfer was refused: \"550");
    agrees(
        &lab,
        &[
            (file("status.txt", "^load .*\\nready$"), 21),
            (file("status.txt", "broken"), 21),
            (file("none.txt", "ready"), 21),
            (file("status.txt", "ready"), 20),
        ],
    );
    // Where they differ: to ldirectord all is well with an empty receive.
    assert_eq!(verdicts(&lab, &[(login("wrong"), 21)]), [true]);
    lab.down(&file("a\r\nDELE b", ""), 21, "must fit on one line");
    lab.refused(&login("let-me-in"), 21);
}

#[test]
fn leafnode_greets() {
    let lab = Lab::new();
    // It refuses service until the host has a full name, which it is given here for itself alone.
    for (port, name) in [(119, "news.pointsman-lab.org"), (1119, "news")] {
        let file = format!("leafnode-{port}");
        lab.file(
            &file,
            &format!("hostname {name}\nexec /usr/sbin/leafnode\n"),
        );
        lab.inetd(port, "unshare", &format!("--uts sh HOME/{file}"));
    }
    let greeting = NegotiateCheck::new(Nntp);
    lab.up(&greeting, 119);
    lab.down(&greeting, 1119, "greeting was refused: \"503");
    let ports = [119, 1119, 120];
    agrees(&lab, &ports.map(|port| (greeting.clone(), port)));
    lab.down(&greeting, 120, "connection refused");
}

/// The filter answers when it has read all: our end must be shut for writing.
#[test]
fn a_filter_answers_when_all_is_said() {
    let lab = Lab::new();
    lab.inetd(7, "sort", "-r");
    lab.up(&check(Simpletcp, "a\\nc\\nb\\n", "^c$"), 7);
    lab.up(&check(Simpletcp, "a", ""), 7);
    lab.down(&check(Simpletcp, "a\\nb\\n", "^c$"), 7, "does not match");
    lab.down(&check(Simpletcp, "a", "a"), 8, "connection refused");
    // One line at a time is looked at.
    lab.down(&check(Simpletcp, "a\\nb\\n", "b\na"), 7, "does not match");
    agrees(
        &lab,
        &[
            (check(Simpletcp, "a\\nc\\nb\\n", "^c$"), 7),
            (check(Simpletcp, "a\\nb\\n", "^c$"), 7),
            (check(Simpletcp, "a", "a"), 8),
        ],
    );
    lab.inetd(9, "grep", "-q zzz");
    lab.down(
        &check(Simpletcp, "a", ""),
        9,
        "closed the connection before a line",
    );
}
