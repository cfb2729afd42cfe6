//! `UDP_CHECK`: silence is good unless an answer is wanted; ICMP errors are bad.

use std::time::Duration;

use pointsman_model::ProbeTarget;
use pointsman_model::check::{ReplyPattern, UdpCheck};
use rand::RngExt;
use tokio::time::timeout;

use super::Unusable;
use crate::net::{connect_udp, describe};
use crate::{Context, Outcome};

/// Bytes that are sent where none are configured.
const RANDOM_BYTES: usize = 20;
/// Largest datagram there is.
const DATAGRAM: usize = 65_536;

/// A UDP check, ready to be asked.
#[derive(Debug)]
pub(super) struct Udp {
    payload: Option<Vec<u8>>,
    reply: Option<ReplyPattern>,
}

impl Udp {
    pub(super) fn new(check: &UdpCheck) -> Result<Self, Unusable> {
        if let Some(reply) = &check.reply
            && reply.bytes.len() != reply.mask.len()
        {
            return Err(Unusable(
                "the wanted reply and its mask differ in length".into(),
            ));
        }
        Ok(Self {
            payload: check.payload.clone(),
            reply: check.reply.clone(),
        })
    }

    pub(super) async fn probe(
        &self,
        target: &ProbeTarget,
        limit: Duration,
        context: &Context,
    ) -> Outcome {
        let asked = async {
            let socket = connect_udp(target, context).await?;
            let random: [u8; RANDOM_BYTES];
            let payload = match &self.payload {
                Some(payload) => payload.as_slice(),
                None => {
                    random = rand::rng().random();
                    &random
                }
            };
            socket.send(payload).await?;
            let mut answer = vec![0; if self.reply.is_some() { DATAGRAM } else { 1 }];
            let length = socket.recv(&mut answer).await?;
            answer.truncate(length);
            Ok::<_, std::io::Error>(answer)
        };
        match (timeout(limit, asked).await, &self.reply) {
            (Err(_), None) => Outcome::up("nothing spoke against it"),
            (Err(_), Some(_)) => Outcome::down(format!("no answer within {limit:?}")),
            (Ok(Err(error)), _) => Outcome::down(describe(&error)),
            (Ok(Ok(_)), None) => Outcome::up("answered"),
            (Ok(Ok(answer)), Some(reply)) => match judge(&answer, reply) {
                Ok(()) => Outcome::up(format!("the right answer, {} bytes", answer.len())),
                Err(reason) => Outcome::down(reason),
            },
        }
    }
}

/// Length within bounds, and the bytes as wanted as far as both reach.
fn judge(answer: &[u8], wanted: &ReplyPattern) -> Result<(), String> {
    if !(wanted.min_len..=wanted.max_len).contains(&answer.len()) {
        return Err(format!(
            "an answer of {} bytes, not {} to {}",
            answer.len(),
            wanted.min_len,
            wanted.max_len
        ));
    }
    let pairs = answer.iter().zip(wanted.bytes.iter().zip(&wanted.mask));
    match pairs
        .enumerate()
        .find(|(_, (got, (byte, mask)))| (**got ^ **byte) & **mask != 0)
    {
        None => Ok(()),
        Some((at, (got, (byte, _)))) => Err(format!(
            "a wrong answer: byte {at} is {got:02x}, not {byte:02x}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_agrees_as_far_as_both_reach() {
        let wanted = ReplyPattern {
            bytes: vec![0xab, 0x00, 0x12],
            mask: vec![0xff, 0x0f, 0xff],
            min_len: 1,
            max_len: 4,
        };
        for (answer, good) in [
            (&[0xab, 0xf0, 0x12][..], true),
            (&[0xab, 0xf1, 0x12], false),
            (&[0xab], true),
            (&[0xab, 0x00, 0x12, 0x99], true),
            (&[0xab, 0x00, 0x12, 0x99, 0x00], false),
            (&[], false),
            (&[0xac], false),
        ] {
            assert_eq!(judge(answer, &wanted).is_ok(), good, "{answer:?}");
        }
    }
}
