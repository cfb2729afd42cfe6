//! `HTTP_GET` and `SSL_GET`: urls and what their answers must be.

use pointsman_model::check::{HttpProtocol, RegexCheck, RegexOption, StatusRange};

use super::checker::CheckDraft;
use super::keyword::{Args, Keyword, Reader};
use crate::diag::Place;

/// A `url` as it stands in the file.
#[derive(Clone, Debug)]
pub struct UrlDraft {
    /// Where it stands.
    pub at: Place,
    /// `path`.
    pub path: Option<String>,
    /// `virtualhost`.
    pub virtualhost: Option<String>,
    /// `digest`.
    pub digest: Option<[u8; 16]>,
    /// `status_code`.
    pub status: Vec<StatusRange>,
    /// `regex`.
    pub regex: Option<String>,
    /// `regex_no_match`.
    pub negate: bool,
    /// `regex_options`.
    pub options: Vec<RegexOption>,
    /// `regex_min_offset`.
    pub min_offset: usize,
    /// `regex_max_offset`.
    pub max_offset: Option<usize>,
    /// `tls_compliant`.
    pub tls_compliant: bool,
}

impl UrlDraft {
    /// Pattern and what belongs to it.
    pub fn regex(&self) -> Option<RegexCheck> {
        Some(RegexCheck {
            pattern: self.regex.clone()?,
            options: self.options.clone(),
            negate: self.negate,
            min_offset: self.min_offset,
            max_offset: self.max_offset,
        })
    }
}

/// The forms of a request, by the words of `http_protocol`.
pub const PROTOCOLS: &[(&str, HttpProtocol)] = &[
    ("1.0", HttpProtocol::Http10),
    ("1.0C", HttpProtocol::Http10Close),
    ("1.0c", HttpProtocol::Http10Close),
    ("1.1", HttpProtocol::Http11),
    ("2", HttpProtocol::Http2),
];

/// Keywords of both checkers.
pub const CHECKER: &[Keyword<CheckDraft>] = &[
    Keyword::sets("url", "{ … }", |r, d, a| {
        let url = url(r, a);
        d.urls.push(url);
    }),
    Keyword::sets("nb_get_retry", "N", |r, d, a| {
        let at = a.at();
        r.warn(&at, "`nb_get_retry` is the old word for `retry`");
        d.pace.retry = r.small(a, 0..=u32::MAX.into()).or(d.pace.retry);
    }),
    Keyword::sets("virtualhost", "HOST", |r, d, a| {
        d.virtualhost = r.text(a, "a host")
    }),
    Keyword::sets("http_protocol", "1.0|1.0C|1.1|2", |r, d, a| {
        d.http_protocol = r.choice(a, PROTOCOLS).unwrap_or(d.http_protocol);
    }),
    Keyword::sets("fast_recovery", "[BOOL]", |r, d, a| {
        d.fast_recovery = r.flag(a).unwrap_or(d.fast_recovery);
    }),
];

/// Keywords of `SSL_GET` alone.
pub const TLS: &[Keyword<CheckDraft>] = &[
    Keyword::sets("enable_sni", "[BOOL]", |r, d, a| {
        d.enable_sni = r.flag(a).unwrap_or(d.enable_sni);
    }),
    Keyword::sets("sni_name", "NAME", |r, d, a| {
        d.sni_name = r.text(a, "a host name")
    }),
    Keyword::sets("tls_compliant", "[BOOL]", |r, d, a| {
        d.tls_compliant = r.flag(a).unwrap_or(d.tls_compliant);
    }),
    Keyword::sets("tls_verify", "[BOOL]", |r, d, a| {
        d.tls_verify = r.flag(a).unwrap_or(d.tls_verify);
    }),
];

/// Keywords of `url`.
pub const URL: &[Keyword<UrlDraft>] = &[
    Keyword::sets("path", "PATH", |r, d, a| d.path = r.text(a, "a path")),
    Keyword::sets("digest", "MD5", |r, d, a| {
        if let Some(word) = r.need(a, "32 hexadecimal digits") {
            d.digest = digest(&word.text);
            if d.digest.is_none() {
                r.error(
                    &word.at,
                    format!("`{}` is no MD5 digest of 32 hexadecimal digits", word.text),
                );
            }
        }
    }),
    Keyword::sets("status_code", "CODE|FIRST-LAST …", |r, d, a| {
        if let Some(word) = r.need(a, "a status") {
            status(r, d, word);
        }
        for word in a.rest() {
            status(r, d, word);
        }
    }),
    Keyword::sets("virtualhost", "HOST", |r, d, a| {
        d.virtualhost = r.text(a, "a host")
    }),
    Keyword::sets("regex", "PATTERN", |r, d, a| {
        d.regex = r.quoted(a, "a pattern")
    }),
    Keyword::sets("regex_no_match", "", |_, d, _| d.negate = true),
    Keyword::sets("regex_options", "OPTION …", |r, d, a| {
        for word in a.rest() {
            d.options.extend(r.choice_of(word, &RegexOption::ALL));
        }
    }),
    Keyword::sets("regex_min_offset", "N", |r, d, a| {
        d.min_offset = r.small(a, 0..=i64::MAX).unwrap_or(0);
    }),
    Keyword::sets("regex_max_offset", "N", |r, d, a| {
        d.max_offset = r.small(a, 0..=i64::MAX);
    }),
    Keyword::nothing(
        "regex_stack",
        "START MAX",
        "matching needs no stack of its own",
    ),
    Keyword::sets("tls_compliant", "[BOOL]", |r, d, a| {
        d.tls_compliant = r.flag(a).unwrap_or(d.tls_compliant);
    }),
];

fn url(reader: &mut Reader<'_>, args: &mut Args<'_>) -> UrlDraft {
    let mut url = UrlDraft {
        at: args.at(),
        path: None,
        virtualhost: None,
        digest: None,
        status: Vec::new(),
        regex: None,
        negate: false,
        options: Vec::new(),
        min_offset: 0,
        max_offset: None,
        tls_compliant: false,
    };
    reader.block(&mut url, args.block(), &[URL], "url");
    if url.min_offset > url.max_offset.unwrap_or(usize::MAX) {
        reader.error(
            &url.at,
            "regex_min_offset is larger than regex_max_offset, which is left out",
        );
        url.max_offset = None;
    }
    url
}

fn status(reader: &mut Reader<'_>, url: &mut UrlDraft, word: &super::lex::Word) {
    let (first, last) = word
        .text
        .split_once('-')
        .unwrap_or((&word.text, &word.text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last && (100..=599).contains(&first) && last <= 599 => {
            url.status.push(StatusRange { first, last });
        }
        _ => reader.error(
            &word.at,
            format!(
                "`{}` is no status of HTTP, which are 100 to 599, nor a range of them",
                word.text
            ),
        ),
    }
}

fn digest(text: &str) -> Option<[u8; 16]> {
    let mut digest = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(digest)
}
