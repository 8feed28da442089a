// What passes between the edge and the API, and what does not.

import { expect, test } from "vitest";
import { forwardApi, type ApiLink } from "./forward-api.ts";

const secret = "the-shared-secret";

/** A link whose far side answers by `answer`, and what arrived there. */
function linkTo(answer: (request: Request) => Response | Promise<Response>): ApiLink & { arrived: Request[] } {
  const arrived: Request[] = [];
  return {
    arrived,
    origin: "https://api.test",
    secret,
    async fetch(request) {
      arrived.push(request);
      return answer(request);
    },
  };
}

async function forwarded(request: Request, link: ApiLink): Promise<Response> {
  const outcome = await forwardApi(request, "b", link);
  if (outcome.state !== "answered") throw new Error(`it was not forwarded: ${outcome.state}`);
  return outcome.response;
}

test("path, query, method and credential go on; what is between two neighbours does not", async () => {
  const link = linkTo(() => new Response("{}", { status: 201 }));
  const response = await forwarded(
    new Request("https://edge.test/api/a%2Fb?q=1&q=2", {
      method: "POST",
      headers: {
        authorization: "Bearer mk_x",
        "idempotency-key": "k",
        connection: "close, x-mine",
        "x-mine": "1",
        "keep-alive": "5",
        te: "trailers",
        upgrade: "h2c",
        "accept-encoding": "br",
        "maestro-edge-link": "forged",
        "maestro-edge-provider": "forged",
      },
      body: "body",
    }),
    link,
  );
  expect(response.status).toBe(201);
  const [request] = link.arrived;
  expect([request?.method, request?.url]).toEqual(["POST", "https://api.test/api/a%2Fb?q=1&q=2"]);
  expect(await request?.text()).toBe("body");
  const headers = Object.fromEntries(request?.headers ?? []);
  expect(headers).toMatchObject({
    authorization: "Bearer mk_x",
    "idempotency-key": "k",
    "accept-encoding": "identity",
    "cdn-loop": "maestro-edge",
    "maestro-edge-link": secret,
    "maestro-edge-provider": "b",
  });
  for (const name of ["connection", "x-mine", "keep-alive", "te", "upgrade"]) expect(headers).not.toHaveProperty(name);
});

test("without a secret nothing is claimed, also not what the client claimed", async () => {
  const link = linkTo(() => new Response(null, { status: 204 }));
  await forwarded(new Request("https://edge.test/api/x", { headers: { "maestro-edge-link": "forged" } }), {
    ...link,
    secret: "",
  });
  expect(link.arrived[0]?.headers.has("maestro-edge-link")).toBe(false);
});

test("an answer comes back as it is, never to be kept unless the API says so, never coded anew", async () => {
  const kept = linkTo(
    () =>
      new Response("x", {
        headers: { "cache-control": "private, max-age=5", etag: '"1"', connection: "x-hop", "x-hop": "1" },
      }),
  );
  const response = await forwarded(new Request("https://edge.test/api/x"), kept);
  expect(Object.fromEntries(response.headers)).toMatchObject({
    "cache-control": "private, max-age=5, no-transform",
    etag: '"1"',
    "cache-status": "maestro-edge-b; fwd=bypass; fwd-status=200",
  });
  expect(response.headers.has("x-hop")).toBe(false);
  const silent = await forwarded(
    new Request("https://edge.test/api/x"),
    linkTo(() => new Response("x")),
  );
  expect(silent.headers.get("cache-control")).toBe("no-store, no-transform");
});

test("a redirect is handed on and not followed", async () => {
  const link = linkTo(() => new Response(null, { status: 302, headers: { location: "https://elsewhere.test/" } }));
  const response = await forwarded(new Request("https://edge.test/api/x"), link);
  expect([response.status, response.headers.get("location")]).toEqual([302, "https://elsewhere.test/"]);
  expect(link.arrived[0]?.redirect).toBe("manual");
});

