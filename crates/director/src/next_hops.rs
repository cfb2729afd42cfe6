//! Which neighbours stand between the director and its real servers, and in what state they are.
//!
//! Pure: netlink's answers and events come in, [`Effect`]s and [`Request`]s go out. Programs at XDP bypass the
//! kernel's own ageing of neighbours, so the next hop of every real server is handed to the kernel
//! as a managed entry, which it resolves at once and keeps fresh.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Bound;

use netlink_packet_route::neighbour::NeighbourState;

/// A neighbour's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NeighbourKey {
    pub index: u32,
    pub addr: IpAddr,
}

/// A neighbour entry of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub state: NeighbourState,
    /// Link-layer address; empty while unresolved.
    pub mac: Vec<u8>,
    /// The kernel keeps it fresh by itself (`NTF_EXT_MANAGED`).
    pub managed: bool,
    /// A director asked for it.
    pub ours: bool,
}

/// The way to a real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub index: u32,
    pub gateway: Option<IpAddr>,
    pub source: Option<IpAddr>,
    /// The server is the director itself.
    pub local: bool,
}

/// Why there is no way, completing "real server X: …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoRoute {
    pub reason: String,
}

/// Answer of a route look-up.
pub(crate) type Resolution = Result<Route, NoRoute>;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Tunnels to `server` come from `source`.
    Source { server: IpAddr, source: IpAddr },
    /// `server` cannot be reached, or can (again, or, where that is not `news`, as before: the
    /// tables may still hold what an earlier director thought).
    Dead {
        server: IpAddr,
        dead: bool,
        news: bool,
    },
    /// Cached next hops are stale.
    Epoch,
}

/// What the kernel is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// To resolve and keep this neighbour.
    Manage(NeighbourKey),
    /// To forget this entry of ours, which nobody needs any more.
    Release(NeighbourKey),
}

/// What is known of one real server's way.
#[derive(Clone, Debug)]
pub(crate) struct ServerState {
    /// `None` until looked up.
    pub route: Option<Resolution>,
    /// Its neighbour failed and has not come back; `None` until there was something to say.
    pub dead: Option<bool>,
}

/// Ways of all real servers and state of all neighbours.
#[derive(Debug, Default)]
pub(crate) struct NextHops {
    servers: BTreeMap<IpAddr, ServerState>,
    neighbours: HashMap<NeighbourKey, Neighbour>,
    users: HashMap<NeighbourKey, BTreeSet<IpAddr>>,
    /// Needed, but not managed by the kernel.
    missing: BTreeSet<NeighbourKey>,
    /// Ours, but not needed.
    surplus: BTreeSet<NeighbourKey>,
    /// The last one asked for: turns go round, so that one that cannot be had keeps none waiting.
    turn: Option<NeighbourKey>,
}

impl NextHops {
    /// Takes note of new servers; the answer are those whose routes are to be looked up.
    pub fn add(&mut self, servers: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
        let mut new = Vec::new();
        for server in servers {
            self.servers.entry(server).or_insert_with(|| {
                new.push(server);
                ServerState {
                    route: None,
                    dead: None,
                }
            });
        }
        new
    }

    /// Forgets every server that is not among `present`.
    pub fn retain(&mut self, present: &BTreeSet<IpAddr>) {
        let gone: Vec<_> = self
            .servers
            .keys()
            .filter(|server| !present.contains(server))
            .copied()
            .collect();
        for server in gone {
            self.forget(server);
        }
    }

    /// Forgets a server: added again, it is looked up again.
    pub fn forget(&mut self, server: IpAddr) {
        if let Some(key) = self.key_of(server) {
            self.unuse(key, server);
        }
        self.servers.remove(&server);
    }

    /// Every server.
    pub fn servers(&self) -> impl Iterator<Item = (IpAddr, &ServerState)> {
        self.servers.iter().map(|(server, state)| (*server, state))
    }

    /// The neighbour entry on the way to `server`, where there is one to speak of.
    pub fn neighbour_of(&self, server: IpAddr) -> Option<&Neighbour> {
        self.neighbours.get(&self.key_of(server)?)
    }

    /// A route look-up has an answer. Answers for servers forgotten meanwhile are ignored.
    pub fn routed(&mut self, server: IpAddr, resolution: Resolution) -> Vec<Effect> {
        let mut effects = Vec::new();
        let old_key = self.key_of(server);
        let Some(state) = self.servers.get_mut(&server) else {
            return effects;
        };
        if state.route.as_ref() == Some(&resolution) {
            return effects;
        }
        if let Ok(Route {
            source: Some(source),
            ..
        }) = resolution
        {
            effects.push(Effect::Source { server, source });
        }
        state.route = Some(resolution);
        let unjudged = state.dead.is_none();
        let new_key = self.key_of(server);
        if old_key == new_key && !unjudged {
            return effects;
        }
        if let Some(key) = old_key {
            self.unuse(key, server);
        }
        if let Some(key) = new_key {
            self.users.entry(key).or_default().insert(server);
            self.review(key);
        }
        let dead = new_key
            .and_then(|key| self.neighbours.get(&key))
            .is_some_and(|neighbour| neighbour.state == NeighbourState::Failed);
        self.set_dead(server, dead, &mut effects);
        effects
    }

