//! Lines of the log, in the forms the original has.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::net::UnixDatagram;

use pointsman_config::ldirectord::Log;

/// Where lines go.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// `-d`: standard error, the message only.
    Stderr,
    /// `supervised`: standard output, with the date.
    Stdout,
    /// As the file says.
    Configured { log: Log, instance: String },
}

/// `Sat Nov 21 02:08:09 2026`, local time.
pub(crate) fn now() -> String {
    jiff::Zoned::now()
        .strftime("%a %b %e %H:%M:%S %Y")
        .to_string()
}

impl Sink {
    /// Writes a line. What cannot be written goes to standard error.
    pub fn line(&self, message: &str) {
        let message = message.trim_end_matches('\n');
        let written = match self {
            Self::Stderr => {
                eprintln!("{message}");
                return;
            }
            Self::Stdout => writeln!(std::io::stdout(), "[{}] {message}", now()),
            Self::Configured {
                log: Log::File(path),
                instance,
            } => append(
                path,
                &format!("[{}|{instance}|{}] {message}\n", now(), std::process::id()),
            ),
            Self::Configured {
                log: Log::Facility(name),
                ..
            } => syslog(name, message),
        };
        if written.is_err() {
            eprintln!("{message}");
        }
    }
}

/// Opened for each line, so that rotation needs no signal.
pub(crate) fn append(path: &str, line: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(line.as_bytes())
}

fn syslog(facility: &str, message: &str) -> std::io::Result<()> {
    const NAMES: [&str; 24] = [
        "kern",
        "user",
        "mail",
        "daemon",
        "auth",
        "syslog",
        "lpr",
        "news",
        "uucp",
        "cron",
        "authpriv",
        "ftp",
        "ntp",
        "security",
        "console",
        "solaris-cron",
        "local0",
        "local1",
        "local2",
        "local3",
        "local4",
        "local5",
        "local6",
        "local7",
    ];
    /// Priority "info" of RFC 3164.
    const INFO: usize = 6;
    let number = NAMES.iter().position(|name| *name == facility).unwrap_or(1);
    let line = format!(
        "<{}>ldirectord[{}]: {message}",
        number * 8 + INFO,
        std::process::id()
    );
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to(line.as_bytes(), "/dev/log")?;
    Ok(())
}
