//! `pointsman status`: one screen for a tired operator, the worst first, in words.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pointsman_api::{
    CheckView, Client, Error as ApiError, LdirectordView, RealServerView, SiteView, Status,
    VirtualServerView,
};
use pointsman_model::vrrp::{VrrpInstanceView, VrrpState};

use crate::{report, say};

/// Healthy real servers of a virtual server that are shown one by one.
const SHOWN: usize = 8;
/// Exit status when no director runs (as the LSB has it for init scripts).
const NOT_RUNNING: u8 = 3;

/// Arguments of `pointsman status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// As JSON, with everything.
    #[arg(long)]
    json: bool,
}

/// Runs `pointsman status`. Its exit status is 0 when all is well, 1 when something is not, and 3
/// when no director runs.
pub fn run(args: &StatusArgs) -> ExitCode {
    report(status(args))
}

fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let client = Client::here()?;
    let director = match client.status() {
        Err(error @ ApiError::NoDirector { .. }) => {
            eprintln!("pointsman: {error}");
            return Ok(ExitCode::from(NOT_RUNNING));
        }
        answer => answer?,
    };
    let (site, ldirectords) = (client.site()?, client.ldirectords()?);
    let clock = Clock::now();
    let all = All {
        director: &director,
        site: site.as_ref(),
        ldirectords: &ldirectords,
    };
    let problems = all.problems(&clock);
    if args.json {
        say(&(serde_json::to_string_pretty(&all)? + "\n"));
    } else {
        say(&text(&all, &clock));
    }
    Ok(if problems == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Now, and the zone in which times are shown.
struct Clock {
    now: u64,
    zone: TimeZone,
}

impl Clock {
    fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            now: since.unwrap_or_default().as_secs(),
            zone: TimeZone::system(),
        }
    }

    /// `since 02:13, 3 min ago`; with the day when that is not today.
    fn since(&self, at: u64) -> String {
        let zoned = |secs: u64| {
            let secs = i64::try_from(secs).unwrap_or(i64::MAX);
            let timestamp = Timestamp::from_second(secs).unwrap_or(Timestamp::MAX);
            timestamp.to_zoned(self.zone.clone())
        };
        let (then, now) = (zoned(at), zoned(self.now));
        let form = if then.date() == now.date() {
            "%H:%M"
        } else {
            "%d %b %H:%M"
        };
        let ago = ago(self.now.saturating_sub(at));
        format!("since {}, {ago} ago", then.strftime(form))
    }
}

/// A span in its largest unit, as people say it.
fn ago(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86400),
    }
}

/// Everything there is to tell.
#[derive(serde::Serialize)]
struct All<'a> {
    director: &'a Status,
    site: Option<&'a SiteView>,
    #[serde(rename = "ldirectord")]
    ldirectords: &'a [LdirectordView],
}

impl All<'_> {
    /// Virtual servers, whoever checks them.
    fn pools(&self) -> impl Iterator<Item = &VirtualServerView> {
        let site = self.site.iter().map(|site| &site.virtual_servers);
        let ldirectords = self.ldirectords.iter().map(|told| &told.virtual_servers);
        site.chain(ldirectords).flatten()
    }

    fn faults(&self) -> usize {
        let instances = self.site.iter().flat_map(|site| &site.vrrp.instances);
        instances.filter(|i| i.state == VrrpState::Fault).count()
    }

    fn silent(&self, clock: &Clock) -> impl Iterator<Item = &LdirectordView> {
        let now = clock.now;
        self.ldirectords
            .iter()
            .filter(move |told| told.is_silent(now))
    }

    /// How many things are not as they should be.
    fn problems(&self, clock: &Clock) -> usize {
        let down = self.pools().filter(|pool| !pool.up).count();
        let servers = self.pools().flat_map(|pool| &pool.real_servers);
        let out = servers.filter(|server| !server.up).count();
        let refused = self.site.is_some_and(|site| site.refused.is_some());
        let silent = self.silent(clock).count();
        down + out + self.faults() + silent + usize::from(refused) + self.director.warnings.len()
    }
}

