//! A network namespace with servers in it, and checks made from inside.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_health::Context;
use pointsman_health::check::negotiate::{Failure, Negotiator};
use pointsman_model::ProbeTarget;
use pointsman_model::check::{NegotiateCheck, NegotiateService, Secret, Transport};
use pointsman_testkit::{Names, Netns, wait_until};

pub const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// How long servers may take to start: initialising a database takes seconds on a busy machine.
const START: Duration = Duration::from_secs(60);
/// `negotiatetimeout` of checks that shall succeed.
const AMPLE: Duration = Duration::from_secs(30);

/// A namespace, a directory, and the servers that run there.
pub struct Lab {
    pub netns: Netns,
    pub home: PathBuf,
    servers: Vec<Child>,
}

impl Lab {
    pub fn new() -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let netns = Netns::new(&Names::transient(), "checked").unwrap();
        let home = std::env::temp_dir().join(format!("pm-neg-{}-{n}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        // Servers that give root up must be able to read what is in it.
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            netns,
            home,
            servers: Vec::new(),
        }
    }

    /// Writes a file; `HOME` in its text becomes the lab's directory.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text.replace("HOME", self.home.to_str().unwrap())).unwrap();
        path
    }

    /// Makes a directory that belongs to `owner`, or to root.
    pub fn directory(&self, name: &str, owner: Option<&str>) -> PathBuf {
        let path = self.home.join(name);
        fs::create_dir_all(&path).unwrap();
        if let Some(owner) = owner {
            let user = nix::unistd::User::from_name(owner).unwrap().unwrap();
            std::os::unix::fs::chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .unwrap();
        }
        path
    }

    /// A key and a certificate of its own, `key.pem` and `cert.pem`.
    pub fn certificate(&self) {
        let mut openssl = Command::new("openssl");
        openssl
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split(' '))
            .args("-subj /CN=checked.example -days 30 -keyout key.pem -out cert.pem".split(' '))
            .current_dir(&self.home);
        self.run(&mut openssl);
    }

    /// Runs a command to its end, which must be good.
    #[track_caller]
    pub fn run(&self, command: &mut Command) {
        let output = command
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{command:?}: {error} (is its package there?)"));
        assert!(output.status.success(), "{command:?}: {output:?}");
    }

    /// Starts a server in the foreground, with blank-separated arguments, in which `HOME` is the lab's
    /// directory.
    pub fn start(&mut self, program: &str, arguments: &str) {
        let arguments = arguments.replace("HOME", self.home.to_str().unwrap());
        let output = fs::File::create(self.home.join("output")).unwrap();
        let server = self
            .netns
            .command(program)
            .args(arguments.split_whitespace())
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error} (is its package there?)"));
        self.servers.push(server);
    }

    /// Waits until `port` accepts connections.
    #[track_caller]
    pub fn listening(&self, port: u16) {
        let connect = || TcpStream::connect((LOCALHOST, port)).ok();
        let listening = wait_until(format!("port {port}"), START, || self.netns.run(connect));
        listening.unwrap_or_else(|error| panic!("{error}\n{}", self.output()));
    }

    /// Waits until the UDP `port` is taken.
    #[track_caller]
    pub fn bound(&self, port: u16) {
        let bind = || UdpSocket::bind((LOCALHOST, port)).err();
        let bound = wait_until(format!("port {port}"), START, || self.netns.run(bind));
        bound.unwrap_or_else(|error| panic!("{error}\n{}", self.output()));
    }

    /// Waits until the check succeeds.
    #[track_caller]
    pub fn ready(&self, check: &NegotiateCheck, port: u16) {
        let up = || self.probe(check, port).ok();
        let ready = wait_until(format!("{:?}", check.service), START, up);
        ready.unwrap_or_else(|error| panic!("{error}\n{}", self.output()));
    }

    /// What the servers said.
    pub fn output(&self) -> String {
        fs::read_to_string(self.home.join("output")).unwrap_or_default()
    }

    /// Stops the servers, and waits until nobody listens at `port`.
    #[track_caller]
    pub fn stop(&mut self, port: u16) {
        for server in &mut self.servers {
            end(server);
        }
        self.servers.clear();
        wait_until("the server to be gone", START, || {
            self.netns
                .run(|| TcpStream::connect((LOCALHOST, port)).err())
        })
        .unwrap();
    }

    /// For servers that inetd would start: each connection to `port` becomes a process's standard
    /// input and output.
    pub fn inetd(&self, port: u16, program: &'static str, arguments: &str) {
        let arguments = arguments.replace("HOME", self.home.to_str().unwrap());
        let listener = self
            .netns
            .run(|| TcpListener::bind((LOCALHOST, port)).unwrap());
        // Ends with the process: a listener that nobody asks any more.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let input = OwnedFd::from(stream.try_clone().unwrap());
                let server = Command::new(program)
                    .args(arguments.split_whitespace())
                    .stdin(input)
                    .stdout(OwnedFd::from(stream))
                    .stderr(Stdio::null())
                    .spawn();
                let _ = server.expect("the server's package").wait();
            }
        });
    }

    /// Makes a check once, with time enough.
    pub fn probe(&self, check: &NegotiateCheck, port: u16) -> Result<String, Failure> {
        self.probe_within(AMPLE, check, port)
    }

    /// Makes a check once, within `limit`.
    pub fn probe_within(
        &self,
        limit: Duration,
        check: &NegotiateCheck,
        port: u16,
    ) -> Result<String, Failure> {
        probe(&self.netns, limit, check, (LOCALHOST, port).into())
    }

    /// The check succeeds.
    #[track_caller]
    pub fn up(&self, check: &NegotiateCheck, port: u16) {
        if let Err(failure) = self.probe(check, port) {
            panic!("{check:?}: {failure}\n{}", self.output());
        }
    }

    /// The check fails, and says so with `words`.
    #[track_caller]
    pub fn down(&self, check: &NegotiateCheck, port: u16, words: &str) {
        match self.probe(check, port) {
            Ok(answer) => panic!("{check:?} succeeded: {answer}"),
            Err(failure) => assert!(
                failure.to_string().contains(words),
                "{failure}, not {words}\n{}",
                self.output()
            ),
        }
    }

    /// Stops the servers: the check is refused.
    #[track_caller]
    pub fn refused(&mut self, check: &NegotiateCheck, port: u16) {
        self.stop(port);
        self.down(check, port, "connection refused");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(end);
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Asks a process to end, and makes it.
fn end(server: &mut Child) {
    let _ = kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM);
    let gone = || server.try_wait().ok().flatten();
    if wait_until("it to end", Duration::from_secs(10), gone).is_err() {
        let _ = server.kill();
        let _ = server.wait();
    }
}

