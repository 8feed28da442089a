// Parameters, queries and bodies against their schemas.

import { describe, expect, test } from "vitest";
import { z } from "zod";
import { Problem } from "../../../shared/contract/problems.ts";
import { parseBody, parseParams, parseQuery } from "./input.ts";

const thrown = (work: () => unknown): Problem => {
  try {
    work();
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
  throw new Error("it was taken");
};

describe("a query", () => {
  const schema = z.strictObject({ limit: z.coerce.number().int().max(100).default(20), after: z.string().optional() });
  const parse = (query: string): unknown => parseQuery(schema, `http://api.test/api/x${query}`);

  test("is parsed with its defaults", () => {
    expect(parse("")).toEqual({ limit: 20 });
    expect(parse("?limit=5&after=a%2Fb")).toEqual({ limit: 5, after: "a/b" });
  });

  test.each([
    ["?limt=5", "?limt", "is not known here"],
    ["?limit=5&limit=6", "?limit", "comes twice"],
    ["?after=a%00b", "?after", "has a NUL character"],
    ["?__proto__=1", "?__proto__", "is not known here"],
  ])("%s is refused with its name", (query, path, message) => {
    expect(thrown(() => parse(query))).toMatchObject({
      code: "invalid_request",
      members: { errors: [{ path, message }] },
    });
  });

  test("of a wrong type is refused with its name", () => {
    expect(thrown(() => parse("?limit=many")).members["errors"]).toMatchObject([{ path: "?limit" }]);
  });

  test("of a route that takes none is refused", () => {
    expect(parseQuery(null, "http://api.test/api/x")).toEqual({});
    expect(thrown(() => parseQuery(null, "http://api.test/api/x?a=1")).code).toBe("invalid_request");
  });
});

describe("a path", () => {
  test("that does not fit its pattern names nothing: not_found, as for what is missing", () => {
    const schema = z.strictObject({ id: z.string().regex(/^key_/) });
    expect(parseParams(schema, ["id"], { id: "key_1", literal3: "a:b" })).toEqual({ id: "key_1" });
    expect(thrown(() => parseParams(schema, ["id"], { id: "exe_1" })).code).toBe("not_found");
    expect(thrown(() => parseParams(schema, ["id"], { id: "key_\0" })).code).toBe("not_found");
  });
});

describe("a body", () => {
  const schema = z.strictObject({ items: z.array(z.strictObject({ "a/b": z.int() })), note: z.string().default("") });

  test("is parsed with its defaults", () => {
    expect(parseBody(schema, { items: [{ "a/b": 1 }] })).toEqual({ items: [{ "a/b": 1 }], note: "" });
  });

  test("is refused with a JSON Pointer for each field, unknown ones too", () => {
    const problem = thrown(() => parseBody(schema, { items: [{ "a/b": "x", c: 1 }], more: 1, extra: 2 }));
    expect(problem.code).toBe("invalid_request");
    const paths = (problem.members["errors"] as { path: string }[]).map(({ path }) => path);
    expect(paths.toSorted()).toEqual(["#/extra", "#/items/0/a~1b", "#/items/0/c", "#/more"]);
  });

  test("is told at most twenty errors", () => {
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`field${index}`, 1]));
    expect(thrown(() => parseBody(schema, { items: [], ...many })).members["errors"]).toHaveLength(20);
  });

  test("named __proto__ is an unknown field like any other", () => {
    const value: unknown = JSON.parse('{"items":[],"__proto__":{"admin":true}}');
    expect(thrown(() => parseBody(schema, value)).members["errors"]).toMatchObject([{ path: "#/__proto__" }]);
  });
});
