//! Keywords of `global_defs` about processes, scripts and files.

use std::time::Duration;

use super::global::GlobalDraft;
use super::include::Checks;
use super::keyword::{Args, Keyword, Reader};
use crate::diag::Severity;

const ONE_PROCESS: &str = "VRRP, checks and the director are one process";
const OWN_SCHEDULING: &str =
    "priority, affinity and locked memory of the process are the service manager's to set";
const NETLINK: &str = "netlink sockets adapt their buffers by themselves";
const NO_RELOAD_TIMER: &str = "a reload comes by signal, command or API; a timer unit can do it";
const ALWAYS_CHECKED: &str = "a new configuration is always checked before it is taken";
const NO_DUMPS: &str = "state, statistics and JSON come from the API and from `pointsman status`";
const NO_COPY: &str = "the configuration is read once, and no copy of it is kept";

/// Processes, scripts and files.
pub const PROCESSES: &[Keyword<GlobalDraft>] = &[
    Keyword::nothing("process_names", "", ONE_PROCESS),
    Keyword::nothing("process_name", "NAME", ONE_PROCESS),
    Keyword::nothing("vrrp_process_name", "NAME", ONE_PROCESS),
    Keyword::nothing("checker_process_name", "NAME", ONE_PROCESS),
    Keyword::nothing("lvs_process_name", "NAME", ONE_PROCESS),
    Keyword::nothing("bfd_process_name", "NAME", ONE_PROCESS),
    Keyword::sets("startup_script", "COMMAND [USER [GROUP]]", |r, d, a| {
        let script = r.script(a);
        r.once(&mut d.startup, script, a);
    }),
    Keyword::sets("startup_script_timeout", "1-1000", |r, d, a| {
        let secs = r.small(a, 1..=1000).map(Duration::from_secs);
        d.startup_timeout = secs.unwrap_or(d.startup_timeout);
    }),
    Keyword::sets("shutdown_script", "COMMAND [USER [GROUP]]", |r, d, a| {
        let script = r.script(a);
        r.once(&mut d.shutdown, script, a);
    }),
    Keyword::sets("shutdown_script_timeout", "1-1000", |r, d, a| {
        let secs = r.small(a, 1..=1000).map(Duration::from_secs);
        d.shutdown_timeout = secs.unwrap_or(d.shutdown_timeout);
    }),
    Keyword::sets("script_user", "USER [GROUP]", |r, d, a| {
        d.globals.script_user = r.user(a);
    }),
    Keyword::sets("enable_script_security", "[BOOL]", |r, d, a| {
        d.globals.script_security = r.flag(a).unwrap_or(d.globals.script_security);
    }),
    Keyword::sets("use_symlink_paths", "[BOOL]", |r, d, a| {
        d.globals.use_symlink_paths = r.flag(a).unwrap_or(d.globals.use_symlink_paths);
    }),
    Keyword::nothing(
        "set_supplementary_groups",
        "[BOOL]",
        "scripts always run with all groups of their user",
    ),
    Keyword::sets("umask", "NUMBER|BITS", umask),
    Keyword::nothing("tmp_config_directory", "DIRECTORY", NO_COPY),
    Keyword::nothing("config_save_dir", "DIRECTORY", NO_COPY),
    Keyword::nothing("reload_check_config", "[LOG]", ALWAYS_CHECKED),
    Keyword::nothing("reload_time_file", "FILE", NO_RELOAD_TIMER),
    Keyword::nothing("reload_repeat", "", NO_RELOAD_TIMER),
    Keyword::nothing("reload_file", "[FILE]", NO_RELOAD_TIMER),
    Keyword::sets("include_check", "[WORD …]", |r, _, a| {
        // It took effect where files are included; here only its words are looked at.
        for word in a.rest() {
            if Checks::default().changed_by(&[&word.text]).is_err() {
                let hint = "read, match, wildcard_match or brace_match, with + or - before it";
                let message = format!("`{}` is no check", word.text);
                r.say(
                    Severity::Error,
                    word.at.clone(),
                    message,
                    Some(hint.to_owned()),
                );
            }
        }
    }),
    Keyword::nothing("data_use_instance", "[BOOL]", NO_DUMPS),
    Keyword::nothing("state_dump_file", "PATH", NO_DUMPS),
    Keyword::nothing("stats_dump_file", "PATH", NO_DUMPS),
    Keyword::nothing("json_dump_file", "PATH", NO_DUMPS),
    Keyword::nothing("json_version", "1|2", NO_DUMPS),
    Keyword::nothing(
        "random_seed",
        "N",
        "chance is seeded by the kernel; `${_RANDOM}` by --seed",
    ),
    Keyword::nothing(
        "iproute_usr_dir",
        "DIRECTORY",
        "iproute2's usual directories are searched",
    ),
    Keyword::nothing(
        "iproute_etc_dir",
        "DIRECTORY",
        "iproute2's usual directories are searched",
    ),
    Keyword::nothing("vrrp_priority", "-20-19", OWN_SCHEDULING),
    Keyword::nothing("vrrp_no_swap", "", OWN_SCHEDULING),
    Keyword::nothing("vrrp_rt_priority", "1-99", OWN_SCHEDULING),
    Keyword::nothing("vrrp_cpu_affinity", "N …", OWN_SCHEDULING),
    Keyword::nothing("vrrp_rlimit_rttime", "USECS", OWN_SCHEDULING),
    Keyword::nothing("vrrp_rlimit_rtime", "USECS", OWN_SCHEDULING),
    Keyword::nothing("checker_priority", "-20-19", OWN_SCHEDULING),
    Keyword::nothing("checker_no_swap", "", OWN_SCHEDULING),
    Keyword::nothing("checker_rt_priority", "1-99", OWN_SCHEDULING),
    Keyword::nothing("checker_cpu_affinity", "N …", OWN_SCHEDULING),
    Keyword::nothing("checker_rlimit_rttime", "USECS", OWN_SCHEDULING),
    Keyword::nothing("checker_rlimit_rtime", "USECS", OWN_SCHEDULING),
    Keyword::nothing("bfd_priority", "-20-19", OWN_SCHEDULING),
    Keyword::nothing("bfd_no_swap", "", OWN_SCHEDULING),
    Keyword::nothing("bfd_rt_priority", "1-99", OWN_SCHEDULING),
    Keyword::nothing("bfd_cpu_affinity", "N …", OWN_SCHEDULING),
    Keyword::nothing("bfd_rlimit_rttime", "USECS", OWN_SCHEDULING),
    Keyword::nothing("bfd_rlimit_rtime", "USECS", OWN_SCHEDULING),
    Keyword::nothing("max_auto_priority", "-1-99", OWN_SCHEDULING),
    Keyword::nothing("min_auto_priority_delay", "USECS", OWN_SCHEDULING),
    Keyword::nothing("vrrp_netlink_cmd_rcv_bufs", "BYTES", NETLINK),
    Keyword::nothing("vrrp_netlink_cmd_rcv_bufs_force", "BOOL", NETLINK),
    Keyword::nothing("vrrp_netlink_monitor_rcv_bufs", "BYTES", NETLINK),
    Keyword::nothing("vrrp_netlink_monitor_rcv_bufs_force", "BOOL", NETLINK),
    Keyword::nothing("lvs_netlink_cmd_rcv_bufs", "BYTES", NETLINK),
    Keyword::nothing("lvs_netlink_cmd_rcv_bufs_force", "BOOL", NETLINK),
    Keyword::nothing("lvs_netlink_monitor_rcv_bufs", "BYTES", NETLINK),
    Keyword::nothing("lvs_netlink_monitor_rcv_bufs_force", "BOOL", NETLINK),
    Keyword::nothing("process_monitor_rcv_bufs", "BYTES", NETLINK),
    Keyword::nothing("process_monitor_rcv_bufs_force", "BOOL", NETLINK),
];

