"""The HTTP server that `users.py` and `pages.py` call: a process of its own, on the loopback interface.

Examples call `start` and get its address. The process prints its port and ends when its standard input closes,
so it can't outlive whoever started it. It knows nothing of forkright. It works on any number of requests at
once, unless it is given a limit: then the others queue. With `strain` it is one that too many at once slow down.

A path always gets the same delay, jitter included: plans that are compared wait for the same things. What a queue
adds depends on them.

    python examples/_server.py --delay 0.1 --jitter 0.01 --port 0
"""

import subprocess
import sys
from collections.abc import Sequence


def start(*, delay: float, jitter: float = 0.0, pages: Sequence[str] = (), limit: int = 0, strain: float = 0.0) -> str:
    """Starts the server, which ends with this process at the latest; gives its address, no slash at the end.

    `/users/NUMBER` is a user, in JSON. `/pages/MODULE` is the documentation of a module named in `pages`, in
    HTML.
    """
    import atexit

    command = [sys.executable, __file__, f"--delay={delay}", f"--jitter={jitter}"]
    command += [f"--limit={limit}", f"--strain={strain}", "--pages", *pages]
    # A process group of its own: Ctrl-C at the terminal is for the example, which may go on and ask for more.
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0)
    assert server.stdin is not None and server.stdout is not None
    port = server.stdout.readline().strip()
    if not port:
        raise RuntimeError(f"the example's HTTP server did not start (exit code {server.wait()})")
    server.stdout.close()
    atexit.register(server.wait)
    atexit.register(server.stdin.close)  # called before `wait`: last registered, first called
    return f"http://127.0.0.1:{port}"


def main() -> None:
    """Serves until standard input closes, or Ctrl-C."""
    import argparse
    import asyncio
    import contextlib

    parser = argparse.ArgumentParser(description="Answers HTTP requests on the loopback interface after a delay.")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose; the port is printed")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds before an answer")
    parser.add_argument("--jitter", type=float, default=0.0, help="seconds by which the delay varies, either way")
    parser.add_argument("--pages", nargs="*", default=[], metavar="MODULE", help="modules to serve a page about")
    parser.add_argument("--limit", type=int, default=0, help="requests worked on at once, others queue; 0: any number")
    parser.add_argument(
        "--strain", type=float, default=0.0, help="the share of a delay that each request in the queue adds to it"
    )
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, options.delay, options.jitter, options.pages, options.limit, options.strain))


async def serve(port: int, delay: float, jitter: float, pages: Sequence[str], limit: int, strain: float) -> None:
    import asyncio
    import functools
    import json
    import os
    import random
    import threading

    bodies = {f"/pages/{module}": ("text/html; charset=utf-8", page_about(module)) for module in pages}

    def answer_to(path: str) -> tuple[str, str, bytes]:
        """The status, the type and the body for a path."""
        if path in bodies:
            return ("200 OK", *bodies[path])
        place, _, number = path.rpartition("/")
        if place == "/users" and number.isdecimal():
            user = {"id": int(number), "name": f"user {number}", "groups": ["readers", "writers"]}
            return "200 OK", "application/json", json.dumps(user).encode()
        return "404 Not Found", "text/plain", b"no such page\n"

    @functools.cache
    def delay_of(path: str) -> float:
        return delay + random.Random(path).uniform(-jitter, jitter)

    gate = Gate(limit, strain)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the requests of one connection, one after another, until the other side is done."""
        try:
            while True:
                request, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                words = request.split(" ")
                path = words[1] if len(words) == 3 else ""
                if words[0] == "GET":
                    await gate.work(delay_of(path))
                    status, kind, body = answer_to(path)
                else:
                    status, kind, body = "405 Method Not Allowed", "text/plain", b"only GET\n"
                last = words[0] != "GET" or "connection: close" in (field.lower() for field in fields)
                head = (
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                    f"Connection: {'close' if last else 'keep-alive'}\r\n\r\n"
                )
                writer.write(head.encode() + body)
                await writer.drain()
                if last:
                    return
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # the other side is done, or does not speak HTTP
        except asyncio.CancelledError:
            pass  # the server ends; raised again, it would be reported as an error of the connection
        finally:
            writer.close()

    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def watch_standard_input() -> None:
        # The descriptor, not `sys.stdin`: the interpreter can't end while a daemon thread is inside its lock.
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(over.set)

    server = await asyncio.start_server(talk, "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    threading.Thread(target=watch_standard_input, daemon=True).start()
    await over.wait()
    server.close()


class Gate:
    """Lets so many requests be worked on at once; the others queue, and each of them slows the answers down."""

    def __init__(self, limit: int, strain: float) -> None:
        import asyncio
        import contextlib

        unlimited: contextlib.AbstractAsyncContextManager[None] = contextlib.nullcontext()
        self._free = asyncio.Semaphore(limit) if limit else unlimited
        self._strain = strain
        self._queued = 0

    async def work(self, seconds: float) -> None:
        """What would take so many seconds at a server with nothing else to do."""
        import asyncio

        self._queued += 1
        async with self._free:
            self._queued -= 1
            await asyncio.sleep(seconds * (1 + self._strain * self._queued))


def page_about(module: str) -> bytes:
    """The documentation of a module, as the standard library writes it."""
    import importlib
    import pydoc

    documented = importlib.import_module(module)
    return pydoc.html.page(module, pydoc.html.document(documented, module)).encode()


if __name__ == "__main__":
    main()
