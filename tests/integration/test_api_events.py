"""tests/integration/test_api_events.py -- event streams of jobs and queues: nothing missed, nothing twice, and said so where something is."""
import json
import os
import random
import subprocess
import threading

import harness
import sse

ROUNDS = int(os.environ.get("WHILST_TEST_ROUNDS", "60"))


class Jobs(harness.Case):
    def stream(self, job, last="", **headers):
        s = sse.Stream(self.server.port, f"/v1/jobs/{job}", last, **headers)
        self.addCleanup(s.close)
        return s

    def test_fields_of_a_stream(self):
        """Nobody between gathers it, stores it, or takes it for one that has a length."""
        job = self.client.submit(self.queue)
        self.client.put(f"/v1/topics/{self.queue}", {"retention": "1h"})
        for path in (f"/v1/jobs/{job}", "/v1/queues", f"/v1/queues/{self.queue}/events", "/v1/log", f"/v1/topics/{self.queue}/events"):
            s = sse.Stream(self.server.port, path, "")
            self.addCleanup(s.close)
            self.assertTrue(s.head["content-type"].startswith("text/event-stream"), path)
            self.assertEqual((s.head["cache-control"], s.head["x-accel-buffering"]), ("no-store", "no"), path)
            self.assertNotIn("content-length", s.head)

    def test_a_life(self):
        job = self.client.submit(self.queue, b"hello", "?attempts=2")
        s = self.stream(job)
        self.assertEqual((s.head["cache-control"], s.head["vary"]), ("no-store", "Accept"))
        name, data, _ = s.event()
        self.assertEqual((name, data["state"], s.retry), ("state", "ready", 1000))
        self.assertEqual(data, self.client.get(f"/v1/jobs/{job}").json())
        _, lease, _ = self.client.reserve(self.queue, Whilst_Commit="local")
        name, data, _ = s.event()
        self.assertEqual((name, data["state"], data["attempts"]), ("state", "running", 1))
        # what a worker says may have lines: they arrive as it said them
        for progress in (b'{"done": 1,\n"of":\r\n2}', b"[2]"):
            self.client.post(f"/v1/jobs/{job}/progress", progress, Whilst_Lease=lease)
            name, data, _ = s.event()
            self.assertEqual((name, data["progress"]), ("progress", json.loads(progress)))
        self.client.post(f"/v1/jobs/{job}/fail?delay=0s", b"no", Whilst_Lease=lease)
        name, data, _ = s.event()
        self.assertEqual((name, data["state"], data["errors"][0]["message"]), ("state", "ready", "no"))
        _, lease, _ = self.client.reserve(self.queue, Whilst_Commit="local")
        self.assertEqual(s.event()[1]["state"], "running")
        self.client.delete(f"/v1/jobs/{job}")
        name, data, _ = s.event()
        self.assertEqual((name, data["cancel_requested"]), ("state", True))
        self.client.complete(job, lease)
        name, data, last = s.event()
        self.assertEqual((name, data["state"]), ("end", "cancelled"))
        self.assertIsNone(s.event(), "it ends there")
        # a client that connects again by itself is told to stop
        with self.assertRaises(sse.Refused) as refused:
            self.stream(job, last)
        self.assertEqual(refused.exception.status, 204)
        # and one that does not say what it has gets the end again
        self.assertEqual([e[:2] for e in self.stream(job).rest()], [("end", data)])

    def test_cut_off(self):
        """Whoever has an event does not get it again; whoever has an older one gets the newest."""
        job = self.client.submit(self.queue)
        s = self.stream(job)
        first = s.event()
        s.close()
        again = self.stream(job, first[2])
        _, lease, _ = self.client.reserve(self.queue, Whilst_Commit="local")
        self.assertEqual(again.event()[1]["state"], "running")
        self.client.complete(job, lease, b"r")
        self.assertEqual(self.stream(job, first[2]).rest()[0][0], "end")
        self.assertEqual(again.rest()[0][1]["result"]["bytes"], 1)

    def test_forgotten(self):
        job = self.client.submit(self.queue, query="?retention=0s")
        s = self.stream(job)
        s.event()
        _, lease, _ = self.client.reserve(self.queue)
        self.client.complete(job, lease)
        events = s.rest()
        self.assertEqual((events[-1][0], events[-1][1]["id"]), ("end", job))
        self.assertIn(events[-1][1]["state"], ("done", None))
        for path, status, code in ((job, 410, "expired"), (9007199254740990, 404, "unknown-job"), ("x", 400, "bad-request")):
            with self.assertRaises(sse.Refused) as refused:
                self.stream(path)
            self.assertEqual((refused.exception.status, json.loads(refused.exception.body)["code"]), (status, code))

    def test_every_order(self):
        """Who follows before, while and after the end always learns of it, whatever it was told on the way."""
        worker = self.server.client()
        for i in range(ROUNDS):
            job = self.client.submit(self.queue)
            _, lease, _ = worker.reserve(self.queue)
            got = []

            def follow():
                with sse.Stream(self.server.port, f"/v1/jobs/{job}") as s:
                    got.extend(s.rest())
            thread = threading.Thread(target=follow)
            if i % 3 == 0:
                thread.start()
                worker.complete(job, lease, b"%d" % i)
            elif i % 3 == 1:
                worker.complete(job, lease, b"%d" % i)
                thread.start()
            else:
                finisher = threading.Thread(target=lambda: worker.complete(job, lease, b"%d" % i))
                finisher.start()
                thread.start()
                finisher.join()
            thread.join()
            self.assertEqual([e[0] for e in got].count("end"), 1, got)
            self.assertEqual((got[-1][0], got[-1][1]["state"]), ("end", "done"))
            order = [["ready", "running", "done"].index(e[1]["state"]) for e in got]
            self.assertEqual(order, sorted(order))

    def test_many_follow_one(self):
        job = self.client.submit(self.queue)
        streams = [self.stream(job) for _ in range(40)]
        for s in streams:
            s.event()
        _, lease, _ = self.client.reserve(self.queue)
        self.client.complete(job, lease)
        for s in streams:
            self.assertEqual(s.rest()[-1][1]["state"], "done")

    def test_a_reader_that_leaves(self):
        job = self.client.submit(self.queue)
        for _ in range(30):
            self.stream(job).close()
        _, lease, _ = self.client.reserve(self.queue)
        self.assertEqual(self.client.complete(job, lease).status, 200)

    def test_head_and_other_types(self):
        job = self.client.submit(self.queue)
        for accept in ("application/json, text/event-stream", "*/*"):
            self.assertEqual(self.client.get(f"/v1/jobs/{job}", Accept=accept)["Content-Type"], "application/json")
        for path in (f"/v1/jobs/{job}", f"/v1/queues/{self.queue}/events", "/v1/queues"):
            self.assertEqual(self.client.request("HEAD", path, Accept="text/event-stream").status, 200)


