//! The tables of `docs/keepalived.md` are those of the code.
//!
//! `UPDATE_DOCS=1 cargo test -p pointsman-config --test keepalived_docs` writes them anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use pointsman_config::keepalived::tables;

const BEGIN: &str = "<!-- tables: written by the test keepalived_docs -->\n";

#[test]
fn the_tables_of_keywords_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/keepalived.md");
    let page = fs::read_to_string(&path).unwrap();
    let (prose, written) = page
        .split_once(BEGIN)
        .expect("docs/keepalived.md marks its tables");
    let tables = made();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{prose}{BEGIN}{tables}")).unwrap();
    } else {
        assert_eq!(written, tables, "run with UPDATE_DOCS=1");
    }
}

fn made() -> String {
    let mut text = String::new();
    for table in tables() {
        let _ = write!(
            text,
            "\n### {}\n| keyword | what follows | effect |\n|---|---|---|\n",
            table.block
        );
        for entry in table.entries {
            let arguments = entry.arguments.replace('|', "\\|");
            let arguments = match arguments.as_str() {
                "" => String::new(),
                arguments => format!("`{arguments}`"),
            };
            let effect = match entry.no_effect {
                None => "effective".to_owned(),
                Some(why) => format!("none, because {why}"),
            };
            let _ = writeln!(text, "| `{}` | {arguments} | {effect} |", entry.name);
        }
    }
    text
}
