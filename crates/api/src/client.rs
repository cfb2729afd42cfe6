use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use pointsman_model::{
    ConnectionView, MarkRule, ServerKey, ServerSpec, ServiceKey, ServiceSpec, ServiceView,
    Timeouts, Variable, VariableView,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::server::{
    LdirectordEnd, MarkRequest, ReloadRequest, StopRequest, VariableRequest, ZeroRequest,
};
use crate::{
    Change, DropCount, LdirectordView, Location, LocationError, RefusedChange, Reloaded, SiteView,
    Status, StopReport, Table, Totals, text,
};

/// Changes per call of a batch: large enough that the call costs nothing, small enough that the
/// director looks after its timers in between.
const BATCH: usize = 8192;

/// Why the director did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It understood and refused.
    #[error(transparent)]
    Refused(#[from] pointsman_model::Error),
    /// It refused a transaction, for this change.
    #[error(transparent)]
    RefusedChange(#[from] RefusedChange),
    /// Nobody listens: no director runs in this network namespace.
    #[error("no director runs in this network namespace (nothing listens on {})", socket.display())]
    NoDirector {
        /// Where it would listen.
        socket: PathBuf,
    },
    /// The socket is there but may not be used.
    #[error("not allowed to use {} (only root may)", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The network namespace has no name.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The connection broke.
    #[error("lost the director at {}: {source}", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// HTTP went wrong, usually since the director ended meanwhile.
    #[error("lost the director at {}: {source}", socket.display())]
    Http {
        /// The socket.
        socket: PathBuf,
        /// Cause.
        source: hyper::Error,
    },
    /// An answer that this version cannot read: another version of Pointsman answers.
    #[error("the director answered {status} with {body:?}, which this version does not understand")]
    Answer {
        /// HTTP status.
        status: u16,
        /// The answer, shortened.
        body: String,
    },
}

/// A blocking client of one director, for commands.
///
/// Every call is one request over a connection of its own, so a client outlives restarts of its
/// director. Not to be used inside an async runtime.
///
/// ```no_run
/// # fn main() -> Result<(), pointsman_api::Error> {
/// let client = pointsman_api::Client::here()?;
/// for service in client.services()? {
///     println!("{}", service.spec.key);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// A client of the director in the calling thread's network namespace. Succeeds whether or not
    /// one runs; the first call finds out.
    ///
    /// # Errors
    /// [`Error::Location`] when the kernel does not name namespaces.
    pub fn here() -> Result<Self, Error> {
        Self::at(&Location::here()?.socket())
    }

    /// A client of the director in another network namespace, by iproute2's name or by path.
    ///
    /// # Errors
    /// [`Error::Location`] when there is no such namespace.
    pub fn of_netns(name: &str) -> Result<Self, Error> {
        Self::at(&Location::of_netns(name)?.socket())
    }

    /// A client of the director that listens on `socket`.
    ///
    /// # Errors
    /// [`Error::Io`] when the process is out of descriptors.
    pub fn at(socket: &Path) -> Result<Self, Error> {
        let socket = socket.to_owned();
        match tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
        {
            Ok(runtime) => Ok(Self { socket, runtime }),
            Err(source) => Err(Error::Io { socket, source }),
        }
    }

    /// The director's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Adds a virtual service.
    ///
    /// # Errors
    /// [`Error::Refused`] with the model's reason; any other variant when the director could not
    /// be asked. So for every call below.
    pub fn add_service(&self, spec: &ServiceSpec) -> Result<(), Error> {
        self.call(Method::POST, "/v1/services", Some(spec))
    }

    /// Replaces a service's settings: what is omitted returns to its default.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn edit_service(&self, spec: &ServiceSpec) -> Result<(), Error> {
        self.call(Method::PUT, &service_path(&spec.key), Some(spec))
    }

    /// Removes a service with its real servers.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn delete_service(&self, key: &ServiceKey) -> Result<(), Error> {
        self.call(Method::DELETE, &service_path(key), NOTHING)
    }

    /// Removes every service; connections stay, as in IPVS.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn flush(&self) -> Result<(), Error> {
        self.call(Method::DELETE, "/v1/services", NOTHING)
    }

    /// Adds a real server to a service.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn add_server(&self, service: &ServiceKey, server: &ServerSpec) -> Result<(), Error> {
        self.call(
            Method::POST,
            &format!("{}/servers", service_path(service)),
            Some(server),
        )
    }

    /// Replaces a real server's settings.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn edit_server(&self, service: &ServiceKey, server: &ServerSpec) -> Result<(), Error> {
        self.call(
            Method::PUT,
            &server_path(service, &server.key),
            Some(server),
        )
    }

    /// Removes a real server.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn delete_server(&self, service: &ServiceKey, server: &ServerKey) -> Result<(), Error> {
        self.call(Method::DELETE, &server_path(service, server), NOTHING)
    }

    /// Adds a local address to a service's pool.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn add_local_address(&self, service: &ServiceKey, address: IpAddr) -> Result<(), Error> {
        let path = format!("{}/local-addresses/{address}", service_path(service));
        self.call(Method::PUT, &path, NOTHING)
    }

    /// Removes a local address from a service's pool.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn delete_local_address(&self, service: &ServiceKey, address: IpAddr) -> Result<(), Error> {
        let path = format!("{}/local-addresses/{address}", service_path(service));
        self.call(Method::DELETE, &path, NOTHING)
    }

    /// Applies changes in order, each by itself: one that is refused does not stop the next. The
    /// answer has one result per change. Thousands travel in one request.
    ///
    /// # Errors
    /// Only when the director could not be asked; some changes may have been made by then.
    pub fn batch(
        &self,
        changes: &[Change],
    ) -> Result<Vec<Result<(), pointsman_model::Error>>, Error> {
        let mut results = Vec::with_capacity(changes.len());
        for part in changes.chunks(BATCH) {
            let answers: Vec<Option<pointsman_model::Error>> =
                self.call(Method::POST, "/v1/batch", Some(part))?;
            results.extend(
                answers
                    .into_iter()
                    .map(|refusal| refusal.map_or(Ok(()), Err)),
            );
        }
        Ok(results)
    }

    /// Makes changes in order, all or none: refused, everything is as before. What a change leaves
    /// as it was is not touched, so a whole new set of rules may be given as a flush and the rules.
    ///
    /// # Errors
    /// [`Error::RefusedChange`] for the first change refused; any other variant when the director
    /// could not be asked.
    pub fn transact(&self, changes: &[Change]) -> Result<(), Error> {
        self.call(Method::POST, "/v1/transaction", Some(changes))
    }

    /// Every service in order of creation, its servers newest first.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn services(&self) -> Result<Vec<ServiceView>, Error> {
        self.call(Method::GET, "/v1/services", NOTHING)
    }

    /// One service.
    ///
    /// # Errors
    /// As [`Client::add_service`]; [`pointsman_model::Error::NoSuchService`] when there is none.
    pub fn service(&self, key: &ServiceKey) -> Result<ServiceView, Error> {
        self.call(Method::GET, &service_path(key), NOTHING)
    }

    /// The connection table.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn connections(&self) -> Result<Vec<ConnectionView>, Error> {
        self.call(Method::GET, "/v1/connections", NOTHING)
    }

    /// Forgets all connections, templates and fragments; services stay. Clients of established
    /// connections are cut off: their next packet belongs to no connection.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn clear_connections(&self) -> Result<(), Error> {
        self.call(Method::DELETE, "/v1/connections", NOTHING)
    }

    /// Slots of the connection table, and the kernel's ticks.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn table(&self) -> Result<Table, Error> {
        self.call(Method::GET, "/v1/table", NOTHING)
    }

    /// Protocol timeouts.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn timeouts(&self) -> Result<Timeouts, Error> {
        self.call(Method::GET, "/v1/timeouts", NOTHING)
    }

    /// Changes protocol timeouts; 0 keeps the present value.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn set_timeouts(&self, change: Timeouts) -> Result<(), Error> {
        self.call(Method::PATCH, "/v1/timeouts", Some(&change))
    }

    /// The mark rules in order.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn mark_rules(&self) -> Result<Vec<MarkRule>, Error> {
        self.call(Method::GET, "/v1/marks", NOTHING)
    }

    /// Replaces all mark rules at once.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn set_mark_rules(&self, rules: &[MarkRule]) -> Result<(), Error> {
        self.call(Method::PUT, "/v1/marks", Some(rules))
    }

    /// Inserts a mark rule as number `at`, counted from 1, or at the end.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn add_mark_rule(&self, at: Option<usize>, rule: &MarkRule) -> Result<(), Error> {
        let rule = rule.clone();
        self.call(Method::POST, "/v1/marks", Some(&MarkRequest { at, rule }))
    }

    /// Removes mark rule number `at`, counted from 1.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn delete_mark_rule(&self, at: usize) -> Result<(), Error> {
        self.call(Method::DELETE, &format!("/v1/marks/{at}"), NOTHING)
    }

    /// Every `net.ipv4.vs.*`, by name.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn variables(&self) -> Result<Vec<VariableView>, Error> {
        self.call(Method::GET, "/v1/sysctl", NOTHING)
    }

    /// Sets one of `net.ipv4.vs.*`.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn set_variable(&self, name: Variable, value: &str) -> Result<(), Error> {
        let value = value.to_owned();
        self.call(
            Method::PUT,
            &format!("/v1/sysctl/{}", name.name()),
            Some(&VariableRequest { value }),
        )
    }

    /// Zeroes the counters of one service and its servers, or of everything.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn zero(&self, service: Option<&ServiceKey>) -> Result<(), Error> {
        self.call(
            Method::POST,
            "/v1/zero",
            Some(&ZeroRequest {
                service: service.copied(),
            }),
        )
    }

    /// Totals of the namespace.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn totals(&self) -> Result<Totals, Error> {
        self.call(Method::GET, "/v1/totals", NOTHING)
    }

    /// Lost packets by reason; reasons that never occurred only when `all`.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn drops(&self, all: bool) -> Result<Vec<DropCount>, Error> {
        self.call(Method::GET, &format!("/v1/drops?all={all}"), NOTHING)
    }

    /// The daemon, its hooks, tables, next hops and losses.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn status(&self) -> Result<Status, Error> {
        self.call(Method::GET, "/v1/status", NOTHING)
    }

    /// The configuration it follows, as it stands; `None` without one.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn site(&self) -> Result<Option<SiteView>, Error> {
        self.call(Method::GET, "/v1/site", NOTHING)
    }

    /// What each ldirectord told of its servers.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn ldirectords(&self) -> Result<Vec<LdirectordView>, Error> {
        self.call(Method::GET, "/v1/ldirectord", NOTHING)
    }

    /// Tells how the servers of an ldirectord stand.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn ldirectord_tells(&self, view: &LdirectordView) -> Result<(), Error> {
        self.call(Method::POST, "/v1/ldirectord", Some(view))
    }

    /// Nothing more will be told of that file's servers.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn ldirectord_ends(&self, file: &str) -> Result<(), Error> {
        let file = file.to_owned();
        self.call(
            Method::DELETE,
            "/v1/ldirectord",
            Some(&LdirectordEnd { file }),
        )
    }

    /// Has it read its configuration again, or another file. A refusal is an answer, not an error.
    ///
    /// # Errors
    /// When the director could not be asked.
    pub fn reload(&self, file: Option<String>) -> Result<Reloaded, Error> {
        let request = ReloadRequest { file };
        let body = serde_json::to_vec(&request).expect("plain data");
        let exchange = self.exchange(&Method::POST, "/v1/reload", &body);
        let (status, answer) = self.runtime.block_on(exchange)?;
        serde_json::from_slice(&answer).map_err(|_| Error::Answer {
            status: status.as_u16(),
            body: String::from_utf8_lossy(&answer).chars().take(200).collect(),
        })
    }

    /// Ends the director. Answers when the kernel side is gone, or, with `keep_forwarding`, left
    /// to forward by itself.
    ///
    /// # Errors
    /// As [`Client::add_service`].
    pub fn stop(&self, keep_forwarding: bool) -> Result<StopReport, Error> {
        self.call(
            Method::POST,
            "/v1/stop",
            Some(&StopRequest { keep_forwarding }),
        )
    }

    fn call<B: Serialize + ?Sized, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<A, Error> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).expect("the model's types are plain data"),
            None => Vec::new(),
        };
        let asking = method == Method::GET;
        let mut exchanged = self.runtime.block_on(self.exchange(&method, path, &body));
        // A director that was killed just now may have taken the connection along. To ask again
        // changes nothing, and tells who is there now.
        if asking && let Err(Error::Http { .. }) = exchanged {
            exchanged = self.runtime.block_on(self.exchange(&method, path, &body));
        }
        let (status, answer) = exchanged?;
        // What cannot be read back becomes an error below.
        if status.is_success() {
            let json: &[u8] = if answer.is_empty() { b"null" } else { &answer };
            if let Ok(answer) = serde_json::from_slice(json) {
                return Ok(answer);
            }
        } else if let Ok(refusal) = serde_json::from_slice(&answer) {
            return Err(Error::RefusedChange(refusal));
        } else if let Ok(refusal) = serde_json::from_slice(&answer) {
            return Err(Error::Refused(refusal));
        }
        let body = String::from_utf8_lossy(&answer).chars().take(200).collect();
        Err(Error::Answer {
            status: status.as_u16(),
            body,
        })
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
    ) -> Result<(StatusCode, Bytes), Error> {
        let http = |source| Error::Http {
            socket: self.socket.clone(),
            source,
        };
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|e| self.no_connection(e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(http)?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(hyper::header::HOST, "pointsman")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::copy_from_slice(body)))
            .expect("paths are made of addresses and numbers");
        let response = sender.send_request(request).await.map_err(http)?;
        let status = response.status();
        let answer = response
            .into_body()
            .collect()
            .await
            .map_err(http)?
            .to_bytes();
        connection.abort();
        Ok((status, answer))
    }

    fn no_connection(&self, source: io::Error) -> Error {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::NoDirector { socket }
            }
            io::ErrorKind::PermissionDenied => Error::Denied { socket },
            _ => Error::Io { socket, source },
        }
    }
}

/// A request without a body.
const NOTHING: Option<&()> = None;

fn service_path(key: &ServiceKey) -> String {
    format!("/v1/services/{}", text::service(key))
}

fn server_path(service: &ServiceKey, server: &ServerKey) -> String {
    format!("{}/servers/{}", service_path(service), text::server(server))
}
