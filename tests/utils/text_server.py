"""A real HTTP server on the loopback interface that serves one text, and misbehaves when told to."""

import contextlib
import http.server
import re
import socket
import struct
import threading


class TextServer:
    """`with TextServer(content) as server`: serves `content` at `server.url`; the switches may change between requests.

    ranges           answer Range requests by 206, or ignore them
    status           answer every request by this error
    cuts             for each of the next requests the position in the text where the connection ends, or None
    reset            end it by a reset instead of a close
    stall            do not end it but keep silent, until `release` is set
    framing          how the end of the text is told: "length", "chunked", or "close"
    content_range    the Content-Range header to send instead of the right one

    `requests` has the Range header, or None, of every request so far.
    """

    def __init__(self, content):
        self.requests = []
        self.release = threading.Event()
        self.serve(content)

    def serve(self, content, ranges=True, status=None, cuts=(), framing="length", reset=False, stall=False):
        """Set all switches, and forget the requests so far."""
        self.content, self.ranges, self.status, self.cuts = content, ranges, status, list(cuts)
        self.framing, self.reset, self.stall, self.content_range = framing, reset, stall, None
        self.requests.clear()
        self.release.clear()

    def __enter__(self):
        class Handler(_Handler):
            script = self

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/text.txt"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for the last request

    def handle_error(self, request, client_address):
        """Keep quiet: a client that hangs up is part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        script = self.script
        wanted = self.headers.get("Range")
        script.requests.append(wanted)
        if script.status:
            self.send_error(script.status)
            return
        content, start = script.content, 0
        if wanted and script.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(content):
                self.send_error(416)
                return
        end = script.cuts.pop(0) if script.cuts else None
        self.protocol_version = "HTTP/1.1"  # chunks belong to it
        self.send_response(206 if wanted and script.ranges else 200)
        if wanted and script.ranges:
            right = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", script.content_range or right)
        if script.framing == "length":
            self.send_header("Content-Length", len(content) - start)
        elif script.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        self._send(content[start:end], end is None)

    def _send(self, body, whole):
        if self.script.framing == "chunked":
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"0\r\n\r\n" if whole else b""
        self.wfile.write(body)
        self.wfile.flush()
        if self.script.stall and not whole:
            self.script.release.wait(10)
        if self.script.reset and not whole:  # a linger time of zero turns the close into a reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                self.connection.close()

    def log_message(self, *arguments):
        """Keep quiet."""


def closed_port():
    """A url at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/text.txt"