/// Modes by the names of `umask(2)`'s bits, and sums of them.
const MODES: &[(&str, u32)] = &[
    ("IRUSR", 0o400),
    ("IWUSR", 0o200),
    ("IXUSR", 0o100),
    ("IRWXU", 0o700),
    ("IRGRP", 0o040),
    ("IWGRP", 0o020),
    ("IXGRP", 0o010),
    ("IRWXG", 0o070),
    ("IROTH", 0o004),
    ("IWOTH", 0o002),
    ("IXOTH", 0o001),
    ("IRWXO", 0o007),
];

fn umask(reader: &mut Reader<'_>, draft: &mut GlobalDraft, args: &mut Args<'_>) {
    let Some(first) = reader.need(args, "file mode bits") else {
        return;
    };
    let at = first.at.clone();
    let mut text = first.text.clone();
    args.rest()
        .iter()
        .for_each(|word| text.push_str(&word.text));
    let bits = if text.starts_with(|c: char| c.is_ascii_digit()) {
        super::sequence::integer(&text)
            .ok()
            .and_then(|n| u32::try_from(n).ok())
    } else {
        text.split('|').try_fold(0, |bits, name| {
            let name = name.trim_start_matches("S_");
            let found = MODES.iter().find(|(known, _)| *known == name);
            found.map(|(_, bit)| bits | bit)
        })
    };
    match bits.filter(|bits| *bits <= 0o777) {
        Some(bits) => draft.globals.umask = Some(bits),
        None => reader.error(
            &at,
            format!("`{text}` are no file mode bits, as 0177 or IRWXG|IRWXO"),
        ),
    }
}
