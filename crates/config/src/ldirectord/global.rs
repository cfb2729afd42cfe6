//! Lines outside the blocks.

use pointsman_model::{Family, Protocol};

use super::config::{DaemonStatus, Globals, Log, Statuses};
use super::lex::{Line, key_and_value};
use super::problem::Fault;
use super::value::{positive, quoted, run, some_text, yes_or_no};
use super::{Reader, fallback, value};

pub(super) const CHECKCOUNT_DEPRECATED: &str =
    "checkcount option is deprecated and slated for removal.  please see 'failurecount'";
pub(super) const CONNECTTIMEOUT_GONE: &str =
    "connecttimeout directive deprecated in favour of negotiatetimeout";

impl Reader<'_> {
    /// Reads a line outside the blocks.
    pub(super) fn global(&mut self, line: Line<'_>, globals: &mut Globals) {
        let result = self.try_global(line, globals);
        self.note(line, result);
    }

    fn try_global(&mut self, line: Line<'_>, globals: &mut Globals) -> Result<(), Fault> {
        if line.text.starts_with("supervised") {
            return self.supervised(line, globals);
        }
        let Some((key, value)) = key_and_value(line.text) else {
            return Err(unknown(line));
        };
        match key {
            "checktimeout" => {
                globals.check_timeout = Some(positive(value, "invalid check timeout value")?);
            }
            "negotiatetimeout" => {
                let number = positive(value, "invalid negotiate timeout value")?;
                globals.negotiate_timeout = Some(number);
            }
            "checkinterval" => {
                globals.check_interval = positive(value, "invalid check interval value")?;
            }
            "checkcount" => {
                globals.check_count = positive(value, "invalid check count value")?;
                self.warn(line, CHECKCOUNT_DEPRECATED);
            }
            "failurecount" => {
                globals.failure_count = positive(value, "invalid failure count value")?;
            }
            "connecttimeout" => return Err(Fault::new(CONNECTTIMEOUT_GONE, "negotiatetimeout")),
            "timeout" => {
                return Err(Fault::new(
                    "timeout directive deprecated in favour of checktimeout and negotiatetimeout",
                    "checktimeout or negotiatetimeout",
                ));
            }
            "fallback" | "fallback6" => {
                let family = if key == "fallback" {
                    Family::V4
                } else {
                    Family::V6
                };
                let unresolved = fallback::parse(value)?;
                let both = [Protocol::Tcp, Protocol::Udp];
                let resolved = self.resolve_fallback(line, &unresolved, family, &both);
                match family {
                    Family::V4 => globals.fallback = resolved,
                    Family::V6 => globals.fallback6 = resolved,
                }
            }
            "fallbackcommand" => {
                globals.fallback_command = Some(some_text(value, "invalid fallback command")?);
            }
            "autoreload" => globals.auto_reload = yes_or_no(value, key)?,
            "callback" => globals.callback = Some(in_quotes(line, value)?),
            "logfile" => globals.log = self.log(in_quotes(line, value)?)?,
            "execute" => {
                if !globals.execute.iter().any(|known| known == value) {
                    globals.execute.push(value.to_owned());
                }
            }
            "fork" => globals.fork = yes_or_no(value, key)?,
            "quiescent" => globals.quiescent = yes_or_no(value, key)?,
            "readdquiescent" => globals.readd_quiescent = yes_or_no(value, key)?,
            "cleanstop" => globals.clean_stop = yes_or_no(value, key)?,
            "emailalert" => globals.email.to = Some(recipients(value)?),
            "emailalertfreq" => globals.email.repeat = Some(repeat(value)?),
            "emailalertstatus" => globals.email.statuses = Some(statuses(value)?),
            "emailalertfrom" => {
                globals.email_from = Some(some_text(value, "no email from address specified")?);
            }
            "smtp" => globals.email.smtp = Some(smtp(value)?),
            "maintenancedir" => {
                let dir = some_text(value, "maintenance directory not specified")?;
                if !self.surroundings.is_directory(&dir) {
                    self.warn(line, "maintenance directory does not exist");
                }
                globals.maintenance_dir = Some(dir);
            }
            _ => return Err(unknown(line)),
        }
        Ok(())
    }

    fn supervised(&mut self, line: Line<'_>, globals: &mut Globals) -> Result<(), Fault> {
        match key_and_value(line.text) {
            Some(("supervised", value)) => globals.supervised = yes_or_no(value, "supervised")?,
            _ if line.text.trim_end() == "supervised" => {
                globals.supervised = true;
                self.warn(
                    line,
                    "please update your config not to use a bare supervised directive",
                );
            }
            _ => {
                return Err(Fault::new(
                    "supervised must be 'yes' or 'no'",
                    "supervised = yes, or no",
                ));
            }
        }
        Ok(())
    }

    /// A path is tried at once; anything else is a facility of syslog.
    fn log(&self, name: String) -> Result<Log, Fault> {
        if !name.starts_with('/') {
            return Ok(Log::Facility(name));
        }
        match self.surroundings.append(&name) {
            Ok(()) => Ok(Log::File(name)),
            Err(_) => Err(Fault::new(
                format!("unable to open logfile: {name}"),
                "a file that can be written, or a facility of syslog",
            )),
        }
    }
}

