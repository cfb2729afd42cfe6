use pointsman_config::ldirectord::{Numeric, read, server_label};

use super::*;

/// An engine over a table, and what was done.
struct World {
    engine: Engine,
    table: Table,
    now: u64,
}

const HEAD: &str = "virtual=192.0.2.1:80\n\treal=10.0.0.2:80 masq\n\treal=10.0.0.3:80 masq 3\n";

fn config(text: &str) -> Config {
    read(text, &Numeric).config().expect("a good file")
}

impl World {
    /// Started over an empty table.
    fn new(text: &str) -> Self {
        Self::over(text, Table::default())
    }

    fn over(text: &str, table: Table) -> Self {
        Self {
            engine: Engine::new(config(text)),
            table,
            now: 0,
        }
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.now)
    }

    fn start(&mut self) -> Vec<Effect> {
        let mut view = self.table.clone();
        let now = self.now();
        let effects = self.engine.start(&mut view, now);
        self.apply(effects)
    }

    fn answer(&mut self, check: usize, answer: Answer<'_>) -> Vec<Effect> {
        let table = self.table.clone();
        let now = self.now();
        let effects = self
            .engine
            .answer(check, answer, &mut || table.clone(), now);
        self.apply(effects)
    }

    fn up(&mut self, check: usize) -> Vec<Effect> {
        self.answer(check, Answer::Up(""))
    }

    fn down(&mut self, check: usize) -> Vec<Effect> {
        self.answer(check, Answer::Down("refused"))
    }

    fn stop(&mut self) -> Vec<Effect> {
        let mut view = self.table.clone();
        let now = self.now();
        let effects = self.engine.stop(&mut view, now);
        self.apply(effects)
    }

    fn apply(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        for effect in &effects {
            if let Effect::Change(change) = effect {
                self.table.apply(change);
            }
        }
        effects
    }

    /// `10.0.0.2:80=1 …` of the first service, sorted.
    fn servers(&self) -> String {
        let key = self.engine.config().virtuals[0].key;
        let mut servers: Vec<_> = self
            .table
            .servers(&key)
            .iter()
            .filter_map(|server| self.table.server(&key, server))
            .map(|spec| format!("{}={}", server_label(spec.key), spec.weight.get()))
            .collect();
        servers.sort();
        servers.join(" ")
    }
}

fn log_line(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::Log(line) => Some(line),
        _ => None,
    }
}

fn command_line(effect: &Effect) -> Option<&str> {
    match effect {
        Effect::Command(line) => Some(line),
        _ => None,
    }
}

fn logs(effects: &[Effect]) -> Vec<&str> {
    effects.iter().filter_map(log_line).collect()
}

fn commands(effects: &[Effect]) -> Vec<&str> {
    effects.iter().filter_map(command_line).collect()
}

#[test]
fn nothing_is_in_the_table_before_it_has_answered() {
    let mut world = World::new(HEAD);
    assert_eq!(logs(&world.start()), ["Added virtual server: 192.0.2.1:80"]);
    assert_eq!(world.servers(), "");
    assert_eq!(
        logs(&world.up(1)),
        ["Added real server: 10.0.0.3:80 (192.0.2.1:80) (Weight set to 3)"]
    );
    assert_eq!(logs(&world.up(1)), [""; 0]);
    assert_eq!(world.servers(), "10.0.0.3:80=3");
    assert_eq!(
        logs(&world.down(1)),
        ["Deleted real server: 10.0.0.3:80 (192.0.2.1:80)"]
    );
    assert_eq!(world.servers(), "");
}

#[test]
fn quiescent_servers_stay_with_weight_0() {
    let mut world = World::new(&format!("quiescent=yes\n{HEAD}"));
    world.start();
    assert_eq!(world.servers(), "10.0.0.2:80=0 10.0.0.3:80=0");
    world.up(0);
    assert_eq!(
        logs(&world.up(1)),
        ["Restored real server: 10.0.0.3:80 (192.0.2.1:80) (Weight set to 3)"]
    );
    assert_eq!(
        logs(&world.down(0)),
        ["Quiescent real server: 10.0.0.2:80 (192.0.2.1:80) (Weight set to 0)"]
    );
    assert_eq!(world.servers(), "10.0.0.2:80=0 10.0.0.3:80=3");
}

