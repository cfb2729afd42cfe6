//! Two directors in two namespaces know nothing of each other.

use pointsman_testkit::{Hook, Method, http};

use crate::common::{PORT, Stage};

#[test]
fn two_directors_do_not_know_each_other() {
    // The same addresses in both, and different hooks.
    let one = Stage::new(Method::Nat, Hook::Tc);
    let two = Stage::new(Method::Nat, Hook::Xdp);
    let service = one.service();
    one.balance("rr");
    assert!(
        !two.ipvsadm("-Ln").contains(&service.to_string()),
        "not a service of both"
    );
    assert!(two.net.client.run(|| http::get(service, "/")).is_err());

    two.ipvsadm(&format!("-A -t {service} -s wlc"));
    two.ipvsadm(&format!(
        "-a -t {service} -r {}:{PORT} -m",
        two.net.servers[0].addr
    ));
    assert!(
        one.ipvsadm("-Ln").contains(":80 rr"),
        "{}",
        one.ipvsadm("-Ln")
    );
    one.ask(10);
    assert!(two.ask(10).iter().all(|page| *page == two.page(1)));
    for stage in [&one, &two] {
        stage.stats(10);
    }

    one.director().stop().unwrap();
    assert_eq!(one.director().traces().unwrap(), Vec::<String>::new());
    two.ask(10);
    two.stats(20);
}
