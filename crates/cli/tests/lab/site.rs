//! A director that follows a keepalived.conf.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use pointsman_testkit::{Director, Method, Netns, PageServer, Plan, Topology, http, wait_until};
use tempfile::TempDir;

use crate::common::{PORT, PROGRAM};

/// Port of the sorry server, on the first real server's host.
const SORRY: u16 = 81;
/// Port of metrics, in the director's namespace.
const METRICS: u16 = 9911;
const PATIENCE: Duration = Duration::from_secs(60);

/// A network, a file, and a director that follows it.
struct Site {
    pages: Vec<Option<PageServer>>,
    _sorry: PageServer,
    net: Topology,
    directory: TempDir,
}

impl Site {
    fn start() -> Self {
        let net = Topology::build(&Plan::test(Method::Nat, false)).unwrap();
        let pages = net.serve(PORT).unwrap().into_iter().map(Some).collect();
        let sorry = net.servers[0].serve(SORRY).unwrap();
        let site = Self {
            pages,
            _sorry: sorry,
            net,
            directory: TempDir::new().unwrap(),
        };
        site.write(1, "");
        site.run_director();
        site
    }

    fn run_director(&self) {
        let file = self.file().display().to_string();
        let metrics = format!("127.0.0.1:{METRICS}");
        let words = [
            "director",
            "start",
            "--hook",
            "tc",
            "--config",
            &file,
            "--metrics",
            &metrics,
        ];
        self.director().run(&words).unwrap();
    }

    fn director(&self) -> Director<'_> {
        Director::new(PROGRAM, &self.net.director)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("keepalived.conf")
    }

    fn rip(&self, n: usize) -> Ipv4Addr {
        self.net.servers[n - 1].addr
    }

    /// The file, with this weight of the first real server and something more at its end.
    fn write(&self, weight: u32, more: &str) {
        let quorum = self.directory.path().join("quorum");
        let (vip, quorum) = (self.net.vip, quorum.display());
        let (one, two) = (self.rip(1), self.rip(2));
        let text = format!(
            r#"global_defs {{
    router_id lab
    script_user root
}}
virtual_server {vip} {PORT} {{
    delay_loop 0.3
    warmup 0.1
    retry 1
    delay_before_retry 0.2
    connect_timeout 2
    lb_algo rr
    lb_kind NAT
    protocol TCP
    sorry_server {one} {SORRY}
    quorum_up "/bin/sh -c 'echo up >>{quorum}'"
    quorum_down "/bin/sh -c 'echo down >>{quorum}'"
    real_server {one} {PORT} {{
        weight {weight}
        HTTP_GET {{
            url {{
                path /
                status_code 200
            }}
        }}
    }}
    real_server {two} {PORT} {{
        weight 1
        TCP_CHECK {{
            retry 2
        }}
    }}
}}
{more}
"#
        );
        fs::write(self.file(), text).unwrap();
    }

    /// Real servers of the service as `ipvsadm` lists them: `ADDRESS:PORT WEIGHT`, sorted.
    fn table(&self) -> Vec<String> {
        let listing = self.director().ipvsadm("-Ln").unwrap();
        let servers = listing.lines().filter(|line| line.starts_with("  -> "));
        let mut servers: Vec<_> = servers
            .filter_map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                (words[1] != "RemoteAddress:Port").then(|| format!("{} {}", words[1], words[3]))
            })
            .collect();
        servers.sort();
        servers
    }

    #[track_caller]
    fn comes_to(&self, expected: &[(usize, u16, u32)]) {
        let mut expected: Vec<_> = expected
            .iter()
            .map(|&(n, port, weight)| format!("{}:{port} {weight}", self.rip(n)))
            .collect();
        expected.sort();
        let mut last = Vec::new();
        let done = wait_until("the table", PATIENCE, || {
            last = self.table();
            (last == expected).then_some(())
        });
        assert!(done.is_ok(), "{last:?} instead of {expected:?}");
    }

    fn close(&mut self, n: usize) {
        self.pages[n - 1] = None;
    }

    fn open(&mut self, n: usize) {
        let page = wait_until("the port to be free", PATIENCE, || {
            self.net.servers[n - 1].serve(PORT).ok()
        });
        self.pages[n - 1] = Some(page.unwrap());
    }

    fn output(&self, words: &[&str]) -> (Output, String) {
        let output = self.director().command().args(words).output().unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output, text)
    }

    fn page(&self, from: &Netns, target: SocketAddrV4, path: &str) -> String {
        from.run(|| http::get(target, path)).unwrap().body
    }

    fn quorum_says(&self, expected: &str) {
        let path = self.directory.path().join("quorum");
        let mut said = String::new();
        let done = wait_until("quorum scripts", PATIENCE, || {
            said = fs::read_to_string(&path).unwrap_or_default();
            (said.replace('\n', " ") == expected).then_some(())
        });
        assert!(done.is_ok(), "{said:?} instead of {expected:?}");
    }
}

