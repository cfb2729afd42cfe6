//! Client and server over a real socket, with a stand-in for the director.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::JoinHandle;

use pointsman_api::{Change, Client, Command, Error, RefusedChange, Status, StopReport, Table};
use pointsman_model::{
    Counters, Error as Refusal, Forwarding, Protocol, Rates, Rules, Scheduler, ServerKey,
    ServerSpec, ServerView, ServiceKey, ServiceSpec, ServiceView, Timeouts, Variable, VariableView,
    Weight,
};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

/// Serves until a stop and returns every change it was asked for.
struct Stand {
    socket: PathBuf,
    served: JoinHandle<Vec<Change>>,
}

impl Stand {
    fn start(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("pointsman-api-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let socket = dir.join(format!("{name}.sock"));
        let path = socket.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let served = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = UnixListener::bind(&path).unwrap();
                ready.send(()).unwrap();
                let (requests, commands) = mpsc::channel(8);
                let (end, ends) = oneshot::channel::<()>();
                let api = tokio::spawn(pointsman_api::serve(listener, requests, async {
                    let _ = ends.await;
                }));
                let changes = own(commands).await;
                end.send(()).unwrap();
                api.await.unwrap().unwrap();
                changes
            })
        });
        is_ready.recv().unwrap();
        Self { socket, served }
    }

    fn client(&self) -> Client {
        Client::at(&self.socket).unwrap()
    }

    fn stop(self) -> Vec<Change> {
        let report = self.client().stop(true).unwrap();
        assert!(report.kept_forwarding);
        let changes = self.served.join().unwrap();
        std::fs::remove_file(&self.socket).unwrap();
        changes
    }
}

/// A director that knows services by key and refuses what exists, or does not.
async fn own(mut commands: mpsc::Receiver<Command>) -> Vec<Change> {
    let mut services: BTreeMap<String, ServiceView> = BTreeMap::new();
    let mut made = Vec::new();
    let mut timeouts = Timeouts::default();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Apply(changes, reply) => {
                let results = changes.iter().map(|change| match change {
                    Change::AddService(spec) => {
                        let view = ServiceView {
                            spec: spec.clone(),
                            counters: Counters::default(),
                            rates: Rates::default(),
                            local_addresses: Vec::new(),
                            servers: Vec::new(),
                        };
                        match services.insert(spec.key.to_string(), view) {
                            Some(_) => Err(Refusal::ServiceExists),
                            None => Ok(()),
                        }
                    }
                    Change::AddServer { service, server } => {
                        let service = services
                            .get_mut(&service.to_string())
                            .ok_or(Refusal::NoSuchService)?;
                        service.servers.push(ServerView {
                            spec: *server,
                            active: 1,
                            inactive: 2,
                            persistent: 0,
                            counters: Counters::default(),
                            rates: Rates::default(),
                        });
                        Ok(())
                    }
                    Change::DeleteService(key) => services
                        .remove(&key.to_string())
                        .map(drop)
                        .ok_or(Refusal::NoSuchService),
                    Change::SetTimeouts(change) => {
                        timeouts = timeouts.with(*change);
                        Ok(())
                    }
                    Change::EditService(_) => Err(Refusal::NotSupported("edits".into())),
                    _ => Ok(()),
                });
                let _ = reply.send(results.collect());
                made.extend(changes);
            }
            Command::Transact(changes, reply) => {
                let mut rules = Rules::default();
                let mut numbered = changes.iter().enumerate();
                let refused = numbered.find_map(|(change, c)| {
                    let error = rules.apply(c).err()?;
                    Some(RefusedChange { change, error })
                });
                let _ = reply.send(refused.map_or(Ok(()), Err));
            }
            Command::Services(reply) => {
                let _ = reply.send(services.values().cloned().collect());
            }
            Command::Service(key, reply) => {
                let _ = reply.send(services.get(&key.to_string()).cloned());
            }
            Command::Timeouts(reply) => {
                let _ = reply.send(timeouts);
            }
            Command::MarkRules(reply) => {
                let _ = reply.send(vec![
                    "to 192.0.2.0/24 port 80,90-99 mark 7".parse().unwrap(),
                ]);
            }
            Command::Variables(reply) => {
                let _ = reply.send(vec![VariableView {
                    name: Variable::SyncThreshold,
                    value: "3\t50".into(),
                }]);
            }
            Command::Table(reply) => {
                let _ = reply.send(Table {
                    connection_slots: 4096,
                    hz: 250,
                });
            }
            Command::Drops { all, reply } => {
                let count = pointsman_api::DropCount {
                    name: if all { "all" } else { "some" }.into(),
                    meaning: String::new(),
                    packets: 1,
                };
                let _ = reply.send(vec![count]);
            }
            Command::Stop {
                keep_forwarding,
                reply,
            } => {
                let _ = reply.send(StopReport {
                    kept_forwarding: keep_forwarding,
                    problems: Vec::new(),
                });
                break;
            }
            // Dropped without an answer, as a director does that is ending.
            Command::Connections(_)
            | Command::ClearConnections(_)
            | Command::Totals(_)
            | Command::Status(_)
            | Command::Site(_)
            | Command::Handshakes(..)
            | Command::Probe(..)
            | Command::Ldirectords(_)
            | Command::LdirectordTells(..)
            | Command::LdirectordEnds(..)
            | Command::Reload { .. } => {}
        }
    }
    made
}

