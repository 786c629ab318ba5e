#!/usr/bin/env python3
"""tests/integration/test_dashboard.py -- the page at / in a real browser: what it shows is so, what is clicked is done, and nothing of what it shows is run.

In every test the browser must have found nothing to complain about (errors on the console, exceptions, violations of the page's policy) and must have
asked nobody but the server.
"""
import json
import os
import subprocess
import tempfile

import browser
import harness

EVIL = "<img src=x onerror=window.hit=1><script>window.hit=1</script>\"'><svg onload=window.hit=1>"
# What cannot be read: text whose colour is too close to its ground (WCAG 2.1, 1.4.3), each with its ratio.
CONTRAST = """(() => {
	const colour = (text) => text.match(/[\\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
		.reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = (e) => { for (; e; e = e.parentElement) { const c = colour(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
	const found = [];
	for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || !e.checkVisibility() || ["SCRIPT", "OPTION"].includes(e.tagName)) continue;
		const [a, b] = [light(colour(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
		if (ratio < 4.5) found.push([ratio, e.tagName, walk.currentNode.data]);
	}
	return found;
})()"""


def setUpModule():
    global chromium
    chromium = browser.Browser()


def tearDownModule():
    chromium.close()


class Dashboard(harness.Case):
    def page(self, place="", server=None, **media):
        page = chromium.page(**media)
        self.addCleanup(self.look_back, page, f"http://127.0.0.1:{(server or self.server).port}/")
        page.open(f"http://127.0.0.1:{(server or self.server).port}/{place}")
        return page

    def look_back(self, page, origin):
        self.assertEqual(page.complaints, [])
        self.assertEqual([url for url in page.requested if not url.startswith((origin, "data:image/svg"))], [])
        chromium.command("Target.closeTarget", targetId=page.target)

    def row(self, name):
        return f"[...document.querySelectorAll('tbody tr')].find((r) => r.children[0].textContent.trim().startsWith({json.dumps(name)}))"

    def cell(self, name, title):
        return f"{self.row(name)}?.children[[...document.querySelectorAll('thead th')].findIndex((h) => h.textContent === {json.dumps(title)})]"

    def fails(self, queue, error):
        job, lease, _ = self.client.reserve(queue, Prefer="wait=20")
        self.assertEqual(self.client.post(f"/v1/jobs/{job}/fail?retry=false", error, Whilst_Lease=lease).status, 200)
        return job