class Queues(harness.Case):
    ARGS = ("--stream-timeout", "1h")  # a reader that is slow is not cut off, however slow this machine is

    def stream(self, last="", queue=None, **headers):
        queue = queue or self.queue
        s = sse.Stream(self.server.port, "/v1/queues" if queue == "*" else f"/v1/queues/{queue}/events", last, **headers)
        self.addCleanup(s.close)
        return s

    def test_a_life(self):
        before = self.client.submit(self.queue)
        s = self.stream()
        self.assertEqual(s.block()["retry"], "1000")
        self.assertRegex(s.last, r"^\d+/\d+$")
        job = self.client.submit(self.queue)
        name, data, last = s.event()
        self.assertEqual((name, data["id"], data["queue"], data["state"], data["change"], data["attempts"]),
                         ("state", job, self.queue, "ready", "submit", 0))
        self.assertEqual(s.last, last)
        taken, lease, _ = self.client.reserve(self.queue, Whilst_Commit="local")
        self.assertEqual(taken, before)
        self.client.post(f"/v1/jobs/{before}/progress", b"1", Whilst_Lease=lease)
        self.client.post(f"/v1/jobs/{before}/fail?delay=20ms", b"no", Whilst_Lease=lease)
        got = [s.event() for _ in range(4)]
        self.assertEqual([(n, d["state"], d["change"]) for n, d, _ in got],
                         [("state", "running", "reserve"), ("progress", "running", "progress"),
                          ("state", "delayed", "retry"), ("state", "ready", "due")])
        self.assertGreaterEqual(got[2][1]["run_at"], got[2][1]["at"])
        self.assertIsNone(got[3][2], "what no record says has no id")
        for _ in range(2):
            taken, lease, _ = self.client.reserve(self.queue, Whilst_Commit="local")
            self.client.complete(taken, lease)
        got = [s.event() for _ in range(4)]
        self.assertEqual([d["state"] for _, d, _ in got], ["running", "done"] * 2)
        self.client.post(f"/v1/queues/{self.queue}/pause")
        name, data, _ = s.event()
        self.assertEqual((name, data["queue"], data["paused"], data["removed"]), ("queue", self.queue, True, False))
        self.client.delete(f"/v1/queues/{self.queue}")
        name, data, _ = s.event()
        self.assertEqual((name, data["removed"]), ("queue", True))
        self.assertIsNone(s.event(), "with its queue it ends")
        with self.assertRaises(sse.Refused) as refused:
            self.stream()
        self.assertEqual(refused.exception.status, 404)

    def test_others_are_not_told(self):
        self.client.submit(self.queue)
        self.client.submit(self.queue + "-other")
        s, everything = self.stream(), self.stream(queue="*")
        s.block()
        everything.block()
        jobs = [self.client.submit(self.queue + suffix) for suffix in ("-other", "", "-other", "-new", "")]
        self.assertEqual([s.event()[1]["id"] for _ in range(2)], [jobs[1], jobs[4]])
        got = [everything.event() for _ in range(6)]
        self.assertEqual([(n, d.get("id")) for n, d, _ in got],
                         [("state", jobs[0]), ("state", jobs[1]), ("state", jobs[2]), ("queue", None), ("state", jobs[3]), ("state", jobs[4])])

    def test_resumes_without_a_gap(self):
        """Streams that are cut off again and again, at any byte, while jobs come, run and end: every event once, in order."""
        self.client.submit(self.queue)
        _, lease, _ = self.client.reserve(self.queue)
        whole = self.stream()
        whole.block()
        cut, chance = self.stream(), random.Random(7)
        cut.block()
        jobs = 60

        def work():
            client = self.server.client()
            for i in range(jobs):
                client.submit(self.queue, query="?retention=10ms" if i % 3 == 0 else "")
                job, lease, _ = client.reserve(self.queue, Whilst_Commit="local" if i % 2 else "async")
                if i % 5 == 0:
                    client.post(f"/v1/jobs/{job}/release?delay=1ms", Whilst_Lease=lease)
                    job, lease, _ = client.reserve(self.queue, Prefer="wait=20")
                client.complete(job, lease)
            client.submit(self.queue, query="?priority=7&delay=1h")
            client.close()
        worker = threading.Thread(target=work)
        worker.start()
        pieces, wanted, at_end = [], [], lambda d: d["state"] == "delayed" and "run_at" in d and d["change"] == "submit"
        while not wanted or not at_end(wanted[-1][1]):
            wanted.append(whole.event())
        while not pieces or not at_end(pieces[-1][1]):
            for _ in range(chance.randrange(6)):
                event = cut.event()
                if event[2] is not None:
                    pieces.append(event)
                if at_end(event[1]):
                    break
            last = cut.last
            cut.close()
            cut = self.stream(last)
        worker.join()
        self.assertEqual(pieces, [e for e in wanted if e[2] is not None])
        positions = [tuple(map(int, e[2].split("/"))) for e in pieces]
        self.assertEqual(positions, sorted(set(positions)))

    def test_only_what_is_durable(self):
        self.client.submit(self.queue)
        s, early = self.stream(), self.stream(Whilst_Commit="async")
        s.block()
        early.block()
        for _ in range(20):
            job = self.client.submit(self.queue, Whilst_Commit="async")
            self.assertEqual(early.event()[1]["id"], job)
            _, data, position = s.event()
            self.assertEqual(data["id"], job)
            epoch, lsn = map(int, position.split("/"))
            self.assertLess(lsn, int(self.client.get("/v1/log").json()["flushed"].split("/")[1]))

    def test_a_reader_that_is_slow(self):
        """What a client does not read is not kept for it: it is told that it has missed something, and goes on."""
        self.client.submit(self.queue)
        before = self.memory()
        s = self.stream(receive_buffer=4096)
        s.block()
        lines = b"".join(b"%d\n" % i for i in range(10000))
        kinds = {"Content_Type": "application/x-ndjson", "Whilst_Commit": "async"}
        rounds = 9
        for _ in range(rounds):
            last = self.client.post(f"/v1/queues/{self.queue}/jobs", lines, **kinds).body.splitlines()[-1]
        last = json.loads(last)["id"]
        # 90,000 events of 130 bytes are 12 MB; jobs themselves take memory, too
        if before:
            self.assertLess(self.memory() - before, (24 << 20) + rounds * 10000 * 200)
        names, seen = [], []
        while not seen or seen[-1] != last:
            name, data, _ = s.event()
            names.append(name)
            if name == "state":
                seen.append(data["id"])
            elif name == "reset":
                last = self.client.submit(self.queue)  # what comes after it is told
        self.assertEqual(names.count("reset"), 1)
        self.assertEqual(seen, sorted(set(seen)))
        self.assertLess(len(seen), 10000 * rounds)
        # somebody who was told the same long ago learns it, too
        old = self.stream(last="1/1")
        self.assertEqual(old.event()[0], "reset")

    def memory(self):
        with open(f"/proc/{self.server.process.pid}/smaps", encoding="utf-8") as f:
            if "libasan" in f.read() or "-asan" in harness.BINARY or "-tsan" in harness.BINARY:
                return 0
        with open(f"/proc/{self.server.process.pid}/status", encoding="utf-8") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) << 10

    def test_an_idle_stream_costs_little(self):
        self.client.submit(self.queue)
        job = self.client.submit(self.queue)
        count = 400
        for path in (f"/v1/queues/{self.queue}/events", f"/v1/jobs/{job}", "/v1/queues"):
            # what the first ones bring with them stays
            streams = [sse.Stream(self.server.port, path) for _ in range(count)]
            for s in streams:
                s.block()
            before = self.memory()
            more = [sse.Stream(self.server.port, path) for _ in range(count)]
            for s in more:
                s.block()
            # a quarter more than 1 KiB: memory comes in pages, and tables grow by doubling; twice that where HTTP has threads of its own
            allowed = 1280 if os.environ.get("WHILST_FRONT_THREADS", "1") == "1" else 2304
            if before and self.server.engine in ("epoll", "uring"):
                self.assertLess((self.memory() - before) / count, allowed, path)
            for s in streams + more:
                s.close()

    def test_positions_that_are_none(self):
        self.client.submit(self.queue)
        for last in ("x", "1", "0/0", "999/1", "1/999999999999", "/", "1/-1", "x" * 1000):
            s = self.stream(last)
            name, data, position = s.event()
            self.assertEqual((name, data["position"]), ("reset", position))
            job = self.client.submit(self.queue)
            self.assertEqual(s.event()[1]["id"], job)

    def test_heartbeats(self):
        self.client.submit(self.queue)
        job = self.client.submit(self.queue)
        streams = [self.stream(), sse.Stream(self.server.port, f"/v1/jobs/{job}")]
        for s in streams:
            self.addCleanup(s.close)
            s.block()
            s.socket.settimeout(90)
        streams[1].event()
        for s in streams:
            told = s.last
            self.assertLessEqual(s.block().keys(), {"id"})  # of a queue: the log may have gone on elsewhere
            self.assertEqual(s.comments, 1)
        self.assertGreaterEqual([int(part) for part in streams[0].last.split("/")], [int(part) for part in told.split("/")]
                                if "/" in told else [])
        self.client.delete(f"/v1/jobs/{job}")
        self.assertEqual(streams[0].event()[1]["state"], "cancelled")
        self.assertEqual(streams[1].rest()[0][0], "end")

    def test_by_curl(self):
        """The commands of the reference, as they stand there."""
        reference = os.path.join(os.path.dirname(__file__), "../../docs/reference/http.md")
        with open(reference, encoding="utf-8") as f:
            command = next(line for line in f if line.startswith("curl -sN") and "/v1/jobs/$id" in line)
        job = self.client.submit(self.queue)
        _, lease, _ = self.client.reserve(self.queue)
        self.client.complete(job, lease)
        done = subprocess.run(["sh", "-c", command.replace("127.0.0.1:4480", f"127.0.0.1:{self.server.port}")],
                              env=dict(os.environ, id=str(job)), capture_output=True, text=True, check=True, timeout=harness.DEADLINE)
        self.assertRegex(done.stdout, r'^retry: 1000\n\nevent: end\ndata: \{"id":%d,.*\}\nid: [0-9a-f]+ end\n\n$' % job)


