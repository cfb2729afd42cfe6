//! Local addresses of services, for FULLNAT: which there are, and where packets find them.

use std::net::IpAddr;

use pointsman_core::local::{Pool, words};
use pointsman_model::{Error, ServiceKey, validate};

use super::arena::Block;
use super::{Tables, address};

impl Tables {
    /// Adds a local address to a service's pool.
    ///
    /// # Errors
    /// [`Error::NoSuchService`], or as [`validate::local_address`].
    pub fn add_local_address(&mut self, key: &ServiceKey, new: IpAddr) -> Result<(), Error> {
        let index = self.index_of(key).ok_or(Error::NoSuchService)?;
        let mut addresses = self.service_mut(index).local_addresses.clone();
        validate::local_address(&addresses, new)?;
        addresses.push(new);
        self.set_local_addresses(index, addresses)
    }

    /// Removes a local address from a service's pool; its connections go on.
    ///
    /// # Errors
    /// [`Error::NoSuchService`], [`Error::NoSuchAddress`].
    pub fn delete_local_address(&mut self, key: &ServiceKey, old: IpAddr) -> Result<(), Error> {
        let index = self.index_of(key).ok_or(Error::NoSuchService)?;
        let mut addresses = self.service_mut(index).local_addresses.clone();
        let at = addresses.iter().position(|address| *address == old);
        addresses.remove(at.ok_or(Error::NoSuchAddress)?);
        self.set_local_addresses(index, addresses)
    }

    /// Every local address, by the service that has it.
    pub fn local_addresses(&self) -> impl Iterator<Item = (&ServiceKey, IpAddr)> {
        let services = self.services.iter().flatten();
        services.flat_map(|s| s.local_addresses.iter().map(|a| (&s.spec.key, *a)))
    }

    /// Writes the new pool beside the old one, then tells packets of it by one word.
    fn set_local_addresses(&mut self, index: u32, addresses: Vec<IpAddr>) -> Result<(), Error> {
        let of = |wide: bool| addresses.iter().filter(move |a| a.is_ipv6() == wide);
        let block = match addresses.len() {
            0 => None,
            _ => Some(self.arena.take(addresses.len() + of(true).count())?),
        };
        let mut pool = Pool(0);
        if let Some(block) = block {
            pool = Pool::new(
                block.offset,
                of(false).count() as u16,
                of(true).count() as u16,
            );
            let shared = [false, true].into_iter().flat_map(|wide| {
                of(wide).flat_map(move |a| words(&address::shared(*a), wide).collect::<Vec<_>>())
            });
            for (at, word) in (block.offset..).zip(shared) {
                self.maps.schedules.write(at, word);
            }
        }
        self.with_service_record(index, |at| {
            // SAFETY: the pointer is into the map.
            unsafe { (&raw mut (*at).locals).write_volatile(pool.0) };
        });
        let service = self.service_mut(index);
        service.local_addresses = addresses;
        if let Some(old) = std::mem::replace(&mut service.local_block, block) {
            self.arena.give(old);
        }
        Ok(())
    }

    /// Reads a pool back: its addresses, IPv4 first, and the words they lie in.
    pub(super) fn read_pool(&self, pool: Pool) -> (Vec<IpAddr>, Option<Block>) {
        if pool.words() == 0 {
            return (Vec::new(), None);
        }
        let word = |at: u32| self.maps.schedules.read(pool.offset() + at).unwrap_or(0);
        let v4 = (0..pool.v4()).map(|i| IpAddr::from((word(i) as u32).to_ne_bytes()));
        let v6 = (0..pool.v6()).map(|i| {
            let at = pool.v4() + 2 * i;
            let mut octets = [0; 16];
            octets[..8].copy_from_slice(&word(at).to_ne_bytes());
            octets[8..].copy_from_slice(&word(at + 1).to_ne_bytes());
            IpAddr::from(octets)
        });
        let block = Block {
            offset: pool.offset(),
            len: pool.words().next_power_of_two(),
        };
        (v4.chain(v6).collect(), Some(block))
    }
}
