//! The real server's side of FULLNAT: `accept` and `getpeername` answer with the client's address.
//!
//! The programs sit at the root of the cgroup hierarchy, where every process of the machine is below,
//! and count only for one network namespace.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::links::{FdLink, LinkError};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Program, ProgramError, SockOps};
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use pointsman_core::addr::{Address, Be32};
use pointsman_core::realserver::{Claim, MAX_DIRECTORS, mapped};

use crate::attach::drop_link;
use crate::realserver::Count;
use crate::{Error, object};

const COUNTERS: &str = "CLAIMS";
const CLIENTS: &str = "CLIENTS";
const REMEMBER: &str = "remember";
const PEERS: [&str; 2] = ["peer4", "peer6"];
/// Links go by no other; beside each other there may be any number of them.
const MODE: CgroupAttachMode = CgroupAttachMode::Single;
/// Pins of links, by program.
const PREFIX: &str = "toa-";

/// The programs that recover the client's address, loaded.
pub struct ClientReader {
    ebpf: Ebpf,
    pins: PathBuf,
}

impl ClientReader {
    /// Loads them for the network namespace of this cookie. Only connections from `directors` (their
    /// local addresses) may name a client; anybody's if empty. Counters and what is known of
    /// connections are pinned in `pin_dir`, or taken over from there.
    ///
    /// # Errors
    /// `Error::Bpf` when the kernel refuses them.
    ///
    /// # Panics
    /// With more directors than there is room for.
    pub fn load(pin_dir: &Path, netns_cookie: u64, directors: &[IpNet]) -> Result<Self, Error> {
        let mut words = [0u32; 8 * MAX_DIRECTORS];
        for (place, director) in directors.iter().enumerate() {
            words[8 * place..][..4].copy_from_slice(&wide(director.network(), [0, 0, V4_MAPPED]));
            words[8 * place + 4..][..4].copy_from_slice(&wide(director.netmask(), [u32::MAX; 3]));
        }
        let count = directors.len() as u32;
        let mut ebpf = EbpfLoader::new()
            .override_global("NETNS_COOKIE", &netns_cookie, true)
            .override_global("LOCAL_ADDRESSES", &words[..], true)
            .override_global("LOCAL_ADDRESS_COUNT", &count, true)
            .map_pin_path(COUNTERS, pin_dir.join(COUNTERS))
            .map_pin_path(CLIENTS, pin_dir.join(CLIENTS))
            .load(object::toa())
            .map_err(|e| Error::bpf("loading the eBPF object", e))?;
        let fail = |e: ProgramError| Error::bpf("loading the reader of client addresses", e);
        for name in PEERS {
            peer(&mut ebpf, name).load().map_err(fail)?;
        }
        remember(&mut ebpf).load().map_err(fail)?;
        let pins = pin_dir.to_owned();
        Ok(Self { ebpf, pins })
    }

    /// Puts them to work in place of those of an earlier call; they outlive this process.
    ///
    /// # Errors
    /// `Error::Unsupported` without a cgroup v2 hierarchy, else what the kernel refuses.
    pub fn attach(&mut self) -> Result<(), Error> {
        let cgroup = cgroup_root()?;
        let fail = |e: ProgramError| Error::bpf("attaching the reader of client addresses", e);
        let mut links: Vec<(&str, FdLink)> = Vec::new();
        let no_link = |e: LinkError| Error::bpf("the link of a program", e);
        // Those that answer first: what is remembered is of use at once.
        for name in PEERS {
            let program = peer(&mut self.ebpf, name);
            let id = program.attach(&cgroup, MODE).map_err(fail)?;
            let link = program.take_link(id).map_err(fail)?;
            links.push((name, link.try_into().map_err(no_link)?));
        }
        let program = remember(&mut self.ebpf);
        let id = program.attach(&cgroup, MODE).map_err(fail)?;
        let link = program.take_link(id).map_err(fail)?;
        links.push((REMEMBER, link.try_into().map_err(no_link)?));
        for (name, link) in links {
            let pin = pin_of(&self.pins, name);
            drop_link(&pin);
            let pinned = link
                .pin(&pin)
                .map_err(|e| Error::bpf(format!("pinning {}", pin.display()), e))?;
            // Dropping it would leave the pin, too; the descriptor is of no more use.
            drop(pinned);
        }
        Ok(())
    }

