//! Every reason for which a packet is dropped: its counter, its name, its meaning.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $meaning:literal;)*) => {
        /// Why a packet was dropped. The number is the index of the counter.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Drop {
            $($(#[$doc])* #[doc = $meaning] $variant = $number,)*
        }

        impl Drop {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The reason with this number.
            #[inline(always)]
            pub fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// Stable name for machines.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it means, for people.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

reasons! {
    MalformedIp = 1, "malformed-ip", "IP header truncated, of another version, or longer than the frame";
    MalformedTransport = 2, "malformed-transport", "transport header to a VIP is truncated or impossible";
    Fragment = 3, "fragment", "fragment to a VIP whose first fragment never came";
    NoDestination = 4, "no-destination", "no real server takes new connections; the client was told by ICMP";
    ServerRemoved = 5, "server-removed", "packet of a connection whose real server was removed";
    NeighbourDead = 6, "neighbour-dead", "the next hop to the real server does not answer ARP";
    NoRoute = 7, "no-route", "no route to the real server or client";
    TtlExceeded = 8, "ttl-exceeded", "time to live ran out; the sender was told by ICMP";
    TooBig = 9, "too-big", "DF set and larger than the path takes; the sender was told by ICMP";
    NeedsFragmentation = 10, "needs-fragmentation", "larger than the path takes, without DF, on a hook that cannot fragment";
    TableFull = 11, "table-full", "no slot for a new connection could be freed";
    TupleBusy = 12, "tuple-busy", "another connection of this client to the same real server uses the same ports";
    NoTunnelSource = 13, "no-tunnel-source", "the source address for the tunnel is not known yet";
    Headroom = 14, "headroom", "the frame could not be made larger or smaller";
    SlotReused = 15, "slot-reused", "the connection's slot was taken over while the packet was being handled";
    DropRate = 17, "drop-rate", "new connection given up under pressure (drop_packet)";
    NoCallId = 18, "no-call-id", "packet of a service with the sip engine has no Call-ID";
    NoConnection = 20, "no-connection", "packet of a real server by NAT without a connection; the server was told by ICMP";
    NoLocalAddress = 19, "no-local-address", "the service has no local address of the family of a real server by FULLNAT";
    LocalPortsExhausted = 21, "local-ports-exhausted", "all local addresses have no port left to a real server by FULLNAT";
    ClientAddress = 22, "client-address", "packet by FULLNAT that cannot be forwarded with its client's address told";
    Internal = 16, "internal", "a table entry that must exist was missing: please report";
}

const _: () = {
    let mut i = 0;
    while i < Drop::ALL.len() {
        assert!((Drop::ALL[i] as u32) < crate::layout::DROP_SLOTS);
        i += 1;
    }
};
