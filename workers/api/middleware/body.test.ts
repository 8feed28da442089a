// Bodies at the door: sizes, encodings and JSON that is not what it seems.

import fastCheck from "fast-check";
import { describe, expect, test } from "vitest";
import { utf8 } from "../../../shared/contract/bytes.ts";
import { duplicateKey } from "../../../shared/contract/duplicate-key.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { checkContentType, parseJson, RequestBody } from "./body.ts";

const codeOf = (work: () => unknown): string => {
  try {
    work();
    return "taken";
  } catch (error) {
    if (error instanceof Problem) return error.code;
    throw error;
  }
};

/** A request whose body comes in chunks, with or without a Content-Length that need not be true. */
function post(chunks: readonly Uint8Array[], contentLength?: string): Request {
  const waiting = [...chunks];
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const chunk = waiting.shift();
      if (chunk === undefined) controller.close();
      else controller.enqueue(chunk);
    },
  });
  const headers: Record<string, string> = contentLength === undefined ? {} : { "content-length": contentLength };
  return new Request("http://api.test/", { method: "POST", body, headers, duplex: "half" } as RequestInit);
}

const readBody = (request: Request, bytesMax: number) => new RequestBody(request).bytes(bytesMax);
const boundedStream = (request: Request, bytesMax: number) => new RequestBody(request).stream(bytesMax);

describe("a body", () => {
  test("of exactly the bound is read", async () => {
    expect(await readBody(post([utf8("12"), utf8("345")]), 5)).toEqual(utf8("12345"));
  });

  test("that is asked for twice is the same twice", async () => {
    const body = new RequestBody(post([utf8("12"), utf8("345")]));
    expect([await body.bytes(5), await body.bytes(5)]).toEqual([utf8("12345"), utf8("12345")]);
    const over = new RequestBody(post([utf8("123456")]));
    for (let count = 0; count < 2; count += 1) await expect(over.bytes(5)).rejects.toThrow("more than 5 bytes");
  });

  test("that comes byte by byte is copied out of its pieces at once: none of them is held until the end", async () => {
    const sent = Uint8Array.from({ length: 20_000 }, (_, at) => at % 251);
    // As workerd gives them: views of one byte over 4 KiB. Here all are over the same, so that one that was kept is another's by then.
    const place = new Uint8Array(4_096);
    let at = 0;
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          if (at === sent.length) return controller.close();
          place[0] = sent[at]!;
          at += 1;
          controller.enqueue(place.subarray(0, 1));
        },
      },
      { highWaterMark: 0 },
    );
    const request = new Request("http://api.test/", { method: "POST", body, duplex: "half" } as RequestInit);
    expect(await readBody(request, sent.length)).toEqual(sent);
  });

  test.each([undefined, "1", "0", "5"])(
    "beyond the bound is refused while it streams, with Content-Length %s",
    async (length) => {
      await expect(readBody(post([utf8("12"), utf8("3456")], length), 5)).rejects.toMatchObject({
        code: "too_large",
        members: { bytes_max: 5 },
      });
    },
  );

  test("that says it is too large is refused before it is read", async () => {
    await expect(readBody(post([utf8("1")], "6"), 5)).rejects.toMatchObject({ code: "too_large" });
    expect(codeOf(() => boundedStream(post([utf8("1")], "6"), 5))).toBe("too_large");
  });

  test("that never ends is cut off at twice the bound, and its source is told", async () => {
    let chunks = 0;
    let cancelled = false;
    const source = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        chunks += 1;
        controller.enqueue(new Uint8Array(1_000));
      },
      cancel: () => {
        cancelled = true;
      },
    });
    const request = new Request("http://api.test/", { method: "POST", body: source, duplex: "half" } as RequestInit);
    const body = new RequestBody(request);
    body.routeBytesMax = 10_000;
    await expect(body.bytes(10_000)).rejects.toMatchObject({ code: "too_large" });
    expect(cancelled).toBe(false);
    await body.discard();
    expect(cancelled).toBe(true);
    expect(chunks).toBeLessThan(25);
  });

  test("that its route did not read, or not to the end, is read to its end before the answer", async () => {
    for (const take of [0, 1, 2, 3]) {
      const sent: string[] = [];
      const chunks = [utf8("12"), utf8("34"), utf8("56")];
      const source = new ReadableStream<Uint8Array>(
        {
          pull(controller) {
            const chunk = chunks.shift();
            sent.push(chunk === undefined ? "end" : "chunk");
            if (chunk === undefined) controller.close();
            else controller.enqueue(chunk);
          },
        },
        { highWaterMark: 0 },
      );
      const request = new Request("http://api.test/", { method: "POST", body: source, duplex: "half" } as RequestInit);
      const body = new RequestBody(request);
      if (take > 0) {
        const reader = body.stream(100).getReader();
        for (let read = 0; read < take; read += 1) await reader.read();
      }
      await body.discard();
      expect(sent).toEqual(["chunk", "chunk", "chunk", "end"]);
    }
  });

  test("that stalls is waited for within its time only", async () => {
    let cancelled = false;
    const source = new ReadableStream<Uint8Array>({
      pull: () => new Promise(() => undefined),
      cancel: () => {
        cancelled = true;
      },
    });
    const request = new Request("http://api.test/", { method: "POST", body: source, duplex: "half" } as RequestInit);
    await new RequestBody(request).discard(10);
    expect(cancelled).toBe(true);
  });

  test("that is streamed on passes unchanged, and fails at its first byte too many", async () => {
    const whole = new Response(boundedStream(post([utf8("12"), utf8("345")]), 5));
    expect(await whole.text()).toBe("12345");
    await expect(new Response(boundedStream(post([utf8("12"), utf8("3456")]), 5)).text()).rejects.toMatchObject({
      code: "too_large",
    });
  });

  test("that is absent is empty", async () => {
    const request = new Request("http://api.test/", { method: "POST" });
    expect(await readBody(request, 5)).toHaveLength(0);
    expect(await new Response(boundedStream(request, 5)).text()).toBe("");
  });
});