/// Makes a check once from inside `netns`.
pub fn probe(
    netns: &Netns,
    limit: Duration,
    check: &NegotiateCheck,
    addr: SocketAddr,
) -> Result<String, Failure> {
    let negotiator = Negotiator::new(check).unwrap();
    let target = ProbeTarget::new(addr.ip(), addr.port());
    netns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let context = Context::default();
        runtime
            .block_on(negotiator.probe(&target, limit, &context))
            .map(|answer| answer.text)
    })
}

/// A check with a request and what must come.
pub fn check(service: NegotiateService, request: &str, receive: &str) -> NegotiateCheck {
    NegotiateCheck {
        request: Some(request.to_owned()),
        receive: Some(receive.to_owned()),
        ..NegotiateCheck::new(service)
    }
}

/// The same with a login.
pub fn with_login(check: NegotiateCheck, login: &str, password: &str) -> NegotiateCheck {
    NegotiateCheck {
        login: Some(login.to_owned()),
        passwd: Some(Secret::new(password)),
        ..check
    }
}

/// The same over UDP.
pub fn over_udp(check: NegotiateCheck) -> NegotiateCheck {
    NegotiateCheck {
        transport: Transport::Udp,
        ..check
    }
}

/// Whether a program is where Debian puts it.
#[track_caller]
pub fn installed(path: &str) -> &Path {
    let path = Path::new(path);
    assert!(path.exists(), "{} is not installed", path.display());
    path
}