#[test]
fn servers_leave_and_come_back_as_their_checks_say() {
    let mut site = Site::start();
    site.comes_to(&[(1, PORT, 1), (2, PORT, 1)]);
    site.quorum_says("up ");
    let (output, text) = site.output(&["status"]);
    assert!(output.status.success(), "{text}");
    assert!(
        text.starts_with("all is well: 1 virtual servers up"),
        "{text}"
    );

    site.close(2);
    site.comes_to(&[(1, PORT, 1)]);
    let (output, text) = site.output(&["status"]);
    assert_eq!(output.status.code(), Some(1));
    let told = format!("OUT    real server {}:{PORT}: ", site.rip(2));
    assert!(text.contains(&told), "{text}");
    assert!(
        text.contains("refused") && text.contains("(3 of 3 tries); out since"),
        "{text}"
    );
    let service = site.net.service(PORT);
    let page = site.page(&site.net.client, service, "/");
    assert_eq!(page, http::page("rs1", site.rip(1)));

    site.open(2);
    site.comes_to(&[(1, PORT, 1), (2, PORT, 1)]);
    site.close(1);
    site.close(2);
    site.comes_to(&[(1, SORRY, 1)]);
    site.quorum_says("up down ");
    let (_, text) = site.output(&["status"]);
    assert!(text.contains("DOWN     virtual server"), "{text}");
    assert!(text.contains("sorry server"), "{text}");
    site.open(2);
    site.comes_to(&[(2, PORT, 1)]);
    site.quorum_says("up down up ");

    let metrics = SocketAddrV4::new(Ipv4Addr::LOCALHOST, METRICS);
    let metrics = site.page(&site.net.director, metrics, "/metrics");
    let up = |n: usize, up| {
        format!(
            "pointsman_real_server_up{{virtual_server=\"[{}]:tcp:{PORT}\",server=\"{}:{PORT}\"}} {up}",
            site.net.vip,
            site.rip(n)
        )
    };
    assert!(
        metrics.contains(&up(1, 0)) && metrics.contains(&up(2, 1)),
        "{metrics}"
    );
    assert!(metrics.trim_end().ends_with("# EOF"));

    site.director().stop().unwrap();
    assert_eq!(site.director().traces().unwrap(), [""; 0]);
}

#[test]
fn a_reload_takes_what_is_good_and_nothing_else() {
    let site = Site::start();
    site.comes_to(&[(1, PORT, 1), (2, PORT, 1)]);
    site.write(5, "");
    site.director().run(&["reload"]).unwrap();
    assert!(site.table().contains(&format!("{}:{PORT} 5", site.rip(1))));

    site.write(7, "virtual_server 192.0.2.9 80 {\n    lb_algoo rr\n}\n");
    let (output, text) = site.output(&["reload"]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("keepalived.conf:"), "{text}");
    assert!(
        text.contains("lb_algoo") && text.contains("nothing is changed"),
        "{text}"
    );
    assert!(site.table().contains(&format!("{}:{PORT} 5", site.rip(1))));
    let (_, text) = site.output(&["status"]);
    assert!(
        text.contains("REFUSED") && text.contains("lb_algoo"),
        "{text}"
    );

    site.write(3, "");
    let pid = site.director().pid().unwrap().to_string();
    let hup = std::process::Command::new("kill")
        .args(["-HUP", &pid])
        .status();
    assert!(hup.unwrap().success());
    site.comes_to(&[(1, PORT, 3), (2, PORT, 1)]);

    // Somebody empties the table by hand.
    site.director().ipvsadm("-C").unwrap();
    site.comes_to(&[(1, PORT, 3), (2, PORT, 1)]);
}

#[test]
fn a_killed_director_takes_up_its_pool_where_it_was() {
    let mut site = Site::start();
    site.close(1);
    site.comes_to(&[(2, PORT, 1)]);
    // The state is written within a second.
    std::thread::sleep(Duration::from_secs(3));
    site.director().kill().unwrap();
    let service = site.net.service(PORT);
    let page = || site.page(&site.net.client, service, "/");
    assert_eq!(page(), http::page("rs2", site.rip(2)));
    site.run_director();
    // At no time is the dead server in.
    assert_eq!(site.table(), [format!("{}:{PORT} 1", site.rip(2))]);
    assert_eq!(page(), http::page("rs2", site.rip(2)));
    site.quorum_says("up ");
    site.open(1);
    site.comes_to(&[(1, PORT, 1), (2, PORT, 1)]);
}
