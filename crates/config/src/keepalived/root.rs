//! The outermost level of the file, and putting everything together.

use pointsman_model::Site;
use pointsman_model::check::{Secret, TlsOptions};
use pointsman_model::vrrp::{
    GarpGroup, LinkDelay, Route, Rule, TrackGroup, VirtualAddress, VrrpSite,
};
use pointsman_model::{DaemonRole, DaemonSpec, SyncDaemon};

use super::global::{self, GlobalDraft};
use super::group::{self, GroupDraft, LocalGroup};
use super::include::Files;
use super::keyword::{Args, Keyword, Reader};
use super::names::Names;
use super::pool::{self, Surroundings};
use super::rule::Preferences;
use super::track::{self, Trackable};
use super::tree::Statement;
use super::virtual_server::{self, VirtualDraft};
use super::vrrp::{self, InstanceDraft};
use super::{Options, instance, route, rule, static_, sync_group};
use crate::diag::{Diagnostics, Place, Severity};

/// The whole file before defaults and derived rules.
#[derive(Default)]
pub struct FileDraft {
    globals: GlobalDraft,
    tls: TlsOptions,
    groups: Vec<GroupDraft>,
    local_groups: Vec<LocalGroup>,
    virtual_servers: Vec<VirtualDraft>,
    trackable: Trackable,
    instances: Vec<InstanceDraft>,
    sync_groups: Vec<sync_group::GroupDraft>,
    static_addresses: Vec<VirtualAddress>,
    static_routes: Vec<Route>,
    static_rules: Vec<Rule>,
    track_groups: Vec<TrackGroup>,
    garp_groups: Vec<GarpGroup>,
    link_delays: Vec<LinkDelay>,
    scripts_run: Option<Place>,
}

/// Understands a whole file.
pub fn read(
    statements: &[Statement],
    options: &Options,
    files: &dyn Files,
    diagnostics: &mut Diagnostics,
) -> Site {
    let mut reader = Reader {
        diagnostics,
        options,
        files,
        names: Names::default(),
        preferences: Preferences::default(),
    };
    let mut draft = FileDraft::default();
    reader.block(&mut draft, statements, &[KEYWORDS], "the outermost level");
    finish(&mut reader, draft)
}

/// Why namespaces do nothing.
const NO_NAMESPACE: &str =
    "`pointsman --netns NAME` says in which network namespace everything runs";
const NO_PID_FILES: &str = "a director's files are in /run/pointsman, one directory a namespace";
const NO_POLLING: &str = "the kernel tells of every change of a link at once";

