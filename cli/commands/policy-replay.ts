// `maestro policy replay`: asks the policy again what it once decided, and compares with what the log says.

import { readFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { loadPolicy } from "@open-policy-agent/opa-wasm";
import { InvalidArgumentError, type Command } from "commander";
import { eventId, type DecisionRecord } from "../../shared/contract/http-decisions.ts";
import type { DecisionInput } from "../../shared/policy/actions.ts";
import { compiledPolicy } from "../../shared/policy/compiled.ts";
import { decide, type Decision } from "../../shared/policy/decide.ts";
import { leaf, type Act } from "../command.ts";
import { Failure } from "../failure.ts";
import type { Session } from "../session.ts";

const generated = new URL("../../policy/generated/", import.meta.url);

export function replayCommand(policy: Command, act: Act): void {
  leaf(policy, "replay", {
    summary: "ask the policy again what it decided, and compare with what the log says",
    more:
      "The API gives the input that was decided on; its digest, the policy's and the outcome are in the tenant's log. The policy of\n" +
      "this maestro is asked, here: where it is another one than the decision's, a maestro of that version is needed.\n" +
      "Exit code 7: the input is not the one that was logged, or the policy does not decide alike.",
    examples: [
      "maestro policy replay evt_01k9x6f6c8a0b1c2d3e4f5g6h7",
      "maestro pql 'FIND decisions WHERE outcome = \"deny\"'",
    ],
  })
    .argument("<decision>", "the id of the decision's event, as a denial and PQL show it", decisionArgument)
    .action(act(replay));
}

function decisionArgument(text: string): string {
  const parsed = eventId.safeParse(text);
  if (!parsed.success) throw new InvalidArgumentError("a decision's id is evt_ and 26 letters and digits.");
  return parsed.data;
}

async function replay(session: Session, id: string): Promise<void> {
  const { input, decided_at, logged } = await (await session.api()).decision(id);
  if (logged === null)
    throw new Failure("unavailable", "The log does not have this decision yet", {
      advice: "Ask again in a moment: without the log's word there is nothing to compare with.",
    });
  const { attributes } = logged;
  const inputDigest = createHash("sha256").update(input).digest("hex");
  if (inputDigest !== attributes.input_sha256)
    throw new Failure("verification_failed", "The input that the API gave is not the one that was logged", {
      advice: `The log has ${attributes.input_sha256}, and it is ${inputDigest}. Report it to an auditor.`,
    });
  const own = await ownPolicy();
  if (own.sha256 !== attributes.policy_sha256)
    throw new Failure("usage", "Another policy decided than this maestro has", {
      advice: `It was ${attributes.policy_sha256}, and this one is ${own.sha256}: take the maestro of that time.`,
    });
  const again = decide(own, JSON.parse(input) as DecisionInput);
  const agrees = outcomeOf(again) === attributes.outcome && again.rule === attributes.rule;
  const result = { id, decided_at, logged, input: JSON.parse(input) as unknown, replayed: again, agrees };
  session.out.result(result, () => told(session, id, { decided_at, logged }, again, agrees));
  if (!agrees)
    throw new Failure("verification_failed", "The policy does not decide what the log says", {
      advice: "Either of them was changed. Report it to an auditor.",
    });
}

const outcomeOf = ({ allow }: Decision): string => (allow ? "allow" : "deny");

function told(
  session: Session,
  id: string,
  { decided_at: at, logged }: Pick<DecisionRecord, "decided_at" | "logged">,
  again: Decision,
  agrees: boolean,
): string {
  const { attributes, seq } = logged!;
  return session.out.record([
    ["decision", id],
    ["at", at],
    ["in the log", seq],
    ["action", attributes.action],
    ["logged", `${attributes.outcome} (${attributes.rule})`],
    ["replayed", `${outcomeOf(again)} (${again.rule})`],
    ["reasons", again.reasons.join(" ")],
    ["policy", attributes.policy_sha256],
    ["input", attributes.input_sha256],
    ["agrees", agrees ? "yes" : "no"],
  ]);
}

/** The policy that this package came with. */
async function ownPolicy(): Promise<ReturnType<typeof compiledPolicy>> {
  const [wasm, build] = await Promise.all([
    readFile(new URL("authz.wasm", generated)),
    readFile(new URL("authz.json", generated), "utf8"),
  ]);
  const { source_sha256, wasm_sha256 } = JSON.parse(build) as {
    readonly source_sha256: string;
    readonly wasm_sha256: string;
  };
  if (createHash("sha256").update(wasm).digest("hex") !== wasm_sha256)
    throw new Failure("failure", "The compiled policy of this maestro is not whole", { advice: "Install it anew." });
  return compiledPolicy(await loadPolicy(new WebAssembly.Module(wasm)), source_sha256);
}
