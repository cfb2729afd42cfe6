//! Variables, and what follows from them.

use super::*;

#[test]
fn automatic_modes_follow_memory() {
    let mut tables = tables();
    let modes = [
        Variable::DropEntry,
        Variable::DropPacket,
        Variable::SecureTcp,
    ];
    tables.set_variable(Variable::Amemthresh, "1000").unwrap();
    tables.set_variable(Variable::AmDroprate, "7").unwrap();
    // (mode set, pages there, mode then, drop rate, secure_tcp)
    for (mode, pages, then, rate, secure) in [
        ("0", 0, "0", 0, 0),
        ("1", 1000, "1", 0, 0),
        ("1", 999, "2", 1000, 1),
        ("1", 500, "2", 2, 1),
        ("2", 0, "2", 1, 1),
        ("2", 1000, "1", 0, 0),
        ("3", 5000, "3", 7, 1),
    ] {
        for variable in modes {
            tables.set_variable(variable, mode).unwrap();
        }
        tables.defend(pages);
        let mut after = adopted(tables);
        for variable in modes {
            assert_eq!(
                after.variable(variable).as_deref(),
                Some(then),
                "{mode} {pages}"
            );
        }
        let runtime = after.maps.runtime.read(0).unwrap();
        assert_eq!(
            (runtime.settings.drop_rate, runtime.secure_tcp),
            (rate, secure)
        );
        after.defend(pages);
        tables = after;
    }
    // A threshold below zero is none.
    tables.set_variable(Variable::Amemthresh, "-5").unwrap();
    tables.set_variable(Variable::DropPacket, "2").unwrap();
    tables.defend(0);
    assert_eq!(tables.variable(Variable::DropPacket).as_deref(), Some("1"));
}

#[test]
fn variables_keep_what_was_set() {
    let mut tables = tables();
    for (variable, value, shown) in [
        (Variable::ConnReuseMode, "-1", Some("-1")),
        (Variable::SloppyTcp, "7", Some("7")),
        (Variable::LblcExpiration, "3600", Some("3600")),
        (Variable::LblcrExpiration, "8589934", Some("8589934")),
        (Variable::Amemthresh, "0x10", Some("16")),
        (Variable::SyncPorts, "1", None),
    ] {
        let set = tables.set_variable(variable, value);
        assert_eq!(set.is_ok(), shown.is_some(), "{variable}");
        tables = adopted(tables);
        assert_eq!(tables.variable(variable).as_deref(), shown);
    }
    let settings = tables.maps.runtime.read(0).unwrap().settings;
    assert_eq!(settings.lblc_expiration, 3600 * HZ);
    for (variable, value) in [
        (Variable::DropEntry, "4"),
        (Variable::SloppyTcp, "on"),
        (Variable::LblcExpiration, "8589935"),
    ] {
        let before = tables.variable(variable);
        assert!(matches!(
            tables.set_variable(variable, value),
            Err(Error::Invalid(_))
        ));
        assert_eq!(tables.variable(variable), before);
    }
}

#[test]
fn estimation_can_be_stopped_and_goes_on_without_a_leap() {
    let mut tables = tables();
    let key = mark_key(1, Family::V4);
    tables.add_service(&service(key)).unwrap();
    tables
        .add_server(&key, &server("10.0.0.1", 0, Forwarding::Route))
        .unwrap();
    let count = |tables: &Tables, conns| {
        let at = tables.maps.stats.at(0).unwrap();
        // SAFETY: the pointer is into the map.
        unsafe { (*at).conns += conns };
    };
    tables.set_variable(Variable::RunEstimation, "0").unwrap();
    count(&tables, 1000);
    tables.estimate();
    assert_eq!(tables.totals().1.cps, 0);
    tables.set_variable(Variable::RunEstimation, "1").unwrap();
    tables.estimate();
    assert_eq!(tables.totals().1.cps, 0);
    count(&tables, 80);
    tables.estimate();
    let view = &tables.services()[0];
    assert_eq!(
        (
            tables.totals().1.cps,
            view.rates.cps,
            view.servers[0].rates.cps
        ),
        (10, 10, 10)
    );
}