class Watching(Dashboard):
    def test_a_queue_appears_and_its_counters_move(self):
        page = self.page("#/queues")
        page.shows("live")
        self.client.submit(self.queue)
        self.client.submit(self.queue)
        ready = self.cell(self.queue, "ready") + "?.textContent"
        page.eventually(ready, "2")
        self.client.submit(self.queue)
        page.eventually(ready, "3")
        job, lease, _ = self.client.reserve(self.queue)
        self.client.complete(job, lease)
        page.eventually(self.cell(self.queue, "done") + ".textContent", "1")
        page.eventually(f"Number({self.cell(self.queue, 'out /s')}.textContent) > 0")
        page.click(f"{self.row(self.queue)}.querySelector('a')")
        page.shows("Queue " + self.queue)
        page.eventually("document.querySelectorAll('tbody tr').length", 3)

    def test_a_job_as_it_happens(self):
        job = self.client.submit(self.queue, b'{"a": [1, 2]}', Content_Type="application/json")
        page = self.page()
        page.run("document.getElementById('go-to').focus()")
        page.write(str(job))
        page.key("Enter", 13)
        page.shows('"a": [')
        _, lease, _ = self.client.reserve(self.queue)
        page.eventually("document.querySelector('main .tag').textContent", "running")
        self.client.post(f"/v1/jobs/{job}/progress", b'{"percent": 40}', Whilst_Lease=lease)
        page.shows('{"percent":40}')
        self.client.complete(job, lease, bytes(range(256)))
        page.shows("done")
        page.shows("0010  10 11 12")

    def test_every_place(self):
        client = self.client
        client.put("/v1/services/closed", {"url": "http://127.0.0.1:1/", "breaker": {"failures": 1, "open": "1h"}})
        self.assertEqual(client.get("/call/closed/x").status, 502)
        client.put("/v1/topics/orders", {"retention": "1h"})
        client.put("/v1/topics/orders/subscriptions/mail", {"queue": "order-mail", "filters": [{"prefix": {"type": "order."}}]})
        self.assertEqual(client.post("/v1/topics/orders/events?type=order.paid", b"x").status, 202)
        client.put("/v1/schedules/nightly", {"cron": "0 3 * * *", "job": {"queue": "report", "payload": "x"}})
        client.put("/v1/queues/held", {"dead_letter": "held.dead", "jobs_max": 1})
        client.submit("held")
        client.post("/v1/queues/held/pause")
        for scheme in ("light", "dark"):
            page = self.page(prefers_color_scheme=scheme)
            for place, texts in (("", ["held is paused", "held is nearly full", "A backend takes no calls", "no standby", "half within"]),
                                 ("failures", ["Failures"]), ("topics/orders", ["order-mail", '"order."', "events kept"]), ("topics", ["orders"]),
                                 ("services", ["http://127.0.0.1:1", "open", "call/closed"]), ("schedules", ["0 3 * * * UTC", "in "]),
                                 ("log", ["flushed", "newest checkpoint"]), ("queues/held", ["paused", "Replay all that match"]),
                                 ("nowhere", ["there is nothing at this place"]), ("queues/unknown", ["Queue unknown"]), ("jobs/999999", ["Job 999999"])):
                page.run(f"location.hash = '#/{place}'")
                for text in texts:
                    page.shows(text)
                self.assertEqual(page.run(CONTRAST), [], place)
                self.named(page)
                page.command("Emulation.setDeviceMetricsOverride", width=360, height=700, deviceScaleFactor=1, mobile=True)
                self.assertLessEqual(page.run("document.documentElement.scrollWidth"), 360, place)
                page.command("Emulation.clearDeviceMetricsOverride")

    def named(self, page):
        """Whatever can be used says what it is, to who cannot see it."""
        for node in page.command("Accessibility.getFullAXTree")["nodes"]:
            role = node.get("role", {}).get("value")
            if role in ("button", "textbox", "searchbox", "checkbox", "combobox", "link", "table", "navigation", "region") and not node.get("ignored"):
                self.assertTrue(node.get("name", {}).get("value"), node)

    def test_by_keyboard(self):
        page = self.page("#/queues")
        page.shows("Queues")
        page.key("Tab", 9)
        self.assertEqual(page.run("document.activeElement.id"), "skip")
        page.key("Enter", 13)
        page.eventually("document.activeElement.id", "main")
        page.key("Tab", 9)
        self.assertEqual(page.run("document.activeElement.type"), "search")

    def test_a_thousand_queues(self):
        with harness.Server() as server:
            client = server.client()
            answer = client.post("/v1/transactions", json.dumps({"actions": [{"action": "submit", "queue": f"n{i:04}", "payload": "x"} for i in range(1000)]}),
                                 Content_Type="application/json")
            self.assertEqual(answer.status, 200)
            page = self.page("#/queues", server)
            page.shows("1,000 queues")
            self.assertLess(page.run("document.querySelectorAll('tbody tr').length"), 1000)
            client.post("/v1/queues/n0999/jobs", b"x")
            page.click_button("ready")
            page.eventually("document.querySelector('tbody tr').textContent.slice(0, 6)", "n0999 ")
            page.click("document.querySelector('main input')")
            page.write("077")
            page.shows("11 of 1,000 queues")
            page.run("location.hash = '#/'")
            page.eventually("document.querySelector('.card b').textContent", "1,001")
            client.close()
        page.eventually("document.getElementById('health').textContent", "no answer")