fn unknown(line: Line<'_>) -> Fault {
    let hint = if line.text.starts_with([' ', '\t']) {
        "a directive in the first column (an empty or less indented line has ended the block)"
    } else {
        "a directive known outside a block"
    };
    Fault::new(format!("Unknown command {} ", line.quoted()), hint).about(line.text.trim())
}

/// These two know no value without quotes.
fn in_quotes(line: Line<'_>, value: &str) -> Result<String, Fault> {
    let quoted = quoted(value).ok_or_else(|| {
        Fault::new(
            format!("Unknown command {} ", line.quoted()),
            "the value in double quotes",
        )
    })?;
    Ok(quoted.to_owned())
}

/// `"a, b"`, with or without quotes.
pub(super) fn recipients(value: &str) -> Result<String, Fault> {
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .filter(|inner| !inner.contains('"'));
    some_text(inner.unwrap_or(value), "no email address specified")
}

/// The digits at the beginning.
pub(super) fn repeat(value: &str) -> Result<u32, Fault> {
    let end = value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(value.len());
    value::number(&value[..end], "invalid email alert frequency")
}

pub(super) fn smtp(value: &str) -> Result<String, Fault> {
    let of_host = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    run(value, of_host)
        .filter(|host| value.starts_with(host))
        .map(str::to_owned)
        .ok_or_else(|| Fault::new("invalid SMTP server address", "a name or an IPv4 address"))
}

/// `all`, `none`, or some of `starting`, `running`, `stopping`, `reloading`, with commas between.
pub(super) fn statuses(value: &str) -> Result<Statuses, Fault> {
    let words: Vec<_> = split(value);
    let mut set = Statuses::default();
    for word in words.iter().copied().filter(|word| *word != "none") {
        let status = match word {
            "all" => {
                set = Statuses::ALL;
                None
            }
            "starting" => Some(DaemonStatus::Starting),
            "stopping" => Some(DaemonStatus::Stopping),
            "running" => Some(DaemonStatus::Running),
            "reloading" => Some(DaemonStatus::Reloading),
            _ => {
                return Err(Fault::new(
                    format!("invalid email alert status at: \"{word}\""),
                    "all, none, starting, running, stopping, reloading",
                )
                .about(word));
            }
        };
        if let Some(status) = status {
            set.add(status);
        }
        if words.contains(&"none") {
            return Err(Fault::new(
                format!("invalid email alert status: \"{word}\" specified with \"none\""),
                "none alone",
            )
            .about(word));
        }
    }
    Ok(set)
}

/// As Perl's `split`: blanks around commas go, empty words at the end do not count.
fn split(value: &str) -> Vec<&str> {
    let mut words: Vec<_> = value.split(',').collect();
    let last = words.len() - 1;
    for (n, word) in words.iter_mut().enumerate() {
        if n > 0 {
            *word = word.trim_start();
        }
        if n < last {
            *word = word.trim_end();
        }
    }
    while words.last().is_some_and(|word| word.is_empty()) {
        words.pop();
    }
    words
}
