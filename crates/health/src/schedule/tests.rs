//! Transcripts: a script of answers, and what the schedule made of them, with times.

use std::fmt::Write;

use pointsman_model::check::{
    CombinedCheck, HttpCheck, HttpProtocol, HttpUrl, NegotiateCheck, NegotiateService, ScriptCheck,
    StatusRange,
};
use pointsman_model::{Pace, ProbeTarget, Script};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn check(kind: CheckKind, interval: u64, retries: u32, retry_delay: u64) -> Check {
    Check {
        kind,
        target: ProbeTarget::new([10, 0, 0, 1].into(), 80),
        pace: Pace {
            interval: SECOND * u32::try_from(interval).unwrap(),
            timeout: 5 * SECOND,
            retries,
            retry_delay: SECOND * u32::try_from(retry_delay).unwrap(),
            warmup: Duration::ZERO,
            counting: Counting::Retries,
        },
        alpha: false,
        log_all_failures: false,
    }
}

fn urls(count: usize, fast_recovery: bool) -> CheckKind {
    let url = HttpUrl {
        path: "/".into(),
        host: None,
        digest: None,
        status: vec![StatusRange::SUCCESS],
        regex: None,
        tls_compliant: false,
    };
    CheckKind::Http(HttpCheck {
        urls: vec![url; count],
        protocol: HttpProtocol::Http10,
        tls: None,
        fast_recovery,
    })
}

/// Plays answers, `+` and `-`, each of which takes `took` seconds (a `-` too). Writes one word for each:
/// second of its beginning, what was asked (`u1`, `N`egotiate, `C`onnect), the answer, and what it made:
/// `U`p, `D`own, `r`etry.
#[track_caller]
fn play(check: &Check, took: u64, answers: &str, wanted: &str) {
    let start = Instant::now();
    let mut schedule = Schedule::new(check, start, 0.0);
    let mut text = String::new();
    for answer in answers.chars() {
        let began = schedule.due().expect("a probe is due");
        let part = match schedule.part() {
            Part::Whole => String::new(),
            Part::Url(url) => format!("u{url}"),
            Part::Negotiate => "N".into(),
            Part::Connect => "C".into(),
        };
        let ended = began + SECOND * u32::try_from(took).unwrap();
        let judged = schedule.finished(began, ended, answer == '+');
        let result = match judged {
            Judged {
                change: Some(true), ..
            } => "U",
            Judged {
                change: Some(false),
                ..
            } => "D",
            Judged {
                forgiven: Some(_), ..
            } => "r",
            _ => "",
        };
        write!(text, " {}{part}{answer}{result}", (began - start).as_secs()).unwrap();
    }
    assert_eq!(text.trim(), wanted);
}

#[test]
fn keepalived_tcp() {
    let tcp = check(CheckKind::Tcp, 10, 1, 2);
    // First after one second, then each interval; a failure is asked again after the delay.
    play(&tcp, 0, "++", "1+ 11+");
    play(&tcp, 0, "+--", "1+ 11-r 13-D");
    play(&tcp, 0, "+-+--", "1+ 11-r 13+ 23-r 25-D");
    // Never asked before: one failure is enough; down, the interval holds and no retries are made.
    play(&tcp, 0, "---+", "1-D 11- 21- 31+U");
    // The pause begins when the probe has ended.
    play(&tcp, 5, "+--+", "1+ 16-r 23-D 38+U");
}

#[test]
fn keepalived_worst_case_of_detection() {
    // delay_loop + retry x delay_before_retry + (retry + 1) x connect_timeout, from the last good answer.
    let tcp = check(CheckKind::Tcp, 6, 3, 1);
    play(&tcp, 5, "+----", "1+ 12-r 18-r 24-r 30-D");
}

#[test]
fn alpha_starts_down() {
    let mut tcp = check(CheckKind::Tcp, 10, 1, 2);
    tcp.alpha = true;
    play(&tcp, 0, "--+--", "1- 11- 21+U 31-r 33-D");
}

#[test]
fn warmup_is_a_share_of_its_bound() {
    let mut tcp = check(CheckKind::Tcp, 10, 1, 2);
    tcp.pace.warmup = 10 * SECOND;
    let start = Instant::now();
    for (random, seconds) in [(0.0, 1.0), (0.5, 6.0), (0.99, 10.9)] {
        let due = Schedule::new(&tcp, start, random).due().unwrap();
        assert!(((due - start).as_secs_f64() - seconds).abs() < 1e-6);
    }
}

#[test]
fn one_url_needs_two_good_answers_to_come_back() {
    let http = check(urls(1, false), 10, 1, 3);
    play(&http, 0, "+--", "1u0+ 11u0-r 14u0-D");
    play(&http, 0, "-+++", "1u0-D 11u0+ 21u0+U 31u0+");
    play(&http, 0, "-+-+++", "1u0-D 11u0+ 21u0- 31u0+ 41u0+U 51u0+");
    // A pause before retries that is longer than the interval holds also while it is down.
    let slow = check(urls(1, false), 10, 0, 30);
    play(&slow, 0, "-+++", "1u0-D 31u0+ 41u0+U 51u0+");
}

