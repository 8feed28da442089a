// `maestro run` around real signatures, real archives and a real process, against a marketplace that may lie.

import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { packTar } from "modern-tar";
import { describe, expect, test } from "vitest";
import { sha256Hex } from "../shared/contract/bytes.ts";
import { maestro, testHost, type TestHost } from "./testing/host.ts";
import { apiKey, executionId, market, newSigner, sampleManifest, type Market } from "./testing/market.ts";
import { problem } from "./testing/server.ts";

function hostOf(server: Market): TestHost {
  const host = testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } });
  writeFileSync(join(host.home, "input.txt"), "the input");
  return host;
}
const runIt = (host: TestHost, ...more: string[]) =>
  maestro(host, "run", "tools/sample", "input.txt", "--json", ...more);
const failedFinish = { outcome: "failed", exit_code: null, output_sha256: null };
const leftovers = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith("maestro-run-"));

describe("a run that goes well", () => {
  test("writes the output, tells the API its digests, and leaves nothing behind", async () => {
    const server = await market();
    const host = hostOf(server);
    const before = leftovers();
    const { code, json } = await runIt(host, "--out", "out.txt");
    expect(code).toBe(0);
    const digest = await sha256Hex(Buffer.from("ran on the input"));
    expect(readFileSync(join(host.home, "out.txt"), "utf8")).toBe("ran on the input");
    expect(json()).toMatchObject({
      outcome: "succeeded",
      exit_code: 0,
      output: join(host.home, "out.txt"),
      output_sha256: digest,
    });
    expect(server.finishes).toEqual([{ outcome: "succeeded", exit_code: 0, output_sha256: digest }]);
    const start = server.seen.find(({ path }) => path === "/api/executions")!;
    expect(JSON.parse(start.body.toString())).toEqual({
      package: "tools/sample",
      install: "default",
      input_sha256: await sha256Hex(Buffer.from("the input")),
    });
    expect(start.headers["idempotency-key"]).toMatch(/^[0-9a-f-]{36}$/);
    expect(leftovers().filter((name) => !before.includes(name))).toEqual([]);
  });

  test("asks for the install that was named", async () => {
    const server = await market();
    expect((await runIt(hostOf(server), "--out", "out.txt", "--install", "site-a")).code).toBe(0);
    const start = server.seen.find(({ path }) => path === "/api/executions")!;
    expect(JSON.parse(start.body.toString())).toMatchObject({ install: "site-a" });
  });

  test("names the output after the execution where no --out is given", async () => {
    const host = hostOf(await market());
    expect((await runIt(host)).code).toBe(0);
    expect(existsSync(join(host.home, `sample-${executionId}.out`))).toBe(true);
  });

  test("fetches the artifact once, and checks the kept one each time", async () => {
    const server = await market();
    const host = hostOf(server);
    const fetched = (): number => server.seen.filter(({ path }) => path.includes("/artifacts/")).length;
    await runIt(host, "--out", "a");
    await runIt(host, "--out", "b");
    expect(fetched()).toBe(1);
    writeFileSync(join(host.home, ".cache", "maestro", "artifacts", server.artifactSha256), "poisoned");
    expect((await runIt(host, "--out", "c")).code).toBe(0);
    expect(fetched()).toBe(2);
  });

  test("keeps its output from every other run with the same --out, and from links that lie in wait there", async () => {
    const server = await market();
    const host = hostOf(server);
    writeFileSync(join(host.home, "kept"), "not the output");
    symlinkSync(join(host.home, "kept"), join(host.home, ".out.txt.part"));
    const runs = await Promise.all(Array.from({ length: 6 }, () => runIt(host, "--out", "out.txt")));
    expect(runs.map(({ code }) => code)).toEqual(runs.map(() => 0));
    expect(server.finishes.map(({ outcome }) => outcome)).toEqual(runs.map(() => "succeeded"));
    expect(readFileSync(join(host.home, "kept"), "utf8")).toBe("not the output");
    expect(lstatSync(join(host.home, "out.txt")).isFile()).toBe(true);
    expect(readFileSync(join(host.home, "out.txt"), "utf8")).toBe("ran on the input");
    expect(readdirSync(host.home).filter((name) => name.startsWith(".maestro-"))).toEqual([]);
  });

  test("gives no input to a package that does not ask for one", async () => {
    const manifest = { ...sampleManifest, permissions: { read_input: false } };
    const host = hostOf(await market({ manifest, source: "process.stdout.write(String(process.argv.length))" }));
    expect((await runIt(host, "--out", "out")).code).toBe(0);
    expect(readFileSync(join(host.home, "out"), "utf8")).toBe("2");
  });
});

