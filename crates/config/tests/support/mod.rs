//! What the tests of `ipvsadm` share: a model of the kernel's lists, and transcripts.

#![allow(dead_code, reason = "each test uses its part")]

pub mod kernel;
pub mod memory;
pub mod transcript;

use std::net::{IpAddr, Ipv4Addr};

use pointsman_config::ipvsadm::{Director, Names, Program};
use pointsman_model::Protocol;

/// Names as `tests/oracle/ipvsadm.sh` writes them into `/etc/hosts` and `/etc/services`.
pub struct RecordedNames;

const HOSTS: &[(&str, &[&str])] = &[
    ("127.0.0.1", &["localhost"]),
    ("::1", &["ip6-localhost"]),
    ("192.0.2.1", &["www.example.org", "www"]),
    (
        "192.0.2.2",
        &["a-very-long-host-name-of-a-virtual-service.example.org"],
    ),
    ("2001:db8::1", &["www6.example.org"]),
    (
        "2001:db8::2",
        &["a-very-long-host-name-of-an-ipv6-service.example.org"],
    ),
    ("10.0.0.11", &["rs1.example.org", "rs1"]),
    ("10.0.0.12", &["rs2"]),
];

const SERVICES: &[(&str, u16, Protocol)] = &[
    ("http", 80, Protocol::Tcp),
    ("domain", 53, Protocol::Tcp),
    ("domain", 53, Protocol::Udp),
    ("https", 443, Protocol::Tcp),
    ("sip", 5060, Protocol::Udp),
    ("ftp", 21, Protocol::Tcp),
];

impl Names for RecordedNames {
    fn host_addr(&self, name: &str) -> Option<Ipv4Addr> {
        HOSTS
            .iter()
            .filter(|(_, names)| names.contains(&name))
            .find_map(|(addr, _)| addr.parse().ok())
    }

    fn host_name(&self, addr: IpAddr) -> Option<String> {
        HOSTS
            .iter()
            .find(|(text, _)| text.parse::<IpAddr>() == Ok(addr))
            .map(|(_, names)| names[0].to_owned())
    }

    fn service_port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        SERVICES
            .iter()
            .find(|s| (s.0, s.2) == (name, protocol))
            .map(|s| s.1)
    }

    fn service_name(&self, port: u16, protocol: Protocol) -> Option<String> {
        SERVICES
            .iter()
            .find(|s| (s.1, s.2) == (port, protocol))
            .map(|s| s.0.to_owned())
    }
}

/// What a program said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub stdout: String,
    pub stderr: String,
    pub status: u8,
}

/// Runs a program of the package, named by the first word, over a director.
pub fn say(words: &[String], input: &str, director: &mut dyn Director, names: &dyn Names) -> Said {
    let (name, words) = words.split_first().expect("a command has a name");
    let program = Program::from_name(name).expect("a program of the package");
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = program
        .run(
            words,
            director,
            names,
            &mut input.as_bytes(),
            &mut out,
            &mut err,
        )
        .expect("memory can be read and written");
    Said {
        stdout: String::from_utf8(out).expect("listings are text"),
        stderr: String::from_utf8(err).expect("messages are text"),
        status,
    }
}