fn text(all: &All<'_>, clock: &Clock) -> String {
    let mut text = String::new();
    let director = all.director;
    let up = ago(director.uptime_secs);
    if all.site.is_none() && all.ldirectords.is_empty() {
        let _ = writeln!(
            text,
            "the director runs for {up} and follows no configuration; {} services, {} real servers",
            director.tables.services, director.tables.servers
        );
        warnings(&mut text, director);
        text.push_str("more: pointsman director status, ipvsadm -Ln\n");
        return text;
    }
    headline(&mut text, all, clock);
    warnings(&mut text, director);
    if let Some(refused) = all.site.and_then(|site| site.refused.as_ref()) {
        let _ = writeln!(
            text,
            "REFUSED  {} ({}); what was read before goes on",
            refused.file,
            clock.since(refused.at)
        );
        for line in refused.problems.lines().take(6) {
            let _ = writeln!(text, "         {line}");
        }
    }
    for told in all.silent(clock) {
        let _ = writeln!(
            text,
            "SILENT   ldirectord {} (process {}): nothing heard {}; its servers stay as they are",
            told.file,
            told.pid,
            clock.since(told.told_at)
        );
    }
    let mut instances: Vec<_> = all.site.iter().flat_map(|s| &s.vrrp.instances).collect();
    instances.sort_by_key(|instance| instance.state != VrrpState::Fault);
    for instance in instances {
        vrrp(&mut text, instance, clock);
    }
    let mut pools: Vec<_> = all.pools().collect();
    pools.sort_by_key(|pool| {
        let all_in = pool.real_servers.iter().all(|server| server.up);
        (pool.up, all_in)
    });
    for pool in pools {
        virtual_server(&mut text, pool, clock);
    }
    sources(&mut text, all, clock);
    let _ = writeln!(
        text,
        "director up for {up}, {} connections",
        director.tables.connections
    );
    text
}

/// Where all that comes from.
fn sources(text: &mut String, all: &All<'_>, clock: &Clock) {
    if let Some(site) = all.site {
        let lost = &site.lost;
        let lost = lost.scripts + lost.lines + lost.letters + lost.events;
        if lost > 0 {
            let _ = writeln!(
                text,
                "{lost} notifications were lost, since too many came at once"
            );
        }
        let _ = writeln!(text, "{} read {}", site.file, clock.since(site.read_at));
    }
    for told in all.ldirectords {
        let _ = writeln!(
            text,
            "{} checked by ldirectord, process {}",
            told.file, told.pid
        );
    }
}

fn headline(text: &mut String, all: &All<'_>, clock: &Clock) {
    let pools = all.pools().count();
    let down = all.pools().filter(|pool| !pool.up).count();
    let servers: Vec<_> = all.pools().flat_map(|pool| &pool.real_servers).collect();
    let out = servers.iter().filter(|server| !server.up).count();
    let (faults, silent) = (all.faults(), all.silent(clock).count());
    if down + out + faults + silent == 0 {
        let _ = writeln!(
            text,
            "all is well: {pools} virtual servers up, {} real servers in",
            servers.len()
        );
        return;
    }
    let mut parts = Vec::new();
    if silent > 0 {
        parts.push(format!(
            "{silent} of {} ldirectord silent",
            all.ldirectords.len()
        ));
    }
    if faults > 0 {
        let instances = all.site.map_or(0, |site| site.vrrp.instances.len());
        parts.push(format!("{faults} of {instances} VRRP instances in fault"));
    }
    if down > 0 {
        parts.push(format!("{down} of {pools} virtual servers DOWN"));
    }
    if out > 0 {
        parts.push(format!("{out} of {} real servers out", servers.len()));
    }
    let _ = writeln!(text, "{}", parts.join(", "));
}

fn warnings(text: &mut String, director: &Status) {
    for warning in &director.warnings {
        let _ = writeln!(text, "WARNING  {warning}");
    }
    for hop in &director.next_hops {
        if let Some(problem) = &hop.problem {
            let _ = writeln!(text, "NO WAY   to real server {}: {problem}", hop.server);
        }
    }
}

fn vrrp(text: &mut String, instance: &VrrpInstanceView, clock: &Clock) {
    let _ = write!(
        text,
        "{:<8} VRRP instance {}",
        instance.state.name(),
        instance.name
    );
    if let Some(interface) = &instance.interface {
        let _ = write!(text, " on {interface}");
    }
    let _ = write!(text, ", priority {}", instance.effective_priority);
    if instance.state == VrrpState::Backup
        && let Some((master, priority)) = instance.master
    {
        let _ = write!(text, ", master is {master} with {priority}");
    }
    if !instance.faults.is_empty() {
        let _ = write!(text, ": {}", instance.faults.join("; "));
    }
    if let (true, Some((from, why))) = (instance.faults.is_empty(), &instance.last_refusal) {
        let _ = write!(text, "; last advert refused: {from}: {why}");
    }
    let since = instance.since.duration_since(UNIX_EPOCH);
    let _ = writeln!(
        text,
        "; {}",
        clock.since(since.unwrap_or_default().as_secs())
    );
}

