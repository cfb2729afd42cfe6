//! What real servers answer to keepalived's checks and to agents: nothing panics, and a verdict does not
//! depend on how the bytes were cut into packets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_health::check::{agent, dns, http};
use pointsman_model::check::{HttpUrl, RegexCheck, StatusRange};

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, cut], answer)) = input.split_first_chunk() else {
        return;
    };
    match kind % 3 {
        0 => {
            let url = HttpUrl {
                path: "/".into(),
                host: None,
                digest: (kind & 0x80 != 0).then_some([0; 16]),
                status: vec![StatusRange::SUCCESS],
                regex: (kind & 0x40 != 0).then(|| RegexCheck {
                    pattern: "(a+)b|^ok$".into(),
                    options: Vec::new(),
                    negate: false,
                    min_offset: usize::from(cut) / 2,
                    max_offset: Some(200),
                }),
                tls_compliant: false,
            };
            let whole = http::reply::judge(&[answer], &url);
            let (a, b) = answer.split_at(usize::from(cut).min(answer.len()));
            assert_eq!(http::reply::judge(&[a, b], &url), whole);
            let single: Vec<_> = answer.chunks(1).collect();
            assert_eq!(http::reply::judge(&single, &url), whole);
        }
        1 => {
            let _ = dns::judge(answer, u16::from_be_bytes([kind, cut]));
        }
        _ => {
            if let Some(reading) = agent::parse(answer) {
                assert!(!reading.why.contains(char::is_control));
                assert!(reading.percent.is_none_or(|percent| percent <= 25_600));
            }
        }
    }
});