/// Keywords of the outermost level.
pub const KEYWORDS: &[Keyword<FileDraft>] = &[
    Keyword::sets("global_defs", "{ … }", |r, d, a| {
        global::read(r, &mut d.globals, a)
    }),
    Keyword::nothing("net_namespace", "NAME", NO_NAMESPACE),
    Keyword::nothing("net_namespace_ipvs", "[NAME]", NO_NAMESPACE),
    Keyword::nothing("namespace_with_ipsets", "", NO_NAMESPACE),
    Keyword::nothing("instance", "NAME", NO_PID_FILES),
    Keyword::nothing("use_pid_dir", "", NO_PID_FILES),
    Keyword::nothing("linkbeat_use_polling", "", NO_POLLING),
    Keyword::nothing(
        "linkbeat_interfaces",
        "{ IF [MII|ETHTOOL|IOCTL] … }",
        NO_POLLING,
    ),
    Keyword::nothing(
        "child_wait_time",
        "SECS",
        "there are no child processes to wait for",
    ),
    Keyword::sets("track_group", "NAME { … }", |r, d, a| {
        d.track_groups.extend(static_::track_group(r, a));
    }),
    Keyword::sets("static_ipaddress", "{ IP[/N] … }", |r, d, a| {
        let found = vrrp::addresses(r, a.block());
        d.static_addresses
            .extend(found.into_iter().map(|(address, _)| address));
    }),
    Keyword::sets("static_routes", "{ ROUTE … }", |r, d, a| {
        d.static_routes
            .extend(a.block().iter().filter_map(|entry| route::read(r, entry)));
    }),
    Keyword::sets("static_rules", "{ RULE … }", |r, d, a| {
        let mut preferences = std::mem::take(&mut r.preferences);
        let rules = a
            .block()
            .iter()
            .filter_map(|entry| rule::read(r, entry, &mut preferences));
        d.static_rules.extend(rules);
        r.preferences = preferences;
    }),
    Keyword::sets("garp_group", "{ … }", |r, d, a| {
        d.garp_groups.extend(static_::garp_group(r, a))
    }),
    Keyword::sets(
        "interface_up_down_delays",
        "{ IF DOWN [UP] … }",
        |r, d, a| {
            d.link_delays.extend(static_::link_delays(r, a.block()));
        },
    ),
    Keyword::sets("vrrp_instance", "NAME { … }", |r, d, a| {
        d.instances.extend(vrrp::instance(r, a))
    }),
    Keyword::sets("vrrp_sync_group", "NAME { … }", |r, d, a| {
        d.sync_groups.extend(sync_group::read(r, a));
    }),
    Keyword::sets("vrrp_script", "NAME { … }", |r, d, a| {
        d.scripts_run.get_or_insert_with(|| a.at());
        track::script(r, &mut d.trackable, a);
    }),
    Keyword::sets("track_file", "NAME { … }", |r, d, a| {
        track::file(r, &mut d.trackable, a)
    }),
    Keyword::sets("vrrp_track_file", "NAME { … }", |r, d, a| {
        track::file(r, &mut d.trackable, a)
    }),
    Keyword::sets("vrrp_track_process", "NAME { … }", |r, d, a| {
        track::process(r, &mut d.trackable, a);
    }),
    Keyword::sets("bfd_instance", "NAME { … }", |r, d, a| {
        track::bfd(r, &mut d.trackable, a)
    }),
    Keyword::sets(
        "virtual_server",
        "IP [PORT] | fwmark N | group NAME { … }",
        |r, d, a| {
            d.virtual_servers.extend(virtual_server::read(r, a));
        },
    ),
    Keyword::sets("virtual_server_group", "NAME { … }", |r, d, a| {
        let Some(group) = group::read(r, a) else {
            return;
        };
        if d.groups.iter().any(|known| known.name == group.name) {
            let message = format!("there is a virtual_server_group `{}` already", group.name);
            return r.error(&group.at, message);
        }
        d.groups.push(group);
    }),
    Keyword::sets("local_address_group", "NAME { IP [IF] … }", local_group),
    Keyword::sets("laddr_group", "NAME { IP [IF] … }", local_group),
    Keyword::sets("SSL", "{ … }", |r, d, a| {
        r.block(&mut d.tls, a.block(), &[SSL], "SSL")
    }),
];

fn local_group(reader: &mut Reader<'_>, draft: &mut FileDraft, args: &mut Args<'_>) {
    let Some(group) = group::read_local(reader, args) else {
        return;
    };
    if draft.local_groups.iter().any(|g| g.name == group.name) {
        let message = format!(
            "there is a group of local addresses `{}` already",
            group.name
        );
        return reader.error(&group.at, message);
    }
    draft.local_groups.push(group);
}

/// Keywords of `SSL`.
pub const SSL: &[Keyword<TlsOptions>] = &[
    Keyword::sets("password", "STRING", |r, d, a| {
        d.key_password = r.text(a, "a password").map(Secret::new);
    }),
    Keyword::sets("ca", "FILE", |r, d, a| {
        d.ca = r.text(a, "a file").map(Into::into)
    }),
    Keyword::sets("certificate", "FILE", |r, d, a| {
        d.certificate = r.text(a, "a file").map(Into::into);
    }),
    Keyword::sets("key", "FILE", |r, d, a| {
        d.key = r.text(a, "a file").map(Into::into)
    }),
];

