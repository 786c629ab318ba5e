#!/usr/bin/env python3
"""tests/integration/test_documents.py -- what README.md and docs/ show is so: every block of code there is run or judged, here or by a test that is named here.

A block is known by its page and its first line. One that nobody has answered for fails test_every_block_is_answered_for: show that it is true. Blocks that
scripts/reference takes from examples/ are not concerned, nor is the reference of libwhilst. Ports and folders in commands are those of the test.
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import unittest
import http.server

import browser
import harness
import openapi
from test_client_examples import Worker
from test_guide_events import PAGES

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.path.abspath(harness.BINARY)).parents[1]

# (page, beginning of the block): the test that runs it
ELSEWHERE = {
    ("README.md", "git clone"): "tests/integration/test_demo.py",
    ("README.md", "whilst serve"): "tests/integration/test_readme.py",
    ("README.md", "whilst schedule put"): "tests/integration/test_readme.py",
    ("docs/reference/http.md", "curl "): "tests/integration/test_readme.py",
    ("docs/reference/http.md", "POST /done"): "tests/integration/test_callbacks.py",
    ("docs/observability.md", "slow callback:"): "tests/conformance/test_inside.c",
    ("docs/observability.md", 'loop 1 "api"'): "tests/conformance/test_inside.c",
    ("docs/observability.md", "wh_dump_on_signal("): "tests/conformance/test_inside.c",
    ("docs/packaging.md", "meson setup"): "tests/integration/installed/run",
    ("docs/packaging.md", "whilst_dep ="): "tests/integration/installed/run",
    ("docs/guide/fetch.md", "$ fetch"): "tests/integration/test_examples.py",
    ("docs/guide/tls-proxy.md", "openssl req"): "tests/integration/test_examples.py",
    ("docs/guide/transactions.md", "echo "): "tests/integration/test_guide_events.py",
}
# what is drawn, not done: layouts, arrows
DRAWN = {("docs/format-log.md", "block 0"), ("docs/format-log.md", "   E = the highest"), ("docs/reference/batch.md", "item   ="), ("CONTRIBUTING.md", "src/base  <-"),
         ("docs/design/front-threads.md", "  thread \"whilst/http0\"")}


def pages():
    skip = ROOT / "docs/reference/libwhilst"
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(page for page in sorted((ROOT / "docs").rglob("*.md")) if skip not in page.parents)]


def blocks(page):
    """(language, text) of each that is not taken from examples/."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for comment, language, block in re.findall(r"(<!-- code: [^>]*-->\n)?^ *```(\w*)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        if not comment:
            yield language, block


def block(page, begin):
    return next(text for _, text in blocks(page) if text.lstrip().startswith(begin))


ANSWERED = {}


def shows(page, *begins):
    def known(test):
        for begin in begins:
            ANSWERED[page, begin] = test.__name__
        return test
    return known


class Documents(harness.Case):
    ARGS = ("--allow-private-targets", "all")

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="whilst-documents-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        os.symlink(os.path.abspath(harness.BINARY), self.folder / "whilst")
        self.environment = {**os.environ, "WHILST_SERVER": f"http://127.0.0.1:{self.server.port}", "PATH": f"{self.folder}:{BUILD}/examples:{os.environ['PATH']}"}

    def bash(self, commands, status=0):
        commands = commands.replace("127.0.0.1:4480", f"127.0.0.1:{self.server.port}")
        done = subprocess.run(["bash", "-c", "set -e -o pipefail; trap 'set +e; kill $(jobs -p) 2>/dev/null; wait' EXIT\n" + commands], cwd=self.folder, env=self.environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.DEADLINE * 5, check=False)
        self.assertEqual(done.returncode, status, (commands, done.stdout, done.stderr))
        return done.stdout

    # ---- the server ----

    @shows("docs/operations.md", "whilst: listening")
    def test_the_line_of_a_server_that_is_ready(self):
        self.assertRegex(block("docs/operations.md", "whilst: listening").rstrip("\n"), harness.READY)

    @shows("README.md", "curl -i --data hello")
    def test_the_demonstration_from_outside(self):
        begin, wait = block("README.md", "curl -i --data hello").splitlines()
        self.assertTrue(wait.endswith("| gunzip"))
        printed = self.bash(f"whilst work gzip -- gzip -9 & \n{begin}\n{wait}")
        self.assertRegex(printed, r"^HTTP/1.1 202 (?s:.*)Location: /v1/jobs/\d+\n(?s:.*)\nhello$")

    def dead_letters(self):
        self.bash("whilst queue put mail --dead-letter mail.dead --attempts 1 >/dev/null")
        jobs = []
        for error in (b"connection refused", b"connection refused", b"no such user"):
            jobs.append(self.client.submit("mail"))
            _, lease, _ = self.client.reserve("mail", Prefer="wait=20")
            self.assertTrue(self.client.post(f"/v1/jobs/{jobs[-1]}/fail", error, Whilst_Lease=lease).json()["dead"])
        return jobs

    def clear(self):
        for queue in ("mail", "mail.dead", "mail.review"):
            self.client.post(f"/v1/queues/{queue}/purge")
            self.client.post(f"/v1/queues/{queue}/purge?state=cancelled")

    @shows("docs/operations.md", "whilst queue jobs mail.dead")
    def test_dead_letters(self):
        self.clear()
        jobs = self.dead_letters()
        commands = block("docs/operations.md", "whilst queue jobs mail.dead").splitlines()
        self.assertEqual(len(commands), 5)
        listed = self.bash(commands[0])
        self.assertEqual([str(job) in listed for job in jobs], [True, True, False])
        self.bash(commands[1])
        self.assertEqual([self.client.get(f"/v1/jobs/{job}").json()["queue"] for job in jobs], ["mail", "mail", "mail.dead"])
        self.assertIn(" --id 4711 ", commands[2])
        self.bash(commands[2].replace("4711", str(jobs[2])))
        self.assertEqual(self.client.get(f"/v1/jobs/{jobs[2]}").json()["queue"], "mail")
        self.clear()
        jobs = self.dead_letters()
        self.assertIn("--older 7d", commands[3])
        self.bash(commands[3])
        self.assertEqual(self.client.get(f"/v1/jobs/{jobs[0]}").json()["queue"], "mail.dead", "it is not that old")

        def moved():
            self.bash(commands[3].replace("7d", "1ms"))
            return self.client.get(f"/v1/jobs/{jobs[0]}").json()["queue"] == "mail.review"
        harness.eventually(moved, "the move")
        self.clear()
        jobs = self.dead_letters()
        self.bash(commands[4])
        self.assertEqual({self.client.get(f"/v1/jobs/{job}").json()["state"] for job in jobs}, {"cancelled"})

    @shows("docs/reference/command-line.md", "whilst queue jobs mail.dead")
    def test_dead_letters_in_the_reference(self):
        self.clear()
        jobs = self.dead_letters()
        self.bash(block("docs/reference/command-line.md", "whilst queue jobs mail.dead"))
        self.assertEqual([self.client.get(f"/v1/jobs/{job}").json()["queue"] for job in jobs], ["mail", "mail", "mail.dead"])

    @shows("docs/operations.md", "whilst log repair DIR")
    def test_repair(self):
        look, repair, serve = block("docs/operations.md", "whilst log repair DIR").splitlines()
        self.assertRegex(repair, r"--skip +# or --cut$")
        for choice, kept in (("--skip", 2), ("--cut", 0)):
            data = str(self.folder / ("data" + choice))
            with harness.Server(data=data) as server:
                client = server.client()
                for _ in range(2):
                    client.submit("kept")
                client.close()
            with open(data + "/seg-0000000000000000.log", "r+b") as segment:
                segment.seek(8192 + 100)
                segment.write(b"?")
            self.refuses(data)
            self.assertIn(f"{choice} would keep {kept} jobs", self.bash(look.replace("DIR", data), status=3))
            self.bash(repair.replace("DIR", data).replace("--skip", choice))
            self.assertEqual(serve.split(), ["whilst", "serve", "--data", "DIR"])
            with harness.Server(data=data) as server:
                client = server.client()
                queues = {queue["name"]: queue["jobs"]["ready"] for queue in client.get("/v1/queues").json()["queues"]}
                self.assertEqual(queues.get("kept", 0), kept)
                client.close()

    def refuses(self, data):
        server = harness.Server(data=data, start=False)
        server.spawn()
        self.assertEqual(server.wait(), 3)

    # ---- the HTTP interface ----

    REQUESTS = [('{"actions"', "POST", "/v1/transactions", 409), ('{"url": "https://example.com/hook"', "PUT", "/v1/queues/documents/target", 201),
                ('{"queue": "mail", "filters"', "PUT", "/v1/topics/documents/subscriptions/s", 201),
                ('{"group": "partitionkey"', "PUT", "/v1/topics/documents/subscriptions/keys", 201), ('{"cron"', "PUT", "/v1/schedules/documents", 201),
                ('{"every"', "PUT", "/v1/schedules/stock", 201),
                ('{"url": "http://127.0.0.1:9000/base"', "PUT", "/v1/services/documents", 201)]

    @shows("docs/reference/http.md", *(begin for begin, *_ in REQUESTS))
    def test_requests(self):
        with harness.Server() as server:
            client = server.client()
            self.assertEqual(client.put("/v1/topics/orders", {}).status, 201)
            for begin, method, path, status in self.REQUESTS:
                answer = client.request(method, path, block("docs/reference/http.md", begin), Content_Type="application/json")
                self.assertEqual(answer.status, status, answer)
                if status == 409:  # it was understood; there is no such job
                    self.assertEqual((answer.json()["code"], answer.json()["action"], answer.json()["cause"]), ("action-refused", 0, "unknown-job"))
            client.close()

    ANSWERS = [('{"id": 17, "queue": "mail", "state": "ready"', "POST", "/v1/queues/q/jobs", "202"), ('{"id": 17, "queue": "mail", "state": "running", "duplicate"', "POST", "/v1/queues/q/jobs", "202"),
               ('{"id": 17, "queue": "mail", "state": "done"', "GET", "/v1/jobs/17", "200"), ('{"results"', "POST", "/v1/transactions", "200"),
               ('{"topic": "orders", "id"', "POST", "/v1/topics/orders/events", "202"),
               ('{"topic": "orders", "id": "A234", "event": "3/81921", "jobs": 0', "POST", "/v1/topics/orders/events", "202"), ('{"next"', "GET", "/v1/schedules/report", "200")]

    @shows("docs/reference/http.md", *(begin for begin, *_ in ANSWERS))
    def test_answers(self):
        """As openapi.json describes them, to which the answers of all tests are held."""
        for begin, method, path, status in self.ANSWERS:
            shown = json.loads(block("docs/reference/http.md", begin).replace(", …]", "]"))
            _, operation = openapi.DESCRIPTION.operation(method, path)
            schema = openapi.resolve(openapi.DESCRIPTION.document, operation["responses"][status])["content"]["application/json"]["schema"]
            schema = openapi.resolve(openapi.DESCRIPTION.document, schema)
            if begin == '{"next"':
                schema = {**schema, "required": [], "oneOf": [{}]}  # a part of it
            self.assertIsNone(openapi.DESCRIPTION.validate(schema, shown), shown)

    def names(self, shown):
        return re.findall(r"^([\w-]+): ", shown, re.MULTILINE)

    @shows("docs/reference/http.md", "Whilst-Job: 17")
    def test_fields_of_a_lease(self):
        self.client.submit(self.queue)
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve")
        self.assertEqual([name for name in answer.headers if name.startswith("Whilst-") and name != "Whilst-Position" and name != "Whilst-Commit"],
                         self.names(block("docs/reference/http.md", "Whilst-Job: 17")))

    @shows("docs/reference/http.md", "Whilst-Event: 3/81921")
    def test_field_of_an_event(self):
        self.client.put("/v1/topics/orders/subscriptions/s", {"queue": self.queue})
        self.client.post("/v1/topics/orders/events", b"x")
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve")
        for name in self.names(block("docs/reference/http.md", "Whilst-Event: 3/81921")):
            self.assertRegex(answer[name], r"^\d+/\d+$")

    @shows("docs/reference/http.md", "Whilst-Schedule: report")
    def test_fields_of_a_schedule(self):
        self.client.put("/v1/schedules/often", {"every": "1s", "job": {"queue": self.queue, "payload": "x"}})
        answer = self.client.post(f"/v1/queues/{self.queue}/reserve", Prefer="wait=60")
        for name, value in re.findall(r"^([\w-]+): (.*)$", block("docs/reference/http.md", "Whilst-Schedule: report"), re.MULTILINE):
            self.assertEqual(re.sub(r"\d", "0", answer[name]), re.sub(r"\d", "0", value.replace("report", "often")))
        self.client.delete("/v1/schedules/often")

    @shows("docs/reference/http.md", "Whilst-Queue: mail")
    def test_fields_of_a_push(self):
        seen, come = [], threading.Event()

        class Target(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                seen.append(self.headers)
                self.send_response(204)
                self.end_headers()
                come.set()

            def log_message(self, *args):
                pass
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Target) as target:
            thread = threading.Thread(target=target.serve_forever)
            thread.start()
            try:
                self.client.put(f"/v1/queues/{self.queue}/target", {"url": f"http://127.0.0.1:{target.server_port}/"})
                self.client.submit(self.queue)
                self.assertTrue(come.wait(60))
            finally:
                target.shutdown()
                thread.join()
        for name in self.names(block("docs/reference/http.md", "Whilst-Queue: mail")):
            self.assertIsNotNone(seen[0][name], name)

    @shows("docs/guide/events.md", "const shop")
    def test_events_in_a_browser(self):
        if not browser.find():
            self.skipTest("there is no browser")
        self.client.put("/v1/topics/shop", {"retention": "1h"})
        self.client.post("/v1/topics/shop/events?type=first", b"x")
        chromium = browser.Browser()
        try:
            page = chromium.page()
            page.open(f"http://127.0.0.1:{self.server.port}/livez")
            page.run("window.shown = []; window.show = (event) => shown.push(event.type); window.startAnew = () => {}; void 0")
            page.run(block("docs/guide/events.md", "const shop") + "void 0")
            page.eventually("shown.join()", "first")
            self.client.post("/v1/topics/shop/events?type=second", b"x")
            page.eventually("shown.join()", "first,second")
            self.assertEqual(page.complaints, [])
        finally:
            chromium.close()

    # ---- the library ----

    @shows("docs/guide/calls.md", "$ whilst serve")
    def test_work_handed_over(self):
        serve, worker, working, hand_over, *printed = block("docs/guide/calls.md", "$ whilst serve").splitlines()
        self.assertEqual((serve, working), ("$ whilst serve --data /tmp/jobs &", "working"))
        self.assertEqual(worker, "$ worker capitals &")
        address = f"http://127.0.0.1:{self.server.port}"
        with Worker(address, "capitals"):
            said = self.bash(hand_over.removeprefix("$ ").replace(" capitals", f" --server {address} capitals") + " 2>&1")
        self.assertEqual(said.splitlines(), printed)

    @shows("docs/testing-with-sim.md", "$ sim_counter")
    def test_mistakes_that_seeds_find(self):
        shown = block("docs/testing-with-sim.md", "$ sim_counter").splitlines()
        for command, said in zip(shown[::2], shown[1::2]):
            program, *arguments = command.removeprefix("$ ").split()
            done = subprocess.run([BUILD / "tests/sim" / program, *arguments], capture_output=True, text=True, timeout=200, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(said, (done.stdout + done.stderr).splitlines())

    @shows("docs/design/simulation.md", "WHILST_SIM_PLAN=")
    def test_a_plan(self):
        plan, program = block("docs/design/simulation.md", "WHILST_SIM_PLAN=").split()
        name, value = plan.split("=")
        done = subprocess.run([BUILD / program.removeprefix("build/")], env={**os.environ, name: value}, capture_output=True, text=True, timeout=200, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def compile(self, text):
        source = self.folder / "block.c"
        source.write_text(text, encoding="utf-8")
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        done = subprocess.run([compiler, "-std=gnu17", "-fsyntax-only", "-Werror", "-I", ROOT / "include", source], capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stderr + text)

    @shows("docs/testing-with-sim.md", "#include <whilst/sim.h>")
    def test_a_first_simulation_compiles(self):
        text = block("docs/testing-with-sim.md", "#include <whilst/sim.h>")
        head, _, rest = text.partition("\n")
        self.compile(f"{head}\n#include <whilst/whilst.h>\nvoid my_server_start(wh_loop *loop);\nvoid test(unsigned long seed);\nvoid test(unsigned long seed)\n{{{rest}}}\n")

    @shows("docs/design/coroutines.md", "static int64_t greet")
    def test_a_task_compiles(self):
        body, last = block("docs/design/coroutines.md", "static int64_t greet").rsplit("\n}\n", 1)
        self.compile("#include <whilst/whilst.h>\n#include <whilst/task.h>\n#include <whilst/socket.h>\n" + body.replace("...", "return res.n;") +
                     "\n}\nvoid start(wh_loop *loop, int fd);\nvoid start(wh_loop *loop, int fd)\n{\n" + last + "(void)f;\n}\n")

    @shows("docs/observability.md", "# how long operations take")
    def test_probes(self):
        """The table names those that the library has, with as many arguments as they have; the script uses these."""
        text = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
        table = {name: len(arguments.split(",")) for name, arguments in re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", text.partition("## Static probes")[2], re.MULTILINE)}
        library = BUILD / "src/libwhilst.so"
        notes = subprocess.run(["readelf", "-n", "-W", library], capture_output=True, text=True, check=True, timeout=100).stdout if library.exists() else ""
        there = {name: len(re.sub(r"\[[^]]*\]|\([^)]*\)", "", arguments).split()) for name, arguments in re.findall(r"Name: (\w+)\n.*\n +Arguments: (.*)", notes)}
        if there:  # built as a shared library, with <sys/sdt.h>
            self.assertEqual(table, there)
        script = block("docs/observability.md", "# how long operations take")
        for probe in re.findall(r"usdt:\*:whilst:(\w+)", script):
            used = re.search(rf":{probe}.*?\{{(.*?)\}}", script, re.DOTALL).group(0)
            self.assertLess(max(map(int, re.findall(r"\barg(\d)", used))), table[probe])

    # ---- the project ----

    @shows("README.md", "make test")
    @shows("CONTRIBUTING.md", "make              build")
    @shows("docs/reliability.md", "make torture")
    def test_what_is_made(self):
        """Each `make TARGET VARIABLE=…` of the pages, in blocks and in the text, is one; and each program that stands beside them is there."""
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        targets, count = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)), 0
        for page in pages():
            text = page.read_text(encoding="utf-8")
            code = "\n".join([*(t for _, t in blocks(page)), *re.findall(r"`([^`\n]+)`", text)])
            for target, variables in re.findall(r"\bmake ([a-z][a-z-]+)((?: [A-Z_]+=\S+)*)", code):
                self.assertIn(target, targets, page)
                for variable in re.findall(r"([A-Z_]+)=", variables):
                    self.assertIn(variable, makefile + (ROOT / "scripts" / target).read_text(encoding="utf-8") if (ROOT / "scripts" / target).exists() else makefile, page)
                count += 1
        self.assertGreater(count, 15)
        for line in block("docs/reliability.md", "make torture").splitlines():
            if not line.startswith("make "):
                self.assertTrue(os.access(ROOT / line.split()[0], os.X_OK), line)

    @shows("docs/design/testing.md", "tests/sim/mutations --jobs")
    def test_options_of_mutations(self):
        for line in block("docs/design/testing.md", "tests/sim/mutations --jobs").splitlines():
            program, *arguments = shlex.split(line, comments=True)
            done = subprocess.run([ROOT / program, *arguments, "--check"], capture_output=True, text=True, timeout=100, check=False)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), line)

    def test_options_of_the_build(self):
        known = set(re.findall(r"option\('(\w+)'", (ROOT / "meson_options.txt").read_text(encoding="utf-8"))) | {"default_library", "pkgconfig.relocatable", "b_lto", "optimization"}
        named = re.findall(r"`-D([\w.]+)=", (ROOT / "docs/packaging.md").read_text(encoding="utf-8"))
        self.assertGreater(len(named), 8)
        self.assertEqual([name for name in named if name not in known], [])

    def test_settings(self):
        """The table of settings is that of the program, with its defaults."""
        shown = dict(re.findall(r"^# default\n(?:# )?([a-z-]+) = ?(.*)$", self.bash("env -i PATH=$PATH whilst config check"), re.MULTILINE))
        rows = re.search(r"^\| setting \|.*?\n\n", (ROOT / "docs/operations.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE).group(0)
        table = {}
        for names, default in re.findall(r"^\| (`[^|]+`) \|.*\|([^|]*)\|$", rows, re.MULTILINE):
            for name in re.findall(r"`([a-z-]+)`", names):
                table[name] = default.strip().strip("`")
        self.assertEqual(set(table), set(shown))
        for name, default in table.items():
            if default and default != "none" and shown[name] and not shown[name].startswith("/"):
                same = subprocess.run([harness.BINARY, "config", "check", f"--{name}", default], capture_output=True, text=True, timeout=60, check=False, env={})
                self.assertIn(f"# flag\n{name} = {shown[name]}\n", same.stdout, (name, default, shown[name]))


class Census(unittest.TestCase):
    """Needs no server."""

    def test_every_block_is_answered_for(self):
        known, used, unknown = {**ANSWERED, **ELSEWHERE, **dict.fromkeys(DRAWN, "")}, set(), []
        for page in pages():
            name = str(page.relative_to(ROOT))
            for language, text in blocks(page):
                keys = [key for key in known if key[0] == name and (text if key[1][0] == " " else text.lstrip()).startswith(key[1])]
                used.update(keys)
                in_session = language == "console" and name.removeprefix("docs/") in PAGES
                if not keys and not in_session:
                    unknown.append((name, language, text.splitlines()[0]))
        self.assertEqual(unknown, [], "see the head of this file")
        self.assertEqual(set(known) - used, set(), "no such block any more")
        for test in ELSEWHERE.values():
            self.assertTrue((ROOT / test).exists(), test)


if __name__ == "__main__":
    harness.main()
