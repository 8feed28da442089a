// Reading a bucket through the S3 API: pages, failures, and what is never said. A server that signs for nothing stands in
// for the failures that a real one does not have on demand; test/interop/bucket.test.ts has a real one.

import { describe, expect, test } from "vitest";
import { openBucket, parseBucketUrl, type Bucket } from "./bucket.ts";
import { Failure } from "./failure.ts";
import { testHost, type TestHost } from "./testing/host.ts";
import { testServer, type Answer, type SeenRequest, type TestServer } from "./testing/server.ts";

const secret = "a-secret-that-nobody-may-see";
const hostWith = (env: Record<string, string> = {}): TestHost =>
  testHost({ env: { AWS_ACCESS_KEY_ID: "AKTEST", AWS_SECRET_ACCESS_KEY: secret, ...env } });

const opened = (server: TestServer, host = hostWith()): Bucket =>
  openBucket(host, parseBucketUrl(`${server.url}/mc-audit`));

const xml =
  (status: number, text: string, headers: Record<string, string> = {}): Answer =>
  (_request, response) => {
    response.writeHead(status, { "content-type": "application/xml", ...headers });
    response.end(`<?xml version="1.0" encoding="UTF-8"?>\n${text}`);
  };
const refusal = (status: number, code: string): Answer =>
  xml(status, `<Error><Code>${code}</Code><StringToSign>${secret}</StringToSign></Error>`);

const listed = (keys: readonly string[], token: string | null): string =>
  `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Prefix>t/</Prefix>` +
  `<IsTruncated>${token !== null}</IsTruncated>` +
  (token === null ? "" : `<NextContinuationToken>${token}</NextContinuationToken>`) +
  keys.map((key) => `<Contents><Key>${key}</Key><Size>1</Size></Contents>`).join("") +
  "</ListBucketResult>";

async function all(keys: AsyncIterable<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const key of keys) found.push(key);
  return found;
}

async function failureOf(work: Promise<unknown>): Promise<Failure> {
  const error = await work.then(
    () => null,
    (error: unknown) => error,
  );
  if (!(error instanceof Failure)) throw new Error(`no Failure but ${String(error)}`);
  expect(JSON.stringify([error.message, error.advice, error.facts])).not.toContain(secret);
  return error;
}

describe("a listing", () => {
  test("is read page after page, each token as it was given", async () => {
    const server = await testServer();
    server.on("GET /mc-audit", ({ query }, response) => {
      const answer =
        query.get("continuation-token") === null
          ? listed(["t/a", "t/b&amp;c"], "1&#x2F;+&amp;=")
          : listed(["t/d"], null);
      void xml(200, answer)({} as SeenRequest, response);
    });
    const keys = await all(opened(server).keys("t/", "t/0"));
    expect(keys).toEqual(["t/a", "t/b&c", "t/d"]);
    expect(server.seen.map(({ query }) => Object.fromEntries(query))).toEqual([
      { "list-type": "2", prefix: "t/", "max-keys": "1000", "start-after": "t/0" },
      { "list-type": "2", prefix: "t/", "max-keys": "1000", "continuation-token": "1/+&=" },
    ]);
  });

  test("that repeats itself, goes back or leaves the prefix ends in a failure, not in a circle", async () => {
    for (const keys of [
      ["t/a", "t/a"],
      ["t/b", "t/a"],
      ["t/a", "u/a"],
    ]) {
      const server = await testServer();
      server.on("GET /mc-audit", xml(200, listed(keys, "again")));
      expect((await failureOf(all(opened(server).keys("t/", null)))).message).toContain("out of order");
    }
  });

  test("by something that is no S3 server is a failure", async () => {
    const server = await testServer();
    server.on("GET /mc-audit", xml(200, "<html></html>"));
    expect((await failureOf(all(opened(server).keys("t/", null)))).message).toContain("one of S3's");
  });
});

