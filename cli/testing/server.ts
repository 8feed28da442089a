// A small HTTP server for tests of the client's side: each route is a function, and every request is kept.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}
export type Answer = (request: SeenRequest, response: ServerResponse) => unknown;

export interface TestServer {
  readonly url: string;
  readonly seen: SeenRequest[];
  /** `GET /api/whoami` → what it answers; later ones take the place of earlier ones. */
  on(route: string, answer: Answer): void;
  stop(): Promise<void>;
}

export const json =
  (value: unknown, status = 200, headers: Record<string, string> = {}): Answer =>
  (_request, response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(JSON.stringify(value));
  };

export const problem = (
  status: number,
  members: Record<string, unknown>,
  headers: Record<string, string> = {},
): Answer =>
  json({ type: "urn:maestro:problem:x", title: "A title", status, request_id: "req_test", ...members }, status, {
    "content-type": "application/problem+json",
    ...headers,
  });

export async function testServer(): Promise<TestServer> {
  const routes = new Map<string, Answer>();
  const seen: SeenRequest[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const url = new URL(request.url ?? "/", "http://server");
      const kept: SeenRequest = {
        method: request.method ?? "",
        path: url.pathname,
        query: url.searchParams,
        headers: request.headers,
        body: Buffer.concat(chunks),
      };
      seen.push(kept);
      const answer =
        routes.get(`${kept.method} ${kept.path}`) ??
        problem(404, { code: "not_found", title: "There is no such thing here" });
      void Promise.resolve(answer(kept, response)).catch((error: unknown) => response.destroy(error as Error));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = async (): Promise<void> => {
    if (!server.listening) return;
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(stop);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    on: (route, answer) => void routes.set(route, answer),
    stop,
  };
}
