"""A headless Chromium, driven through its chromedriver by the WebDriver protocol. Nothing but the standard library."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
           "--window-size=1280,1340", "--autoplay-policy=no-user-gesture-required"]  # fmt: skip


def missing():
    """What is not installed, in words; nothing where all is."""
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    return ", ".join(name for name, path in found.items() if path is None)


class Tab:
    """A window of a browser."""

    def __init__(self, driver, address):
        self._driver = driver
        options = {"binary": shutil.which("chromium"), "args": OPTIONS}
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self._session = f"/session/{self._call('POST', '/session', {'capabilities': wanted})['sessionId']}"
        self._call("POST", f"{self._session}/url", {"url": address})

    def script(self, body, *arguments):
        """What JavaScript returns."""
        given = {"script": body, "args": list(arguments)}
        return self._call("POST", f"{self._session}/execute/sync", given)

    def until(self, body, seconds=240):
        """What JavaScript returns, when that is true for the first time."""
        deadline = time.monotonic() + seconds
        while not (found := self.script(body)):
            if time.monotonic() > deadline:
                text = self.script("return document.body.innerText")
                raise TimeoutError(f"{body} is still {found!r} after {seconds} s on a page with:\n{text}")
            time.sleep(0.1)
        return found

    def type(self, css, text):
        """Type into a field; for one that takes files, choose the file."""
        found = self._call("POST", f"{self._session}/element", {"using": "css selector", "value": css})
        self._call("POST", f"{self._session}/element/{found[ELEMENT]}/value", {"text": str(text)})

    def picture(self):
        """The window as PNG."""
        return base64.b64decode(self._call("GET", f"{self._session}/screenshot"))

    def close(self):
        """End the browser."""
        self._call("DELETE", self._session)

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._driver + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise RuntimeError(json.load(error)["value"]["message"]) from None


@contextlib.contextmanager
def opened(address):
    """Opens tabs at an address, each in a browser of its own, as those of different users are."""
    with subprocess.Popen(
        [shutil.which("chromedriver"), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        port = None
        while port is None:
            if not (line := process.stdout.readline()):
                raise RuntimeError("chromedriver ended before it was ready")
            if "started successfully on port" in line:
                port = line.split("port ")[1].strip(" .\n")
        tabs = []

        def tab():
            tabs.append(Tab(f"http://127.0.0.1:{port}", address))
            return tabs[-1]

        try:
            yield tab
        finally:
            for each in tabs:
                with contextlib.suppress(OSError, RuntimeError):
                    each.close()
            process.terminate()
