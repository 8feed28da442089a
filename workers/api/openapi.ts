// The API's contract as an OpenAPI 3.1 document, made from the routes at the door: their schemas, and the problems,
// credentials and headers that the door itself adds. Called by routes/docs.ts and by the contract tests.

import { OpenAPIHono } from "@hono/zod-openapi";
import { problems, type ProblemCode } from "../../shared/contract/problems.ts";
import type { Entry } from "./door.ts";
import { mediaTypesOf } from "./middleware/accept.ts";
import { schemasOf } from "./middleware/input.ts";

export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly description?: string;
  readonly example?: unknown;
  readonly default?: unknown;
  readonly pattern?: string;
  readonly format?: string;
  readonly [keyword: string]: unknown;
}
export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required?: boolean;
  readonly description?: string;
  readonly schema: Schema;
}
type Content = Readonly<Record<string, { readonly schema: Schema }>>;
export interface ResponseObject {
  readonly description: string;
  readonly headers?: Readonly<Record<string, { readonly description: string; readonly schema: Schema }>>;
  readonly content?: Content;
}
export interface Operation {
  readonly tags: readonly string[];
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly security: readonly Readonly<Record<string, readonly string[]>>[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly required?: boolean; readonly content: Content };
  readonly responses: Readonly<Record<string, ResponseObject>>;
  readonly "x-action": string | null;
}
export interface OpenApiDocument {
  readonly openapi: string;
  readonly info: { readonly title: string; readonly version: string; readonly description: string };
  readonly servers: readonly { readonly url: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, Schema>>;
    readonly securitySchemes: Readonly<Record<string, unknown>>;
  };
}

/** What every route may answer, and every route that is not open. */
export const commonProblems: readonly ProblemCode[] = ["invalid_request", "denied", "internal"];
export const credentialProblems: readonly ProblemCode[] = [
  "unauthenticated",
  "token_invalid",
  "token_expired",
  "token_not_yet_valid",
  "token_audience",
  "svid_invalid",
  "svid_not_registered",
  "svid_needed",
  "key_revoked",
  "key_expired",
  "principal_disabled",
  "role_too_low",
  "issuer_unavailable",
  "identity_busy",
  "database_unavailable",
  "worker_unavailable",
];

/** Every problem that a route may answer with: those of its kind, and those that it declares. */
export function problemCodesOf({ action, route, idempotency, problems: declared }: Entry): ProblemCode[] {
  const codes = new Set<ProblemCode>([...commonProblems, ...declared]);
  const schemas = schemasOf(route);
  if (action !== null) for (const code of credentialProblems) codes.add(code);
  if (schemas.params !== null) codes.add("not_found");
  if (action !== null && mediaTypesOf(route).length > 1) codes.add("not_acceptable");
  if (schemas.contentTypes.length > 0) {
    codes.add("unsupported_media_type").add("too_large");
    if (schemas.json !== null) codes.add("malformed_json").add("not_utf8");
  }
  if (idempotency !== "none") codes.add("idempotency_key_invalid").add("idempotency_conflict");
  if (idempotency === "required") codes.add("idempotency_key_missing");
  return (Object.keys(problems) as ProblemCode[]).filter((code) => codes.has(code));
}

export function openApiDocument(entries: readonly Entry[], publicUrl: string): OpenApiDocument {
  const generator = new OpenAPIHono();
  for (const { route } of entries) {
    generator.openAPIRegistry.registerPath({ ...route, path: openApiPath(route.path) });
  }
  const generated = generator.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Maestro Conductor",
      version: "1.4.0",
      description: "Signed packages, runs with receipts, and a log that strangers can verify. /docs is for reading.",
    },
  }) as unknown as OpenApiDocument;

  const paths: Record<string, Record<string, Operation>> = {};
  for (const entry of entries) {
    const path = openApiPath(entry.route.path);
    const operation = generated.paths[path]![entry.route.method]!;
    paths[path] = { ...paths[path], [entry.route.method]: completed(operation, entry, path) };
  }
  return {
    ...generated,
    servers: [{ url: publicUrl }],
    paths,
    components: {
      schemas: { ...generated.components.schemas, Problem: problemSchema },
      securitySchemes: {
        credential: {
          type: "http",
          scheme: "bearer",
          description:
            "An API key (`mk_…`), a JWT of the configured issuer, or a JWT-SVID of a registered workload. All go into `Authorization: Bearer`.",
        },
        svid: { type: "mutualTLS", description: "The X.509-SVID of a registered workload." },
      },
    },
  };
}

