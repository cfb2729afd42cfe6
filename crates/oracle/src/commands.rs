//! Commands on the director, and their output without what varies from run to run.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::names;
use crate::stage::Stage;

/// Settings whose values depend on the machine.
const OF_THE_MACHINE: [&str; 3] = ["est_cpulist", "sync_qlen_max", "debug_level"];

/// `ipvsadm ARGUMENTS`.
pub fn ipvsadm(stage: &Stage, arguments: &str, input: &[String]) -> Result<Vec<String>> {
    let mut command = stage.command("ipvsadm");
    for word in names::substitute(arguments).split_whitespace() {
        command.arg(word);
    }
    let text: String = input
        .iter()
        .map(|line| names::substitute(line) + "\n")
        .collect();
    let output = feed(&mut command, &text)?;
    let mut answer = lines(&output.stdout);
    for line in &mut answer {
        without_size(line);
    }
    if answer
        .first()
        .is_some_and(|line| line == "IPVS connection entries")
    {
        rows(&mut answer, 2, |row| token(row, 1));
    }
    answer.extend(
        lines(&output.stderr)
            .into_iter()
            .map(|line| format!("! {line}")),
    );
    match output.status.code() {
        Some(0) => {}
        Some(code) => answer.push(format!("= {code}")),
        None => answer.push(format!("= {}", output.status)),
    }
    Ok(answer)
}

/// `sysctl NAME`, `sysctl NAME=VALUE` and `sysctl -a`, names without `net.ipv4.vs.`.
pub fn sysctl(stage: &Stage, arguments: &str) -> Result<Vec<String>> {
    const PREFIX: &str = "net.ipv4.vs.";
    let mut command = stage.command("sysctl");
    match arguments {
        "-a" if stage.is_kernel() => command.args(["-a", "--pattern", r"^net\.ipv4\.vs\."]),
        "-a" => command.arg("-a"),
        _ => command.arg(format!("{PREFIX}{arguments}")),
    };
    let output = feed(&mut command, "")?;
    if !output.status.success() {
        return Ok(vec!["refused".into()]);
    }
    if arguments.contains('=') {
        return Ok(Vec::new());
    }
    let mut answer: Vec<_> = lines(&output.stdout)
        .iter()
        .filter_map(|line| line.strip_prefix(PREFIX))
        .filter(|line| !OF_THE_MACHINE.contains(&line.split(' ').next().unwrap_or_default()))
        .map(|line| line.replace('\t', " "))
        .collect();
    answer.sort();
    Ok(answer)
}

/// `proc NAME`: a file of /proc/net.
pub fn proc(stage: &Stage, name: &str) -> Result<Vec<String>> {
    let mut command = if stage.is_kernel() {
        let mut command = stage.inside("cat");
        command.arg(format!("/proc/net/{name}"));
        command
    } else {
        let mut command = stage.command("proc");
        command.arg(name);
        command
    };
    let output = feed(&mut command, "")?;
    if !output.status.success() {
        return Ok(vec!["refused".into()]);
    }
    let mut answer = lines(&output.stdout);
    for line in &mut answer {
        without_size(line);
    }
    match name {
        "ip_vs_conn" => rows(&mut answer, 1, |row| token(row, 8)),
        "ip_vs_conn_sync" => rows(&mut answer, 1, |row| token(row, 9)),
        // Rates depend on when they were taken.
        "ip_vs_stats" => answer.truncate(4),
        _ => {}
    }
    Ok(answer)
}

/// `mark N MATCH…`: packets that iptables' MATCH picks carry firewall mark N. Over Pointsman the same by
/// its own rules.
pub fn mark(stage: &Stage, arguments: &str) -> Result<Vec<String>> {
    let (number, matches) = arguments.split_once(' ').context("mark N MATCH…")?;
    let program = if matches.contains("v6") {
        "ip6tables"
    } else {
        "iptables"
    };
    let matches = names::substitute(matches);
    let matches = matches.split_whitespace();
    let mut command;
    if stage.is_kernel() {
        command = stage.inside(program);
        command.args(["-t", "mangle", "-A", "PREROUTING"]);
        command.args(matches);
        command.args(["-j", "MARK", "--set-mark", number]);
    } else {
        command = stage.command("mark");
        // Of netfilter's rules the last that matches decides, of Pointsman's the first.
        command.args(["add", "--at", "1", "mark", number]);
        command.args(native(matches)?);
    }
    let output = feed(&mut command, "")?;
    Ok(lines(&output.stderr))
}

