use std::error::Error as StdError;
use std::io::{self, Read, Write};

use pointsman_model::{
    Change, ConnectionView, DaemonView, Error, ServiceKey, ServiceView, Timeouts,
};
use thiserror::Error as ThisError;

use super::args::parse;
use super::command::{Command, Format, Listing, ServiceRule};
use super::connections::print_connections;
use super::help::{VERSION, print_help};
use super::json;
use super::listing::{
    Layout, print_daemons, print_local_addresses, print_services, print_timeouts,
};
use super::messages::{UsageError, refusal};
use super::names::{Names, Numeric};
use super::rules::{print_rules, split_line};

/// Bytes of rules read at a time; what came with one read is sent to the director at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Whoever owns the services: a running director, or a model of one in tests.
pub trait Director {
    /// Makes changes in order, each by itself: one that is refused does not stop the next. The
    /// answer has one result per change.
    ///
    /// # Errors
    /// Only when the director could not be asked.
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Result<(), Error>>, DirectorError>;

    /// Every service, servers newest first.
    ///
    /// # Errors
    /// When the director could not be asked, or refuses. So for every question below.
    fn services(&mut self) -> Result<Vec<ServiceView>, DirectorError>;

    /// One service; [`Error::NoSuchService`] when there is none.
    ///
    /// # Errors
    /// As [`Director::services`].
    fn service(&mut self, key: &ServiceKey) -> Result<ServiceView, DirectorError>;

    /// The connection table.
    ///
    /// # Errors
    /// As [`Director::services`].
    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError>;

    /// Slots of the connection table.
    ///
    /// # Errors
    /// As [`Director::services`].
    fn connection_slots(&mut self) -> Result<u32, DirectorError>;

    /// Protocol timeouts.
    ///
    /// # Errors
    /// As [`Director::services`].
    fn timeouts(&mut self) -> Result<Timeouts, DirectorError>;

    /// Synchronisation daemons that run, the master first.
    ///
    /// # Errors
    /// As [`Director::services`].
    fn daemons(&mut self) -> Result<Vec<DaemonView>, DirectorError>;
}

/// Why a director did not answer a question.
#[derive(Debug, ThisError)]
pub enum DirectorError {
    /// It refuses.
    #[error(transparent)]
    Refused(#[from] Error),
    /// There is none, and none could be started: what a missing kernel module is to the original.
    #[error("Can't initialize ipvs: {0}")]
    Absent(Box<dyn StdError + Send + Sync>),
    /// It could not be asked.
    #[error(transparent)]
    Unreachable(Box<dyn StdError + Send + Sync>),
}

impl DirectorError {
    /// What `ipvsadm` exits with, where a refusal alone would be `otherwise`.
    fn exit_code(&self, otherwise: u8) -> u8 {
        match self {
            Self::Absent(_) => 2,
            Self::Refused(_) | Self::Unreachable(_) => otherwise,
        }
    }
}

/// Performs a command and returns the exit code. Rules of `-R` come from `input`; listings go to
/// `out`, messages to `err`.
///
/// # Errors
/// Of the reader and the writers.
pub fn run(
    command: Command,
    director: &mut dyn Director,
    names: &dyn Names,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let mut session = Session {
        director,
        names,
        out,
        err,
        queue: Vec::new(),
        status: 0,
    };
    if command == Command::Restore {
        session.restore(input)?;
    } else {
        session.perform(command)?;
        session.send()?;
    }
    Ok(session.status)
}

struct Session<'a> {
    director: &'a mut dyn Director,
    names: &'a dyn Names,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    /// Changes not yet sent, each with the command that words its refusal.
    queue: Vec<(Command, Change)>,
    /// Exit code of the last command.
    status: u8,
}

/// Whether a rule file goes on after a line.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}

