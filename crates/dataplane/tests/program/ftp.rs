//! FTP control connections by NAT: what they say is read, changed, and followed by data.

use std::net::Ipv4Addr;

use pointsman_model::{ConnectionState, Protocol, Scheduler};

use crate::frame::{ACK, Frame, SYN};
use crate::world::{CLIENT, Hooks, RS1, RS2, Stage, VIP, World, nat};

const CONTROL: (Ipv4Addr, u16) = (CLIENT, 40000);

/// A service of FTP with two servers, whose newest, RS2, has a connection.
fn connected(s: &mut Stage<'_>) {
    let servers = [nat(RS1, 21), nat(RS2, 21)];
    s.service(Protocol::Tcp, 21, Scheduler::Rr, &servers);
    let seen = s.client_sends(Frame::tcp(CONTROL, (VIP, 21), SYN));
    assert_eq!(seen.sent_as().2, (RS2, 21));
    s.server_sends(Frame::tcp((RS2, 21), CONTROL, SYN | ACK))
        .sent();
    s.client_sends(Frame::tcp(CONTROL, (VIP, 21), ACK)).sent();
}

/// What the server says, as the client hears it.
#[track_caller]
fn hears(s: &mut Stage<'_>, says: &str) -> String {
    let mut frame = Frame::tcp((RS2, 21), CONTROL, ACK);
    frame.payload = says.into();
    let seen = s.server_sends(frame);
    assert_eq!(seen.sent_as().1, (VIP, 21));
    String::from_utf8(seen.packet[14 + 40..].to_vec()).unwrap()
}

/// What the client says: it arrives as it is.
#[track_caller]
fn says(s: &mut Stage<'_>, text: &str) {
    let mut frame = Frame::tcp(CONTROL, (VIP, 21), ACK);
    frame.payload = text.into();
    let seen = s.client_sends(frame);
    assert_eq!(seen.sent_as().2, (RS2, 21));
    assert_eq!(&seen.packet[14 + 40..], text.as_bytes());
}

/// Client, virtual and real addresses of what is expected.
fn expected(s: &mut Stage<'_>) -> Vec<String> {
    let listed = s.tables().connections();
    let expected = listed
        .iter()
        .filter(|c| c.state == ConnectionState::Listen)
        .map(|c| format!("{} {} {}", c.client, c.virtual_addr, c.destination));
    expected.collect()
}

#[test]
fn passive_data_goes_to_the_server_of_its_control_connection() {
    World::with(|world| {
        world.play("227", Hooks::Agree, |s| {
            connected(s);
            let heard = hears(s, "227 Entering Passive Mode (192,168,0,20,180,202).\r\n");
            assert_eq!(
                heard,
                "227   Entering Passive Mode (10,0,0,100,180,202).\r\n"
            );
            assert_eq!(
                expected(s),
                ["10.0.0.2:0 10.0.0.100:46282 192.168.0.20:46282"]
            );
            for (port, flags) in [(50000, SYN), (50000, ACK)] {
                let seen = s.client_sends(Frame::tcp((CLIENT, port), (VIP, 46282), flags));
                assert_eq!(seen.sent_as().1, (CLIENT, port));
                assert_eq!(seen.sent_as().2, (RS2, 46282));
            }
            let seen = s.server_sends(Frame::tcp((RS2, 46282), (CLIENT, 50000), SYN | ACK));
            assert_eq!(seen.sent_as().1, (VIP, 46282));
            assert_eq!(expected(s), [] as [&str; 0]);
            // Once: the next client port is nobody's.
            s.client_sends(Frame::tcp((CLIENT, 50001), (VIP, 46282), SYN))
                .passes_untouched();
            assert_eq!(s.totals().conns, 1, "data is not counted");
        });
        world.play("229", Hooks::Agree, |s| {
            connected(s);
            let text = "229 Entering Extended Passive Mode (|||46283|)\r\n";
            assert_eq!(hears(s, text), text);
            assert_eq!(
                expected(s),
                ["10.0.0.2:0 10.0.0.100:46283 192.168.0.20:46283"]
            );
        });
        world.play("said again, and behind another reply", Hooks::Agree, |s| {
            connected(s);
            for _ in 0..2 {
                let heard = hears(s, "200 OK\r\n227 =192,168,0,20,10,0\r\n");
                assert_eq!(heard, "200 OK\r\n227   =10,0,0,100,10,0\r\n");
            }
            assert_eq!(
                expected(s),
                ["10.0.0.2:0 10.0.0.100:2560 192.168.0.20:2560"]
            );
        });
    });
}

