//! The real server's manners: VIPs that nobody learns of, and segments that fit through tunnels.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use aya::maps::HashMap;
use aya::programs::TcAttachType;
use aya::{Ebpf, EbpfLoader, Pod};
use pointsman_core::addr::{Address, Be32};
pub use pointsman_core::quiet::MAX_VIPS;
use pointsman_core::quiet::Manners;
use pointsman_core::realserver::mapped;

use crate::realserver::Role;
use crate::{Error, Interface, object};

const ARRIVES: Role = Role {
    program: "arrives",
    side: TcAttachType::Ingress,
    priority: 48,
};
const LEAVES: Role = Role {
    program: "leaves",
    side: TcAttachType::Egress,
    priority: 49,
};

/// What is wished for an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// ARP says nothing about VIPs.
    pub silent: bool,
    /// What ARP questions of this host name instead of a VIP; without it they are not asked.
    pub own: Option<Ipv4Addr>,
    /// Largest segment clients of VIPs are asked for over IPv4, in bytes.
    pub mss_v4: Option<u16>,
    /// The same over IPv6.
    pub mss_v6: Option<u16>,
}

/// The kernel's name for [`Manners`] as the value of a map.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Value(Manners);

// SAFETY: a plain struct without padding.
unsafe impl Pod for Value {}

/// The programs, loaded.
pub struct Quiet {
    ebpf: Ebpf,
    pins: PathBuf,
}

impl Quiet {
    /// Loads them for these VIPs, of which there may be [`MAX_VIPS`].
    ///
    /// # Errors
    /// `Error::Bpf` when the kernel refuses them.
    pub fn load(pin_dir: &Path, vips: &[IpAddr]) -> Result<Self, Error> {
        let mut ebpf = EbpfLoader::new()
            .load(object::realserver())
            .map_err(|e| Error::bpf("loading the eBPF object", e))?;
        for role in [ARRIVES, LEAVES] {
            role.program(&mut ebpf)
                .load()
                .map_err(|e| Error::bpf("loading the programs that keep VIPs quiet", e))?;
        }
        let mut known: HashMap<_, [u32; 4], u8> = table(&mut ebpf, "VIPS")?;
        for vip in vips {
            let key = match vip {
                IpAddr::V4(v4) => mapped(Be32::from_octets(v4.octets())),
                IpAddr::V6(v6) => Address::v6(v6.octets()).0,
            };
            known
                .insert(key, 1, 0)
                .map_err(|e| Error::bpf(format!("noting {vip}"), e))?;
        }
        let pins = pin_dir.to_owned();
        Ok(Self { ebpf, pins })
    }

    /// Attaches them to an interface, in place of what was there.
    ///
    /// # Errors
    /// [`Error::Interface`] when it cannot carry them.
    pub fn attach(&mut self, interface: &Interface, wish: &Wish) -> Result<(), Error> {
        let own = wish
            .own
            .map_or(Be32::from_raw(0), |own| Be32::from_octets(own.octets()));
        let manners = Manners {
            own: own.raw(),
            mss_v4: wish.mss_v4.unwrap_or(0),
            mss_v6: wish.mss_v6.unwrap_or(0),
            silent: wish.silent.into(),
        };
        table(&mut self.ebpf, "MANNERS")?
            .insert(interface.index, Value(manners), 0)
            .map_err(|e| Error::bpf(format!("noting {}", interface.name), e))?;
        // Outgoing first, so that nothing is said by the time that nothing is answered.
        LEAVES.attach(&mut self.ebpf, &self.pins, interface)?;
        ARRIVES.attach(&mut self.ebpf, &self.pins, interface)
    }

    /// How many instructions the kernel's verifier looked at for each program.
    pub fn verified_instructions(&self) -> Vec<(String, u32)> {
        object::verified_instructions(&self.ebpf)
    }
}

fn table<'a, K: Pod, V: Pod>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Result<HashMap<&'a mut aya::maps::MapData, K, V>, Error> {
    let map = ebpf.map_mut(name).expect("the object has it");
    HashMap::try_from(map).map_err(|e| Error::bpf(format!("the map {name}"), e))
}

/// Names of interfaces they are attached to.
pub fn attached(pin_dir: &Path) -> Vec<String> {
    let mut names = ARRIVES.attached(pin_dir);
    let out = LEAVES.attached(pin_dir);
    names.retain(|name| out.contains(name));
    names
}

/// Removes them everywhere.
///
/// # Errors
/// A pin that cannot be removed.
pub fn detach_all(pin_dir: &Path) -> Result<(), Error> {
    ARRIVES.detach_all(pin_dir)?;
    LEAVES.detach_all(pin_dir)
}