class Steering(Dashboard):
    def test_a_dead_letter_is_replayed(self):
        dead = self.queue + ".dead"
        self.client.put(f"/v1/queues/{self.queue}", {"dead_letter": dead})
        jobs = []
        for error in (b"connection refused", b"bad address"):
            self.client.submit(self.queue)
            jobs.append(self.fails(self.queue, error))
        page = self.page("#/failures")
        page.click(f"{self.cell(dead, 'dead letters')}?.querySelector('a')")
        page.shows("connection refused")
        page.shows("bad address")
        page.click(f"document.querySelector('[aria-label=\"Pick job {jobs[0]}\"]')")
        page.click_button("Replay 1…")
        page.shows("Replay 1 job?")
        page.click_button("Replay", "document.getElementById('dialog')")
        page.shows("1 job called back")
        job = self.client.get(f"/v1/jobs/{jobs[0]}").json()
        self.assertEqual((job["queue"], job["state"]), (self.queue, "ready"))
        self.assertEqual(self.client.get(f"/v1/jobs/{jobs[1]}").json()["queue"], dead)
        # the other one by what its error says, to another place
        page.run(f"location.hash = '#/queues/{dead}?error=bad'")
        page.shows("Move all that match…")
        page.click_button("Move all that match…")
        page.shows("Move all jobs that match?")
        page.write(self.queue + ".review")
        page.key("Enter", 13)
        page.shows("1 job moved")
        self.assertEqual(self.client.get(f"/v1/jobs/{jobs[1]}").json()["queue"], self.queue + ".review")

    def test_what_is_confirmed_is_done_and_nothing_else(self):
        for _ in range(3):
            self.client.submit(self.queue)
        page = self.page(f"#/queues/{self.queue}")
        page.shows("live")
        page.click_button("Purge…")
        page.shows("cannot be undone")
        self.assertEqual(page.run("document.activeElement.textContent"), "Cancel")
        page.key("Escape", 27)
        page.eventually("!document.getElementById('dialog').open")
        self.assertEqual(self.client.get(f"/v1/queues/{self.queue}").json()["jobs"]["ready"], 3)
        page.click_button("Pause")
        page.shows("is paused")
        self.assertTrue(self.client.get(f"/v1/queues/{self.queue}").json()["paused"])
        page.click_button("Resume")
        page.shows("goes on")
        page.click_button("Purge…")
        page.click_button("Purge", "document.getElementById('dialog')")
        page.shows("3 jobs cancelled")
        self.assertEqual(self.client.get(f"/v1/queues/{self.queue}").json()["jobs"]["cancelled"], 3)
        # finished ones are forgotten, all of the page at once
        page.eventually("document.querySelector('tbody tr')?.textContent.includes('cancelled')")
        page.click("document.querySelector('[aria-label=\"Pick all of this page\"]')")
        page.click_button("Delete 3…")
        page.click_button("Delete", "document.getElementById('dialog')")
        page.shows("3 jobs deleted")
        page.shows("There is none here.")

    def test_one_job(self):
        job = self.client.submit(self.queue, query="?delay=1h&attempts=1")
        page = self.page(f"#/jobs/{job}")
        page.click_button("Priority…")
        page.shows("Another priority?")
        page.write("7")
        page.key("Enter", 13)
        page.shows("has the priority 7")
        page.click_button("Run now")
        page.shows("is ready")
        self.fails(self.queue, b"no\nway")
        page.shows("no\nway")
        shown = self.client.get(f"/v1/jobs/{job}").json()
        self.assertEqual((shown["state"], shown["priority"]), ("failed", 7))
        page.click_button("Replay")
        page.eventually("document.querySelector('main .tag').textContent", "ready")
        page.click_button("Cancel…")
        page.click_button("Cancel the job", "document.getElementById('dialog')")
        page.eventually("document.querySelector('main .tag').textContent", "cancelled")

    def test_a_schedule_now(self):
        self.client.put("/v1/schedules/yearly", {"cron": "@yearly", "job": {"queue": self.queue, "payload": "x"}})
        page = self.page("#/schedules")
        page.click(f"{self.row('yearly')}?.querySelector('button')")
        page.shows("submitted")
        self.assertEqual(self.client.get(f"/v1/queues/{self.queue}").json()["jobs"]["ready"], 1)
        page.click(f"{self.row('yearly')}?.querySelectorAll('button')[1]")
        page.shows("is paused")
        self.assertTrue(self.client.get("/v1/schedules/yearly").json()["paused"])

    def test_a_schedule_that_publishes(self):
        self.client.put(f"/v1/topics/{self.queue}/subscriptions/s", {"queue": self.queue})
        self.client.put("/v1/schedules/told", {"cron": "@yearly", "publish": {"topic": self.queue}})
        page = self.page("#/schedules")
        page.eventually(f"{self.row('told')}?.querySelector('a')?.textContent", self.queue)
        page.click(f"{self.row('told')}?.querySelector('button')")
        page.shows("event published, 1 job")
        self.assertEqual(self.client.get(f"/v1/queues/{self.queue}").json()["jobs"]["ready"], 1)

    def test_what_is_refused_is_said(self):
        self.client.submit(self.queue)
        page = self.page(f"#/queues/{self.queue}")
        page.click_button("Remove…")
        page.click_button("Remove", "document.getElementById('dialog')")
        page.eventually("document.querySelector('.message.bad')?.textContent.startsWith('Remove: ')")


