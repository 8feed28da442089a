// The signer worker inside workerd.

import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { SignerService } from "../../workers/signer/index.ts";

test("a release key that could not be imported is tried again at the next call", async () => {
  const keysWith = (RELEASE_KEY: string) => new SignerService(createExecutionContext(), { RELEASE_KEY }).keys();
  await expect(keysWith("not a key")).rejects.toThrow("not JSON");
  const { RELEASE_KEY } = env as unknown as { RELEASE_KEY: string };
  expect(await keysWith(RELEASE_KEY)).toMatchObject([{ use: "release" }]);
});