    /// How many instructions the kernel's verifier looked at for each program.
    pub fn verified_instructions(&self) -> Vec<(String, u32)> {
        object::verified_instructions(&self.ebpf)
    }
}

fn peer<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut CgroupSockAddr {
    match ebpf.program_mut(name) {
        Some(Program::CgroupSockAddr(program)) => program,
        _ => unreachable!("the object has it"),
    }
}

fn remember(ebpf: &mut Ebpf) -> &mut SockOps {
    match ebpf.program_mut(REMEMBER) {
        Some(Program::SockOps(program)) => program,
        _ => unreachable!("the object has it"),
    }
}

const V4_MAPPED: u32 = 0xffff_u32.to_be();

/// An address among IPv6 addresses; `prefix` is what stands before an IPv4 address.
fn wide(address: IpAddr, prefix: [u32; 3]) -> [u32; 4] {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c] = prefix;
            [a, b, c, mapped(Be32::from_octets(v4.octets()))[3]]
        }
        IpAddr::V6(v6) => Address::v6(v6.octets()).0,
    }
}

/// What became of connections that may name a client, since the programs were first loaded with these
/// pins.
///
/// # Errors
/// `Error::Bpf` when the counters cannot be read; they are missing where nothing was loaded.
pub fn counts(pin_dir: &Path) -> Result<Vec<Count>, Error> {
    let fail = |e: aya::maps::MapError| Error::bpf("reading the counters of client addresses", e);
    let map = MapData::from_pin(pin_dir.join(COUNTERS)).map_err(fail)?;
    let map = PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(map)).map_err(fail)?;
    let count = |claim: Claim| {
        let of_cpus = map.get(&(claim as u32), 0).map_err(fail)?;
        Ok(Count {
            name: claim.name(),
            packets: of_cpus.iter().sum(),
        })
    };
    Claim::ALL.into_iter().map(count).collect()
}

/// True when the programs are in place.
pub fn is_attached(pin_dir: &Path) -> bool {
    PEERS
        .into_iter()
        .chain([REMEMBER])
        .all(|name| pin_of(pin_dir, name).exists())
}

/// Removes them; servers see the director's addresses again, of connections that stand, too.
///
/// # Errors
/// A pin that cannot be removed.
pub fn detach(pin_dir: &Path) -> Result<(), Error> {
    for name in [REMEMBER].into_iter().chain(PEERS) {
        drop_link(&pin_of(pin_dir, name));
    }
    for map in [COUNTERS, CLIENTS] {
        let path = pin_dir.join(map);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::os(format!("removing {}", path.display()), e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn pin_of(pin_dir: &Path, program: &str) -> PathBuf {
    pin_dir.join(format!("{PREFIX}{program}"))
}

/// The root of the cgroup v2 hierarchy, wherever it is mounted.
fn cgroup_root() -> Result<File, Error> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| Error::os("reading /proc/self/mountinfo", e))?;
    let path = mounts
        .lines()
        .find_map(cgroup2_mount)
        .ok_or_else(|| Error::Unsupported {
            what: "a mounted cgroup v2 hierarchy (`mount -t cgroup2 none /sys/fs/cgroup/unified`)"
                .to_owned(),
            since: "4.5".to_owned(),
        })?;
    File::open(path).map_err(|e| Error::os(format!("opening {path}"), e))
}

/// The mount point in a line of mountinfo, if it is the whole hierarchy's (proc(5)).
fn cgroup2_mount(line: &str) -> Option<&str> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    (kind.split(' ').next() == Some("cgroup2") && root == "/").then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_beside_the_old_one() {
        let cases = [
            (
                "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
                None,
            ),
            (
                "42 32 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw",
                Some("/sys/fs/cgroup"),
            ),
            (
                "42 32 0:30 /../.. /sys/fs/cgroup rw - cgroup2 cgroup rw",
                None,
            ),
            ("42 32 0:30 /", None),
        ];
        for (line, found) in cases {
            assert_eq!(cgroup2_mount(line), found, "{line}");
        }
    }
}
