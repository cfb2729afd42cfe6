#!/bin/bash
# Writes down what the kernel's IPVS tells of itself, over netlink and in /proc, and what the
# original ipvsadm makes of it.
#
#   kernel.sh > RECORD      as root, on a throw-away Linux with IPVS, SCTP, ipvsadm 1.31, python3
#
#   #   comment
#   $   a command
#   >   a line of its output
#   @   a kind of netlink answer, and its datagrams in hexadecimal: those that list the services, for
#       each service those that list its servers, and the timeouts
set -u
export LC_ALL=C
ip link set lo up
for a in 192.0.2.1 192.0.2.2 10.0.0.11 10.0.0.12 10.0.0.13 198.51.100.2; do ip addr add $a/32 dev lo; done
ip -6 addr add 2001:db8::1/128 dev lo nodad
ip -6 addr add 2001:db8:1::11/64 dev lo nodad
modprobe -a ip_vs sctp
ipvsadm -R <<'X'
-A -t 192.0.2.1:80 -s wrr -p 300 -M 255.255.255.0
-a -t 192.0.2.1:80 -r 10.0.0.11:80 -m -w 3 -x 100 -y 80
-a -t 192.0.2.1:80 -r 10.0.0.12:8080 -m -w 0
-A -t 192.0.2.1:0 -s wlc -p
-A -t 192.0.2.2:443 -s lc
-a -t 192.0.2.2:443 -r 10.0.0.11 -g -w 2147483647
-A -u 192.0.2.1:5060 -s rr -p 360 --pe sip -o
-a -u 192.0.2.1:5060 -r 10.0.0.11:5060 -g
-A -u 192.0.2.2:53 -s rr -o
-a -u 192.0.2.2:53 -r 10.0.0.13:53 -m
-A -t 192.0.2.9:99 -s none
-A --sctp-service 192.0.2.1:3868 -s fo
-a --sctp-service 192.0.2.1:3868 -r 10.0.0.77 -i --tun-type gue --tun-port 6080 --tun-remcsum
-a --sctp-service 192.0.2.1:3868 -r 127.0.0.1 -m
-A --sctp-service 192.0.2.1:3869 -s wlc
-a --sctp-service 192.0.2.1:3869 -r 10.0.0.78 -i --tun-type gue --tun-port 6081 --tun-nocsum -w 4
-A -t [2001:db8::1]:443 -s sh -b sh-fallback,sh-port
-a -t [2001:db8::1]:443 -r 10.0.0.13 -i -w 2
-A -t [2001:db8::1]:444 -s wrr -b flag-1,flag-3
-a -t [2001:db8::1]:444 -r 10.0.0.13 -i -w 2
-a -t [2001:db8::1]:444 -r [2001:db8:1::11]:444 -i -w 2
-A -u [2001:db8::1]:53 -s wlc -p 100 -M 64
-a -u [2001:db8::1]:53 -r [2001:db8:1::11]:5353 -m -w 9
-A -f 7 -s rr -p 100
-a -f 7 -r 10.0.0.14 -g
-a -f 7 -r 10.0.0.15 -i --tun-type gre --tun-csum
-a -f 7 -r 10.0.0.16 -i --tun-type gre --tun-nocsum -w 70000
-A -f 8 -6 -s wlc
-a -f 8 -6 -r [2001:db8:1::99]:0 -g
-A -f 9 -s nq -o -p 50 -M 255.255.0.0
--set 901 121 302
X
cat > /tmp/traffic.py <<'X'
import os, socket, time

def open_socket(family, kind, address, port, proto=0):
    s = socket.socket(family, kind, proto)
    s.bind((address, port))
    return s

def knock(s, *to):
    s.setblocking(False)
    try:
        s.connect(to)
    except OSError:
        pass
    return s

V4, V6, TCP, UDP = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
CLIENT = '198.51.100.2'
server = open_socket(V4, TCP, '10.0.0.11', 80)
server.listen()
client = open_socket(V4, TCP, CLIENT, 40001)
client.connect(('192.0.2.1', 80))
peer, _ = server.accept()
client.send(b'hello')
peer.recv(9)
peer.send(b'there')
client.recv(9)
burst = open_socket(V4, UDP, CLIENT, 40000)
for _ in range(15):
    burst.sendto(b'x' * 100, ('192.0.2.2', 53))
