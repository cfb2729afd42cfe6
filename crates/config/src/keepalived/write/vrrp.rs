use pointsman_model::vrrp::{
    Authentication, BfdInstance, Broadcast, FileInit, HmacTrailer, IpvlanMode, ParameterMatch,
    Peers, Preemption, SyncGroup, TrackProcess, Tracked, Tracking, VirtualAddress,
    VirtualInterface, VrrpInstance, VrrpNotify, VrrpSite,
};

use super::super::auth::HMAC_MODES;
use super::{Writer, command, quoted, route, seconds, word};

pub fn write(out: &mut Writer, site: &VrrpSite) {
    tracked_objects(out, site);
    for group in &site.track_groups {
        out.block(format_args!("track_group {}", word(&group.name)), |out| {
            names(out, "group", &group.instances);
        });
    }
    if !site.static_addresses.is_empty() {
        out.block("static_ipaddress", |out| {
            addresses(out, &site.static_addresses)
        });
    }
    route::routes(out, "static_routes", &site.static_routes);
    route::rules(out, "static_rules", &site.static_rules);
    for group in &site.garp_groups {
        out.block("garp_group", |out| {
            out.value("garp_interval", group.garp_interval.map(seconds));
            out.value("gna_interval", group.gna_interval.map(seconds));
            names(out, "interfaces", &group.interfaces);
        });
    }
    if !site.link_delays.is_empty() {
        out.block("interface_up_down_delays", |out| {
            for delay in &site.link_delays {
                let (down, up) = (seconds(delay.down), seconds(delay.up));
                out.line(format_args!("{} {down} {up}", word(&delay.interface)));
            }
        });
    }
    site.sync_groups
        .iter()
        .for_each(|group| sync_group(out, group));
    site.instances
        .iter()
        .for_each(|instance| self::instance(out, instance));
}

fn names(out: &mut Writer, keyword: &str, names: &[String]) {
    out.block(keyword, |out| {
        names.iter().for_each(|name| out.line(word(name)))
    });
}

fn tracked_objects(out: &mut Writer, site: &VrrpSite) {
    for script in &site.scripts {
        out.block(format_args!("vrrp_script {}", word(&script.name)), |out| {
            out.script("script", Some(&script.script));
            out.time("interval", script.interval);
            out.time("timeout", script.timeout);
            out.value("rise", Some(script.rise));
            out.value("fall", Some(script.fall));
            out.flag("init_fail", script.starts_failed);
        });
    }
    for file in &site.track_files {
        out.block(format_args!("track_file {}", word(&file.name)), |out| {
            out.value("file", Some(quoted(&file.path.to_string_lossy())));
            out.value(
                "init_file",
                file.init.map(|FileInit { value, overwrite }| {
                    format!("{value}{}", if overwrite { " overwrite" } else { "" })
                }),
            );
        });
    }
    site.track_processes
        .iter()
        .for_each(|process| self::process(out, process));
    site.bfd_instances
        .iter()
        .for_each(|session| bfd(out, session));
}

fn process(out: &mut Writer, process: &TrackProcess) {
    out.block(
        format_args!("vrrp_track_process {}", word(&process.name)),
        |out| {
            let mut argv = vec![process.program.clone()];
            argv.extend(process.parameters.iter().cloned());
            out.value("process", Some(quoted(&command(&argv))));
            out.value(
                "param_match",
                match process.parameter_match {
                    Some(ParameterMatch::Initial) => Some("initial"),
                    Some(ParameterMatch::Partial) => Some("partial"),
                    Some(ParameterMatch::Exact) | None => None,
                },
            );
            out.flag("full_command", process.full_command);
            if process.quorum > 0 {
                out.value("quorum", Some(process.quorum));
            }
            out.value("quorum_max", process.quorum_max);
            if !process.fork_delay.is_zero() {
                out.time("fork_delay", process.fork_delay);
            }
            if !process.terminate_delay.is_zero() {
                out.time("terminate_delay", process.terminate_delay);
            }
        },
    );
}

