//! `SMTP_CHECK`: 220, HELO and 250, QUIT and whatever comes.

use std::time::Duration;

use pointsman_model::ProbeTarget;
use pointsman_model::check::SmtpCheck;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Unusable;
use super::negotiate::lines::{Lines, on_one_line};
use super::negotiate::reply::reply;
use crate::net::{connect, describe};
use crate::{Context, Outcome};

/// An SMTP check, ready to be asked.
#[derive(Debug)]
pub(super) struct Smtp {
    helo: String,
}

impl Smtp {
    pub(super) fn new(check: &SmtpCheck) -> Result<Self, Unusable> {
        on_one_line([&check.helo_name], "helo_name must fit on one line")
            .map_err(|error| Unusable(error.to_string()))?;
        Ok(Self {
            helo: format!("HELO {}\r\n", check.helo_name),
        })
    }

    pub(super) async fn probe(
        &self,
        target: &ProbeTarget,
        limit: Duration,
        context: &Context,
    ) -> Outcome {
        let stream = match connect(target, limit, context).await {
            Ok(stream) => stream,
            Err(error) => return Outcome::down(describe(&error)),
        };
        let mut lines = Lines::new(stream);
        match self.talk(&mut lines, limit).await {
            Ok(()) => Outcome::up("greeting 220, HELO 250"),
            Err(reason) => Outcome::down(reason),
        }
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        lines: &mut Lines<S>,
        limit: Duration,
    ) -> Result<(), String> {
        step(lines, limit, "the greeting", None, 220).await?;
        step(lines, limit, "HELO", Some(&self.helo), 250).await?;
        // The server may say what it likes, or nothing: it has shown that it works.
        let farewell = async {
            lines.send("QUIT\r\n").await?;
            reply(lines, "QUIT").await
        };
        let _ = timeout(limit, farewell).await;
        Ok(())
    }
}

/// Sends a command, if there is one, and wants a code.
async fn step<S: AsyncRead + AsyncWrite + Unpin>(
    lines: &mut Lines<S>,
    limit: Duration,
    doing: &'static str,
    command: Option<&str>,
    wanted: u16,
) -> Result<(), String> {
    let asked = async {
        if let Some(command) = command {
            lines.send(command).await?;
        }
        reply(lines, doing).await
    };
    match timeout(limit, asked).await {
        Err(_) => Err(format!("no answer to {doing} within {limit:?}")),
        Ok(Err(failure)) => Err(failure.to_string()),
        Ok(Ok(reply)) if reply.code == wanted => Ok(()),
        Ok(Ok(reply)) => Err(format!("{doing}: {} instead of {wanted}", reply.code)),
    }
}