describe("a request", () => {
  test("is signed with Signature Version 4, for R2's region unless another is named", async () => {
    const server = await testServer();
    server.on("GET /mc-audit/t/a", xml(200, "x"));
    await opened(server).get("t/a", 100);
    await opened(server, hostWith({ AWS_REGION: "eu-west-1", AWS_SESSION_TOKEN: "a-session" })).get("t/a", 100);
    const [first, second] = server.seen.map(({ headers }) => headers);
    expect(first?.authorization).toMatch(
      /^AWS4-HMAC-SHA256 Credential=AKTEST\/\d{8}\/auto\/s3\/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=[0-9a-f]{64}$/,
    );
    expect(second?.authorization).toContain("/eu-west-1/s3/");
    expect(second?.["x-amz-security-token"]).toBe("a-session");
    expect(JSON.stringify(server.seen)).not.toContain(secret);
  });

  test("is tried again after 429, 5xx, a cut connection and a cut body, five times in all", async () => {
    const whole = "the whole object";
    const spoiled: Answer[] = [
      refusal(503, "SlowDown"),
      refusal(429, "TooManyRequests"),
      (_request, response) => void response.destroy(),
      (_request, response) => {
        response.writeHead(200, { "content-length": String(whole.length) });
        response.write(whole.slice(0, 4), () => response.destroy());
      },
    ];
    const server = await testServer();
    const host = hostWith();
    server.on("GET /mc-audit/t/a", (request, response) => {
      const spoil = spoiled.shift();
      if (spoil === undefined) response.end(whole);
      else spoil(request, response);
    });
    expect(Buffer.from((await opened(server, host).get("t/a", 100))!).toString()).toBe(whole);
    expect(host.slept.length).toBe(4);

    server.on("GET /mc-audit/t/b", refusal(500, "InternalError"));
    const failure = await failureOf(opened(server).get("t/b", 100));
    expect(failure).toMatchObject({ exit: "unavailable", message: expect.stringContaining("500 InternalError") });
    expect(server.seen.filter(({ path }) => path.endsWith("/b")).length).toBe(5);
  });

  test("ends in a sentence where it is refused, and says nothing that the server said but its code", async () => {
    const server = await testServer();
    const cases: [string, Answer, string, string][] = [
      ["signature", refusal(403, "SignatureDoesNotMatch"), "denied", "403 SignatureDoesNotMatch"],
      ["bucket", refusal(404, "NoSuchBucket"), "not_found", "is not there"],
      ["region", refusal(400, "AuthorizationHeaderMalformed"), "failure", "400 AuthorizationHeaderMalformed"],
      ["code", refusal(403, `<b>${secret}</b>`), "denied", "(403)"],
    ];
    for (const [name, answer, exit, message] of cases) {
      server.on(`GET /mc-audit/${name}`, answer);
      expect(await failureOf(opened(server).get(name, 100))).toMatchObject({
        exit,
        message: expect.stringContaining(message),
      });
    }
    expect(server.seen.length).toBe(cases.length);
  });

  test("is not carried along by a redirect", async () => {
    const [server, elsewhere] = [await testServer(), await testServer()];
    server.on("GET /mc-audit/t/a", xml(307, "", { location: `${elsewhere.url}/mc-audit/t/a` }));
    expect((await failureOf(opened(server).get("t/a", 100))).message).toContain("somewhere else");
    expect(elsewhere.seen).toEqual([]);
  });

  test("reads no more than the bound, and null where there is no object", async () => {
    const server = await testServer();
    server.on("GET /mc-audit/t/a", (_request, response) => void response.end(Buffer.alloc(101)));
    expect((await failureOf(opened(server).get("t/a", 100))).message).toContain("more than 100 bytes");
    expect((await opened(server).get("t/a", 101))?.length).toBe(101);
    server.on("GET /mc-audit/t/b", refusal(404, "NoSuchKey"));
    expect(await opened(server).get("t/b", 100)).toBeNull();
  });

  test("ends at once when it is interrupted", async () => {
    const server = await testServer();
    const host = hostWith();
    server.on("GET /mc-audit/t/a", () => host.interrupt());
    expect((await failureOf(opened(server, host).get("t/a", 100))).exit).toBe("interrupted");
  });
});

test("an address is a host and a bucket, encrypted unless it is this machine; without credentials nothing is asked", async () => {
  for (const bad of [
    "mc-audit",
    "http://r2.example/mc-audit",
    "https://user:pass@r2.example/mc-audit",
    "https://r2.example/",
    "https://r2.example/mc-audit/deeper",
    "https://r2.example/mc-audit?x=1",
    "s3://mc-audit",
  ])
    expect(() => parseBucketUrl(bad), bad).toThrow(Failure);
  expect(parseBucketUrl("https://abc.r2.cloudflarestorage.com/mc-audit/").href).toContain("/mc-audit");
  const url = parseBucketUrl("https://r2.example/mc-audit");
  expect(() => openBucket(testHost(), url)).toThrow("no credentials");
});
