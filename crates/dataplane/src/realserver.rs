//! The real server's side: taking the outer header off tunnelled packets.

use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use aya::EbpfLoader;
use aya::programs::links::FdLink;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact,
};
use aya::programs::{LinkOrder, Program, TcAttachType};

use crate::attach::{drop_link, has_tcx};
use crate::{Error, Interface, object};

const PROGRAM: &str = "decapsulate";
const PREFIX: &str = "decapsulate-";
const PRIORITY: u16 = 49;
const HANDLE: TcHandle = TcHandle::new(0, 0x7073);

/// Attaches the decapsulator (IPIP) to an interface of this namespace, so that it outlives this
/// process. A mark in `pin_dir` (the pinned link, where the kernel has tcx) remembers it.
///
/// # Errors
/// [`Error::Interface`] when the interface cannot carry it.
pub fn attach(pin_dir: &Path, interface: &Interface) -> Result<(), Error> {
    let fail = |e: &dyn std::fmt::Display| Error::Interface {
        name: interface.name.clone(),
        reason: format!("TC refused: {e}"),
    };
    let pin = pin_of(pin_dir, &interface.name);
    if pin.exists() {
        return Ok(());
    }
    let mut ebpf = EbpfLoader::new()
        .load(object::realserver())
        .map_err(|e| Error::bpf("loading the eBPF object", e))?;
    let Some(Program::SchedClassifier(program)) = ebpf.program_mut(PROGRAM) else {
        unreachable!("the object has it");
    };
    program
        .load()
        .map_err(|e| Error::bpf("loading the decapsulator", e))?;
    if !has_tcx() {
        let _ = qdisc_add_clsact(&interface.name);
        let options = NlOptions {
            priority: PRIORITY,
            handle: HANDLE,
            classid: None,
        };
        let id = program
            .attach_with_options(
                &interface.name,
                TcAttachType::Ingress,
                TcAttachOptions::Netlink(options),
            )
            .map_err(|e| fail(&Error::bpf("attach", e)))?;
        mem::forget(program.take_link(id).map_err(|e| fail(&e))?);
        // A filter has no link to pin; the pinned program marks the interface.
        return program.pin(&pin).map_err(|e| fail(&e));
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(&interface.name, TcAttachType::Ingress, options)
        .map_err(|e| fail(&Error::bpf("attach", e)))?;
    let link = program.take_link(id).map_err(|e| fail(&e))?;
    let link = FdLink::try_from(link).map_err(|e| fail(&e))?;
    mem::forget(link.pin(&pin).map_err(|e| fail(&e))?);
    Ok(())
}

/// Names of interfaces it is attached to.
pub fn attached(pin_dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(pin_dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(PREFIX)?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Removes it everywhere.
///
/// # Errors
/// A pin that cannot be removed.
pub fn detach_all(pin_dir: &Path) -> Result<(), Error> {
    for name in attached(pin_dir) {
        if !has_tcx() {
            // Dropping a filter's link removes it.
            let _ =
                SchedClassifierLink::attached(&name, TcAttachType::Ingress, PRIORITY, HANDLE, None);
        }
        let pin = pin_of(pin_dir, &name);
        drop_link(&pin);
        if pin.exists() {
            let stays = io::ErrorKind::PermissionDenied.into();
            return Err(Error::os(format!("removing {}", pin.display()), stays));
        }
    }
    Ok(())
}

fn pin_of(pin_dir: &Path, interface: &str) -> PathBuf {
    pin_dir.join(format!("{PREFIX}{interface}"))
}
