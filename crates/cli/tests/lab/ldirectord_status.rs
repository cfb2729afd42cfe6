//! What `pointsman status`, its JSON and metrics tell of servers that `pointsman ldirectord` checks.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use pointsman_testkit::{Director, Method, PageServer, Plan, Topology, http, wait_until};
use tempfile::TempDir;

use crate::common::{PORT, PROGRAM};

/// Port of metrics, in the director's namespace.
const METRICS: u16 = 9911;
const PATIENCE: Duration = Duration::from_secs(60);

struct Site {
    /// Of the first server, and of the second while it serves.
    pages: Vec<Option<PageServer>>,
    net: Topology,
    directory: TempDir,
}

impl Site {
    /// Two servers, the second one silent.
    fn start() -> Self {
        let net = Topology::build(&Plan::test(Method::Nat, false)).unwrap();
        let pages = vec![Some(net.servers[0].serve(PORT).unwrap()), None];
        let directory = TempDir::new().unwrap();
        let site = Self {
            pages,
            net,
            directory,
        };
        let text = format!(
            "checkinterval = 1\nchecktimeout = 2\nfailurecount = 2\nvirtual = {}\n    real = {}:{PORT} masq 3\n    \
             real = {}:{PORT} masq\n    service = http\n    request = \"/\"\n    scheduler = wrr\n    protocol = tcp\n",
            site.net.service(PORT),
            site.net.servers[0].addr,
            site.net.servers[1].addr
        );
        fs::write(site.file(), text).unwrap();
        let metrics = format!("127.0.0.1:{METRICS}");
        let words = ["director", "start", "--hook", "tc", "--metrics", &metrics];
        site.director().run(&words).unwrap();
        site.ldirectord("start");
        site
    }

    /// Named for nobody else: pid files are the machine's.
    fn file(&self) -> PathBuf {
        let name = self.directory.path().file_name().unwrap().to_string_lossy();
        let name = format!("pm-status{name}.cf");
        self.directory.path().join(name)
    }

    fn director(&self) -> Director<'_> {
        Director::new(PROGRAM, &self.net.director)
    }

    fn ldirectord(&self, word: &str) {
        let mut command = self.net.director.command(PROGRAM);
        let done = command
            .arg("ldirectord")
            .arg(self.file())
            .arg(word)
            .output();
        assert!(done.as_ref().unwrap().status.success(), "{word}: {done:?}");
    }

    fn status(&self, words: &[&str]) -> (Output, String) {
        let mut command = self.director().command();
        let output = command.arg("status").args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output, text)
    }

    /// Waits for a status that tells this; all of it.
    #[track_caller]
    fn tells(&self, expected: &str) -> String {
        let mut last = String::new();
        let told = wait_until("the status", PATIENCE, || {
            last = self.status(&[]).1;
            last.contains(expected).then_some(())
        });
        assert!(told.is_ok(), "no {expected:?} in {last}");
        last
    }

    fn json(&self) -> serde_json::Value {
        let (_, text) = self.status(&["--json"]);
        serde_json::from_str(&text).unwrap()
    }
}

#[test]
fn servers_of_ldirectord_stand_in_the_status() {
    let mut site = Site::start();
    let (one, two) = (site.net.servers[0].addr, site.net.servers[1].addr);
    let service = format!("TCP {}", site.net.service(PORT));
    site.tells(&format!("in     real server {one}:{PORT}: weight 3"));
    let text = site.tells(&format!("OUT    real server {two}:{PORT}: "));
    assert!(text.starts_with("1 of 2 real servers out\n"), "{text}");
    assert!(text.contains("refused"), "{text}");
    let head = format!("up       virtual server {service}: 1 of 2 real servers in");
    assert!(text.contains(&head), "{text}");
    assert_eq!(site.status(&[]).0.status.code(), Some(1));

    let json = site.json();
    let told = &json["ldirectord"][0];
    assert_eq!(told["file"], site.file().display().to_string(), "{told:#}");
    let servers = &told["virtual_servers"][0]["real_servers"];
    assert_eq!(servers[0]["table_weight"], 3, "{told:#}");
    assert_eq!(servers[1]["up"], false, "{told:#}");
    assert_eq!(servers[1]["checks"][0]["kind"], "negotiate http");
    assert_eq!(json["site"], serde_json::Value::Null);

    let metrics = SocketAddrV4::new(Ipv4Addr::LOCALHOST, METRICS);
    let metrics = site.net.director.run(|| http::get(metrics, "/metrics"));
    let metrics = metrics.unwrap().body;
    for (addr, up) in [(one, 1), (two, 0)] {
        let line = format!(
            "pointsman_real_server_up{{virtual_server=\"{service}\",server=\"{addr}:{PORT}\"}} {up}"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }

    site.pages[1] = Some(site.net.servers[1].serve(PORT).unwrap());
    let text = site.tells("all is well: 1 virtual servers up, 2 real servers in");
    assert!(text.contains("checked by ldirectord"), "{text}");
    assert_eq!(site.status(&[]).0.status.code(), Some(0));

    // Killed: its servers stay as they are, and somebody should know.
    let pid = site.json()["ldirectord"][0]["pid"].to_string();
    let killed = Command::new("kill").args(["-9", &pid]).status();
    assert!(killed.unwrap().success());
    let text = site.tells("SILENT   ldirectord");
    assert!(text.starts_with("1 of 1 ldirectord silent\n"), "{text}");
    assert_eq!(site.status(&[]).0.status.code(), Some(1));
    site.ldirectord("start");
    site.tells("all is well: 1 virtual servers up, 2 real servers in");

    site.ldirectord("stop");
    site.tells("follows no configuration");
}