fn virtual_server(text: &mut String, pool: &VirtualServerView, clock: &Clock) {
    let count = pool.real_servers.len();
    let live = pool.real_servers.iter().filter(|server| server.up).count();
    let state = if pool.up { "up" } else { "DOWN" };
    let _ = write!(
        text,
        "{state:<8} virtual server {}: {live} of {count} real servers in",
        pool.name
    );
    if !pool.up && live > 0 {
        let _ = write!(
            text,
            ", weight {} of the {} it wants",
            pool.live_weight,
            pool.quorum + pool.hysteresis
        );
    }
    if pool.sorry_in_use
        && let Some(sorry) = pool.sorry_server
    {
        let _ = write!(
            text,
            "; sorry server {} answers",
            SocketAddr::new(sorry.addr, sorry.port)
        );
    }
    if pool.suspended {
        let _ = write!(text, "; not checked: its address is not on this host");
    }
    let _ = writeln!(text, "; {}", clock.since(pool.since));
    for server in pool.real_servers.iter().filter(|server| !server.up) {
        real_server(text, server, clock);
    }
    let healthy: Vec<_> = pool
        .real_servers
        .iter()
        .filter(|server| server.up)
        .collect();
    let shown = if healthy.len() > SHOWN {
        SHOWN - 1
    } else {
        SHOWN
    };
    for server in healthy.iter().take(shown) {
        real_server(text, server, clock);
    }
    if healthy.len() > shown {
        let _ = writeln!(text, "  in     {} more real servers", healthy.len() - shown);
    }
}

fn real_server(text: &mut String, server: &RealServerView, clock: &Clock) {
    let name = SocketAddr::new(server.server.addr, server.server.port);
    let since = clock.since(server.since);
    if !server.up {
        let why = match &server.held {
            Some(why) => why.clone(),
            None => server
                .checks
                .iter()
                .filter(|check| !check.up)
                .map(failure)
                .collect::<Vec<_>>()
                .join("; "),
        };
        let _ = writeln!(text, "  OUT    real server {name}: {why}; out {since}");
        return;
    }
    let weight = match server.table_weight {
        Some(weight) => format!("weight {weight}"),
        None => "waits for the quorum".to_owned(),
    };
    let _ = write!(
        text,
        "  in     real server {name}: {weight}, {} active and {} other connections; in {since}",
        server.active, server.inactive
    );
    for check in server.checks.iter().filter(|check| check.forgiven > 0) {
        let _ = write!(
            text,
            "; shaky: {} ({} of {} tries)",
            check.reason, check.forgiven, check.tries
        );
    }
    text.push('\n');
}

/// `connection refused (3 of 3 tries)`.
fn failure(check: &CheckView) -> String {
    if check.reason.is_empty() {
        return format!("{} has not passed yet", check.kind);
    }
    match check.tries {
        0 | 1 => check.reason.clone(),
        tries => format!("{} ({tries} of {tries} tries)", check.reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_model::ServerKey;

    fn check(up: bool, reason: &str, forgiven: u32) -> CheckView {
        CheckView {
            kind: "TCP_CHECK".into(),
            up,
            since: 0,
            reason: reason.into(),
            forgiven,
            tries: 3,
            probes: 9,
            failures: 3,
            took_ms: 1.0,
            next_secs: None,
            suspended: false,
            restarts: 0,
        }
    }

    fn server(last: u8, up: bool, check: CheckView) -> RealServerView {
        RealServerView {
            server: ServerKey {
                addr: [10, 0, 0, last].into(),
                port: 80,
            },
            up,
            since: 7 * 3600 + 13 * 60,
            weight: 3,
            table_weight: up.then_some(3),
            held: None,
            active: 12,
            inactive: 4,
            checks: vec![check],
        }
    }

    fn clock() -> Clock {
        Clock {
            now: 7 * 3600 + 16 * 60,
            zone: TimeZone::UTC,
        }
    }

    #[test]
    fn the_worst_comes_first_and_in_words() {
        let mut pool = VirtualServerView {
            name: "[192.0.2.1]:tcp:80".into(),
            services: Vec::new(),
            up: true,
            since: 0,
            live_weight: 3,
            quorum: 1,
            hysteresis: 0,
            sorry_server: None,
            sorry_in_use: false,
            suspended: false,
            real_servers: vec![
                server(2, true, check(true, "no answer in 5 s", 1)),
                server(3, false, check(false, "connection refused", 0)),
            ],
        };
        let mut shown = String::new();
        virtual_server(&mut shown, &pool, &clock());
        assert_eq!(
            shown,
            "up       virtual server [192.0.2.1]:tcp:80: 1 of 2 real servers in; since 00:00, 7 h \
             ago\n  \
             OUT    real server 10.0.0.3:80: connection refused (3 of 3 tries); out since 07:13, 3 \
             min ago\n  \
             in     real server 10.0.0.2:80: weight 3, 12 active and 4 other connections; in since \
             07:13, 3 min ago; shaky: no answer in 5 s (1 of 3 tries)\n"
        );
        pool.real_servers = (0..20)
            .map(|n| server(n, true, check(true, "", 0)))
            .collect();
        shown.clear();
        virtual_server(&mut shown, &pool, &clock());
        assert_eq!(shown.lines().count(), 9);
        assert!(shown.ends_with("in     13 more real servers\n"), "{shown}");
    }

    #[test]
    fn spans_are_told_as_people_tell_them() {
        let spans = [
            (3, "3 s"),
            (180, "3 min"),
            (7200, "2 h"),
            (200_000, "2 days"),
        ];
        for (secs, told) in spans {
            assert_eq!(ago(secs), told);
        }
    }
}
