"""The phones' mailbox in Docker: prints each webhook as a line, which the demo reads as a log.

The demo runs outside of the containers' network, and nothing of it need be reachable from there.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Mailbox(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The health check of the image."""
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        line = json.dumps({"phone": self.path.removeprefix("/phone/"), "payload": payload})
        print(line, flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Standard error is in the same log."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), _Mailbox).serve_forever()
