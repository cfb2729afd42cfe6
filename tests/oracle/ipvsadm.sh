#!/bin/bash
# Runs every command of a list through the real ipvsadm and writes down what it said.
#
#   ipvsadm.sh LIST > TRANSCRIPT      as root, on a throw-away Linux with IPVS, ipvsadm 1.31 and
#                                     python3 (it replaces /etc/hosts and the rules there)
#
# A list, and the transcript made of it, consists of lines marked by their first character:
#
#   #   comment, copied
#   $   a command; quotes work as in the shell
#   <   a line of its standard input
#   %   a recorder's function below (traffic, or a look at the kernel); its output becomes @ lines
#
# and in the transcript only:
#
#   >   a line of standard output         >\  the same, without a line feed at its end
#   !   a line of standard error          !\  the same, without a line feed at its end
#   =   the exit status
#   @   what the kernel held at this point, for the replay to start from
set -u
list=$1
tmp=$(mktemp -d)
export LC_ALL=C

cat > /etc/hosts <<'X'
127.0.0.1       localhost
::1             ip6-localhost
192.0.2.1       www.example.org www
192.0.2.2       a-very-long-host-name-of-a-virtual-service.example.org
2001:db8::1     www6.example.org
2001:db8::2     a-very-long-host-name-of-an-ipv6-service.example.org
10.0.0.11       rs1.example.org rs1
10.0.0.12       rs2
X
printf 'hosts: files\nservices: files\nprotocols: files\n' > /etc/nsswitch.conf
printf 'http 80/tcp\ndomain 53/tcp\ndomain 53/udp\nhttps 443/tcp\nsip 5060/udp\nftp 21/tcp\n' > /etc/services
ip link set lo up
for a in 192.0.2.1 192.0.2.2 10.0.0.11 10.0.0.12 198.51.100.2; do ip addr add $a/32 dev lo; done
ip -6 addr add 2001:db8::1/128 dev lo nodad
modprobe ip_vs
modprobe -a ip_vs_rr ip_vs_wrr ip_vs_wlc

# Sends $4 datagrams of $5 bytes from address $1 to address $2, port $3.
udp() {
  python3 - "$@" <<'X'
import socket, sys
src, dst, port, count, size = sys.argv[1:]
s = socket.socket(socket.AF_INET6 if ':' in dst else socket.AF_INET, socket.SOCK_DGRAM)
s.bind((src, 40000))
for _ in range(int(count)):
    s.sendto(b'x' * int(size), (dst, int(port)))
X
}
# Opens a TCP connection from $1:$2 to $3:$4, where $5 listens, and keeps it.
tcp() {
  python3 - "$@" > /dev/null <<'X' &
import socket, sys, time
src, sport, dst, port, back = sys.argv[1:]
l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind((back, int(port))); l.listen()
s = socket.socket(); s.bind((src, int(sport)))
s.connect((dst, int(port)))
time.sleep(600)
X
  sleep 2
}
# The next command sees the connection table: it is repeated until no second passed meanwhile.
connections() { steady=yes; }
table() { sed 1d /proc/net/ip_vs_conn | sed 's/^/@ conn /'; }
# Counters, rates and connection counts as the listings have them.
numbers() {
  sysctl -q -w net.ipv4.vs.run_estimation=0
  for view in --stats --rate --persistent-conn; do
    ipvsadm -Ln --exact $view | sed 1,3d | sed "s/^/numbers $view /"
  done
}

shout() { # marker file
  local last
  [ -s "$2" ] || return
  sed "s/^/$1 /" "$2" > "$tmp/marked"
  if [ -n "$(tail -c 1 "$2")" ]; then
    sed '$d' "$tmp/marked"
    last=$(tail -n 1 "$2")
    printf '%s\\ %s\n' "$1" "$last"
  else
    cat "$tmp/marked"
  fi
}
run() {
  local held status
  eval "set -- ${command#\$ }"
  while :; do
    held=$(table)
    "$@" < "$tmp/in" > "$tmp/out" 2> "$tmp/err"
    status=$?
    if [ -z "$steady" ] || [ "$held" = "$(table)" ]; then break; fi
  done
  if [ -n "$steady" ]; then printf '%s\n' "$held"; fi
  printf '%s\n' "$command"
  sed 's/^/< /' "$tmp/in"
  shout '>' "$tmp/out"
  shout '!' "$tmp/err"
  echo "= $status"
  command= steady=
  : > "$tmp/in"
}

name=$(basename "$list" .list)
echo "# $(ipvsadm -v) on Linux $(uname -r)"
echo "# tests/oracle/ipvsadm.sh tests/oracle/$name.list > tests/oracle/$name.transcript"
command= steady=
: > "$tmp/in"
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    '<'*) ;;
    *) [ -z "$command" ] || run ;;
  esac
  case $line in
    '$'*) command=$line ;;
    '<'*) line=${line#<}; printf '%s\n' "${line# }" >> "$tmp/in" ;;
    '% connections') printf '%s\n' "$line"; connections ;;
    '%'*) printf '%s\n' "$line"; eval "${line#% }" | sed 's/^/@ /' ;;
    *) printf '%s\n' "$line" ;;
  esac
done < "$list"
[ -z "$command" ] || run
