use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A variable of IPVS, by its name under `net.ipv4.vs`
/// (`Linux Documentation/networking/ipvs-sysctl.rst`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Variable {
    AmDroprate,
    Amemthresh,
    BackupOnly,
    CacheBypass,
    ConnReuseMode,
    Conntrack,
    DropEntry,
    DropPacket,
    EstCpulist,
    EstNice,
    ExpireNodestConn,
    ExpireQuiescentTemplate,
    IgnoreTunneled,
    LblcExpiration,
    LblcrExpiration,
    NatIcmpSend,
    PmtuDisc,
    RunEstimation,
    ScheduleIcmp,
    SecureTcp,
    SloppySctp,
    SloppyTcp,
    SnatReroute,
    SyncPersistMode,
    SyncPorts,
    SyncQlenMax,
    SyncRefreshPeriod,
    SyncRetries,
    SyncSockSize,
    SyncThreshold,
    SyncVersion,
}

/// Which values a variable takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Any 32-bit number; switches are on with any but 0.
    Integer,
    /// 0 off, 1 and 2 automatic, 3 on.
    Mode,
    /// Seconds, as long as they can be counted in jiffies.
    Seconds,
    /// The default alone: there is nothing here for it to change. The reason, as a sentence.
    Fixed(&'static str),
}

const NO_SYNC: &str = "there is no synchronisation daemon yet";
const NO_THREADS: &str =
    "rates are estimated by the director itself, which takes no time to speak of";

impl Variable {
    /// Every variable, by name.
    pub const ALL: [Self; 31] = [
        Self::AmDroprate,
        Self::Amemthresh,
        Self::BackupOnly,
        Self::CacheBypass,
        Self::ConnReuseMode,
        Self::Conntrack,
        Self::DropEntry,
        Self::DropPacket,
        Self::EstCpulist,
        Self::EstNice,
        Self::ExpireNodestConn,
        Self::ExpireQuiescentTemplate,
        Self::IgnoreTunneled,
        Self::LblcExpiration,
        Self::LblcrExpiration,
        Self::NatIcmpSend,
        Self::PmtuDisc,
        Self::RunEstimation,
        Self::ScheduleIcmp,
        Self::SecureTcp,
        Self::SloppySctp,
        Self::SloppyTcp,
        Self::SnatReroute,
        Self::SyncPersistMode,
        Self::SyncPorts,
        Self::SyncQlenMax,
        Self::SyncRefreshPeriod,
        Self::SyncRetries,
        Self::SyncSockSize,
        Self::SyncThreshold,
        Self::SyncVersion,
    ];

