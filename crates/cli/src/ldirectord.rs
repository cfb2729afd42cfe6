//! `pointsman ldirectord`, also as the program name `ldirectord`: the daemon and its commands are
//! `pointsman_ldirectord`'s.

use std::ffi::OsString;
use std::process::ExitCode;

/// With the arguments after the program's name.
pub fn run(args: &[OsString]) -> ExitCode {
    let words: Vec<String> = args
        .iter()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    let connect = || {
        pointsman_director::ensure_running()
            .map_err(|error| crate::with_causes(&anyhow::Error::from(error)))
    };
    let status = pointsman_ldirectord::command::main(&words, &program(), Box::new(connect));
    ExitCode::from(status)
}

/// How this command is run again. Its name must be in there: a pid file counts only if it names a
/// process of that name.
pub fn program() -> Vec<String> {
    let path = std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| "/proc/self/exe".into());
    let called_so = path.file_name().is_some_and(|name| name == "ldirectord");
    let mut program = vec![path.to_string_lossy().into_owned()];
    if !called_so {
        program.push("ldirectord".into());
    }
    program
}