#[test]
fn a_quiescent_server_removed_by_hand_is_put_back_only_with_readdquiescent() {
    for (readd, expected) in [("no", ""), ("yes", "10.0.0.2:80=0")] {
        let text = format!("quiescent=yes\nreaddquiescent={readd}\n{HEAD}");
        let mut world = World::new(&text);
        world.start();
        world.up(0);
        world.table = {
            let mut table = Table::default();
            table.apply(&Change::AddService(
                world.engine.config().virtuals[0].spec(),
            ));
            table
        };
        world.down(0);
        assert_eq!(world.servers(), expected, "readdquiescent={readd}");
    }
}

#[test]
fn the_fallback_answers_while_nobody_else_does() {
    let text =
        format!("{HEAD}\tfallback=127.0.0.1:80 gate\n\tfallbackcommand=/bin/fb\n\tquiescent=yes\n");
    let mut world = World::new(&text);
    let effects = world.start();
    assert_eq!(commands(&effects), ["/bin/fb start 192.0.2.1:80 tcp"]);
    assert_eq!(
        world.servers(),
        "10.0.0.2:80=0 10.0.0.3:80=0 127.0.0.1:80=1"
    );
    let effects = world.up(0);
    assert_eq!(
        logs(&effects),
        [
            "Restored real server: 10.0.0.2:80 (192.0.2.1:80) (Weight set to 1)",
            "Deleted fallback server: 127.0.0.1:80 (192.0.2.1:80)",
        ]
    );
    assert_eq!(commands(&effects), ["/bin/fb stop 192.0.2.1:80 tcp"]);
    assert_eq!(commands(&world.up(1)), [""; 0]);
    assert_eq!(commands(&world.down(0)), [""; 0]);
    let effects = world.down(1);
    assert_eq!(
        logs(&effects),
        [
            "Quiescent real server: 10.0.0.3:80 (192.0.2.1:80) (Weight set to 0)",
            "Added fallback server: 127.0.0.1:80 (192.0.2.1:80) (Weight set to 1)",
        ]
    );
    assert_eq!(commands(&effects), ["/bin/fb start 192.0.2.1:80 tcp"]);
}

#[test]
fn failures_are_counted_over_rounds() {
    let mut world = World::new(&format!("failurecount=3\n{HEAD}"));
    world.start();
    world.up(0);
    let soft =
        |n| format!("Soft failure real server: 10.0.0.2:80 (tcp:192.0.2.1:80) failure {n}/3");
    assert_eq!(logs(&world.down(0)), [soft(1).as_str()]);
    assert_eq!(logs(&world.down(0)), [soft(2).as_str()]);
    assert_eq!(
        logs(&world.up(0)),
        ["Resetting soft failure count: 10.0.0.2:80 (tcp:192.0.2.1:80)"]
    );
    for _ in 0..2 {
        world.down(0);
    }
    assert_eq!(world.servers(), "10.0.0.2:80=1");
    world.down(0);
    assert_eq!(world.servers(), "");
}

#[test]
fn maintenance_does_not_wait_for_the_count() {
    let mut world = World::new(&format!("failurecount=3\n{HEAD}\tmonitorfile=/m\n"));
    world.start();
    world.up(0);
    let effects = world.answer(0, Answer::Maintenance);
    assert_eq!(world.servers(), "");
    let line = "negotiate http tcp 10.0.0.2 80 1 masq /  [down] Server in maintenance";
    let expected = Effect::Monitor {
        path: "/m".into(),
        line: line.into(),
    };
    assert!(effects.contains(&expected), "{effects:?}");
}

#[test]
fn servers_that_are_in_the_table_with_a_weight_are_kept_at_the_start() {
    let mut first = World::new(HEAD);
    first.start();
    first.up(0);
    let mut world = World::over(&format!("{HEAD}\tfallback=127.0.0.1:80\n"), first.table);
    let effects = world.start();
    assert_eq!(logs(&effects), ["Changed virtual server: 192.0.2.1:80"]);
    assert_eq!(world.servers(), "10.0.0.2:80=1");
}

#[test]
fn foreign_servers_of_our_services_go_at_the_start() {
    let mut first = World::new("virtual=192.0.2.1:80\n\treal=10.9.9.9:80 masq\n");
    first.start();
    first.up(0);
    let mut world = World::over(HEAD, first.table);
    assert_eq!(
        logs(&world.start())[1..],
        ["Purged real server (start): 10.9.9.9:80 (192.0.2.1:80)"]
    );
    assert_eq!(world.servers(), "");
}

