//! keepalived.conf: whatever the files say, reading ends, and what is written reads as the same.
//!
//! The first NUL byte, if any, separates the file from one that it can include as `more`.

#![no_main]

use std::io;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pointsman_config::keepalived::{Files, Kind, Options, read_from, write};

struct Two<'a>(&'a [u8], &'a [u8]);

impl Files for Two<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("k.conf") => Ok(self.0.to_vec()),
            Some("more") => Ok(self.1.to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(vec!["k.conf".into(), "more".into()])
    }

    fn kind(&self, path: &Path) -> io::Result<Kind> {
        self.read(path).map(|_| Kind::File)
    }
}

fuzz_target!(|data: &[u8]| {
    let split = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    let files = Two(&data[..split], data.get(split + 1..).unwrap_or_default());
    let options = Options {
        config_id: "id".into(),
        ..Options::default()
    };
    let loaded = read_from(Path::new("/k.conf"), &options, &files);
    let _ = loaded
        .diagnostics
        .render(pointsman_config::diag::Severity::NoEffect);
    let text = write(&loaded.site);
    let again = Two(text.as_bytes(), b"");
    let _ = read_from(Path::new("/k.conf"), &options, &again);
});
