// Downloads that break, resume, lie, or are fed too much.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { sha256Hex } from "../shared/contract/bytes.ts";
import { download, type Wanted } from "./download.ts";
import { testHost } from "./testing/host.ts";
import { problem, testServer, type Answer } from "./testing/server.ts";

const content = Buffer.from(Array.from({ length: 10_000 }, (_, at) => at % 251));

/** Serves `content` by Range, at most `most` bytes an answer before the connection is cut. */
const ranged =
  (most = Number.POSITIVE_INFINITY): Answer =>
  (request, response) => {
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const rest = content.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, {
      "content-length": rest.length,
      ...(from > 0 ? { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` } : {}),
    });
    if (rest.length <= most) response.end(rest);
    else response.write(rest.subarray(0, most), () => setTimeout(() => response.destroy(), 20));
  };

async function setUp(answer: Answer) {
  const server = await testServer();
  server.on("GET /pack", answer);
  const host = testHost();
  const wanted: Wanted = {
    url: `${server.url}/pack`,
    file: join(host.home, "pack.zip"),
    bytes: content.length,
    sha256: await sha256Hex(content),
  };
  const ranges = (): (string | undefined)[] => server.seen.map(({ headers }) => headers.range);
  return { server, host, wanted, ranges, get: () => download(host, wanted, () => undefined) };
}

test("a download that is cut again and again is put together from its parts", async () => {
  const { wanted, ranges, get } = await setUp(ranged(3_000));
  await get();
  expect(readFileSync(wanted.file).equals(content)).toBe(true);
  expect(ranges()).toEqual([undefined, "bytes=3000-", "bytes=6000-", "bytes=9000-"]);
  expect(existsSync(`${wanted.file}.part`)).toBe(false);
});

test("a later call goes on where an earlier one stopped", async () => {
  const { wanted, ranges, get } = await setUp(ranged());
  writeFileSync(`${wanted.file}.part`, content.subarray(0, 4_000));
  await get();
  expect(ranges()).toEqual(["bytes=4000-"]);
  expect(readFileSync(wanted.file).equals(content)).toBe(true);
});

test("a part of something else is thrown away, and the whole is fetched once more", async () => {
  const { wanted, ranges, get } = await setUp(ranged());
  writeFileSync(`${wanted.file}.part`, "something else");
  await get();
  expect(ranges()).toEqual(["bytes=14-", undefined]);
  expect(readFileSync(wanted.file).equals(content)).toBe(true);
});

test("a server that does not resume sends the whole, and that is taken", async () => {
  const { wanted, get } = await setUp((_request, response) => response.end(content));
  writeFileSync(`${wanted.file}.part`, content.subarray(0, 4_000));
  await get();
  expect(readFileSync(wanted.file).equals(content)).toBe(true);
});

test("other bytes than the link promises are refused and not kept", async () => {
  const changed = Buffer.from(content);
  changed[5] = 255;
  const { wanted, get } = await setUp((_request, response) => response.end(changed));
  await expect(get()).rejects.toMatchObject({ exit: "verification_failed" });
  expect(existsSync(wanted.file)).toBe(false);
  expect(existsSync(`${wanted.file}.part`)).toBe(false);
});

test("more bytes than the link promises are refused while they come", async () => {
  const { wanted, get } = await setUp((_request, response) => response.end(Buffer.concat([content, content])));
  await expect(get()).rejects.toMatchObject({ exit: "verification_failed" });
  expect(existsSync(wanted.file)).toBe(false);
});

test("a link that has expired is told as the API tells it; what came so far stays", async () => {
  const { wanted, get } = await setUp(problem(410, { code: "link_expired", title: "The link has expired" }));
  writeFileSync(`${wanted.file}.part`, content.subarray(0, 4_000));
  await expect(get()).rejects.toMatchObject({ exit: "not_found" });
  expect(readFileSync(`${wanted.file}.part`).length).toBe(4_000);
});
