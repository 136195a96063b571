"""A real JupyterLab on this machine, and pages of it driven by Debian's Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

PANEL = Path(__file__).parents[2] / "widgets/lab/built"  # where the side panel was bundled to
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# A promise that holds when what has been asked for is laid out and drawn.
TWO_FRAMES = "() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"


class Lab:
    """A running server; `folder` holds its notebooks."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        self.folder, self.url, self.token = folder, url, token

    def notebook(self, name: str, cells: list[str], setting: str = "") -> Path:
        """Writes a notebook of code cells."""
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        path = self.folder / name
        nbformat.write(book, path)
        return path

    def address(self, name: str) -> str:
        return f"{self.url}/lab/tree/{name}?token={self.token}&reset"


@contextlib.contextmanager
def serving(home: Path) -> Iterator[Lab]:
    """JupyterLab with everything it writes below `home`."""
    folder = home / "notebooks"
    settings = home / "config" / "lab" / "user-settings" / "@jupyterlab"
    for each in (folder, home / "runtime", settings / "apputils-extension"):
        each.mkdir(parents=True, exist_ok=True)
    (settings / "apputils-extension" / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    port, token = free_port(), secrets.token_hex(16)
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "config" / "lab" / "user-settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "config" / "lab" / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_PATH": str(PANEL),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        *(f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"),
        *("--ServerApp.terminals_enabled=False", "--LabApp.expose_app_in_browser=True"),
        f"--ServerApp.root_dir={folder}",
    ]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _await_server(f"{url}/api/status?token={token}", server, home / "server.log")
            yield Lab(folder, url, token)
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def _await_server(url: str, server: subprocess.Popen, log: Path) -> None:
    while server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-4000:]}")


class Notebook:
    """A notebook that is open in the browser."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, address: str, kernel: bool = True) -> Notebook:
        self.page.goto(address)
        self.page.wait_for_function("() => window.jupyterapp?.restored", timeout=90_000)
        self.page.evaluate("() => window.jupyterapp.restored")
        self.page.wait_for_selector(".jp-Notebook", timeout=60_000)
        if kernel:
            self.page.evaluate(
                """async () => {
                    const panel = () => window.jupyterapp.shell.currentWidget;
                    while (!panel()?.sessionContext) await new Promise(r => setTimeout(r, 50));
                    await panel().sessionContext.ready;
                    while (!panel().sessionContext.session?.kernel)
                        await new Promise(r => setTimeout(r, 50));
                    await panel().sessionContext.session.kernel.info;
                }"""
            )
        return self

    def run_all(self, timeout: float = 120) -> None:
        """Runs every cell and waits for the last; raises with the text of an error."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self.await_idle(timeout)

    def run_new_cell(self, code: str) -> None:
        """Adds a cell at the end and runs it, without waiting for it."""
        self.page.evaluate(
            """code => {
                const panel = window.jupyterapp.shell.currentWidget;
                panel.model.sharedModel.addCell({cell_type: 'code', source: code});
                panel.content.activeCellIndex = panel.content.widgets.length - 1;
                window.jupyterapp.commands.execute('notebook:run-cell');
            }""",
            code,
        )

    def await_idle(self, timeout: float = 120) -> None:
        """Waits until every cell has run, or one has failed."""
        state = self.page.wait_for_function(
            """() => {
                const cells = window.jupyterapp.shell.currentWidget.content.widgets
                    .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source);
                for (const cell of cells) {
                    for (const output of cell.model.outputs.toJSON()) {
                        if (output.output_type === 'error') return output.traceback.join('\\n');
                    }
                }
                const done = cell => cell.model.executionCount !== null
                    && !cell.inputArea.promptNode.innerText.includes('*');
                return cells.every(done) ? 'done' : false;
            }""",
            timeout=timeout * 1000,
        ).json_value()
        assert state == "done", state

    def save(self) -> None:
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def evaluate(self, code: str) -> str:
        """Runs code in the notebook's kernel and returns what it prints."""
        return self.page.evaluate(
            """async (code) => {
                const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                let out = '';
                const future = kernel.requestExecute({code, store_history: false});
                future.onIOPub = m => {
                    if (m.header.msg_type === 'stream') out += m.content.text;
                    if (m.header.msg_type === 'error') out += m.content.traceback.join('\\n');
                };
                await future.done;
                return out;
            }""",
            code,
        )

    def theme(self, name: str) -> None:
        """`JupyterLab Light` or `JupyterLab Dark`."""
        self.page.evaluate(
            "n => window.jupyterapp.commands.execute('apputils:change-theme', {theme: n})", name
        )
        self.page.wait_for_function(
            "light => document.body.dataset.jpThemeLight === light",
            arg="false" if "Dark" in name else "true",
        )
