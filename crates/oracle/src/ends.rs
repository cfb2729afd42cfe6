//! The far ends of the director's two cables: every client and every real server, by hand.
//!
//! No network stack lives there. Frames are sent and received raw; who is asked for (ARP, neighbour
//! solicitation) answers with a hardware address of its own, by which a frame's receiver is known
//! whatever the forwarding method. Nothing waits for a time: a packet sent is followed by echo
//! requests to the director on both cables, and what the director made of it lies before their
//! answers.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use pointsman_testkit::frames::{ARP, Ethernet, IPV4, Mac};
use pointsman_testkit::{FrameSocket, Netns};

use crate::names::{self, DIRECTOR, PROBER, Side};
use crate::packet::{Body, Packet};

const IPV6: u16 = 0x86dd;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// How long an answer to an echo request may take on a slow, busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A packet that came out of the director.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// On which cable.
    pub side: Side,
    /// To whom the frame was sent.
    pub to: Mac,
    /// What it carries.
    pub packet: Packet,
}

impl Arrival {
    /// `rs3: c1:1024 > rs3:80 tcp S ttl 63`.
    pub fn describe(&self) -> String {
        format!("{}: {}", names::owner(self.to), self.packet.describe())
    }
}

/// Both far ends.
pub struct Ends {
    sockets: [FrameSocket; 2],
    director: [Mac; 2],
    probes: u32,
    /// Whether an address was asked for since last looked at: something may have waited for it.
    answered: bool,
}

impl Ends {
    /// Takes over interfaces `client` and `server` of `far`, cabled to `eth0` and `eth1` of
    /// `director`.
    pub fn new(far: &Netns, director: &Netns) -> Result<Self> {
        Ok(Self {
            sockets: [
                FrameSocket::open(far, "client")?,
                FrameSocket::open(far, "server")?,
            ],
            director: [director.mac("eth0")?, director.mac("eth1")?],
            probes: 0,
            answered: false,
        })
    }

    /// Sends IP packets on one cable, and returns what came out of the director until it had
    /// nothing left to do.
    pub fn exchange(&mut self, side: Side, packets: &[Vec<u8>]) -> Result<Vec<Arrival>> {
        for packet in packets {
            let ethertype = if packet[0] >> 4 == 6 { IPV6 } else { IPV4 };
            self.send(side, names::sender(side, packet), ethertype, packet)?;
        }
        let mut arrivals = Vec::new();
        self.settle(side, &mut arrivals)?;
        Ok(arrivals)
    }

    /// The same for a while, which nothing is sent in.
    pub fn idle(&mut self, duration: Duration) -> Result<Vec<Arrival>> {
        let end = Instant::now() + duration;
        let mut arrivals = Vec::new();
        while Instant::now() < end {
            for side in [Side::Client, Side::Server] {
                if let Some(frame) = self.receive(side)? {
                    arrivals.push(frame);
                }
            }
        }
        self.settle(Side::Client, &mut arrivals)?;
        Ok(arrivals)
    }

    /// Until both cables are quiet, and nobody was asked for meanwhile.
    fn settle(&mut self, side: Side, arrivals: &mut Vec<Arrival>) -> Result<()> {
        for _ in 0..8 {
            self.answered = false;
            // The first again at last: what a native XDP program sent back is let go only when its
            // batch ends, and may come behind the first echo.
            for side in [side, side.other(), side] {
                self.probe(side, arrivals)?;
            }
            if !self.answered {
                return Ok(());
            }
        }
        bail!("the director goes on asking for addresses")
    }