fn finish(reader: &mut Reader<'_>, mut draft: FileDraft) -> Site {
    draft.globals.finish(reader);
    let sync_interfaces: Vec<_> = draft
        .instances
        .iter()
        .filter_map(|i| Some((i.name.clone(), i.sync_interface.clone()?)))
        .collect();
    let (instances, sync_groups) = instance::resolve(
        reader,
        draft.instances,
        draft.sync_groups,
        &draft.globals,
        &draft.trackable,
    );
    for (instance, interface) in sync_interfaces {
        if draft.globals.globals.lvs_sync_daemon.is_some() {
            reader.error(&interface.at, "there is a synchronisation daemon already");
            continue;
        }
        draft.globals.globals.lvs_sync_daemon = Some(SyncDaemon {
            spec: DaemonSpec {
                role: DaemonRole::Master,
                interface: interface.text,
                syncid: 0,
                max_len_bytes: None,
                group: None,
                port: None,
                ttl: None,
            },
            instance: Some(instance),
        });
    }
    if let Some(daemon) = &mut draft.globals.globals.lvs_sync_daemon
        && let Some(name) = &daemon.instance
    {
        let id = draft.globals.sync_id;
        match instances.iter().find(|instance| instance.name == *name) {
            Some(instance) => daemon.spec.syncid = id.unwrap_or(instance.vrid.get()),
            None => {
                let at = Place::file("lvs_sync_daemon");
                reader.error(
                    &at,
                    format!("there is no vrrp_instance `{name}`; it runs in both roles"),
                );
                daemon.instance = None;
            }
        }
    }
    let sessions: Vec<String> = draft
        .trackable
        .sessions
        .iter()
        .map(|(session, _)| session.name.clone())
        .collect();
    let around = Surroundings {
        groups: &draft.groups,
        local_groups: &draft.local_groups,
        files: &draft.trackable.files,
        sessions: &sessions,
        tls: &draft.tls,
        smtp_alert: draft
            .globals
            .smtp_alert_checker
            .or(draft.globals.smtp_alert),
        log_all_failures: draft.globals.log_all_failures,
    };
    let virtual_servers = pool::resolve(reader, draft.virtual_servers, &around);
    unused_scripts(reader, &draft.trackable, &instances, &sync_groups);
    track_groups(reader, &draft.track_groups, &instances);
    Site {
        globals: draft.globals.globals,
        virtual_servers,
        vrrp: VrrpSite {
            globals: draft.globals.vrrp,
            instances,
            sync_groups,
            scripts: draft
                .trackable
                .scripts
                .into_iter()
                .map(|(script, ..)| script)
                .collect(),
            track_files: draft
                .trackable
                .files
                .into_iter()
                .map(|(file, _)| file)
                .collect(),
            track_processes: draft
                .trackable
                .processes
                .into_iter()
                .map(|(p, _)| p)
                .collect(),
            bfd_instances: draft
                .trackable
                .sessions
                .into_iter()
                .map(|(s, _)| s)
                .collect(),
            static_addresses: draft.static_addresses,
            static_routes: draft.static_routes,
            static_rules: draft.static_rules,
            track_groups: draft.track_groups,
            garp_groups: draft.garp_groups,
            link_delays: draft.link_delays,
        },
    }
}

fn unused_scripts(
    reader: &mut Reader<'_>,
    trackable: &Trackable,
    instances: &[pointsman_model::vrrp::VrrpInstance],
    groups: &[pointsman_model::vrrp::SyncGroup],
) {
    for (script, _, at) in &trackable.scripts {
        let by_instance = instances.iter().flat_map(|i| &i.tracking.scripts);
        let by_group = groups.iter().flat_map(|g| &g.tracking.scripts);
        if !by_instance
            .chain(by_group)
            .any(|tracked| tracked.name == script.name)
        {
            let message = format!(
                "vrrp_script `{}` is not tracked by anything, and does not run",
                script.name
            );
            reader.say(Severity::Warning, at.clone(), message, None);
        }
    }
}

fn track_groups(
    reader: &mut Reader<'_>,
    groups: &[TrackGroup],
    instances: &[pointsman_model::vrrp::VrrpInstance],
) {
    for group in groups {
        for name in &group.instances {
            if !instances.iter().any(|instance| instance.name == *name) {
                let at = Place::file("track_group");
                reader.error(
                    &at,
                    format!("({}) there is no vrrp_instance `{name}`", group.name),
                );
            }
        }
    }
}
