//! Rules of the INPUT chain that balanced packets do not meet: XDP and TC come before it.

use pointsman_model::{Protocol, ServiceKey};

use super::host;

/// Rules that would keep packets of these services out, had they passed INPUT, as they are written.
pub fn bypassed(services: &[ServiceKey]) -> Vec<String> {
    let mut rules = Vec::new();
    for save in ["iptables-save", "ip6tables-save"] {
        if let Some(text) = host::output(save, &["-t", "filter"]) {
            rules.extend(
                of_iptables(&text, services)
                    .into_iter()
                    .map(|rule| format!("{save}: {rule}")),
            );
        }
    }
    if let Some(text) = host::output("nft", &["list", "ruleset"]) {
        rules.extend(
            of_nftables(&text, services)
                .into_iter()
                .map(|rule| format!("nft: {rule}")),
        );
    }
    rules
}

/// From `iptables-save`: rules of INPUT that drop or reject, and its policy.
fn of_iptables(text: &str, services: &[ServiceKey]) -> Vec<String> {
    let mut found = Vec::new();
    let mut accepted = false;
    let mut policy = None;
    for line in text.lines() {
        if line.starts_with(":INPUT DROP") {
            policy = Some(":INPUT DROP".to_owned());
        }
        let Some(rule) = line.strip_prefix("-A INPUT ") else {
            continue;
        };
        let words: Vec<&str> = rule.split_whitespace().collect();
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            words.get(at + 1).copied()
        };
        let target = after("-j");
        let is_for = |service: &ServiceKey| {
            let ServiceKey::Address {
                protocol,
                addr,
                port,
            } = service
            else {
                return false;
            };
            let address =
                after("-d").is_none_or(|to| to.split('/').next() == Some(&addr.to_string()));
            let port = after("--dport")
                .or(after("--dports"))
                .is_none_or(|ports| has_port(ports, *port));
            let protocol = after("-p").is_none_or(|word| word == name(*protocol));
            // What belongs to a connection, or comes by lo, says nothing about clients.
            address
                && port
                && protocol
                && !words
                    .iter()
                    .any(|word| matches!(*word, "--ctstate" | "--state" | "lo"))
        };
        if services.iter().any(is_for) {
            match target {
                Some("DROP" | "REJECT") => found.push(format!("-A INPUT {rule}")),
                Some("ACCEPT") => accepted = true,
                _ => {}
            }
        }
    }
    if !accepted {
        found.extend(policy);
    }
    found
}

/// From `nft list ruleset`: rules of chains at the hook `input` that drop or reject, and their policy.
/// Tables that iptables made have been looked at already.
fn of_nftables(text: &str, services: &[ServiceKey]) -> Vec<String> {
    let mut found = Vec::new();
    let mut place = (String::new(), String::new());
    let mut of_iptables = false;
    let mut input = false;
    let mut policy = None;
    let mut accepted = false;
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("table ") {
            place.0 = name.trim_end_matches(" {").to_owned();
            of_iptables = ["ip filter", "ip6 filter"].contains(&place.0.as_str());
        } else if let Some(name) = line.strip_prefix("chain ") {
            place.1 = name.trim_end_matches(" {").to_owned();
            input = false;
        } else if line.starts_with("type filter hook ") {
            input = line.contains("hook input") && !place.0.starts_with("arp ");
            policy = (input && line.contains("policy drop"))
                .then(|| format!("{} {}: policy drop", place.0, place.1));
            accepted = false;
        } else if line == "}" {
            if let Some(policy) = policy.take().filter(|_| !accepted && !of_iptables) {
                found.push(policy);
            }
            input = false;
        } else if input && !of_iptables && services.iter().any(|service| is_for(line, service)) {
            if line.ends_with(" drop") || line == "drop" || line.contains("reject") {
                found.push(format!("{} {}: {line}", place.0, place.1));
            } else if line.ends_with("accept") {
                accepted = true;
            }
        }
    }
    found
}