#[test]
fn fast_recovery_asks_at_once() {
    let http = check(urls(1, true), 10, 1, 3);
    play(&http, 0, "-+++", "1u0-D 11u0+ 11u0+U 21u0+");
    let http = check(urls(3, true), 10, 1, 3);
    play(
        &http,
        0,
        "+--+++++",
        "1u0+ 11u1-r 14u1-D 24u1+ 24u0+ 24u1+ 24u2+U 34u0+",
    );
}

#[test]
fn urls_are_asked_one_each_interval() {
    let http = check(urls(3, false), 10, 1, 3);
    play(&http, 0, "++++", "1u0+ 11u1+ 21u2+ 31u0+");
    // Only the failed one is asked while down, then all of them.
    play(
        &http,
        0,
        "+---+++++",
        "1u0+ 11u1-r 14u1-D 24u1- 34u1+ 44u0+ 54u1+ 64u2+U 74u0+",
    );
    // Another one that fails on the way up is the failed one then.
    play(&http, 0, "-++-+", "1u0-D 11u0+ 21u0+ 31u1- 41u1+");
}

#[test]
fn an_alpha_server_comes_up_after_one_pass() {
    let mut http = check(urls(1, false), 10, 1, 3);
    http.alpha = true;
    play(&http, 0, "+", "1u0+U");
    let mut http = check(urls(2, false), 10, 1, 3);
    http.alpha = true;
    play(&http, 0, "++", "1u0+ 11u1+U");
}

#[test]
fn scripts_count_from_start_to_start() {
    let script = CheckKind::Script(ScriptCheck {
        script: Script::new(["/bin/true"]),
        dynamic: false,
    });
    let misc = check(script, 10, 1, 4);
    play(&misc, 3, "+-+--", "1+ 11-r 15+ 25-r 29-D");
    // One that takes longer than the interval begins again at once.
    play(&misc, 12, "++", "1+ 13+");
}

#[test]
fn ldirectord_counts_rounds() {
    let mut tcp = check(CheckKind::Tcp, 10, 0, 0);
    tcp.pace.counting = Counting::Rounds;
    play(&tcp, 2, "+-+-", "0+ 12-D 24+U 36-D");
    tcp.pace.retries = 2;
    play(&tcp, 0, "---+--+", "0-r 10-r 20-D 30+U 40-r 50-r 60+");
}

#[test]
fn ldirectord_combined_connects_between_negotiates() {
    let combined = CheckKind::Combined(CombinedCheck {
        negotiate: NegotiateCheck::new(NegotiateService::Http),
        connects: 2,
    });
    let mut check = check(combined, 1, 0, 0);
    check.pace.counting = Counting::Rounds;
    play(&check, 0, "++++", "0N+ 1C+ 2C+ 3N+");
    // A failed connect forces negotiates until one is good.
    play(&check, 0, "+--+++", "0N+ 1C-D 2N- 3N+U 4C+ 5C+");
}

#[test]
fn a_suspended_check_is_not_due_and_goes_on_at_once() {
    let tcp = check(CheckKind::Tcp, 10, 1, 2);
    let start = Instant::now();
    let mut schedule = Schedule::new(&tcp, start, 0.0);
    schedule.finished(start + SECOND, start + SECOND, false);
    schedule.suspend();
    assert_eq!(schedule.due(), None);
    assert!(!schedule.is_up(), "the standing stays");
    schedule.resume(start + 60 * SECOND);
    assert_eq!(schedule.due(), Some(start + 60 * SECOND));
    // A short break delays nothing that is not due yet.
    schedule.finished(start + 60 * SECOND, start + 60 * SECOND, true);
    schedule.suspend();
    schedule.resume(start + 62 * SECOND);
    assert_eq!(schedule.due(), Some(start + 70 * SECOND));
}

#[test]
fn a_probe_without_a_word_changes_nothing() {
    let tcp = check(CheckKind::Tcp, 10, 1, 2);
    let start = Instant::now();
    let mut schedule = Schedule::new(&tcp, start, 0.0);
    schedule.said_nothing(start + SECOND);
    assert!(schedule.is_up());
    assert_eq!(schedule.due(), Some(start + 11 * SECOND));
}

#[test]
fn a_changed_check_begins_anew_with_the_old_standing() {
    let start = Instant::now();
    let mut old = Schedule::new(&check(urls(2, false), 10, 0, 1), start, 0.0);
    old.finished(start, start, false);
    let mut new = Schedule::new(&check(urls(1, false), 5, 3, 1), start, 0.0);
    new.inherit(&old);
    assert!(!new.is_up());
    assert_eq!(new.part(), Part::Url(0));
    assert_eq!(new.finished(start, start, true).change, Some(true));
}
