//! `ldirectord [-d] [CONFIG] start|stop|restart|try-restart|status|reload|force-reload`: words, exit
//! codes and messages of the original.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_api::Client;
use pointsman_config::ldirectord::{Config, Severity, read};

use crate::daemon::{BANNER, Foreground, Options, run};
use crate::files::{Instance, Recorded};
use crate::surroundings::System;

/// Between two looks at a pid file that is to go.
const PAUSE: Duration = Duration::from_millis(100);
/// Tells a child that it is the daemon; not for users.
const BACKGROUND: &str = "--background";

const USAGE: &str = "Usage:
    ldirectord [-d|--debug] [--] [CONFIG] start|stop|restart|try-restart|status|reload|force-reload
    ldirectord -h|-?|--help
    ldirectord -v|--version
";

/// What a user typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Typed {
    Help,
    Version,
    Wrong,
    Command {
        debug: bool,
        /// The instance's name, where this is the daemon that `start` has put there.
        background: Option<String>,
        config: Option<String>,
        word: Word,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Start,
    Stop,
    Restart,
    TryRestart,
    Status,
    Reload,
}

/// How a director is found or started.
pub type Connect = Box<dyn Fn() -> Result<Client, String>>;

/// Runs a command line, without the program's name; the exit status.
///
/// `program` runs this command again: for the daemon in the background and for `execute`.
pub fn main(args: &[String], program: &[String], connect: Connect) -> u8 {
    match parse(args) {
        Typed::Help => {
            print!("{USAGE}\nManual: pointsman(8), section ldirectord.\n");
            0
        }
        Typed::Version => {
            println!("{BANNER} (Pointsman {})", env!("CARGO_PKG_VERSION"));
            0
        }
        Typed::Wrong => {
            eprint!("{USAGE}");
            255
        }
        Typed::Command {
            debug,
            background,
            config,
            word,
        } => {
            let Some(mut instance) = Instance::find(config.as_deref()) else {
                let name = config.as_deref().unwrap_or("ldirectord.cf");
                eprintln!("Config file {name} not found");
                return 1;
            };
            let Some(read) = load(&instance) else {
                return 2;
            };
            let is_daemon = background.is_some();
            if let Some(name) = background {
                instance.name = name;
            }
            let here = Here {
                instance,
                config: read,
                debug,
                is_daemon,
                program: program.to_vec(),
                connect,
            };
            here.perform(word)
        }
    }
}

/// Options come first, short ones perhaps bundled; then a file, then the word.
fn parse(args: &[String]) -> Typed {
    let (mut debug, mut background) = (false, None);
    let mut rest = args;
    while let [first, more @ ..] = rest {
        match first.as_str() {
            "--" => {
                rest = more;
                break;
            }
            "--debug" => debug = true,
            "--help" => return Typed::Help,
            "--version" => return Typed::Version,
            BACKGROUND => {
                let [name, after @ ..] = more else {
                    return Typed::Wrong;
                };
                background = Some(name.clone());
                rest = after;
                continue;
            }
            bundle if bundle.starts_with('-') && bundle.len() > 1 && !bundle.starts_with("--") => {
                for option in bundle.chars().skip(1) {
                    match option {
                        'd' => debug = true,
                        'h' | '?' => return Typed::Help,
                        'v' => return Typed::Version,
                        _ => return Typed::Wrong,
                    }
                }
            }
            long if long.starts_with("--") => return Typed::Wrong,
            _ => break,
        }
        rest = more;
    }
    let (config, word) = match rest {
        [word] => (None, word),
        [config, word, ..] => (Some(config.clone()), word),
        [] => return Typed::Wrong,
    };
    let word = match word.as_str() {
        "start" => Word::Start,
        "stop" => Word::Stop,
        "restart" => Word::Restart,
        "try-restart" => Word::TryRestart,
        "status" => Word::Status,
        "reload" | "force-reload" => Word::Reload,
        _ => return Typed::Wrong,
    };
    Typed::Command {
        debug,
        background,
        config,
        word,
    }
}

/// Reads the file and tells its problems, up to the first error. Every command does so first.
fn load(instance: &Instance) -> Option<Config> {
    let file = instance.file.display().to_string();
    let pid = std::process::id();
    let text = match std::fs::read(&instance.file) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => {
            eprintln!("Error [{pid}]: can not open file {file}");
            return None;
        }
    };
    let reading = read(&text, &System);
    for problem in &reading.problems {
        eprintln!("{}", problem.original(&file, pid));
        if problem.severity == Severity::Error {
            eprintln!("  {file}:{problem}");
            return None;
        }
    }
    Some(reading.config)
}

struct Here {
    instance: Instance,
    config: Config,
    debug: bool,
    is_daemon: bool,
    program: Vec<String>,
    connect: Connect,
}

