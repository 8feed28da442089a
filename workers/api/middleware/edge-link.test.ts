// Who is believed to have forwarded a request.

import { expect, test } from "vitest";
import { forwardedBy } from "./edge-link.ts";

const secret = "the-shared-secret";
const headers = (link: string | null, provider: string | null = "b"): Headers =>
  new Headers({
    ...(link === null ? {} : { "maestro-edge-link": link }),
    ...(provider === null ? {} : { "maestro-edge-provider": provider }),
  });

test("the secret proves which provider forwarded", () => {
  expect(forwardedBy(headers(secret), secret)).toBe("b");
});

test("without the secret a request is an ordinary one, whatever it says of itself", () => {
  for (const link of [null, "", "x", `${secret}x`, secret.toUpperCase()]) {
    expect(forwardedBy(headers(link), secret)).toBeNull();
  }
  expect(forwardedBy(headers(""), "")).toBeNull();
  expect(forwardedBy(headers(null), "")).toBeNull();
});

test("a provider's name is a short word, or nobody's", () => {
  for (const provider of [null, "", 'b","level":"error', "B", "b".repeat(33)]) {
    expect(forwardedBy(headers(secret, provider), secret)).toBeNull();
  }
});
