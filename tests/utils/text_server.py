"""An HTTP server on the loopback interface that serves one text, or an error."""

import http.server
import socket
import threading
import time
from contextlib import contextmanager, suppress

NUM_PARTS = 20


class TextServer:
    """`with TextServer(content) as server`: serves `content` at `server.url`; `serve` changes the next answers.

    status     answer with this error
    truncate   close the connection after this number of bytes, although more are announced
    announce   send Content-Length
    seconds    duration of the answer, which is sent in NUM_PARTS parts

    `requests` is the number of requests so far.
    """

    def __init__(self, content):
        self.requests = 0
        self.serve(content)

    def serve(self, content, status=None, truncate=None, announce=True, seconds=0.0):
        """Set what is answered from now on."""
        self.content, self.status, self.truncate, self.announce = content, status, truncate, announce
        self.seconds = seconds

    def __enter__(self):
        class Handler(_Handler):
            script = self

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = False  # server_close waits for the last request
        self.url = f"http://127.0.0.1:{self._server.server_port}/text.txt"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        script = self.script
        script.requests += 1
        if script.status:
            self.send_error(script.status)
            return
        self.send_response(200)
        if script.announce:
            self.send_header("Content-Length", len(script.content))
        self.end_headers()
        content = script.content[: script.truncate]
        step = max(1, len(content) // NUM_PARTS) if script.seconds else max(1, len(content))
        with suppress(ConnectionError):  # the client was killed
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                time.sleep(script.seconds / NUM_PARTS)

    def log_message(self, *arguments):
        """Print nothing."""


def closed_port():
    """A URL at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/text.txt"


@contextmanager
def RawServer(parts, pause=0.0):  # noqa: N802
    """`with RawServer(parts) as url`: answers one request with these bytes, with a pause in seconds between two."""
    stopped = threading.Event()

    def answer():
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                for part in parts:
                    connection.sendall(part)
                    if stopped.wait(pause):
                        break

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/text.txt"
        stopped.set()
        thread.join()
