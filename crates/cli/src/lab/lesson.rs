//! The acts a lesson consists of: run a command, ask for a page, check a claim.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use pointsman_testkit::{Director, Error, Netns, Topology, http, wait_until};

use super::report::Report;
use super::{HookWord, signals};

/// The port of the virtual service in every lab.
pub const PORT: u16 = 80;

/// Why a lesson ended early.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Ctrl-C.
    #[error("interrupted; cleaning up")]
    Interrupted,
    /// Something did not work at all.
    #[error(transparent)]
    Failed(#[from] Error),
    /// An earlier one was kept.
    #[error(
        "a lab {name} is standing already ({netns}); remove it with `pointsman lab remove {name}`, \
         or give this one a name of its own with --name"
    )]
    Standing {
        /// A namespace of it.
        netns: String,
        /// Its name.
        name: String,
    },
    /// A command ended with an error.
    #[error("{host}# {command}\n{output}")]
    Command {
        /// Where it ran.
        host: String,
        /// The command.
        command: String,
        /// What it printed.
        output: String,
    },
    /// A command could not be started.
    #[error("{command}: {source}")]
    Start {
        /// The command.
        command: String,
        /// Cause.
        source: std::io::Error,
    },
}

/// A lesson under way.
#[derive(Debug)]
pub struct Lesson {
    report: Report,
    hook: HookWord,
}

impl Lesson {
    /// Begins.
    pub fn new(report: Report, hook: HookWord) -> Self {
        Self { report, hook }
    }

    /// Begins a step.
    pub fn step(&mut self, title: &str) {
        self.report.step(title);
    }

    /// A paragraph.
    pub fn say(&mut self, text: &str) {
        self.report.say(text);
    }

    /// A drawing.
    pub fn draw(&mut self, drawing: &str) {
        self.report.draw(drawing);
    }

    /// A claim, and what was found.
    pub fn check(&mut self, what: &str, ok: bool, got: impl FnOnce() -> String) {
        let got = (!ok).then(got);
        self.report.check(what, ok, got);
    }

    /// Runs a program of the machine on a host.
    pub fn shell(&mut self, host: &Netns, line: &str) -> Result<String, Stop> {
        let mut words = line.split_whitespace();
        let mut command = host.command(words.next().unwrap_or_default());
        command.args(words);
        self.act(host, line, command)
    }

    /// Runs this program on a host, as `pointsman …` or `ipvsadm …`.
    pub fn pointsman(&mut self, host: &Netns, line: &str) -> Result<String, Stop> {
        let command = on(host, line)?;
        self.act(host, line, command)
    }

    /// The same of a command whose exit status says what it found.
    pub fn pointsman_finds(&mut self, host: &Netns, line: &str) -> Result<String, Stop> {
        let command = on(host, line)?;
        let (output, _) = self.carry_out(line, command)?;
        self.report.command(host.label(), line, &output);
        Ok(output)
    }

    fn act(&mut self, host: &Netns, line: &str, command: Command) -> Result<String, Stop> {
        let (mut output, status) = self.carry_out(line, command)?;
        if !status.success() {
            output += &format!("({status})");
            let (host, command) = (host.label().to_owned(), line.to_owned());
            return Err(Stop::Command {
                host,
                command,
                output,
            });
        }
        self.report.command(host.label(), line, &output);
        Ok(output)
    }

    fn carry_out(&self, line: &str, mut command: Command) -> Result<(String, ExitStatus), Stop> {
        if signals::interrupted() {
            return Err(Stop::Interrupted);
        }
        let done = command.stdin(Stdio::null()).output();
        if signals::interrupted() {
            return Err(Stop::Interrupted);
        }
        let done = done.map_err(|source| Stop::Start {
            command: line.into(),
            source,
        })?;
        let mut output = String::from_utf8_lossy(&done.stdout).into_owned();
        output += &String::from_utf8_lossy(&done.stderr);
        Ok((output, done.status))
    }

    /// Fetches the page of `server` `count` times, a new connection each, and returns the pages.
    pub fn ask(
        &mut self,
        client: &Netns,
        server: Ipv4Addr,
        count: usize,
    ) -> Result<Vec<String>, Stop> {
        let address = SocketAddrV4::new(server, PORT);
        let mut pages = Vec::new();
        for _ in 0..count {
            pages.push(page_at(client, address)?);
        }
        let times = if count == 1 {
            String::new()
        } else {
            format!("   ({count} times)")
        };
        let line = format!("GET http://{server}/{times}");
        self.report
            .command(client.label(), &line, &pages.join("\n"));
        Ok(pages)
    }

