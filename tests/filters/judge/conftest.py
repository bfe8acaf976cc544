"""A scripted server that speaks the chat protocol of endpoints, and counts what it is asked."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from filters.judge import endpoint as endpoint_module


class ScriptedServer:
    """Answers each call with what `script(prompt, nth call for that prompt)` returns: text, or (status, headers, body).

    `answered` counts the calls that were answered with text by prompt, `asked` all calls.
    """

    def __init__(self, script):
        self.script = script
        self.asked, self.answered = Counter(), Counter()
        self.lock = threading.Lock()
        self.under_way = self.most_under_way = 0
        self.bodies = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][0]["content"]
                with outer.lock:
                    outer.bodies.append((body, self.headers))
                    outer.asked[prompt] += 1
                    nth = outer.asked[prompt]
                    outer.under_way += 1
                    outer.most_under_way = max(outer.most_under_way, outer.under_way)
                try:
                    said = outer.script(prompt, nth)
                    if callable(said):
                        said = said(self.headers)
                    status, headers, data = said if isinstance(said, tuple) else (200, {}, completion(said))
                    raw = data.encode() if isinstance(data, str) else json.dumps(data).encode()
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(raw)))
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(raw)
                    if not isinstance(said, tuple):
                        with outer.lock:
                            outer.answered[prompt] += 1
                except OSError:  # the caller is gone
                    pass
                finally:
                    with outer.lock:
                        outer.under_way -= 1

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def calls(self):
        return self.asked.total()


def completion(text, finish="stop", **message):
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


@pytest.fixture
def chat_reply():
    return completion


@pytest.fixture
def serve():
    """Start a scripted server; all are closed at the end."""
    servers = []

    def start(script):
        servers.append(ScriptedServer(script))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


@pytest.fixture
def no_backoff(monkeypatch):
    monkeypatch.setattr(endpoint_module, "_BACKOFF", 0.01)
