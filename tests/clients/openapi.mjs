// tests/clients/openapi.mjs -- is what comes on standard input an OpenAPI document? Says why not, and exits with 1.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const path = join(process.env.NODE_PATH, "@seriousme/openapi-schema-validator/index.js");
const { Validator } = await import(pathToFileURL(path));
const validator = new Validator();
const { valid, errors } = await validator.validate(JSON.parse(readFileSync(0, "utf8")));

console.log(valid ? `OpenAPI ${validator.version}` : JSON.stringify(errors, null, 1));
process.exitCode = valid ? 0 : 1;
