//! `authentication` and `auth_hmac` of a `vrrp_instance`.

use std::time::Duration;

use pointsman_model::vrrp::{HmacKey, HmacMode, Key};

use super::keyword::{Keyword, Reader};
use super::lex::Word;

/// `authentication { … }`.
#[derive(Debug, Default)]
pub struct AuthDraft {
    /// AH rather than PASS.
    pub ah: bool,
    /// The password, as it stands.
    pub pass: Option<Word>,
}

/// `auth_hmac { … }`.
#[derive(Debug, Default)]
pub struct HmacDraft {
    /// Keys.
    pub keys: Vec<HmacKey>,
    /// `active_key`.
    pub active: Option<u8>,
    /// `anti_replay monotonic`.
    pub monotonic: bool,
    /// `time_window`.
    pub window: Option<Duration>,
    /// `mode`.
    pub mode: Option<HmacMode>,
}

/// Keywords of `authentication`.
pub const AUTHENTICATION: &[Keyword<AuthDraft>] = &[
    Keyword::sets("auth_type", "PASS|AH", |r, d, a| {
        d.ah = r
            .choice(a, &[("PASS", false), ("AH", true)])
            .unwrap_or(d.ah);
    }),
    Keyword::sets("auth_pass", "STRING", |r, d, a| {
        d.pass = r.need(a, "a password").cloned()
    }),
];

/// Keywords of `auth_hmac`.
pub const HMAC: &[Keyword<HmacDraft>] = &[
    Keyword::sets("key", "ID VALUE", |r, d, a| {
        let id = r.small(a, 0..=255);
        let word = r.need(a, "a key");
        if let (Some(id), Some(word)) = (id, word)
            && let Some(key) = key(r, word)
        {
            d.keys.push(HmacKey { id, key });
        }
    }),
    Keyword::sets("active_key", "ID", |r, d, a| d.active = r.small(a, 0..=255)),
    Keyword::sets("anti_replay", "time|monotonic", |r, d, a| {
        let known = [("time", false), ("monotonic", true)];
        d.monotonic = r.choice(a, &known).unwrap_or(d.monotonic);
    }),
    Keyword::sets("time_window", "1-300", |r, d, a| {
        d.window = r.small(a, 1..=300).map(Duration::from_secs);
    }),
    Keyword::sets("mode", "enforce|permissive|receive-only", |r, d, a| {
        d.mode = r.choice(a, HMAC_MODES);
    }),
];

/// What happens to adverts without a trailer, by keepalived's words.
pub const HMAC_MODES: &[(&str, HmacMode)] = &[
    ("enforce", HmacMode::Enforce),
    ("permissive", HmacMode::Permissive),
    ("receive-only", HmacMode::ReceiveOnly),
];

/// `hex:…`, `file:PATH`, or the bytes themselves; 32 to 64 of them.
fn key(reader: &mut Reader<'_>, word: &Word) -> Option<Key> {
    let bytes = if let Some(digits) = word.text.strip_prefix("hex:") {
        let digits: Option<Vec<u8>> = digits
            .chars()
            .map(|c| c.to_digit(16).map(|d| d as u8))
            .collect();
        match digits.filter(|digits| digits.len() % 2 == 0) {
            Some(digits) => digits
                .chunks_exact(2)
                .map(|pair| pair[0] << 4 | pair[1])
                .collect(),
            None => {
                reader.error(&word.at, "a key after `hex:` is an even number of digits");
                return None;
            }
        }
    } else if let Some(path) = word.text.strip_prefix("file:") {
        match reader.files.read(std::path::Path::new(path)) {
            Ok(mut bytes) => {
                while bytes.last().is_some_and(|b| b"\r\n".contains(b)) {
                    bytes.pop();
                }
                bytes
            }
            Err(error) => {
                reader.error(
                    &word.at,
                    format!("cannot read the key in `{path}`: {error}"),
                );
                return None;
            }
        }
    } else {
        word.text.clone().into_bytes()
    };
    if (32..=64).contains(&bytes.len()) {
        Some(Key::new(bytes))
    } else {
        reader.error(
            &word.at,
            format!("a key has 32 to 64 bytes; this one has {}", bytes.len()),
        );
        None
    }
}
