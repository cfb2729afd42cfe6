//! How packets that netfilter marked come back to the programs.
//!
//! The programs see a packet before netfilter's rules can mark it. So new packets of a firewall-mark
//! service go on into the stack, are marked there, and are then routed by that mark out of `lo`, where
//! the TC egress program sees mark, packet and original interface and opens the connection. All later
//! packets of it are found before netfilter. For each family with such services the rules are
//!
//! ```text
//! 0:  from all iif lo goto 1             what comes from lo, or from the director itself, does not
//! 0:  from all fwmark M lookup TABLE     once for each mark
//! 1:  from all nop                       where the first rule leads to
//! 1:  from all lookup local              moved here from 0, where it would keep a local VIP's packets
//! ```
//!
//! and `TABLE` has a default route out of `lo`. The first rule is what makes it safe: a packet that the
//! program gives back to the stack by `lo` is not caught again, though netfilter marks it again; look-ups
//! by sockets and reverse path filters are not affected.
//!
//! All of it bears the director's number as routing protocol, so that whoever comes after a killed director
//! knows what to repair, or to remove: the rules of the kernel say all, nothing is kept elsewhere.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteMessage, RouteProtocol, RouteScope};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use pointsman_model::Family;
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

use crate::netlink::OURS;
use crate::nexthop;

/// The routing table of marked packets. No name in `rt_tables`, no range of a daemon.
const TABLE: u32 = 0x504d_6d6b;
/// The nexthop object of the IPv6 route. The kernel makes "unreachable" of an IPv6 route out of `lo`,
/// except when the route says so through such an object.
const NEXTHOP: u32 = TABLE;
/// `RT_TABLE_LOCAL`.
const LOCAL: u8 = 255;
/// Where rules come that precede everything.
const FIRST: u32 = 0;
/// Where the rest goes on.
const REST: u32 = 1;
/// Index of `lo`, and its name.
const LOOPBACK: (u32, &str) = (1, "lo");

/// One change of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Add(RuleMessage),
    Delete(RuleMessage),
}

/// Makes rules and routes of `family` what the services of `marks` need; where there are none, takes
/// them away.
///
/// # Errors
/// What the kernel refused.
pub(crate) async fn reconcile(
    handle: &Handle,
    family: Family,
    marks: &BTreeSet<u32>,
) -> Result<(), rtnetlink::Error> {
    let rules = handle.rule().get(version(family)).execute();
    let rules: Vec<_> = rules.try_collect().await?;
    let steps = plan(family, &rules, marks);
    if !marks.is_empty() {
        add_route(handle, family).await?;
    }
    for step in &steps {
        match step {
            Step::Add(rule) => {
                let mut request = handle.rule().add();
                *request.message_mut() = rule.clone();
                request.execute().await?;
            }
            Step::Delete(rule) => handle.rule().del(rule.clone()).execute().await?,
        }
    }
    if marks.is_empty() && !steps.is_empty() {
        remove_route(handle, family).await?;
    }
    Ok(())
}

/// What changes `rules`, which are in the kernel's order, to those that `marks` need. Carried out one
/// after the other: at no time is there no rule for local addresses.
fn plan(family: Family, rules: &[RuleMessage], marks: &BTreeSet<u32>) -> Vec<Step> {
    let mut steps = Vec::new();
    let missing = |rule: &RuleMessage| !rules.iter().any(|other| same(other, rule));
    let ours = rules.iter().filter(|rule| is_ours(rule));
    if marks.is_empty() {
        let local = local(family, FIRST, RouteProtocol::Kernel);
        // Where somebody else had moved it, it is not ours to move back.
        let moved = !missing(&self::local(family, REST, OURS));
        if moved && !rules.iter().any(|rule| is_local(rule, FIRST)) {
            steps.push(Step::Add(local));
        }
        let (by_mark, rest): (Vec<_>, Vec<_>) =
            ours.cloned().partition(|rule| mark(rule).is_some());
        steps.extend(by_mark.into_iter().chain(rest).map(Step::Delete));
        return steps;
    }
    // A local rule behind was put there by others, for rules of theirs to precede it, and stays.
    let first = rules.iter().any(|rule| is_local(rule, FIRST));
    let anywhere = rules.iter().any(|rule| is_local(rule, priority(rule)));
    let mut needed = vec![nop(family)];
    if first || !anywhere {
        needed.push(local(family, REST, OURS));
    }
    steps.extend(needed.into_iter().filter(missing).map(Step::Add));
    let skip = skip(family);
    let place = rules.iter().position(|rule| same(rule, &skip));
    if place.is_none() {
        steps.push(Step::Add(skip));
    }
    for (i, rule) in rules.iter().enumerate() {
        // Rules of one priority are in the order of their making: one that came before the first of
        // ours is made anew.
        if is_ours(rule)
            && mark(rule)
                .is_some_and(|mark| place.is_none_or(|place| i < place) || !marks.contains(&mark))
        {
            steps.push(Step::Delete(rule.clone()));
        }
    }
    for &mark in marks {
        let rule = by_mark(family, mark);
        let there = rules.iter().position(|other| same(other, &rule));
        if there.is_none() || place.is_none() || there < place {
            steps.push(Step::Add(rule));
        }
    }
    let moved = rules.iter().filter(|rule| is_local(rule, FIRST));
    steps.extend(moved.cloned().map(Step::Delete));
    steps
}

