use std::future::Future;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use pointsman_model::{
    ConnectionView, Error, MarkRule, ServerHandshakes, ServerSpec, ServiceKey, ServiceSpec,
    ServiceView, Timeouts, Variable, VariableView,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::{self, Sources};
use crate::{
    Change, DropCount, LdirectordView, RefusedChange, Reloaded, SiteView, Status, StopReport,
    Table, Totals, text,
};

/// Largest request: a batch of a hundred thousand changes has a tenth of it.
const BODY_LIMIT_BYTES: usize = 256 << 20;

/// Where an answer is awaited.
pub type Reply<T> = oneshot::Sender<T>;

/// What a request asks of the owner of the state. A dropped [`Reply`] tells the client that the
/// director is ending.
#[derive(Debug)]
pub enum Command {
    /// Make changes in order, each by itself.
    Apply(Vec<Change>, Reply<Vec<Result<(), Error>>>),
    /// Make changes in order, all or none.
    Transact(Vec<Change>, Reply<Result<(), RefusedChange>>),
    /// All services.
    Services(Reply<Vec<ServiceView>>),
    /// One service.
    Service(ServiceKey, Reply<Option<ServiceView>>),
    /// What became of clients' handshakes with the servers of these services.
    Handshakes(Vec<ServiceKey>, Reply<Vec<ServerHandshakes>>),
    /// Let probes reach these servers through these services, and no others: with which marks.
    Probe(Vec<(ServiceKey, ServerSpec)>, Reply<Vec<Option<u32>>>),
    /// The connection table.
    Connections(Reply<Vec<ConnectionView>>),
    /// Forget all connections.
    ClearConnections(Reply<()>),
    /// Slots of the connection table, and ticks.
    Table(Reply<Table>),
    /// Protocol timeouts.
    Timeouts(Reply<Timeouts>),
    /// `net.ipv4.vs.*`.
    Variables(Reply<Vec<VariableView>>),
    /// Mark rules.
    MarkRules(Reply<Vec<MarkRule>>),
    /// Namespace totals.
    Totals(Reply<Totals>),
    /// Lost packets.
    Drops {
        /// Also reasons that never occurred.
        all: bool,
        /// Answer.
        reply: Reply<Vec<DropCount>>,
    },
    /// State of the daemon.
    Status(Reply<Status>),
    /// The configuration it follows, as it stands; `None` without one.
    Site(Reply<Option<SiteView>>),
    /// What each ldirectord told of its servers.
    Ldirectords(Reply<Vec<LdirectordView>>),
    /// An ldirectord tells of its servers.
    LdirectordTells(LdirectordView, Reply<()>),
    /// The ldirectord of this file has nothing more to tell.
    LdirectordEnds(String, Reply<()>),
    /// Read the configuration again.
    Reload {
        /// Another file than before.
        file: Option<String>,
        /// Answer.
        reply: Reply<Reloaded>,
    },
    /// End.
    Stop {
        /// Leave the kernel side in place.
        keep_forwarding: bool,
        /// Answered when it is done.
        reply: Reply<StopReport>,
    },
}

/// Body of `POST /v1/zero`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ZeroRequest {
    #[serde(default)]
    pub service: Option<ServiceKey>,
}

/// Body of `PUT /v1/sysctl/{variable}`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VariableRequest {
    pub value: String,
}

/// Body of `POST /v1/marks`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MarkRequest {
    #[serde(default)]
    pub at: Option<usize>,
    pub rule: MarkRule,
}

/// Body of `POST /v1/stop`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StopRequest {
    #[serde(default)]
    pub keep_forwarding: bool,
}

/// Body of `DELETE /v1/ldirectord`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LdirectordEnd {
    pub file: String,
}

/// Body of `POST /v1/reload`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReloadRequest {
    #[serde(default)]
    pub file: Option<String>,
}

/// Answers requests on `listener` until `until` completes, then lets those under way finish.
///
/// # Errors
/// What accepting connections gave.
pub async fn serve(
    listener: UnixListener,
    commands: mpsc::Sender<Command>,
    until: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(commands))
        .with_graceful_shutdown(until)
        .await
}

