//! Gratuitous ARP and unsolicited neighbour advertisements: whoever held the address before, packets
//! come here now.
//!
//! Frames are written whole and sent by a packet socket, so that an address announces itself
//! whatever state the kernel has it in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::packet::{fold, sum};

const BROADCAST: [u8; 6] = [0xff; 6];
/// Ethernet address of ff02::1.
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;

/// The frame that announces `ip` at `mac`; `router`: this host forwards IPv6 there.
pub fn frame(ip: IpAddr, mac: [u8; 6], router: bool) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => gratuitous_arp(ip, mac),
        IpAddr::V6(ip) => neighbour_advertisement(ip, mac, router),
    }
}

/// A request that asks for and comes from the same address, as keepalived sends it.
fn gratuitous_arp(ip: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend([0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(ip.octets());
    frame.extend(BROADCAST);
    frame.extend(ip.octets());
    frame.resize(60, 0);
    frame
}

/// RFC 4861 §4.4, sent to all nodes.
fn neighbour_advertisement(ip: Ipv6Addr, mac: [u8; 6], router: bool) -> Vec<u8> {
    let flags = FLAG_OVERRIDE | if router { FLAG_ROUTER } else { 0 };
    let mut icmp = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    icmp.extend(ip.octets());
    icmp.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    icmp.extend(mac);
    let pseudo =
        sum(&ip.octets(), 0) + sum(&ALL_NODES.octets(), 0) + icmp.len() as u32 + u32::from(ICMPV6);
    let checksum = !fold(sum(&icmp, pseudo));
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.extend([0x6c, 0, 0, 0]);
    frame.extend((icmp.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(ip.octets());
    frame.extend(ALL_NODES.octets());
    frame.extend(icmp);
    frame
}

fn ethernet(destination: [u8; 6], source: [u8; 6], kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(86);
    frame.extend(destination);
    frame.extend(source);
    frame.extend(kind.to_be_bytes());
    frame
}

/// Sends frames; receives none.
#[derive(Debug)]
pub struct Announcer(OwnedFd);

impl Announcer {
    /// A packet socket of the calling thread's network namespace.
    ///
    /// # Errors
    /// What the system said.
    pub fn open() -> io::Result<Self> {
        // SAFETY: no memory is passed; protocol 0 takes no packets.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends a frame out of interface `index`.
    ///
    /// # Errors
    /// What the system said.
    pub fn send(&self, index: u32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all zeros is a valid address.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = index as i32;
        // SAFETY: both pointers are valid for the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                std::ptr::from_ref(&to).cast(),
                size_of_val(&to) as libc::socklen_t,
            )
        };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];

    #[test]
    fn a_gratuitous_arp_asks_for_itself() {
        let frame = frame("10.0.0.1".parse().unwrap(), MAC, false);
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[..6], BROADCAST);
        assert_eq!(frame[20..22], [0, 1]);
        assert_eq!(frame[22..28], MAC);
        assert_eq!(frame[28..32], frame[38..42]);
    }

    #[test]
    fn a_neighbour_advertisement_sums_up() {
        let ip: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let frame = frame(ip.into(), MAC, true);
        let icmp = &frame[54..];
        assert_eq!(icmp[4], 0xa0);
        let pseudo = sum(&ip.octets(), 0) + sum(&ALL_NODES.octets(), 0) + 32 + 58;
        assert_eq!(fold(sum(icmp, pseudo)), 0xffff);
    }
}
