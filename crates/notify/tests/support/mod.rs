//! A real exim in a namespace.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::unistd::User;
use pointsman_testkit::{Netns, wait_until};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a future in a namespace.
pub fn run<T: Send>(netns: &Netns, f: impl AsyncFnOnce() -> T + Send) -> T {
    netns.run(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(f())
    })
}

/// A process that ends with its test.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An exim that puts every mail it takes into the file `box` of `home`; what it takes, and on which ports, `how` says.
pub fn exim(netns: &Netns, home: &Path, how: &str) -> Running {
    let config = home.join("exim.conf");
    let text = "primary_hostname = mx.example.org
spool_directory = HOME/spool
log_file_path = HOME/%slog
pid_file_path = HOME/pid
exim_path = /usr/sbin/exim4
local_interfaces = 127.0.0.1
host_lookup =
rfc1413_query_timeout = 0s
";
    let rest = "begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  file = HOME/box
  user = Debian-exim
begin retry
";
    let text = [text, how, rest].concat();
    fs::write(&config, text.replace("HOME", &home.display().to_string())).unwrap();
    let user = User::from_name("Debian-exim")
        .unwrap()
        .expect("exim is installed");
    let spool = home.join("spool");
    fs::create_dir(&spool).unwrap();
    let key = Some(home.join("key")).filter(|key| key.exists());
    for path in [home.to_owned(), spool].into_iter().chain(key) {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
    let mut command = netns.command("/usr/sbin/exim4");
    command
        .arg("-C")
        .arg(&config)
        .arg("-bdf")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let exim = Running(command.spawn().unwrap());
    wait_until("exim to listen", PATIENCE, || {
        netns.run(|| std::net::TcpStream::connect("127.0.0.1:25").ok())
    })
    .unwrap();
    exim
}
