//! Which hook an interface gets, and getting the programs onto it.
//!
//! Links are pinned as `link-xdp-N` (or `link-xdpgeneric-N`), `link-in-N`, `link-out-N` for interface index N. A clsact
//! filter has no link; it stays on the interface under a fixed priority and handle.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, Program, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::util::KernelVersion;

use crate::load::entry;
use crate::{Attachment, Error, Hook, HookChoice, Interface, driver};

/// Place of our filter on a clsact qdisc.
const PRIORITY: u16 = 50;
/// Handle of all our filters.
pub(crate) const HANDLE: TcHandle = TcHandle::new(0, 0x7073);

/// Kinds of pinned XDP links: the kernel does not tell of a link how it was attached.
const XDP_NATIVE: &str = "xdp";
const XDP_GENERIC: &str = "xdpgeneric";

/// What is attached where.
pub(crate) struct Attached {
    pins: PathBuf,
    by_index: BTreeMap<u32, Attachment>,
}

#[derive(Clone, Copy)]
enum Side {
    In,
    Out,
}

impl Side {
    fn attach_type(self) -> TcAttachType {
        match self {
            Self::In => TcAttachType::Ingress,
            Self::Out => TcAttachType::Egress,
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::In => entry::TC,
            Self::Out => entry::OUT,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

impl Attached {
    /// Nothing attached by this process yet; pins of an earlier one are found interface by
    /// interface, and those of interfaces that no longer exist are removed now.
    pub(crate) fn adopt(pins: &Path) -> Self {
        let attached = Self {
            pins: pins.to_owned(),
            by_index: BTreeMap::new(),
        };
        for index in attached.pinned() {
            if name_of(index).is_none() {
                attached.unpin_all(index);
            }
        }
        attached
    }

    pub(crate) fn list(&self) -> Vec<Attachment> {
        self.by_index.values().cloned().collect()
    }

    pub(crate) fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        interface: &Interface,
        choice: HookChoice,
    ) -> Result<Attachment, Error> {
        let (want_xdp, mut reason) = wish(interface, choice);
        let tc = self.attach_tc(ebpf, interface)?;
        let mut hook = tc;
        let pins = [XDP_NATIVE, XDP_GENERIC].map(|kind| self.pin(kind, interface.index));
        if want_xdp {
            let program: &mut Xdp = match ebpf.program_mut(entry::XDP) {
                Some(Program::Xdp(program)) => program,
                _ => unreachable!("the object has it"),
            };
            match attach_xdp(program, interface, &pins, choice) {
                Ok((xdp, why)) => {
                    hook = xdp;
                    if let Some(why) = why {
                        reason = why;
                    }
                }
                Err(e) if choice == HookChoice::Auto => reason = format!("no native XDP: {e}"),
                Err(e) => return Err(e),
            }
        } else {
            pins.iter().for_each(|pin| drop_link(pin));
        }
        if matches!(hook, Hook::Clsact) {
            reason.push_str("; this kernel has no tcx (6.6)");
        }
        let attachment = Attachment {
            index: interface.index,
            name: interface.name.clone(),
            hook,
            reason,
        };
        self.by_index.insert(interface.index, attachment.clone());
        Ok(attachment)
    }

    pub(crate) fn detach(&mut self, index: u32) {
        self.by_index.remove(&index);
        self.unpin_all(index);
    }

    pub(crate) fn detach_all(&mut self) {
        let mut indices = self.pinned();
        indices.extend(self.by_index.keys());
        for index in indices {
            self.detach(index);
        }
    }

    fn attach_tc(&self, ebpf: &mut Ebpf, interface: &Interface) -> Result<Hook, Error> {
        let mut hook = Hook::Tcx;
        for side in [Side::In, Side::Out] {
            let program: &mut SchedClassifier = match ebpf.program_mut(side.program()) {
                Some(Program::SchedClassifier(program)) => program,
                _ => unreachable!("the object has it"),
            };
            if has_tcx() {
                let pin = self.pin(side.word(), interface.index);
                attach_tcx(program, interface, side.attach_type(), &pin)?;
            } else {
                attach_clsact(program, interface, side.attach_type(), PRIORITY)?;
                hook = Hook::Clsact;
            }
        }
        Ok(hook)
    }

    fn pin(&self, kind: &str, index: u32) -> PathBuf {
        self.pins.join(format!("link-{kind}-{index}"))
    }

    /// Interface indices that have pins.
    fn pinned(&self) -> Vec<u32> {
        let mut indices: Vec<u32> = fs::read_dir(&self.pins)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                name.strip_prefix("link-")?.rsplit('-').next()?.parse().ok()
            })
            .collect();
        if !has_tcx() {
            // Filters leave no pin: look at every interface.
            indices.extend(all_interfaces());
        }
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    fn unpin_all(&self, index: u32) {
        for kind in [XDP_NATIVE, XDP_GENERIC, Side::In.word(), Side::Out.word()] {
            drop_link(&self.pin(kind, index));
        }
        if !has_tcx()
            && let Some(name) = name_of(index)
        {
            for side in [TcAttachType::Ingress, TcAttachType::Egress] {
                // Dropping a filter's link removes it.
                let _ = SchedClassifierLink::attached(&name, side, PRIORITY, HANDLE, None);
            }
        }
    }
}

/// Whether XDP is wanted, and the sentence that says why.
pub(crate) fn wish(interface: &Interface, choice: HookChoice) -> (bool, String) {
    if interface.loopback {
        return (false, "loopback: clients on the director itself".into());
    }
    match choice {
        HookChoice::Tc => (false, "TC was asked for".into()),
        HookChoice::Xdp if interface.vlan.is_some() => (
            false,
            "a VLAN device: XDP on its parent sees the tagged frames".into(),
        ),
        HookChoice::Xdp => (true, "XDP was asked for; native in the driver".into()),
        HookChoice::Auto => match (&interface.kind, driver::name(&interface.name)) {
            (Some(kind), _) => (
                false,
                format!("a {kind} device: offloaded segments and checksums reach TC whole"),
            ),
            (None, Some(driver)) if driver == "virtio_net" => (
                false,
                "virtio: offloaded segments and checksums reach TC whole".into(),
            ),
            (None, driver) => (
                true,
                format!(
                    "native XDP of the driver {}",
                    driver.as_deref().unwrap_or("in use")
                ),
            ),
        },
    }
}

fn attach_xdp(
    program: &mut Xdp,
    interface: &Interface,
    pins: &[PathBuf; 2],
    choice: HookChoice,
) -> Result<(Hook, Option<String>), Error> {
    let fail = |e: &dyn std::fmt::Display| refused(interface, "XDP", e);
    for (pin, hook) in pins.iter().zip([Hook::XdpNative, Hook::XdpGeneric]) {
        let Some(old) = pinned_link(pin) else {
            continue;
        };
        let link = XdpLink::try_from(old).map_err(|e| fail(&e))?;
        if let Ok(id) = program.attach_to_link(link) {
            let link = program.take_link(id).map_err(|e| fail(&e))?;
            mem::forget(FdLink::try_from(link).map_err(|e| fail(&e))?);
            return Ok((hook, None));
        }
        let _ = fs::remove_file(pin);
    }
    let (id, hook, why) = match program.attach_to_if_index(interface.index, XdpMode::Driver) {
        Ok(id) => (id, Hook::XdpNative, None),
        Err(native) if choice == HookChoice::Xdp => {
            let id = program
                .attach_to_if_index(interface.index, XdpMode::Skb)
                .map_err(|e| fail(&Error::bpf("attach", e)))?;
            let why = format!(
                "XDP was asked for; generic, since the driver refused: {}",
                Error::bpf("attach", native)
            );
            (id, Hook::XdpGeneric, Some(why))
        }
        Err(e) => return Err(fail(&Error::bpf("attach", e))),
    };
    let link = program.take_link(id).map_err(|e| fail(&e))?;
    // Old kernels and odd devices fall back to netlink, which cannot be pinned.
    let link = FdLink::try_from(link)
        .map_err(|_| fail(&"the kernel offers no link that outlives this process"))?;
    let pin = if hook == Hook::XdpNative {
        &pins[0]
    } else {
        &pins[1]
    };
    mem::forget(link.pin(pin).map_err(|e| fail(&e))?);
    Ok((hook, why))
}

/// Attaches a program by tcx, in place of the one whose link is pinned at `pin`.
pub(crate) fn attach_tcx(
    program: &mut SchedClassifier,
    interface: &Interface,
    side: TcAttachType,
    pin: &Path,
) -> Result<(), Error> {
    let fail = |e: &dyn std::fmt::Display| refused(interface, "tcx", e);
    if let Some(old) = pinned_link(pin) {
        let link = SchedClassifierLink::try_from(old).map_err(|e| fail(&e))?;
        if let Ok(id) = program.attach_to_link(link) {
            let link = program.take_link(id).map_err(|e| fail(&e))?;
            mem::forget(FdLink::try_from(link).map_err(|e| fail(&e))?);
            return Ok(());
        }
        // The pin was of an interface that is gone and whose number or name came back.
        let _ = fs::remove_file(pin);
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(&interface.name, side, options)
        .map_err(|e| fail(&Error::bpf("attach", e)))?;
    let link = program.take_link(id).map_err(|e| fail(&e))?;
    let link = FdLink::try_from(link).map_err(|e| fail(&e))?;
    mem::forget(link.pin(pin).map_err(|e| fail(&e))?);
    Ok(())
}

/// Attaches a program as a clsact filter, in place of the one with this priority.
pub(crate) fn attach_clsact(
    program: &mut SchedClassifier,
    interface: &Interface,
    side: TcAttachType,
    priority: u16,
) -> Result<(), Error> {
    let fail = |e: &dyn std::fmt::Display| refused(interface, "TC", e);
    // It may be there already, by us or by somebody else.
    let _ = qdisc_add_clsact(&interface.name);
    let old = SchedClassifierLink::attached(&interface.name, side, priority, HANDLE, None)
        .map_err(|e| fail(&e))?;
    let id = match program.attach_to_link(old) {
        Ok(id) => id,
        Err(_) => {
            let options = NlOptions {
                priority,
                handle: HANDLE,
                classid: None,
            };
            program
                .attach_with_options(&interface.name, side, TcAttachOptions::Netlink(options))
                .map_err(|e| fail(&Error::bpf("attach", e)))?
        }
    };
    // Kept: the filter stays when the process goes.
    mem::forget(program.take_link(id).map_err(|e| fail(&e))?);
    Ok(())
}

fn refused(interface: &Interface, what: &str, e: &dyn std::fmt::Display) -> Error {
    Error::Interface {
        name: interface.name.clone(),
        reason: format!("{what} refused: {e}"),
    }
}

fn pinned_link(pin: &Path) -> Option<FdLink> {
    PinnedLink::from_pin(pin).ok().map(FdLink::from)
}

/// Detaches a pinned link and removes the pin. Removing it alone would detach too, but a little
/// later, when the kernel gets to it.
pub(crate) fn drop_link(pin: &Path) {
    const BPF_OBJ_GET: libc::c_long = 7;
    const BPF_LINK_DETACH: libc::c_long = 34;
    /// The head of `union bpf_attr` for both commands.
    #[repr(C)]
    struct Attributes {
        path_or_fd: u64,
        rest: [u64; 2],
    }
    if let Ok(path) = CString::new(pin.as_os_str().as_bytes()) {
        let size = size_of::<Attributes>();
        let mut get = Attributes {
            path_or_fd: path.as_ptr() as u64,
            rest: [0; 2],
        };
        // SAFETY: the attributes are as large as stated and the path outlives the call; the
        // descriptor is ours.
        unsafe {
            let fd = libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw mut get, size);
            if fd >= 0 {
                let link = OwnedFd::from_raw_fd(fd as i32);
                let mut detach = Attributes {
                    path_or_fd: link.as_raw_fd() as u64,
                    rest: [0; 2],
                };
                libc::syscall(libc::SYS_bpf, BPF_LINK_DETACH, &raw mut detach, size);
            }
        }
    }
    let _ = fs::remove_file(pin);
}

/// Whether the kernel has tcx, whose links outlive the process.
pub(crate) fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

fn name_of(index: u32) -> Option<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size the call wants.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    (!found.is_null()).then(|| {
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..end]).into_owned()
    })
}

fn all_interfaces() -> Vec<u32> {
    let mut indices = Vec::new();
    // SAFETY: the list ends with index 0 and is given back.
    unsafe {
        let list = libc::if_nameindex();
        let mut at = list;
        while !at.is_null() && (*at).if_index != 0 {
            indices.push((*at).if_index);
            at = at.add(1);
        }
        if !list.is_null() {
            libc::if_freenameindex(list);
        }
    }
    indices
}
