"""A library's catalogue over HTTP. It knows nothing of caches, but that each answer says which groups it belongs to."""

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import local

import psycopg2

session = local()


def query(sql, *values):
    """The rows of one statement, in a transaction of its own, on this thread's connection."""
    if not hasattr(session, "connection"):
        session.connection = psycopg2.connect(sys.argv[1])
        session.connection.autocommit = True
    with session.connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


class Catalogue(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet

    def do_GET(self):
        if self.path == "/books":
            rows = query("select id, title from library.books order by id")
            return self.answer(200, [{"id": id, "title": title} for id, title in rows], "books")
        if match := re.fullmatch(r"/books/(\d+)", self.path):
            id = int(match[1])
            rows = query("select title, (select count(*) from library.loans where book_id = %s) from library.books"
                         " where id = %s", id, id)
            book = {"id": id, "title": rows[0][0], "lent": rows[0][1]} if rows else None
            return self.answer(200 if rows else 404, book, f"book-{id}")
        return self.answer(404, None, None)

    def answer(self, status, value, group):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if group:
            self.send_header("Cache-Control", "public, max-age=86400")
            self.send_header("Cache-Groups", f'"{group}"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Catalogue)
print(server.server_port, flush=True)
server.serve_forever()