    /// A neighbour entry appeared, changed or (`None`) went.
    pub fn neighbour(&mut self, key: NeighbourKey, now: Option<Neighbour>) -> Vec<Effect> {
        let mut effects = Vec::new();
        let then = match now.clone() {
            Some(neighbour) => self.neighbours.insert(key, neighbour),
            None => self.neighbours.remove(&key),
        };
        self.review(key);
        if usable(then.as_ref()) != usable(now.as_ref()) {
            effects.push(Effect::Epoch);
        }
        let dead = match &now {
            Some(neighbour) if neighbour.state == NeighbourState::Failed => Some(true),
            Some(neighbour) if is_valid(neighbour.state) => Some(false),
            // A new attempt, or gone and soon asked for again: the verdict waits for its end.
            Some(_) | None => None,
        };
        if let Some(dead) = dead {
            for server in self.users.get(&key).cloned().unwrap_or_default() {
                self.set_dead(server, dead, &mut effects);
            }
        }
        effects
    }

    /// Everything is read anew: entries that are not among `present` went unnoticed.
    pub fn replace_neighbours(&mut self, present: Vec<(NeighbourKey, Neighbour)>) -> Vec<Effect> {
        let keys: BTreeSet<_> = present.iter().map(|(key, _)| *key).collect();
        let gone: Vec<_> = self
            .neighbours
            .keys()
            .filter(|key| !keys.contains(key))
            .copied()
            .collect();
        let mut effects: Vec<_> = gone
            .into_iter()
            .flat_map(|key| self.neighbour(key, None))
            .collect();
        effects.extend(
            present
                .into_iter()
                .flat_map(|(key, neighbour)| self.neighbour(key, Some(neighbour))),
        );
        effects
    }

    /// An interface went, with all its neighbours.
    pub fn interface_gone(&mut self, index: u32) {
        let gone: Vec<_> = self
            .neighbours
            .keys()
            .filter(|key| key.index == index)
            .copied()
            .collect();
        for key in gone {
            self.neighbours.remove(&key);
            self.review(key);
        }
    }

    /// What is to be asked of the kernel for its table to hold what is needed, at most `limit`
    /// entries to have and as many to give back. To be called after changes and now and then:
    /// others remove entries or make them ordinary, an earlier director leaves some, and a full
    /// table takes them later.
    pub fn reconcile(&mut self, limit: usize) -> Vec<Request> {
        let from = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.missing.range((from, Bound::Unbounded));
        let round = rest
            .chain(&self.missing)
            .take(limit.min(self.missing.len()));
        let wanted: Vec<_> = round.copied().collect();
        self.turn = wanted.last().copied().or(self.turn);
        let surplus = self.surplus.iter().take(limit).copied();
        // What is given back makes room.
        surplus
            .map(Request::Release)
            .chain(wanted.into_iter().map(Request::Manage))
            .collect()
    }

    /// True when the way to `server` is known but its next hop could not be had yet.
    pub fn is_missing(&self, server: IpAddr) -> bool {
        self.key_of(server)
            .is_some_and(|key| self.missing.contains(&key))
    }

    fn key_of(&self, server: IpAddr) -> Option<NeighbourKey> {
        match self.servers.get(&server)?.route.as_ref()? {
            Ok(route) if !route.local => Some(NeighbourKey {
                index: route.index,
                addr: route.gateway.unwrap_or(server),
            }),
            Ok(_) | Err(_) => None,
        }
    }

    /// Static entries are the operator's, and devices without ARP need nothing.
    fn needs_managing(&self, key: &NeighbourKey) -> bool {
        match self.neighbours.get(key) {
            Some(neighbour) => {
                !neighbour.managed
                    && !matches!(
                        neighbour.state,
                        NeighbourState::Permanent | NeighbourState::Noarp
                    )
            }
            None => true,
        }
    }

    fn unuse(&mut self, key: NeighbourKey, server: IpAddr) {
        if let Some(users) = self.users.get_mut(&key) {
            users.remove(&server);
            if users.is_empty() {
                self.users.remove(&key);
            }
        }
        self.review(key);
    }

    /// Sorts a key anew after its users or its entry changed.
    fn review(&mut self, key: NeighbourKey) {
        let used = self.users.contains_key(&key);
        if used && self.needs_managing(&key) {
            self.missing.insert(key);
        } else {
            self.missing.remove(&key);
        }
        if !used
            && self
                .neighbours
                .get(&key)
                .is_some_and(|neighbour| neighbour.ours)
        {
            self.surplus.insert(key);
        } else {
            self.surplus.remove(&key);
        }
    }

    fn set_dead(&mut self, server: IpAddr, dead: bool, effects: &mut Vec<Effect>) {
        if let Some(state) = self.servers.get_mut(&server)
            && state.dead != Some(dead)
        {
            let news = dead || state.dead == Some(true);
            state.dead = Some(dead);
            effects.push(Effect::Dead { server, dead, news });
        }
    }
}

/// `NUD_VALID`: packets can be sent to it.
fn is_valid(state: NeighbourState) -> bool {
    matches!(
        state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    )
}

/// What a cached next hop depends on: the link-layer address, while there is a valid one.
/// Reachability flaps between valid states change nothing.
fn usable(neighbour: Option<&Neighbour>) -> Option<&[u8]> {
    neighbour
        .filter(|neighbour| is_valid(neighbour.state))
        .map(|neighbour| &neighbour.mac[..])
}

#[cfg(test)]
mod tests;
