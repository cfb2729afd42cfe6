//! What can be heard on a segment: who answers for an address, and who sends VRRP.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pointsman_dataplane::Interface;
use pointsman_model::Family;
use pointsman_vrrp::packet::{Ipv4, Message, VRRP};

/// How long is listened: more than two of VRRP's default intervals.
const LISTEN: Duration = Duration::from_millis(2500);
const ETH_P_ALL: u16 = 3;
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const ICMPV6: u8 = 58;
/// Length of the trailer that signs an advert, and where its clock lies.
const TRAILER: usize = 28;

/// An address, and the link-layer address of somebody else who answers for it.
pub type Claim = (IpAddr, [u8; 6]);

/// A VRRP advert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Advert {
    /// Virtual router.
    pub vrid: u8,
    /// Who sent it.
    pub source: IpAddr,
    /// Addresses it names.
    pub vips: Vec<IpAddr>,
    /// Seconds by which the sender's clock is ahead of ours, where a signed advert tells.
    pub ahead_secs: Option<i64>,
}

/// What was heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Who answers for the addresses asked for, this host apart.
    pub claims: BTreeSet<Claim>,
    /// Who advertises, this host too.
    pub adverts: BTreeSet<Advert>,
}

/// Asks for `vips` on an interface and listens.
///
/// # Errors
/// Without root.
pub fn listen(interface: &Interface, own: Option<Ipv4Addr>, vips: &[IpAddr]) -> io::Result<Heard> {
    let socket = open(interface.index)?;
    for vip in vips {
        let frame = match *vip {
            IpAddr::V4(vip) => who_has(interface.mac, own.unwrap_or(Ipv4Addr::UNSPECIFIED), vip),
            IpAddr::V6(vip) => solicit(interface.mac, vip),
        };
        // SAFETY: the frame is as long as is said.
        let sent = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let mut heard = Heard::default();
    let end = Instant::now() + LISTEN;
    let mut buffer = [0; 2048];
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let Some(len) = receive(&socket, &mut buffer, left)? else {
            continue;
        };
        take(&buffer[..len], interface.mac, vips, &mut heard);
    }
    Ok(heard)
}

fn open(interface: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            i32::from(ETH_P_ALL.to_be()),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeros is a valid address.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = ETH_P_ALL.to_be();
    to.sll_ifindex = interface as i32;
    // SAFETY: the pointer is valid for the length given.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&to).cast(),
            size_of_val(&to) as libc::socklen_t,
        )
    };
    if bound < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(socket)
    }
}

/// One frame, or `None` when none came for a while.
fn receive(socket: &OwnedFd, buffer: &mut [u8], limit: Duration) -> io::Result<Option<usize>> {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1);
    // SAFETY: one descriptor, as is said.
    if unsafe { libc::poll(&raw mut poll, 1, limit) } <= 0 {
        return Ok(None);
    }
    // SAFETY: the buffer is as long as is said.
    let len = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
        )
    };
    match usize::try_from(len) {
        Ok(len) => Ok(Some(len)),
        Err(_) => match io::Error::last_os_error() {
            error
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            error => Err(error),
        },
    }
}

fn take(frame: &[u8], own: [u8; 6], vips: &[IpAddr], heard: &mut Heard) {
    if let Some((address, mac)) = answer(frame)
        && mac != own
        && vips.contains(&address)
    {
        heard.claims.insert((address, mac));
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    heard.adverts.extend(advert(frame, now));
}

/// An ARP reply, or a neighbour advertisement.
fn answer(frame: &[u8]) -> Option<Claim> {
    let kind = frame.get(12..14)?;
    if kind == ARP {
        let arp = frame.get(14..42)?;
        let address: [u8; 4] = arp[14..18].try_into().ok()?;
        return (arp[6..8] == [0, 2]).then_some((address.into(), arp[8..14].try_into().ok()?));
    }
    if kind == IPV6 && frame.get(20) == Some(&ICMPV6) {
        let message = frame.get(54..78)?;
        let address: [u8; 16] = message[8..24].try_into().ok()?;
        let source = frame.get(6..12)?.try_into().ok()?;
        return (message[0] == NEIGHBOUR_ADVERTISEMENT).then_some((address.into(), source));
    }
    None
}

fn advert(frame: &[u8], now: Duration) -> Option<Advert> {
    let kind = frame.get(12..14)?;
    let packet = frame.get(14..)?;
    let (source, message): (IpAddr, Message<'_>) = if kind == IPV4 {
        let header = Ipv4::new_checked(packet).ok()?;
        if header.protocol() != VRRP {
            return None;
        }
        let message = Message::new_checked(header.payload(), Family::V4).ok()?;
        (header.source().into(), message)
    } else if kind == IPV6 && packet.get(6) == Some(&VRRP) {
        let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
        let message = Message::new_checked(packet.get(40..)?, Family::V6).ok()?;
        (source.into(), message)
    } else {
        return None;
    };
    let trailer = message
        .rest()
        .get(..TRAILER)
        .filter(|trailer| trailer[0] == 1 && trailer[2..4] == [0, 0]);
    let ahead_secs = trailer.and_then(|trailer| {
        let theirs = u32::from_be_bytes(trailer[4..8].try_into().ok()?);
        // Both are the low 32 bits of seconds.
        Some(i64::from(theirs.wrapping_sub(now.as_secs() as u32) as i32))
    });
    Some(Advert {
        vrid: message.vrid(),
        source,
        vips: message.addresses().collect(),
        ahead_secs,
    })
}

fn who_has(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &mac, &ARP, &[0, 1, 8, 0, 6, 4, 0, 1]].concat();
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// RFC 4861 §4.3, from the link-local address that belongs to the link-layer address.
fn solicit(mac: [u8; 6], target: Ipv6Addr) -> Vec<u8> {
    let [a, b, c, d, e, f] = mac;
    let source = Ipv6Addr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ]);
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]);
    let mut icmp = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    icmp.extend(target.octets());
    icmp.extend([1, 1]);
    icmp.extend(mac);
    let mut sum = u32::from(ICMPV6) + icmp.len() as u32;
    for pair in source
        .octets()
        .iter()
        .chain(&group.octets())
        .chain(&icmp)
        .copied()
        .collect::<Vec<_>>()
        .chunks(2)
    {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    icmp[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let mut frame = [
        &[0x33, 0x33, 0xff, x, y, z][..],
        &mac,
        &IPV6,
        &[0x60, 0, 0, 0],
    ]
    .concat();
    frame.extend((icmp.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(icmp);
    frame
}
