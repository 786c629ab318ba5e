"""tests/integration/test_openapi.py -- /openapi.json against the handlers: what it describes is there, and what it forbids is refused."""
import json
import re
import subprocess

import harness
import openapi


class Document(harness.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.document = openapi.load()
        client = cls.server.client()
        cls.job = client.submit("queue-1")
        client.put("/v1/services/service-1", {"url": "http://127.0.0.1:1"})
        client.close()

    def target(self, path):
        known = {"queue": "queue-1", "id": str(self.job), "name": "service-1", "service": "service-1", "path": "x"}
        if path.endswith("/target"):
            known["queue"] = "empty-1"  # of which there is nothing to be pushed
        return re.sub(r"\{(\w+)\}", lambda m: known.get(m.group(1), "name-1"), path)

    def operations(self):
        for path, item in self.document["paths"].items():
            if not path.startswith("/call/"):
                for method in item:
                    if method in openapi.METHODS:
                        yield path, method.upper(), openapi.DESCRIPTION.operation(method.upper(), path)[1]

    def headers(self, operation):
        """What the operation cannot do without."""
        return {"Whilst_Lease": "1.1"} if any(p["name"] == "Whilst-Lease" for p in operation["parameters"]) else {}

    def test_it_is_served(self):
        answer = self.client.get("/openapi.json")
        self.assertEqual((answer.status, answer["Content-Type"]), (200, "application/json"))
        version = subprocess.run([harness.BINARY, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
        self.document["info"]["version"] = version
        self.assertEqual(answer.json(), self.document)
        self.assertRegex(version, r"^\d+\.\d+\.\d+")

    def test_methods(self):
        """The methods that a path has are those that are described: OPTIONS says which."""
        for path in self.document["paths"]:
            if path.startswith("/call/"):
                continue
            allowed = set(self.client.request("OPTIONS", self.target(path))["Allow"].split(", ")) - {"HEAD"}
            described = {m.upper() for m in self.document["paths"][path] if m in openapi.METHODS}
            self.assertEqual(allowed, described, path)

    def test_no_other_query(self):
        """Parameters that are not described are refused, and those that are described are known."""
        for path, method, operation in self.operations():
            if operation["tags"] == ["operation"]:
                continue
            known = [p["name"] for p in operation["parameters"] if p["in"] == "query"]
            self.assertNotIn("no-such-thing", known)
            kind, media = list(operation.get("requestBody", {}).get("content", {"*/*": {}}).items())[0]
            body = {"application/json": json.dumps(media.get("example", {})).encode(),
                    "application/vnd.whilst.batch": b"\0\0\0\x18" + b"\0" * 24}.get(kind, b"")
            headers = {"Content_Type": kind} if kind != "*/*" else {}
            for name in known + ["no-such-thing"]:
                # a value that every kind of parameter refuses, so that nothing is done by it
                answer = self.client.request(method, f"{self.target(path)}?{name}=%00", body, **headers, **self.headers(operation))
                if name == "content-type":
                    self.assertLess(answer.status, 500, answer)
                    continue
                self.assertEqual(answer.status, 400, f"{method} {path}?{name}: {answer}")
                unknown = "there is no 'no-such-thing' here" in answer.json()["detail"]
                # refused for its body? Then "example" beside the schema of its JSON makes it good.
                self.assertEqual(unknown, name == "no-such-thing", f"{method} {path}?{name}: {answer}")
                self.assertIn(name, answer.json()["detail"], f"{method} {path}?{name}: {answer}")

    def bodies(self):
        """(path, name of a schema, a good body, its schema) of what is configured by JSON."""
        for path, method, operation in self.operations():
            media = operation.get("requestBody", {}).get("content", {}).get("application/json")
            reference = media and media["schema"].get("$ref")
            if method == "PUT" and reference:
                schema = openapi.resolve(self.document, media["schema"])
                yield path, reference.rsplit("/", 1)[1], media["example"], schema

    def test_bodies(self):
        """A configuration outside its schema is refused, one at its limits is taken."""
        count = 0
        for path, name, good, schema in self.bodies():
            self.assertFalse(schema.get("additionalProperties", True), f"{name} is open: mistakes would go unnoticed")
            target = self.target(path)
            self.assertIn(self.client.put(target, good).status, (200, 201))
            self.assertProblem(self.client.put(target, {**good, "no_such_thing": 1}), 400, "bad-json")
            self.assertEqual(self.client.put(target, []).status, 400)
            for required in schema.get("required", []):
                self.assertEqual(self.client.put(target, {k: v for k, v in good.items() if k != required}).status, 400)
            for member, said in schema["properties"].items():
                for value in self.outside(said):
                    answer = self.client.put(target, {**good, member: value})
                    self.assertIn(answer.status, (400, 422), f"{name}.{member} = {value!r} was taken: {answer}")
                    count += 1
                for value in self.within(said):
                    answer = self.client.put(target, {**good, member: value})
                    self.assertIn(answer.status, (200, 201), f"{name}.{member} = {value!r} was refused: {answer}")
                    count += 1
        self.assertGreater(count, 30)

    def outside(self, schema):
        schema = openapi.resolve(self.document, schema)
        candidates = [[], {}, "no such value", -1, 1.5, True, None]
        if "enum" not in schema and schema.get("type") == "string" and "pattern" not in schema:
            candidates = [1, [], None]
        for s in schema.get("oneOf", [schema]):
            s = openapi.resolve(self.document, s)
            candidates += [s[k] + d for k, d in (("minimum", -1), ("maximum", 1)) if k in s]
        return [c for c in candidates if openapi.DESCRIPTION.validate(schema, c) is not None]

    def within(self, schema):
        schema = openapi.resolve(self.document, schema)
        candidates = [None, True, False]
        for s in schema.get("oneOf", [schema]):
            s = openapi.resolve(self.document, s)
            candidates += [s[k] for k in ("minimum", "maximum", "default") if k in s] + s.get("enum", [])
            if s.get("pattern", "").endswith("(ns|us|ms|s|m|h|d))+$"):
                candidates.append("30s")
        return [c for c in candidates if openapi.DESCRIPTION.validate(schema, c) is None]

    def test_the_judge_is_awake(self):
        """An answer that differs from the description is noticed."""
        answer = self.client.get(f"/v1/jobs/{self.job}")
        good = answer.json()
        for wrong in ({**good, "new": 1}, {**good, "id": "1"}, {k: v for k, v in good.items() if k != "state"}):
            changed = harness.Response(200, answer.headers, json.dumps(wrong).encode())
            with self.assertRaisesRegex(AssertionError, "openapi.json"):
                openapi.Description().check("GET", f"/v1/jobs/{self.job}", None, None, changed)
        for method, path, status in (("GET", "/v1/nowhere", 200), ("GET", f"/v1/jobs/{self.job}", 206), ("GET", "/v1/queues?new=1", 200)):
            body = b'{"queues": []}' if "queues" in path else b""
            with self.assertRaisesRegex(AssertionError, "openapi.json"):
                openapi.Description().check(method, path, None, None, harness.Response(status, answer.headers, body))


if __name__ == "__main__":
    harness.main()
