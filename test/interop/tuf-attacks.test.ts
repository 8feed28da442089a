// A stock tuf-js over HTTP against each attack in TUF's remit, the same ones that our own fetcher meets: what it has stays, and it says
// what is wrong. A provider that is honest again is followed.

import { expect, test } from "vitest";
import { edgeWorld, fetcherSecret, policyPath, startProvider, tenant } from "../support/edge-world.ts";
import { tufAttacks } from "../support/tuf-attacks.ts";
import { tufHttpClient } from "../support/tuf.ts";

test.each(tufAttacks)("tuf-js refuses $title", async ({ stock, stage }) => {
  const world = await edgeWorld();
  await world.publish();
  const { bundle: good } = await world.publish({ allowed: "bob" });
  const provider = await startProvider("a", world.copy());
  const urlOf = (path: string): string => {
    const target = /^\/targets\/.*\/([0-9a-f]{64})\.bundle\.tar\.gz$/.exec(path);
    const key = target === null ? `tuf/${tenant}/${path.split("/").at(-1)}` : `policies/${tenant}/${target[1]}.tar.gz`;
    return `${provider.baseUrl}/${key}`;
  };
  const client = tufHttpClient(world.pin, urlOf, { authorization: `Bearer ${fetcherSecret}` });
  const before = world.copy();
  expect(Buffer.from(await client.download(policyPath)).equals(good)).toBe(true);

  Object.assign(provider, await stage(world));
  await expect(client.download(policyPath)).rejects.toThrow(stock);
  // It has trusted nothing of it: the provider as it was before is believed as before, where the attack left its clients anything.
  Object.assign(provider, { objects: before, fault: null });
  await client.download(policyPath).then(
    (bytes) => expect(Buffer.from(bytes).equals(good)).toBe(true),
    (error: unknown) => expect(String(error)).toMatch(/version|expired/),
  );
});
