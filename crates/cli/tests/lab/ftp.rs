//! FTP: vsftpd on two real servers, curl and lftp as clients, every way to open a data connection.

use std::fs;
use std::net::{Ipv6Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pointsman_testkit::{Hook, Method, Netns, wait_until};

use crate::common::{Stage, client};
use crate::on_both_hooks;

on_both_hooks! {
    every_mode_by_nat,
    every_mode_by_nat_over_ipv6,
    lftp_lists_and_fetches_by_nat,
    direct_routing_with_persistence,
}

const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100);
/// Bytes of the larger file.
const LARGE: usize = 3 << 20;

/// A vsftpd that serves `name`, which tells who it is, and `large`.
struct Ftp {
    vsftpd: Child,
    directory: PathBuf,
}

impl Ftp {
    fn start(netns: &Netns, name: &str, listen: &str) -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("pointsman-ftp-{}-{n}", std::process::id()));
        let (root, empty) = (directory.join("root"), directory.join("empty"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(&empty).unwrap();
        fs::write(root.join("name"), name).unwrap();
        fs::write(root.join("large"), vec![b'x'; LARGE]).unwrap();
        let configuration = directory.join("vsftpd.conf");
        let lines = [
            listen.to_owned(),
            "background=NO\nanonymous_enable=YES\nno_anon_password=YES\nlocal_enable=NO".into(),
            "connect_from_port_20=YES\nseccomp_sandbox=NO\nxferlog_enable=NO".into(),
            format!("anon_root={}", root.display()),
            format!("secure_chroot_dir={}\n", empty.display()),
        ];
        fs::write(&configuration, lines.join("\n")).unwrap();
        let vsftpd = netns
            .command("vsftpd")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("vsftpd (Debian package vsftpd)");
        let started = Self { vsftpd, directory };
        wait_until("vsftpd", Duration::from_secs(10), || {
            let connect = || TcpStream::connect(("localhost", 21)).ok();
            netns.run(|| connect().or_else(|| TcpStream::connect("127.0.0.1:21").ok()))
        })
        .unwrap();
        started
    }
}

