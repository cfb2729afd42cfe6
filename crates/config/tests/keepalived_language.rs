//! The language of keepalived.conf: what it makes of files, line by line.

mod support;

use pointsman_config::diag::Severity;
use pointsman_config::keepalived::{Loaded, Options};
use support::memory::Memory;

fn options() -> Options {
    Options {
        config_id: "red".into(),
        host_name: "red.example.net".into(),
        environment: [("LEVEL".to_owned(), "77".to_owned())].into(),
        ..Options::default()
    }
}

/// The recipients of mail show what a text expands to: one word each.
fn words(text: &str) -> Vec<String> {
    let (loaded, words) = mail(text);
    let problems: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    words
}

fn mail(text: &str) -> (Loaded, Vec<String>) {
    let file =
        format!("global_defs {{\nsmtp_server 192.0.2.1\nnotification_email {{\n{text}\n}}\n}}\n");
    let loaded = Memory::new(&[("/k.conf", &file)]).read("/k.conf", &options());
    let words = loaded.site.globals.mail.clone().map(|mail| mail.to);
    (loaded, words.unwrap_or_default())
}

#[test]
fn comments_quotes_and_blanks() {
    assert_eq!(
        words("a # b\n! c\n\"d # e\"\tf\r\n\\#g"),
        ["a", "d # e", "f", "#g"]
    );
}

#[test]
fn conditions_hold_for_their_id() {
    assert_eq!(
        words("@red a\n@blue b\n@^red c\n@^blue d\n@red @red e\n@red\nf"),
        ["a", "d", "e", "f"]
    );
}

#[test]
fn definitions_are_put_in_when_they_are_used() {
    assert_eq!(
        words("$A=1\n$B=${A}2\n$A=3\n$B $A,x ${A}y $C $A.z"),
        ["32", "3,x", "3y", "$C", "$A.z"]
    );
    assert_eq!(words("$E=\na${E}b"), ["ab"]);
    assert_eq!(words("$A=x # y\n$A"), ["x"]);
}

#[test]
fn definitions_of_several_lines_end_a_line() {
    assert_eq!(
        words("$M= \\\n  a \\\n # comment\n @red b \\\n @blue c \\\n  d\n$M\nz"),
        ["a", "b", "d", "z"]
    );
    assert_eq!(
        words("$IN=\\\ni1 \\\ni2\n$OUT=\\\no1 \\\nx $IN \\\no2\n$OUT"),
        ["o1", "x", "i1", "i2", "o2"]
    );
    // What is not the last thing on its line stays.
    assert_eq!(words("$M=\\\na \\\nb\n$M x"), ["$M", "x"]);
}

#[test]
fn what_is_built_in() {
    assert_eq!(
        words("${_INSTANCE} ${_HASH}x ${_BANG} ${_ENV LEVEL}${_ENV NONE} ${_PWD}"),
        ["red", "#x", "!", "77", "/"]
    );
    let random: i32 = words("${_RANDOM 5 7}")[0].parse().unwrap();
    assert!((5..=7).contains(&random));
}

#[test]
fn loops_repeat_their_line() {
    assert_eq!(words("~SEQ(i,2) a$i.b"), ["a$i.b", "a$i.b"]);
    assert_eq!(words("~SEQ(i,3) a${i}"), ["a1", "a2", "a3"]);
    assert_eq!(
        words("~SEQ(i,2) ~SEQ(j,2) ${i}${j}"),
        ["11", "12", "21", "22"]
    );
    assert_eq!(words("$N=2\n~SEQx(i,9,${N},13) ${i}"), ["9", "b", "d"]);
    assert_eq!(words("~LST({a,b},{1,2},{3}) <${a}${b}>"), ["<12>", "<3>"]);
    assert_eq!(words("$L=~LST(v,x,y) ${v}1\n$L"), ["x1", "y1"]);
    assert_eq!(
        words("~SEQ(i,2) @red ${i}\n~SEQ(i,2) @blue ${i}\nend"),
        ["1", "2", "end"]
    );
    assert_eq!(words("$M=\\\n ~SEQ(i,2) ${i} \\\n z\n$M"), ["1", "2", "z"]);
}

#[test]
fn files_include_files_beside_them() {
    let files = Memory::new(&[
        (
            "/etc/k.conf",
            "global_defs {\n smtp_server 192.0.2.1\n notification_email {\n include d/*.conf\n include d/{x,y}.list\n}\n}\n",
        ),
        ("/etc/d/b.conf", "b ${_PWD}\n"),
        ("/etc/d/a.conf", "a\ninclude more\n"),
        ("/etc/d/more", "more\n"),
        ("/etc/d/.hidden.conf", "hidden\n"),
        ("/etc/d/x.list", "x\n"),
        ("/etc/d/y.list", "y"),
    ]);
    let loaded = files.read("/etc/k.conf", &options());
    assert_eq!(
        loaded.diagnostics.iter().count(),
        0,
        "{}",
        loaded.diagnostics.render(Severity::NoEffect)
    );
    assert_eq!(
        loaded.site.globals.mail.unwrap().to,
        ["a", "more", "b", "/etc/d", "x", "y"]
    );
}

