// What a remembered caller is answered: nothing before their key was found to stand, and nothing that was read beside a failure.

import { sql } from "drizzle-orm";
import { describe, expect, test } from "vitest";
import { Problem } from "../../shared/contract/problems.ts";
import type { Caller } from "../../shared/tenancy/caller.ts";
import { answerProvisionally, type CredentialCheck } from "./provisional.ts";

const known: Caller = {
  tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001",
  tenant: "acme",
  principal_id: "pri_1",
  kind: "person",
  role: "auditor",
  credential: "key",
  fetcher_svids: { registered: false, everywhere: true },
  spiffe_id: null,
  spiffe_domain: null,
};
const revoked = new Problem("key_revoked", "This API key was revoked.");
const failure = new Error("injected");

type Attempt = (check: CredentialCheck | null) => Promise<string>;
const answers =
  (...told: boolean[]): Attempt =>
  async (check) => {
    for (const holds of told) check?.told(holds);
    return check === null ? "certain" : "provisional";
  };
const fails =
  (...told: boolean[]): Attempt =>
  async (check) => {
    for (const holds of told) check?.told(holds);
    throw check === null ? new Error("certain") : failure;
  };

async function run(attempt: Attempt, lookUp: Caller | Error = known) {
  const done: string[] = [];
  const answer = await answerProvisionally({
    remembered: { caller: known, stands: sql`true`, forget: () => void done.push("forget") },
    attempt: (caller, check) => {
      done.push(`attempt ${check === null ? "certain" : "provisional"} ${caller.role}`);
      return attempt(check);
    },
    authenticate: async () => {
      done.push("look up");
      if (lookUp instanceof Error) throw lookUp;
      return lookUp;
    },
    certain: (caller) => void done.push(`is ${caller.role}`),
  }).catch((error: unknown) => error);
  return { answer, done };
}
const first = "attempt provisional auditor";

describe("where the check held", () => {
  test("the answer goes out without a look-up", async () => {
    expect(await run(answers(true))).toEqual({ answer: "provisional", done: [first, "is auditor"] });
  });

  test("and so does a failure after it", async () => {
    expect(await run(fails(true))).toEqual({ answer: failure, done: [first, "is auditor"] });
  });
});

describe("where nothing was checked", () => {
  test("what it came to waits for a look-up, and stands where the caller is the same", async () => {
    const done = [first, "look up", "is auditor"];
    expect(await run(answers())).toEqual({ answer: "provisional", done });
    expect(await run(fails())).toEqual({ answer: failure, done });
  });

  test("a refusal of the key is the answer, to an answer as to a failure, and nobody was let in", async () => {
    for (const attempt of [answers(), fails()]) {
      expect(await run(attempt, revoked)).toEqual({ answer: revoked, done: [first, "look up"] });
    }
  });

  test.each([
    ["tenant_id", "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002"],
    ["tenant", "other"],
    ["principal_id", "pri_2"],
    ["kind", "service"],
    ["role", "viewer"],
    ["credential", "token"],
  ])("a caller with another %s is answered anew", async (member, value) => {
    const other = { ...known, [member]: value } as Caller;
    const { answer, done } = await run(answers(), other);
    expect(answer).toBe("certain");
    expect(done).toEqual([first, "look up", `is ${other.role}`, `attempt certain ${other.role}`]);
  });
});

describe("where the check failed, also once of several times", () => {
  test.each([[[false]], [[true, false]], [[false, true]]])(
    "%j: the memory is dropped, and the answer with it",
    async (told) => {
      const again = [first, "forget", "look up"];
      for (const attempt of [answers(...told), fails(...told)]) {
        expect(await run(attempt, revoked)).toEqual({ answer: revoked, done: again });
      }
      expect(await run(answers(...told))).toEqual({
        answer: "certain",
        done: [...again, "is auditor", "attempt certain auditor"],
      });
    },
  );
});
