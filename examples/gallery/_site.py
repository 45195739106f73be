"""A small web site of three hosts on the loopback interface, for `crawler.py`: a process of its own.

`http.server` serves it. A page links to others of its host and now and then to another host's; what is below
`/private/` is forbidden by robots.txt, and one host asks for a pause between two requests. Each request becomes a
line of the access log, written before the answer ends: host, path, begin and end in seconds of the monotonic clock,
which all processes of a machine share. So a crawler's manners can be checked from outside.

    python examples/gallery/_site.py ACCESS_LOG PAGES DELAY
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# All of 127.0.0.0/8 is this machine, so three addresses are three hosts.
HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
# What a host asks for, as requests per seconds.
RATES = {"127.0.0.3": "10/1"}


@contextlib.contextmanager
def site(log: Path, *, pages: int, delay: float) -> Iterator[str]:
    """Serves while the block runs; gives the address to begin with."""
    command = [sys.executable, __file__, str(log), str(pages), str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0) as server:
        assert server.stdin is not None and server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            raise RuntimeError(f"the site did not start (exit code {server.wait()})")
        yield f"http://{HOSTS[0]}:{port}/0"
        server.stdin.close()  # it ends when its standard input does


def page(host: str, number: int, pages: int, port: int) -> str:
    """One page: a few paragraphs, links to children as in a tree, and a few across."""
    links = [f"/{child}" for child in (2 * number + 1, 2 * number + 2) if child < pages]
    links += [f"/{number // 2}#top", "/private/diary", "mailto:nobody@localhost"]
    links += [f"http://{other}:{port}/{number}" for other in HOSTS if other != host and number % 7 == 0]
    if number == pages - 1:
        links.append("/missing")
    text = "".join(f"<p>Paragraph {line} of page {number} tells of {line * number % 97}.</p>" for line in range(400))
    anchors = "".join(f'<li><a href="{link}">{link}</a></li>' for link in links)
    return f"<!doctype html><title>Page {number} of {host}</title><h1>{number}</h1>{text}<ul>{anchors}</ul>"


def serve(log: Path, pages: int, delay: float) -> None:
    lock = threading.Lock()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            began = time.monotonic()
            host, _, port = (self.headers["Host"] or "").partition(":")
            status, kind, body = 200, "text/html; charset=utf-8", ""
            if self.path == "/robots.txt":
                rate = f"Request-rate: {RATES[host]}\n" if host in RATES else ""
                kind, body = "text/plain", f"User-agent: *\n{rate}Disallow: /private/\n"
            elif self.path[1:].isdecimal() and int(self.path[1:]) < pages:
                time.sleep(delay)
                body = page(host, int(self.path[1:]), pages, int(port))
            else:
                status, kind, body = 404, "text/plain", "no such page\n"
            # Before the answer ends: whoever has it asks again later than this.
            with lock, log.open("a") as lines:
                lines.write(f"{host} {self.path} {began:.6f} {time.monotonic():.6f}\n")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    server = Server(("0.0.0.0" if sys.platform == "linux" else "127.0.0.1", 0), Answer)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
