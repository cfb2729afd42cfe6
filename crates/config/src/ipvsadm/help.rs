use std::io::{self, Write};

/// What `ipvsadm -v` prints: the version whose command line this is.
pub const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)";

/// Prints what `ipvsadm -h` prints. The usage lines and the columns are the original's, which
/// scripts and completions read; the descriptions are ours.
///
/// # Errors
/// Of the writer.
pub fn print_help(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{VERSION}")?;
    out.write_all(HELP.as_bytes())
}

const HELP: &str = "\
Usage:
  ipvsadm -A|E virtual-service [-s scheduler] [-p [timeout]] [-M netmask] [--pe persistence_engine] [-b sched-flags]
  ipvsadm -D virtual-service
  ipvsadm -C
  ipvsadm -R
  ipvsadm -S [-n]
  ipvsadm -a|e virtual-service -r server-address [options]
  ipvsadm -d virtual-service -r server-address
  ipvsadm -L|l [virtual-service] [options]
  ipvsadm -P|Q virtual-service -z local-address
  ipvsadm -G [virtual-service] [-n]
  ipvsadm -Z [virtual-service]
  ipvsadm --set tcp tcpfin udp
  ipvsadm --start-daemon {master|backup} [daemon-options]
  ipvsadm --stop-daemon {master|backup}
  ipvsadm -h

Commands:
Each has a long form and most a short one; the command comes first.
  --add-service     -A        new virtual service
  --edit-service    -E        replace the settings of a virtual service
  --delete-service  -D        remove a virtual service and its servers
  --clear           -C        remove every virtual service
  --restore         -R        run the rules on standard input
  --save            -S        print rules for --restore
  --add-server      -a        new real server of a virtual service
  --edit-server     -e        replace the settings of a real server
  --delete-server   -d        remove a real server
  --list            -L|-l     show services, connections or timeouts
  --zero            -Z        reset counters of one service, or of all
  --add-laddr       -P        new local address of a virtual service
  --del-laddr       -Q        remove one
  --get-laddr       -G        show local addresses
  --set tcp tcpfin udp        seconds until idle connections lapse; 0 keeps
  --start-daemon              begin to synchronise connections
  --stop-daemon               end it
  --help            -h        this text

virtual-service:
  --tcp-service|-t  service-address   host[:port], TCP
  --udp-service|-u  service-address   host[:port], UDP
  --sctp-service    service-address   host[:port], SCTP
  --fwmark-service|-f fwmark          packets with this firewall mark, from 1 up

Options:
  --ipv6         -6                   the mark before it is for IPv6 packets
  --scheduler    -s scheduler         rr|wrr|lc|wlc|lblc|lblcr|dh|sh|sed|nq|fo|ovf|mh|twos,
                                      wlc if none is given.
  --pe            engine              persistence engine (sip),
                                      none if none is given.
  --persistent   -p [timeout]         keep clients with their server (360 s)
  --netmask      -M netmask           clients of one such network count as one
  --real-server  -r server-address    host[:port]
  --gatewaying   -g                   direct routing (the default)
  --ipip         -i                   tunnel
  --masquerading -m                   NAT
  --fullnat                           NAT of both ends (Pointsman's own)
  --local-address -z address          what FULLNAT puts in the client's place
  --toa                               FULLNAT tells the client by TCP option 254
  --proxy-protocol                    or by the PROXY protocol, version 2
  --tun-type      type                ipip|gue|gre,
                                      ipip if none is given.
  --tun-port      port                UDP port of a gue tunnel
  --tun-nocsum                        no checksum in the tunnel header
  --tun-csum                          with checksum
  --tun-remcsum                       with remote checksum offload
  --weight       -w weight            share of new connections; 0 gets none
  --u-threshold  -x uthreshold        overloaded from so many connections
  --l-threshold  -y lthreshold        no longer overloaded below so many
  --connection   -c                   list connections
  --timeout                           list timeouts (tcp tcpfin udp)
  --daemon                            list synchronisation daemons
  --stats                             list totals
  --rate                              list rates per second
  --exact                             large numbers without K, M, G, T
  --thresholds                        list thresholds
  --persistent-conn                   list counts of persistent clients
  --tun-info                          list kinds of tunnels
  --nosort                            list in the director's own order
  --sort                              accepted, the default
  --ops          -o                   schedule every UDP packet by itself
  --numeric      -n                   no names of hosts and ports
  --json                              list or save as JSON (Pointsman's own)
  --sched-flags  -b flags             flags of the scheduler, with commas
Daemon Options:
  --syncid sid                        0 to 255, which daemons belong together
  --sync-maxlen length                longest message in bytes
  --mcast-interface interface         where messages are sent or expected
  --mcast-group address               multicast group (default=224.0.0.81)
  --mcast-port port                   UDP port (default=8848)
  --mcast-ttl ttl                     TTL of messages (default=1)
";