/// Answers `GET /metrics`, and nothing else, on a TCP port until `until` completes.
///
/// # Errors
/// What accepting connections gave.
pub async fn serve_metrics(
    listener: TcpListener,
    commands: mpsc::Sender<Command>,
    until: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(all_metrics))
        .with_state(Owner(commands));
    axum::serve(listener, router)
        .with_graceful_shutdown(until)
        .await
}

fn router(commands: mpsc::Sender<Command>) -> Router {
    Router::new()
        .route(
            "/v1/services",
            get(services).post(add_service).delete(flush),
        )
        .route(
            "/v1/services/{service}",
            get(service).put(edit_service).delete(delete_service),
        )
        .route("/v1/services/{service}/servers", post(add_server))
        .route(
            "/v1/services/{service}/servers/{server}",
            put(edit_server).delete(delete_server),
        )
        .route(
            "/v1/services/{service}/local-addresses/{address}",
            put(add_local_address).delete(delete_local_address),
        )
        .route("/v1/batch", post(batch))
        .route("/v1/transaction", post(transaction))
        .route("/v1/zero", post(zero))
        .route("/v1/timeouts", get(timeouts).patch(set_timeouts))
        .route(
            "/v1/marks",
            get(mark_rules)
                .put(set_mark_rules)
                .post(add_mark_rule)
                .delete(flush_mark_rules),
        )
        .route(
            "/v1/marks/{number}",
            axum::routing::delete(delete_mark_rule),
        )
        .route("/v1/sysctl", get(variables))
        .route("/v1/sysctl/{variable}", put(set_variable))
        .route(
            "/v1/connections",
            get(connections).delete(clear_connections),
        )
        .route("/v1/table", get(table))
        .route("/v1/totals", get(totals))
        .route("/v1/drops", get(drops))
        .route("/v1/status", get(status))
        .route("/v1/site", get(site))
        .route(
            "/v1/ldirectord",
            get(ldirectords)
                .post(ldirectord_tells)
                .delete(ldirectord_ends),
        )
        .route("/v1/reload", post(reload))
        .route("/metrics", get(all_metrics))
        .route("/v1/stop", post(stop))
        .fallback(|| async {
            Refusal::Plain(
                StatusCode::NOT_FOUND,
                "no such path; this director speaks /v1/",
            )
        })
        .layer(DefaultBodyLimit::max(BODY_LIMIT_BYTES))
        .with_state(Owner(commands))
}

/// The owner of the state, seen from a request.
#[derive(Clone)]
struct Owner(mpsc::Sender<Command>);

impl Owner {
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Refusal> {
        let ending = |()| Refusal::Plain(StatusCode::SERVICE_UNAVAILABLE, "the director is ending");
        let (reply, answer) = oneshot::channel();
        self.0.send(command(reply)).await.map_err(|_| ending(()))?;
        answer.await.map_err(|_| ending(()))
    }

    async fn answer<T: Serialize>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Answer {
        json(StatusCode::OK, &self.ask(command).await?)
    }

    async fn change(&self, change: Change, done: StatusCode) -> Answer {
        let results = self
            .ask(|reply| Command::Apply(vec![change], reply))
            .await?;
        match results.into_iter().next() {
            Some(Err(error)) => Err(error.into()),
            Some(Ok(())) | None => json(done, &()),
        }
    }
}

/// A request that was not fulfilled.
enum Refusal {
    Model(Error),
    Change(RefusedChange),
    Plain(StatusCode, &'static str),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Model(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Plain(status, text) => (status, text).into_response(),
            Self::Model(error) => json(status_of(&error), &error).into_response(),
            Self::Change(refused) => json(status_of(&refused.error), &refused).into_response(),
        }
    }
}