class Slow(harness.Case):
    """Readers that do not read: what is held for them is bounded, and after a while they are cut off. They go on where they were."""
    ARGS = ("--stream-timeout", "200ms", "--stream-buffer", "4KiB")

    def metric(self, name):
        return int(harness.re.search(rf"(?m)^{name} (\d+)$", self.client.get("/metrics").body.decode()).group(1))

    def wait_for_cut(self, before, make):
        """Events until the reader that takes none has been cut off; how many rounds of them."""
        rounds = 0
        while self.metric("whilst_http_streams_dropped_total") == before:
            make()
            rounds += 1
        harness.eventually(lambda: self.metric("whilst_http_streams") == 0, "the stream's end")
        return rounds

    def rest(self, s, most):
        """The jobs of what comes, until a cut: this reader is none of the fastest either."""
        jobs = []
        try:
            while len(jobs) < most:
                fields = s.block()
                if "data" in fields:
                    jobs.append(fields["data"]["id"])
        except (ConnectionResetError, TypeError):
            pass
        s.close()
        return jobs

    def test_of_a_queue(self):
        # a long name: 8 MB of events are more than the kernel holds, and fewer than the server keeps
        queue = self.queue + "x" * 150
        self.client.submit(queue)
        before = self.metric("whilst_http_streams_dropped_total")
        s = sse.Stream(self.server.port, f"/v1/queues/{queue}/events", receive_buffer=4096)
        s.block()
        jobs, kinds = [], {"Content_Type": "application/x-ndjson", "Whilst_Commit": "async"}

        def submit():
            if len(jobs) >= 30000:
                return
            answer = self.client.post(f"/v1/queues/{queue}/jobs", b"1\n" * 200, **kinds)
            jobs.extend(json.loads(line)["id"] for line in answer.body.splitlines())
        self.wait_for_cut(before, submit)
        seen = self.rest(s, len(jobs))
        self.assertLess(len(seen), len(jobs))
        enough = min(len(jobs), len(seen) + 1000)
        while len(seen) < enough:
            s = sse.Stream(self.server.port, f"/v1/queues/{queue}/events", s.last)
            seen += self.rest(s, enough - len(seen))
        self.assertEqual(seen, jobs[:len(seen)])

    def test_of_a_topic(self):
        topic = f"/v1/topics/{self.queue}"
        self.client.put(topic, {"retention": "1h"})
        before = self.metric("whilst_http_streams_dropped_total")
        s = sse.Stream(self.server.port, f"{topic}/events", receive_buffer=4096)
        harness.eventually(lambda: self.metric("whilst_http_streams") == 1, "the stream")
        rounds = self.wait_for_cut(before, lambda: self.client.post(f"{topic}/events", b"x" * 100000))
        self.assertGreater(rounds, 1)
        s.close()

    def test_who_reads_stays(self):
        """Who takes what there is is not slow."""
        self.client.submit(self.queue)
        before = self.metric("whilst_http_streams_dropped_total")
        with sse.Stream(self.server.port, f"/v1/queues/{self.queue}/events") as s:
            s.block()
            for _ in range(200):
                job = self.client.submit(self.queue)
                self.assertEqual(s.event()[1]["id"], job)
        self.assertEqual(self.metric("whilst_http_streams_dropped_total"), before)


