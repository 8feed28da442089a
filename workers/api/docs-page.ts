// /docs as one page of HTML: no script, no other host, readable as text. Made of the OpenAPI document and the problem
// catalogue; called by routes/docs.ts.

import { problems, type ProblemCode } from "../../shared/contract/problems.ts";
import {
  commonProblems,
  credentialProblems,
  type OpenApiDocument,
  type Operation,
  type Parameter,
  type Schema,
} from "./openapi.ts";

export const docsStyle = `
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem 1.25rem 6rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; } h3 { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1.25rem; }
code, pre { font: 0.875rem/1.5 ui-monospace, monospace; } pre { overflow-x: auto; border: 1px solid var(--line); padding: 0.75rem; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: 0.35rem 0.75rem 0.35rem 0; border-bottom: 1px solid var(--line); }
nav ul { columns: 2; padding-left: 1.1rem; } nav li { break-inside: avoid; } a { color: inherit; } .muted { opacity: 0.75; }
@media (max-width: 40rem) { nav ul { columns: 1; } td, th { display: block; } }
`;

export function docsPage(document: OpenApiDocument, rolesOf: (action: string) => readonly string[]): string {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const tags = [...new Set(operations.map(({ operation }) => operation.tags[0]!))];
  const ofTag = (tag: string) => operations.filter(({ operation }) => operation.tags[0] === tag);
  const origin = document.servers[0]!.url;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Maestro Conductor API</title>
<style>${docsStyle}</style>
</head>
<body>
<header>
<h1>Maestro Conductor API</h1>
<p>${text(document.info.description.replace(" /docs is for reading.", ""))} The same contract for machines: <a href="/openapi.json">/openapi.json</a>.</p>
</header>
<nav aria-label="Routes">
${tags
  .map(
    (tag) =>
      `<p><a href="#tag-${tag}">${text(tag)}</a></p>\n<ul>${ofTag(tag)
        .map(
          ({ path, method, operation }) =>
            `<li><a href="#${operation.operationId}"><code>${method} ${text(path)}</code></a></li>`,
        )
        .join("\n")}</ul>`,
  )
  .join("\n")}
<p><a href="#rules">Rules of every route</a> · <a href="#problems">Problems</a></p>
</nav>
<main>
${rules()}
${tags
  .map(
    (tag) =>
      `<h2 id="tag-${tag}">${text(tag)}</h2>\n${ofTag(tag)
        .map(({ path, method, operation }) => section(document, origin, path, method, operation, rolesOf))
        .join("\n")}`,
  )
  .join("\n")}
${catalogue()}
</main>
</body>
</html>
`;
}

const rules = (): string => `<h2 id="rules">Rules of every route</h2>
<ul>
<li>Send <code>Authorization: Bearer</code> with an API key (<code>mk_…</code>) or a token of the configured issuer. The role is the principal's, whatever a token says.</li>
<li>JSON in and out is UTF-8, <code>snake_case</code>, at most 1 MiB in. Fields, query parameters and types that the contract does not have are refused.</li>
<li>What makes or ends something takes an <code>Idempotency-Key</code>: for 24 hours the same key and body give the same answer, with <code>Idempotency-Replayed: true</code>; another body is refused.</li>
<li>Every answer has <code>Maestro-Request-Id</code>. Every error is <code>application/problem+json</code> with a <code>code</code> from <a href="#problems">the catalogue</a>, and what to do.</li>
<li>Every route may answer ${commonProblems.map(problemLink).join(", ")}; every route that is not open also ${credentialProblems.map(problemLink).join(", ")}.</li>
<li>What is missing, and what belongs to another tenant, gives the same 404.</li>
<li>Times are UTC with milliseconds; amounts are whole numbers with their unit in the name.</li>
</ul>`;

function section(
  document: OpenApiDocument,
  origin: string,
  path: string,
  method: string,
  operation: Operation,
  rolesOf: (action: string) => readonly string[],
): string {
  const action = operation["x-action"];
  const who =
    action === null
      ? "Open: no credential."
      : `Action <code>${text(action)}</code>: ${text(rolesOf(action).join(", "))}.`;
  const parts = [
    `<h3 id="${operation.operationId}"><code>${method} ${text(path)}</code></h3>`,
    `<p>${prose(operation.summary)}. <span class="muted">${who}</span></p>`,
  ];
  if (operation.description !== undefined) parts.push(`<p>${prose(operation.description)}</p>`);
  const parameters = operation.parameters ?? [];
  if (parameters.length > 0) parts.push(parameterTable(document, parameters));
  for (const [type, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    parts.push(`<p>Body, <code>${text(type)}</code>:</p>\n<pre>${text(shape(document, schema))}</pre>`);
  }
  parts.push(`<p>Example:</p>\n<pre>${text(curl(document, origin, path, method, operation))}</pre>`);
  const problemCodes: string[] = [];
  for (const [status, response] of Object.entries(operation.responses)) {
    for (const [type, { schema }] of Object.entries(response.content ?? {})) {
      if (type === "application/problem+json") problemCodes.push(...codesOf(schema));
      else {
        parts.push(`<p>Answer ${status}, <code>${text(type)}</code>: ${prose(response.description)}</p>`);
        if (type === "application/json") parts.push(`<pre>${text(shape(document, schema))}</pre>`);
      }
    }
    if (response.content === undefined) parts.push(`<p>Answer ${status}: ${prose(response.description)}</p>`);
  }
  const shared: readonly string[] = action === null ? commonProblems : [...commonProblems, ...credentialProblems];
  const own = problemCodes.filter((code) => !shared.includes(code));
  parts.push(
    `<p class="muted">Problems: ${own.map(problemLink).join(", ")}${own.length > 0 ? ", and " : ""}<a href="#rules">those of every route</a>.</p>`,
  );
  return parts.join("\n");
}

const problemLink = (code: string): string => `<a href="#${code}"><code>${code}</code></a>`;

const codesOf = (schema: Schema): string[] => (schema.allOf?.[1]?.properties?.["code"]?.enum ?? []).map(String);

const parameterTable = (document: OpenApiDocument, parameters: readonly Parameter[]): string =>
  `<table><thead><tr><th>Parameter</th><th>In</th><th>What</th></tr></thead><tbody>
${parameters
  .map(({ name, in: place, required = false, schema, description = schema.description ?? "" }) => {
    const what = `<code>${text(shape(document, schema))}</code>${description === "" ? "" : ` ${prose(description)}`}`;
    return `<tr><td><code>${text(name)}</code></td><td>${place}${required ? "" : ", optional"}</td><td>${what}</td></tr>`;
  })
  .join("\n")}
</tbody></table>`;

const catalogue = (): string => `<h2 id="problems">Problems</h2>
<table><thead><tr><th>Code</th><th>Status</th><th>Means</th><th>What to do</th></tr></thead><tbody>
${(Object.keys(problems) as ProblemCode[])
  .map((code) => {
    const [status, title, action] = problems[code];
    return `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td>${text(title)}</td><td>${prose(action)}</td></tr>`;
  })
  .join("\n")}
</tbody></table>`;

/** Prose: what stands in backticks is code. */
const prose = (raw: string): string => text(raw).replace(/`([^`]+)`/g, "<code>$1</code>");

const text = (raw: string): string =>
  raw.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

const depthMax = 8;

function resolved(document: OpenApiDocument, schema: Schema): Schema {
  const name = schema.$ref?.replace("#/components/schemas/", "");
  return name === undefined ? schema : (document.components.schemas[name] ?? {});
}

/** A schema in the notation of TypeScript, with descriptions as comments. */
export function shape(document: OpenApiDocument, given: Schema, indent = "", depth = 0): string {
  const schema = resolved(document, given);
  if (depth > depthMax) return "…";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices !== undefined) return choices.map((choice) => shape(document, choice, indent, depth + 1)).join(" | ");
  if (schema.allOf !== undefined)
    return schema.allOf.map((part) => shape(document, part, indent, depth + 1)).join(" & ");
  if (schema.properties !== undefined) {
    const inner = `${indent}  `;
    const lines = Object.entries(schema.properties).map(([name, property]) => {
      const optional = schema.required?.includes(name) === true ? "" : "?";
      const description = property.description ?? resolved(document, property).description;
      const fallback = property.default === undefined ? "" : ` = ${JSON.stringify(property.default)}`;
      const note = description === undefined ? "" : `  // ${description}`;
      return `${inner}${name}${optional}: ${shape(document, property, inner, depth + 1)}${fallback}${note}`;
    });
    return `{\n${lines.join("\n")}\n${indent}}`;
  }
  if (schema.items !== undefined) return `${shape(document, schema.items, indent, depth + 1)}[]`;
  if (schema.format === "binary") return "bytes";
  const types = Array.isArray(schema.type) ? schema.type : [schema.type ?? "any"];
  return types.map((type) => bounded(String(type), schema)).join(" | ");
}

function bounded(type: string, schema: Schema): string {
  const { minimum, maximum, maxLength, pattern } = schema as Readonly<Record<string, unknown>>;
  if (type === "integer" && typeof maximum === "number" && maximum < Number.MAX_SAFE_INTEGER) {
    return `integer ${String(minimum)}…${maximum}`;
  }
  if (type === "string" && typeof pattern === "string") {
    const like = schema.example ?? idExample(pattern);
    return typeof like === "string" ? `string like ${JSON.stringify(like)}` : `string /${pattern}/`;
  }
  return type === "string" && typeof maxLength === "number" ? `string of up to ${maxLength}` : type;
}

/** A value that fits the schema as far as its examples go. */
export function example(document: OpenApiDocument, given: Schema, depth = 0): unknown {
  const schema = resolved(document, given);
  if (given.example !== undefined) return given.example;
  if (schema.example !== undefined) return schema.example;
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return schema.enum[0];
  const choice = (schema.anyOf ?? schema.oneOf ?? schema.allOf)?.[0];
  if (choice !== undefined) return example(document, choice, depth + 1);
  if (schema.properties !== undefined && depth <= depthMax) {
    return Object.fromEntries(
      Object.entries(schema.properties).map(([name, property]) => [name, example(document, property, depth + 1)]),
    );
  }
  if (schema.items !== undefined) return [example(document, schema.items, depth + 1)];
  if (schema.default !== undefined) return schema.default;
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  if (type === "integer" || type === "number") return Number(schema["minimum"] ?? 1);
  if (type === "boolean") return true;
  return type === "null" ? null : (idExample(schema.pattern) ?? "…");
}

/** `^key_[…]{26}$` → `key_01k9…`: every id of ours has this form. */
const idExample = (pattern: string | undefined): string | null => {
  const prefix = /^\^([a-z]{3}_)/.exec(pattern ?? "")?.[1];
  return prefix === undefined ? null : `${prefix}01k9x6f6c8a0b1c2d3e4f5g6h7`;
};

function curl(document: OpenApiDocument, origin: string, path: string, method: string, operation: Operation): string {
  const parameters = operation.parameters ?? [];
  const valueOf = (name: string): string => {
    const parameter = parameters.find((candidate) => candidate.in === "path" && candidate.name === name);
    return parameter === undefined ? name : String(example(document, parameter.schema));
  };
  const query = parameters
    .filter((parameter) => parameter.in === "query" && parameter.required === true)
    .map(({ name, schema }) => `${name}=${encodeURIComponent(String(example(document, schema)))}`)
    .join("&");
  const lines = [
    `curl ${origin}${path.replace(/\{(\w+)\}/g, (_, name: string) => valueOf(name))}${query === "" ? "" : `?${query}`}`,
  ];
  if (method !== "GET") lines.push(`-X ${method}`);
  if (operation.security.length > 0) lines.push('-H "Authorization: Bearer $MAESTRO_API_KEY"');
  for (const { name, in: place, required, schema } of parameters) {
    if (place === "header" && required === true) lines.push(`-H "${name}: ${String(example(document, schema))}"`);
  }
  const [content] = Object.entries(operation.requestBody?.content ?? {});
  if (content !== undefined) {
    const [type, { schema }] = content;
    lines.push(`-H "Content-Type: ${type}"`);
    lines.push(
      type === "application/json" ? `-d '${JSON.stringify(example(document, schema))}'` : "--data-binary @FILE",
    );
  }
  return lines.join(" \\\n  ");
}