    /// An echo request to the director, and everything up to its answer.
    fn probe(&mut self, side: Side, arrivals: &mut Vec<Arrival>) -> Result<()> {
        self.probes += 1;
        let echo = Body::Icmp {
            kind: ECHO_REQUEST,
            code: 0,
            rest: self.probes,
            about: None,
        };
        let prober = names::host(side, PROBER, false);
        let packet = Packet::new(prober, names::host(side, DIRECTOR, false), echo);
        let (_, mac) = names::mac(prober).expect("the prober is a host");
        self.send(side, mac, IPV4, &packet.emit())?;
        let limit = Instant::now() + PATIENCE;
        while Instant::now() < limit {
            let Some(arrival) = self.receive(side)? else {
                continue;
            };
            match arrival.packet.body {
                Body::Icmp {
                    kind: ECHO_REPLY,
                    rest,
                    ..
                } if arrival.to == mac => {
                    if rest == self.probes {
                        return Ok(());
                    }
                }
                _ => arrivals.push(arrival),
            }
        }
        bail!("the director does not answer on its {side:?} side")
    }

    fn send(&self, side: Side, source: Mac, ethertype: u16, packet: &[u8]) -> Result<()> {
        let ethernet = Ethernet {
            destination: self.director[side as usize],
            source,
            vlan: None,
        };
        Ok(self.sockets[side as usize].send(&ethernet.frame(ethertype, packet))?)
    }

    /// The next packet, after a moment `None`; who is asked for has answered by then.
    fn receive(&mut self, side: Side) -> Result<Option<Arrival>> {
        while let Some(seen) = self.sockets[side as usize].receive() {
            if seen.outgoing || seen.frame.len() < 14 {
                continue;
            }
            let to: Mac = seen.frame[0..6].try_into().expect("six bytes");
            let ethertype = u16::from_be_bytes([seen.frame[12], seen.frame[13]]);
            let payload = &seen.frame[14..];
            if ethertype == ARP {
                self.answer_arp(side, payload)?;
                continue;
            }
            if ethertype == IPV6 && payload.get(6) == Some(&58) {
                match payload.get(40) {
                    Some(&NEIGHBOUR_SOLICITATION) => {
                        self.answer_solicitation(side, payload)?;
                        continue;
                    }
                    // Router solicitations, multicast reports and the like.
                    Some(130..=143) => continue,
                    _ => {}
                }
            }
            // Multicast listener reports have an option before the ICMP.
            if to[0] == 0x33 {
                continue;
            }
            if let Some(packet) = Packet::read(payload) {
                return Ok(Some(Arrival { side, to, packet }));
            }
        }
        Ok(None)
    }

    fn answer_arp(&mut self, side: Side, arp: &[u8]) -> Result<()> {
        let Some(&[_, _, _, _, _, _, 0, 1]) = arp.get(..8) else {
            return Ok(());
        };
        let Some(target) = arp.get(24..28) else {
            return Ok(());
        };
        let target = <[u8; 4]>::try_from(target).expect("four bytes");
        let Some((_, mac)) = names::mac(target.into()).filter(|(lives, _)| *lives == side) else {
            return Ok(());
        };
        let mut reply = vec![0, 1, 8, 0, 6, 4, 0, 2];
        reply.extend(mac);
        reply.extend(target);
        reply.extend(&arp[8..18]);
        self.answered = true;
        self.send(side, mac, ARP, &reply)
    }

    fn answer_solicitation(&mut self, side: Side, packet: &[u8]) -> Result<()> {
        let Some(bytes) = packet.get(48..64) else {
            return Ok(());
        };
        let target: IpAddr = <[u8; 16]>::try_from(bytes).expect("sixteen bytes").into();
        let asker: IpAddr = <[u8; 16]>::try_from(&packet[8..24])
            .expect("sixteen bytes")
            .into();
        let Some((_, mac)) = names::mac(target).filter(|(lives, _)| *lives == side) else {
            return Ok(());
        };
        // Solicited, override; the target's hardware address.
        let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, 0x60, 0, 0, 0];
        message.extend(bytes);
        message.extend([2, 1]);
        message.extend(mac);
        let pseudo = crate::packet::pseudo_header(target, asker, 58, message.len());
        let sum = pointsman_testkit::frames::checksum(&[&pseudo, &message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut reply = vec![0x60, 0, 0, 0, 0, message.len() as u8, 58, 255];
        reply.extend(bytes);
        reply.extend(&packet[8..24]);
        reply.extend(message);
        self.answered = true;
        self.send(side, mac, IPV6, &reply)
    }
}
