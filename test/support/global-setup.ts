// Brings up the one real stack of a contract run, and a small control server through which the test files, which run in
// other processes, stop and start its parts. Named in vitest.config.ts; tests use it by `useStack()` in stack.ts.

import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestProject } from "vitest/node";
import { ephemeralFolder, startStack, type Stack } from "../../scripts/stack/index.ts";
import type { TokenRequest } from "../../scripts/stack/issuer.ts";
import type { SeedOptions } from "../../scripts/stack/seed.ts";
import type { StackFacts } from "./stack.ts";

type MeterMethod = (argument: unknown) => Promise<unknown>;

/** What a test may ask for, by name. Arguments and answers are JSON. */
const controls = {
  stopPostgres: (stack: Stack) => stack.postgres.stop(),
  startPostgres: (stack: Stack) => stack.postgres.start(),
  seedTenant: (stack: Stack, slug: unknown, options: unknown) =>
    stack.seedTenant(String(slug), options as SeedOptions | undefined),
  issueToken: (stack: Stack, request: unknown) => stack.issueToken(request as TokenRequest),
  rotateIssuerKey: (stack: Stack) => stack.rotateIssuerKey(),
  runScheduled: (stack: Stack) => stack.runScheduled(),
  async callMeter(stack: Stack, tenantId: unknown, method: unknown, argument: unknown) {
    const namespace = await stack.miniflare.getDurableObjectNamespace("PQL_METER", "maestro-api");
    const meter = namespace.get(namespace.idFromName(String(tenantId))) as unknown as Record<string, MeterMethod>;
    return await meter[String(method)]!(argument);
  },
  async listObjects(stack: Stack, bucket: unknown, prefix: unknown) {
    const [worker, binding] = bucket === "artifacts" ? ["maestro-api", "ARTIFACTS"] : ["maestro-audit", "AUDIT_BUCKET"];
    const listed = await (await stack.miniflare.getR2Bucket(binding, worker)).list({ prefix: String(prefix) });
    return listed.objects.map(({ key }) => key);
  },
  async readObject(stack: Stack, bucket: unknown, key: unknown) {
    const [worker, binding] = bucket === "artifacts" ? ["maestro-api", "ARTIFACTS"] : ["maestro-audit", "AUDIT_BUCKET"];
    const object = await (await stack.miniflare.getR2Bucket(binding, worker)).get(String(key));
    return object === null ? null : Buffer.from(await object.arrayBuffer()).toString("base64");
  },
  async deleteObject(stack: Stack, bucket: unknown, key: unknown) {
    const [worker, binding] = bucket === "artifacts" ? ["maestro-api", "ARTIFACTS"] : ["maestro-audit", "AUDIT_BUCKET"];
    await (await stack.miniflare.getR2Bucket(binding, worker)).delete(String(key));
  },
  async putEdgeA(stack: Stack, key: unknown, base64: unknown) {
    const bucket = await stack.miniflare.getR2Bucket("EDGE_A", "maestro-edge");
    await bucket.put(String(key), Buffer.from(String(base64), "base64"));
  },
  async deleteEdgeA(stack: Stack, key: unknown) {
    await (await stack.miniflare.getR2Bucket("EDGE_A", "maestro-edge")).delete(String(key));
  },
  async fetchEdgeA(stack: Stack, path: unknown, headers: unknown, tlsClientAuth: unknown) {
    // As Cloudflare hands a request to the worker where the client came with a certificate.
    const worker = await stack.miniflare.getWorker("maestro-edge");
    const response = await worker.fetch(`https://edge.test${String(path)}`, {
      headers: headers as Record<string, string>,
      cf: { tlsClientAuth } as Record<string, unknown>,
    });
    return { status: response.status, text: await response.text() };
  },
  stopBunnyStorage: (stack: Stack) => stack.bunnyStorage.stop(),
  startBunnyStorage: (stack: Stack) => stack.bunnyStorage.start(),
} as const;
export type ControlName = keyof typeof controls;

export default async function bringUpStack(project: TestProject): Promise<() => Promise<void>> {
  const folder = ephemeralFolder();
  const bundlesFolder = process.env["MAESTRO_BUNDLES"] ?? folder;
  const stack = await startStack({ folder, ephemeral: true, bundlesFolder });
  const secret = randomBytes(16).toString("hex");
  const server = createServer((request, response) => {
    control(stack, secret, request)
      .then(
        (value) => [200, { value: value ?? null }] as const,
        (error: unknown) =>
          [500, { error: error instanceof Error ? (error.stack ?? error.message) : String(error) }] as const,
      )
      .then(([status, body]) => response.writeHead(status).end(JSON.stringify(body)))
      .catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const facts: StackFacts = {
    controlUrl: `http://127.0.0.1:${port}/${secret}`,
    folder: stack.folder,
    bundlesFolder,
    apiUrl: stack.apiUrl,
    tls: stack.tls,
    edge: stack.edge,
    bunnyStorage: {
      url: stack.bunnyStorage.url,
      zone: stack.bunnyStorage.zone,
      accessKey: stack.bunnyStorage.accessKey,
    },
    issuerUrl: stack.issuerUrl,
    audience: stack.audience,
    neonEndpoint: stack.neonEndpoint,
    databaseUrls: stack.databaseUrls,
    logPaths: stack.logPaths,
  };
  project.provide("stack", facts);
  return async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await stack.stop();
  };
}

async function control(stack: Stack, secret: string, request: IncomingMessage): Promise<unknown> {
  let text = "";
  for await (const chunk of request as AsyncIterable<Buffer>) text += chunk.toString("utf8");
  const name = request.url?.slice(secret.length + 2) ?? "";
  if (!request.url?.startsWith(`/${secret}/`) || !Object.hasOwn(controls, name)) throw new Error(`no control ${name}`);
  const [first, second, third] = JSON.parse(text) as unknown[];
  return controls[name as ControlName](stack, first, second, third);
}
