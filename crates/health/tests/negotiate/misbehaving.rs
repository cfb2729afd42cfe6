//! Every service against servers that do what no server should.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use pointsman_health::check::negotiate::Failure;
use pointsman_model::check::NegotiateCheck;
use pointsman_model::check::NegotiateService::{self, *};
use pointsman_model::check::Secret;

use crate::common::{LOCALHOST, Lab, check, over_udp, with_login};

/// What every check may take here.
const LIMIT: Duration = Duration::from_millis(1500);
/// The same where it is sure to run out.
const SHORT: Duration = Duration::from_millis(300);
/// How much later than that the answer may be there, on a busy machine.
const LATE: Duration = Duration::from_secs(10);

/// Those that speak TCP; the three with datagrams too are below.
const OVER_TCP: [NegotiateService; 18] = [
    Http, Https, HttpProxy, Smtp, Submission, Pop, Pops, Imap, Imaps, Ldap, Ldaps, Nntp, Dns,
    Mysql, Pgsql, Ftp, Sip, Simpletcp,
];

/// A check of `service` with everything it could need.
fn question(service: NegotiateService) -> NegotiateCheck {
    let request = match service {
        HttpProxy => "http://www.example.org/",
        Mysql | Pgsql => "SELECT 1",
        Dns => "www.example.org",
        _ => "ready",
    };
    NegotiateCheck {
        database: Some("pool".into()),
        secret: Some(Secret::new("tongue")),
        ..with_login(check(service, request, "^ready$"), "checker", "sesame")
    }
}

/// Serves each connection to `port` by `serve`, as long as the test lives.
fn serve(lab: &Lab, port: u16, serve: impl Fn(TcpStream) + Send + Copy + 'static) {
    let listener = lab
        .netns
        .run(|| TcpListener::bind((LOCALHOST, port)).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
}

/// Makes every check at `port`; each must fail, and in time.
fn all_fail(
    lab: &Lab,
    port: u16,
    limit: Duration,
    expected: impl Fn(NegotiateService, &Failure) -> bool,
) {
    for service in OVER_TCP {
        let begin = Instant::now();
        let failure = lab
            .probe_within(limit, &question(service), port)
            .expect_err(&format!("{service:?} succeeded"));
        assert!(begin.elapsed() < limit + LATE, "{service:?}: {failure}");
        assert!(expected(service, &failure), "{service:?}: {failure:?}");
        assert!(!failure.to_string().contains("sesame"), "{failure}");
    }
}

/// Reads until the other end has enough.
fn wait(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn silent() {
    let lab = Lab::new();
    serve(&lab, 1, |_stream| thread::park());
    all_fail(&lab, 1, SHORT, |_, failure| {
        matches!(failure, Failure::Timeout(_))
    });
}

/// One byte now and then, of what could become an answer.
#[test]
fn slow() {
    let lab = Lab::new();
    serve(&lab, 1, |mut stream| {
        for byte in b" 220 ready to serve you\r\n".iter().cycle() {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
    });
    all_fail(&lab, 1, SHORT, |service, failure| {
        matches!(
            failure,
            Failure::Timeout(_) | Failure::Garbage { .. } | Failure::Io(_)
        ) && (service != Smtp || matches!(failure, Failure::Timeout(_)))
    });
}

#[test]
fn half_closed() {
    let lab = Lab::new();
    serve(&lab, 1, |stream| {
        let _ = stream.shutdown(Shutdown::Write);
        wait(stream);
    });
    all_fail(&lab, 1, LIMIT, |_, failure| {
        !matches!(failure, Failure::Timeout(_))
    });
}

/// Ends in the middle of a greeting that was good so far.
#[test]
fn half_an_answer() {
    let lab = Lab::new();
    serve(&lab, 1, |mut stream| {
        let _ = stream.write_all(b"\x30");
        let _ = stream.shutdown(Shutdown::Write);
        wait(stream);
    });
    all_fail(&lab, 1, LIMIT, |_, failure| {
        !matches!(failure, Failure::Timeout(_))
    });
}

#[test]
fn reset() {
    let lab = Lab::new();
    serve(&lab, 1, |stream| {
        // Closed with something unread: the kernel answers with a reset.
        let _ = (&stream).write_all(b"2");
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    });
    // A reset may come before the byte is read, which is all that NNTP wants.
    for service in OVER_TCP.into_iter().filter(|service| *service != Nntp) {
        let failure = lab
            .probe_within(LIMIT, &question(service), 1)
            .expect_err(&format!("{service:?} succeeded"));
        assert!(
            !matches!(failure, Failure::Timeout(_)),
            "{service:?}: {failure:?}"
        );
    }
}

/// Bytes without sense, and without end.
#[test]
fn garbage() {
    let lab = Lab::new();
    serve(&lab, 1, |mut stream| {
        // A generator of nonsense that is the same each time: xorshift.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut block = [0; 8192];
        loop {
            for byte in &mut block {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state as u8 | 0x80;
            }
            if stream.write_all(&block).is_err() {
                return;
            }
        }
    });
    all_fail(&lab, 1, LIMIT, |_, _| true);
}

/// Lines of a reply that never ends, in the form that each protocol continues replies.
#[test]
fn endless() {
    let lab = Lab::new();
    for (port, line) in [
        (1, "220-more\r\n"),
        (2, "* OK more\r\n"),
        (3, "+OK\r\n"),
        (4, "HTTP/1.1 200 OK\r\n"),
        (5, "X: y\r\n"),
        (6, "SIP/2.0 100 Trying\r\n\r\n"),
        (7, "\r\n"),
        (8, "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let listener = lab
            .netns
            .run(|| TcpListener::bind((LOCALHOST, port)).unwrap());
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || while stream.write_all(line.as_bytes()).is_ok() {});
            }
        });
        for service in OVER_TCP {
            // These lines are what is asked for.
            let right = match service {
                Nntp => port == 1,
                Pop => port == 3,
                _ => false,
            };
            let verdict = lab.probe_within(LIMIT, &question(service), port);
            assert_eq!(verdict.is_ok(), right, "{service:?} {line:?}: {verdict:?}");
        }
    }
}