/// `iif lo goto 1`.
fn skip(family: Family) -> RuleMessage {
    let mut rule = rule(family, FIRST, RuleAction::Goto, OURS);
    rule.attributes.extend([
        RuleAttribute::Iifname(LOOPBACK.1.into()),
        RuleAttribute::Goto(REST),
    ]);
    rule
}

/// `fwmark M lookup TABLE`.
fn by_mark(family: Family, mark: u32) -> RuleMessage {
    let mut rule = rule(family, FIRST, RuleAction::ToTable, OURS);
    rule.attributes.extend([
        RuleAttribute::FwMark(mark),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Table(TABLE),
    ]);
    rule
}

/// `nop`.
fn nop(family: Family) -> RuleMessage {
    rule(family, REST, RuleAction::Nop, OURS)
}

/// `lookup local`.
fn local(family: Family, priority: u32, protocol: RouteProtocol) -> RuleMessage {
    let mut rule = rule(family, priority, RuleAction::ToTable, protocol);
    rule.header.table = LOCAL;
    rule
}

fn rule(family: Family, priority: u32, action: RuleAction, protocol: RouteProtocol) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = address_family(family);
    rule.header.action = action;
    rule.attributes = vec![
        RuleAttribute::Priority(priority),
        RuleAttribute::Protocol(protocol),
    ];
    rule
}

/// Whether the kernel's `rule` is what `wanted` asks for.
fn same(rule: &RuleMessage, wanted: &RuleMessage) -> bool {
    is_ours(rule) == is_ours(wanted)
        && rule.header.action == wanted.header.action
        && priority(rule) == priority(wanted)
        && mark(rule) == mark(wanted)
        && (wanted.header.table != LOCAL || rule.header.table == LOCAL)
}

fn is_ours(rule: &RuleMessage) -> bool {
    rule.attributes.contains(&RuleAttribute::Protocol(OURS))
}

/// Whether it is a rule of that priority that leads any packet to the local table.
fn is_local(rule: &RuleMessage, at: u32) -> bool {
    let selects = |attribute: &RuleAttribute| {
        matches!(
            attribute,
            RuleAttribute::Iifname(_) | RuleAttribute::Oifname(_) | RuleAttribute::FwMark(1..)
        )
    };
    let header = &rule.header;
    header.action == RuleAction::ToTable
        && header.table == LOCAL
        && (header.dst_len, header.src_len) == (0, 0)
        && priority(rule) == at
        && !rule.attributes.iter().any(selects)
}

/// The kernel leaves out a priority of 0.
fn priority(rule: &RuleMessage) -> u32 {
    let found = rule
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Priority(priority) => Some(*priority),
            _ => None,
        });
    found.unwrap_or(0)
}

fn mark(rule: &RuleMessage) -> Option<u32> {
    rule.attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::FwMark(mark) => Some(*mark),
            _ => None,
        })
}

async fn add_route(handle: &Handle, family: Family) -> Result<(), rtnetlink::Error> {
    if family == Family::V6 {
        nexthop::add(NEXTHOP, LOOPBACK.0)
            .await
            .map_err(|error| rtnetlink::Error::InvalidNla(format!("nexthop object: {error}")))?;
    }
    match handle.route().add(route(family)).execute().await {
        Err(rtnetlink::Error::NetlinkError(error))
            if error.to_io().raw_os_error() == Some(libc::EEXIST) =>
        {
            Ok(())
        }
        done => done,
    }
}

async fn remove_route(handle: &Handle, family: Family) -> Result<(), rtnetlink::Error> {
    if family == Family::V6 {
        let removed = nexthop::remove(NEXTHOP).await;
        return removed
            .map_err(|error| rtnetlink::Error::InvalidNla(format!("nexthop object: {error}")));
    }
    match handle.route().del(route(family)).execute().await {
        // Gone already.
        Err(rtnetlink::Error::NetlinkError(error))
            if error.to_io().raw_os_error() == Some(libc::ESRCH) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// `default dev lo table TABLE`.
fn route(family: Family) -> RouteMessage {
    match family {
        Family::V4 => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .output_interface(LOOPBACK.0)
            .scope(RouteScope::Link)
            .table_id(TABLE)
            .protocol(OURS)
            .build(),
        Family::V6 => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .nhid(NEXTHOP)
            .table_id(TABLE)
            .protocol(OURS)
            .build(),
    }
}

fn version(family: Family) -> IpVersion {
    match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    }
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

#[cfg(test)]
mod tests;