#[test]
fn the_words_of_a_reply_make_room_for_a_longer_address() {
    World::with(|world| {
        for (said, heard) in [
            (
                "227 Entering Passive Mode (1,1,1,1,4,5)\r\n",
                "227       Passive Mode (10,0,0,100,4,5)\r\n",
            ),
            ("227 okay (1,1,1,1,4,5)\r\n", "227   (10,0,0,100,4,5)\r\n"),
            ("227 ok (1,1,1,1,4,5)\r\n", "227 (10,0,0,100,4,5)\r\n"),
            // No room: who heeds the address fails, who takes the server's own gets through.
            ("227 1,1,1,1,4,5\r\n", "227 1,1,1,1,4,5\r\n"),
        ] {
            world.play(said, Hooks::Agree, move |s| {
                connected(s);
                assert_eq!(hears(s, said), heard);
                assert_eq!(
                    expected(s),
                    ["10.0.0.2:0 10.0.0.100:1029 192.168.0.20:1029"]
                );
            });
        }
    });
}

#[test]
fn what_is_no_reply_changes_nothing() {
    World::with(|world| {
        for text in [
            "227-Entering Passive Mode (192,168,0,20,180,202)\r\n",
            "227 Entering Passive Mode (192,168,0,20,180)\r\n",
            "227 Entering Passive Mode (192,168,0,20,180,256)\r\n",
            "227 Entering Passive Mode (192,168,0,20,180,20",
            "227 Entering Passive Mode\r\n (192,168,0,20,180,202)\r\n",
            "227 Entering Passive Mode (192,168,0,20,3,255)\r\n",
            "229 Entering Extended Passive Mode (|||65536|)\r\n",
            "229 Entering Extended Passive Mode (|||4000\r\n",
            "229 Entering Extended Passive Mode |||4000|\r\n",
            " 229 Entering Extended Passive Mode (|||4000|)\r\n",
            "PORT 10,0,0,2,180,202\r\n",
            "22",
            "\n",
        ] {
            world.play(text, Hooks::Agree, move |s| {
                connected(s);
                assert_eq!(hears(s, text), text);
                assert_eq!(expected(s), [] as [&str; 0]);
            });
        }
    });
}

#[test]
fn active_data_comes_from_the_vip() {
    World::with(|world| {
        for command in [
            "PORT 10,0,0,2,200,10\r\n",
            "port 10,0,0,2,200,10\r\n",
            "NOOP\r\nPORT 10,0,0,2,200,10\r\n",
            "EPRT |1|10.0.0.2|51210|\r\n",
            "EPRT !1!10.0.0.2!51210!\r\n",
        ] {
            world.play(command, Hooks::Agree, move |s| {
                connected(s);
                says(s, command);
                assert_eq!(
                    expected(s),
                    ["10.0.0.2:51210 10.0.0.100:20 192.168.0.20:20"]
                );
                let seen = s.server_sends(Frame::tcp((RS2, 20), (CLIENT, 51210), SYN));
                assert_eq!(seen.sent_as().1, (VIP, 20));
                let back = Frame::tcp((CLIENT, 51210), (VIP, 20), SYN | ACK);
                assert_eq!(s.client_sends(back).sent_as().2, (RS2, 20));
                let seen = s.server_sends(Frame::tcp((RS2, 20), (CLIENT, 51210), ACK));
                assert_eq!(seen.sent_as().1, (VIP, 20));
                assert_eq!(s.states(), [ConnectionState::Established; 2]);
                // Said again while in use: nothing happens to it.
                says(s, command);
                assert_eq!(s.states(), [ConnectionState::Established; 2]);
            });
        }
    });
}

#[test]
fn the_control_connection_outlives_its_time_with_its_data() {
    World::with(|world| {
        world.play("control and data", Hooks::Agree, |s| {
            connected(s);
            hears(s, "229 Entering Extended Passive Mode (|||46283|)\r\n");
            s.client_sends(Frame::tcp((CLIENT, 50000), (VIP, 46283), SYN))
                .sent();
            s.server_sends(Frame::tcp((RS2, 46283), (CLIENT, 50000), SYN | ACK))
                .sent();
            s.client_sends(Frame::tcp((CLIENT, 50000), (VIP, 46283), ACK))
                .sent();
            // Data goes on while the control connection is silent for its fifteen minutes.
            s.age(890);
            s.client_sends(Frame::tcp((CLIENT, 50000), (VIP, 46283), ACK))
                .sent();
            s.age(20);
            s.tables().sweep();
            let mut states = s.states();
            states.sort_by_key(|state| *state as u8);
            assert_eq!(states, [ConnectionState::Established; 2]);
            let heard = hears(s, "226 Transfer complete.\r\n");
            assert_eq!(heard, "226 Transfer complete.\r\n");
            // Nothing came for the data: it lapses, and then its control connection.
            s.age(1000);
            s.tables().sweep();
            s.age(1000);
            s.tables().sweep();
            assert_eq!((s.states().len(), s.counts()), (0, (0, 0)));
        });
        world.play("what was never used lapses", Hooks::Agree, |s| {
            connected(s);
            hears(s, "229 Entering Extended Passive Mode (|||46283|)\r\n");
            s.age(121);
            s.tables().sweep();
            assert_eq!(s.states(), [ConnectionState::Established]);
            s.client_sends(Frame::tcp((CLIENT, 50000), (VIP, 46283), SYN))
                .passes_untouched();
        });
    });
}
