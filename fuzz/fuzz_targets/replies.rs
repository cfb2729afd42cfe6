//! What a server under check says: line protocols, LDAP, RADIUS.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_health::check::negotiate::radius::{Attribute, Packet};
use pointsman_health::check::negotiate::reply::Collector;
use pointsman_health::check::negotiate::{ber, ftp, imap, ldap, pop, sip};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let mut collector = Collector::default();
    for line in text.lines() {
        if let Ok(Some(reply)) = collector.push(line) {
            assert!((100..600).contains(&reply.code) && reply.text.len() <= line.len());
            let _ = ftp::passive_port(&reply.text);
            let _ = ftp::extended_passive_port(&reply.text);
        }
        let _ = (pop::status(line), imap::greeting(line), sip::status(line));
        let _ = imap::tagged("p1", line);
    }
    if let (Ok(message), Ok(Some(length))) = (ldap::parse(bytes), ber::length(bytes)) {
        assert!(length <= bytes.len() && message.id.len() < length);
    }
    if let Ok(packet) = Packet::parse(bytes) {
        let mut rest = packet.attributes();
        let mut read = 0;
        while let Ok(Some((attribute, after))) = Attribute::first(rest) {
            read += attribute.value.len() + 2;
            rest = after;
        }
        assert_eq!(read + rest.len(), packet.attributes().len());
    }
});
