//! Services and servers as they stand in the table of IPVS.

use pointsman_model::{
    Forwarding, Protocol, ServerKey, ServerSpec, ServiceKey, ServiceSpec, Weight,
};

use super::config::{Config, Real, Virtual};

impl Virtual {
    /// The service.
    pub fn spec(&self) -> ServiceSpec {
        let mut spec = ServiceSpec::new(self.key, self.scheduler);
        spec.sched_flags = self.sched_flags;
        spec.one_packet = self.one_packet && self.protocol() == Some(Protocol::Udp);
        spec.persistence = self.persistence;
        // Without `persistent` a netmask says nothing; its form was checked when it was read.
        if let Some(mask) = self
            .netmask
            .as_deref()
            .filter(|_| spec.persistence.is_some())
        {
            spec.netmask = mask.parse().unwrap_or(spec.netmask);
            spec.prefix_len = mask.parse().unwrap_or(spec.prefix_len);
        }
        spec
    }

    /// Where a server stands in the table: only NAT can change the port.
    pub fn place(&self, key: ServerKey, forwarding: Forwarding) -> ServerKey {
        match self.key {
            ServiceKey::Address { port, .. } if forwarding != Forwarding::Masquerade => {
                ServerKey { port, ..key }
            }
            _ => key,
        }
    }

    /// A real server while it is up.
    pub fn server(&self, real: &Real) -> ServerSpec {
        ServerSpec {
            key: self.place(real.key, real.forwarding),
            forwarding: real.forwarding,
            weight: real.weight,
            upper_threshold: real.upper_threshold,
            lower_threshold: real.lower_threshold,
        }
    }
}

impl Config {
    /// The server that answers while no real one is up.
    pub fn fallback_server(&self, service: &Virtual) -> Option<ServerSpec> {
        let (key, forwarding) = self.fallback(service)?;
        Some(ServerSpec {
            key: service.place(key, forwarding),
            forwarding,
            weight: Weight::DEFAULT,
            upper_threshold: 0,
            lower_threshold: 0,
        })
    }
}
