//! Local addresses of services, for FULLNAT: which there are, and where packets find them.

use std::net::IpAddr;

use pointsman_core::addr::Address;
use pointsman_core::layout::MAX_WIDE_LOCALS;
use pointsman_core::local::Pool;
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
        let words = of(false)
            .chain(of(true))
            .map(|address| self.local_word(*address))
            .collect::<Result<Vec<_>, _>>()?;
        let block = match words.len() {
            0 => None,
            _ => Some(self.arena.take(words.len())?),
        };
        let mut pool = Pool(0);
        if let Some(block) = block {
            pool = Pool::new(
                block.offset,
                of(false).count() as u16,
                of(true).count() as u16,
            );
            for (at, word) in (block.offset..).zip(words) {
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

    /// What stands for an address in a pool. One of IPv6 gets a place of its own, which it keeps: connections name it.
    fn local_word(&mut self, address: IpAddr) -> Result<u64, Error> {
        let shared = address::shared(address);
        if address.is_ipv4() {
            return Ok(shared.0[0].into());
        }
        let next = self.wide_locals.len() as u32;
        let place = *self.wide_locals.entry(shared).or_insert(next);
        if place == MAX_WIDE_LOCALS {
            self.wide_locals.remove(&shared);
            return Err(Error::NoRoom(format!(
                "there were {MAX_WIDE_LOCALS} IPv6 addresses in pools since the tables were made"
            )));
        }
        self.maps.wide_locals.write(place, shared);
        Ok(place.into())
    }

    /// Reads back which places IPv6 addresses have.
    pub(super) fn adopt_wide_locals(&mut self) {
        let places = 0..MAX_WIDE_LOCALS;
        let addresses = places.map_while(|place| self.maps.wide_locals.read(place));
        let taken = addresses.take_while(|address| *address != Address::NONE);
        self.wide_locals = taken.zip(0..).collect();
    }

    /// Reads a pool back: its addresses, IPv4 first, and the words they lie in.
    pub(super) fn read_pool(&self, pool: Pool) -> (Vec<IpAddr>, Option<Block>) {
        if pool.words() == 0 {
            return (Vec::new(), None);
        }
        let word = |at: u32| self.maps.schedules.read(pool.offset() + at).unwrap_or(0);
        let v4 = (0..pool.v4()).map(|i| IpAddr::from((word(i) as u32).to_ne_bytes()));
        let v6 = (pool.v4()..pool.words()).filter_map(|i| {
            let shared = self.maps.wide_locals.read(word(i) as u32)?;
            Some(address::ip(shared, true))
        });
        let block = Block {
            offset: pool.offset(),
            len: pool.words().next_power_of_two(),
        };
        (v4.chain(v6).collect(), Some(block))
    }
}