#[test]
fn missing_files_matter_as_the_checks_say() {
    let worst = |text: &str| {
        let files = [("/k.conf", text), ("/there", "")];
        Memory::new(&files)
            .read("/k.conf", &options())
            .diagnostics
            .worst()
    };
    assert_eq!(worst("include there"), None);
    assert_eq!(worst("include none"), Some(Severity::Warning));
    assert_eq!(worst("includem none"), Some(Severity::Fatal));
    assert_eq!(worst("includem none*"), Some(Severity::Warning));
    assert_eq!(worst("includew none*"), Some(Severity::Fatal));
    assert_eq!(worst("include {there,none}"), Some(Severity::Warning));
    assert_eq!(worst("includeb {there,none}"), Some(Severity::Fatal));
    assert_eq!(
        worst("global_defs {\n include_check match\n}\ninclude none"),
        Some(Severity::Fatal)
    );
    assert_eq!(
        worst("global_defs { include_check }\ninclude none*"),
        Some(Severity::Fatal)
    );
    assert_eq!(
        worst("global_defs {\n include_check\n include_check -match\n}\ninclude none"),
        Some(Severity::Warning)
    );
}

#[test]
fn nothing_goes_on_for_ever() {
    for text in [
        "$A=$A x\n$A",
        "$A=${A}${A}\n${A}",
        "$M=\\\n x \\\n $M\n$M",
        "~SEQ(i,1000000000) x${i}",
        "~SEQ(i,2000) ~SEQ(j,2000) x",
        "include k.conf",
        "~SEQ(i,9) ~SEQ(a,9) ~SEQ(b,9) ~SEQ(c,9) ~SEQ(d,9) ~SEQ(e,9) ~SEQ(f,9) ~SEQ(g,9) x",
    ] {
        let loaded = Memory::new(&[("/k.conf", text)]).read("/k.conf", &options());
        assert!(
            loaded.diagnostics.worst() >= Some(Severity::Error),
            "{text}"
        );
    }
}

#[test]
fn a_missing_brace_is_where_it_is_missing() {
    let said = |text: &str| {
        let loaded = Memory::new(&[("/k.conf", text)]).read("/k.conf", &options());
        let said: Vec<String> = loaded
            .diagnostics
            .iter()
            .filter(|d| d.severity >= Severity::Error)
            .map(|d| format!("{}: {}", d.at, d.message))
            .collect();
        (said, loaded.site)
    };
    let (problems, site) = said("global_defs\n router_id a\n}\nglobal_defs { router_id b }");
    assert_eq!(problems, ["/k.conf:1:1: `{` is missing behind this"]);
    assert_eq!(site.globals.router_id.as_deref(), Some("b"));
    let (problems, _) = said("global_defs\n{\n router_id a");
    assert_eq!(problems, ["/k.conf:2:1: this block is not closed"]);
    let (problems, _) = said("}\nglobal_defs { }");
    assert_eq!(problems, ["/k.conf:1:1: `}` without a block"]);
    // An unknown block is skipped as a whole.
    let (problems, site) = said("global_defs {\n bogus x {\n  y {\n z }\n }\n router_id a\n}");
    assert_eq!(
        problems,
        ["/k.conf:2:2: unknown keyword `bogus` in global_defs"]
    );
    assert_eq!(site.globals.router_id.as_deref(), Some("a"));
}

#[test]
fn every_problem_has_its_place_and_the_nearest_word() {
    let text = "vrrp_instance VI_1 {\n  state MASTERR\n  interface eth0\n  virtual_router_id 300\n  prioritty 100\n  \
                virtual_ipaddress {\n    10.0.0.300\n  }\n}\n";
    let loaded = Memory::new(&[("/k.conf", text)]).read("/k.conf", &options());
    assert_eq!(
        loaded.diagnostics.render(Severity::NoEffect),
        "/k.conf:1:1: error: (VI_1) the virtual_router_id must be set; this instance is left out\n    \
         vrrp_instance VI_1 {\n    ^^^^^^^^^^^^^\n\
         /k.conf:2:9: error: `MASTERR` is neither MASTER nor BACKUP; BACKUP is taken\n    \
         state MASTERR\n          ^^^^^^^\n\
         /k.conf:4:21: error: `300` is out of range, which is 1 to 255\n    \
         virtual_router_id 300\n                      ^^^\n\
         /k.conf:5:3: error: unknown keyword `prioritty` in vrrp_instance\n    \
         prioritty 100\n    ^^^^^^^^^\n    hint: did you mean `priority`?\n\
         /k.conf:7:5: error: `10.0.0.300` is no IP address\n    \
         10.0.0.300\n    ^^^^^^^^^^\n"
    );
}

#[test]
fn places_survive_definitions() {
    let text = "$X=bogus\nglobal_defs {\n  ${X} 1\n}\n";
    let loaded = Memory::new(&[("/k.conf", text)]).read("/k.conf", &options());
    let places: Vec<String> = loaded
        .diagnostics
        .iter()
        .map(|d| d.at.to_string())
        .collect();
    assert_eq!(places, ["/k.conf:3:3"]);
}

#[test]
fn odd_lines_are_left_out() {
    let long = format!("global_defs {{\n router_id {}\n}}", "x".repeat(1024));
    for text in [long.as_str(), "global_defs {\n router_id a\0b\n}"] {
        let loaded = Memory::new(&[("/k.conf", text)]).read("/k.conf", &options());
        assert_eq!(loaded.diagnostics.count(Severity::Error), 1);
        assert_eq!(loaded.site.globals.router_id, None);
    }
}
