//! A connection table of 16 slots, full.

use pointsman_model::{Protocol, Scheduler};

use crate::frame::{ACK, FIN, Frame, SYN};
use crate::user::Class;
use crate::world::{CLIENT, Hooks, RS1, RS2, Stage, VIP, World, client_tcp, direct, nat};

const SLOTS: u16 = 16;

/// Evictions during `f`.
fn evictions(s: &mut Stage<'_>, f: impl FnOnce(&mut Stage<'_>)) -> u64 {
    let before = s.tables().evictions();
    f(s);
    s.tables().evictions() - before
}

fn establish(s: &mut Stage<'_>, ports: std::ops::Range<u16>) {
    for port in ports {
        s.syn(port);
        s.client_sends(client_tcp(port, ACK)).sent();
    }
}

#[test]
fn a_full_table_gives_up_what_is_not_established() {
    World::alone(SLOTS.into(), |world| {
        world.play("full of established connections", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[direct(RS1)]);
            establish(s, 1000..1000 + SLOTS);
            let evicted = evictions(s, |s| {
                for port in 2000..2010 {
                    s.client_sends(client_tcp(port, SYN)).dropped("table-full");
                }
            });
            assert_eq!((evicted, s.counts()), (0, (16, 0)));
            for port in 1000..1000 + SLOTS {
                s.client_sends(client_tcp(port, ACK)).sent();
            }
        });
        world.play("full of UDP, which gives way too", Hooks::Agree, |s| {
            s.service(Protocol::Udp, 53, Scheduler::Rr, &[direct(RS1)]);
            let from = |port| Frame::udp((CLIENT, port), (VIP, 53), b"");
            for port in 1000..1000 + SLOTS {
                s.client_sends(from(port)).sent();
            }
            let evicted = evictions(s, |s| {
                s.client_sends(from(2000)).sent();
            });
            assert_eq!((evicted, s.counts()), (1, (0, 16)));
        });
        world.play(
            "half-open before closing, oldest first",
            Hooks::Agree,
            |s| {
                s.tcp_service(Scheduler::Rr, &[direct(RS1)]);
                establish(s, 1000..1014);
                s.client_sends(client_tcp(1003, FIN | ACK)).sent();
                s.syn(1014);
                s.age(1);
                s.syn(1015);
                let evicted = evictions(s, |s| {
                    s.syn(2000);
                });
                assert_eq!((evicted, s.counts()), (1, (15, 1)));
                s.client_sends(client_tcp(1014, ACK)).passes_untouched();
                establish(s, 1015..1016);
                establish(s, 2000..2001);
                // No half-open connection is left: the closing one goes.
                assert_eq!(evictions(s, |s| establish(s, 2001..2002)), 1);
                s.client_sends(client_tcp(1003, ACK)).passes_untouched();
                s.client_sends(client_tcp(2002, SYN)).dropped("table-full");
                assert_eq!(s.counts(), (16, 0));
            },
        );
        world.play("lapsed before anything", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[direct(RS1)]);
            establish(s, 1000..1000 + SLOTS);
            s.age(901);
            assert_eq!(evictions(s, |s| establish(s, 2000..2000 + SLOTS)), 0);
            assert_eq!(s.counts(), (16, 0));
            s.client_sends(client_tcp(1000, ACK)).passes_untouched();
        });
        world.play("a flood of SYNs by NAT", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80), nat(RS2, 80)]);
            establish(s, 1000..1004);
            let evicted = evictions(s, |s| {
                for port in 2000..2100 {
                    s.syn(port);
                    let (active, inactive) = s.counts();
                    assert!(active <= 8 && inactive == 0, "two slots each");
                }
            });
            assert_eq!((evicted, s.counts()), (96, (8, 0)));
            for port in 1000..1004 {
                s.client_sends(client_tcp(port, ACK)).sent();
            }
            s.age(901);
            s.tables().sweep();
            assert_eq!(s.counts(), (0, 0));
        });
        world.play(
            "what cannot be opened leaves nothing behind",
            Hooks::Agree,
            |s| {
                s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
                establish(s, 1000..1008);
                for port in 2000..2010 {
                    let seen = s.client_sends(client_tcp(port, SYN));
                    assert_eq!(seen.class, Class::Drop);
                }
                assert_eq!((s.counts(), s.states().len()), ((8, 0), 8));
            },
        );
        world.play("one slot left is too few for NAT", Hooks::Agree, |s| {
            s.tcp_service(Scheduler::Rr, &[nat(RS1, 80)]);
            let other = s.service(Protocol::Tcp, 81, Scheduler::Rr, &[direct(RS2)]);
            establish(s, 1000..1007);
            let side = |flags| Frame::tcp((CLIENT, 3000), (VIP, 81), flags);
            s.client_sends(side(SYN)).sent();
            s.client_sends(side(ACK)).sent();
            for _ in 0..3 {
                s.client_sends(client_tcp(2000, SYN)).dropped("table-full");
            }
            s.tables().delete_service(&other).unwrap();
            assert_eq!((s.counts(), s.states().len()), ((7, 0), 8));
        });
    });
}
