//! The ipvsadm command line.

use std::ffi::OsString;
use std::process::ExitCode;

/// `ipvsadm`, with the arguments after the program's name.
pub fn run(_args: Vec<OsString>) -> ExitCode {
    eprintln!("ipvsadm: not there yet");
    ExitCode::FAILURE
}

/// `ipvsadm-save`.
pub fn save(_args: Vec<OsString>) -> ExitCode {
    run(Vec::new())
}

/// `ipvsadm-restore`.
pub fn restore(_args: Vec<OsString>) -> ExitCode {
    run(Vec::new())
}