fn status_of(error: &Error) -> StatusCode {
    match error {
        Error::NoSuchService
        | Error::NoSuchDestination
        | Error::NoSuchDaemon
        | Error::NoSuchAddress
        | Error::NoSuchInterface(_) => StatusCode::NOT_FOUND,
        Error::ServiceExists
        | Error::DestinationExists
        | Error::DaemonExists
        | Error::AddressExists => StatusCode::CONFLICT,
        Error::SchedulerNotFound(_)
        | Error::Invalid(_)
        | Error::OutOfRange(_)
        | Error::FamilyNotSupported(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Error::NoRoom(_) => StatusCode::INSUFFICIENT_STORAGE,
        Error::NotSupported(_) => StatusCode::NOT_IMPLEMENTED,
    }
}

type Answer = Result<Response, Refusal>;

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => {
            Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            let text = "the answer could not be written as JSON";
            Err(Refusal::Plain(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
    }
}

/// An empty body stands for an empty object, so that `curl -X POST` is enough.
fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Error> {
    let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|e| Error::Invalid(format!("request body: {e}")))
}

/// An item named twice, in path and body, must be the same item.
fn same<T: PartialEq>(path: T, body: T) -> Result<(), Error> {
    if path == body {
        Ok(())
    } else {
        Err(Error::Invalid(
            "path and request body name different things".into(),
        ))
    }
}

async fn services(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::Services).await
}

async fn add_service(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    owner
        .change(Change::AddService(body(&bytes)?), StatusCode::CREATED)
        .await
}

async fn flush(State(owner): State<Owner>) -> Answer {
    owner.change(Change::Flush, StatusCode::OK).await
}

async fn service(State(owner): State<Owner>, Path(service): Path<String>) -> Answer {
    let key = text::parse_service(&service)?;
    match owner.ask(|reply| Command::Service(key, reply)).await? {
        Some(view) => json(StatusCode::OK, &view),
        None => Err(Error::NoSuchService.into()),
    }
}

async fn edit_service(
    State(owner): State<Owner>,
    Path(service): Path<String>,
    bytes: Bytes,
) -> Answer {
    let spec: ServiceSpec = body(&bytes)?;
    same(text::parse_service(&service)?, spec.key)?;
    owner
        .change(Change::EditService(spec), StatusCode::OK)
        .await
}

async fn delete_service(State(owner): State<Owner>, Path(service): Path<String>) -> Answer {
    let key = text::parse_service(&service)?;
    owner
        .change(Change::DeleteService(key), StatusCode::OK)
        .await
}

async fn add_server(
    State(owner): State<Owner>,
    Path(service): Path<String>,
    bytes: Bytes,
) -> Answer {
    let service = text::parse_service(&service)?;
    let change = Change::AddServer {
        service,
        server: body(&bytes)?,
    };
    owner.change(change, StatusCode::CREATED).await
}

async fn edit_server(
    State(owner): State<Owner>,
    Path((service, server)): Path<(String, String)>,
    bytes: Bytes,
) -> Answer {
    let service = text::parse_service(&service)?;
    let spec: ServerSpec = body(&bytes)?;
    same(text::parse_server(&server)?, spec.key)?;
    owner
        .change(
            Change::EditServer {
                service,
                server: spec,
            },
            StatusCode::OK,
        )
        .await
}

async fn delete_server(
    State(owner): State<Owner>,
    Path((service, server)): Path<(String, String)>,
) -> Answer {
    let service = text::parse_service(&service)?;
    let server = text::parse_server(&server)?;
    owner
        .change(Change::DeleteServer { service, server }, StatusCode::OK)
        .await
}

async fn add_local_address(
    State(owner): State<Owner>,
    Path((service, address)): Path<(String, String)>,
) -> Answer {
    let service = text::parse_service(&service)?;
    let address = text::parse_address(&address)?;
    let change = Change::AddLocalAddress { service, address };
    owner.change(change, StatusCode::CREATED).await
}

async fn delete_local_address(
    State(owner): State<Owner>,
    Path((service, address)): Path<(String, String)>,
) -> Answer {
    let service = text::parse_service(&service)?;
    let address = text::parse_address(&address)?;
    let change = Change::DeleteLocalAddress { service, address };
    owner.change(change, StatusCode::OK).await
}

async fn batch(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    let changes: Vec<Change> = body(&bytes)?;
    let results = owner.ask(|reply| Command::Apply(changes, reply)).await?;
    let refusals: Vec<Option<Error>> = results.into_iter().map(Result::err).collect();
    json(StatusCode::OK, &refusals)
}