fn is_for(rule: &str, service: &ServiceKey) -> bool {
    let ServiceKey::Address {
        protocol,
        addr,
        port,
    } = service
    else {
        return false;
    };
    let after = |word: &str| rule.split_once(word).map(|(_, rest)| rest.trim_start());
    // One value, or a set in braces.
    let value = |rest: &str| match rest.strip_prefix('{') {
        Some(set) => set.split('}').next().unwrap_or_default().to_owned(),
        None => rest
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    let address = after(" daddr ")
        .is_none_or(|rest| value(rest).split([',', ' ']).any(|a| a == addr.to_string()));
    let port = after("dport ").is_none_or(|rest| has_port(&value(rest), *port));
    let other = match protocol {
        Protocol::Tcp => ["udp ", "sctp "],
        Protocol::Udp => ["tcp ", "sctp "],
        Protocol::Sctp => ["tcp ", "udp "],
    };
    let narrow = ["ct state", "iif \"lo\"", "iifname \"lo\"", "icmp"];
    address && port && !other.iter().chain(&narrow).any(|word| rule.contains(word))
}

/// `80`, `80,443`, `80:90`, `80-90` and lists of these.
fn has_port(ports: &str, port: u16) -> bool {
    ports.split(',').any(|part| {
        let part = part.trim();
        let (first, last) = part.split_once([':', '-']).unwrap_or((part, part));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&port),
            _ => false,
        }
    })
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> [ServiceKey; 1] {
        [ServiceKey::Address {
            protocol: Protocol::Tcp,
            addr: "192.0.2.1".parse().unwrap(),
            port: 80,
        }]
    }

    #[test]
    fn rules_of_iptables_that_are_about_a_service_are_found() {
        let cases = [
            ("-A INPUT -s 203.0.113.0/24 -j DROP", true),
            (
                "-A INPUT -d 192.0.2.1/32 -p tcp -m tcp --dport 80 -j REJECT",
                true,
            ),
            (
                "-A INPUT -p tcp -m multiport --dports 22,79:81 -j DROP",
                true,
            ),
            ("-A INPUT -p tcp -m tcp --dport 22 -j DROP", false),
            ("-A INPUT -p udp -j DROP", false),
            ("-A INPUT -d 192.0.2.2/32 -j DROP", false),
            ("-A INPUT -m state --state INVALID -j DROP", false),
            ("-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT", false),
            ("-A FORWARD -j DROP", false),
        ];
        for (rule, found) in cases {
            let text = format!("*filter\n:INPUT ACCEPT [0:0]\n{rule}\nCOMMIT\n");
            assert_eq!(
                of_iptables(&text, &web()).len(),
                usize::from(found),
                "{rule}"
            );
        }
        let closed = ":INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n";
        assert_eq!(of_iptables(closed, &web()), [":INPUT DROP"]);
        let open = ":INPUT DROP [0:0]\n-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT\n";
        assert!(of_iptables(open, &web()).is_empty());
    }

    #[test]
    fn rules_of_nftables_that_are_about_a_service_are_found() {
        let cases = [
            ("ip saddr 203.0.113.0/24 drop", true),
            ("ip daddr 192.0.2.1 tcp dport { 80, 443 } reject", true),
            ("tcp dport 22 drop", false),
            ("udp dport 80 drop", false),
            ("ct state invalid drop", false),
            ("tcp dport 80 accept", false),
        ];
        for (rule, found) in cases {
            let text = format!(
                "table inet fw {{\n\tchain in {{\n\t\ttype filter hook input priority filter; policy accept;\n\t\t{rule}\n\t}}\n}}\n"
            );
            assert_eq!(
                of_nftables(&text, &web()).len(),
                usize::from(found),
                "{rule}"
            );
            let elsewhere = text.replace("hook input", "hook forward");
            assert!(of_nftables(&elsewhere, &web()).is_empty(), "{rule}");
        }
        let closed = "table inet fw {\n\tchain in {\n\t\ttype filter hook input priority filter; policy drop;\n\t\ttcp dport 22 accept\n\t}\n}\n";
        assert_eq!(of_nftables(closed, &web()), ["inet fw in: policy drop"]);
    }
}
