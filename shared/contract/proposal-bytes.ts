// What stands for a proposed emergency where somebody approves it: the bytes of all that is shown of it. Its SHA-256 is `proposal_sha256`, made
// by the KeyRotation objects, and anew by `maestro` of what it showed.

import { utf8, type Bytes } from "./bytes.ts";
import { canonicalJson } from "./events.ts";
import type { EmergencyProposal } from "./http-rotations.ts";

export type ProposalWords = Omit<EmergencyProposal, "proposal_sha256">;

/** The RFC 8785 text of the proposal without `proposal_sha256`, in UTF-8. */
export function proposalBytes(proposal: ProposalWords): Bytes {
  const { proposal_sha256: _, ...words }: ProposalWords & Partial<EmergencyProposal> = proposal;
  return utf8(canonicalJson(words));
}