const openApiPath = (path: string): string => path.replaceAll("{+", "{");

function completed(operation: Operation, entry: Entry, path: string): Operation {
  const responses: Record<string, ResponseObject> = {};
  for (const [status, response] of Object.entries(operation.responses)) {
    responses[status] = { ...response, headers: { ...response.headers, ...headersOf(entry) } };
  }
  const codes = problemCodesOf(entry);
  for (const status of new Set(codes.map((code) => problems[code][0]))) {
    const ofStatus = codes.filter((code) => problems[code][0] === status);
    const own = responses[String(status)];
    responses[String(status)] = {
      description: [own?.description, ofStatus.map((code) => `\`${code}\`: ${problems[code][1]}.`).join(" ")]
        .filter((text) => text !== undefined)
        .join(" Or "),
      headers: { "Maestro-Request-Id": requestIdHeader },
      content: {
        ...own?.content,
        "application/problem+json": {
          schema: { allOf: [{ $ref: "#/components/schemas/Problem" }, { properties: { code: { enum: ofStatus } } }] },
        },
      },
    };
  }
  const parameters = [...(operation.parameters ?? []), ...idempotencyParameter(entry)];
  return {
    ...operation,
    tags: operation.tags ?? [path.split("/")[2] ?? "service"],
    operationId: `${entry.route.method}${path.replace(/[^A-Za-z0-9]+(\w?)/g, (_, next: string) => next.toUpperCase())}`,
    ...(parameters.length > 0 ? { parameters } : {}),
    security: entry.action === null ? [] : [{ credential: [] }, { svid: [] }],
    responses,
    "x-action": entry.action,
  };
}

const requestIdHeader = { description: "Also in our logs, and in problems.", schema: { type: "string" } } as const;

const headersOf = ({ idempotency }: Entry): NonNullable<ResponseObject["headers"]> => ({
  "Maestro-Request-Id": requestIdHeader,
  ...(idempotency === "none"
    ? {}
    : {
        "Idempotency-Replayed": {
          description: "`true` where this is the answer that was given to this key before.",
          schema: { type: "string", enum: ["true"] },
        },
      }),
});

const idempotencyParameter = ({ idempotency }: Entry): Parameter[] =>
  idempotency === "none"
    ? []
    : [
        {
          name: "Idempotency-Key",
          in: "header",
          required: idempotency === "required",
          description:
            "1 to 255 visible ASCII characters, new for each intent. For 24 hours the same key and body give the same answer.",
          schema: { type: "string", pattern: "^[\\x21-\\x7e]{1,255}$", example: "01k9x6f6-first-try" },
        },
      ];

const problemSchema: Schema = {
  type: "object",
  description: "RFC 9457. Some problems have more members, such as `errors`, `rule`, `fix`, `bytes_max`.",
  properties: {
    type: { type: "string", example: "urn:maestro:problem:not_found" },
    title: { type: "string" },
    status: { type: "integer" },
    detail: { type: "string", description: "what happened this time" },
    code: { type: "string", enum: Object.keys(problems) },
    action: { type: "string", description: "what to do about it" },
    request_id: { type: "string", example: "req_01k9x6f6c8a0b1c2d3e4f5g6h7" },
  },
  required: ["type", "title", "status", "detail", "code", "action", "request_id"],
};
