//! All keywords of all blocks, for hints about braces and for the documentation.

use super::checker::{self, Kind};
use super::keyword::{Does, Keyword};
use super::tree::Grammar;
use super::{
    address, auth, global, http, mail, process, real_server, root, route, rule, static_,
    sync_group, track, virtual_server, vrrp,
};

/// A kind of block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    Root,
    Global,
    TrackGroup,
    GarpGroup,
    Instance,
    Authentication,
    Hmac,
    SyncGroup,
    Script,
    TrackFile,
    Process,
    Bfd,
    Ssl,
    VirtualServer,
    RealServer,
    Checker(Kind),
    Url,
    Host,
    /// Entries without keywords.
    List,
}

/// A keyword as the documentation shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The word.
    pub name: &'static str,
    /// What follows it.
    pub arguments: &'static str,
    /// Why it has no effect; `None` if it has.
    pub no_effect: Option<&'static str>,
}

/// The keywords of one kind of block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Which block.
    pub block: String,
    /// Its keywords.
    pub entries: Vec<Entry>,
}

/// Every keyword that is understood, block by block.
pub fn tables() -> Vec<Table> {
    let named = CONTEXTS.iter().map(|(block, context)| Table {
        block: (*block).to_owned(),
        entries: context.entries(),
    });
    let options = [
        ("options of addresses", address::OPTIONS),
        ("options of routes", route::OPTIONS),
        ("options of rules", rule::OPTIONS),
    ];
    let options = options.into_iter().map(|(block, options)| Table {
        block: block.to_owned(),
        entries: options
            .iter()
            .map(|&(name, arguments)| Entry {
                name,
                arguments,
                no_effect: None,
            })
            .collect(),
    });
    named.chain(options).collect()
}

const CONTEXTS: &[(&str, Context)] = &[
    ("outermost level", Context::Root),
    ("global_defs", Context::Global),
    ("virtual_server", Context::VirtualServer),
    ("real_server", Context::RealServer),
    ("TCP_CHECK", Context::Checker(Kind::Tcp)),
    ("HTTP_GET", Context::Checker(Kind::Http)),
    ("SSL_GET", Context::Checker(Kind::Ssl)),
    ("url", Context::Url),
    ("SMTP_CHECK", Context::Checker(Kind::Smtp)),
    ("host", Context::Host),
    ("DNS_CHECK", Context::Checker(Kind::Dns)),
    ("MISC_CHECK", Context::Checker(Kind::Misc)),
    ("UDP_CHECK", Context::Checker(Kind::Udp)),
    ("PING_CHECK", Context::Checker(Kind::Ping)),
    ("FILE_CHECK", Context::Checker(Kind::File)),
    ("BFD_CHECK", Context::Checker(Kind::Bfd)),
    ("PASSIVE_CHECK", Context::Checker(Kind::Passive)),
    ("AGENT_CHECK", Context::Checker(Kind::Agent)),
    ("SSL", Context::Ssl),
    ("vrrp_instance", Context::Instance),
    ("authentication", Context::Authentication),
    ("auth_hmac", Context::Hmac),
    ("vrrp_sync_group", Context::SyncGroup),
    ("vrrp_script", Context::Script),
    ("track_file", Context::TrackFile),
    ("vrrp_track_process", Context::Process),
    ("bfd_instance", Context::Bfd),
    ("track_group", Context::TrackGroup),
    ("garp_group", Context::GarpGroup),
];

impl Context {
    fn entries(self) -> Vec<Entry> {
        match self {
            Self::Root => list(&[root::KEYWORDS]),
            Self::Global => list(&[mail::MAIL, process::PROCESSES, global::VRRP, global::IPVS]),
            Self::TrackGroup => list(&[static_::TRACK_GROUP]),
            Self::GarpGroup => list(&[static_::GARP_GROUP]),
            Self::Instance => list(vrrp::INSTANCE_TABLES),
            Self::Authentication => list(&[auth::AUTHENTICATION]),
            Self::Hmac => list(&[auth::HMAC]),
            Self::SyncGroup => list(sync_group::TABLES),
            Self::Script => list(&[track::SCRIPT]),
            Self::TrackFile => list(&[track::FILE]),
            Self::Process => list(&[track::PROCESS]),
            Self::Bfd => list(&[track::BFD]),
            Self::Ssl => list(&[root::SSL]),
            Self::VirtualServer => list(&[virtual_server::KEYWORDS]),
            Self::RealServer => list(&[real_server::KEYWORDS, real_server::CHECKERS]),
            Self::Checker(kind) => list(kind.keywords()),
            Self::Url => list(&[http::URL]),
            Self::Host => list(&[checker::HOST]),
            Self::List => Vec::new(),
        }
    }

