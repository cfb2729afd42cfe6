//! Real TCP and UDP through real attached programs, in namespaces: one module per forwarding
//! method, each scenario on TC and on native XDP, and what a director must survive.
//!
//! Needs root, `ip`, `ethtool`; fails without.

mod common;

mod client_address;
mod convert;
mod direct_routing;
mod dns;
mod doctor;
mod evidence;
mod failover;
mod families;
mod flood;
mod fragments;
mod ftp;
mod fullnat;
mod heartbeat;
mod ipv6;
mod isolation;
mod labs;
mod ldirectord;
mod ldirectord_scenarios;
mod ldirectord_status;
mod local_node;
mod nat;
mod scale;
mod sip;
mod site;
mod soak;
mod survival;
mod tunnel;
mod two_directors;
mod web;

/// Makes two tests of a function over [`pointsman_testkit::Hook`].
macro_rules! on_both_hooks {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn on_tc() {
                super::$name(pointsman_testkit::Hook::Tc);
            }
            #[test]
            fn on_native_xdp() {
                super::$name(pointsman_testkit::Hook::Xdp);
            }
        }
    )+};
}
use on_both_hooks;
