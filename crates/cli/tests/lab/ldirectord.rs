//! The unmodified ldirectord drives this `ipvsadm`: it finds ours where it looks for its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use pointsman_testkit::{Hook, Method, wait_until};

use crate::common::{PORT, PROGRAM, Stage};
use crate::on_both_hooks;

on_both_hooks! {
    servers_come_and_go_as_it_says,
}

/// How long ldirectord may take to see a change: it checks each second.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running ldirectord, and the directory with its configuration.
struct Ldirectord {
    process: Child,
    home: PathBuf,
}

impl Ldirectord {
    fn start(stage: &Stage) -> Self {
        let mut text = format!(
            "checktimeout = 2\ncheckinterval = 1\nquiescent = yes\nvirtual = {}\n",
            stage.service()
        );
        for server in &stage.net.servers {
            text += &format!("    real = {}:{PORT} masq 2\n", server.addr);
        }
        text += "    service = http\n    scheduler = rr\n    protocol = tcp\n    checktype = negotiate\n    request = \"/\"\n";
        let home = std::env::temp_dir().join(format!("pm-ld-{}", stage.net.director.name()));
        fs::create_dir(&home).unwrap();
        // Not its usual name: it would find the file of that name in /etc first.
        let config = home.join("lab.cf");
        fs::write(&config, text).unwrap();
        // While debugging, it prefers the ipvsadm where it stands.
        symlink(PROGRAM, home.join("ipvsadm")).unwrap();
        let process = stage
            .net
            .director
            .command("ldirectord")
            .arg("-d")
            .args([config.as_os_str(), "start".as_ref()])
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(home.join("log")).unwrap())
            .spawn()
            .expect("ldirectord (Debian package of this name)");
        Self { process, home }
    }

    /// The end of what it said.
    fn log(&self) -> String {
        let log = fs::read_to_string(self.home.join("log")).unwrap_or_default();
        log[log.len().saturating_sub(4000)..].to_owned()
    }

    /// Asks it to end, which removes its services.
    fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    }
}

impl Drop for Ldirectord {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn servers_come_and_go_as_it_says(hook: Hook) {
    let mut stage = Stage::new(Method::Nat, hook);
    let mut ldirectord = Ldirectord::start(&stage);
    let weights_are = |stage: &Stage, ldirectord: &Ldirectord, expected: [u64; 2]| {
        let what = format!("weights {expected:?}");
        wait_until(&what, PATIENCE, || {
            let listing = stage.ipvsadm("-Ln");
            let weight = |n: usize| {
                let name = format!("{}:{PORT}", stage.net.servers[n].addr);
                let line = listing.lines().find(|line| line.contains(&name))?;
                line.split_whitespace().nth(3)?.parse().ok()
            };
            ([weight(0), weight(1)] == expected.map(Some)).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", stage.ipvsadm("-Ln"), ldirectord.log()));
    };
    weights_are(&stage, &ldirectord, [2, 2]);
    let mut pages = stage.ask(20);
    pages.sort();
    let half = |n: usize| pages.iter().filter(|page| **page == stage.page(n)).count();
    assert_eq!((half(1), half(2)), (10, 10));

    drop(stage.pages.remove(0));
    weights_are(&stage, &ldirectord, [0, 2]);
    for page in stage.ask(10) {
        assert_eq!(page, stage.page(2));
    }

    ldirectord.stop();
    wait_until("its services to go", PATIENCE, || {
        (!stage.ipvsadm("-Ln").contains("TCP")).then_some(())
    })
    .unwrap();
}
