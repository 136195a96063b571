"""Names on a hub: a small one, served on this machine by the same protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "a" * 40

SCRIPT = """
import json, sys
import nnsight_magic.loading.hub as hub
from nnsight_magic.errors import NnsightError
from nnsight_magic.loading.load import open_source
hub.PATIENCE = float(sys.argv[1])
for name in sys.argv[2:]:
    try:
        source = open_source(name)
        module = source.weights()
        said = [type(module).__name__, len(source.tokenizer), source.found.offline]
    except NnsightError as error:
        said = error.message
    print(json.dumps(said))
"""


class Hub(BaseHTTPRequestHandler):
    """Serves the files of one model; knows a gated one, and one that never answers."""

    folder: Path
    requests: list[str]

    def do_HEAD(self) -> None:
        self.requests.append(self.path)
        if self.path == "/api/models/someone/tiny-gpt2":
            answer = {"id": "someone/tiny-gpt2", "sha": COMMIT, "siblings": []}
            return self._answer(200, {}, json.dumps(answer).encode())
        path = self.path.strip("/").replace(f"/resolve/{COMMIT}/", "/resolve/main/")
        if path.startswith("api/models/someone/tiny-gpt2/tree/"):
            return self._answer(404, {"X-Error-Code": "EntryNotFound"})
        name, _, file = path.partition("/resolve/main/")
        if name == "someone/silent":
            self.server.silence.wait()
            return None
        if name == "someone/gated":
            return self._answer(403, {"X-Error-Code": "GatedRepo"})
        if name != "someone/tiny-gpt2":
            return self._answer(404, {"X-Error-Code": "RepoNotFound"})
        path = self.folder / file
        if not path.is_file():
            return self._answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        data = path.read_bytes()
        etag = hashlib.sha1(data).hexdigest()
        return self._answer(200, {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'}, data)

    do_GET = do_HEAD

    def _answer(self, status: int, headers: dict[str, str], data: bytes = b"") -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def hub(tiny_gpt2_folder, tmp_path):
    """`ask(*names, patience=…)` runs in a process of its own what loads names from the hub."""
    handler = type("TinyHub", (Hub,), {"folder": tiny_gpt2_folder, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.silence = threading.Event()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def ask(*names: str, patience: float = 8, **environment: str) -> list:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(patience), *names],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={
                **{k: v for k, v in os.environ.items() if "proxy" not in k.lower()},
                "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
                "HF_HOME": str(tmp_path / "hf"),
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                **environment,
            },
        )
        assert done.returncode == 0, done.stderr
        ask.stderr = done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    ask.requests = handler.requests
    yield ask
    server.silence.set()
    server.shutdown()
    server.server_close()


def test_a_model_comes_from_the_hub_and_afterwards_out_of_its_cache(hub):
    assert hub("someone/tiny-gpt2") == [["GPT2LMHeadModel", 320, False]]
    assert any(path.endswith("model.safetensors") for path in hub.requests)
    hub.requests.clear()
    assert hub("someone/tiny-gpt2", HF_HUB_OFFLINE="1") == [["GPT2LMHeadModel", 320, True]]
    closed = "http://127.0.0.1:9"  # the discard port: nothing listens there
    assert hub("someone/tiny-gpt2", HF_ENDPOINT=closed) == [["GPT2LMHeadModel", 320, True]]
    assert hub.requests == []
    assert hub.stderr == ""
    near = hub("someone/tiny-gpt", HF_ENDPOINT=closed)[0]
    assert (
        f"the name on the hub: {closed} cannot be reached" in near
        or f"no answer from {closed}" in near
    )
    assert "Did you mean: 'someone/tiny-gpt2'" in near


def test_what_the_hub_refuses_is_said_in_few_lines_after_one_question(hub):
    unknown, gated = hub("someone/else", "someone/gated", patience=600)
    (silent,) = hub("someone/silent", patience=1)
    assert "no model of that name" in unknown
    assert "accept its terms" in gated
    assert "hf auth login" in gated
    assert "someone/silent" in silent
    assert all(len(message.splitlines()) <= 15 for message in (unknown, gated, silent))
    asked = [path for path in hub.requests if "/resolve/" in path]
    assert len(asked) >= 2 and len(asked) == len(set(asked)), "each name is asked for once"
