"""The demo's shop: one page, served by a process of its own that can die."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).with_name("shop.html").read_bytes()


class _Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *words: object) -> None:
        """A visitor each second is nothing to tell of."""


def main(listen: str) -> None:
    """Serve on `listen`, HOST:PORT, until killed."""
    host, _, port = listen.rpartition(":")
    ThreadingHTTPServer((host, int(port)), _Shop).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