class Hostile(Dashboard):
    def test_nothing_that_is_shown_is_run(self):
        client, name = self.client, "a/b;$(c)+d..e"
        at = "/v1/queues/a%2Fb%3B%24%28c%29%2Bd..e"
        evil = EVIL.encode()
        client.put(at, {"dead_letter": name + ".dead"})
        job = client.post(at + "/jobs?group=%3Cimg%20src%3Dx%20onerror%3Dwindow.hit%3D1%3E", evil, Content_Type="text/html").json()["id"]
        lease = client.post(at + "/reserve")["Whilst-Lease"]
        client.post(f"/v1/jobs/{job}/progress", json.dumps(EVIL).encode(), Whilst_Lease=lease)
        client.post(f"/v1/jobs/{job}/fail?retry=false", evil, Whilst_Lease=lease)
        done = client.submit("results")
        _, lease, _ = client.reserve("results")
        client.complete(done, lease, evil, "?status=401", Content_Type="text/html")
        client.put("/v1/topics/evil/subscriptions/s", {"filters": [{"exact": {"type": EVIL}}]})
        client.put("/v1/schedules/evil", {"cron": "@yearly", "job": {"queue": "q", "payload": EVIL}})
        page = self.page("#/queues")
        page.shows(name)
        for place in ("", "failures", f"queues/{at[11:]}", f"queues/{at[11:]}.dead", f"jobs/{job}", f"jobs/{done}", "topics/evil", "schedules", f"queues/{at[11:]}?error=%3Cscript%3E",
                      "<img src=x onerror=window.hit=1>", "queues/%3Cimg%20src%3Dx%20onerror%3Dwindow.hit%3D1%3E", "queues/%E0%A4%A", "queues/..", "jobs/..%2Fqueues"):
            page.run(f"location.hash = {json.dumps('#/' + place)}")
            page.eventually("!!document.querySelector('main h1')")
            if place in (f"queues/{at[11:]}.dead", f"jobs/{job}", f"jobs/{done}"):
                page.shows("onerror=window.hit=1")  # as it stands there
            self.assertEqual(page.run("document.querySelectorAll('main img, main script, main svg:not(.line), main iframe, main a:not([href^=\"#/\"])').length"), 0, place)
        self.assertIsNone(page.run("window.hit"))
        self.assertEqual([url for url in page.requested if url.endswith("/x")], [])
        page.shows("whilst")

    def test_a_page_from_elsewhere(self):
        """Whoever visits it while a server runs on his machine has nothing done there in his name."""
        with harness.Server() as other:
            page = self.page("livez", other)
            job = self.client.submit(self.queue)
            for method, path in (("POST", f"/v1/queues/{self.queue}/jobs"), ("POST", f"/v1/queues/{self.queue}/purge"), ("POST", f"/v1/jobs/{job}/kick")):
                page.run(f"fetch('http://127.0.0.1:{self.server.port}{path}', {{method: '{method}', mode: 'no-cors', body: 'x'}}).then(() => 'sent')")
            shown = self.client.get(f"/v1/queues/{self.queue}").json()
            self.assertEqual((shown["submitted"], shown["jobs"]["ready"]), (1, 1))
            page.requested.clear()
            page.complaints.clear()

    def test_bodies_opened_as_pages(self):
        """Whoever is led to a result or payload sees it; it runs nothing, and is no page of this origin."""
        job = self.client.submit(self.queue, b"<!DOCTYPE html><title>x</title><h1>hello</h1>" + EVIL.encode(), Content_Type="text/html")
        _, lease, _ = self.client.reserve(self.queue)
        self.client.complete(job, lease, b"<!DOCTYPE html><title>x</title><h1>hello</h1>" + EVIL.encode(), Content_Type="text/html")
        page = self.page()
        for body in ("payload", "result"):
            page.open(f"http://127.0.0.1:{self.server.port}/v1/jobs/{job}/{body}")
            page.shows("hello")
            self.assertEqual(page.run("[typeof window.hit, self.origin]"), ["undefined", "null"])
        self.assertIn("sandbox", json.dumps(page.complaints))
        page.complaints.clear()
        # who is no browser gets it as ever
        self.assertIsNone(self.client.get(f"/v1/jobs/{job}/result")["Content-Security-Policy"])
        report = self.client.submit(self.queue, b"%PDF", Content_Type="application/pdf")
        self.assertIsNone(self.client.get(f"/v1/jobs/{report}/payload", Accept="text/html")["Content-Security-Policy"])

    def test_its_policy_holds(self):
        page = self.page()
        self.assertEqual(page.run("(() => { try { document.body.innerHTML = '<b>x</b>'; return 'done'; } catch (e) { return e.name; } })()"), "TypeError")
        self.assertEqual(page.run("fetch('http://127.0.0.1:1/').then(() => 'done', (e) => e.name)"), "TypeError")
        page.run("document.body.append(Object.assign(document.createElement('iframe'), {src: '/'}))")
        page.eventually("document.querySelector('iframe').contentDocument?.body?.children.length !== 1")
        said = json.dumps(page.complaints)
        for word in ("TrustedHTML", "connect-src"):
            self.assertIn(word, said)
        page.complaints.clear()