test("an answer streams: its first bytes are here before its last are made", async () => {
  let finish = (): void => {};
  const link = linkTo(
    () =>
      new Response(
        new ReadableStream({
          start(controller) {
            controller.enqueue(new TextEncoder().encode("first"));
            finish = () => controller.close();
          },
        }),
      ),
  );
  const response = await forwarded(new Request("https://edge.test/api/x"), link);
  const reader = response.body!.getReader();
  expect(new TextDecoder().decode((await reader.read()).value)).toBe("first");
  finish();
  expect((await reader.read()).done).toBe(true);
});

test.each(["maestro-edge", "a, maestro-edge", "maestro-edge; x=1, b", "x".repeat(2_000)])(
  "a request that was here before goes no further: CDN-Loop %s",
  async (loop) => {
    const link = linkTo(() => new Response("x"));
    const outcome = await forwardApi(
      new Request("https://edge.test/api/x", { headers: { "cdn-loop": loop } }),
      "b",
      link,
    );
    expect([outcome.state, link.arrived]).toEqual(["loop", []]);
  },
);

test("a body that is too long is refused by its length, and cut off where it has none", async () => {
  const link = linkTo(async (request) => new Response(String((await request.arrayBuffer()).byteLength)));
  const announced = new Request("https://edge.test/api/x", {
    method: "POST",
    body: "x",
    headers: { "content-length": String(2 ** 40) },
  });
  expect((await forwardApi(announced, "b", link)).state).toBe("too_large");
  expect(link.arrived).toEqual([]);
  const chunk = new Uint8Array(8 * 1024 * 1024);
  let sent = 0;
  const endless = new ReadableStream<Uint8Array>({
    pull(controller) {
      sent += chunk.byteLength;
      controller.enqueue(chunk);
    },
  });
  const init: RequestInit & { duplex: "half" } = { method: "POST", body: endless, duplex: "half" };
  expect((await forwardApi(new Request("https://edge.test/api/x", init), "b", link)).state).toBe("too_large");
  expect(sent).toBeLessThan(160 * 1024 * 1024);
});

/** As a platform hands a request on that cannot be made here. */
const as = (request: Request, given: Partial<Pick<Request, "method" | "body">>): Request =>
  new Proxy(request, {
    get: (target, name) =>
      name in given ? given[name as keyof typeof given] : (Reflect.get(target, name, target) as unknown),
  });

test("what nobody could send on is refused, and the API is not said to be away: a body of GET is left out, TRACE is not taken", async () => {
  const link = linkTo(async (request) => new Response(await request.text()));
  const plain = new Request("https://edge.test/api/x", { headers: { "content-length": "4" } });
  for (const method of ["GET", "HEAD"]) {
    const body = new Response("body").body;
    expect((await forwarded(as(plain, { method, body }), link)).status).toBe(200);
  }
  expect(link.arrived.map(({ method, body, headers }) => [method, body, headers.get("content-length")])).toEqual([
    ["GET", null, null],
    ["HEAD", null, null],
  ]);
  for (const method of ["TRACE", "trace", "TRACK", "CONNECT"]) {
    expect((await forwardApi(as(plain, { method }), "b", link)).state).toBe("method_not_allowed");
  }
  expect(link.arrived).toHaveLength(2);
});

test("a client that leaves amid its body is no API that is away", async () => {
  const link = linkTo(async (request) => new Response(await request.text()));
  let pulls = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      pulls += 1;
      if (pulls === 1) controller.enqueue(new Uint8Array(10));
      else controller.error(new Error("the client has gone"));
    },
  });
  const init: RequestInit & { duplex: "half" } = { method: "POST", body, duplex: "half" };
  expect((await forwardApi(new Request("https://edge.test/api/x", init), "b", link)).state).toBe("broken_off");
});

test("an API that is away is an answer of its own", async () => {
  const link = linkTo(() => Promise.reject(new TypeError("no connection")));
  expect((await forwardApi(new Request("https://edge.test/api/x"), "b", link)).state).toBe("unreachable");
});
