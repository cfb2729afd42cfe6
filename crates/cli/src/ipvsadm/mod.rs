//! The `ipvsadm` command line, over the director of this network namespace.
//!
//! The grammar and every printed byte are [`pointsman_config::ipvsadm`]'s; here the director and
//! the system's names are put behind it. A command that needs a director starts one when none
//! runs, as the original loads the kernel's module; help and mistakes need none.

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use pointsman_api::{Client, Error as ApiError};
use pointsman_config::ipvsadm::{Director, DirectorError, Program};
use pointsman_model::{
    Change, ConnectionView, DaemonView, Error, ServiceKey, ServiceView, Timeouts,
};

mod names;

pub use names::SystemNames;

/// `ipvsadm`, with the arguments after the program's name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    program(Program::Ipvsadm, &args)
}

/// `ipvsadm-save`.
pub fn save(args: Vec<OsString>) -> ExitCode {
    program(Program::Save, &args)
}

/// `ipvsadm-restore`.
pub fn restore(args: Vec<OsString>) -> ExitCode {
    program(Program::Restore, &args)
}

fn program(program: Program, args: &[OsString]) -> ExitCode {
    // What is not UTF-8 is neither an option nor a name; it reaches messages readably.
    let words: Vec<String> = args
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let stdout = io::stdout();
    let result = if stdout.is_terminal() {
        over_director(program, &words, &mut stdout.lock())
    } else {
        over_director(program, &words, &mut BufWriter::new(stdout.lock()))
    };
    match result {
        Ok(status) => ExitCode::from(status),
        // The reader of a listing went away; nobody is left to tell.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ipvsadm: {error}");
            ExitCode::FAILURE
        }
    }
}

fn over_director(program: Program, words: &[String], out: &mut dyn Write) -> io::Result<u8> {
    let status = program.run(
        words,
        &mut Here::default(),
        &SystemNames::default(),
        &mut io::stdin().lock(),
        out,
        &mut io::stderr().lock(),
    )?;
    out.flush()?;
    Ok(status)
}

/// The director of this network namespace, found or started when it is first needed.
#[derive(Default)]
struct Here {
    client: Option<Client>,
}

impl Here {
    fn client(&mut self) -> Result<&Client, DirectorError> {
        if self.client.is_none() {
            let client = pointsman_director::ensure_running()
                .map_err(|error| DirectorError::Absent(error.into()))?;
            self.client = Some(client);
        }
        Ok(self.client.as_ref().expect("just put there"))
    }
}

impl Director for Here {
    fn apply(&mut self, changes: &[Change]) -> Result<Vec<Result<(), Error>>, DirectorError> {
        self.client()?.batch(changes).map_err(unanswered)
    }

    fn services(&mut self) -> Result<Vec<ServiceView>, DirectorError> {
        self.client()?.services().map_err(unanswered)
    }

    fn service(&mut self, key: &ServiceKey) -> Result<ServiceView, DirectorError> {
        self.client()?.service(key).map_err(unanswered)
    }

    fn connections(&mut self) -> Result<Vec<ConnectionView>, DirectorError> {
        self.client()?.connections().map_err(unanswered)
    }

    fn connection_slots(&mut self) -> Result<u32, DirectorError> {
        let table = self.client()?.table().map_err(unanswered)?;
        Ok(table.connection_slots)
    }

    fn timeouts(&mut self) -> Result<Timeouts, DirectorError> {
        self.client()?.timeouts().map_err(unanswered)
    }

    /// None can run yet.
    fn daemons(&mut self) -> Result<Vec<DaemonView>, DirectorError> {
        Ok(Vec::new())
    }
}

fn unanswered(error: ApiError) -> DirectorError {
    match error {
        ApiError::Refused(error) => DirectorError::Refused(error),
        other => DirectorError::Unreachable(other.into()),
    }
}