class Tokens(Dashboard):
    @classmethod
    def setUpClass(cls):
        cls.folder, cls.tokens, lines = tempfile.TemporaryDirectory(prefix="whilst-tokens-"), {}, []
        for name, scopes in (("reader", ["read", "metrics"]), ("one", ["read:mine"]), ("root", ["admin"]), ("tenant", ["admin", "prefix=acme"])):
            made = subprocess.run([harness.BINARY, "token", name, *scopes], capture_output=True, text=True, check=True, timeout=60)
            cls.tokens[name] = made.stdout.strip()
            lines.append(made.stderr)
        path = os.path.join(cls.folder.name, "tokens")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(lines)
        cls.ARGS = ("--tokens", path)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.folder.cleanup()

    def setUp(self):
        super().setUp()
        self.root = {"Authorization": "Bearer " + self.tokens["root"]}
        for name in ("mine", "theirs"):
            self.client.submit(name, **self.root)

    def sign_in(self, page, token):
        page.eventually("document.activeElement.name", "token")
        page.write(token)
        page.key("Enter", 13)

    def test_who_only_reads(self):
        page = self.page("#/queues")
        page.shows("A token is needed")
        self.sign_in(page, "nonsense")
        page.eventually("document.getElementById('dialog').open && !document.querySelector('[name=token]').value")
        self.assertNotIn("theirs", page.text())
        self.sign_in(page, self.tokens["reader"])
        page.click(f"{self.row('mine')}?.querySelector('a')")
        page.shows("Queue mine")
        page.click_button("Pause")
        page.shows("not allowed")
        page.eventually("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Pause').title.startsWith('Not allowed: ')")
        self.assertTrue(page.run("[...document.querySelectorAll('button')].find((b) => b.textContent === 'Pause').disabled"))
        self.assertFalse(self.client.get("/v1/queues/mine", **self.root).json()["paused"])
        page.run("location.hash = '#/schedules'")
        page.shows("Not allowed: ")
        page.run("location.hash = '#/log'")
        page.shows("newest checkpoint")
        # nowhere but in this page's memory
        self.assertEqual(page.run("[sessionStorage.length, localStorage.length, location.href.includes('whilst_')]"), [0, 0, False])
        self.assertEqual(page.command("Network.getCookies")["cookies"], [])
        self.assertEqual([url for url in page.requested if "whilst_" in url], [])
        page.click("document.getElementById('token')")
        page.shows("A token is needed")
        self.assertEqual(page.run("document.querySelectorAll('tbody tr').length"), 0)

    def test_who_sees_one_queue(self):
        page = self.page()
        self.sign_in(page, self.tokens["one"])
        page.shows("Not allowed: ")
        page.run("document.getElementById('go-to').focus()")
        page.write("mine")
        page.key("Enter", 13)
        page.shows("Queue mine")
        page.eventually("document.querySelectorAll('tbody tr').length > 0")
        page.run("location.hash = '#/queues/theirs'")
        page.shows("Not allowed: ")
        self.assertEqual(page.run("document.querySelectorAll('tbody tr').length"), 0)

    def test_who_is_in_a_namespace(self):
        """Sees and steers what is in it, in its words."""
        self.client.submit("letters", Authorization="Bearer " + self.tokens["tenant"])
        page = self.page()
        self.sign_in(page, self.tokens["tenant"])
        page.shows("More with a token that has the scope metrics.")
        page.eventually("document.querySelector('.card b').textContent", "1")
        page.run("location.hash = '#/queues'")
        page.click(f"{self.row('letters')}?.querySelector('a')")
        page.click_button("Pause")
        page.shows("letters is paused")
        self.assertTrue(self.client.get("/v1/queues/acme%3Aletters", **self.root).json()["paused"])
        self.assertNotIn("theirs", page.text())

    def test_who_has_none(self):
        page = self.page()
        page.shows("A token is needed")
        page.click_button("Cancel")
        page.shows("Give a token")
        # it is not asked for again and again
        page.run("location.hash = '#/log'")
        page.shows("the server wants a token")
        self.assertFalse(page.run("document.getElementById('dialog').open"))
        page.click("document.getElementById('token')")
        self.sign_in(page, self.tokens["root"])
        page.shows("flushed")


if __name__ == "__main__":
    if not browser.find():
        harness.skip_all("there is no browser: chromium-headless-shell")
    harness.main()
