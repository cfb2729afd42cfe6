//! The connection table: what a slot holds, how it is found, filled, and when it counts as absent.

mod key;
mod slot;
mod table;

pub use key::{Hash, Key};
pub use slot::{
    FLAG_CHILD, FLAG_INACTIVE, FLAG_NO_OUTPUT, FLAG_REPLY, Hints, KIND_FTP, KIND_METHOD,
    KIND_REWRITE, KIND_TO_LOOPBACK, KIND_TO_STACK, KIND_WILDCARD, NO_PARTNER, Set, Slot, Status,
    TAG_EMPTY, Tag, Word, has_lapsed,
};
pub use table::{
    Found, NO_SLOT, Nearby, beside, check, claim, evictable, find, free, has_children, kill,
    lookup, nearby, parent, preferred, search, slot, take, take_place,
};
pub(crate) use table::{leave_parent, partner, precedes, publish, release};