describe("a run that fails", () => {
  test("is exit code 10, is finished as failed with its own exit code, and keeps no output", async () => {
    const server = await market({
      source: 'process.stdout.write("half"); console.error("why \\u001b[31mred"); process.exitCode = 4;',
    });
    const host = hostOf(server);
    const { code, err } = await maestro(host, "run", "tools/sample", "input.txt", "--out", "out");
    expect(code).toBe(10);
    expect(server.finishes).toEqual([{ outcome: "failed", exit_code: 4, output_sha256: null }]);
    expect(existsSync(join(host.home, "out"))).toBe(false);
    expect(err).toContain("why \\u{1b}[31mred");
    expect(err).not.toContain("\u001B");
  });

  test("for its time limit has no exit code", async () => {
    const manifest = { ...sampleManifest, limits: { ...sampleManifest.limits, wall_ms: 500 } };
    const server = await market({ manifest, source: "for (;;);" });
    const { code, json } = await runIt(hostOf(server));
    expect([code, json()["end"]]).toEqual([10, "time_limit"]);
    expect(server.finishes).toEqual([failedFinish]);
  });

  test("by Ctrl-C is killed, finished as failed, and exit code 130", async () => {
    const server = await market({ source: "setInterval(() => {}, 1000)" });
    const host = hostOf(server);
    server.on("GET /api/market/releases", (_request, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(server.release));
      setTimeout(() => host.interrupt(), 800);
    });
    const { code } = await runIt(host);
    expect(code).toBe(130);
    expect(server.finishes).toEqual([failedFinish]);
  });

  test("with a finish that meets 503 twice is finished at the third try, under one key", async () => {
    const server = await market();
    server.finishRefusals = 2;
    const host = hostOf(server);
    expect((await runIt(host)).code).toBe(0);
    const finishes = server.seen.filter(({ path }) => path.endsWith("/finish"));
    const keys = finishes.map(({ headers }) => headers["idempotency-key"]);
    expect(host.slept.every((ms) => ms >= 1_000)).toBe(true);
    expect(server.finishes.length).toBe(1);
    expect(keys.length).toBe(3);
    expect(new Set(keys).size).toBe(1);
  });

  test("whose end cannot be recorded says so, keeps the output, and is exit code 6", async () => {
    const server = await market();
    server.on(
      `POST /api/executions/${executionId}/finish`,
      problem(503, { code: "database_unavailable", title: "Not \u001b]0;now\u0007" }, { "retry-after": "1" }),
    );
    const host = hostOf(server);
    const { code, err, json } = await runIt(host, "--out", "out");
    expect(code).toBe(6);
    expect(err).toContain("Not \\u{1b}]0;now");
    expect(err).not.toContain("\u001B");
    expect(json()).toMatchObject({ outcome: "succeeded", finish_recorded: false });
    expect(err).toContain(executionId);
    expect(existsSync(join(host.home, "out"))).toBe(true);
  });
});

describe("a deny", () => {
  test("shows rule, fix and request id, is exit code 3, and runs nothing", async () => {
    const server = await market();
    server.on(
      "POST /api/executions",
      problem(403, {
        code: "denied",
        title: "The policy denies this",
        detail: "tools/sample is not entitled.",
        rule: "entitlement_missing",
        fix: {
          words: "Entitle the package.",
          method: "PUT",
          path: "/api/market/entitlements",
          body: { entitlements: [{ package: "tools/sample", channel: "stable", allowed: true }] },
        },
      }),
    );
    const { code, err, json } = await runIt(hostOf(server));
    expect(code).toBe(3);
    for (const words of [
      "The policy denies this",
      "tools/sample is not entitled.",
      "rule: entitlement_missing",
      "Entitle the package.",
    ]) {
      expect(err).toContain(words);
    }
    expect(err).toContain("PUT /api/market/entitlements");
    expect(err).toContain("maestro market entitle tools/sample");
    expect(err).toContain("request: req_test");
    expect(json()["error"]).toMatchObject({ rule: "entitlement_missing", exit: "denied", exit_code: 3 });
    expect(server.seen.map(({ path }) => path)).toEqual(["/api/audit/keys", "/api/executions"]);
    expect(server.finishes).toEqual([]);
  });
});

