//! A round of many checks of all kinds at once.

use std::thread;
use std::time::{Duration, Instant};

use pointsman_health::Context;
use pointsman_health::check::negotiate::Negotiator;
use pointsman_model::ProbeTarget;
use pointsman_model::check::NegotiateCheck;
use pointsman_model::check::NegotiateService::{Dns, Ftp, Http, HttpProxy, Https};

use crate::common::{LOCALHOST, Lab, check, over_udp, with_login};
use crate::{files, mail, names, web};

/// Checks against each of four servers.
const EACH: usize = 50;
/// For the whole round, ample on a busy machine; ldirectord needs the sum of all its checks.
const LIMIT: Duration = Duration::from_secs(60);

/// Two hundred checks, made at the same time, all succeed. With `--nocapture` it prints how long they
/// took: processor time is that of this process, which is the checks' alone.
#[test]
fn two_hundred_mixed_checks() {
    let page = |service, request| check(service, request, "ready");
    let [http, https, proxied] = [
        page(Http, "state.html"),
        page(Https, "moved"),
        page(HttpProxy, "http://www.example.org/state.html"),
    ];
    let name = check(Dns, "www.example.org", "10.0.0.1");
    let file = with_login(check(Ftp, "status.txt", "ready"), "anonymous", "let-me-in");
    let login = |service| with_login(NegotiateCheck::new(service), "plain", "barley");
    let mails = mail::SERVICES.map(|(service, port)| (login(service), port));
    let labs: [(Lab, Vec<(NegotiateCheck, u16)>); 4] = [
        (
            web::nginx(),
            vec![(http, 80), (https, 443), (proxied, 3128)],
        ),
        (mail::dovecot(), mails.to_vec()),
        (files::vsftpd(), vec![(file, 21)]),
        (
            names::knot(),
            vec![(name.clone(), 53), (over_udp(name), 53)],
        ),
    ];
    let (begin, before) = (Instant::now(), processor_time());
    thread::scope(|scope| {
        for (lab, checks) in &labs {
            scope.spawn(|| lab.netns.run(|| round(checks)));
        }
    });
    let (took, used) = (begin.elapsed(), processor_time() - before);
    println!(
        "{} mixed checks: {took:.2?}, {used:.2?} of processor time",
        4 * EACH
    );
    assert!(took < LIMIT, "{took:?}");
}

/// Makes [`EACH`] of `checks` in turn, all at once.
fn round(checks: &[(NegotiateCheck, u16)]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for (check, port) in checks.iter().cycle().take(EACH) {
            let negotiator = Negotiator::new(check).unwrap();
            let target = ProbeTarget::new(LOCALHOST.into(), *port);
            running.spawn(async move {
                negotiator
                    .probe(&target, LIMIT, &Context::default())
                    .await
                    .unwrap_or_else(|failure| panic!("{negotiator:?}: {failure}"))
            });
        }
        running.join_all().await;
    });
}

/// What this process has used, not counting what it started.
fn processor_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
    };
    seconds(usage.user_time()) + seconds(usage.system_time())
}
