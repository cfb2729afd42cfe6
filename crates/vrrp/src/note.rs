use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// What an instance's state machine says in the log; monitoring greps for some of these lines,
/// which are keepalived's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text says it")]
pub enum Note {
    EnteringMaster,
    EnteringBackup {
        first: bool,
    },
    EnteringFault,
    Timeout,
    TimerLate(Duration),
    Overslept(Duration),
    Resigned(IpAddr),
    Higher {
        from: IpAddr,
        priority: u8,
        ours: u8,
    },
    Lower {
        from: IpAddr,
        priority: u8,
        ours: u8,
    },
    Discarding {
        priority: u8,
        from: IpAddr,
    },
    OwnAddress(IpAddr),
    Priority(u8, u8),
}

impl Note {
    /// Whether it is a detail, which keepalived logs with `-D` only.
    pub fn is_detail(&self) -> bool {
        matches!(self, Self::Timeout | Self::Resigned(_))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnteringMaster => f.write_str("Entering MASTER STATE"),
            Self::EnteringBackup { first: true } => f.write_str("Entering BACKUP STATE (init)"),
            Self::EnteringBackup { first: false } => f.write_str("Entering BACKUP STATE"),
            Self::EnteringFault => f.write_str("Entering FAULT STATE"),
            Self::Timeout => f.write_str("Receive advertisement timeout"),
            Self::TimerLate(late) => write!(
                f,
                "was not scheduled for {late:?} after its master-down time; listening for one \
                 interval more before taking over"
            ),
            Self::Overslept(silent) => write!(
                f,
                "was not scheduled for {silent:?}, so that another may have taken over; \
                 going to BACKUP"
            ),
            Self::Resigned(_) => f.write_str("Backup received priority 0 advertisement"),
            Self::Higher {
                from,
                priority,
                ours,
            } => write!(
                f,
                "Master received advert from {from} with higher priority {priority}, ours {ours}"
            ),
            Self::Lower {
                from,
                priority,
                ours,
            } => write!(
                f,
                "Received advert from {from} with lower priority {priority}, ours {ours}, \
                 forcing new election"
            ),
            Self::Discarding { priority, from } => write!(
                f,
                "received lower priority ({priority}) advert from {from} - discarding"
            ),
            Self::OwnAddress(from) => write!(
                f,
                "received an advert from {from}, which is our own address: it is used twice"
            ),
            Self::Priority(from, to) => {
                write!(f, "Changing effective priority from {from} to {to}")
            }
        }
    }
}