fn web() -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        addr: "192.0.2.1".parse().unwrap(),
        port: 80,
    }
}

fn server(last: u8) -> ServerSpec {
    ServerSpec {
        key: ServerKey {
            addr: [10, 0, 0, last].into(),
            port: 8080,
        },
        forwarding: Forwarding::Masquerade,
        weight: Weight::DEFAULT,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

#[test]
fn values_and_refusals_come_back_as_they_are() {
    let stand = Stand::start("values");
    let client = stand.client();
    let spec = ServiceSpec::new(web(), Scheduler::Wlc);
    client.add_service(&spec).unwrap();
    assert!(matches!(
        client.add_service(&spec),
        Err(Error::Refused(Refusal::ServiceExists))
    ));
    client.add_server(&web(), &server(2)).unwrap();
    let mark = ServiceKey::Mark {
        mark: 3,
        family: pointsman_model::Family::V6,
    };
    assert!(matches!(
        client.add_server(&mark, &server(2)),
        Err(Error::Refused(Refusal::NoSuchService))
    ));
    match client.edit_service(&spec) {
        Err(Error::Refused(Refusal::NotSupported(what))) => assert_eq!(what, "edits"),
        other => panic!("{other:?}"),
    }

    let all = client.services().unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0], client.service(&web()).unwrap());
    assert_eq!(all[0].spec, spec);
    assert_eq!(all[0].servers[0].spec, server(2));
    assert!(matches!(
        client.service(&mark),
        Err(Error::Refused(Refusal::NoSuchService))
    ));

    let change = Timeouts {
        tcp: 0,
        tcp_fin: 5,
        udp: 0,
    };
    client.set_timeouts(change).unwrap();
    assert_eq!(
        client.timeouts().unwrap(),
        Timeouts {
            tcp_fin: 5,
            ..Timeouts::default()
        }
    );
    client.set_variable(Variable::DropEntry, "3").unwrap();
    let rules = client.mark_rules().unwrap();
    assert_eq!(rules[0].to_string(), "to 192.0.2.0/24 port 80,90-99 mark 7");
    client.set_mark_rules(&rules).unwrap();
    client.add_mark_rule(Some(1), &rules[0]).unwrap();
    client.delete_mark_rule(2).unwrap();
    let variables = client.variables().unwrap();
    assert_eq!(variables[0].name, Variable::SyncThreshold);
    assert_eq!(variables[0].value, "3\t50");
    assert_eq!(client.table().unwrap().connection_slots, 4096);
    assert_eq!(client.drops(true).unwrap()[0].name, "all");
    assert_eq!(client.drops(false).unwrap()[0].name, "some");
    client.delete_service(&web()).unwrap();
    client.flush().unwrap();
    client.zero(Some(&web())).unwrap();
    client.zero(None).unwrap();
    let changes = stand.stop();
    assert!(changes.contains(&Change::SetVariable {
        name: Variable::DropEntry,
        value: "3".into(),
    }));
    for change in [
        Change::SetMarkRules(rules.clone()),
        Change::AddMarkRule {
            at: Some(1),
            rule: rules[0].clone(),
        },
        Change::DeleteMarkRule { at: 2 },
    ] {
        assert!(changes.contains(&change), "{change:?}");
    }
    assert!(changes.ends_with(&[
        Change::Flush,
        Change::Zero {
            service: Some(web())
        },
        Change::Zero { service: None },
    ]));
}

#[test]
fn a_batch_larger_than_any_rules_file_keeps_order_and_results() {
    let stand = Stand::start("batch");
    let mut changes = vec![Change::AddService(ServiceSpec::new(web(), Scheduler::Rr))];
    for n in 0..20_000_u32 {
        changes.push(Change::AddServer {
            service: web(),
            server: server(n as u8),
        });
    }
    changes.insert(10_000, changes[0].clone());
    let results = stand.client().batch(&changes).unwrap();
    assert_eq!(results.len(), changes.len());
    for (n, result) in results.iter().enumerate() {
        let expected = if n == 10_000 {
            Err(Refusal::ServiceExists)
        } else {
            Ok(())
        };
        assert_eq!(*result, expected, "{n}");
    }
    assert_eq!(stand.stop(), changes);
}

#[test]
fn a_transaction_is_made_or_its_first_refused_change_named() {
    let stand = Stand::start("transaction");
    let client = stand.client();
    let add = Change::AddService(ServiceSpec::new(web(), Scheduler::Rr));
    client.transact(&[Change::Flush, add.clone()]).unwrap();
    for (changes, place, refusal) in [
        (vec![add.clone(), add], 1, Refusal::ServiceExists),
        (
            vec![Change::DeleteService(web())],
            0,
            Refusal::NoSuchService,
        ),
    ] {
        match client.transact(&changes) {
            Err(Error::RefusedChange(refused)) => {
                assert_eq!((refused.change, refused.error), (place, refusal));
            }
            other => panic!("{other:?}"),
        }
    }
    stand.stop();
}

#[test]
fn a_director_that_ends_meanwhile_or_never_ran_is_told_apart() {
    let stand = Stand::start("ending");
    let client = stand.client();
    match client.status() {
        Err(Error::Answer { status: 503, body }) => assert!(body.contains("ending"), "{body}"),
        other => panic!("{:?}", other.map(|status: Status| status.pid)),
    }
    stand.stop();
    assert!(matches!(client.services(), Err(Error::NoDirector { .. })));
}
