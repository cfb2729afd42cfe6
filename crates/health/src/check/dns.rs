//! `DNS_CHECK`: one question over UDP; any answer without an error is good.

use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use pointsman_model::ProbeTarget;
use pointsman_model::check::{DnsCheck, DnsRecord};

use super::Unusable;
use crate::net::{connect_udp, describe, within};
use crate::{Context, Outcome};

/// Largest answer over UDP without EDNS, RFC 1035 §4.2.1; what is beyond is not looked at.
const DATAGRAM: usize = 512;

/// A DNS check, ready to be asked.
#[derive(Debug)]
pub(super) struct Dns {
    query: Query,
}

impl Dns {
    pub(super) fn new(check: &DnsCheck) -> Result<Self, Unusable> {
        let mut name = Name::from_ascii(&check.name)
            .map_err(|error| Unusable(format!("name `{}`: {error}", check.name)))?;
        name.set_fqdn(true);
        let record = match check.record {
            DnsRecord::A => RecordType::A,
            DnsRecord::Ns => RecordType::NS,
            DnsRecord::Cname => RecordType::CNAME,
            DnsRecord::Soa => RecordType::SOA,
            DnsRecord::Mx => RecordType::MX,
            DnsRecord::Txt => RecordType::TXT,
            DnsRecord::Aaaa => RecordType::AAAA,
        };
        Ok(Self {
            query: Query::query(name, record),
        })
    }

    pub(super) async fn probe(
        &self,
        target: &ProbeTarget,
        limit: Duration,
        context: &Context,
    ) -> Outcome {
        let mut message = Message::query();
        let id = message.metadata.id;
        message.metadata.recursion_desired = true;
        message.add_query(self.query.clone());
        let asked = async {
            let bytes = message.to_vec().map_err(std::io::Error::other)?;
            let socket = connect_udp(target, context).await?;
            socket.send(&bytes).await?;
            let mut answer = [0; DATAGRAM];
            loop {
                // The socket is connected: only the server's datagrams come. Those of an earlier question
                // have another id and are not ours.
                let length = socket.recv(&mut answer).await?;
                if let Some(verdict) = judge(&answer[..length], id) {
                    return Ok(verdict);
                }
            }
        };
        match within(limit, asked).await {
            Ok(Ok(())) => Outcome::up("answered without error"),
            Ok(Err(reason)) => Outcome::down(reason),
            Err(error) => Outcome::down(describe(&error)),
        }
    }
}

/// Whether a datagram answers question `id`, and how. Only the header counts: sections are not
/// read, so an answer that was cut off is as good.
pub fn judge(datagram: &[u8], id: u16) -> Option<Result<(), String>> {
    if datagram.len() < 12 {
        return Some(Err(format!(
            "an answer of {} bytes is none of DNS",
            datagram.len()
        )));
    }
    if datagram[..2] != id.to_be_bytes() {
        return None;
    }
    if datagram[2] & 0x80 == 0 {
        return Some(Err("a question came back instead of an answer".into()));
    }
    match ResponseCode::from(0, datagram[3] & 0x0f) {
        ResponseCode::NoError => Some(Ok(())),
        code => Some(Err(format!("{code}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_answer() {
        let answer = |id: u16, flags: u8, code: u8| {
            let [high, low] = id.to_be_bytes();
            [high, low, flags, code, 0, 1, 0, 0, 0, 0, 0, 0]
        };
        assert_eq!(judge(&answer(7, 0x81, 0x80), 7), Some(Ok(())));
        assert_eq!(
            judge(&answer(8, 0x81, 0x80), 7),
            None,
            "of another question"
        );
        for (flags, code, words) in [
            (0x01, 0x00, "question"),
            (0x81, 0x82, "Server Failure"),
            (0x81, 0x83, "Non-Existent Domain"),
            (0x81, 0x85, "Refused"),
        ] {
            let reason = judge(&answer(7, flags, code), 7).unwrap().unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
        assert!(judge(b"short", 7).unwrap().is_err());
    }
}
