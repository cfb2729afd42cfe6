//! `vrrp_sync_group`: its keywords, and what follows from them.

use std::collections::HashSet;

use pointsman_model::vrrp::{SyncGroup, VrrpInstance, VrrpNotify};

use super::global::GlobalDraft;
use super::keyword::{Args, Keyword, Reader};
use super::lex::Word;
use super::track::{self, Trackable, TrackingDraft, tracking_keywords};
use super::vrrp::notify_keywords;
use crate::diag::Place;

/// A `vrrp_sync_group` as it stands in the file.
#[derive(Debug)]
pub struct GroupDraft {
    /// Where it stands.
    pub at: Place,
    /// Its name.
    pub name: String,
    /// `group`.
    pub members: Vec<Word>,
    /// Tracking lists.
    pub tracking: TrackingDraft,
    /// `sync_group_tracking_weight`.
    pub member_weights: bool,
    /// Scripts.
    pub notify: VrrpNotify,
    /// `notify_priority_changes`.
    pub priority_changes: Option<bool>,
    /// `smtp_alert`.
    pub smtp_alert: Option<bool>,
}

/// `vrrp_sync_group NAME { … }`.
pub fn read(reader: &mut Reader<'_>, args: &mut Args<'_>) -> Option<GroupDraft> {
    let at = args.at();
    let block = args.block();
    let name = reader.text(args, "a name")?;
    let mut draft = GroupDraft {
        at,
        name,
        members: Vec::new(),
        tracking: TrackingDraft::default(),
        member_weights: false,
        notify: VrrpNotify::default(),
        priority_changes: None,
        smtp_alert: None,
    };
    reader.block(&mut draft, block, TABLES, "vrrp_sync_group");
    Some(draft)
}

/// All keywords of `vrrp_sync_group`.
pub const TABLES: &[&[Keyword<GroupDraft>]] =
    &[GROUP, GROUP_NOTIFY, tracking_keywords!(GroupDraft)];

/// Notification of groups.
pub const GROUP_NOTIFY: &[Keyword<GroupDraft>] = notify_keywords!(GroupDraft);

/// Plain keywords of `vrrp_sync_group`.
pub const GROUP: &[Keyword<GroupDraft>] = &[
    Keyword::sets("group", "{ VI … }", |_, d, a| {
        for entry in a.block() {
            d.members.extend(entry.words.iter().cloned());
        }
    }),
    Keyword::sets("sync_group_tracking_weight", "", |_, d, _| {
        d.member_weights = true
    }),
    Keyword::nothing(
        "global_tracking",
        "",
        "it has been the usual way since 2018",
    ),
];

/// Sync groups by their drafts: members are instances, each in one group.
pub fn resolve(
    reader: &mut Reader<'_>,
    drafts: Vec<GroupDraft>,
    globals: &GlobalDraft,
    trackable: &Trackable,
    instances: &mut [VrrpInstance],
) -> Vec<SyncGroup> {
    let mut taken = HashSet::new();
    let mut groups: Vec<SyncGroup> = Vec::new();
    for draft in drafts {
        let name = draft.name.clone();
        if groups.iter().any(|group| group.name == name) {
            reader.error(
                &draft.at,
                format!("there is a vrrp_sync_group `{name}` already"),
            );
            continue;
        }
        let mut members = Vec::new();
        for member in &draft.members {
            let known = instances
                .iter()
                .any(|instance| instance.name == member.text);
            let problem = if !known {
                format!("[{name}] there is no vrrp_instance `{}`", member.text)
            } else if !taken.insert(member.text.clone()) {
                format!("[{name}] `{}` is in a sync group already", member.text)
            } else {
                members.push(member.text.clone());
                continue;
            };
            reader.error(&member.at, problem);
        }
        match members.len() {
            0 => {
                reader.error(
                    &draft.at,
                    format!("[{name}] has no members, and is left out"),
                );
                continue;
            }
            1 => reader.error(
                &draft.at,
                format!("[{name}] has one member only, which is hardly meant"),
            ),
            _ => {}
        }
        for instance in instances.iter_mut().filter(|i| members.contains(&i.name)) {
            if let Some(changes) = draft.priority_changes {
                instance.notify.priority_changes |= changes;
            }
        }
        let tracking = track::resolve(reader, &draft.tracking, trackable, &name);
        let mut notify = draft.notify;
        notify.priority_changes = draft
            .priority_changes
            .unwrap_or(globals.defaults.notify_priority_changes);
        notify.mail = globals.mails_of_vrrp(draft.smtp_alert);
        groups.push(SyncGroup {
            name,
            members,
            tracking,
            member_weights: draft.member_weights,
            notify,
        });
    }
    groups
}