fn bfd(out: &mut Writer, session: &BfdInstance) {
    out.block(
        format_args!("bfd_instance {}", word(&session.name)),
        |out| {
            out.value("neighbor_ip", Some(session.neighbour));
            out.value("source_ip", session.source);
            out.value("min_rx", Some(session.min_rx.as_millis()));
            out.value("min_tx", Some(session.min_tx.as_millis()));
            out.value("idle_tx", Some(session.idle_tx.as_millis()));
            out.value("multiplier", Some(session.multiplier));
            out.flag("passive", session.passive);
            out.value("ttl", Some(session.ttl));
            out.value("max_hops", Some(session.max_hops));
            out.boolean("multihop", session.multihop);
            out.flag("vrrp", session.for_vrrp);
            out.flag("checker", session.for_checkers);
        },
    );
}

fn sync_group(out: &mut Writer, group: &SyncGroup) {
    out.block(
        format_args!("vrrp_sync_group {}", word(&group.name)),
        |out| {
            names(out, "group", &group.members);
            tracking(out, &group.tracking);
            out.flag("sync_group_tracking_weight", group.member_weights);
            notify(out, &group.notify);
        },
    );
}

fn tracking(out: &mut Writer, tracking: &Tracking) {
    for (keyword, list) in [
        ("track_interface", &tracking.interfaces),
        ("track_script", &tracking.scripts),
        ("track_file", &tracking.files),
        ("track_process", &tracking.processes),
        ("track_bfd", &tracking.bfd),
    ] {
        if !list.is_empty() {
            out.block(keyword, |out| {
                list.iter().for_each(|tracked| self::tracked(out, tracked))
            });
        }
    }
}

fn tracked(out: &mut Writer, tracked: &Tracked) {
    let reverse = if tracked.weight.reverse {
        " reverse"
    } else {
        ""
    };
    out.line(format_args!(
        "{} weight {}{reverse}",
        word(&tracked.name),
        tracked.weight.points
    ));
}

fn notify(out: &mut Writer, notify: &VrrpNotify) {
    out.script("notify_master", notify.master.as_ref());
    out.script("notify_backup", notify.backup.as_ref());
    out.script("notify_fault", notify.fault.as_ref());
    out.script("notify_stop", notify.stop.as_ref());
    match &notify.deleted {
        Some(script) => out.script("notify_deleted", Some(script)),
        None => out.flag("notify_deleted", notify.says_deleted),
    }
    out.script(
        "notify_master_rx_lower_pri",
        notify.master_rx_lower_priority.as_ref(),
    );
    out.script("notify", notify.any.as_ref());
    out.boolean("notify_priority_changes", notify.priority_changes);
    out.boolean("smtp_alert", notify.mail);
}

