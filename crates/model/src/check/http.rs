use serde::{Deserialize, Serialize};

use super::TlsOptions;

/// `HTTP_GET` and `SSL_GET`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpCheck {
    /// Asked one after the other, one each interval; never empty.
    pub urls: Vec<HttpUrl>,
    /// The request's form.
    pub protocol: HttpProtocol,
    /// `SSL_GET`.
    pub tls: Option<TlsOptions>,
    /// `fast_recovery`: no `delay_loop` between the urls of a server that comes back.
    pub fast_recovery: bool,
}

/// One url and what its answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HttpUrl {
    /// Request target, as it stands in the request line.
    pub path: String,
    /// The `Host` header (keepalived's `virtualhost` of url, checker, real server or virtual server, the
    /// nearest one). `None` gives the probe's address and port.
    pub host: Option<String>,
    /// MD5 over the body (`digest`).
    pub digest: Option<[u8; 16]>,
    /// Accepted statuses; keepalived's default is 200-299.
    pub status: Vec<StatusRange>,
    /// What the body must match, or must not.
    pub regex: Option<RegexCheck>,
    /// Close the TLS session with close_notify (`tls_compliant`).
    pub tls_compliant: bool,
}

/// A range of HTTP statuses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StatusRange {
    /// Lowest.
    pub first: u16,
    /// Highest.
    pub last: u16,
}

impl StatusRange {
    /// What keepalived accepts when no `status_code` is given.
    pub const SUCCESS: Self = Self {
        first: 200,
        last: 299,
    };

    /// Whether `status` is in it.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

/// `http_protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HttpProtocol {
    /// HTTP/1.0.
    #[default]
    #[serde(rename = "1.0")]
    Http10,
    /// HTTP/1.0 with `Connection: close` (`1.0C`).
    #[serde(rename = "1.0C")]
    Http10Close,
    /// HTTP/1.1 with `Connection: close`.
    #[serde(rename = "1.1")]
    Http11,
    /// HTTP/2: by ALPN over TLS, with prior knowledge in the clear. Not of keepalived.
    #[serde(rename = "2")]
    Http2,
}

/// A PCRE2 pattern for the body.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RegexCheck {
    /// The pattern.
    pub pattern: String,
    /// `regex_options`.
    pub options: Vec<RegexOption>,
    /// `regex_no_match`: a match is a failure.
    pub negate: bool,
    /// `regex_min_offset`: bytes of the body skipped before the search.
    pub min_offset: usize,
    /// `regex_max_offset`: a match may not begin beyond this byte of the body.
    pub max_offset: Option<usize>,
}

/// The words of `regex_options`, which are PCRE2's compile options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "each is PCRE2's option of that name; see pcre2api(3)"
)]
pub enum RegexOption {
    AllowEmptyClass,
    AltBsux,
    AltCircumflex,
    AltVerbnames,
    AutoCallout,
    Caseless,
    DollarEndonly,
    Dotall,
    Dupnames,
    Extended,
    Firstline,
    MatchUnsetBackref,
    Multiline,
    NeverBackslashC,
    NeverUcp,
    NeverUtf,
    NoAutoCapture,
    NoAutoPossess,
    NoDotstarAnchor,
    NoStartOptimize,
    Ucp,
    Ungreedy,
    UseOffsetLimit,
    Utf,
}

impl RegexOption {
    /// All of them, with keepalived's words.
    pub const ALL: [(&'static str, Self); 24] = [
        ("allow_empty_class", Self::AllowEmptyClass),
        ("alt_bsux", Self::AltBsux),
        ("alt_circumflex", Self::AltCircumflex),
        ("alt_verbnames", Self::AltVerbnames),
        ("auto_callout", Self::AutoCallout),
        ("caseless", Self::Caseless),
        ("dollar_endonly", Self::DollarEndonly),
        ("dotall", Self::Dotall),
        ("dupnames", Self::Dupnames),
        ("extended", Self::Extended),
        ("firstline", Self::Firstline),
        ("match_unset_backref", Self::MatchUnsetBackref),
        ("multiline", Self::Multiline),
        ("never_backslash_c", Self::NeverBackslashC),
        ("never_ucp", Self::NeverUcp),
        ("never_utf", Self::NeverUtf),
        ("no_auto_capture", Self::NoAutoCapture),
        ("no_auto_possess", Self::NoAutoPossess),
        ("no_dotstar_anchor", Self::NoDotstarAnchor),
        ("no_start_optimize", Self::NoStartOptimize),
        ("ucp", Self::Ucp),
        ("ungreedy", Self::Ungreedy),
        ("use_offset_limit", Self::UseOffsetLimit),
        ("utf", Self::Utf),
    ];
}
