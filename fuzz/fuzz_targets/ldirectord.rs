//! An ldirectord.cf.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_config::ldirectord::{Numeric, read};

fuzz_target!(|text: &str| {
    let reading = read(text, &Numeric);
    for problem in &reading.problems {
        assert!(!problem.original("f", 1).is_empty());
    }
    for service in &reading.config.virtuals {
        let _ = service.spec();
        for real in service.reals.iter().take(64) {
            let _ = reading.config.check(service, real);
            assert!(!service.check_id(real).is_empty());
        }
    }
});
