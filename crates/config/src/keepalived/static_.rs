//! What stands beside instances: static addresses, routes and rules, the groups that follow them,
//! and how links are watched.

use std::time::Duration;

use pointsman_model::vrrp::{GarpGroup, LinkDelay, TrackGroup};

use super::keyword::{Args, Keyword, Reader};
use super::tree::Statement;

/// `track_group NAME { group { VI … } }`.
pub fn track_group(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<TrackGroup> {
    let block = args.block();
    let name = reader.text(args, "a name")?;
    let mut group = TrackGroup {
        name,
        instances: Vec::new(),
    };
    reader.block(&mut group, block, &[TRACK_GROUP], "track_group");
    Some(group)
}

/// Keywords of `track_group`.
pub const TRACK_GROUP: &[Keyword<TrackGroup>] =
    &[Keyword::sets("group", "{ VI … }", |_, d, a| {
        for entry in a.block() {
            d.instances
                .extend(entry.words.iter().map(|word| word.text.clone()));
        }
    })];

/// `garp_group { … }`.
pub fn garp_group(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<GarpGroup> {
    let at = args.at();
    let mut group = GarpGroup {
        garp_interval: None,
        gna_interval: None,
        interfaces: Vec::new(),
    };
    reader.block(&mut group, args.block(), &[GARP_GROUP], "garp_group");
    if group.interfaces.is_empty() {
        reader.error(&at, "this garp_group has no interface, and is left out");
        return None;
    }
    Some(group)
}

/// Keywords of `garp_group`.
pub const GARP_GROUP: &[Keyword<GarpGroup>] = &[
    Keyword::sets("garp_interval", "SECS", |r, d, a| {
        d.garp_interval = r.timer(a, 0.000001..=i32::MAX.into());
    }),
    Keyword::sets("gna_interval", "SECS", |r, d, a| {
        d.gna_interval = r.timer(a, 0.000001..=i32::MAX.into());
    }),
    Keyword::sets("interface", "IF", |r, d, a| {
        if let Some(word) = r.need(a, "an interface") {
            r.check_interface(word);
            d.interfaces.push(word.text.clone());
        }
    }),
    Keyword::sets("interfaces", "{ IF … }", |r, d, a| {
        for word in a.block().iter().flat_map(|entry| &entry.words) {
            r.check_interface(word);
            d.interfaces.push(word.text.clone());
        }
    }),
];

/// `interface_up_down_delays { IF DOWN [UP] … }`.
pub fn link_delays(reader: &mut Reader<'_>, block: &[Statement]) -> Vec<LinkDelay> {
    block
        .iter()
        .filter_map(|entry| link_delay(reader, entry))
        .collect()
}

fn link_delay(reader: &mut Reader<'_>, entry: &Statement) -> Option<LinkDelay> {
    let mut words = Args::of_entry(entry);
    let interface = words.take()?;
    reader.check_interface(interface);
    let down = reader.value(&mut words, interface)?;
    let down = reader.timer_of(down, 0.0..=255.0)?;
    let up = match words.take() {
        Some(word) => reader.timer_of(word, 0.0..=255.0)?,
        None => Duration::ZERO,
    };
    Some(LinkDelay {
        interface: interface.text.clone(),
        down,
        up,
    })
}