fn instance(out: &mut Writer, instance: &VrrpInstance) {
    out.block(
        format_args!("vrrp_instance {}", word(&instance.name)),
        |out| {
            out.line(if instance.starts_as_master {
                "state MASTER"
            } else {
                "state BACKUP"
            });
            out.word("interface", instance.interface.as_deref());
            out.word("vrf", instance.vrf.as_deref());
            out.value("virtual_router_id", Some(instance.vrid));
            out.value("priority", Some(instance.priority));
            out.value("version", Some(instance.version.number()));
            out.time("advert_int", instance.advert_interval.duration());
            authentication(out, &instance.authentication);
            if let Some(trailer) = &instance.hmac {
                hmac(out, trailer);
            }
            peers(out, instance);
            virtual_interface(out, instance);
            match instance.preemption {
                Preemption::AtOnce => out.line("preempt"),
                Preemption::After(delay) => out.time("preempt_delay", delay),
                Preemption::Never => out.line("nopreempt"),
            }
            timing(out, instance);
            out.flag("promote_secondaries", instance.promote_secondaries);
            out.boolean("v3_checksum_as_v2", instance.checksum_as_v2);
            out.boolean("dont_track_primary", instance.ignores_interface);
            out.boolean("lower_prio_no_advert", instance.silent_to_lower);
            out.boolean("higher_prio_send_advert", instance.advert_before_yielding);
            out.boolean("owner_ignore_adverts", instance.owner_ignores_adverts);
            out.line(if instance.accept {
                "accept"
            } else {
                "no_accept"
            });
            out.boolean("skip_check_adv_addr", instance.skips_address_check);
            out.boolean("strict_mode", false);
            out.value("kernel_rx_buf_size", instance.receive_buffer_bytes);
            tracking(out, &instance.tracking);
            notify(out, &instance.notify);
            if instance.addresses.is_empty() {
                out.line("no_virtual_ipaddress");
            } else {
                out.block("virtual_ipaddress", |out| {
                    addresses(out, &instance.addresses)
                });
            }
            if !instance.excluded.is_empty() {
                out.block("virtual_ipaddress_excluded", |out| {
                    addresses(out, &instance.excluded)
                });
            }
            route::routes(out, "virtual_routes", &instance.routes);
            route::rules(out, "virtual_rules", &instance.rules);
        },
    );
}

fn authentication(out: &mut Writer, authentication: &Authentication) {
    let (kind, key) = match authentication {
        Authentication::None => return,
        Authentication::Pass(key) => ("PASS", key),
        Authentication::Ah(key) => ("AH", key),
    };
    let end = key
        .reveal()
        .iter()
        .rposition(|b| *b != 0)
        .map_or(0, |i| i + 1);
    let password = String::from_utf8_lossy(&key.reveal()[..end]);
    out.block("authentication", |out| {
        out.value("auth_type", Some(kind));
        out.word("auth_pass", Some(&password));
    });
}

fn hmac(out: &mut Writer, trailer: &HmacTrailer) {
    out.block("auth_hmac", |out| {
        for key in &trailer.keys {
            let hex: String = key
                .key
                .reveal()
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            out.line(format_args!("key {} hex:{hex}", key.id));
        }
        out.value("active_key", Some(trailer.active_key));
        out.value(
            "anti_replay",
            Some(if trailer.monotonic {
                "monotonic"
            } else {
                "time"
            }),
        );
        out.value("time_window", Some(trailer.time_window.as_secs()));
        let mode = HMAC_MODES.iter().find(|(_, mode)| *mode == trailer.mode);
        out.value("mode", mode.map(|(name, _)| *name));
    });
}

fn peers(out: &mut Writer, instance: &VrrpInstance) {
    match &instance.peers {
        Peers::Multicast(group) => {
            out.value("mcast_src_ip", instance.source);
            out.value("mcast_dst_ip", Some(group));
        }
        Peers::Unicast(unicast) => {
            out.value("unicast_src_ip", instance.source);
            out.block("unicast_peer", |out| {
                for peer in &unicast.peers {
                    let mut line = peer.address.to_string();
                    if (peer.min_ttl, peer.max_ttl) != (0, 255) {
                        line.push_str(&format!(
                            " min_ttl {} max_ttl {}",
                            peer.min_ttl, peer.max_ttl
                        ));
                    }
                    out.line(line);
                }
            });
            out.flag("unicast_fault_no_peer", unicast.peers.is_empty());
            out.value("unicast_ttl", unicast.ttl);
            out.boolean("check_unicast_src", unicast.check_source);
        }
    }
    out.flag("track_src_ip", instance.track_source);
}

