use serde::{Deserialize, Serialize};

/// Totals of a real server, a service, or the whole director. Bytes count from the IP header on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Connections scheduled.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients seen by the director.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients seen by the director.
    pub out_bytes: u64,
}

impl Counters {
    /// Field-wise sum, wrapping.
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }

    /// Field-wise difference, never below zero.
    pub fn since(self, earlier: Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            conns: f(self.conns, other.conns),
            in_packets: f(self.in_packets, other.in_packets),
            out_packets: f(self.out_packets, other.out_packets),
            in_bytes: f(self.in_bytes, other.in_bytes),
            out_bytes: f(self.out_bytes, other.out_bytes),
        }
    }
}

/// Smoothed rates per second; byte rates are bytes, not bits, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Connections per second.
    pub cps: u64,
    /// Packets from clients per second.
    pub in_pps: u64,
    /// Packets to clients per second.
    pub out_pps: u64,
    /// Bytes from clients per second.
    pub in_bps: u64,
    /// Bytes to clients per second.
    pub out_bps: u64,
}

/// IPVS's estimator in the kernel's fixed-point arithmetic
/// (`Linux net/netfilter/ipvs/ip_vs_est.c`): rates are a moving average that takes a quarter of each
/// two-second step. Counts are scaled by 2^10, bytes by 2^5. Totals are those of the last step, so
/// that both tell of the same moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateEstimator {
    last: Counters,
    cps: u64,
    in_pps: u64,
    out_pps: u64,
    in_bps: u64,
    out_bps: u64,
}

impl RateEstimator {
    /// Starts from present totals with all rates zero.
    pub fn starting_at(totals: Counters) -> Self {
        Self {
            last: totals,
            ..Self::default()
        }
    }

    /// Totals at the last step.
    pub fn totals(&self) -> Counters {
        self.last
    }

    /// Takes the totals of now; call it every two seconds.
    pub fn step(&mut self, totals: Counters) {
        fn smooth(est: &mut u64, increment: u64, shift: u32) {
            let rate = (increment << shift) as i64;
            *est = (*est as i64).wrapping_add(rate.wrapping_sub(*est as i64) >> 2) as u64;
        }
        let delta = totals.since(self.last);
        self.last = totals;
        smooth(&mut self.cps, delta.conns, 9);
        smooth(&mut self.in_pps, delta.in_packets, 9);
        smooth(&mut self.out_pps, delta.out_packets, 9);
        smooth(&mut self.in_bps, delta.in_bytes, 4);
        smooth(&mut self.out_bps, delta.out_bytes, 4);
    }

    /// The rates as listings show them.
    pub fn rates(&self) -> Rates {
        let count = |est: u64| (est + 0x1ff) >> 10;
        let bytes = |est: u64| (est + 0xf) >> 5;
        Rates {
            cps: count(self.cps),
            in_pps: count(self.in_pps),
            out_pps: count(self.out_pps),
            in_bps: bytes(self.in_bps),
            out_bps: bytes(self.out_bps),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decay the kernel showed after one burst of 15 packets and 804 bytes.
    #[test]
    fn a_burst_decays_as_in_the_kernel() {
        let burst = Counters {
            in_packets: 15,
            in_bytes: 804,
            ..Counters::default()
        };
        let mut est = RateEstimator::default();
        let mut pps = Vec::new();
        let mut bps = Vec::new();
        for _ in 0..8 {
            est.step(burst);
            pps.push(est.rates().in_pps);
            bps.push(est.rates().in_bps);
        }
        assert_eq!(pps, [2, 1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(bps, [100, 75, 57, 42, 32, 24, 18, 13]);
    }
}
