// Parameters, query and JSON body, parsed once by the route's schemas. Called by the door.

import type { RouteConfig, z } from "@hono/zod-openapi";
import { Problem } from "../../../shared/contract/problems.ts";
import { notFound } from "./problem.ts";

type Schema = z.ZodType;
interface FieldError {
  readonly path: string;
  readonly message: string;
}

/** At most so many errors are told at once. */
const errorsMax = 20;

export const schemasOf = (
  route: RouteConfig,
): { params: Schema | null; query: Schema | null; json: Schema | null; contentTypes: string[] } => {
  const content = route.request?.body?.content ?? {};
  const media = content["application/json"];
  const json = media !== undefined && "schema" in media ? media.schema : undefined;
  return {
    params: (route.request?.params as Schema | undefined) ?? null,
    query: strictly((route.request?.query as Schema | undefined) ?? null),
    json: (json as Schema | undefined) ?? null,
    contentTypes: Object.keys(content),
  };
};

/** A query takes no name that the contract does not have. */
function strictly(schema: Schema | null): Schema | null {
  const strict = (schema as { strict?: () => Schema } | null)?.strict;
  return strict === undefined ? schema : strict.call(schema);
}

/** A path that does not fit names nothing: the same answer as for what is missing or foreign. */
export function parseParams(
  schema: Schema | null,
  names: readonly string[],
  segments: Readonly<Record<string, string>>,
): unknown {
  const params = Object.fromEntries(names.map((name) => [name, segments[name]]));
  if (Object.values(params).some((value) => value?.includes("\0"))) throw notFound();
  const parsed = schema?.safeParse(params);
  if (parsed === undefined) return {};
  if (!parsed.success) throw notFound();
  return parsed.data;
}

export function parseQuery(schema: Schema | null, url: string): unknown {
  const query: Record<string, string> = Object.create(null) as Record<string, string>;
  const errors: FieldError[] = [];
  for (const [name, value] of new URL(url).searchParams) {
    const path = `?${name.slice(0, 100)}`;
    if (name in query) errors.push({ path, message: "comes twice" });
    if (value.includes("\0") || name.includes("\0")) errors.push({ path, message: "has a NUL character" });
    query[name] = value;
  }
  if (schema === null) {
    for (const name of Object.keys(query))
      errors.push({ path: `?${name.slice(0, 100)}`, message: "is not known here" });
  }
  if (errors.length > 0) throw invalid(errors);
  const parsed = schema?.safeParse({ ...query });
  if (parsed === undefined) return {};
  if (!parsed.success) throw invalid(fieldErrors(parsed.error, "?"));
  return parsed.data;
}

export function parseBody(schema: Schema, value: unknown): unknown {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw invalid(fieldErrors(parsed.error, "#"));
  return parsed.data;
}

export const invalid = (errors: readonly FieldError[]): Problem => {
  const [first] = errors;
  const detail = first === undefined ? "The request does not fit." : `${first.path}: ${first.message}`;
  return new Problem("invalid_request", detail, { errors: errors.slice(0, errorsMax) });
};

/** `#/entitlements/0/package` (a JSON Pointer, RFC 6901) for a body, `?channel` for a query. */
function fieldErrors(error: z.ZodError, root: "#" | "?"): FieldError[] {
  const pathOf = (path: readonly PropertyKey[]): string =>
    root === "?"
      ? `?${path.map(String).join(".")}`
      : `#${path.map((part) => `/${String(part).slice(0, 100).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("")}`;
  return error.issues.flatMap((issue): FieldError[] =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => ({ path: pathOf([...issue.path, key]), message: "is not known here" }))
      : [{ path: pathOf(issue.path), message: issue.message }],
  );
}
