// Real answers held against the contract: `const api = await contractOf(stack.apiUrl)`, then `api.fetch(path, init)`
// instead of `fetch`. An answer that /openapi.json does not describe fails the test. For every contract test.

import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";

interface OpenApiOperation {
  readonly security: readonly unknown[];
  readonly "x-action": string | null;
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: unknown }>> };
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean }[];
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { readonly schema: unknown }>> }>
  >;
}

export interface OpenApi {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, OpenApiOperation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Readonly<Record<string, unknown>>>> };
}

/** A checked answer, its body read. */
export interface CheckedAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Parsed where the answer is JSON (problems too), else null. */
  // oxlint-disable-next-line typescript/no-explicit-any -- tests read members of bodies that the contract has checked
  readonly json: any;
}

export interface Contract {
  readonly document: OpenApi;
  /** Fetches from the API and checks status, content type and body against the route's description. */
  fetch(path: string, init?: RequestInit): Promise<CheckedAnswer>;
  /** The same for an answer that came another way. Throws where the contract does not describe it. */
  check(method: string, path: string, status: number, headers: Headers, bytes: Uint8Array<ArrayBuffer>): CheckedAnswer;
}

/** Of each stack once in a process: its schemas are compiled as they are met, which takes a while. */
const contracts = new Map<string, Promise<Contract>>();

export function contractOf(apiUrl: string): Promise<Contract> {
  const known = contracts.get(apiUrl);
  if (known !== undefined) return known;
  const made = fetch(`${apiUrl}/openapi.json`).then(async (response) =>
    contractFrom((await response.json()) as OpenApi, apiUrl),
  );
  contracts.set(apiUrl, made);
  return made;
}

export function contractFrom(document: OpenApi, apiUrl: string): Contract {
  // The document is not a JSON Schema itself, but every schema in it is one: they are reached by pointer.
  const ajv = new Ajv2020({ strict: false, validateFormats: false, validateSchema: false, allErrors: true });
  ajv.addSchema(document, "openapi");
  const validators = new Map<string, ValidateFunction>();
  const validatorAt = (...pointer: string[]): ValidateFunction => {
    const path = pointer
      .map((part) => `/${encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"))}`)
      .join("");
    const known = validators.get(path) ?? ajv.compile({ $ref: `openapi#${path}` });
    validators.set(path, known);
    return known;
  };
  const templates = Object.keys(document.paths).map((path) => ({ path, pattern: patternOf(path) }));

  const check: Contract["check"] = (method, path, status, headers, bytes) => {
    const pathname = new URL(path, apiUrl).pathname;
    const type = (headers.get("content-type") ?? "").split(";")[0]!.trim();
    const isJson = type === "application/json" || type === "application/problem+json";
    const json: unknown = isJson ? JSON.parse(new TextDecoder().decode(bytes)) : null;
    const answer = { status, headers, bytes, json };
    const template = templates.find(({ pattern }) => pattern.test(pathname))?.path;
    const operation = template === undefined ? undefined : document.paths[template]?.[method.toLowerCase()];
    if (template === undefined || operation === undefined) {
      // Not a route: what the door itself says of it.
      validate(validatorAt("components", "schemas", "Problem"), json, `${method} ${pathname}`);
      return answer;
    }
    const where = `${method} ${template} ${status}`;
    const described = operation.responses[String(status)];
    if (described === undefined) throw new Error(`${where} is not in the contract: ${JSON.stringify(json)}`);
    if (described.content === undefined) {
      if (bytes.length > 0) throw new Error(`${where} has a body, and the contract has none`);
      return answer;
    }
    if (described.content[type] === undefined) throw new Error(`${where} is ${type}, which is not in the contract`);
    if (isJson) {
      const pointer = ["paths", template, method.toLowerCase(), "responses", String(status), "content", type, "schema"];
      validate(validatorAt(...pointer), json, where);
    }
    return answer;
  };

  return {
    document,
    check,
    async fetch(path, init = {}) {
      const response = await fetch(`${apiUrl}${path}`, init);
      const bytes = new Uint8Array(await response.arrayBuffer());
      return check(init.method ?? "GET", path, response.status, response.headers, bytes);
    },
  };
}

/** `{id}` is one segment; the tiles' `{path}` is the rest. */
const patternOf = (path: string): RegExp =>
  new RegExp(
    `^${path
      .replace(/[.:]/g, "\\$&")
      .replace("{path}", ".+")
      .replace(/\{\w+\}/g, "[^/]+")}$`,
  );

function validate(validator: ValidateFunction, value: unknown, where: string): void {
  if (validator(value)) return;
  const errors = (validator.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`).join("; ");
  throw new Error(`${where} does not fit the contract: ${errors}\n${JSON.stringify(value)}`);
}
