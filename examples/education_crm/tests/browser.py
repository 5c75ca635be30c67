"""A headless Chromium, spoken to through its debugging pipe: looks at pages, types, clicks, chooses files."""

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 30

# A browser reads its orders from file descriptor 3 and answers on 4.
AS_3_AND_4 = """
import fcntl, os, sys
orders, answers = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 20) for fd in sys.argv[1:3])
os.dup2(orders, 3)
os.dup2(answers, 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def find_chromium():
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium(profile):
    """A browser with one page, its folder of user data given."""
    to_browser, ours = os.pipe()
    theirs, from_browser = os.pipe()
    command = [find_chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    fds = (to_browser, from_browser)
    shim = [sys.executable, "-c", AS_3_AND_4, *map(str, fds), *command]
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    with subprocess.Popen(shim, pass_fds=fds, **silent) as process:
        for fd in fds:
            os.close(fd)

        with os.fdopen(ours, "wb", 0) as writing, os.fdopen(theirs, "rb", 0) as reading:
            try:
                yield Page(writing, reading)
            finally:
                process.kill()


class Page:
    """One page of a browser."""

    def __init__(self, writing, reading):
        self._writing, self._reading, self._rest, self._sent = writing, reading, b"", 0
        self._session = None
        self.complaints = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        session = {"sessionId": self._session} if self._session else {}
        self._writing.write(json.dumps({**message, **session}).encode() + b"\0")

        while (answer := self._next()).get("id") != self._sent:
            self._note(answer)

        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")

        return answer["result"]

    def go(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)

        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])

        return answer["result"].get("value")

    def wait(self, expression):
        """Ask until an expression is true, also while pages change."""
        deadline = time.monotonic() + PATIENCE

        while time.monotonic() < deadline:
            try:
                if self.js(f"Boolean({expression})"):
                    return
            except RuntimeError:
                pass

            time.sleep(0.03)

        raise TimeoutError(f"never came true: {expression}; the page says {self.text()[:500]}")

    def text(self):
        return self.js("document.body.innerText")

    def type(self, selector, text):
        self.wait(f"document.querySelector({json.dumps(selector)})")
        self.js(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(text)}")

    def click(self, selector):
        """Click on what a page shows; its place may be known before its content."""
        self.wait(f"document.querySelector({json.dumps(selector)})")
        self.js(f"document.querySelector({json.dumps(selector)}).click()")

    def choose_file(self, selector, path):
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _next(self):
        while b"\0" not in self._rest:
            block = self._reading.read(65536)

            if not block:
                raise RuntimeError("the browser is gone")

            self._rest += block

        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, message):
        if message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.complaints.append(message["params"]["entry"])
        elif message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(message["params"])
