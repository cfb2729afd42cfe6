//! Lines of a rule file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_config::ipvsadm::{Numeric, parse, split_line};

fuzz_target!(|text: &str| {
    for line in text.lines() {
        if let Err(error) = parse(&split_line(line), &Numeric) {
            assert!(!error.to_string().is_empty());
        }
    }
});
