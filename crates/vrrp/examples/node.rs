//! One virtual router from the command line, until SIGTERM; events on stdout, one JSON object a line.
//!
//! For tests against other implementations. `node INTERFACE VRID VIP/PREFIX [WORD…]`, words being
//! `priority=N version=N interval-ms=N pass=P ah=P source=A peer=A nopreempt preempt-delay-ms=N vmac
//! no-accept master script=PATH`.

use std::time::Duration;

use pointsman_model::vrrp::{
    AdvertInterval, Authentication, Key, Peers, Preemption, Priority, TrackScript, TrackWeight,
    Tracked, Unicast, UnicastPeer, VirtualAddress, VirtualInterface, Vrid, VrrpInstance, VrrpSite,
    VrrpVersion,
};
use pointsman_model::{Family, Script};
use pointsman_script::Policy;
use pointsman_vrrp::Vrrp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::DEBUG)
        .init();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let site = site(&words)?;
    let (events, mut told) = mpsc::unbounded_channel();
    let vrrp = Vrrp::start(site, Policy::default(), events)?;
    let mut end = signal(SignalKind::terminate())?;
    let mut ask = signal(SignalKind::user_defined1())?;
    loop {
        tokio::select! {
            _ = end.recv() => break,
            _ = ask.recv() => println!("{}", serde_json::to_string(&vrrp.view().await?)?),
            Some(event) = told.recv() => println!("{}", serde_json::to_string(&event)?),
        }
    }
    vrrp.stop().await;
    Ok(())
}

fn site(words: &[String]) -> Result<VrrpSite, Failure> {
    let [interface, vrid, vip, options @ ..] = words else {
        return Err("node INTERFACE VRID VIP/PREFIX [WORD…]".into());
    };
    let vip = VirtualAddress::new(vip.parse()?);
    let family = Family::from(vip.ip());
    let mut config = VrrpInstance::new("VI", interface, Vrid::new(vrid.parse()?)?, family);
    config.addresses.push(vip);
    // As keepalived by default: yields without a word.
    config.advert_before_yielding = false;
    let mut interval = Duration::from_secs(1);
    let mut peers = Vec::new();
    let mut scripts = Vec::new();
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "priority" => config.priority = Priority::new(value.parse()?)?,
            "version" if value == "2" => config.version = VrrpVersion::V2,
            "version" => config.version = VrrpVersion::V3,
            "interval-ms" => interval = Duration::from_millis(value.parse()?),
            "pass" => config.authentication = Authentication::Pass(Key::new(value)),
            "ah" => config.authentication = Authentication::Ah(Key::new(value)),
            "source" => config.source = Some(value.parse()?),
            "peer" => peers.push(UnicastPeer {
                address: value.parse()?,
                min_ttl: 0,
                max_ttl: 255,
            }),
            "nopreempt" => config.preemption = Preemption::Never,
            "preempt-delay-ms" => {
                config.preemption = Preemption::After(Duration::from_millis(value.parse()?));
            }
            "vmac" => {
                config.virtual_interface = Some(VirtualInterface::Vmac {
                    name: None,
                    mac: None,
                    adverts_on_base: false,
                    group: None,
                });
            }
            "no-accept" => config.accept = false,
            "master" => config.starts_as_master = true,
            "script" => {
                let second = Duration::from_secs(1);
                scripts.push(TrackScript {
                    name: "check".into(),
                    script: Script::new(value.split(' ')),
                    interval: second / 5,
                    timeout: second,
                    rise: std::num::NonZeroU32::MIN,
                    fall: std::num::NonZeroU32::MIN,
                    starts_failed: false,
                });
                config.tracking.scripts.push(Tracked {
                    name: "check".into(),
                    weight: TrackWeight::default(),
                });
            }
            _ => return Err(format!("unknown word {name}").into()),
        }
    }
    config.advert_interval = AdvertInterval::new(config.version, interval)?;
    if !peers.is_empty() {
        config.peers = Peers::Unicast(Unicast {
            peers,
            ttl: None,
            check_source: true,
        });
    }
    Ok(VrrpSite {
        instances: vec![config],
        scripts,
        ..VrrpSite::default()
    })
}