#[test]
fn a_new_configuration_keeps_what_is_the_same() {
    let mut world = World::new(&format!(
        "{HEAD}virtual=192.0.2.1:81\n\treal=10.0.0.2:81 masq\n"
    ));
    world.start();
    (0..3).for_each(|check| drop(world.up(check)));
    let new = config("virtual=192.0.2.1:80\n\treal=10.0.0.2:80 masq 7\n\treal=10.0.0.4:80 masq\n");
    let mut view = world.table.clone();
    let effects = world.engine.reload(new, &mut view, Duration::ZERO);
    let effects = world.apply(effects);
    assert_eq!(
        logs(&effects),
        [
            "Changed virtual server: 192.0.2.1:80",
            "Restored real server: 10.0.0.2:80 (192.0.2.1:80) (Weight set to 7)",
            "Purged real server (start): 10.0.0.3:80 (192.0.2.1:80)",
            "Purged virtual server (start): 192.0.2.1:81",
        ]
    );
    assert_eq!(world.servers(), "10.0.0.2:80=7");
}

#[test]
fn a_stop_takes_what_is_up_out_one_by_one() {
    let mut world = World::new(HEAD);
    world.start();
    world.up(0);
    assert_eq!(
        logs(&world.stop()),
        [
            "Purged real server (stop): 10.0.0.2:80 (192.0.2.1:80)",
            "Purged virtual server (stop): 192.0.2.1:80",
        ]
    );
    let mut world = World::new(&format!("cleanstop=no\n{HEAD}"));
    world.start();
    world.up(0);
    assert_eq!(world.stop(), []);
}

#[test]
fn one_check_counts_for_every_service_that_lists_it() {
    let mut world = World::new(
        "virtual=192.0.2.1:80\n\treal=10.0.0.2:80 gate\nvirtual=192.0.2.9:80\n\treal=10.0.0.2:80 gate\n",
    );
    world.start();
    assert_eq!(world.engine.checks().len(), 1);
    assert_eq!(logs(&world.up(0)).len(), 2);
}

#[test]
fn a_port_that_only_nat_could_change_is_the_services() {
    let mut world = World::new("virtual=192.0.2.1:80\n\treal=10.0.0.2:8080 gate\n");
    world.start();
    world.up(0);
    assert_eq!(world.servers(), "10.0.0.2:80=1");
    assert_eq!(
        logs(&world.down(0)),
        ["Deleted real server: 10.0.0.2:80 mapped from 10.0.0.2:8080 (192.0.2.1:80)"]
    );
}

#[test]
fn mails_go_out_in_the_phases_that_were_asked_for_and_are_repeated() {
    let text = format!(
        "emailalert=\"root@localhost\"\nemailalertstatus=running\nemailalertfreq=60\nsmtp=127.0.0.1\n\
         {HEAD}\tservicename=Web\n\tcomment=the shop\n"
    );
    let mut world = World::new(&text);
    world.start();
    let mails = |effects: Vec<Effect>| -> Vec<Mail> {
        let mail = |effect| match effect {
            Effect::Mail(mail) => Some(mail),
            _ => None,
        };
        effects.into_iter().filter_map(mail).collect()
    };
    assert_eq!(mails(world.up(0)), [], "still starting");
    world.engine.runs();
    let sent = mails(world.down(0));
    assert_eq!(
        sent[0].subject,
        "[Web] Deleted real server: 10.0.0.2:80 (192.0.2.1:80)"
    );
    assert_eq!(
        sent[0].body("lb1"),
        "ldirectord host: lb1\n\
         Log-Message: [Web] Deleted real server: 10.0.0.2:80 (192.0.2.1:80)\n\
         Daemon-Status: running\n\nService name: Web\nComment: the shop\n"
    );
    let mut at = |seconds| mails(world.engine.remind(Duration::from_secs(seconds)));
    assert_eq!(at(59), []);
    assert_eq!(
        at(60)[0].subject,
        "[Web] Inaccessible real server: 10.0.0.2:80 (192.0.2.1:80)"
    );
    assert_eq!(at(61), []);
    assert_eq!(at(120).len(), 1);
    world.up(0);
    assert_eq!(mails(world.engine.remind(Duration::from_secs(500))), []);
}

#[test]
fn a_table_that_was_cleared_is_filled_again() {
    let mut world = World::new(HEAD);
    world.start();
    world.up(1);
    let now = world.now();
    assert_eq!(world.engine.repair(&mut world.table.clone(), now), []);
    world.table = Table::default();
    let effects = world.engine.repair(&mut Table::default(), now);
    world.apply(effects);
    assert_eq!(world.servers(), "10.0.0.3:80=3");
}
