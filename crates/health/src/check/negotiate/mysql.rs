//! MySQL and MariaDB: a query that gives a row.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, IoError, Opts, OptsBuilder};
use tokio::runtime;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::peer::Peer;
use super::{Answer, BODY, Failure, Login};

/// Wants at least one row, or one that was changed.
///
/// The library leaves unfinished connections to tasks of its own, which wait as long as the server likes:
/// a locked table would cost a connection each round. So each check has a runtime of its own, and
/// what is left at its end goes with it. A panic of the library ends there too.
pub(super) async fn check(
    peer: &Peer<'_>,
    login: Login<'_>,
    database: Option<&str>,
    query: &str,
) -> Result<Answer, Failure> {
    let options: Opts = OptsBuilder::default()
        .ip_or_hostname(peer.addr().ip().to_string())
        .tcp_port(peer.addr().port())
        .user(Some(login.name))
        .pass(Some(login.password))
        .db_name(database)
        // Not the local server's socket, and no questions of the library's own.
        .prefer_socket(false)
        .max_allowed_packet(Some(BODY))
        .wait_timeout(Some(60))
        .stmt_cache_size(0)
        .into();
    let (query, limit) = (query.to_owned(), peer.limit());
    let whole = move || {
        let own = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let verdict = own.block_on(timeout(limit, ask(options, &query)));
        verdict.unwrap_or(Err(Failure::Timeout(limit)))
    };
    match spawn_blocking(whole).await {
        Ok(verdict) => verdict,
        Err(_) => Err(Failure::garbage("a MySQL server", "")),
    }
}

async fn ask(options: Opts, query: &str) -> Result<Answer, Failure> {
    let connection = Conn::new(options).await;
    let mut connection = connection.map_err(|error| failed("login", error))?;
    let failed = |error| failed("the query", error);
    let mut result = connection.query_iter(query).await.map_err(failed)?;
    let changed = result.affected_rows() > 0;
    // The first row is enough; the others are not even read.
    if changed || (!result.is_empty() && result.next().await.map_err(failed)?.is_some()) {
        return Ok(Answer::success());
    }
    drop(result);
    let _ = connection.disconnect().await;
    Err(Failure::refused("the query", "no rows"))
}

fn failed(doing: &'static str, error: Error) -> Failure {
    match error {
        Error::Server(error) => Failure::refused(doing, error.to_string()),
        Error::Io(IoError::Io(error)) => Failure::Io(error),
        error => Failure::garbage("a MySQL server", error.to_string()),
    }
}
