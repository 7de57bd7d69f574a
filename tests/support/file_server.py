"""A server of this machine whose answers a test decides."""

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from safetensors.numpy import save


def weights(value=1.0):
    """Return the bytes of a safetensors file, and their SHA-256."""
    data = save({"dense.kernel": np.full((3, 2), value, "float32"), "dense.bias": np.zeros(2, "float32")})
    return data, hashlib.sha256(data).hexdigest()


class Server:
    """What the server answers, and what it was asked: `files` by their paths, `answers` before them."""

    def __init__(self, port):
        self.port, self.asked, self.files, self.answers, self.headers = port, [], {}, {}, []

    def url(self, path):
        return f"http://localhost:{self.port}{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        state, path = self.server.state, self.path
        state.asked.append(f"{self.command} {path}")
        state.headers.append(dict(self.headers))
        if path in state.answers:
            return state.answers[path](self)
        data = state.files.get(path.partition("?")[0])
        if data is None:
            return self.answer(404)
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        if self.headers.get("If-None-Match") == etag:
            return self.answer(304)
        return self.answer(200, data, {"ETag": etag})

    def answer(self, status, data=b"", headers=None, length=None):
        self.send_response(status)
        headers = {"Content-Length": str(len(data) if length is None else length), **(headers or {})}
        for key, value in headers.items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD" and status != 304:
            self.wfile.write(data)


@contextmanager
def running_server():
    """Run a server; yield what it is asked for and what it answers."""
    running = ThreadingHTTPServer(("localhost", 0), Handler)
    running.daemon_threads = True
    running.state = Server(running.server_address[1])
    running.state.secure = lambda context: setattr(running, "socket", context.wrap_socket(running.socket, True))
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield running.state
    finally:
        running.shutdown()
        thread.join()
        running.server_close()
