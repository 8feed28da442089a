// An HTTPS server for tests of the client's side, which asks for client certificates and takes any: each request is kept with the
// certificate that came, and all are answered alike.

import { createServer } from "node:https";
import type { IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { onTestFinished } from "vitest";
import type { Minted } from "../svid/mint.ts";

interface SeenTls {
  readonly certificate: Uint8Array | null;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The same for all requests of one connection. */
  readonly connection: object;
}

export async function tlsServer(svid: Pick<Minted, "files">, answer: unknown) {
  const seen: SeenTls[] = [];
  const { chainPem, keyPem } = svid.files;
  const options = { cert: chainPem, key: keyPem, requestCert: true, rejectUnauthorized: false } as const;
  const server = createServer(options, (request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const socket = request.socket as TLSSocket;
      const raw = socket.getPeerX509Certificate()?.raw;
      seen.push({
        certificate: raw === undefined ? null : new Uint8Array(raw),
        headers: request.headers,
        body: Buffer.concat(chunks).toString("utf8"),
        connection: socket,
      });
      if (request.url === "/api/principals") response.writeHead(302, { location: "https://elsewhere/" }).end();
      else response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}
