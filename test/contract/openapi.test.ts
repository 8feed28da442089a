// /openapi.json and /docs: complete, true to the routes, and safe to open.

import { createHash } from "node:crypto";
import { Ajv2020 } from "ajv/dist/2020.js";
import { beforeAll, describe, expect, test } from "vitest";
import { problems } from "../../shared/contract/problems.ts";
import { loadApp } from "../support/api.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const app = await loadApp();
const openApiPath = (path: string): string => path.replace("{+", "{");

let api: Contract;
beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
});

const operations = () =>
  Object.entries(api.document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation, name: `${method} ${path}` })),
  );

describe("/openapi.json", () => {
  test("is OpenAPI 3.1 and has every route of the router, and no other", () => {
    expect(api.document.openapi).toBe("3.1.0");
    const declared = app.entries.map(({ route }) => `${route.method} ${openApiPath(route.path)}`);
    expect(
      operations()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(declared.sort());
  });

  test("says of each route what the door asks of it: credential, action, idempotency key", () => {
    for (const { route, action, idempotency } of app.entries) {
      const operation = api.document.paths[openApiPath(route.path)]![route.method]!;
      expect(operation["x-action"]).toBe(action);
      expect(operation.security).toEqual(action === null ? [] : [{ credential: [] }, { svid: [] }]);
      const header = operation.parameters?.find(({ name }) => name === "Idempotency-Key");
      expect(header?.required ?? null).toBe(idempotency === "none" ? null : idempotency === "required");
    }
  });

  test("has a summary for each route, a name that no other has, and a description for each answer", () => {
    const ids = new Set<string>();
    for (const { operation, name } of operations()) {
      const { operationId, summary, responses } = operation as unknown as {
        operationId: string;
        summary: string;
        responses: Record<string, { description: string }>;
      };
      expect([name, summary.length > 5, ids.has(operationId)]).toEqual([name, true, false]);
      ids.add(operationId);
      for (const { description } of Object.values(responses)) expect(description.length).toBeGreaterThan(2);
    }
  });

  test("describes a problem for each status that is an error, with the codes that may come", () => {
    for (const { operation, name } of operations()) {
      for (const [status, { content }] of Object.entries(operation.responses)) {
        const problem = content?.["application/problem+json"]?.schema as
          | { allOf: [unknown, { properties: { code: { enum: (keyof typeof problems)[] } } }] }
          | undefined;
        for (const code of problem?.allOf[1].properties.code.enum ?? []) {
          expect([name, code, problems[code][0]]).toEqual([name, code, Number(status)]);
        }
      }
      for (const status of operation.security.length > 0 ? ["401", "403", "500", "503"] : ["500"]) {
        expect(operation.responses[status]?.content).toHaveProperty(["application/problem+json"]);
      }
    }
  });

  test("refuses unknown fields in every JSON body, at every depth", () => {
    const loose: string[] = [];
    const walk = (schema: unknown, where: string): void => {
      if (schema === null || typeof schema !== "object") return;
      const { $ref, type, additionalProperties, ...rest } = schema as Record<string, unknown>;
      if (typeof $ref === "string") walk(api.document.components.schemas[$ref.split("/").at(-1)!], where);
      // A map whose values have a shape is not loose.
      const isMap = typeof additionalProperties === "object" && Object.keys(additionalProperties ?? {}).length > 0;
      if (type === "object" && additionalProperties !== false && !isMap) loose.push(where);
      walk(additionalProperties, `${where}/*`);
      for (const [key, value] of Object.entries(rest)) walk(value, `${where}/${key}`);
    };
    for (const { operation, name } of operations()) {
      walk(operation.requestBody?.content["application/json"]?.schema, name);
    }
    expect(loose).toEqual([]);
  });

  test("holds only schemas that a validator of JSON Schema 2020-12 takes, and no reference into nothing", () => {
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    for (const [name, schema] of Object.entries(api.document.components.schemas)) {
      expect([name, ajv.validateSchema(schema)]).toEqual([name, true]);
    }
    const references = [...JSON.stringify(api.document).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)];
    for (const [, name] of references) expect(api.document.components.schemas).toHaveProperty(name!);
  });

  test("gives for each JSON body an example that fits it", async () => {
    const page = await (await fetch(`${stack.apiUrl}/docs`)).text();
    const ajv = new Ajv2020({ strict: false, validateFormats: false, validateSchema: false });
    ajv.addSchema(api.document, "openapi");
    for (const { path, method, operation, name } of operations()) {
      if (operation.requestBody?.content["application/json"] === undefined) continue;
      const { operationId } = operation as unknown as { operationId: string };
      const section = page.slice(page.indexOf(`id="${operationId}"`));
      const body = /-d '([^']+)'/
        .exec(section)?.[1]
        ?.replaceAll("&quot;", '"')
        .replaceAll("&lt;", "<")
        .replaceAll("&gt;", ">");
      const pointer = `openapi#/paths/${encodeURIComponent(path.replaceAll("/", "~1"))}/${method}/requestBody/content/application~1json/schema`;
      expect([name, ajv.validate({ $ref: pointer }, JSON.parse(body ?? "null")), ajv.errors]).toEqual([
        name,
        true,
        null,
      ]);
    }
  });
});

describe("/docs", () => {
  test("has every route and every problem of the catalogue, each under an anchor that its links find", async () => {
    const page = await (await fetch(`${stack.apiUrl}/docs`)).text();
    for (const { path, method } of operations())
      expect(page).toContain(`<code>${method.toUpperCase()} ${path}</code></h3>`);
    const anchors = new Set([...page.matchAll(/ id="([^"]+)"/g)].map((match) => match[1]));
    for (const code of Object.keys(problems)) expect(anchors).toContain(code);
    for (const [, target] of page.matchAll(/href="#([^"]+)"/g)) expect(anchors).toContain(target);
  });

  test("runs no script, asks no other host for anything, and its one style is the one that its policy names", async () => {
    const response = await fetch(`${stack.apiUrl}/docs`);
    const page = await response.text();
    const policy = response.headers.get("content-security-policy") ?? "";
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(policy).toMatch(
      /^default-src 'none'; style-src 'sha256-[^']+'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$/,
    );
    const style = /<style>([\s\S]*?)<\/style>/.exec(page)?.[1] ?? "";
    expect(policy).toContain(`'sha256-${createHash("sha256").update(style).digest("base64")}'`);
    expect(page).not.toMatch(/<script|<link|<img|<iframe|javascript:|\son\w+=|\sstyle=/i);
    expect([...page.matchAll(/href="([^"]+)"/g)].every(([, target]) => /^(?:#|\/)/.test(target!))).toBe(true);
  });
});
