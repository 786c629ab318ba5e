"""tests/integration/openapi.py -- src/front/openapi.json as a judge of what is asked and answered.

harness.Client shows it every exchange, so that every test of the interface is a test of its description too: the answer's status, type
and content must be described, JSON must fit its schema and have no member that the schema does not name, and what was accepted
must have been described as acceptable.
"""
import json
import pathlib
import re
import sys
import urllib.parse

try:
    import jsonschema
except ImportError:  # another Python than the distribution's: its modules are not searched
    sys.path.append("/usr/lib/python3/dist-packages")
    try:
        import jsonschema
    except ImportError:
        jsonschema = None

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "src/front/openapi.json"
METHODS = ("get", "put", "post", "delete", "options", "head", "patch")
EXCHANGES_MAX = 100  # of one operation with one status; judging more would only cost time


def load():
    return json.loads(SOURCE.read_text(encoding="utf-8"))


def resolve(document, node):
    """What a $ref leads to; members beside it are added."""
    while isinstance(node, dict) and "$ref" in node:
        target = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = {**target, **{k: v for k, v in node.items() if k != "$ref"}}
    return node


def strict(schema):
    """The same, with every object closed that does not say that it is open."""
    if isinstance(schema, list):
        return [strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    new = {name: strict(value) for name, value in schema.items()}
    if "properties" in schema and schema.get("type") == "object" and "additionalProperties" not in schema:
        new["additionalProperties"] = False
    return new


class Description:
    def __init__(self):
        self.document = load()
        self.components = strict(self.document["components"]["schemas"])
        self.seen, self.validators = {}, {}
        self.paths = []
        for path, item in self.document["paths"].items():
            pattern = re.sub(r"/\{path\}", "(/.*)?", path)
            pattern = re.sub(r"\{\w+\}", "[^/]*", pattern)
            self.paths.append((re.compile(pattern + "$"), path, item))

    def operation(self, method, path):
        """(template, operation with the parameters of its path), or None."""
        for pattern, template, item in self.paths:
            name = "get" if method == "HEAD" and "head" not in item else method.lower()
            if pattern.match(path) and name in item:
                operation = item[name]
                parameters = [resolve(self.document, p) for p in item.get("parameters", []) + operation.get("parameters", [])]
                return template, {**operation, "parameters": parameters}
        return None

    def validate(self, schema, value):
        """None, or what does not fit."""
        if jsonschema is None:
            return None
        key = json.dumps(schema, sort_keys=True)
        if key not in self.validators:
            whole = {**strict(schema), "components": {"schemas": self.components}}
            self.validators[key] = jsonschema.Draft202012Validator(whole)
        wrong = jsonschema.exceptions.best_match(self.validators[key].iter_errors(value))
        return None if wrong is None else f"{wrong.json_path}: {wrong.message}"

    def check(self, method, target, body, request_type, answer):
        """One exchange. AssertionError: it is not as described."""
        path, _, query = target.partition("?")
        found = self.operation(method, path)
        if found is None:
            assert answer.status in (400, 401, 404, 405, 413, 414, 431, 501) or method == "OPTIONS", \
                f"{method} {path} was answered {answer.status}, and {SOURCE.name} does not describe it"
            return
        template, operation = found
        key = (template, method, answer.status)
        self.seen[key] = self.seen.get(key, 0) + 1
        if self.seen[key] > EXCHANGES_MAX:
            return
        where = f"{method} {template}, answered {answer.status}: "
        if answer.status in (413, 414, 429, 431) and answer["Content-Type"] == "application/problem+json" and answer.body:
            assert json.loads(answer.body).get("limit", 0) > 0, f"{where}{answer.body} tells no limit"
        wrong = self.judge_answer(method, operation, query, answer)
        if wrong is None and answer.status < 400 and answer["Whilst-Job"] is None:
            wrong = self.judge_request(operation, query, body, request_type)
        assert wrong is None, f"{where}{wrong}; is {SOURCE.name} to be changed?"

    def check_event(self, path, name, data):
        """One event of a stream. AssertionError: it is not as described."""
        _, operation = self.operation("GET", path.partition("?")[0])
        media = operation["responses"]["200"]["content"]["text/event-stream"]
        assert name in media["x-whilst-events"], f"GET {path}: the event {name} is not described in {SOURCE.name}"
        wrong = self.validate(media["x-whilst-events"][name], data)
        assert wrong is None, f"GET {path}, event {name}: {wrong}; is {SOURCE.name} to be changed?"

    def judge_answer(self, method, operation, query, answer):
        status = str(answer.status)
        if status not in operation["responses"] and answer["Whilst-Job"] is not None:
            status = "200"  # the result of a job, with the status that its worker chose
        if status not in operation["responses"] and answer.status < 400 and "Whilst-Job" not in json.dumps(operation["responses"]["default"]):
            return "no such status is described"
        response = resolve(self.document, operation["responses"].get(status, operation["responses"]["default"]))
        if answer["Whilst-Job"] is not None and "*/*" not in response.get("content", {}):
            response = resolve(self.document, operation["responses"].get("200", operation["responses"]["default"]))
        for name in answer.headers:
            if (name.lower().startswith("whilst-") or name in ("Preference-Applied", "ETag")) and answer.status < 300:
                if name.lower() not in [n.lower() for n in response.get("headers", {})] and "*/*" not in response.get("content", {}):
                    return f"the header {name} is not described"
        type_ = (answer["Content-Type"] or "").split(";")[0]
        content = response.get("content")
        if method == "HEAD" or not answer.body:
            return None
        if not content:
            return f"a body of type {type_} is not described"
        media = content.get(type_)
        if media is not None and "x-whilst-when" in media and not re.search(rf"(^|&){media['x-whilst-when']}=", query):
            media = None
        if media is None and "*/*" not in content:
            return f"the type {type_} is not described, only {', '.join(content)}"
        if media and "schema" in media and re.fullmatch(r"application/(.*\+)?json", type_):
            return self.validate(media["schema"], answer.json())
        return None

    def judge_request(self, operation, query, body, request_type):
        known = {p["name"]: p for p in operation["parameters"] if p["in"] == "query"}
        for name, text in urllib.parse.parse_qsl(query, keep_blank_values=True):
            if operation["tags"] in (["operation"], ["gateway"]):
                continue
            if name not in known:
                return f"the query parameter {name} was taken and is not described"
            schema = resolve(self.document, known[name]["schema"])
            value = int(text) if schema.get("type") == "integer" else text == "true" if schema.get("type") == "boolean" else text
            wrong = self.validate(schema, value)
            if wrong:
                return f"the query parameter {name} was taken: {wrong}"
        content = operation.get("requestBody", {}).get("content", {})
        media = content.get("application/json")
        if media is None or not body or not (request_type or "application/json").startswith("application/json"):
            return None
        wrong = self.validate(media["schema"], json.loads(body))
        return f"the body was taken: {wrong}" if wrong else None


DESCRIPTION = Description()