    /// Fetches a page from each port in turn, and returns the pages.
    pub fn ask_ports(
        &mut self,
        client: &Netns,
        server: Ipv4Addr,
        ports: &[u16],
    ) -> Result<Vec<String>, Stop> {
        let mut pages = Vec::new();
        for &port in ports {
            let page = page_at(client, SocketAddrV4::new(server, port))?;
            let line = format!("GET http://{server}:{port}/");
            self.report.command(client.label(), &line, &page);
            pages.push(page);
        }
        Ok(pages)
    }

    /// Shows what was found by other means than a command.
    pub fn show(&mut self, host: &Netns, what: &str, output: &str) {
        self.report.command(host.label(), what, output);
    }

    /// Starts a page server on a port of every real server, each a process of its own, so that it
    /// can outlive the lesson.
    pub fn serve(&mut self, net: &Topology, on: u16) -> Result<(), Stop> {
        for server in &net.servers {
            let (addr, port) = (server.addr.to_string(), on.to_string());
            let mut command = this_program()?;
            command.args(["--netns", server.netns.name(), "lab", "serve"]);
            command.args([&server.name, &addr, &port]);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .process_group(0);
            let mut child = command.spawn().map_err(|source| Stop::Start {
                command: "page server".into(),
                source,
            })?;
            // Whoever ends it (the namespace, or Ctrl-C), somebody has to collect it.
            std::thread::spawn(move || child.wait());
            let local = SocketAddrV4::new(Ipv4Addr::LOCALHOST, on);
            let what = format!("page server of {}", server.name);
            wait_until(what, Duration::from_secs(10), || {
                server.netns.run(|| http::get(local, "/")).ok()
            })?;
        }
        Ok(())
    }

    /// Starts the director and shows where its programs run.
    pub fn start_director(&mut self, net: &Topology) -> Result<(), Stop> {
        let line = match self.hook {
            HookWord::Auto => "pointsman director start",
            HookWord::Xdp => "pointsman director start --hook xdp",
            HookWord::Tc => "pointsman director start --hook tc",
        };
        self.pointsman(&net.director, line)?;
        self.pointsman(&net.director, "pointsman director status")?;
        Ok(())
    }

    /// Starts a director that follows a file.
    pub fn start_director_with(&mut self, host: &Netns, file: &Path) -> Result<(), Stop> {
        let hook = match self.hook {
            HookWord::Auto => "",
            HookWord::Xdp => " --hook xdp",
            HookWord::Tc => " --hook tc",
        };
        let file = file.display();
        let line = format!("pointsman director start{hook} --config {file}");
        self.pointsman(host, &line).map(drop)
    }

    /// Makes the service, rr, with every real server, forwarding as `flag` says.
    pub fn make_service(&mut self, net: &Topology, flag: &str) -> Result<(), Stop> {
        let service = net.service(PORT);
        self.pointsman(&net.director, &format!("ipvsadm -A -t {service} -s rr"))?;
        for server in &net.servers {
            let line = format!("ipvsadm -a -t {service} -r {}:{PORT} {flag}", server.addr);
            self.pointsman(&net.director, &line)?;
        }
        let listing = self.pointsman(&net.director, "ipvsadm -Ln")?;
        let listed = net
            .servers
            .iter()
            .all(|server| listing.contains(&server.addr.to_string()));
        self.check(
            "the service is listed with both real servers",
            listed,
            || listing.clone(),
        );
        Ok(())
    }

    /// Four requests take turns, the newest server first.
    pub fn requests_alternate(&mut self, net: &Topology) -> Result<(), Stop> {
        let pages = self.ask(&net.client, net.vip, 4)?;
        let page_of = |n: usize| http::page(&net.servers[n].name, net.servers[n].addr);
        let expected = [page_of(1), page_of(0), page_of(1), page_of(0)];
        self.check(
            "the real servers take turns, the one added last goes first",
            pages == expected,
            || pages.join(", "),
        );
        Ok(())
    }

    /// Weights 2:1 under wrr: of six requests rs1 gets four.
    pub fn weights(&mut self, net: &Topology, flag: &str) -> Result<(), Stop> {
        let service = net.service(PORT);
        let first = &net.servers[0];
        self.pointsman(&net.director, &format!("ipvsadm -E -t {service} -s wrr"))?;
        let line = format!(
            "ipvsadm -e -t {service} -r {}:{PORT} {flag} -w 2",
            first.addr
        );
        self.pointsman(&net.director, &line)?;
        let pages = self.ask(&net.client, net.vip, 6)?;
        let shares = shares(&pages);
        let share = |n: usize| {
            let page = http::page(&net.servers[n].name, net.servers[n].addr);
            shares.get(&page).copied().unwrap_or(0)
        };
        let fair = (share(0), share(1)) == (4, 2);
        self.check(
            "of six requests rs1 (weight 2) got four and rs2 (weight 1) two",
            fair,
            || format!("{shares:?}"),
        );
        Ok(())
    }