impl Session<'_> {
    /// Runs rules line by line. Changes that arrive together are sent together; the answers still
    /// come line by line.
    fn restore(&mut self, input: &mut dyn Read) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut pending = Vec::new();
        loop {
            let len = match input.read(&mut chunk) {
                Ok(len) => len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            pending.extend_from_slice(&chunk[..len]);
            // At the end, what is left is a line without a line feed.
            let complete = match pending.iter().rposition(|&b| b == b'\n') {
                _ if len == 0 => pending.len(),
                Some(last) => last + 1,
                None => continue,
            };
            let lines: Vec<u8> = pending.drain(..complete).collect();
            for line in String::from_utf8_lossy(&lines).lines() {
                if self.restore_line(line)? == Next::Stop {
                    return Ok(());
                }
            }
            if self.send()? == Next::Stop || len == 0 {
                return Ok(());
            }
        }
    }

    fn restore_line(&mut self, line: &str) -> io::Result<Next> {
        let words = split_line(line);
        if words.is_empty() {
            return Ok(Next::Continue);
        }
        match parse(&words, self.names) {
            Ok(Command::Restore) => self.refuse_line(&UsageError::Try),
            Err(mistake) => self.refuse_line(&mistake),
            Ok(command) => self.perform(command),
        }
    }

    fn refuse_line(&mut self, mistake: &UsageError) -> io::Result<Next> {
        if self.send()? == Next::Stop {
            return Ok(Next::Stop);
        }
        writeln!(self.err, "{mistake}")?;
        self.status = mistake.exit_code();
        Ok(Next::Stop)
    }

    /// Queues a change; answers anything else, once the changes before it are made.
    fn perform(&mut self, command: Command) -> io::Result<Next> {
        let command = match change(&command) {
            Some(Ok(change)) => {
                self.queue.push((command, change));
                return Ok(Next::Continue);
            }
            Some(Err(error)) => {
                if self.send()? == Next::Stop {
                    return Ok(Next::Stop);
                }
                return match self.earlier_refusal(&command) {
                    Ok(earlier) => self.refused(&command, &earlier.unwrap_or(error), 255),
                    Err(error) => {
                        writeln!(self.err, "{error}")?;
                        self.status = error.exit_code(255);
                        Ok(Next::Stop)
                    }
                };
            }
            None => command,
        };
        if self.send()? == Next::Stop {
            return Ok(Next::Stop);
        }
        self.status = 0;
        match &command {
            Command::List(listing, format) => match self.list(listing, *format)? {
                Ok(()) => Ok(Next::Continue),
                Err(error) => self.failed(&command, &error),
            },
            Command::Save { numeric, format } => match self.save(*numeric, *format)? {
                Ok(()) => Ok(Next::Continue),
                Err(error) => self.failed(&command, &error),
            },
            Command::Help => {
                print_help(self.out)?;
                Ok(Next::Stop)
            }
            Command::Version => {
                writeln!(self.out, "{VERSION}")?;
                Ok(Next::Stop)
            }
            // Rules within rules are refused where they are read; the rest are changes.
            _ => Ok(Next::Continue),
        }
    }

    /// Sends the queued changes and words the refusals.
    fn send(&mut self) -> io::Result<Next> {
        if self.queue.is_empty() {
            return Ok(Next::Continue);
        }
        let (commands, changes): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.queue).into_iter().unzip();
        match self.director.apply(&changes) {
            Ok(results) => {
                for (command, result) in commands.iter().zip(results) {
                    self.status = 0;
                    if let Err(error) = result {
                        self.refused(command, &error, 255)?;
                    }
                }
                Ok(Next::Continue)
            }
            Err(error) => {
                writeln!(self.err, "{error}")?;
                self.status = error.exit_code(255);
                Ok(Next::Stop)
            }
        }
    }

    /// The kernel looks for the service before it looks for the scheduler.
    fn earlier_refusal(&mut self, command: &Command) -> Result<Option<Error>, DirectorError> {
        let (Command::AddService(rule) | Command::EditService(rule)) = command else {
            return Ok(None);
        };
        let editing = matches!(command, Command::EditService(_));
        match self.director.service(&rule.key) {
            Ok(_) => Ok((!editing).then_some(Error::ServiceExists)),
            Err(DirectorError::Refused(error)) => Ok(editing.then_some(error)),
            Err(error) => Err(error),
        }
    }

    fn refused(&mut self, command: &Command, error: &Error, status: u8) -> io::Result<Next> {
        writeln!(self.err, "{}", refusal(command, error))?;
        self.status = status;
        Ok(Next::Continue)
    }

    /// A listing that fails ends everything.
    fn failed(&mut self, command: &Command, error: &DirectorError) -> io::Result<Next> {
        match error {
            DirectorError::Refused(error) => {
                self.refused(command, error, 1)?;
            }
            DirectorError::Absent(_) | DirectorError::Unreachable(_) => {
                writeln!(self.err, "{error}")?;
                self.status = error.exit_code(1);
            }
        }
        Ok(Next::Stop)
    }

    fn list(&mut self, listing: &Listing, format: Format) -> io::Result<Result<(), DirectorError>> {
        match *listing {
            Listing::Connections { numeric, engines } => {
                match (self.director.connections(), format) {
                    (Ok(connections), Format::Text) => {
                        let names = printed(self.names, numeric);
                        print_connections(self.out, names, &connections, engines)?;
                    }
                    (Ok(connections), Format::Json) => json::print(self.out, &connections)?,
                    (Err(error), _) => return Ok(Err(error)),
                }
            }
            Listing::Timeouts => match (self.director.timeouts(), format) {
                (Ok(timeouts), Format::Text) => print_timeouts(self.out, timeouts)?,
                (Ok(timeouts), Format::Json) => json::print(self.out, &timeouts)?,
                (Err(error), _) => return Ok(Err(error)),
            },
            Listing::Daemons => match (self.director.daemons(), format) {
                (Ok(daemons), Format::Text) => print_daemons(self.out, &daemons)?,
                (Ok(daemons), Format::Json) => json::print(self.out, &daemons)?,
                (Err(error), _) => return Ok(Err(error)),
            },
            Listing::LocalAddresses { service, numeric } => {
                let services = match self.found(service) {
                    Ok((services, _)) => services,
                    Err(error) => return Ok(Err(error)),
                };
                match (self.director.connections(), format) {
                    (Ok(connections), Format::Text) => {
                        let names = printed(self.names, numeric);
                        print_local_addresses(self.out, names, &services, &connections)?;
                    }
                    (Ok(connections), Format::Json) => {
                        json::print(self.out, &json::local_addresses(&services, &connections))?;
                    }
                    (Err(error), _) => return Ok(Err(error)),
                }
            }
            Listing::Services {
                service,
                view,
                numeric,
                exact,
                sorted,
            } => {
                let (services, connection_slots) = match self.found(service) {
                    Ok(found) => found,
                    Err(error) => return Ok(Err(error)),
                };
                match format {
                    Format::Text => {
                        let layout = Layout {
                            view,
                            exact,
                            sorted,
                            connection_slots,
                        };
                        let names = printed(self.names, numeric);
                        print_services(self.out, names, &services, layout)?;
                    }
                    Format::Json => json::print(self.out, &json::services(&services, sorted))?,
                }
            }
        }
        Ok(Ok(()))
    }

    /// The services to list; with the size of the table when they are all.
    fn found(
        &mut self,
        service: Option<ServiceKey>,
    ) -> Result<(Vec<ServiceView>, Option<u32>), DirectorError> {
        match service {
            Some(key) => Ok((vec![self.director.service(&key)?], None)),
            None => {
                let slots = self.director.connection_slots()?;
                Ok((self.director.services()?, Some(slots)))
            }
        }
    }

    fn save(&mut self, numeric: bool, format: Format) -> io::Result<Result<(), DirectorError>> {
        match (self.director.services(), format) {
            (Ok(services), Format::Text) => {
                print_rules(self.out, printed(self.names, numeric), &services)?;
            }
            (Ok(services), Format::Json) => json::print(self.out, &json::rules(&services))?,
            (Err(error), _) => return Ok(Err(error)),
        }
        Ok(Ok(()))
    }
}

