"""tests/integration/test_api_operation.py -- what operators use: health, metrics, flags, signals, exit statuses."""
import base64
import hashlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import harness

try:
    from prometheus_client import parser as prometheus
except ImportError:  # another Python than the distribution's: its modules are not searched
    sys.path.append("/usr/lib/python3/dist-packages")
    from prometheus_client import parser as prometheus


class Health(harness.Case):
    def test_live_ready_index(self):
        for path in ("/livez", "/readyz"):
            answer = self.client.get(path)
            self.assertEqual((answer.status, answer.body, answer["Content-Type"]), (200, b"ok\n", "text/plain; charset=utf-8"))
        answer = self.client.get("/")
        self.assertEqual(answer.status, 200)
        for word in (b"whilst", b"/v1/queues", b"/metrics", b"text/html"):
            self.assertIn(word, answer.body)


class Index(harness.Case):
    """What / answers to whom; the page itself: test_dashboard.py."""
    PAGE = ("text/html", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json, TEXT/HTML", "*/*,text/html;q=0.1",
            "text/html ; level=1;q=0.001")
    LIST = (None, "*/*", "", "text/plain", "application/json", "text/*", "text/htmlx", "application/json;x=text/html", "text/html;q=0", "text/html; q=0.000", "text/html;q=0;x=y")

    def test_by_accept(self):
        for accept in self.PAGE + self.LIST:
            answer = self.client.get("/", **({} if accept is None else {"Accept": accept}))
            wanted = "text/html; charset=utf-8" if accept in self.PAGE else "text/plain; charset=utf-8"
            self.assertEqual((answer.status, answer["Content-Type"], answer["Vary"]), (200, wanted, "Accept"), accept)
            self.assertEqual(answer["Link"], None if accept in self.PAGE else '</openapi.json>; rel="service-desc"')

    def test_pages_from_elsewhere(self):
        """By what browsers say of who has them send it: it may look, as far as the browser shows it, and change nothing."""
        for site, status in ((None, 202), ("same-origin", 202), ("none", 202), ("cross-site", 403), ("same-site", 403), ("whatever", 403)):
            headers = {} if site is None else {"Sec-Fetch-Site": site}
            answer = self.client.post(f"/v1/queues/{self.queue}/jobs", b"x", **headers)
            self.assertEqual(answer.status, status, site)
            if status == 403:
                self.assertProblem(answer, 403, "not-allowed")
                self.assertProblem(self.client.put("/v1/queues/other", {}, **headers), 403, "not-allowed")
                self.assertProblem(self.client.delete("/v1/jobs/1", **headers), 403, "not-allowed")
                self.assertProblem(self.client.post(f"/v1/queues/{self.queue}/jobs", bytes(1 << 16), **headers), 403, "not-allowed")
            self.assertEqual(self.client.get("/v1/queues", **headers).status, 200)
        for first, second in (("none", "cross-site"), ("cross-site", "none")):
            head = (f"POST /v1/queues/{self.queue}/jobs HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: {first}\r\n"
                    f"Sec-Fetch-Site: {second}\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx")
            self.assertTrue(harness.raw(self.server.port, head.encode()).startswith(b"HTTP/1.1 403 "), (first, second))
        self.assertEqual(self.client.get(f"/v1/queues/{self.queue}").json()["submitted"], 3)

    def test_the_page(self):
        answer = self.client.get("/", Accept="text/html")
        self.assertLess(len(answer.body), 60 << 10)
        self.assertEqual((answer["X-Content-Type-Options"], answer["X-Frame-Options"], answer["Referrer-Policy"], answer["Cache-Control"], answer["Cross-Origin-Opener-Policy"]),
                         ("nosniff", "DENY", "no-referrer", "no-cache", "same-origin"))
        policy = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
        self.assertEqual((policy["default-src"], policy["frame-ancestors"], policy["base-uri"], policy["form-action"]), ("'none'",) * 4)
        self.assertEqual(policy["connect-src"], "'self'")
        for kind, tag in (("script-src", b"script"), ("style-src", b"style")):
            text = re.search(b"<%s>(.*?)</%s>" % (tag, tag), answer.body, re.DOTALL).group(1)
            digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
            self.assertEqual(policy[kind], f"'sha256-{digest}'")
            self.assertEqual(answer.body.count(b"<" + tag), 1)
        self.assertEqual(re.findall(rb"\bon[a-z]+=|javascript:|(?:src|href)=.?(?:https?:|//)", answer.body), [])
        for tag in (answer["ETag"], "*", '"x", W/' + answer["ETag"]):
            again = self.client.get("/", Accept="text/html", If_None_Match=tag)
            self.assertEqual((again.status, again.body, again["ETag"]), (304, b"", answer["ETag"]))
            self.assertTrue(again["Content-Security-Policy"])
        self.assertEqual(self.client.get("/", Accept="text/html", If_None_Match='"x"').status, 200)
        head = self.client.request("HEAD", "/", Accept="text/html")
        self.assertEqual((head.status, head.body, head["Content-Length"]), (200, b"", str(len(answer.body))))

    def test_without_it(self):
        with harness.Server("--dashboard", "off") as server:
            client = server.client()
            answer = client.get("/", Accept="text/html")
            self.assertEqual((answer.status, answer["Content-Type"]), (200, "text/plain; charset=utf-8"))
            self.assertNotIn(b"text/html", answer.body)
            self.assertTrue(answer.body.endswith(b"for programs\n"))
            client.close()


class Metrics(harness.Case):
    SAMPLE = re.compile(r'^([a-z_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*\})? (-?[0-9.e+-]+|\+Inf|NaN)$')

    def read(self):
        answer = self.client.get("/metrics")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
        samples, families, seen = {}, {}, []
        for line in answer.body.decode().splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                self.assertNotIn(name, families, "one family, once")
                families[name] = kind
                seen.append(name)
            elif not line.startswith("# HELP "):
                match = self.SAMPLE.match(line)
                self.assertTrue(match, line)
                family = re.sub(r"_(bucket|sum|count)$", "", match.group(1))
                family = family if family in families else match.group(1)
                self.assertEqual(seen[-1], family, "samples of a family stand together")
                if families[family] == "counter":
                    self.assertTrue(family.endswith("_total"))
                key = match.group(1) + (match.group(2) or "")
                self.assertNotIn(key, samples)
                samples[key] = float(match.group(3))
        return samples

    def test_counts(self):
        before = self.read()
        for _ in range(3):
            self.client.submit(self.queue)
        self.client.submit(self.queue, Whilst_Commit="async")
        self.client.reserve(self.queue)
        self.client.get("/nowhere")
        after = self.read()
        self.assertEqual(after[f'whilst_jobs_submitted_total{{queue="{self.queue}"}}'], 4)
        self.assertEqual(after[f'whilst_jobs{{queue="{self.queue}",state="ready"}}'], 3)
        self.assertEqual(after[f'whilst_jobs{{queue="{self.queue}",state="running"}}'], 1)
        self.assertGreaterEqual(after['whilst_commits_total{level="local"}'] - before['whilst_commits_total{level="local"}'], 3)
        self.assertGreaterEqual(after['whilst_commits_total{level="async"}'] - before['whilst_commits_total{level="async"}'], 1)
        self.assertGreater(after["whilst_log_flushes_total"], before["whilst_log_flushes_total"])
        self.assertGreater(after["whilst_log_written_bytes_total"], before["whilst_log_written_bytes_total"])
        self.assertEqual(after["whilst_log_flush_seconds_count"], after['whilst_log_flush_seconds_bucket{le="+Inf"}'])
        self.assertGreater(after["whilst_log_flush_seconds_sum"], 0)
        self.assertEqual(after['whilst_http_requests_total{code="404"}'], before.get('whilst_http_requests_total{code="404"}', 0) + 1)
        self.assertGreaterEqual(after["whilst_http_connections"], 1)
        self.assertIn("whilst_log_unsynced_bytes", after)
        self.assertIn('whilst_loop_turn_max_seconds{loop="state"}', after)
        self.assertGreater(after['whilst_operations_total{class="file"}'], 0)
        self.assertGreater(after['whilst_operations_in_flight{class="socket"}'], 0)  # it listens
        self.assertEqual(after['whilst_worker_queued{class="work"}'], 0)
        self.assertTrue(any(key.startswith("whilst_build_info{") for key in after))

    def test_without_queues(self):
        self.client.submit(self.queue)
        every = {line for line in self.client.get("/metrics?queues=true").body.decode().splitlines() if not line.startswith("#")}
        few = self.client.get("/metrics?queues=false").body.decode()
        self.assertTrue(any(line.startswith("whilst_jobs{") for line in every))
        self.assertNotIn("whilst_jobs{", few)
        self.assertNotIn("whilst_jobs_submitted_total", few)
        self.assertIn("whilst_commits_total{", few)
        self.assertProblem(self.client.get("/metrics?queues=some"), 400, "bad-request")
        self.assertProblem(self.client.get("/metrics?nonsense=1"), 400, "bad-request")

    def test_each_is_documented(self):
        """The table of docs/operations.md names what there is, with its type and labels, and nothing else."""
        text = (pathlib.Path(__file__).resolve().parents[2] / "docs/operations.md").read_text(encoding="utf-8")
        documented = {}
        for names, kind in re.findall(r"^\| (`whilst_[^|]*`) \| (gauge|counter|histogram) \|", text, re.MULTILINE):
            for name, labels in re.findall(r"`(\w+)(?:\{([^}]*)\})?`", names):
                self.assertNotIn(name, documented)
                documented[name] = kind, frozenset(filter(None, labels.split(",")))
        with harness.Server("--allow-private-targets", "all") as server:
            client = server.client()
            client.put("/v1/services/s", {"url": "http://127.0.0.1:1/"})
            client.put("/v1/queues/q/target", {"url": "http://127.0.0.1:1/"})
            client.submit("q")
            answer = client.get("/metrics").body.decode()
            client.close()
        there, labels = dict(re.findall(r"^# TYPE (\w+) (\w+)$", answer, re.MULTILINE)), {}
        for name, shown in re.findall(r"^(\w+)(\{.*\})? \S+$", answer, re.MULTILINE):
            family = name if name in there else re.sub(r"_(bucket|sum|count)$", "", name)
            labels.setdefault(family, set()).add(frozenset(re.findall(r'(\w+)="', shown)) - {"le"})
        self.assertEqual({name: kind for name, (kind, _) in documented.items()}, there)
        for name, shown in labels.items():
            self.assertIn(documented[name][1], shown, name)

    def test_each_loop(self):
        """Which one is busy can be told: that of the state, or a thread that speaks HTTP."""
        with harness.Server("--front-threads", "3") as server:
            client = server.client()
            for _ in range(3):
                client.get("/livez")
            figures = dict(re.findall(r"^(whilst_loop_\S+) (\S+)$", client.get("/metrics").body.decode(), re.MULTILINE))
            client.close()
        names = ("turns_total", "wakes_total", "slow_callbacks_total", "turn_max_seconds")
        self.assertEqual(set(figures), {f'whilst_loop_{name}{{loop="{loop}"}}' for name in names for loop in ("state", "http0", "http1", "http2")})
        self.assertGreater(float(figures['whilst_loop_turns_total{loop="state"}']), 0)
        self.assertGreater(sum(float(figures[f'whilst_loop_turns_total{{loop="http{i}"}}']) for i in range(3)), 0)

    def test_buckets_rise(self):
        self.client.submit(self.queue)
        buckets = [(float(re.search(r'le="([^"]+)"', key).group(1)), value) for key, value in self.read().items()
                   if key.startswith("whilst_log_flush_seconds_bucket")]
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual([v for _, v in buckets], sorted(v for _, v in buckets))

    def families(self):
        """The same by the parser of Prometheus's own client for Python."""
        return {family.name: family for family in prometheus.text_string_to_metric_families(self.client.get("/metrics").body.decode())}

    def test_histograms(self):
        """Every histogram is one: buckets rise, the last is the count; and it counts what happens, within its bounds."""
        def count(families, name, **labels):
            (sample,) = [s.value for s in families[name].samples if s.name == name + "_count" and s.labels == labels]
            return sample
        before = self.families()
        jobs = [self.client.submit(self.queue), self.client.submit(self.queue, query="?delay=30ms")]
        self.client.submit(self.queue + "b", Whilst_Commit="async")
        for job in jobs:
            got, lease, _ = self.client.reserve(self.queue, Prefer="wait=20")
            self.assertEqual(got, job)
            time.sleep(0.02)  # it runs for this long
            self.client.complete(job, lease)
        self.client.get("/v1/queues")
        after = self.families()
        grown = {}
        for name, family in after.items():
            if family.type != "histogram":
                continue
            series = {}
            for sample in family.samples:
                labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
                series.setdefault(labels, {}).setdefault(sample.name[len(name):], []).append((sample.labels.get("le"), sample.value))
            for labels, parts in series.items():
                bounds = [float(le) for le, _ in parts["_bucket"]]
                counts = [value for _, value in parts["_bucket"]]
                self.assertEqual((bounds, counts), (sorted(set(bounds)), sorted(counts)), name)
                self.assertEqual((bounds[-1], counts[-1]), (float("inf"), parts["_count"][0][1]), name)
                # the sum lies between what the buckets allow
                low, below = 0, 0
                for i, bound in enumerate(bounds):
                    low += (counts[i] - below) * (bounds[i - 1] if i else 0)
                    below = counts[i]
                self.assertGreaterEqual(parts["_sum"][0][1] * 1.000001, low, name)
                grown[name, labels] = counts[-1] - count(before, name, **dict(labels))
        self.assertGreaterEqual(grown["whilst_commit_seconds", (("level", "local"),)], 4)
        self.assertGreaterEqual(grown["whilst_commit_seconds", (("level", "async"),)], 1)
        self.assertGreaterEqual(grown["whilst_flush_changes", ()], 1)
        self.assertEqual((grown["whilst_job_wait_seconds", ()], grown["whilst_job_run_seconds", ()]), (2, 2))
        # the second worker's wait for the delayed job may be over before it began
        self.assertEqual(grown["whilst_http_request_seconds", (("class", "submit"),)], 3)
        self.assertIn(grown["whilst_http_request_seconds", (("class", "wait"),)], (1, 2))
        self.assertEqual(sum(grown["whilst_http_request_seconds", (("class", c),)] for c in ("work", "wait")), 4)
        self.assertEqual(grown["whilst_http_request_seconds", (("class", "read"),)], 1)
        sums = {name: next(s.value for s in after[name].samples if s.name == name + "_sum") -
                next(s.value for s in before[name].samples if s.name == name + "_sum")
                for name in ("whilst_job_wait_seconds", "whilst_job_run_seconds", "whilst_flush_changes")}
        self.assertGreaterEqual(sums["whilst_job_run_seconds"], 0.038)
        self.assertGreaterEqual(sums["whilst_flush_changes"], 4)

    def test_promtool(self):
        """Prometheus's own checker, where it is installed."""
        if shutil.which("promtool"):
            done = subprocess.run(["promtool", "check", "metrics"], input=self.client.get("/metrics").body, capture_output=True,
                                  timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_queue_series_are_capped(self):
        for i in range(1100):
            self.client.put(f"/v1/queues/capped{i}", {})
        queues = {re.search(r'queue="([^"]+)"', key).group(1) for key in self.read() if "queue=" in key}
        self.assertLessEqual(len(queues), 1001)
        self.assertIn("(other)", queues)


class Flags(unittest.TestCase):
    def test_help(self):
        run = subprocess.run([harness.BINARY, "serve", "--help"], capture_output=True, text=True, timeout=60)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        for flag in ("--listen", "--data", "--service", "--max-payload", "--max-wait", "--queues", "--engine", "--config"):
            self.assertIn(flag, run.stdout)

    def test_several_addresses_and_unix(self):
        folder = tempfile.mkdtemp(prefix="whilst-unix-")
        try:
            with harness.Server("--listen", f"unix:{folder}/socket", "--listen", "[::1]:0" if socket.has_ipv6 and
                                os.path.exists("/proc/net/if_inet6") else "127.0.0.1:0") as server:
                for line in (server.addresses,):
                    self.assertIn("unix:", line)
                with socket.socket(socket.AF_UNIX) as s:
                    s.settimeout(harness.DEADLINE)
                    s.connect(f"{folder}/socket")
                    s.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                    answer, _ = harness.read_answer(s)
                    self.assertEqual(answer.body, b"ok\n")
        finally:
            harness.shutil.rmtree(folder, ignore_errors=True)

    def test_environment_and_file(self):
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as f:
            f.write("# a comment\n\nmax-payload = 10\nqueues = declared\nservice = a=http://127.0.0.1:1\n"
                    "service = b=http://127.0.0.1:2\n")
            f.flush()
            with harness.Server("--config", f.name, env={"WHILST_MAX_PAYLOAD": "20"}) as server:
                client = server.client()
                self.assertEqual(client.post("/v1/queues/q/jobs", b"x").status, 404)
                client.put("/v1/queues/q", {})
                self.assertEqual(client.post("/v1/queues/q/jobs", b"x" * 20).status, 202, "the environment beats the file")
                self.assertEqual(client.post("/v1/queues/q/jobs", b"x" * 21).status, 413)
                self.assertEqual(len(client.get("/v1/services").json()["services"]), 2)
                client.close()
            with harness.Server("--config", f.name, "--max-payload", "30", env={"WHILST_MAX_PAYLOAD": "20"}) as server:
                client = server.client()
                client.put("/v1/queues/q", {})
                self.assertEqual(client.post("/v1/queues/q/jobs", b"x" * 30).status, 202, "a flag beats both")
                client.close()
        for text in ("nonsense = 1\n", "max-payload 10\n", "max-payload = x\n"):
            with tempfile.NamedTemporaryFile("w") as f:
                f.write("\n" + text)
                f.flush()
                run = subprocess.run([harness.BINARY, "serve", "--config", f.name], capture_output=True, text=True, timeout=60)
                self.assertEqual(run.returncode, 2)
                self.assertIn(f"{f.name}:2", run.stderr)

    def test_log_lines(self):
        with harness.Server() as server:
            pass
        lines = server.log().splitlines()
        self.assertTrue(lines)
        for line in lines:
            self.assertRegex(line, r"^ts=\S+Z lvl=(debug|info|warn|error) ev=\S+( [a-z_]+=(\S+|\"(?:[^\"\\]|\\.)*\"))*$")


class Signals(unittest.TestCase):
    def test_one_line_on_stdout(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            server = harness.Server()
            server.process.send_signal(number)
            self.assertEqual(server.wait(), 0)
            self.assertEqual(server.rest, "")
            server.remove()

    def test_dump(self):
        with harness.Server() as server:
            server.process.send_signal(signal.SIGUSR2)
            harness.eventually(lambda: re.search(r'^loop \d+ "whilst", engine .*\n(  .*\n)*  (accept|http) ', server.log(), re.M),
                               "the dump")

    def test_drain_answers_who_waits(self):
        server = harness.Server()
        client = server.client()
        job = client.submit("q")
        client.reserve("q")
        answers = {}

        def wait(name, method, path):
            answers[name] = server.client().request(method, path, Prefer="wait=100")
        threads = [threading.Thread(target=wait, args=args) for args in
                   (("poll", "GET", f"/v1/jobs/{job}"), ("result", "GET", f"/v1/jobs/{job}/result"),
                    ("reserve", "POST", "/v1/queues/q/reserve"), ("submit", "POST", "/v1/queues/q2/jobs"))]
        for t in threads:
            t.start()
        # each of the four is counted as received once it is parked
        harness.eventually(lambda: client.get("/v1/queues/q2").status == 200, "the submit")
        requests = re.compile(r"whilst_http_parked (\d+)")
        harness.eventually(lambda: requests.search(client.get("/metrics").body.decode()).group(1) == "4", "four parked")
        server.process.send_signal(signal.SIGTERM)
        for t in threads:
            t.join()
        self.assertEqual((answers["poll"].status, answers["poll"].json()["state"]), (200, "running"))
        self.assertEqual(answers["result"].status, 409)
        self.assertEqual((answers["reserve"].status, answers["reserve"].json()["code"]), (503, "draining"))
        self.assertEqual(answers["submit"].status, 202)
        self.assertEqual(server.wait(), 0, server.log())
        server.remove()

    def test_second_signal_ends_at_once(self):
        import backend
        slow = backend.Backend()
        server = harness.Server()
        client = server.client()
        client.put("/v1/services/s", {"url": slow.url})
        client.post("/call/s/gate", b"x", Prefer="respond-async")
        harness.eventually(lambda: slow.calls, "the call")
        server.process.send_signal(signal.SIGTERM)
        harness.eventually(lambda: "ev=drain" in server.log(), "the first")
        self.assertIsNone(server.process.poll())
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 0, server.log())
        slow.stop()
        server.remove()


if __name__ == "__main__":
    harness.main()