class Restarts(harness.unittest.TestCase):
    def test_stops_and_kills(self):
        with harness.Server() as server:
            client = server.client()
            client.submit("q")
            for end in (server.stop, server.kill):
                job = client.submit("q")
                with sse.Stream(server.port, "/v1/queues/q/events") as s, sse.Stream(server.port, f"/v1/jobs/{job}") as one:
                    s.block()
                    one.event()
                    position = s.last
                    client.close()
                    end()
                    try:
                        self.assertEqual((s.rest(), one.rest()), ([], []))
                    except ConnectionResetError:
                        self.assertEqual(end, server.kill)
                server.start()
                client = server.client()
                with sse.Stream(server.port, "/v1/queues/q/events", position) as s:
                    new = client.submit("q")
                    self.assertEqual(s.event()[1]["id"], new)
                with sse.Stream(server.port, f"/v1/jobs/{job}", one.last) as s:
                    client.delete(f"/v1/jobs/{job}")
                    self.assertEqual(s.rest()[0][1]["state"], "cancelled")
            client.close()

    def test_nothing_is_missed(self):
        """Jobs come, run and end while the server is killed and stopped again and again; a reader connects anew each time, and is told of
        each job that it has come, was begun and has ended, once, in the order of the log."""
        with harness.Server() as server:
            client = server.client()
            client.put("/v1/queues/q", {})
            told, wanted, last = [], [], ""
            for number in range(6):
                with sse.Stream(server.port, "/v1/queues/q/events", last) as s, sse.Stream(server.port, "/v1/queues", last) as every:
                    for _ in range(5):  # the second half of what happens is told by the next run
                        job = client.submit("q")
                        got, lease, _ = client.reserve("q")
                        client.complete(got, lease)
                        wanted += [(job, "submit"), (job, "reserve"), (job, "finish")]
                    mine = [s.event() for _ in range(len(wanted) - len(told) - 6)]
                    self.assertEqual([every.event() for _ in mine], mine)
                    told += mine
                    last = s.last
                client.close()
                server.stop() if number % 3 == 2 else server.kill()
                server.start()
                client = server.client()
            with sse.Stream(server.port, "/v1/queues/q/events", last) as s:
                told += [s.event() for _ in range(len(wanted) - len(told))]
                self.assertEqual(told[-1][1]["state"], "done")
            self.assertEqual([(data["id"], data["change"]) for _, data, _ in told], wanted)
            positions = [tuple(map(int, position.split("/"))) for _, _, position in told]
            self.assertEqual(positions, sorted(set(positions)))
            # by a tool of every machine, too
            job = client.submit("q")
            with subprocess.Popen(["curl", "-sN", "-H", f"Last-Event-ID: {told[-4][2]}", f"http://127.0.0.1:{server.port}/v1/queues/q/events"],
                                  stdout=subprocess.PIPE, text=True) as curl:
                lines = [line for line in (curl.stdout.readline() for _ in range(18)) if line.startswith("id: ")]
                curl.kill()
            self.assertEqual(lines[1:4], [f"id: {position}\n" for _, _, position in told[-3:]])
            client.close()

    def test_what_is_before_the_checkpoint(self):
        with harness.Server("--checkpoint-every", "1MiB") as server:
            client = server.client()
            client.submit("q")
            with sse.Stream(server.port, "/v1/queues/q/events") as s:
                s.block()
                early = s.last
            written = r"(?m)^whilst_checkpoints_total [1-9]"
            while not harness.re.search(written, client.get("/metrics").body.decode()):
                client.post("/v1/queues/other/jobs", b"%d\n" % (1 << 40) * 5000, Content_Type="application/x-ndjson")
            with sse.Stream(server.port, "/v1/queues/q/events") as s:
                s.block()
                late = s.last
            job = client.submit("q")
            client.close()
            server.kill()
            server.start()
            client = server.client()
            with sse.Stream(server.port, "/v1/queues/q/events", early) as s:
                self.assertEqual(s.event()[0], "reset")
            with sse.Stream(server.port, "/v1/queues/q/events", late) as s:
                self.assertEqual(s.event()[1]["id"], job)
            client.close()


if __name__ == "__main__":
    harness.main()
