"""A headless Chromium that tests drive by the WebDriver protocol, and a static server."""

import base64
import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ELSEWHERE = "elsewhere.test"
# As root, in a container, without a screen, and without asking for updates or accounts. The last two give the
# page a camera that shows a pattern.
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    # A name by which a page is not on localhost, and so without what browsers offer on https only.
    f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
]
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"

needs_chromium = pytest.mark.skipif(
    shutil.which("chromium") is None or shutil.which("chromedriver") is None,
    reason="no Chromium with ChromeDriver (Debian's packages chromium and chromium-driver)",
)
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="no npm, which brings onnxruntime-web")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js")


class Browser:
    """One window.

    Args:
        address: of ChromeDriver's session.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def open(self, address: str) -> None:
        _post(f"{self._address}/url", {"url": address})

    def script(self, text: str, *arguments: Any) -> Any:
        """Run JavaScript and return what it returns; a promise is waited for."""
        return _post(f"{self._address}/execute/sync", {"script": text, "args": list(arguments)})

    def click(self, selector: str) -> None:
        _post(f"{self._address}/element/{self._element(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element; of a file input the text is paths, a line each."""
        _post(f"{self._address}/element/{self._element(selector)}/value", {"text": text})

    def press(self, key: str) -> None:
        """Press a key of the keyboard, wherever the focus is."""
        strokes = [{"type": stroke, "value": key} for stroke in ("keyDown", "keyUp")]
        _post(f"{self._address}/actions", {"actions": [{"type": "key", "id": "keys", "actions": strokes}]})

    def wait(self, condition: str, seconds: float = 120) -> None:
        """Wait until a JavaScript expression is true; fail if that takes too long."""
        end = time.monotonic() + seconds
        while not self.script(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"{condition} did not become true: {self.text('body')}"
            time.sleep(0.1)

    def text(self, selector: str) -> str:
        return self.script("return document.querySelector(arguments[0]).innerText", selector)

    def look(self, width: int, height: int, dark: bool, file: Path) -> None:
        """Take a screenshot as on a screen of this size."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", {"features": [feature]})
        shot = self._devtools("Page.captureScreenshot", {})
        file.write_bytes(base64.b64decode(shot["data"]))

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return _post(f"{self._address}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _element(self, selector: str) -> str:
        found = _post(f"{self._address}/element", {"using": "css selector", "value": selector})
        return found[_ELEMENT]


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start ChromeDriver and a browser with an empty profile; both are gone behind the body."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        address = f"http://127.0.0.1:{_port_of(driver)}"
        options = {"args": [*_FLAGS, f"--user-data-dir={profile}"], "binary": shutil.which("chromium")}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = f"{address}/session/{_post(f'{address}/session', wanted)['sessionId']}"
        try:
            yield Browser(session)
        finally:
            _request(session, "DELETE")
    finally:
        driver.terminate()
        driver.wait()


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder as any static server would, and give its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


TAB, ENTER = "\ue004", "\ue007"


def _port_of(driver: "subprocess.Popen[str]") -> int:
    assert driver.stdout is not None
    for line in driver.stdout:
        if "started successfully on port" in line:
            return int(line.split("port ")[1].rstrip(".\n"))
    raise RuntimeError("ChromeDriver did not start")


def _post(address: str, content: dict[str, Any]) -> Any:
    return _request(address, "POST", json.dumps(content).encode())


def _request(address: str, method: str, content: bytes | None = None) -> Any:
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=180) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(json.load(error)["value"]["message"]) from error
