//! DNS (RFC 1035): a name's address, or an address's name, must match.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use pointsman_model::check::Transport;

use super::pattern::Pattern;
use super::peer::Peer;
use super::{Answer, Failure};

/// Largest answer that is read over UDP: we do not offer EDNS, so RFC 1035 §4.2.1 has it at 512.
const DATAGRAM: usize = 512;

/// Asks for the A records of `request`, or for the PTR records if it is an address; one of them
/// must match. Without `receive` a server is never up, as with ldirectord.
pub(super) async fn check(
    peer: &Peer<'_>,
    transport: Transport,
    request: &str,
    receive: Option<&Pattern>,
) -> Result<Answer, Failure> {
    let receive = receive.ok_or(Failure::Unusable(
        "receive is needed: without it a DNS check cannot succeed",
    ))?;
    let query = query(request)?;
    let bytes = query
        .to_vec()
        .map_err(|_| Failure::Unusable("request is too long for a DNS name"))?;
    let mut answer = match transport {
        Transport::Udp => over_udp(peer, &bytes).await?,
        Transport::Tcp => over_tcp(peer, &bytes).await?,
    };
    let mut message = parse(&answer, query.metadata.id)?;
    if message.metadata.truncation && transport == Transport::Udp {
        answer = over_tcp(peer, &bytes).await?;
        message = parse(&answer, query.metadata.id)?;
    }
    judge(&message, receive)
}

fn query(request: &str) -> Result<Message, Failure> {
    let (name, record) = match request.parse::<IpAddr>() {
        Ok(addr) => (Name::from(addr), RecordType::PTR),
        Err(_) => {
            let mut name = Name::from_utf8(request)
                .map_err(|_| Failure::Unusable("request is not a DNS name"))?;
            name.set_fqdn(true);
            (name, RecordType::A)
        }
    };
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, record));
    Ok(message)
}

async fn over_udp(peer: &Peer<'_>, query: &[u8]) -> Result<Vec<u8>, Failure> {
    let socket = peer.datagrams().await?;
    let mut answer = vec![0; DATAGRAM];
    let length = socket.ask(query, &mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

/// Each message has its length in front (RFC 1035 §4.2.2).
async fn over_tcp(peer: &Peer<'_>, query: &[u8]) -> Result<Vec<u8>, Failure> {
    let length = u16::try_from(query.len()).expect("a query for one name has few bytes");
    let mut stream = peer.connect().await?;
    stream
        .write_all(&[&length.to_be_bytes()[..], query].concat())
        .await?;
    let mut length = [0; 2];
    let mut answer = Vec::new();
    let cut = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Failure::Closed("the answer was complete"),
        _ => Failure::Io(error),
    };
    stream.read_exact(&mut length).await.map_err(cut)?;
    answer.resize(u16::from_be_bytes(length).into(), 0);
    stream.read_exact(&mut answer).await.map_err(cut)?;
    Ok(answer)
}

fn parse(bytes: &[u8], id: u16) -> Result<Message, Failure> {
    let message = Message::from_vec(bytes)
        .map_err(|error| Failure::garbage("a DNS message", error.to_string()))?;
    let head = &message.metadata;
    match head.message_type == MessageType::Response && head.id == id {
        true => Ok(message),
        false => Err(Failure::garbage(
            "an answer to our query",
            "another message",
        )),
    }
}

fn judge(message: &Message, receive: &Pattern) -> Result<Answer, Failure> {
    if message.answers.is_empty() {
        let code = message.metadata.response_code;
        return Err(Failure::refused("the query", format!("no answer, {code}")));
    }
    let texts: Vec<String> = message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(addr) => Some(addr.to_string()),
            RData::PTR(name) => Some(name.to_ascii().trim_end_matches('.').to_owned()),
            _ => None,
        })
        .collect();
    match texts.iter().any(|text| receive.matches(text)) {
        true => Ok(Answer::success()),
        false => Err(Failure::mismatch(receive, texts.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, AAAA, PTR};

    use super::*;

    fn answers(data: &[RData]) -> Message {
        let mut message = query("www.example.org").unwrap();
        message.metadata.message_type = MessageType::Response;
        for data in data {
            message.add_answer(Record::from_rdata(Name::root(), 60, data.clone()));
        }
        parse(&message.to_vec().unwrap(), message.metadata.id).unwrap()
    }

    #[test]
    fn addresses_are_asked_for_their_names() {
        for (request, name, record) in [
            ("www.example.org", "www.example.org.", RecordType::A),
            ("10.0.0.1", "1.0.0.10.in-addr.arpa.", RecordType::PTR),
        ] {
            let query = query(request).unwrap();
            let question = &query.queries[0];
            assert_eq!(
                (question.name().to_string(), question.query_type()),
                (name.to_owned(), record)
            );
        }
        assert!(query("a..b").is_err());
    }

    #[test]
    fn only_a_and_ptr_records_count() {
        let a = RData::A(A::new(10, 0, 0, 1));
        let aaaa = RData::AAAA(AAAA::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
        let ptr = RData::PTR(PTR(Name::from_ascii("www.example.org.").unwrap()));
        let judge = |data: &[RData], pattern: &str| {
            judge(&answers(data), &Pattern::new(pattern).unwrap()).is_ok()
        };
        assert!(judge(&[aaaa.clone(), a], r"^10\.0\.0\.1$"));
        assert!(judge(&[ptr], "^www.example.org$"));
        assert!(!judge(&[aaaa], "."));
        assert!(!judge(&[], ""));
    }

    #[test]
    fn an_answer_to_another_query_is_none() {
        let message = answers(&[]);
        let bytes = message.to_vec().unwrap();
        assert!(parse(&bytes, message.metadata.id ^ 1).is_err());
        let query = query("x").unwrap();
        assert!(parse(&query.to_vec().unwrap(), query.metadata.id).is_err());
        assert!(parse(b"garbage", 1).is_err());
    }
}
