#!/usr/bin/env python3
"""Real servers that do as they are told.

    server.py DIRECTORY ADDRESS:PORT...

DIRECTORY/want/ADDRESS:PORT says how a server is: `ok` (and the page is DIRECTORY/page), `down`
(nothing listens), `hang` (connections are taken and nothing is said), `wrong` (another page),
`error` (status 500). DIRECTORY/have/ADDRESS:PORT says what it is by now.
"""
import os
import socket
import sys
import threading
import time

BASE, NAMES = sys.argv[1], sys.argv[2:]


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def answer(connection, mode):
    try:
        connection.settimeout(5)
        request = b""
        while b"\r\n\r\n" not in request and len(request) < 65536:
            more = connection.recv(4096)
            if not more:
                return
            request += more
        path = request.split(b" ")[1].decode() if b" " in request else "/"
        status = "500 Internal Server Error" if mode == "error" else "200 OK"
        body = "nothing of the kind\n" if mode == "wrong" else f"hello from {path}\n"
        text = f"HTTP/1.0 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
        connection.sendall(text.encode())
    except OSError:
        pass
    finally:
        connection.close()


def serve(name):
    host, port = name.rsplit(":", 1)
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener, have, held = None, None, []
    while True:
        want = read(f"{BASE}/want/{name}") or "down"
        if want != have:
            held = []
            if listener is not None and want == "down":
                listener.close()
                listener = None
            if listener is None and want != "down":
                listener = socket.socket(family)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((host, int(port)))
                listener.listen(64)
                listener.settimeout(0.05)
            have = want
            with open(f"{BASE}/have/{name}", "w") as file:
                file.write(have)
        if listener is None:
            time.sleep(0.05)
            continue
        try:
            connection, _ = listener.accept()
        except OSError:
            continue
        if have == "hang":
            held.append(connection)
        else:
            threading.Thread(target=answer, args=(connection, have), daemon=True).start()


for name in NAMES:
    threading.Thread(target=serve, args=(name,), daemon=True).start()
parent = os.getppid()
while os.getppid() == parent:
    time.sleep(0.2)