impl Here {
    fn perform(self, word: Word) -> u8 {
        if self.is_daemon {
            return self.daemon(None);
        }
        match (self.instance.recorded(), word) {
            (Recorded::Running(_), Word::Start) => 0,
            (Recorded::Running(pid), Word::Stop) => {
                tell(pid, Signal::SIGTERM);
                0
            }
            (Recorded::Running(pid), Word::Restart | Word::TryRestart) => {
                tell(pid, Signal::SIGTERM);
                while self.instance.pid_file().is_file() {
                    if self.instance.recorded() != Recorded::Running(pid) {
                        let _ = std::fs::remove_file(self.instance.pid_file());
                    }
                    std::thread::sleep(PAUSE);
                }
                self.start()
            }
            (Recorded::Running(pid), Word::Reload) => {
                tell(pid, Signal::SIGHUP);
                0
            }
            (Recorded::Running(pid), Word::Status) => {
                let file = self.instance.file.display();
                eprintln!("ldirectord for {file} is running with pid: {pid}");
                for child in &self.config.globals.execute {
                    let _ = Command::new(&self.program[0])
                        .args(&self.program[1..])
                        .args([child.as_str(), "status"])
                        .status();
                }
                0
            }
            (_, Word::Start | Word::Restart) => self.start(),
            (_, Word::Stop) => {
                // It may have been killed; then the director still knows what it told.
                if let Ok(client) = Client::here() {
                    let _ = client.ldirectord_ends(&self.instance.file.display().to_string());
                }
                0
            }
            (_, Word::TryRestart) => 0,
            (recorded, Word::Status) => {
                let file = self.instance.file.display();
                let status = if recorded == Recorded::Stale {
                    let pid_file = self.instance.pid_file();
                    eprintln!(
                        "ldirectord stale pid file {} for {file}",
                        pid_file.display()
                    );
                    1
                } else {
                    3
                };
                println!("ldirectord is stopped for {file}");
                status
            }
            (_, Word::Reload) => 1,
        }
    }

    fn start(self) -> u8 {
        if self.debug {
            return self.daemon(Some(Foreground::Debug));
        }
        if self.config.globals.supervised {
            return self.daemon(Some(Foreground::Supervised));
        }
        self.detach()
    }

    /// Runs the daemon in this process.
    fn daemon(self, foreground: Option<Foreground>) -> u8 {
        let program: Vec<_> = self.program.iter().map(|word| quoted(word)).collect();
        let options = Options {
            file: self.instance.file.clone(),
            instance: self.instance.name.clone(),
            foreground,
            program: program.join(" "),
            connect: self.connect,
        };
        let result = run(options, self.config);
        if foreground.is_none() {
            let _ = std::fs::remove_file(self.instance.pid_file());
        }
        match result {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("{error}");
                1
            }
        }
    }

    /// Starts it in a session of its own and writes its pid file. Its director is there before, so that
    /// what hinders it is said here.
    fn detach(self) -> u8 {
        if let Err(error) = (self.connect)() {
            eprintln!("{error}");
            return 1;
        }
        let pid_file = self.instance.pid_file();
        if std::fs::write(&pid_file, "").is_err() {
            eprintln!("Can not open {}", pid_file.display());
            return 1;
        }
        // A relative path would not be found from `/`.
        let file = std::fs::canonicalize(&self.instance.file);
        let file: PathBuf = file.unwrap_or_else(|_| self.instance.file.clone());
        let mut command = Command::new(&self.program[0]);
        command
            .args(&self.program[1..])
            .args([BACKGROUND, &self.instance.name])
            .arg(&file)
            .arg("start")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: setsid is async-signal-safe and touches nothing of the parent.
        unsafe {
            command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
        }
        match command.spawn() {
            Ok(child) => {
                let written = std::fs::write(&pid_file, format!("{}\n", child.id()));
                u8::from(written.is_err())
            }
            Err(error) => {
                let _ = std::fs::remove_file(&pid_file);
                eprintln!("{error}");
                1
            }
        }
    }
}

fn tell(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

/// One word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_before_the_other_words() {
        let command = |line: &str| {
            let args: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            parse(&args)
        };
        let expected = |debug, config: Option<&str>, word| Typed::Command {
            debug,
            background: None,
            config: config.map(str::to_owned),
            word,
        };
        assert_eq!(command("start"), expected(false, None, Word::Start));
        assert_eq!(
            command("-d www.cf start"),
            expected(true, Some("www.cf"), Word::Start)
        );
        assert_eq!(
            command("-- x force-reload"),
            expected(false, Some("x"), Word::Reload)
        );
        assert_eq!(command("-dv start"), Typed::Version);
        for line in ["", "begin", "-x start", "--nonsense start", "www.cf"] {
            assert_eq!(command(line), Typed::Wrong, "{line}");
        }
        assert_eq!(command("start -d"), Typed::Wrong);
    }
}
