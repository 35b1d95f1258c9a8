"""probe.py PORT PATH: exits 0 when a GET there answers 200; else says what came instead. Starts in 20 ms with -IS."""

import socket
import sys

port, path = int(sys.argv[1]), sys.argv[2]
try:
    with socket.create_connection(("127.0.0.1", port), timeout=2) as line:
        line.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        answer = line.makefile("rb").read(4096)
except OSError as exc:
    sys.exit(f"port {port}: {exc}")
head, _, body = answer.partition(b"\r\n\r\n")
if head.split(b" ", 2)[1:2] != [b"200"]:
    sys.exit(f"{path} answers {head.splitlines()[:1]} {body[:200].decode(errors='replace').strip()}")