async fn transaction(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    let changes: Vec<Change> = body(&bytes)?;
    owner
        .ask(|reply| Command::Transact(changes, reply))
        .await?
        .map_err(Refusal::Change)?;
    json(StatusCode::OK, &())
}

async fn zero(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    let ZeroRequest { service } = body(&bytes)?;
    owner.change(Change::Zero { service }, StatusCode::OK).await
}

async fn timeouts(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::Timeouts).await
}

async fn set_timeouts(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    owner
        .change(Change::SetTimeouts(body(&bytes)?), StatusCode::OK)
        .await
}

async fn variables(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::Variables).await
}

async fn set_variable(
    State(owner): State<Owner>,
    Path(name): Path<String>,
    bytes: Bytes,
) -> Answer {
    let name: Variable = name.parse()?;
    let VariableRequest { value } = body(&bytes)?;
    owner
        .change(Change::SetVariable { name, value }, StatusCode::OK)
        .await
}

async fn mark_rules(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::MarkRules).await
}

async fn set_mark_rules(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    owner
        .change(Change::SetMarkRules(body(&bytes)?), StatusCode::OK)
        .await
}

async fn add_mark_rule(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    let MarkRequest { at, rule } = body(&bytes)?;
    owner
        .change(Change::AddMarkRule { at, rule }, StatusCode::CREATED)
        .await
}

async fn flush_mark_rules(State(owner): State<Owner>) -> Answer {
    owner
        .change(Change::SetMarkRules(Vec::new()), StatusCode::OK)
        .await
}

async fn delete_mark_rule(State(owner): State<Owner>, Path(at): Path<String>) -> Answer {
    let at = at
        .parse()
        .map_err(|_| Error::Invalid(format!("rule number {at:?}")))?;
    owner
        .change(Change::DeleteMarkRule { at }, StatusCode::OK)
        .await
}

async fn connections(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::Connections).await
}

async fn clear_connections(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::ClearConnections).await
}

async fn table(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::Table).await
}

async fn totals(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::Totals).await
}

#[derive(Deserialize)]
struct DropsQuery {
    #[serde(default)]
    all: bool,
}

async fn drops(State(owner): State<Owner>, Query(query): Query<DropsQuery>) -> Answer {
    owner
        .answer(|reply| Command::Drops {
            all: query.all,
            reply,
        })
        .await
}

async fn status(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::Status).await
}

async fn site(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::Site).await
}

async fn ldirectords(State(owner): State<Owner>) -> Answer {
    owner.answer(Command::Ldirectords).await
}

async fn ldirectord_tells(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    let view = body(&bytes)?;
    owner
        .answer(|reply| Command::LdirectordTells(view, reply))
        .await
}

async fn ldirectord_ends(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    let LdirectordEnd { file } = body(&bytes)?;
    owner
        .answer(|reply| Command::LdirectordEnds(file, reply))
        .await
}

async fn reload(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    let ReloadRequest { file } = body(&bytes)?;
    let reloaded = owner.ask(|reply| Command::Reload { file, reply }).await?;
    let status = match &reloaded {
        Reloaded::Done { .. } => StatusCode::OK,
        Reloaded::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Reloaded::NoSite => StatusCode::NOT_FOUND,
    };
    json(status, &reloaded)
}

async fn all_metrics(State(owner): State<Owner>) -> Answer {
    let sources = Sources {
        status: owner.ask(Command::Status).await?,
        totals: owner.ask(Command::Totals).await?,
        drops: owner
            .ask(|reply| Command::Drops { all: true, reply })
            .await?,
        services: owner.ask(Command::Services).await?,
        site: owner.ask(Command::Site).await?,
        ldirectords: owner.ask(Command::Ldirectords).await?,
    };
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], metrics::text(&sources)).into_response())
}

async fn stop(State(owner): State<Owner>, bytes: Bytes) -> Answer {
    let StopRequest { keep_forwarding } = body(&bytes)?;
    owner
        .answer(|reply| Command::Stop {
            keep_forwarding,
            reply,
        })
        .await
}