impl Drop for Ftp {
    fn drop(&mut self) {
        let _ = self.vsftpd.kill();
        let _ = self.vsftpd.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// vsftpd on every real server.
fn serve(stage: &Stage, listen: &str) -> Vec<Ftp> {
    let servers = stage.net.servers.iter();
    servers
        .map(|server| Ftp::start(&server.netns, &server.name, listen))
        .collect()
}

/// Four sessions of curl, each of which asks twice who it talks to, and fetches the large file: which
/// servers they had. Within a session it has to be one.
#[track_caller]
fn sessions(stage: &Stage, host: &str, mode: &[&str]) -> Vec<String> {
    let url = |file: &str| format!("ftp://{host}/{file}");
    let one = |_| {
        let (name, large) = (url("name"), url("large"));
        let common = ["-sS", "--max-time", "20", "-v"];
        let urls = [name.as_str(), &large, &name];
        let said = client(stage, "curl", &[&common[..], mode, &urls[..]].concat());
        assert_eq!(said.len(), LARGE + 2 * 3, "{mode:?}");
        let (first, last) = (&said[..3], &said[said.len() - 3..]);
        assert_eq!(first, last, "data followed another server");
        first.to_owned()
    };
    (0..4).map(one).collect()
}

/// Every way to ask for data, as options of curl. The second heeds the address in the server's text.
const MODES: [&[&str]; 4] = [
    &[],
    &["--disable-epsv", "--no-ftp-skip-pasv-ip"],
    &["--ftp-port", "-"],
    &["--ftp-port", "-", "--disable-eprt"],
];

fn every_mode_by_nat(hook: Hook) {
    let stage = Stage::new(Method::Nat, hook);
    let _servers = serve(&stage, "listen=YES");
    let service = stage.net.service(21);
    stage.ipvsadm(&format!("-A -t {service} -s rr"));
    for server in &stage.net.servers {
        stage.ipvsadm(&format!("-a -t {service} -r {}:21 -m", server.addr));
    }
    let host = stage.net.vip.to_string();
    for mode in MODES {
        let served = sessions(&stage, &host, mode);
        assert_eq!(served, ["rs2", "rs1", "rs2", "rs1"], "{mode:?}");
    }
    // Each session is one connection that was scheduled, and what it fetched was counted: totals are listed as of the
    // last estimate, every two seconds, so the last connection may be there before its bytes are.
    stage.stats_of(service, 2, 16);
    let stats = || stage.ipvsadm("-Ln --stats --exact");
    wait_until("bytes", Duration::from_secs(5), || {
        let bytes = Stage::column(&stats(), &service.to_string(), 6);
        (bytes > 16 * LARGE as u64).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", stats()));
}

fn lftp_lists_and_fetches_by_nat(hook: Hook) {
    let stage = Stage::new(Method::Nat, hook);
    let _servers = serve(&stage, "listen=YES");
    let service = stage.net.service(21);
    stage.ipvsadm(&format!("-A -t {service} -s rr"));
    for server in &stage.net.servers {
        stage.ipvsadm(&format!("-a -t {service} -r {}:21 -m", server.addr));
    }
    for (passive, extended) in [("on", "on"), ("on", "off"), ("off", "on"), ("off", "off")] {
        let script = format!(
            "set net:max-retries 1; set net:timeout 10; set ftp:fix-pasv-address off; \
             set ftp:passive-mode {passive}; set ftp:prefer-epsv {extended}; \
             open ftp://anonymous:me@{}; ls; cat name; ls; cat name; bye",
            stage.net.vip
        );
        let said = client(&stage, "lftp", &["-c", &script]);
        assert_eq!(said.matches("large").count(), 2, "{said}");
        let names = (said.matches("rs1").count(), said.matches("rs2").count());
        assert!(names == (2, 0) || names == (0, 2), "{said}");
    }
}

fn every_mode_by_nat_over_ipv6(hook: Hook) {
    let stage = Stage::new(Method::Nat, hook);
    let ip = |netns: &Netns, line: &str| drop(netns.ip(line).unwrap());
    let director = &stage.net.director;
    for host in stage.net.hosts() {
        // What a namespace starts with depends on the machine.
        for scope in ["all", "default", "lo", "eth0"] {
            host.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "0")
                .unwrap();
        }
    }
    director
        .sysctl("net.ipv6.conf.all.forwarding", "1")
        .unwrap();
    ip(&stage.net.client, "address add fd00:1::2/64 dev eth0 nodad");
    ip(director, &format!("address add {VIP6}/64 dev eth0 nodad"));
    ip(director, "address add fd00:2::1/64 dev eth1 nodad");
    for (n, server) in stage.net.servers.iter().enumerate() {
        let line = format!("address add fd00:2::1{n}/64 dev eth0 nodad");
        ip(&server.netns, &line);
        ip(&server.netns, "route add default via fd00:2::1");
    }
    let _servers = serve(&stage, "listen_ipv6=YES");
    stage.ipvsadm(&format!("-A -t [{VIP6}]:21 -s rr"));
    for n in 0..2 {
        stage.ipvsadm(&format!("-a -t [{VIP6}]:21 -r [fd00:2::1{n}]:21 -m"));
    }
    let host = format!("[{VIP6}]");
    for mode in [MODES[0], MODES[2]] {
        let served = sessions(&stage, &host, mode);
        assert_eq!(served, ["rs2", "rs1", "rs2", "rs1"], "{mode:?}");
    }
}

/// Nothing is read here: data connections find the template of the FTP service.
fn direct_routing_with_persistence(hook: Hook) {
    let stage = Stage::new(Method::DirectRouting, hook);
    let _servers = serve(&stage, "listen=YES");
    let service = stage.net.service(21);
    stage.ipvsadm(&format!("-A -t {service} -s rr -p 60"));
    for server in &stage.net.servers {
        stage.ipvsadm(&format!("-a -t {service} -r {}:21 -g", server.addr));
    }
    let host = stage.net.vip.to_string();
    for mode in MODES {
        let served = sessions(&stage, &host, mode);
        assert_eq!(served, ["rs2"; 4], "{mode:?}");
    }
}
