// The bundles of trust domains that an isolate has read last, so that a document is read from the database and parsed once. Whether
// one is still in force is not known here: whoever takes one compares its digest with the one in force.

import type { TrustDomain } from "./spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "./trust-bundle.ts";

/** Characters of documents, of all domains together. */
const charactersMax = 16 * 1024 * 1024;
const domainsMax = 1_000;

export class BundleMemory {
  /** Least recently used first. */
  readonly #known = new Map<TrustDomain, { readonly bundle: TrustBundle; readonly characters: number }>();
  #characters = 0;

  get(trustDomain: TrustDomain): TrustBundle | null {
    const known = this.#known.get(trustDomain);
    if (known === undefined) return null;
    this.#known.delete(trustDomain);
    this.#known.set(trustDomain, known);
    return known.bundle;
  }

  /** Throws where the document is no bundle: none such is ever stored. */
  async read(trustDomain: TrustDomain, document: string): Promise<TrustBundle> {
    const parsed = await parseTrustBundle(trustDomain, document);
    if (!parsed.ok) throw new Error(`the stored bundle of ${trustDomain} is none: ${parsed.refusal.reason}`);
    this.#forget(trustDomain);
    this.#known.set(trustDomain, { bundle: parsed.value, characters: document.length });
    this.#characters += document.length;
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= domainsMax && this.#characters <= charactersMax) break;
      this.#forget(oldest);
    }
    return parsed.value;
  }

  #forget(trustDomain: TrustDomain): void {
    this.#characters -= this.#known.get(trustDomain)?.characters ?? 0;
    this.#known.delete(trustDomain);
  }
}
