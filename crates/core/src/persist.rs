//! Persistence: a client's connections go where its template says (`IP_VS_SVC_F_PERSISTENT`).

use crate::addr::{Address, Be16};
use crate::atomic;
use crate::conn::{self, FLAG_INACTIVE, Found, Key, NO_SLOT, Tag, Word};
use crate::drop::Drop;
use crate::host::Tables;
use crate::layout::{
    ENGINE_SIP, ID_MARK4, ID_MARK6, SERVER_AVAILABLE, ServiceRecord, Wanted, Wide,
};
use crate::open::{FTP, REFUSED};
use crate::proto;
use crate::sched::NO_SERVER;
use crate::sip;

/// The real server of the client's template, which is made if there is none: an index, or what
/// [`crate::open::choose`] returns instead. The template becomes the parent of the connection to be
/// made.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
pub unsafe fn choose<T: Tables>(tables: &T, service: u32, wanted: *mut Wanted) -> u32 {
    let (Some(runtime), Some(record)) = (tables.runtime(), tables.service(service)) else {
        return REFUSED | Drop::Internal as u32;
    };
    let now = tables.now();
    // SAFETY: the records live as long as the maps, slots found by index lie in the table.
    unsafe {
        let seed = atomic::load(&raw const (*runtime).seed);
        identify(wanted, record, seed);
        if (*record).engine == ENGINE_SIP {
            let call = sip::call_id(wanted);
            if call == 0 {
                return REFUSED | Drop::NoCallId as u32;
            }
            (*wanted).template.addresses ^= call;
        }
        let key = (*wanted).template;
        let hash = key.hash(seed);
        let index = conn::lookup(tables, hash, &key, now, conn::NO_SLOT);
        if index != NO_SLOT
            && let Some(template) = conn::check(tables, index, hash, &key, now)
        {
            let server = atomic::load(&raw const (*template.slot).server);
            if is_valid(tables, server) {
                adopt(wanted, &template);
                return server;
            }
            retire(tables, &template);
        }
        let server = tables.schedule_apart(service);
        if server == NO_SERVER {
            return NO_SERVER;
        }
        let made = tables.template_apart(server);
        if made == NO_SLOT {
            return REFUSED | Drop::TableFull as u32;
        }
        if let Some(template) = conn::slot(tables, made) {
            adopt(wanted, &template);
        }
        server
    }
}

/// Makes the template of a packet with a Call-ID the parent of the connection to be made, which is to a
/// real server that is known; makes it if there is none. False when there is no slot for it.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
pub(crate) unsafe fn follow<T: Tables>(
    tables: &T,
    service: u32,
    server: u32,
    wanted: *mut Wanted,
) -> bool {
    let (Some(runtime), Some(record)) = (tables.runtime(), tables.service(service)) else {
        return false;
    };
    // SAFETY: passed on to the caller; the records live as long as the maps.
    unsafe {
        let seed = atomic::load(&raw const (*runtime).seed);
        identify(wanted, record, seed);
        (*wanted).template.addresses ^= sip::call_id(wanted);
        let key = (*wanted).template;
        let mut index = conn::lookup(tables, key.hash(seed), &key, tables.now(), conn::NO_SLOT);
        if index == NO_SLOT {
            index = tables.template_apart(server);
        }
        let Some(template) = conn::slot(tables, index) else {
            return false;
        };
        adopt(wanted, &template);
        true
    }
}

/// Writes the template's key: protocol, masked client, VIP, and the port if the service has that one
/// and is not FTP; a mark alone for what has a mark.
///
/// # Safety
/// All pointers live as long as the maps.
#[inline(always)]
unsafe fn identify(wanted: *mut Wanted, service: *const ServiceRecord, seed: [u64; 2]) {
    // SAFETY: passed on to the caller.
    unsafe {
        let dport = Be16::from_raw(((*wanted).flow.key.ports >> 16) as u16);
        let vport = (*service).id.vport;
        let mut class = (*wanted).flow.key.proto | proto::TEMPLATE;
        let same_port = dport == vport;
        let mut client = (*wanted).source;
        for i in 0..4 {
            client.0[i] &= (*service).netmask.0[i];
        }
        let mut address = (*wanted).destination;
        let mut port = Be16::new(0);
        if same_port {
            if vport.get() != FTP {
                port = vport;
            }
        } else if (*service).id.kind == ID_MARK4 || (*service).id.kind == ID_MARK6 {
            class = class & !proto::BASE | proto::ANY;
            // A mark is shown as an IPv4 address.
            address = Address::NONE;
            address.0[0] = (*service).id.vip.0[0].to_be();
        }
        (*wanted).template = Key::of(class, &client, &address, u32::from(port.raw()) << 16, seed);
        (*wanted).template_client = client;
        (*wanted).template_address = address;
    }
}

