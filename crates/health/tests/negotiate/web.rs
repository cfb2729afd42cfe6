//! http, https and http_proxy against nginx.

use pointsman_model::check::NegotiateService::{Http, HttpProxy, Https};
use pointsman_model::check::{NegotiateCheck, NegotiateMethod};

use crate::common::{Lab, check};
use crate::ldirectord::agrees;

/// An nginx with pages, a virtual host and a proxy.
pub fn nginx() -> Lab {
    let mut lab = Lab::new();
    lab.certificate();
    lab.file("page/index.html", "it works\n");
    lab.file("page/state.html", "state: ready, 42 users\n");
    lab.file(
        "nginx.conf",
        "daemon off; user root; worker_processes 1; pid HOME/pid; error_log HOME/error;
events { worker_connections 1024; }
http {
  access_log HOME/access; client_body_temp_path HOME/t1; proxy_temp_path HOME/t2;
  fastcgi_temp_path HOME/t3; uwsgi_temp_path HOME/t4; scgi_temp_path HOME/t5;
  default_type text/html;
  server {
    listen 127.0.0.1:80 default_server; listen 127.0.0.1:443 ssl default_server;
    ssl_certificate HOME/cert.pem; ssl_certificate_key HOME/key.pem;
    root HOME/page;
    location /moved { return 301 /state.html; }
    location /far { return 302 http://127.0.0.1:8080/; }
    location /secure { return 307 https://127.0.0.1/state.html; }
    location /loop { return 302 /loop; }
    location /odd { return 302 ftp://127.0.0.1/; }
    location /broken { return 503; }
    location /host { return 200 \"host is $http_host\"; }
    location /agent { return 200 \"$http_user_agent\"; }
  }
  server { listen 127.0.0.1:80; server_name www.example.org; location / { return 200 \"virtual host\"; } }
  server { listen 127.0.0.1:8080; location / { return 200 \"the other port\"; } }
  server { listen 127.0.0.1:3128; location / { proxy_pass http://127.0.0.1$request_uri; } }
}",
    );
    lab.start("nginx", "-c HOME/nginx.conf -p HOME -e HOME/error");
    for port in [80, 443, 3128] {
        lab.listening(port);
    }
    lab
}

#[test]
fn pages_are_fetched_and_compared() {
    let mut lab = nginx();
    for (request, receive) in [
        ("", "works"),
        ("index.html", "^it works$"),
        ("state.html", r"state: ready, \d+ users"),
        ("state.html", ""),
        ("moved", "ready"),
        ("far", "the other port"),
        ("secure", "ready"),
        ("host", "^host is 127.0.0.1$"),
        ("agent", "^pointsman/"),
        ("http://127.0.0.1:8080/x", "the other port"),
    ] {
        lab.up(&check(Http, request, receive), 80);
    }
    assert_eq!(lab.probe(&check(Http, "", ""), 80).unwrap(), "200 OK");
    for (request, receive, words) in [
        (
            "state.html",
            "state: Ready",
            "does not match /state: Ready/",
        ),
        ("none.html", "", "404 Not Found"),
        ("broken", "", "503 Service Unavailable"),
        ("loop", "", "too many redirections"),
        ("odd", "", "302 Found"),
    ] {
        lab.down(&check(Http, request, receive), 80, words);
    }
    let virtual_host = NegotiateCheck {
        virtualhost: Some("www.example.org".into()),
        ..check(Http, "", "virtual host")
    };
    lab.up(&virtual_host, 80);
    let head = |receive| NegotiateCheck {
        method: NegotiateMethod::Head,
        ..check(Http, "state.html", receive)
    };
    lab.up(&head(""), 80);
    lab.down(&head("ready"), 80, "does not match");
    agrees(
        &lab,
        &[
            (check(Http, "index.html", "^it works$"), 80),
            (check(Http, "state.html", ""), 80),
            (check(Http, "state.html", "Ready"), 80),
            (check(Http, "moved", "ready"), 80),
            (check(Http, "far", "the other port"), 80),
            (check(Http, "loop", ""), 80),
            (check(Http, "none.html", ""), 80),
            (check(Http, "broken", ""), 80),
            (check(Http, "host", "^host is 127.0.0.1$"), 80),
            (virtual_host, 80),
            (head(""), 80),
            (head("ready"), 80),
            (check(Http, "", ""), 81),
        ],
    );
    lab.refused(&check(Http, "", ""), 80);
}

#[test]
fn pages_come_over_tls_whoever_signed() {
    let mut lab = nginx();
    lab.up(&check(Https, "state.html", "ready"), 443);
    lab.up(&check(Https, "moved", "ready"), 443);
    let virtual_host = NegotiateCheck {
        virtualhost: Some("www.example.org".into()),
        ..check(Https, "host", "^host is www.example.org$")
    };
    lab.up(&virtual_host, 443);
    lab.down(&check(Https, "state.html", "down"), 443, "does not match");
    agrees(
        &lab,
        &[
            (check(Https, "state.html", "ready"), 443),
            (check(Https, "state.html", "down"), 443),
            (check(Https, "moved", "ready"), 443),
            (check(Https, "", ""), 80),
        ],
    );
    // HTTP where TLS was meant, and the other way round.
    lab.down(&check(Https, "", ""), 80, "corrupt message");
    lab.down(&check(Http, "", ""), 443, "400 Bad Request");
    lab.refused(&check(Https, "", ""), 443);
}

#[test]
fn a_proxy_fetches_for_us() {
    let mut lab = nginx();
    let page = |url: &str| check(HttpProxy, url, "ready");
    lab.up(&page("http://www.example.com/state.html"), 3128);
    lab.down(&page("http://www.example.com/none"), 3128, "404");
    lab.down(&page("state.html"), 3128, "whole URL");
    agrees(
        &lab,
        &[
            (page("http://www.example.com/state.html"), 3128),
            (page("http://www.example.com/none"), 3128),
            (page("state.html"), 3128),
        ],
    );
    lab.refused(&page("http://www.example.com/state.html"), 3128);
}
