//! Every sample configuration that Debian's package of keepalived brings is accepted: the same
//! objects come out of it that keepalived makes.
//!
//! The package is downloaded and unpacked, never installed, once for each target directory.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pointsman_config::diag::Severity;
use pointsman_config::keepalived::{Loaded, Options, read, write};
use support::memory::Memory;

/// Sample, config-id, and how many errors, virtual servers, real servers, checks, instances and sync
/// groups it gives. The errors are its authors': keepalived has them too.
const SAMPLES: &[(&str, &str, [usize; 6])] = &[
    ("HTTP_GET.port", "", [0, 1, 1, 1, 0, 0]),
    ("IPv6", "", [0, 1, 1, 1, 0, 0]),
    ("PING_CHECK", "", [0, 1, 1, 1, 0, 0]),
    ("SMTP_CHECK", "", [0, 1, 3, 7, 0, 0]),
    // AH with state MASTER and a priority below 255.
    ("SSL_GET", "", [1, 2, 2, 2, 1, 0]),
    ("UDP_CHECK", "", [0, 1, 1, 1, 0, 0]),
    // Neither `@high` nor `@low` holds: the script has no command.
    ("conditional_conf", "", [2, 0, 0, 0, 1, 0]),
    ("conditional_conf", "high", [0, 0, 0, 0, 1, 0]),
    ("conditional_conf", "low", [0, 0, 0, 0, 1, 0]),
    ("fwmark", "", [0, 1, 2, 2, 0, 0]),
    ("inhibit", "", [0, 1, 1, 1, 0, 0]),
    ("misc_check", "", [0, 1, 1, 1, 0, 0]),
    ("misc_check_arg", "", [0, 1, 1, 1, 0, 0]),
    ("quorum", "", [0, 1, 10, 10, 0, 0]),
    ("sample", "", [0, 1, 1, 1, 1, 0]),
    ("status_code", "", [0, 1, 1, 1, 0, 0]),
    ("track_interface", "", [0, 0, 0, 0, 1, 0]),
    ("virtual_server_group", "", [0, 1, 2, 2, 0, 0]),
    ("virtualhost", "", [0, 1, 1, 1, 0, 0]),
    // An address stands twice in one instance.
    ("vrrp", "", [1, 0, 0, 0, 4, 0]),
    ("vrrp.localcheck", "", [0, 0, 0, 0, 9, 0]),
    // The sync group has no `group`.
    ("vrrp.lvs_syncd", "", [3, 1, 1, 1, 3, 0]),
    ("vrrp.routes", "", [0, 0, 0, 0, 1, 0]),
    // `192.168.100./24` is no prefix.
    ("vrrp.rules", "", [4, 0, 0, 0, 1, 0]),
    ("vrrp.scripts", "", [0, 0, 0, 0, 3, 1]),
    ("vrrp.static_ipaddress", "", [0, 0, 0, 0, 1, 0]),
    ("vrrp.sync", "", [0, 0, 0, 0, 9, 2]),
];

#[test]
fn every_sample_gives_what_keepalived_makes_of_it() {
    let samples = package().join("usr/share/doc/keepalived/samples");
    let mut wrong = Vec::new();
    for (name, id, expected) in SAMPLES {
        let loaded = load(&samples.join(format!("keepalived.conf.{name}")), id);
        let found = counts(&loaded);
        if found != *expected || loaded.diagnostics.count(Severity::Fatal) > 0 {
            let said = loaded.diagnostics.render(Severity::Error);
            wrong.push(format!("{name} {id}: {found:?} for {expected:?}\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_sample_is_left_out() {
    let samples = package().join("usr/share/doc/keepalived/samples");
    for entry in fs::read_dir(samples).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = file.strip_prefix("keepalived.conf.") {
            assert!(SAMPLES.iter().any(|(known, ..)| *known == name), "{name}");
        }
    }
}

#[test]
fn the_configuration_that_is_installed_is_accepted() {
    let loaded = load(&package().join("etc/keepalived/keepalived.conf.sample"), "");
    // It asks for strict mode, and in it for what strict mode forbids.
    assert_eq!(loaded.diagnostics.count(Severity::Error), 2);
    assert_eq!(loaded.site.virtual_servers.len(), 3);
    assert_eq!(loaded.site.vrrp.instances.len(), 1);
}

#[test]
fn what_is_written_of_a_sample_reads_as_the_sample() {
    let samples = package().join("usr/share/doc/keepalived/samples");
    for (name, id, _) in SAMPLES {
        let site = load(&samples.join(format!("keepalived.conf.{name}")), id).site;
        let text = write(&site);
        let again = Memory::new(&[("/k.conf", &text)]).read("/k.conf", &Options::default());
        let errors = again.diagnostics.render(Severity::Error);
        assert_eq!(errors, "", "{name}\n{text}");
        assert_eq!(again.site, site, "{name}\n{text}");
    }
}

fn counts(loaded: &Loaded) -> [usize; 6] {
    let site = &loaded.site;
    let servers: Vec<_> = site
        .virtual_servers
        .iter()
        .flat_map(|v| &v.servers)
        .collect();
    [
        loaded.diagnostics.count(Severity::Error),
        site.virtual_servers.len(),
        servers.len(),
        servers.iter().map(|s| s.checks.len()).sum(),
        site.vrrp.instances.len(),
        site.vrrp.sync_groups.len(),
    ]
}

fn load(path: &Path, id: &str) -> Loaded {
    let options = Options {
        config_id: id.to_owned(),
        ..Options::default()
    };
    read(path, &options)
}

/// Where Debian's package lies unpacked.
fn package() -> PathBuf {
    use std::sync::OnceLock;
    static PACKAGE: OnceLock<PathBuf> = OnceLock::new();
    let unpacked = || {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let done = target.join("keepalived-package");
        if done.exists() {
            return done;
        }
        // Under a name of its own first: what has the name is whole.
        let partial = target.join(format!("keepalived-package.{}", std::process::id()));
        fs::create_dir_all(&partial).unwrap();
        let run = |program: &str, args: &[&str]| {
            let status = Command::new(program)
                .args(args)
                .current_dir(&partial)
                .status();
            let good = status.as_ref().is_ok_and(|status| status.success());
            assert!(
                good,
                "{program} {args:?}: {status:?}; this test needs Debian's packages"
            );
        };
        run(
            "apt-get",
            &[
                "-o",
                "APT::Sandbox::User=root",
                "--quiet",
                "download",
                "keepalived",
            ],
        );
        run(
            "sh",
            &[
                "-c",
                "dpkg -x ./keepalived_*.deb . && rm ./keepalived_*.deb",
            ],
        );
        if fs::rename(&partial, &done).is_err() {
            // Another run was faster.
            let _ = fs::remove_dir_all(&partial);
        }
        assert!(done.exists());
        done
    };
    PACKAGE.get_or_init(unpacked).clone()
}
