//! No question at all: ldirectord's `checktype=on`, or an operator's word.

use crate::Outcome;

pub(super) fn probe(up: bool) -> Outcome {
    match up {
        true => Outcome::up("always up, as configured"),
        false => Outcome::down("always down, as configured"),
    }
}
