"""Starts a database, the service, the stream and the gateway, changes rows by SQL, and looks at what the edge answers."""

import contextlib
import http.client
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import psycopg2

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent.parent
PROGRAMS = pathlib.Path(sys.argv[1])
CHANGES = 50
READY_WITHIN_S = 30
# What is promised is a lease; that it takes far less is what is measured.
SEEN_WITHIN_S = 2


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, condition):
    deadline = time.monotonic() + READY_WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"error: not within {READY_WITHIN_S} s: {what}")
        time.sleep(0.02)


class Edge:
    """A client of the gateway, on one connection."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def get(self, path):
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        return json.loads(answer.read()), answer.getheader("Cache-Status", "")

    def is_up(self):
        try:
            return self.get("/books")[0] is not None
        except (OSError, http.client.HTTPException, ValueError):
            self.connection.close()
            return False

    def is_hit(self, path):
        status = self.get(path)[1]
        return "; hit" in status and "no-lease" not in status


def start(stack, *command, **options):
    process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, **options)

    def stop():
        process.terminate()
        process.wait()

    stack.callback(stop)
    return process


def set_up(stack):
    """The gateway's port, and a connection to the database."""
    work = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    scratch = start(stack, PROGRAMS / "stack", "scratch", stdout=subprocess.PIPE, text=True)
    url = scratch.stdout.readline().strip()
    database = stack.enter_context(contextlib.closing(psycopg2.connect(url)))
    database.autocommit = True
    for script in (ROOT / "sql/coherence.sql", HERE / "library.sql"):
        database.cursor().execute(script.read_text())
    service = start(stack, sys.executable, HERE / "service.py", url, stdout=subprocess.PIPE, text=True)
    service_port = int(service.stdout.readline())
    stream, listen, admin = free_port(), free_port(), free_port()
    log = stack.enter_context(open(work / "log", "w"))
    start(stack, PROGRAMS / "origin", "tail", "--listen", f"127.0.0.1:{stream}", "--database-url", url,
          stdout=log, stderr=log)
    config = work / "gateway.toml"
    config.write_text(
        f'[upstream]\nnodes = [{{ address = "127.0.0.1:{service_port}", private = "127.0.0.1:{stream}" }}]\n[coherence]\n')
    start(stack, PROGRAMS / "gateway", "run", "--config", config, "--listen", f"127.0.0.1:{listen}",
          "--admin", f"127.0.0.1:{admin}", "--admin-token-file", work / "token",
          env={**os.environ, "RUST_LOG": "warn"})
    return listen, database


def main():
    with contextlib.ExitStack() as stack:
        port, database = set_up(stack)
        edge, cursor = Edge(port), database.cursor()
        wait_for("the gateway serves", edge.is_up)
        wait_for("a page is kept for as long as nothing changes", lambda: edge.is_hit("/books/7"))
        assert edge.get("/books/7")[0]["title"] == "Volume 7"
        wait_for("the others are kept too", lambda: edge.is_hit("/books/8") and edge.is_hit("/books"))
        delays = []
        for number in range(CHANGES):
            title = f"Volume 7, edition {number}"
            cursor.execute("update library.books set title = %s where id = 7", (title,))
            committed = time.perf_counter()
            while edge.get("/books/7")[0]["title"] != title:
                if time.perf_counter() - committed > SEEN_WITHIN_S:
                    sys.exit(f"error: not seen within {SEEN_WITHIN_S} s: {title}")
            delays.append((time.perf_counter() - committed) * 1e3)
            # Kept again, so that the next change has something to take out.
            wait_for("the new page is kept", lambda: edge.is_hit("/books/7"))
            assert "uri-miss" not in edge.get("/books/8")[1], "a page that nothing was changed of was taken out"
        wait_for("the list shows the last title", lambda: edge.get("/books")[0][6]["title"] == title)
        cursor.execute("insert into library.loans values (8, 'somebody')")
        wait_for("another table's row shows", lambda: edge.get("/books/8")[0]["lent"] == 1)
        cursor.execute("truncate library.loans")
        wait_for("TRUNCATE shows", lambda: edge.get("/books/8")[0]["lent"] == 0)
        delays.sort()
        print(f"{CHANGES} changes by SQL, from commit to the new answer at the edge: median "
              f"{statistics.median(delays):.1f} ms, most {delays[-1]:.1f} ms")


main()