describe("a release is refused before a byte is unpacked, and the run finished as failed, when", () => {
  async function refused(server: Market): Promise<string> {
    const { code, json } = await runIt(hostOf(server));
    expect(code).toBe(7);
    expect(server.finishes).toEqual([failedFinish]);
    return String((json()["error"] as Record<string, unknown>)["title"]);
  }

  test("the artifact that comes is another one", async () => {
    const server = await market();
    server.on(`GET /api/market/artifacts/${server.artifactSha256}`, (_request, response) => response.end("another"));
    expect(await refused(server)).toContain("not the one that was pinned");
  });

  test.each([
    // A release of that name, signed as it should be in every way.
    { package: "tools/other" },
    { install: "site-b" },
    { input_sha256: "0".repeat(64) },
  ])("the API started it for another one than was asked for: %j", async (startedAs) => {
    const server = await market({ manifest: { ...sampleManifest, name: startedAs.package ?? sampleManifest.name } });
    server.startedAs = startedAs;
    expect(await refused(server)).toContain("another run than the one that was asked for");
  });

  test("the countersignature is of an unknown key", async () => {
    const server = await market();
    server.keys = (await market()).keys;
    expect(await refused(server)).toContain("countersignature");
  });

  test("the countersigning key is published for another use", async () => {
    const server = await market();
    server.keys = JSON.parse(
      JSON.stringify(server.keys).replace('"use":"release"', '"use":"manifest"'),
    ) as Market["keys"];
    expect(await refused(server)).toContain("countersignature");
  });

  test("the publisher's key is not the one that signed", async () => {
    const server = await market();
    server.release["publisher_key"] = Buffer.from((await newSigner()).spki).toString("base64");
    expect(await refused(server)).toContain("publisher");
  });

  test("the signatures are over another release", async () => {
    const [server, other] = [await market(), await market()];
    server.release["publisher_bundle"] = other.release["publisher_bundle"];
    server.release["publisher_key"] = other.release["publisher_key"];
    expect(await refused(server)).toContain("countersignature");
  });

  test("the marketplace has not countersigned it", async () => {
    const server = await market();
    server.release = { ...server.release, marketplace_bundle: null };
    expect(await refused(server)).toContain("has not countersigned");
  });

  test("it is another one than the execution names, though of the same name, version and artifact", async () => {
    const server = await market();
    server.release["id"] = `rel_${"z".repeat(26)}`;
    expect(await refused(server)).toContain("not the one of this execution");
  });

  test("it is signed as another version than the execution names", async () => {
    const server = await market();
    server.startedAs = { version: "1.0.1" };
    expect(await refused(server)).toContain("signed as tools/sample 1.0.0");
  });

  test("the artifact of that digest has another size than was signed", async () => {
    expect(await refused(await market({ signedBytes: 1 }))).toContain("not those that were signed");
  });

  test("both signatures are good, but over another artifact than the pinned one", async () => {
    const [server, other] = [await market(), await market({ source: "1" })];
    server.release = { ...other.release };
    server.keys = other.keys;
    expect(await refused(server)).toContain("another artifact");
  });

  test("the manifest inside is not the signed one", async () => {
    const signedManifest = { ...sampleManifest, limits: { ...sampleManifest.limits, wall_ms: 10_000 } };
    expect(await refused(await market({ signedManifest }))).toContain("not the manifest that was signed");
  });

  test("the signed archive itself is hostile", async () => {
    const body = JSON.stringify(sampleManifest);
    const tar = await packTar([
      { header: { name: "maestro.json", size: Buffer.byteLength(body) }, body },
      { header: { name: "main.mjs", size: 1 }, body: "1" },
      { header: { name: "link", size: 0, type: "symlink", linkname: "/etc/passwd" } },
    ]);
    expect(await refused(await market({ artifact: new Uint8Array(gzipSync(tar)) }))).toContain("symlink");
  });
});

describe("nothing is started when", () => {
  test("the input is missing, a folder, or the output has no place", async () => {
    const server = await market();
    const host = hostOf(server);
    expect((await maestro(host, "run", "tools/sample", "missing")).code).toBe(2);
    expect((await maestro(host, "run", "tools/sample", ".")).code).toBe(2);
    expect((await runIt(host, "--out", "no/such/folder/out")).code).toBe(2);
    // Were it put in place by a rename, a root user's --out /dev/null would make a file of the device.
    spawnSync("mkfifo", [join(host.cwd, "pipe")]);
    expect((await runIt(host, "--out", "pipe")).code).toBe(2);
    expect(statSync(join(host.cwd, "pipe")).isFIFO()).toBe(true);
    expect((await maestro(host, "run", "../evil", "input.txt")).code).toBe(2);
    expect(server.seen).toEqual([]);
  });

  test("nobody is logged in", async () => {
    const host = testHost();
    writeFileSync(join(host.home, "input.txt"), "x");
    const { code, err } = await maestro(host, "run", "tools/sample", "input.txt");
    expect(code).toBe(3);
    expect(err).toContain("maestro login");
  });
});