/// A server that repeats what it does not understand: no password reaches the message.
#[test]
fn an_echo_gives_no_secret_away() {
    let lab = Lab::new();
    serve(&lab, 1, |mut stream| {
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let _ = stream.write_all(b"220 hello\r\n");
        for line in lines.map_while(Result::ok) {
            let code = if line.starts_with("USER") { 331 } else { 530 };
            let _ = stream.write_all(format!("{code} what is {line}\r\n").as_bytes());
        }
    });
    serve(&lab, 2, |mut stream| {
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let _ = stream.write_all(b"+OK hello\r\n");
        for line in lines.map_while(Result::ok) {
            let word = if line.starts_with("USER") {
                "+OK"
            } else {
                "-ERR"
            };
            let _ = stream.write_all(format!("{word} what is {line}\r\n").as_bytes());
        }
    });
    serve(&lab, 3, |mut stream| {
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let _ = stream.write_all(b"* OK hello\r\n");
        for line in lines.map_while(Result::ok) {
            let _ = stream.write_all(format!("p1 NO what is {line}\r\n").as_bytes());
        }
    });
    for (service, port) in [(Ftp, 1), (Pop, 2), (Imap, 3)] {
        let failure = lab.probe(&question(service), port).unwrap_err().to_string();
        assert!(failure.contains("***"), "{failure}");
        for secret in ["sesame", "checker"] {
            assert!(!failure.contains(secret), "{failure}");
        }
    }
}

#[test]
fn datagrams_without_sense() {
    let lab = Lab::new();
    for (port, answer) in [(1, &b""[..]), (2, b"\xff\xfe\xfd"), (3, &[b'2'; 3000])] {
        let socket = lab
            .netns
            .run(|| UdpSocket::bind((LOCALHOST, port)).unwrap());
        thread::spawn(move || {
            let mut request = [0; 65_535];
            while let Ok((_, from)) = socket.recv_from(&mut request) {
                let _ = socket.send_to(answer, from);
            }
        });
    }
    let _silent = lab.netns.run(|| UdpSocket::bind((LOCALHOST, 4)).unwrap());
    for service in [Dns, Radius, Sip, Simpletcp] {
        for port in 1..=4 {
            let begin = Instant::now();
            let failure = lab
                .probe_within(LIMIT, &over_udp(question(service)), port)
                .expect_err(&format!("{service:?} succeeded"));
            assert!(begin.elapsed() < LIMIT + LATE);
            let silence = matches!(failure, Failure::Timeout(_));
            // simpletcp waits for a line that matches, whatever came before.
            assert_eq!(
                silence,
                port == 4 || service == Simpletcp,
                "{service:?} {port}: {failure}"
            );
        }
    }
}

/// A datagram is sent again when its answer does not come.
#[test]
fn a_lost_datagram_is_no_failure() {
    let lab = Lab::new();
    let socket = lab
        .netns
        .run(|| UdpSocket::bind((LOCALHOST, 5060)).unwrap());
    thread::spawn(move || {
        let mut request = [0; 65_535];
        for n in 0.. {
            let Ok((_, from)) = socket.recv_from(&mut request) else {
                return;
            };
            if n > 0 {
                let _ = socket.send_to(b"SIP/2.0 200 OK\r\n\r\n", from);
            }
        }
    });
    lab.up(&over_udp(question(Sip)), 5060);
}