open_socket(V4, UDP, CLIENT, 40003).sendto(
    b'INVITE\r\nCall-ID: abc123@host\r\n\r\n', ('192.0.2.1', 5060))
open_socket(V6, UDP, '2001:db8::1', 40004).sendto(b'y' * 70, ('2001:db8::1', 53))
marked = open_socket(V4, UDP, CLIENT, 40006)
marked.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
marked.sendto(b'z', ('192.0.2.2', 9999))
kept = [
    knock(open_socket(V6, TCP, '2001:db8::1', 40005), '2001:db8::1', 444),
    knock(open_socket(V4, TCP, CLIENT, 40007), '192.0.2.2', 443),
    knock(open_socket(V4, TCP, CLIENT, 40008, 132), '192.0.2.1', 3869),
]
open('/tmp/ready', 'w').close()
time.sleep(600)
X
python3 /tmp/traffic.py &
until [ -e /tmp/ready ]; do sleep 0.1; done
# Totals are as of the last estimation; afterwards there is none, and nothing changes but time.
sleep 2.5
sysctl -q -w net.ipv4.vs.run_estimation=0
echo "# $(ipvsadm -v) on Linux $(uname -r)"
echo "# tests/oracle/kernel.sh > tests/oracle/kernel.recorded"
record() {
  echo "\$ $*"
  "$@" | sed 's/^/> /'
}
# Connections count down: each command after what they were when it ran.
for command in 'cat /proc/net/ip_vs_conn_sync' 'ipvsadm -Lnc' 'ipvsadm -Lnc --persistent-conn'; do
  while :; do
    record cat /proc/net/ip_vs_conn > /tmp/held
    record $command > /tmp/said
    [ "$(cat /tmp/held)" != "$(record cat /proc/net/ip_vs_conn)" ] || break
  done
  cat /tmp/held /tmp/said
done
for command in 'ipvsadm -Sn' 'ipvsadm -Ln --nosort' 'ipvsadm -Ln --nosort --persistent-conn' \
  'ipvsadm -Ln --nosort --stats' 'ipvsadm -Ln --nosort --rate' 'cat /proc/net/ip_vs' \
  'cat /proc/net/ip_vs_stats' 'cat /proc/net/ip_vs_stats_percpu'; do
  record $command
done
python3 - <<'X'
import socket, struct

kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)
kernel.bind((0, 0))

def attribute(kind, value):
    return struct.pack('HH', 4 + len(value), kind) + value + b'\0' * (-len(value) % 4)

def attributes(data):
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from('HH', data, at)
        found[kind & 0x3fff] = data[at + 4:at + length]
        at += (length + 3) & ~3
    return found

def messages(datagram):
    at = 0
    while at < len(datagram):
        length, kind = struct.unpack_from('IH', datagram, at)
        yield kind, datagram[at + 20:at + length]
        at += (length + 3) & ~3

def ask(family, command, flags, data=b''):
    data = struct.pack('BBH', command, 1, 0) + data
    kernel.send(struct.pack('IHHII', 16 + len(data), family, 1 | flags, 1, 0) + data)
    datagrams, done = [], False
    while not done:
        datagrams.append(kernel.recv(1 << 16))
        done = any(kind in (2, 3) for kind, _ in messages(datagrams[-1]))
    return datagrams

ACK, DUMP = 4, 0x300
[(_, answer)] = messages(ask(16, 3, ACK, attribute(2, b'IPVS\0'))[0])
family = struct.unpack('H', attributes(answer)[1])[0]
services = ask(family, 4, DUMP)
print('@ services', *[d.hex() for d in services])
for datagram in services:
    for kind, data in messages(datagram):
        if kind != family:
            continue
        service = attributes(attributes(data)[1])
        which = b''.join(attribute(k, service[k]) for k in (1, 2, 3, 4, 5) if k in service)
        print('@ servers', *[d.hex() for d in ask(family, 8, DUMP, attribute(0x8001, which))])
print('@ timeouts', *[d.hex() for d in ask(family, 13, ACK)])
X