describe("a content type", () => {
  const typed = (headers: Record<string, string>): Request => new Request("http://api.test/", { headers });
  const check = (headers: Record<string, string>): string =>
    codeOf(() => checkContentType(typed(headers), ["application/json"]));

  test.each([
    "application/json",
    "Application/JSON",
    "application/json; charset=utf-8",
    'application/json;charset="UTF-8"',
  ])("%s is taken", (type) => expect(check({ "content-type": type })).toBe("taken"));

  test.each([
    "",
    "text/plain",
    "application/jsonp",
    "application/json, text/plain",
    "application/json; charset=latin1",
  ])("%j is refused", (type) => expect(check({ "content-type": type })).toBe("unsupported_media_type"));

  test("with a content coding is refused, so that no small body unpacks into a large one", () => {
    expect(check({ "content-type": "application/json", "content-encoding": "gzip" })).toBe("unsupported_media_type");
    expect(check({ "content-type": "application/json", "content-encoding": "identity" })).toBe("taken");
  });
});

describe("JSON", () => {
  const parse = (text: string): string => codeOf(() => parseJson(utf8(text)));

  test.each(["", " ", "{", '{"a":1}{}', "{'a':1}", "NaN", "[1,]", '"\n"', "\uFEFF{}", "undefined", "01"])(
    "that is malformed is refused: %j",
    (text) => expect(parse(text)).toBe("malformed_json"),
  );

  test.each<[string, Uint8Array]>([
    ["a lone continuation byte", Uint8Array.of(0x22, 0x80, 0x22)],
    ["an overlong slash", Uint8Array.of(0x22, 0xc0, 0xaf, 0x22)],
    ["a surrogate in UTF-8", Uint8Array.of(0x22, 0xed, 0xa0, 0x80, 0x22)],
    ["UTF-16", Uint8Array.of(0xff, 0xfe, 0x22, 0x00, 0x22, 0x00)],
    ["latin1", Uint8Array.of(0x22, 0xe9, 0x22)],
    ["a raw NUL", Uint8Array.of(0x22, 0x00, 0x22)],
  ])("with %s is refused", (_, bytes) => {
    expect(codeOf(() => parseJson(bytes))).toBe("not_utf8");
  });

  test.each([
    String.raw`"\u0000"`,
    String.raw`{"a":["b",{"c":"x\u0000y"}]}`,
    String.raw`{"a\u0000":1}`,
    String.raw`"\ud800"`,
    String.raw`{"\udc00":1}`,
  ])("with an escape that no database takes is refused: %s", (text) => expect(parse(text)).toBe("not_utf8"));

  test("with an escaped backslash before u0000 is what it says", () => {
    expect(parseJson(utf8(String.raw`"\\u0000"`))).toBe(String.raw`\u0000`);
  });

  test.each([
    '{"role":"viewer","role":"admin"}',
    String.raw`{"role":"viewer","rol\u0065":"admin"}`,
    '{"a":[{"b":{"c":1,"d":{},"c":2}}]}',
    '{"a":{},"a":[]}',
    '{"__proto__":1,"__proto__":2}',
  ])("with one name twice is refused, since readers differ on it: %s", (text) => {
    expect(parse(text)).toBe("malformed_json");
  });

  test.each([
    '{"a":{"a":{"a":1}},"b":{"a":2}}',
    '[{"a":1},{"a":1}]',
    '{"a":"a","b":["a","a"],"c":"\\"a\\":1"}',
    '"a"',
    "[]",
    "3",
  ])("with one name in several objects is taken: %s", (text) => expect(parse(text)).toBe("taken"));

  test("nested a hundred thousand deep is refused or taken, but never exhausts the stack", () => {
    expect(["taken", "malformed_json"]).toContain(parse("[".repeat(100_000) + "]".repeat(100_000)));
  });

  test("of any value comes through as JSON.parse gives it, and shows no name twice", () => {
    fastCheck.assert(
      fastCheck.property(fastCheck.json(), (text) => {
        fastCheck.pre(!text.includes("\\u0000") && (JSON.parse(text) as unknown) !== undefined);
        expect(duplicateKey(text)).toBe(null);
        fastCheck.pre(text.isWellFormed() && !/\\u[dD][89a-fA-F]/.test(text));
        expect(parseJson(utf8(text))).toEqual(JSON.parse(text));
      }),
    );
  });

  test.each([`{"k":"SECRET"`, String.raw`{"k":"SECRET\u0000"}`, `{"SECRET`])(
    "a refusal never quotes the body: %s",
    (text) => {
      const secret = "mk_hunter2hunter2";
      let refusal: unknown;
      try {
        parseJson(utf8(text.replace("SECRET", secret)));
      } catch (error) {
        refusal = error;
      }
      const { detail, members, message } = refusal as Problem;
      expect(JSON.stringify([detail, members, message])).not.toContain(secret);
      expect(detail).not.toBe("");
    },
  );
});