/// Whether a template may still send clients to a real server.
///
/// # Safety
/// The maps live.
#[inline(always)]
unsafe fn is_valid<T: Tables>(tables: &T, server: u32) -> bool {
    let (Some(runtime), Some(server)) = (tables.runtime(), tables.server(server)) else {
        return false;
    };
    // SAFETY: passed on to the caller.
    unsafe {
        let quiescent = atomic::load(&raw const (*server).weight) == 0
            && atomic::load(&raw const (*runtime).settings.expire_quiescent_template) != 0;
        atomic::load(&raw const (*server).flags) & SERVER_AVAILABLE != 0 && !quiescent
    }
}

/// Makes a template the parent of the connection to be made.
///
/// # Safety
/// `wanted` is this CPU's record.
#[inline(always)]
unsafe fn adopt(wanted: *mut Wanted, template: &Found) {
    // SAFETY: passed on to the caller.
    unsafe {
        (*wanted).parent = template.index;
        (*wanted).parent_use = Tag::use_count(template.tag);
    }
}

/// Takes a template that is not valid any more out of the way: it lapses on its own, with its children,
/// and is not found again.
///
/// # Safety
/// `template` lies in the table.
#[inline(always)]
unsafe fn retire<T: Tables>(tables: &T, template: &Found) {
    // SAFETY: passed on to the caller.
    unsafe {
        if conn::has_children(tables, template) {
            // Nothing else has port 65535 in a template: as the kernel neutralises it.
            let ports = &raw mut (*template.slot).ports;
            atomic::cas32(ports, atomic::load(ports), 0xffff_0000);
            atomic::store(&raw mut (*template.slot).new_ports, 0xffff_0000);
        } else {
            tables.kill_apart(template.index, template.tag);
        }
    }
}

/// Makes the template that [`Wanted::template`] names, to a real server; its slot, or [`NO_SLOT`].
#[inline(always)]
pub fn make_template<T: Tables>(tables: &T, server: u32) -> u32 {
    let (Some(wanted), Some(runtime), Some(record)) =
        (tables.wanted(), tables.runtime(), tables.server(server))
    else {
        return NO_SLOT;
    };
    let now = tables.now();
    // SAFETY: the record is this CPU's, the others live as long as the maps; the slot is ours until it
    // is published.
    unsafe {
        let Some(service) = tables.service((*wanted).service) else {
            return NO_SLOT;
        };
        let life = (*service)
            .timeout_secs
            .wrapping_mul(atomic::load(&raw const (*runtime).hz));
        let seed = atomic::load(&raw const (*runtime).seed);
        let key = (*wanted).template;
        let hash = key.hash(seed);
        let Some(found) = conn::take_place(tables, hash, now) else {
            return NO_SLOT;
        };
        let (claimed, slot) = (found.index, found.slot);
        let Some(control) = tables.control(claimed) else {
            return NO_SLOT;
        };
        let word = Word::new(
            key.proto,
            FLAG_INACTIVE,
            proto::TEMPLATE_NONE,
            (*record).method.into(),
        )
        .of_use(found.tag);
        atomic::store(&raw mut (*slot).addresses, key.addresses);
        atomic::store(&raw mut (*slot).ports, key.ports);
        atomic::store(&raw mut (*slot).new_addresses, 0);
        // The server's port where the template is of one port, as listings show it.
        let port = if key.ports == 0 {
            0
        } else {
            (*record).rport.raw()
        };
        atomic::store(&raw mut (*slot).new_ports, u32::from(port) << 16);
        atomic::store(&raw mut (*slot).word, word.0);
        atomic::store(&raw mut (*slot).server, server);
        atomic::store(&raw mut (*slot).partner, conn::NO_PARTNER);
        atomic::store(&raw mut (*slot).expires, now.wrapping_add(life));
        atomic::store(&raw mut (*control).parent_use, 0);
        atomic::store(&raw mut (*control).children, 0);
        atomic::store(&raw mut (*control).timeout, life);
        if let Some(wide) = tables.wide(claimed) {
            wide_template(wide, wanted);
        }
        if (*service).engine == ENGINE_SIP {
            sip::keep(tables, wanted, claimed, found.tag);
        }
        atomic::add32(&raw mut (*record).persistent, 1);
        conn::publish(tables, &found, hash);
        claimed
    }
}

/// Keeps whole addresses beside a template of either family: listings show them.
///
/// # Safety
/// Both records are the caller's.
#[inline(always)]
unsafe fn wide_template(wide: *mut Wide, wanted: *const Wanted) {
    for i in 0..4 {
        // SAFETY: passed on to the caller.
        unsafe {
            atomic::store(&raw mut (*wide).source.0[i], (*wanted).template_client.0[i]);
            atomic::store(
                &raw mut (*wide).destination.0[i],
                (*wanted).template_address.0[i],
            );
        }
    }
}
