"""A headless Chromium, driven by its DevTools protocol, for tests of pages."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tornado.websocket import WebSocketClientConnection, websocket_connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--mute-audio", "--remote-debugging-port=0")


@dataclass
class Page:
    """A page that is open; `errors` is what its console complained of, `requests` what it asked the network for."""

    socket: WebSocketClientConnection
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _number: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer; events that come before it are noted."""
        self._number += 1
        await self.socket.write_message(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await self.socket.read_message() or "{}")
            if message.get("id") == self._number:
                return message["result"]
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, method: str | None, said: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(said["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and said["type"] in {"error", "warning", "assert"}:
            self.errors.append(json.dumps(said["args"]))
        elif method == "Log.entryAdded":
            self.errors.append(json.dumps(said["entry"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])

    async def open(self, path: Path) -> None:
        """Go to a file, and wait until it is loaded."""
        for domain in ("Runtime", "Log", "Network", "Page"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=path.resolve().as_uri())
        while await self.run("document.readyState") != "complete":
            await asyncio.sleep(0.05)

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise, as if a user had pressed a key."""
        answer = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def size(self, width: int, height: int, scale: int = 1) -> None:
        """Give the page a screen of another size."""
        mobile = width < 600
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        await asyncio.sleep(0.3)

    async def screenshot(self, path: Path) -> None:
        """Keep the whole page as .png."""
        answer = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))


def in_browser(folder: Path, visit: Callable[[Page], Awaitable[None]]) -> None:
    """Start a browser whose profile lies in `folder`, let `visit` use a page of it, and end it."""
    assert CHROMIUM is not None
    words = [CHROMIUM, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(_visit(folder / "DevToolsActivePort", visit))
    finally:
        process.terminate()
        process.wait(20)


async def _visit(port_file: Path, visit: Callable[[Page], Awaitable[None]]) -> None:
    until = time.monotonic() + 60
    while not port_file.exists() or not port_file.read_text():
        assert time.monotonic() < until, "the browser does not start"
        await asyncio.sleep(0.1)
    port = port_file.read_text().splitlines()[0]
    with urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
        target = next(one for one in json.load(answer) if one["type"] == "page")
    socket = await websocket_connect(target["webSocketDebuggerUrl"], max_message_size=1 << 28)
    await visit(Page(socket))
    socket.close()
