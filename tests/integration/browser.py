"""tests/integration/browser.py -- a real browser without a screen: Debian's chromium-headless-shell, or another Chromium, spoken to over a pipe.

The DevTools protocol as JSON documents with a NUL behind each, on the browser's descriptors 3 and 4: nothing listens. What it finds wrong with a
page is kept in Page.complaints: errors on the console, exceptions, violations of a policy; where it went in Page.requested.
"""
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
DEADLINE = float(os.environ.get("WHILST_TEST_DEADLINE", "20")) * 3
FLAGS = ["--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server", "--disable-sync",
         "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--mute-audio",
         "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]


def find():
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="whilst-browser-")
        theirs_in, self.to = os.pipe()
        self.back, theirs_out = os.pipe()
        inherited = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (theirs_in, theirs_out)]

        def place():
            os.dup2(inherited[0], 3)
            os.dup2(inherited[1], 4)
        with open(self.folder + "/stderr", "wb") as said:
            self.process = subprocess.Popen([find(), *FLAGS, "--user-data-dir=" + self.folder, "about:blank"], preexec_fn=place, pass_fds=(3, 4), start_new_session=True,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
                                            env={"PATH": os.environ["PATH"], "HOME": self.folder, "LANG": "C.UTF-8"})
        for fd in (theirs_in, theirs_out, *inherited):
            os.close(fd)
        self.buffered, self.number, self.answers, self.pages = b"", 0, {}, {}

    def receive(self, until):
        """One document is waited for and dealt with."""
        while b"\0" not in self.buffered:
            ready, _, _ = select.select([self.back], [], [], max(0, until - time.monotonic()))
            chunk = os.read(self.back, 1 << 20) if ready else b""
            if not chunk:
                with open(self.folder + "/stderr", encoding="utf-8", errors="replace") as said:
                    raise AssertionError("the browser says nothing more: " + said.read()[-2000:])
            self.buffered += chunk
        text, self.buffered = self.buffered.split(b"\0", 1)
        document = json.loads(text)
        if "id" in document:
            self.answers[document["id"]] = document
        elif document.get("sessionId") in self.pages:
            self.pages[document["sessionId"]].on_event(document["method"], document["params"])

    def command(self, method, session=None, **params):
        self.number += 1
        number = self.number
        os.write(self.to, json.dumps({"id": number, "method": method, "params": params, **({"sessionId": session} if session else {})}).encode() + b"\0")
        until = time.monotonic() + DEADLINE
        while number not in self.answers:
            self.receive(until)
        answer = self.answers.pop(number)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def page(self, **media):
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            page.command(domain + ".enable")
        if media:
            page.command("Emulation.setEmulatedMedia", features=[{"name": name.replace("_", "-"), "value": value} for name, value in media.items()])
        return page

    def close(self):
        os.close(self.to)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        while os.read(self.back, 1 << 20):  # until all of its processes have gone
            pass
        os.close(self.back)
        shutil.rmtree(self.folder, ignore_errors=True)


class Page:
    def __init__(self, browser, session, target):
        self.browser, self.session, self.target = browser, session, target
        self.complaints, self.requested = [], []

    def command(self, method, **params):
        return self.browser.command(method, self.session, **params)

    def on_event(self, method, params):
        if method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append([argument.get("value", argument.get("description")) for argument in params["args"]])
        elif method == "Audits.issueAdded":
            self.complaints.append(params["issue"])
        elif method == "Log.entryAdded" and params["entry"]["source"] != "network":  # what the server refuses is said there, too
            self.complaints.append(params["entry"])
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(params)

    def open(self, url):
        self.command("Page.navigate", url=url)
        self.eventually("document.readyState === 'complete'")

    def run(self, script):
        """The value of an expression."""
        result = self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in result, (script, result)
        return result["result"].get("value")

    def eventually(self, script, value=None):
        """The value once it is this one, or, if none is given, once it is something."""
        until = time.monotonic() + DEADLINE
        while True:
            got = self.run(script)
            if got == value if value is not None else got:
                return got
            assert time.monotonic() < until, f"{script} is {got!r} still; {self.text()[:3000]}\n{self.complaints}"

    def text(self):
        return self.run("document.body ? document.body.innerText : ''")

    def shows(self, text):
        return self.eventually(f"document.body.innerText.includes({json.dumps(text)})")

    def click(self, script):
        """A real click on the element that the expression gives, once it is there and can be clicked. Where it stands may change meanwhile: what is hit
        instead does not learn of it, and it is tried again."""
        ready = f"""(() => {{
            const e = {script};
            if (!e || e.disabled) return null;
            e.scrollIntoView({{block: "center"}});
            const r = e.getBoundingClientRect();
            window.clicked = undefined;
            window.addEventListener("click", (event) => {{
                window.clicked = e.contains(event.target);
                if (!window.clicked) event.preventDefault(), event.stopImmediatePropagation();
            }}, {{capture: true, once: true}});
            return [r.x + r.width / 2, r.y + r.height / 2];
        }})()"""
        while True:
            x, y = self.eventually(ready)
            for kind in ("mousePressed", "mouseReleased"):
                self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
            if self.run("window.clicked"):
                return

    def click_button(self, label, within="document"):
        self.click(f"[...{within}.querySelectorAll('button')].find((b) => b.textContent === {json.dumps(label)})")

    def write(self, text):
        """Into what has the focus."""
        self.command("Input.insertText", text=text)

    def key(self, name, code):
        for kind in ("rawKeyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)
        if name == "Enter":
            self.command("Input.dispatchKeyEvent", type="char", text="\r", key=name)
