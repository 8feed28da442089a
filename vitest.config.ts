// The kinds of tests: `vitest run --project unit shared/audit` runs the part you name.
//   unit        beside their sources, on Node
//   simulation  test/simulation, on Node: seeded, node:sqlite, injected faults
//   workerd     test/workerd, inside workerd
//   contract    test/contract, on Node, several files at once against one real stack that globalSetup brings up
//   contract-alone  those files of test/contract that no other one may run beside, on a stack of their own
//   start       test/start, on Node: `npm start` itself, on state folders of its own
//   interop     test/interop, on Node, with foreign programs: `npm run test:interop` only
//   e2e         test/e2e, on Node, as a reader of README does it, on a stack of its own: `npm run test:interop` only
// Files of one kind share a process (`isolate: false`: a fifth of the time is imports otherwise), so no test may leave a
// spy, a timer or a changed environment behind, and none may use another one's objects.

import { defineConfig } from "vitest/config";
import { workerdProject } from "./test/support/workerd-project.ts";

const outside = ["**/node_modules/**", "**/.maestro/**", "**/.wrangler/**"];
const deep = process.env["MAESTRO_DEEP"] === "1";

/** Contract tests that no other file may run beside: they stop a part of the stack, or count what all of it did. */
const alone = [
  "cdn-swap", // counts what is late
  "door", // stops PostgreSQL
  "edge-serving", // stops provider B's store, counts the edges' reads
  "identity-at-edges", // verifies at the edges, where edge-identity counts
  "market-recovery", // waits until the outbox is empty
  "mutual-tls", // replaces the local authority
  "outage", // stops PostgreSQL
  "policies", // stops provider B's store
  "stack", // stops PostgreSQL, rotates the issuer's key
  "tenancy", // rotates the issuer's key
].map((name) => `test/contract/${name}.test.ts`);
/** The kinds that need nothing of what `workerd` loads: Wrangler and Miniflare, a second of processor. */
const apart = ["unit", "simulation", "contract", "contract-alone", "start", "interop", "e2e"];

const contract = {
  environment: "node" as const,
  isolate: false,
  globalSetup: ["./test/support/global-setup.ts"],
  testTimeout: 60_000,
  hookTimeout: 60_000,
  // Asking costs the stack as much as a request does, and what is waited for takes a tenth of a second at least.
  expect: { poll: { interval: 150 } },
};

const interop = {
  test: {
    name: "interop",
    environment: "node" as const,
    include: ["test/interop/**/*.test.ts"],
    exclude: outside,
    testTimeout: 600_000,
  },
};

const e2e = {
  test: {
    name: "e2e",
    environment: "node" as const,
    include: ["test/e2e/**/*.test.ts"],
    exclude: outside,
    globalSetup: ["./test/support/global-setup.ts"],
    testTimeout: 600_000,
    hookTimeout: 60_000,
  },
};

const asked = process.argv.flatMap((word, index, words) => (words[index - 1] === "--project" ? [word] : []));
/** Left out only where other ones are asked for by their names. */
const workerd = asked.length > 0 && asked.every((name) => apart.includes(name)) ? [] : [await workerdProject(outside)];

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          environment: "node",
          include: ["{shared,durable-objects,workers,cli,policy,scripts}/**/*.test.ts"],
          isolate: false,
          exclude: outside,
          testTimeout: deep ? 600_000 : 60_000,
        },
      },
      {
        test: {
          name: "simulation",
          environment: "node",
          include: ["test/simulation/**/*.test.ts"],
          isolate: false,
          exclude: outside,
          testTimeout: deep ? 1_800_000 : 60_000,
        },
      },
      ...workerd,
      {
        test: {
          ...contract,
          name: "contract",
          include: ["test/contract/**/*.test.ts"],
          exclude: [...outside, ...alone],
          // A good part of their time they wait: for leases, alarms, crons.
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...contract,
          name: "contract-alone",
          include: alone,
          exclude: outside,
          maxWorkers: 1,
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          name: "start",
          environment: "node",
          include: ["test/start/**/*.test.ts"],
          exclude: outside,
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
      ...(process.env["MAESTRO_INTEROP"] === "1" ? [interop, e2e] : []),
    ],
  },
});