    /// The last part of its name.
    pub fn name(self) -> &'static str {
        self.definition().0
    }

    /// The kernel's default; `None` where that depends on the machine.
    pub fn default_value(self) -> Option<&'static str> {
        Some(self.definition().1).filter(|value| !value.is_empty())
    }

    /// Values it takes.
    pub fn range(self) -> Range {
        self.definition().2
    }

    /// Name, default (empty: of the machine), range.
    fn definition(self) -> (&'static str, &'static str, Range) {
        use Range::{Fixed, Integer, Mode, Seconds};
        match self {
            Self::AmDroprate => ("am_droprate", "10", Integer),
            Self::Amemthresh => ("amemthresh", "1024", Integer),
            Self::BackupOnly => ("backup_only", "0", Fixed(NO_SYNC)),
            Self::CacheBypass => ("cache_bypass", "0", Integer),
            Self::ConnReuseMode => ("conn_reuse_mode", "1", Integer),
            Self::Conntrack => (
                "conntrack",
                "0",
                Fixed("packets are balanced before connection tracking sees them"),
            ),
            Self::DropEntry => ("drop_entry", "0", Mode),
            Self::DropPacket => ("drop_packet", "0", Mode),
            Self::EstCpulist => ("est_cpulist", "", Fixed(NO_THREADS)),
            Self::EstNice => ("est_nice", "0", Fixed(NO_THREADS)),
            Self::ExpireNodestConn => ("expire_nodest_conn", "0", Integer),
            Self::ExpireQuiescentTemplate => ("expire_quiescent_template", "0", Integer),
            Self::IgnoreTunneled => ("ignore_tunneled", "0", Integer),
            Self::LblcExpiration => ("lblc_expiration", "86400", Seconds),
            Self::LblcrExpiration => ("lblcr_expiration", "86400", Seconds),
            Self::NatIcmpSend => ("nat_icmp_send", "0", Integer),
            Self::PmtuDisc => ("pmtu_disc", "1", Integer),
            Self::RunEstimation => ("run_estimation", "1", Integer),
            Self::ScheduleIcmp => ("schedule_icmp", "0", Integer),
            Self::SecureTcp => ("secure_tcp", "0", Mode),
            Self::SloppySctp => ("sloppy_sctp", "0", Integer),
            Self::SloppyTcp => ("sloppy_tcp", "0", Integer),
            Self::SnatReroute => (
                "snat_reroute",
                "1",
                Fixed("replies always take the route of the address they leave with"),
            ),
            Self::SyncPersistMode => ("sync_persist_mode", "0", Fixed(NO_SYNC)),
            Self::SyncPorts => ("sync_ports", "1", Fixed(NO_SYNC)),
            Self::SyncQlenMax => ("sync_qlen_max", "", Fixed(NO_SYNC)),
            Self::SyncRefreshPeriod => ("sync_refresh_period", "0", Fixed(NO_SYNC)),
            Self::SyncRetries => ("sync_retries", "0", Fixed(NO_SYNC)),
            Self::SyncSockSize => ("sync_sock_size", "0", Fixed(NO_SYNC)),
            Self::SyncThreshold => ("sync_threshold", "3\t50", Fixed(NO_SYNC)),
            Self::SyncVersion => ("sync_version", "1", Fixed(NO_SYNC)),
        }
    }

    /// Reads a number as the kernel does: decimal, `0x` hexadecimal or `0` octal, signed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no 32-bit number or, in a mode, above 3.
    pub fn number(self, text: &str) -> Result<i32, Error> {
        let text = text.trim();
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let (digits, radix) = match digits.strip_prefix('0') {
            None | Some("") => (digits, 10),
            Some(rest) => rest
                .strip_prefix(['x', 'X'])
                .map_or((rest, 8), |hex| (hex, 16)),
        };
        let signed = digits.starts_with(['+', '-']);
        let value = i64::from_str_radix(digits, radix)
            .ok()
            .filter(|_| !signed)
            .and_then(|value| i32::try_from(sign * value).ok())
            .ok_or_else(|| {
                Error::Invalid(format!("{}: {text:?} is no 32-bit number", self.name()))
            })?;
        if self.range() == Range::Mode && !(0..=3).contains(&value) {
            return Err(Error::Invalid(format!(
                "{}: {value}; modes are 0 to 3",
                self.name()
            )));
        }
        Ok(value)
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net.ipv4.vs.{}", self.name())
    }
}

impl FromStr for Variable {
    type Err = Error;

    /// `net.ipv4.vs.drop_entry`, `net/ipv4/vs/drop_entry` or `drop_entry`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let name = text
            .strip_prefix("net.ipv4.vs.")
            .or_else(|| text.strip_prefix("net/ipv4/vs/"))
            .unwrap_or(text);
        Self::ALL
            .into_iter()
            .find(|variable| variable.name() == name)
            .ok_or_else(|| Error::Invalid(format!("{text}: there is no such variable")))
    }
}

/// A variable as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableView {
    /// Which.
    pub name: Variable,
    /// Its value, as text.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_go_by_three_names() {
        for variable in Variable::ALL {
            let name = variable.name();
            for text in [
                name.to_owned(),
                format!("net.ipv4.vs.{name}"),
                format!("net/ipv4/vs/{name}"),
            ] {
                assert_eq!(text.parse(), Ok(variable));
            }
            let json = format!("\"{name}\"");
            assert_eq!(json.trim_matches('"').parse(), Ok(variable));
        }
        let names = Variable::ALL.map(Variable::name);
        assert!(names.is_sorted());
        for text in ["", "net.ipv4.vs", "net.ipv4.vs.", "net.ipv4.ip_forward"] {
            assert!(text.parse::<Variable>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_the_kernel_reads_them() {
        let any = |text| Variable::ConnReuseMode.number(text).ok();
        for (text, value) in [
            ("7", 7),
            ("-1", -1),
            ("0", 0),
            (" 10\n", 10),
            ("0x10", 16),
            ("010", 8),
            ("2147483647", i32::MAX),
            ("-2147483648", i32::MIN),
        ] {
            assert_eq!(any(text), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            "x",
            "1.5",
            "2147483648",
            "--1",
            "+1",
            "0x",
            "0-1",
            "08",
        ] {
            assert_eq!(any(text), None, "{text}");
        }
        let mode = |text| Variable::DropEntry.number(text).ok();
        assert_eq!((mode("3"), mode("4"), mode("-1")), (Some(3), None, None));
    }
}
