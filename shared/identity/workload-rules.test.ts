import { expect, test } from "vitest";
import { parseSpiffeId, type SpiffeId } from "./spiffe-id.ts";
import { registrableId, whyNotRegistered } from "./workload-rules.ts";

function idOf(path: string): SpiffeId {
  const parsed = parseSpiffeId(`spiffe://td.example${path}`);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}

test("in a domain that tenants share a tenant's IDs are below its own name, which is a whole segment", () => {
  for (const [path, isIts] of [
    ["/tenant/acme/fetcher/one", true],
    ["/tenant/acme/one", true],
    ["/tenant/acme2/fetcher/one", false],
    ["/tenant/acme", false],
    ["/tenant/Acme/one", false],
    ["/tenants/acme/one", false],
    ["/x/tenant/acme/one", false],
    ["/fetcher/one", false],
  ] as const) {
    expect([path, whyNotRegistered(idOf(path), true, "acme", "fetcher") === null]).toEqual([path, isIts]);
    expect(whyNotRegistered(idOf(path), false, "acme", "fetcher")).toBeNull();
  }
});

test("an ID that names a role there is registered with that role, and with no other", () => {
  const why = (path: string, role: "fetcher" | "admin"): string | null =>
    whyNotRegistered(idOf(path), true, "acme", role);
  expect(why("/tenant/acme/fetcher/one", "fetcher")).toBeNull();
  expect(why("/tenant/acme/fetcher/one", "admin")).toContain("the role fetcher");
  expect(why("/tenant/acme/admin", "fetcher")).toContain("the role admin");
  // Behind the first segment a role's name is a name.
  expect(why("/tenant/acme/one/admin", "fetcher")).toBeNull();
});

test("a trust domain is no workload", () => {
  expect(registrableId("spiffe://td.example").ok).toBe(false);
  expect(registrableId("spiffe://td.example/one").ok).toBe(true);
});