    /// The listing of totals, once the service shows so many connections; what it shows else is for
    /// the caller to judge.
    pub fn stats(
        &mut self,
        net: &Topology,
        service: &str,
        connections: u64,
    ) -> Result<String, Stop> {
        self.say("Totals are counted up every two seconds, so they may lag behind by so much.");
        let listing = || {
            let mut command = this_program().ok()?;
            command.args(["--netns", net.director.name(), "ipvsadm", "-Ln", "--stats"]);
            String::from_utf8(command.output().ok()?.stdout).ok()
        };
        let _ = wait_until("totals", Duration::from_secs(3), || {
            (column(&listing()?, service, 2) == Some(connections)).then_some(())
        });
        self.pointsman(&net.director, "ipvsadm -Ln --stats")
    }

    /// Connection entries and counters after four requests; the statistics are returned.
    pub fn look(&mut self, net: &Topology) -> Result<String, Stop> {
        let client = net.client_addr.to_string();
        let service = net.service(PORT).to_string();
        let entries = self.pointsman(&net.director, "ipvsadm -Lnc")?;
        let listed = entries
            .lines()
            .filter(|line| line.contains(&client))
            .count();
        self.check(
            "each of the four connections has an entry",
            listed == 4,
            || entries.clone(),
        );
        let stats = self.stats(net, &service, 4)?;
        let connections = column(&stats, &service, 2);
        self.check(
            "the service counted four connections",
            connections == Some(4),
            || format!("{connections:?}"),
        );
        Ok(stats)
    }

    /// Ends the director and shows that nothing of it is left.
    pub fn tidy_up(&mut self, net: &Topology) -> Result<(), Stop> {
        self.step("Tidy up");
        self.say(
            "Stopping the director detaches its programs and removes its tables. (If it had been
            killed, they would go on balancing: the kernel side needs no daemon.) The namespaces
            go when the lesson ends; run it with --keep to have them stay.",
        );
        self.pointsman(&net.director, "pointsman director stop")?;
        let traces = Director::new("", &net.director).traces()?;
        self.check("no program, pin or file is left", traces.is_empty(), || {
            traces.join(", ")
        });
        Ok(())
    }

    /// How to play on.
    pub fn stays(&mut self, name: &str, net: &Topology) {
        self.step("It stays");
        let (client, director) = (net.client.name(), net.director.name());
        self.say("Everything is left running. From another shell:");
        self.draw(&format!(
            "
enter a host     nsenter --net=/run/netns/{client} bash
ask the VIP      nsenter --net=/run/netns/{client} curl http://{vip}/
run ipvsadm      pointsman --netns {director} ipvsadm -Ln
list the hosts   ip netns list
remove it        pointsman lab remove {name}",
            vip = net.vip
        ));
    }

    /// It ended early.
    pub fn stopped(&mut self, stop: &Stop) {
        self.report.error(&stop.to_string());
    }

    /// Prints the result; true when every claim held.
    pub fn finish(&self) -> bool {
        self.report.finish()
    }
}

/// The page, or in parentheses why there is none.
fn page_at(client: &Netns, address: SocketAddrV4) -> Result<String, Stop> {
    if signals::interrupted() {
        return Err(Stop::Interrupted);
    }
    let page = client.run(|| http::get(address, "/"));
    Ok(page.map_or_else(|error| format!("({error})"), |reply| reply.body))
}

/// This program, as it is called on a host.
fn on(host: &Netns, line: &str) -> Result<Command, Stop> {
    let mut command = this_program()?;
    command.args(["--netns", host.name()]);
    let words = line.strip_prefix("pointsman ").unwrap_or(line);
    command.args(words.split_whitespace());
    Ok(command)
}

fn this_program() -> Result<Command, Stop> {
    let start = |source| Stop::Start {
        command: "pointsman".into(),
        source,
    };
    Ok(Command::new(std::env::current_exe().map_err(start)?))
}

fn shares(pages: &[String]) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for page in pages {
        *shares.entry(page.clone()).or_default() += 1;
    }
    shares
}

/// Number in column `index` of the line of a listing whose second word is `name`.
pub fn column(listing: &str, name: &str, index: usize) -> Option<u64> {
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let line = listing
        .lines()
        .map(words)
        .find(|words| words.get(1).is_some_and(|w| w == name))?;
    line.get(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_of_a_listing_is_found_by_the_name_in_its_line() {
        let listing = "IP Virtual Server version 1.2.1 (size=4096)\n\
            Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  \
            -> RemoteAddress:Port\n\
            TCP  192.0.2.1:80                        9       45       27     2412     1512\n  \
            -> 10.0.0.11:80                        4       20       12     1072      672\n";
        assert_eq!(column(listing, "192.0.2.1:80", 2), Some(9));
        assert_eq!(column(listing, "10.0.0.11:80", 4), Some(12));
        assert_eq!(column(listing, "10.0.0.12:80", 4), None);
    }
}
