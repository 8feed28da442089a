// Paths of the edge: each form that names something, and that nothing else does.

import fc from "fast-check";
import { expect, test } from "vitest";
import { parseEdgePath } from "./serving-path.ts";

const digest = "0123456789abcdef".repeat(4);
const other = "f".repeat(64);

test.each([
  ["/tuf/acme/timestamp.json", { kind: "metadata", tenant: "acme", key: "tuf/acme/timestamp.json", role: "timestamp" }],
  ["/tuf/acme-2/12.root.json", { kind: "metadata", tenant: "acme-2", key: "tuf/acme-2/12.root.json", role: "root" }],
  ["/tuf/acme/1.targets.json", { kind: "metadata", tenant: "acme", key: "tuf/acme/1.targets.json", role: "targets" }],
  [
    `/policies/acme/${digest}.tar.gz`,
    { kind: "content", tenant: "acme", key: `policies/acme/${digest}.tar.gz`, digest, content: "policy" },
  ],
  [
    `/statements/acme/${digest}.dsse.json`,
    { kind: "content", tenant: "acme", key: `statements/acme/${digest}.dsse.json`, digest, content: "statement" },
  ],
  [
    `/deltas/acme/${digest}..${other}.zst`,
    { kind: "delta", tenant: "acme", key: `deltas/acme/${digest}..${other}.zst` },
  ],
  [
    "/opa/acme/gateway/stable/bundle.tar.gz",
    { kind: "channel", tenant: "acme", target: "gateway/stable/bundle.tar.gz" },
  ],
  [
    `/tuf/acme/targets/gateway/stable/${digest}.bundle.tar.gz`,
    { kind: "content", tenant: "acme", key: `policies/acme/${digest}.tar.gz`, digest, content: "policy" },
  ],
])("%s names one thing of one tenant", (path, target) => {
  expect(parseEdgePath(path)).toEqual(target);
});

test.each([
  "/",
  "/tuf/acme/",
  "/tuf/acme/0.root.json",
  "/tuf/acme/1234567890.root.json",
  "/tuf/acme/1.timestamp.json",
  "/tuf/acme/root.json",
  "/tuf/Acme/timestamp.json",
  "/tuf/acme-/timestamp.json",
  "/tuf/a%63me/timestamp.json",
  "/tuf/acme/timestamp.json?x",
  "/tuf/acme/timestamp.json\n",
  `/policies/acme/${digest}`,
  `/policies/acme/${digest.toUpperCase()}.tar.gz`,
  `/policies/acme/../${digest}.tar.gz`,
  `/deltas/acme/${digest}.${other}.zst`,
  "/opa/acme/../stable/bundle.tar.gz",
  "/opa/acme/gateway/bundle.tar.gz",
  "/opa/acme/one/two/stable/bundle.tar.gz",
  `/fetchers/${digest}.json`,
  `/policies/${"a".repeat(500)}/${digest}.tar.gz`,
])("%s names nothing", (path) => {
  expect(parseEdgePath(path)).toBeNull();
});

test("what is named lies under the tenant, whatever the path", () => {
  const part = fc.constantFrom("tuf", "policies", "opa", "deltas", "acme", "..", ".", "%2e", "", digest, "stable", "1");
  const end = fc.constantFrom("timestamp.json", `${digest}.tar.gz`, "bundle.tar.gz", "1.root.json", "x");
  fc.assert(
    fc.property(fc.array(part, { maxLength: 6 }), end, (parts, last) => {
      const target = parseEdgePath(`/${[...parts, last].join("/")}`);
      const place = target === null || target.kind === "channel" ? `x/${target?.tenant}/` : target.key;
      expect(place.split("/")[1]).toBe(String(target?.tenant));
      expect(`/${place}/`).not.toContain("/../");
      expect(target?.kind === "channel" ? target.target : "").not.toContain("..");
    }),
    { numRuns: 2_000 },
  );
});
