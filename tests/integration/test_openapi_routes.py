"""tests/integration/test_openapi_routes.py -- src/front/openapi.json and the tables of the source say the same. Needs no server."""
import json
import re
import unittest

import openapi

FRONT = openapi.SOURCE.parent
MISSING = """

{method} /{path} is a row of src/front/routes.c, and src/front/openapi.json does not describe it. Add under "paths":

    "/{named}": {{
      "{lower}": {{
        "operationId": "...", "tags": ["one of tags"], "summary": "...",
        "parameters": [query parameters, and {{"$ref": "#/components/parameters/commit"}} if it changes something],
        "requestBody": what is sent, with its schema,
        "responses": {{"200": what is answered, with its schema and headers, "404": ..., "default": {{"$ref": "#/components/responses/Problem"}}}}
      }}
    }}

and, for new shapes of JSON, "components/schemas". harness.Client then holds every exchange of the integration tests against it."""


def routes():
    """{(method, path with {} for what varies)} of the table."""
    text = (FRONT / "routes.c").read_text(encoding="utf-8")
    rows = re.findall(r'\{WH_HTTP_(\w+),\s*"([^"]*)"', text)
    assert len(rows) > 20, "the table of src/front/routes.c is not where it was"
    return {(method, path) for method, path in rows}


class Routes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.document = openapi.load()

    def operations(self):
        for path, item in self.document["paths"].items():
            for method, operation in item.items():
                if method in openapi.METHODS:
                    yield path, method, item, operation

    def test_every_route_is_described(self):
        described = {(method.upper(), re.sub(r"\{\w+\}", "{}", path[1:])) for path, method, _, _ in self.operations()}
        for method, path in sorted(routes() - described):
            variable = {"queues": "queue", "jobs": "id"}.get(path.split("/")[1] if "/" in path else "", "name")
            self.fail(MISSING.format(method=method, path=path, named=path.replace("{}", "{" + variable + "}", 1), lower=method.lower()))

    def test_what_is_described_is_there(self):
        known = routes()
        for path, method, _, _ in self.operations():
            if not path.startswith("/call/"):
                row = (method.upper(), re.sub(r"\{\w+\}", "{}", path[1:]))
                self.assertIn(row, known, f"src/front/openapi.json describes {method.upper()} {path}, and src/front/routes.c has no such row")

    def test_problem_codes(self):
        text = (FRONT / "problem.h").read_text(encoding="utf-8")
        kinds = {(code, int(status)) for code, status in re.findall(r'X\(\w+, "([a-z-]+)", (\d+),', text)}
        self.assertGreater(len(kinds), 30)
        self.assertEqual(sorted({code for code, _ in kinds}),
                         sorted(self.document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]),
                         "the codes of src/front/problem.h, and Problem.code of src/front/openapi.json")

    def test_references(self):
        """Every reference leads somewhere, and every component is used."""
        used = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(self.document)))
        for reference in used:
            openapi.resolve(self.document, {"$ref": reference})
        for kind in ("schemas", "parameters", "headers", "responses"):
            for name in self.document["components"][kind]:
                self.assertIn(f"#/components/{kind}/{name}", used)

    def test_operations(self):
        """What OpenAPI 3.1 wants of every operation, and we of ours."""
        tags = {tag["name"] for tag in self.document["tags"]}
        ids = [operation["operationId"] for _, _, _, operation in self.operations()]
        self.assertEqual(len(ids), len(set(ids)), "an operationId is used twice")
        for path, method, item, operation in self.operations():
            where = f"{method.upper()} {path}"
            parameters = [openapi.resolve(self.document, p) for p in item.get("parameters", []) + operation.get("parameters", [])]
            self.assertEqual({p["name"] for p in parameters if p["in"] == "path"}, set(re.findall(r"\{(\w+)\}", path)), where)
            for p in parameters:
                self.assertTrue(p["schema"] and p["description"] and p["in"] in ("path", "query", "header"), f"{where}: {p}")
                self.assertTrue(p["in"] != "path" or p["required"], where)
            self.assertTrue(operation["summary"] and set(operation["tags"]) <= tags and operation["tags"], where)
            self.assertIn("default", operation["responses"], where)
            for status, response in operation["responses"].items():
                response = openapi.resolve(self.document, response)
                self.assertTrue(re.fullmatch(r"[2-5]\d\d|default", status) and response["description"], f"{where}: {status}")

    def test_schemas(self):
        self.assertIsNotNone(openapi.jsonschema, "python3-jsonschema is not installed: make deps")
        for schema in self.document["components"]["schemas"].values():
            openapi.jsonschema.Draft202012Validator.check_schema(schema)


if __name__ == "__main__":
    unittest.main(verbosity=2)