/// The change a command asks for, if it asks for one.
pub(super) fn change(command: &Command) -> Option<Result<Change, Error>> {
    let spec = ServiceRule::spec;
    Some(match command {
        Command::AddService(rule) => spec(rule).map(Change::AddService),
        Command::EditService(rule) => spec(rule).map(Change::EditService),
        Command::DeleteService(key) => Ok(Change::DeleteService(*key)),
        Command::Flush => Ok(Change::Flush),
        Command::AddServer(service, server) => Ok(Change::AddServer {
            service: *service,
            server: *server,
        }),
        Command::EditServer(service, server) => Ok(Change::EditServer {
            service: *service,
            server: *server,
        }),
        Command::DeleteServer(service, server) => Ok(Change::DeleteServer {
            service: *service,
            server: *server,
        }),
        Command::AddLocalAddress(service, address) => Ok(Change::AddLocalAddress {
            service: *service,
            address: *address,
        }),
        Command::DeleteLocalAddress(service, address) => Ok(Change::DeleteLocalAddress {
            service: *service,
            address: *address,
        }),
        Command::Zero(service) => Ok(Change::Zero { service: *service }),
        Command::SetTimeouts(timeouts) => Ok(Change::SetTimeouts(*timeouts)),
        Command::StartDaemon(role, options) => Ok(Change::StartDaemon(options.spec(*role))),
        Command::StopDaemon(role, _) => Ok(Change::StopDaemon(*role)),
        Command::List(..)
        | Command::Save { .. }
        | Command::Restore
        | Command::Help
        | Command::Version => return None,
    })
}

/// Names for printing: none with `-n`.
fn printed(names: &dyn Names, numeric: bool) -> &dyn Names {
    if numeric { &Numeric } else { names }
}
