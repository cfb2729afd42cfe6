//! SCTP as IPVS follows it: by the type of a packet's first chunk
//! (`Linux net/netfilter/ipvs/ip_vs_proto_sctp.c`).

use crate::mask::masked;
use crate::proto::{padded, tcp::Direction};

/// NONE.
pub const NONE: u8 = 0;
/// INIT1: first INIT.
pub const INIT1: u8 = 1;
/// INIT: repeated INIT.
pub const INIT: u8 = 2;
/// COOKIE_SENT: INIT-ACK by the server.
pub const COOKIE_SENT: u8 = 3;
/// COOKIE_REPLIED: COOKIE-ECHO by the client.
pub const COOKIE_REPLIED: u8 = 4;
/// COOKIE_WAIT: INIT by the server.
pub const COOKIE_WAIT: u8 = 5;
/// COOKIE: INIT-ACK by the client.
pub const COOKIE: u8 = 6;
/// COOKIE_ECHOED.
pub const COOKIE_ECHOED: u8 = 7;
/// ESTABLISHED.
pub const ESTABLISHED: u8 = 8;
/// SHUTDOWN_SENT.
pub const SHUTDOWN_SENT: u8 = 9;
/// SHUTDOWN_RECEIVED.
pub const SHUTDOWN_RECEIVED: u8 = 10;
/// SHUTDOWN_ACK_SENT.
pub const SHUTDOWN_ACK_SENT: u8 = 11;
/// REJECTED.
pub const REJECTED: u8 = 12;
/// CLOSED.
pub const CLOSED: u8 = 13;
/// Number of states.
pub const STATES: usize = 14;

/// Default timeout of each state in seconds.
pub const DEFAULT_SECS: [u32; STATES] = [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61];

/// Event: data and everything that changes nothing.
pub const DATA: u8 = 0;
/// Event: INIT.
pub const EVENT_INIT: u8 = 1;
/// Event: ABORT.
pub const EVENT_ABORT: u8 = 9;

/// Row of the tables for the type of a packet's first chunk (RFC 9260 §3.2).
#[inline(always)]
pub fn event(chunk: u8) -> u8 {
    // Four bits a type, types 0 to 15.
    const EVENTS: u64 = 0x0700_4386_5900_0210;
    if chunk > 15 {
        return DATA;
    }
    (EVENTS >> (u32::from(chunk) * 4)) as u8 & 15
}

/// The state after a packet.
#[inline(always)]
pub fn next(direction: Direction, event: u8, state: u8) -> u8 {
    let row = (direction as usize) * 10 + (event & 15) as usize;
    TRANSITIONS
        .get(masked::<0x1ff>(row * 16 + (state & 15) as usize))
        .copied()
        .unwrap_or(CLOSED)
}

/// Associations being set up go first, then closing ones; established ones never.
#[inline(always)]
pub fn eviction_rank(state: u8) -> u8 {
    if state == ESTABLISHED {
        0
    } else if state < ESTABLISHED {
        1
    } else {
        2
    }
}

const I1: u8 = INIT1;
const IN: u8 = INIT;
const CS: u8 = COOKIE_SENT;
const CR: u8 = COOKIE_REPLIED;
const CW: u8 = COOKIE_WAIT;
const CO: u8 = COOKIE;
const CE: u8 = COOKIE_ECHOED;
const ES: u8 = ESTABLISHED;
const SS: u8 = SHUTDOWN_SENT;
const SR: u8 = SHUTDOWN_RECEIVED;
const SA: u8 = SHUTDOWN_ACK_SENT;
const RJ: u8 = REJECTED;
const CL: u8 = CLOSED;

/// Rows: direction × event (data, init, init-ack, cookie-echo, cookie-ack, shutdown, shutdown-ack,
/// shutdown-complete, error, abort); columns: present state, padded to 16.
#[rustfmt::skip]
static TRANSITIONS: [u8; 512] = padded(CL, [
    //        NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
    /* IN  */
    /* d   */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* i   */ [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN],
    /* ia  */ [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ce  */ [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ca  */ [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL],
    /* s   */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    /* sa  */ [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL],
    /* sc  */ [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL],
    /* e   */ [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL],
    /* ab  */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
    /* OUT */
    /* d   */ [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* i   */ [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
    /* ia  */ [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ce  */ [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
    /* ca  */ [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
    /* s   */ [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
    /* sa  */ [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
    /* sc  */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* e   */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ab  */ [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
    /* IN-ONLY */
    /* d   */ [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* i   */ [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
    /* ia  */ [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ce  */ [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ca  */ [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
    /* s   */ [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
    /* sa  */ [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
    /* sc  */ [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
    /* e   */ [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
    /* ab  */ [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_types_are_events_of_ipvs() {
        let events: [(u8, u8); 17] = [
            (0, 0),
            (1, 1),
            (2, 2),
            (3, 0),
            (4, 0),
            (5, 0),
            (6, 9),
            (7, 5),
            (8, 6),
            (9, 8),
            (10, 3),
            (11, 4),
            (12, 0),
            (13, 0),
            (14, 7),
            (15, 0),
            (200, 0),
        ];
        for (chunk, expected) in events {
            assert_eq!(event(chunk), expected, "chunk {chunk}");
        }
    }

    /// Observed on the kernel: an association by NAT, opened and closed by the client.
    #[test]
    fn an_association_opens_and_closes() {
        use Direction::{Reply, Request};
        let mut state = NONE;
        let mut step = |direction, chunk| {
            state = next(direction, event(chunk), state);
            state
        };
        assert_eq!(step(Request, 1), INIT1);
        assert_eq!(step(Reply, 2), COOKIE_SENT);
        assert_eq!(step(Request, 10), COOKIE_REPLIED);
        assert_eq!(step(Reply, 11), ESTABLISHED);
        assert_eq!(step(Request, 0), ESTABLISHED);
        assert_eq!(step(Request, 7), SHUTDOWN_RECEIVED);
        assert_eq!(step(Reply, 8), SHUTDOWN_ACK_SENT);
        assert_eq!(step(Request, 14), CLOSED);
    }
}
