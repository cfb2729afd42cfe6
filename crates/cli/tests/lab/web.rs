//! Web servers of Debian as they are, on real servers: each says, or logs, who its client is.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_testkit::{Netns, wait_until};
use tempfile::TempDir;

/// Where nginx shows what `accept` told it.
pub const NGINX: u16 = 8081;
/// Where nginx expects the PROXY protocol, and shows what that told it.
pub const NGINX_PROXY: u16 = 8082;
/// Where Apache shows what `accept` told it.
pub const APACHE: u16 = 8083;
/// Where HAProxy expects the PROXY protocol, and shows what that told it.
pub const HAPROXY: u16 = 8084;

/// A web server that runs.
pub struct Web {
    process: Child,
    home: TempDir,
}

impl Web {
    /// nginx. It answers with address and port of its client; under `/files/` it keeps what is put there.
    pub fn nginx(netns: &Netns) -> Self {
        let both =
            |port, how: &str| format!("listen {port} {how}; listen [::]:{port} {how} ipv6only=on;");
        let serve = "location / { return 200 '$remote_addr $remote_port\\n'; }
             location /files/ { root HOME; dav_methods PUT; client_max_body_size 256m; }";
        let configuration = format!(
            "daemon off; master_process off; user root; pid HOME/pid; error_log HOME/error; events {{}}
             http {{
               access_log HOME/access; client_body_temp_path HOME/t1; proxy_temp_path HOME/t2;
               fastcgi_temp_path HOME/t3; uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
               server {{ {} {serve} }}
               server {{
                 {} {serve}
                 real_ip_header proxy_protocol; set_real_ip_from 0.0.0.0/0; set_real_ip_from ::/0;
               }}
             }}",
            both(NGINX, ""),
            both(NGINX_PROXY, "proxy_protocol"),
        );
        Self::start(netns, &configuration, NGINX, |home| {
            let file = format!("{home}/configuration");
            let words = ["/usr/sbin/nginx", "-p", home, "-e", "stderr", "-c", &file];
            words.map(str::to_owned).to_vec()
        })
    }

    /// Apache, which answers with what is in its file `index.html`. Like everywhere it wants a connection
    /// from the kernel only once the client has sent something.
    pub fn apache(netns: &Netns) -> Self {
        let configuration = format!(
            "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
             LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
             ServerRoot HOME
             ServerName localhost
             DefaultRuntimeDir HOME
             PidFile HOME/pid
             ErrorLog HOME/error
             CustomLog HOME/access \"%h %l %u %t \\\"%r\\\" %>s %b\"
             User nobody
             Group nogroup
             DocumentRoot HOME/files
             Listen {APACHE}
             "
        );
        Self::start(netns, &configuration, APACHE, |home| {
            let file = format!("{home}/configuration");
            let words = ["/usr/sbin/apache2", "-DFOREGROUND", "-f", &file];
            words.map(str::to_owned).to_vec()
        })
    }

    /// HAProxy, which answers with address and port of its client.
    pub fn haproxy(netns: &Netns) -> Self {
        let configuration = format!(
            "global
                log stdout format raw local0
             defaults
                mode http
                timeout client 60s
                log global
                option dontlognull
                log-format \"%ci %cp\"
             frontend web
                bind 0.0.0.0:{HAPROXY} accept-proxy
                bind [::]:{HAPROXY} v6only accept-proxy
                http-request return status 200 content-type text/plain lf-string \"%ci %cp\\n\"
             "
        );
        Self::start(netns, &configuration, HAPROXY, |home| {
            let file = format!("{home}/configuration");
            let words = ["/usr/sbin/haproxy", "-db", "-f", &file];
            words.map(str::to_owned).to_vec()
        })
    }

    fn start(
        netns: &Netns,
        configuration: &str,
        port: u16,
        command: impl FnOnce(&str) -> Vec<String>,
    ) -> Self {
        let home = TempDir::new().unwrap();
        let path = home.path().to_str().unwrap();
        // Apache serves as another user.
        let open = |path: &std::path::Path| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(path, mode).unwrap();
        };
        open(home.path());
        fs::create_dir(home.path().join("files")).unwrap();
        open(&home.path().join("files"));
        fs::write(home.path().join("files/index.html"), "It works.\n").unwrap();
        fs::write(
            home.path().join("configuration"),
            configuration.trim_end().replace("HOME", path) + "\n",
        )
        .unwrap();
        let words = command(path);
        let out = fs::File::create(home.path().join("stdout")).unwrap();
        let process = netns
            .command(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(out)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", words[0]));
        let started = Self { process, home };
        wait_until(&words[0], Duration::from_secs(30), || {
            let probe = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
            netns.run(probe).ok()
        })
        .unwrap();
        started
    }

    /// Where the file of a path is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The clients that it has logged, one for each request.
    pub fn clients(&self) -> Vec<String> {
        let read = |name| fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        let log = read("access") + &read("stdout");
        let first = |line: &str| {
            line.split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        log.lines().map(first).collect()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // Apache ends its children if it is asked to end.
        let _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}