/// The words of a rule of `pointsman mark` for those of an iptables match.
fn native<'a>(mut matches: impl Iterator<Item = &'a str>) -> Result<Vec<&'a str>> {
    let mut rule = Vec::new();
    while let Some(option) = matches.next() {
        let word = match option {
            "-s" => "from",
            "-d" => "to",
            "-p" => "protocol",
            "-i" => "in",
            "--dport" | "--dports" => "port",
            "-m" => {
                matches.next();
                continue;
            }
            other => bail!("mark: {other} has no native word"),
        };
        let value = matches.next().with_context(|| format!("{option} VALUE"))?;
        rule.extend([word, value]);
    }
    Ok(rule)
}

/// `ip ARGUMENTS`, on the director.
pub fn ip(stage: &Stage, arguments: &str) -> Result<Vec<String>> {
    let mut command = stage.inside("ip");
    command.args(names::substitute(arguments).split_whitespace());
    let output = feed(&mut command, "")?;
    Ok([lines(&output.stdout), lines(&output.stderr)].concat())
}

/// Runs `command` with `input`.
pub fn feed(command: &mut Command, input: &str) -> Result<Output> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    // Who does not read it is nobody's error.
    let _ = child
        .stdin
        .take()
        .expect("was piped")
        .write_all(input.as_bytes());
    Ok(child.wait_with_output()?)
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes)
        .lines()
        .map(|line| line.trim_end().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// The number of buckets or slots is no behaviour.
fn without_size(line: &mut String) {
    if let Some((before, rest)) = line.split_once("(size=")
        && let Some((_, after)) = rest.split_once(')')
    {
        *line = format!("{before}(size=*){after}");
    }
}

/// Sorts the rows below `header` lines and makes the times in them coarse.
fn rows(
    lines: &mut [String],
    header: usize,
    expires: impl Fn(&str) -> Option<std::ops::Range<usize>>,
) {
    let Some(rows) = lines.get_mut(header..) else {
        return;
    };
    for row in &mut *rows {
        if let Some(span) = expires(row)
            && let Some(text) = coarse(&row[span.clone()])
        {
            let text = format!("{text:>width$}", width = span.len());
            row.replace_range(span, &text);
        }
    }
    rows.sort_by_key(|row| {
        let mut words: Vec<_> = row.split_whitespace().map(str::to_owned).collect();
        if header == 2 && words.len() > 1 {
            // Protocol and addresses first, so that states may differ without reordering.
            words.remove(1);
        }
        words
    });
}

/// Where the word number `n` of a line is.
fn token(line: &str, n: usize) -> Option<std::ops::Range<usize>> {
    let word = line.split_whitespace().nth(n)?;
    let start = word.as_ptr() as usize - line.as_ptr() as usize;
    Some(start..start + word.len())
}

/// A remaining time, `MM:SS` or seconds, as the time it started from, give or take: the next ten
/// seconds up, one second (SCTP's 61) not counted; short ones as 4.
fn coarse(time: &str) -> Option<String> {
    let round = |seconds: u32| match seconds {
        0..=4 => 4,
        _ => (seconds - 1).div_ceil(10) * 10,
    };
    match time.split_once(':') {
        Some((minutes, seconds)) => {
            let all = minutes.parse::<u32>().ok()? * 60 + seconds.parse::<u32>().ok()?;
            let all = round(all);
            Some(format!("{:02}:{:02}", all / 60, all % 60))
        }
        None => Some(round(time.parse().ok()?).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_what_they_started_from() {
        for (time, started) in [
            ("14:57", "15:00"),
            ("01:58", "02:00"),
            ("01:01", "01:00"),
            ("00:59", "01:00"),
            ("00:09", "00:10"),
            ("00:03", "00:04"),
            ("298", "300"),
        ] {
            assert_eq!(coarse(time).unwrap(), started, "{time}");
        }
    }

    #[test]
    fn connections_are_sorted_whatever_their_time() {
        let mut lines = [
            "IPVS connection entries",
            "pro expire state       source             virtual            destination",
            "UDP 04:59  UDP         10.1.0.2:5         10.1.100.1:53      10.2.0.1:53",
            "TCP 01:57  TIME_WAIT   10.1.0.1:1024      10.1.100.1:80      10.2.0.1:80",
        ]
        .map(str::to_owned);
        rows(&mut lines, 2, |row| token(row, 1));
        assert!(lines[2].starts_with("TCP 02:00  TIME_WAIT"), "{lines:?}");
        assert!(lines[3].starts_with("UDP 05:00  UDP"), "{lines:?}");
    }
}
