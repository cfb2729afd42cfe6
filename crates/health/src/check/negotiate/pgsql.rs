//! PostgreSQL: a query that gives a row.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Join, ReadBuf, Take, join};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};
use tokio_rustls::client::TlsStream as Encrypted;

use super::peer::Peer;
use super::{Answer, BODY, Failure, Login};
use crate::check::tls::to_anybody;

/// A connection that ends after [`BODY`] bytes, whatever the server sends.
type Bounded = Join<Take<OwnedReadHalf>, OwnedWriteHalf>;

/// Wants at least one row, or one that was changed. Speaks TLS when the server does, as libpq.
pub(super) async fn check(
    peer: &Peer<'_>,
    login: Login<'_>,
    database: Option<&str>,
    query: &str,
) -> Result<Answer, Failure> {
    let (read, write) = peer.connect().await?.into_split();
    let stream = join(read.take(BODY as u64), write);
    let mut config = Config::new();
    config
        .user(login.name)
        .password(login.password)
        .application_name("pointsman");
    if let Some(database) = database {
        config.dbname(database);
    }
    let (client, connection) = config
        .connect_raw(stream, AnyCertificate(peer.addr().ip().into()))
        .await
        .map_err(|error| failed("login", error))?;
    let mut rows = pin!(has_rows(&client, query));
    let found = tokio::select! {
        found = &mut rows => found,
        // Without a connection the query ends by itself, and knows why.
        _ = connection => rows.await,
    };
    match found.map_err(|error| failed("the query", error))? {
        true => Ok(Answer::success()),
        false => Err(Failure::refused("the query", "no rows")),
    }
}

async fn has_rows(client: &Client, query: &str) -> Result<bool, Error> {
    let mut messages = pin!(client.simple_query_raw(query).await?);
    while let Some(message) = messages.next().await {
        match message? {
            SimpleQueryMessage::Row(_) => return Ok(true),
            SimpleQueryMessage::CommandComplete(rows) if rows > 0 => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

fn failed(doing: &'static str, error: Error) -> Failure {
    if let Some(said) = error.as_db_error() {
        return Failure::refused(doing, said.message());
    }
    if error.is_closed() {
        return Failure::Closed("an answer");
    }
    let text = error.to_string();
    match error
        .into_source()
        .map(|source| source.downcast::<io::Error>())
    {
        Some(Ok(source)) => match source.kind() {
            io::ErrorKind::UnexpectedEof => Failure::Closed("an answer"),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
                Failure::garbage("a PostgreSQL server", source.to_string())
            }
            _ => Failure::Io(*source),
        },
        _ => Failure::garbage("a PostgreSQL server", text),
    }
}

/// TLS with whoever is there.
struct AnyCertificate(rustls::pki_types::ServerName<'static>);

impl TlsConnect<Bounded> for AnyCertificate {
    type Stream = Session;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Session>> + Send>>;

    fn connect(self, stream: Bounded) -> Self::Future {
        Box::pin(async move { to_anybody().connect(self.0, stream).await.map(Session) })
    }
}

/// A TLS session as the library wants one.
struct Session(Encrypted<Bounded>);

impl TlsStream for Session {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