    /// The block that `keyword` has; that it has one at all, its arguments say.
    fn inner(self, keyword: &str) -> Self {
        match (self, keyword) {
            (Self::Root, "global_defs") => Self::Global,
            (Self::Root, "track_group") => Self::TrackGroup,
            (Self::Root, "garp_group") => Self::GarpGroup,
            (Self::Root, "vrrp_instance") => Self::Instance,
            (Self::Root, "vrrp_sync_group") => Self::SyncGroup,
            (Self::Root, "vrrp_script") => Self::Script,
            (Self::Root, "track_file" | "vrrp_track_file") => Self::TrackFile,
            (Self::Root, "vrrp_track_process") => Self::Process,
            (Self::Root, "bfd_instance") => Self::Bfd,
            (Self::Root, "SSL") => Self::Ssl,
            (Self::Root, "virtual_server") => Self::VirtualServer,
            (Self::Instance, "authentication") => Self::Authentication,
            (Self::Instance, "auth_hmac") => Self::Hmac,
            (Self::VirtualServer, "real_server") => Self::RealServer,
            (Self::RealServer, "TCP_CHECK") => Self::Checker(Kind::Tcp),
            (Self::RealServer, "HTTP_GET") => Self::Checker(Kind::Http),
            (Self::RealServer, "SSL_GET") => Self::Checker(Kind::Ssl),
            (Self::RealServer, "SMTP_CHECK") => Self::Checker(Kind::Smtp),
            (Self::RealServer, "DNS_CHECK") => Self::Checker(Kind::Dns),
            (Self::RealServer, "MISC_CHECK") => Self::Checker(Kind::Misc),
            (Self::RealServer, "UDP_CHECK") => Self::Checker(Kind::Udp),
            (Self::RealServer, "PING_CHECK") => Self::Checker(Kind::Ping),
            (Self::RealServer, "FILE_CHECK") => Self::Checker(Kind::File),
            (Self::RealServer, "BFD_CHECK") => Self::Checker(Kind::Bfd),
            (Self::RealServer, "PASSIVE_CHECK") => Self::Checker(Kind::Passive),
            (Self::RealServer, "AGENT_CHECK") => Self::Checker(Kind::Agent),
            (Self::Checker(Kind::Http | Kind::Ssl), "url") => Self::Url,
            (Self::Checker(Kind::Smtp), "host") => Self::Host,
            _ => Self::List,
        }
    }
}

impl Grammar for Context {
    fn block(self, keyword: &str) -> Option<Self> {
        let entries = self.entries();
        let entry = entries.iter().find(|entry| entry.name == keyword)?;
        entry.arguments.ends_with('}').then(|| self.inner(keyword))
    }
}

fn list<T>(tables: &[&'static [Keyword<T>]]) -> Vec<Entry> {
    let all = tables.iter().copied().flatten();
    all.map(|keyword| Entry {
        name: keyword.name,
        arguments: keyword.arguments,
        no_effect: match keyword.does {
            Does::Sets(_) => None,
            Does::Nothing(why) => Some(why),
        },
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_block_has_a_keyword_twice() {
        for table in tables() {
            let mut seen = HashSet::new();
            for entry in table.entries {
                assert!(seen.insert(entry.name), "{} of {}", entry.name, table.block);
            }
        }
    }

    #[test]
    fn every_block_of_keywords_is_known_by_its_contents() {
        for (name, context) in CONTEXTS {
            let known = |outer: &Context| outer.block(name).is_some_and(|c| c == *context);
            let found = CONTEXTS.iter().any(|(_, outer)| known(outer));
            assert!(found || *context == Context::Root, "{name}");
        }
    }
}
