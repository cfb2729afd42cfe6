//! `net.ipv4.vs.*`: what the tables keep, what always has its default, and the machine's memory,
//! by which the automatic modes go.

use std::fs;

use pointsman_dataplane::Tables;
use pointsman_model::{Error, Range, Variable, VariableView};

/// Every variable as it stands.
pub(crate) fn list(tables: &Tables) -> Vec<VariableView> {
    Variable::ALL
        .into_iter()
        .map(|name| VariableView {
            name,
            value: tables.variable(name).unwrap_or_else(|| default_of(name)),
        })
        .collect()
}

/// Sets a variable.
///
/// # Errors
/// [`Error::Invalid`] for a value it does not take, with the reason.
pub(crate) fn set(tables: &mut Tables, name: Variable, value: &str) -> Result<(), Error> {
    if let Range::Fixed(reason) = name.range() {
        let default = default_of(name);
        let same = value.split_whitespace().eq(default.split_whitespace());
        return if same {
            Ok(())
        } else {
            Err(Error::Invalid(format!(
                "{} stays {default}: {reason}",
                name.name()
            )))
        };
    }
    tables.set_variable(name, value)?;
    defend(tables);
    Ok(())
}

/// Lets the automatic modes follow the memory there is now.
pub(crate) fn defend(tables: &mut Tables) {
    match fs::read_to_string("/proc/meminfo") {
        Ok(text) => tables.defend(pages(&text, &["MemFree", "Buffers"])),
        Err(error) => tracing::debug!(%error, "the memory there is cannot be read"),
    }
}

/// The kernel's default, also where that depends on the machine.
fn default_of(name: Variable) -> String {
    if let Some(value) = name.default_value() {
        return value.to_owned();
    }
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    match name {
        Variable::EstCpulist => read("/sys/devices/system/cpu/online").trim().to_owned(),
        Variable::SyncQlenMax => (pages(&read("/proc/meminfo"), &["MemTotal"]) / 32).to_string(),
        _ => String::new(),
    }
}

/// Pages that these lines of `/proc/meminfo` (`MemFree:  1234 kB`) make together.
fn pages(meminfo: &str, names: &[&str]) -> u64 {
    let kib: u64 = meminfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| names.contains(name))
        .filter_map(|(_, rest)| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .sum();
    kib * 1024 / page_bytes()
}

fn page_bytes() -> u64 {
    // SAFETY: a plain query.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096).max(1)
}

#[cfg(test)]
mod tests {
    use pointsman_dataplane::tables::maps::Maps;

    use super::*;

    fn tables() -> Tables {
        Tables::new(Maps::in_memory(2, Box::new(|| 0)))
    }

    fn value(tables: &Tables, name: Variable) -> String {
        let found = list(tables).into_iter().find(|view| view.name == name);
        found.expect("every variable is listed").value
    }

    #[test]
    fn memory_counts_in_pages() {
        let text = "MemTotal:  8000 kB\nMemFree:   4000 kB\nBuffers:    96 kB\nCached: 1 kB\n";
        let page = page_bytes() / 1024;
        assert_eq!(pages(text, &["MemFree", "Buffers"]), 4096 / page);
        assert_eq!(pages("nonsense\nMemFree: x kB\n", &["MemFree"]), 0);
    }

    #[test]
    fn all_variables_begin_with_their_defaults_and_take_them() {
        let mut tables = tables();
        for VariableView { name, value } in list(&tables) {
            assert!(!value.is_empty(), "{name}");
            if let Some(default) = name.default_value() {
                assert_eq!(value, default, "{name}");
            }
            assert_eq!(set(&mut tables, name, &value), Ok(()), "{name}");
        }
        let threshold = Variable::SyncThreshold;
        assert_eq!(set(&mut tables, threshold, " 3  50\n"), Ok(()));
    }

    #[test]
    fn what_means_nothing_here_is_refused_with_the_reason() {
        let mut tables = tables();
        for (name, value) in [
            (Variable::Conntrack, "1"),
            (Variable::SnatReroute, "0"),
            (Variable::BackupOnly, "1"),
            (Variable::EstNice, "5"),
            (Variable::SyncThreshold, "3 51"),
        ] {
            let before = self::value(&tables, name);
            match set(&mut tables, name, value) {
                Err(Error::Invalid(text)) => assert!(text.contains(" stays "), "{text}"),
                other => panic!("{name}: {other:?}"),
            }
            assert_eq!(self::value(&tables, name), before, "{name}");
        }
    }

    #[test]
    fn a_mode_that_is_set_takes_effect_at_once() {
        let mut tables = tables();
        // More than any machine has.
        set(&mut tables, Variable::Amemthresh, "2147483647").unwrap();
        set(&mut tables, Variable::SecureTcp, "1").unwrap();
        assert_eq!(value(&tables, Variable::SecureTcp), "2");
        set(&mut tables, Variable::Amemthresh, "-1").unwrap();
        assert_eq!(value(&tables, Variable::SecureTcp), "1");
    }
}
