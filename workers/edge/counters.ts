// What this instance of the edge counted since it started, as Prometheus' text. Called by app.ts. An instance knows of itself alone:
// whoever adds instances up tells them apart by the label `instance`.

const contentType = "text/plain; version=0.0.4; charset=utf-8";

const help = {
  mc_edge_requests_total: ["counter", "Requests by kind of path, status, and whether the store was read for them."],
  mc_edge_store_reads_total: ["counter", "Reads of the provider's store by what they came to."],
  mc_edge_credentials_total: ["counter", "Requests for objects by what they came with, and whether it was known."],
  mc_edge_svid_verifications_total: [
    "counter",
    "SVIDs whose signatures were looked at; one that is remembered is not.",
  ],
  mc_edge_cache_bytes: ["gauge", "Bytes of objects that this instance keeps."],
  mc_edge_cache_entries: ["gauge", "Objects that this instance keeps."],
} as const;
type Name = keyof typeof help;
type Gauge = "mc_edge_cache_bytes" | "mc_edge_cache_entries";

export class EdgeCounters {
  readonly #provider: string;
  /** By name, then by labels as text. All labels come from small fixed sets. */
  readonly #counts = new Map<Name, Map<string, number>>();

  constructor(provider: string) {
    this.#provider = provider;
  }

  add(name: Exclude<Name, Gauge>, labels: string): void {
    let counts = this.#counts.get(name);
    if (counts === undefined) this.#counts.set(name, (counts = new Map()));
    counts.set(labels, (counts.get(labels) ?? 0) + 1);
  }

  /** `instance`: what tells this one from others; gauges are read as they are now. */
  answer(instance: string, gauges: Readonly<Record<Gauge, number>>): Response {
    const own = `provider="${this.#provider}",instance="${instance}"`;
    const lines: string[] = [];
    for (const [name, [type, words]] of Object.entries(help) as [Name, readonly [string, string]][]) {
      lines.push(`# HELP ${name} ${words}`, `# TYPE ${name} ${type}`);
      if (name === "mc_edge_cache_bytes" || name === "mc_edge_cache_entries")
        lines.push(`${name}{${own}} ${gauges[name]}`);
      for (const [labels, count] of this.#counts.get(name) ?? []) lines.push(`${name}{${own},${labels}} ${count}`);
    }
    return new Response(`${lines.join("\n")}\n`, {
      headers: { "content-type": contentType, "cache-control": "no-store" },
    });
  }
}
