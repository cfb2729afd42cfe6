//! mysql against MariaDB, pgsql against PostgreSQL.

use std::process::Command;

use pointsman_model::check::NegotiateCheck;
use pointsman_model::check::NegotiateService::{Mysql, Oracle, Pgsql};

use crate::common::{Lab, check, installed, with_login};

fn query(service: pointsman_model::check::NegotiateService, sql: &str) -> NegotiateCheck {
    NegotiateCheck {
        database: Some("pool".into()),
        ..with_login(check(service, sql, ""), "checker", "sesame")
    }
}

/// What both databases must do alike, at `port`.
fn rows_are_counted(lab: &mut Lab, service: pointsman_model::check::NegotiateService, port: u16) {
    lab.up(
        &query(service, "SELECT * FROM director WHERE enabled = 1"),
        port,
    );
    lab.up(
        &query(service, "UPDATE director SET enabled = 2 WHERE enabled = 1"),
        port,
    );
    let none = query(service, "SELECT * FROM director WHERE enabled = 1");
    lab.down(&none, port, "no rows");
    let nothing = query(service, "UPDATE director SET enabled = 2 WHERE enabled = 1");
    lab.down(&nothing, port, "no rows");
    lab.down(
        &query(service, "SELECT * FROM nowhere"),
        port,
        "query was refused",
    );
    let wrong = with_login(query(service, "SELECT 1"), "checker", "wrong");
    lab.down(&wrong, port, "login was refused");
    let elsewhere = NegotiateCheck {
        database: Some("nowhere".into()),
        ..query(service, "SELECT 1")
    };
    lab.down(&elsewhere, port, "login was refused");
    let no_login = check(service, "SELECT 1", "");
    lab.down(&no_login, port, "needs login and request");
    // A query that never ends, and one whose result does not.
    let limit = std::time::Duration::from_secs(2);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0";
    let failure = lab.probe_within(limit, &query(service, endless), port);
    assert!(failure.is_err(), "{failure:?}");
    lab.refused(&query(service, "SELECT 1"), port);
}

#[test]
fn mariadb_has_rows() {
    let mut lab = Lab::new();
    lab.directory("data", None);
    // What mariadb-install-db does, whose other half is in the client's package.
    let sql = installed("/usr/share/mysql");
    let tables = ["mysql_system_tables.sql", "mysql_system_tables_data.sql"];
    let tables = tables.map(|name| sql.join(name).display().to_string());
    let options = "--no-defaults --user=root --log-warnings=0 --skip-grant-tables \
                   --innodb-buffer-pool-size=16M";
    let mut bootstrap = Command::new("sh");
    bootstrap.arg("-c").arg(format!(
        "(echo 'CREATE DATABASE mysql;'; echo 'USE mysql;'; cat {}) | \
         /usr/sbin/mariadbd {options} --bootstrap --datadir={}/data",
        tables.join(" "),
        lab.home.display()
    ));
    lab.run(&mut bootstrap);
    lab.file(
        "init.sql",
        "CREATE DATABASE pool;
CREATE TABLE pool.director (enabled INT);
INSERT INTO pool.director VALUES (1), (0), (0);
CREATE USER checker@'127.0.0.1' IDENTIFIED BY 'sesame';
GRANT ALL ON pool.* TO checker@'127.0.0.1';
",
    );
    lab.start(
        "/usr/sbin/mariadbd",
        "--no-defaults --user=root --datadir=HOME/data --socket=HOME/socket --pid-file=HOME/pid
         --bind-address=127.0.0.1 --port=3306 --skip-name-resolve --init-file=HOME/init.sql
         --innodb-buffer-pool-size=16M --innodb-log-file-size=4M --key-buffer-size=1M
         --max-recursive-iterations=4000000000",
    );
    lab.ready(&query(Mysql, "SELECT * FROM director"), 3306);
    rows_are_counted(&mut lab, Mysql, 3306);
}

#[test]
fn postgresql_has_rows() {
    let mut lab = Lab::new();
    let programs = installed("/usr/lib/postgresql/15/bin");
    // PostgreSQL does not run as root.
    lab.directory("data", Some("postgres"));
    lab.file("password", "sesame\n");
    lab.certificate();
    let as_postgres = "--reuid=postgres --regid=postgres --clear-groups";
    let mut initdb = Command::new("setpriv");
    initdb
        .args(as_postgres.split(' '))
        .arg(programs.join("initdb"))
        .args("--no-sync --username=checker --auth-host=scram-sha-256 --pwfile".split(' '))
        .arg(lab.home.join("password"))
        .arg(lab.home.join("data"));
    lab.run(&mut initdb);
    let mut single = Command::new("sh");
    let postgres = format!(
        "setpriv {as_postgres} {}/postgres --single -j -D {}/data",
        programs.display(),
        lab.home.display()
    );
    single.arg("-c").arg(format!(
        "echo 'CREATE DATABASE pool;' | {postgres} postgres && \
         echo 'CREATE TABLE director (enabled INT); INSERT INTO director VALUES (1), (0), (0);' \
         | {postgres} pool"
    ));
    lab.run(&mut single);
    for name in ["cert.pem", "key.pem"] {
        let (from, to) = (lab.home.join(name), lab.home.join("data").join(name));
        std::fs::copy(from, &to).unwrap();
        let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        std::os::unix::fs::chown(to, Some(uid), Some(gid)).unwrap();
    }
    lab.start(
        "setpriv",
        &format!(
            "{as_postgres} {}/postgres -D HOME/data -h 127.0.0.1 -p 5432 -k HOME/data -F
             -c ssl=on -c ssl_cert_file=cert.pem -c ssl_key_file=key.pem",
            programs.display()
        ),
    );
    let over_tls = "SELECT 1 FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()";
    lab.ready(&query(Pgsql, over_tls), 5432);
    rows_are_counted(&mut lab, Pgsql, 5432);
}

/// There is no free client library; a server is not declared up unseen.
#[test]
fn oracle_says_that_it_is_not_available() {
    let lab = Lab::new();
    lab.down(&query(Oracle, "SELECT 1 FROM dual"), 1521, "not available");
}
