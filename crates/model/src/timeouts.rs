use serde::{Deserialize, Serialize};

/// The three timeouts `ipvsadm --set` changes, in seconds. In a change, 0 keeps the present value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// TCP ESTABLISHED.
    pub tcp: u32,
    /// TCP FIN_WAIT.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

impl Default for Timeouts {
    /// The kernel's: 900, 120, 300.
    fn default() -> Self {
        Self {
            tcp: 900,
            tcp_fin: 120,
            udp: 300,
        }
    }
}

impl Timeouts {
    /// These timeouts with the non-zero values of `change` put in.
    pub fn with(self, change: Self) -> Self {
        let pick = |new: u32, old: u32| if new == 0 { old } else { new };
        Self {
            tcp: pick(change.tcp, self.tcp),
            tcp_fin: pick(change.tcp_fin, self.tcp_fin),
            udp: pick(change.udp, self.udp),
        }
    }
}
