//! Virtual routing rules as rtnetlink has them.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{RouteProtocol, RouteRealm};
use netlink_packet_route::rule::{
    RuleAction as Action, RuleAttribute, RuleFlags, RuleMessage, RulePortRange, RuleUidRange,
};
use netlink_packet_route::{IpProtocol, RouteNetlinkMessage};
use pointsman_model::vrrp::{Rule, RuleAction};

use crate::address::{KEEPALIVED, Request, family};

/// Adds a rule.
pub(crate) fn add(rule: &Rule) -> Request {
    (
        RouteNetlinkMessage::NewRule(message(rule)),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Removes it.
pub(crate) fn remove(rule: &Rule) -> Request {
    (RouteNetlinkMessage::DelRule(message(rule)), 0)
}

/// Whether a listed rule is this one: family, preference and action.
pub(crate) fn is_listed(rule: &Rule, listed: &RuleMessage) -> bool {
    let ours = message(rule);
    let preference = |message: &RuleMessage| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RuleAttribute::Priority(preference) => Some(*preference),
                _ => None,
            })
    };
    ours.header.family == listed.header.family
        && ours.header.action == listed.header.action
        && rule
            .preference
            .is_none_or(|wanted| preference(listed) == Some(wanted))
}

fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.family);
    message.header.tos = rule.tos.unwrap_or(0);
    if rule.invert {
        message.header.flags |= RuleFlags::Invert;
    }
    let attributes = &mut message.attributes;
    let header = &mut message.header;
    match rule.action {
        RuleAction::Table(table) => {
            header.action = Action::ToTable;
            header.table = u8::try_from(table).unwrap_or(0);
            attributes.push(RuleAttribute::Table(table));
        }
        RuleAction::L3mdev => {
            header.action = Action::ToTable;
            attributes.push(RuleAttribute::L3MDev(true));
        }
        RuleAction::Goto(preference) => {
            header.action = Action::Goto;
            attributes.push(RuleAttribute::Goto(preference));
        }
        RuleAction::Nop => header.action = Action::Nop,
        RuleAction::Blackhole => header.action = Action::Blackhole,
        RuleAction::Unreachable => header.action = Action::Unreachable,
        RuleAction::Prohibit => header.action = Action::Prohibit,
    }
    if let Some(from) = rule.from {
        header.src_len = from.prefix_len();
        attributes.push(RuleAttribute::Source(from.addr()));
    }
    if let Some(to) = rule.to {
        header.dst_len = to.prefix_len();
        attributes.push(RuleAttribute::Destination(to.addr()));
    }
    attributes.extend(rule.preference.map(RuleAttribute::Priority));
    if let Some((mark, mask)) = rule.mark {
        attributes.push(RuleAttribute::FwMark(mark));
        attributes.extend(mask.map(RuleAttribute::FwMask));
    }
    if let Some(realms) = rule.realms {
        attributes.push(RuleAttribute::Realm(RouteRealm {
            source: (realms >> 16) as u16,
            destination: realms as u16,
        }));
    }
    attributes.extend(
        rule.suppress_prefix_length
            .map(RuleAttribute::SuppressPrefixLen),
    );
    attributes.extend(
        rule.suppress_interface_group
            .map(RuleAttribute::SuppressIfGroup),
    );
    attributes.extend(rule.incoming.clone().map(RuleAttribute::Iifname));
    attributes.extend(rule.outgoing.clone().map(RuleAttribute::Oifname));
    attributes.extend(rule.tunnel_id.map(RuleAttribute::TunId));
    attributes.extend(
        rule.users
            .map(|(start, end)| RuleAttribute::UidRange(RuleUidRange { start, end })),
    );
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(
        rule.protocol.unwrap_or(KEEPALIVED),
    )));
    attributes.extend(
        rule.ip_protocol
            .map(|number| RuleAttribute::IpProtocol(IpProtocol::from(i32::from(number)))),
    );
    attributes.extend(
        rule.source_ports
            .map(|(start, end)| RuleAttribute::SourcePortRange(RulePortRange { start, end })),
    );
    attributes.extend(
        rule.destination_ports
            .map(|(start, end)| RuleAttribute::DestinationPortRange(RulePortRange { start, end })),
    );
    message
}