fn virtual_interface(out: &mut Writer, instance: &VrrpInstance) {
    let group = |group: &Option<u32>| group.map(|n| format!(" group {n}")).unwrap_or_default();
    let named = |name: &Option<String>| match name {
        Some(name) => format!(" name {}", word(name)),
        None => String::new(),
    };
    out.flag("use_vmac_addr", instance.vmac_for_addresses);
    match &instance.virtual_interface {
        None => {}
        Some(VirtualInterface::Vmac {
            name,
            mac,
            adverts_on_base,
            group: number,
        }) => {
            let octets = |mac: [u8; 6]| mac.map(|b| format!("{b:02x}")).join(":");
            let mac = mac
                .map(|mac| format!(" {}", octets(mac)))
                .unwrap_or_default();
            out.line(format_args!(
                "use_vmac{}{mac}{}",
                named(name),
                group(number)
            ));
            out.flag("vmac_xmit_base", *adverts_on_base);
        }
        Some(VirtualInterface::Ipvlan {
            name,
            address,
            mode,
            group: number,
        }) => {
            let address = address.map(|ip| format!(" {ip}")).unwrap_or_default();
            let mode = match mode {
                IpvlanMode::Bridge => "bridge",
                IpvlanMode::Private => "private",
                IpvlanMode::Vepa => "vepa",
            };
            out.line(format_args!(
                "use_ipvlan{}{address} {mode}{}",
                named(name),
                group(number)
            ));
        }
    }
}

fn timing(out: &mut Writer, instance: &VrrpInstance) {
    let garp = &instance.garp;
    out.value("down_timer_adverts", Some(instance.down_timer_adverts));
    out.value("timer_expired_backup", instance.timer_expired_backup);
    out.value("garp_master_delay", Some(garp.delay.as_secs()));
    out.value("garp_master_repeat", Some(garp.repeat));
    out.value("garp_master_refresh", Some(garp.refresh.as_secs()));
    out.value("garp_master_refresh_repeat", Some(garp.refresh_repeat));
    out.value("garp_lower_prio_delay", Some(garp.lower_delay.as_secs()));
    out.value("garp_lower_prio_repeat", Some(garp.lower_repeat));
    let all = if garp.extra_all { "all " } else { "" };
    out.line(format_args!(
        "garp_extra_if {all}{}",
        garp.extra_interval.as_secs()
    ));
}

fn addresses(out: &mut Writer, addresses: &[VirtualAddress]) {
    addresses
        .iter()
        .for_each(|address| out.line(self::address(address)));
}

fn address(address: &VirtualAddress) -> String {
    let mut line = match address.peer {
        Some(peer) => format!(
            "{} peer {peer}/{}",
            address.ip(),
            address.address.prefix_len()
        ),
        None => address.address.to_string(),
    };
    let mut add = |text: String| {
        line.push(' ');
        line.push_str(&text);
    };
    if let Some(interface) = &address.interface {
        add(format!("dev {}", word(interface)));
    }
    match address.broadcast {
        None => {}
        Some(Broadcast::Ones) => add("brd +".into()),
        Some(Broadcast::Zeros) => add("brd -".into()),
        Some(Broadcast::Address(broadcast)) => add(format!("brd {broadcast}")),
    }
    if let Some(scope) = address.scope {
        add(format!("scope {scope}"));
    }
    if let Some(label) = &address.label {
        add(format!("label {}", word(label)));
    }
    let flags = &address.flags;
    for (flag, on) in [
        ("home", flags.home),
        ("-nodad", !flags.nodad && address.ip().is_ipv6()),
        ("mngtmpaddr", flags.mngtmpaddr),
        ("noprefixroute", flags.noprefixroute),
        ("autojoin", flags.autojoin),
        ("no_track", address.no_track),
        ("use_vmac", address.use_vmac),
    ] {
        if on {
            add(flag.into());
        }
    }
    add(match address.preferred_lifetime {
        Some(lifetime) => format!("preferred_lft {}", lifetime.as_secs()),
        None => "preferred_lft forever".into(),
    });
    if let Some(group) = &address.track_group {
        add(format!("track_group {}", word(group)));
    }
    line
}
