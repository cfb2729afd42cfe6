//! TCP as IPVS follows it: transition tables, no sequence numbers
//! (`Linux net/netfilter/ipvs/ip_vs_proto_tcp.c`; each cell was checked against the kernel's table).

use crate::mask::masked;
use crate::proto::padded;
use crate::wire::tcp as wire;

/// NONE.
pub const NONE: u8 = 0;
/// ESTABLISHED.
pub const ESTABLISHED: u8 = 1;
/// SYN_SENT.
pub const SYN_SENT: u8 = 2;
/// SYN_RECV.
pub const SYN_RECV: u8 = 3;
/// FIN_WAIT.
pub const FIN_WAIT: u8 = 4;
/// TIME_WAIT.
pub const TIME_WAIT: u8 = 5;
/// CLOSE.
pub const CLOSE: u8 = 6;
/// CLOSE_WAIT.
pub const CLOSE_WAIT: u8 = 7;
/// LAST_ACK.
pub const LAST_ACK: u8 = 8;
/// LISTEN.
pub const LISTEN: u8 = 9;
/// SYNACK (secure_tcp).
pub const SYNACK: u8 = 10;
/// Number of states.
pub const STATES: usize = 11;

/// Default timeout of each state in seconds.
pub const DEFAULT_SECS: [u32; STATES] = [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120];

/// Which packets a transition is about. IPVS's INPUT, OUTPUT and INPUT_ONLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// Client to server, replies are seen too (INPUT).
    Request = 0,
    /// Server to client (OUTPUT).
    Reply = 1,
    /// Client to server, replies bypass the director (INPUT_ONLY).
    RequestOnly = 2,
}

/// Row of the tables: first match of RST, SYN, FIN, ACK.
#[inline(always)]
pub fn event(flags: u8) -> Option<u8> {
    if flags & wire::RST != 0 {
        Some(3)
    } else if flags & wire::SYN != 0 {
        Some(0)
    } else if flags & wire::FIN != 0 {
        Some(1)
    } else if flags & wire::ACK != 0 {
        Some(2)
    } else {
        None
    }
}

/// The state after a packet. Without any of the four flags it is CLOSE, whatever it was.
///
/// `secure` chooses the table of a host under attack (`secure_tcp`).
#[inline(always)]
pub fn next(direction: Direction, flags: u8, state: u8, secure: bool) -> u8 {
    let Some(event) = event(flags) else {
        return CLOSE;
    };
    let row = usize::from(secure) * 12 + (direction as usize) * 4 + event as usize;
    TRANSITIONS
        .get(masked::<0x1ff>(row * 16 + (state & 15) as usize))
        .copied()
        .unwrap_or(CLOSE)
}

/// Whether connections in this state count as active.
#[inline(always)]
pub fn is_active(state: u8) -> bool {
    const ACTIVE: u32 = 1 << ESTABLISHED | 1 << SYN_SENT | 1 << SYN_RECV | 1 << SYNACK;
    ACTIVE >> (state & 15) & 1 != 0
}

/// Whether a handshake is going on.
#[inline(always)]
pub fn is_half_open(state: u8) -> bool {
    const HALF_OPEN: u32 = 1 << SYN_SENT | 1 << SYN_RECV | 1 << SYNACK;
    HALF_OPEN >> (state & 15) & 1 != 0
}

/// Half-open connections go first, then closing ones; established ones never.
#[inline(always)]
pub fn eviction_rank(state: u8) -> u8 {
    const HALF_OPEN: u32 = 1 << NONE | 1 << SYN_SENT | 1 << SYN_RECV | 1 << SYNACK | 1 << LISTEN;
    const CLOSING: u32 =
        1 << FIN_WAIT | 1 << TIME_WAIT | 1 << CLOSE | 1 << CLOSE_WAIT | 1 << LAST_ACK;
    let bit = 1u32 << (state & 15);
    (u32::from(HALF_OPEN & bit != 0) | u32::from(CLOSING & bit != 0) << 1) as u8
}

const ES: u8 = ESTABLISHED;
const SS: u8 = SYN_SENT;
const SR: u8 = SYN_RECV;
const FW: u8 = FIN_WAIT;
const TW: u8 = TIME_WAIT;
const CL: u8 = CLOSE;
const CW: u8 = CLOSE_WAIT;
const LA: u8 = LAST_ACK;
const LI: u8 = LISTEN;
const SA: u8 = SYNACK;

/// Rows: direction × event (syn, fin, ack, rst); columns: present state, padded to 16.
#[rustfmt::skip]
static TRANSITIONS: [u8; 512] = padded(CL, [
    //        NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
    /* IN  */
    /* syn */ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    /* fin */ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
    /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    /* rst */ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
    /* OUT */
    /* syn */ [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
    /* fin */ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    /* rst */ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    /* IN-ONLY */
    /* syn */ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
    /* fin */ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    /* rst */ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    // secure_tcp
    /* IN  */
    /* syn */ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
    /* fin */ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
    /* ack */ [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
    /* rst */ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    /* OUT */
    /* syn */ [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
    /* fin */ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
    /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
    /* rst */ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    /* IN-ONLY */
    /* syn */ [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
    /* fin */ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
    /* ack */ [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
    /* rst */ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::{ACK, FIN, RST, SYN};

    /// Observed on the kernel: direct routing, then NAT closes from either side.
    #[test]
    fn lives_of_connections_are_those_of_the_kernel() {
        use Direction::{Reply, Request, RequestOnly};
        let walk = |steps: &[(Direction, u8)]| {
            steps
                .iter()
                .fold(NONE, |state, &(dir, flags)| next(dir, flags, state, false))
        };
        let dr = [
            (RequestOnly, SYN),
            (RequestOnly, ACK),
            (RequestOnly, FIN | ACK),
        ];
        assert_eq!(walk(&dr[..1]), SYN_RECV);
        assert_eq!(walk(&dr[..2]), ESTABLISHED);
        assert_eq!(walk(&dr), FIN_WAIT);
        let client_first = [
            (Request, SYN),
            (Reply, SYN | ACK),
            (Request, ACK),
            (Request, FIN | ACK),
            (Reply, FIN | ACK),
            (Request, ACK),
        ];
        assert_eq!(walk(&client_first), TIME_WAIT);
        let refused = [(Request, SYN), (Reply, RST | ACK)];
        assert_eq!(walk(&refused), CLOSE);
        assert_eq!(next(RequestOnly, 0, ESTABLISHED, false), CLOSE);
        assert_eq!(next(RequestOnly, RST, SYN_RECV, false), SYN_RECV);
    }
}
