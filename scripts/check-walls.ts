// The walls between the rooms, checked: who may import whom (the table below), and what shared/ may not touch. Called by
// scripts/test.ts; docs/ARCHITECTURE.md tells why the walls stand where they stand.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { scan } from "./walls/imports.ts";

/** The rooms of shared/, and what each may import beside itself. */
const ground = ["shared/contract", "shared/tenancy", "shared/outbox", "shared/signing", "shared/policy"] as const;
const capabilities = [
  "shared/market",
  "shared/audit",
  "shared/pql",
  "shared/privacy",
  "shared/edge",
  "shared/identity",
  "shared/rotation",
] as const;
const joints = ["shared/executions", "shared/disclosure"] as const;

export const mayImport: Readonly<Record<string, readonly string[]>> = {
  "shared/contract": [],
  "shared/signing": ["shared/contract"],
  // The outbox's store goes to Postgres by tenancy/database.ts; tenancy itself knows no outbox.
  "shared/outbox": ["shared/contract", "shared/tenancy"],
  "shared/tenancy": ["shared/contract"],
  "shared/policy": ["shared/contract", "shared/tenancy"],
  ...Object.fromEntries(capabilities.map((room) => [room, ground])),
  ...Object.fromEntries(joints.map((room) => [room, [...ground, ...capabilities]])),
  "durable-objects": [...ground, ...capabilities, ...joints],
  // A worker is deployed alone: it imports no other worker's files, and speaks to it by its type in shared/.
  "workers/api": [...ground, ...capabilities, ...joints, "durable-objects", "policy"],
  "workers/audit": [...ground, ...capabilities, ...joints, "durable-objects", "policy"],
  "workers/signer": [...ground, ...capabilities, ...joints, "durable-objects", "policy"],
  // It has no database and no objects: what it serves stands in a provider's store.
  "workers/edge": ["shared/contract", "shared/tenancy", "shared/edge", "shared/identity"],
  // Pure parts alone: the catalogue that PQL is completed from and the writers of its answers, the log's verifier, the policy that
  // a decision is asked of again. What has a store or SQL may not come along (storesBehindCli).
  cli: [
    "shared/contract",
    "shared/audit",
    "shared/disclosure",
    "shared/edge",
    "shared/identity",
    "shared/policy",
    "shared/pql",
    "shared/signing",
  ],
};

/** Words that shared/ may not contain outside of comments and strings: a clock, chance, the environment. */
const impure: readonly (readonly [RegExp, string])[] = [
  [/\bDate\s*\.\s*now\b/, "reads the clock (Date.now): take `now` as an argument"],
  [/\bnew\s+Date\s*(?:\(\s*\)|(?![\s\w(.]))/, "reads the clock (new Date()): take `now` as an argument"],
  [/(?<!new\s)(?<![\w.])Date\s*\(\s*\)/, "reads the clock (Date()): take `now` as an argument"],
  [/\bperformance\s*\.\s*now\b/, "reads the clock (performance.now): take `now` as an argument"],
  [/\bMath\s*\.\s*random\b/, "draws a random number (Math.random): take it as an argument"],
  [/\bcrypto\s*\.\s*(?:getRandomValues|randomUUID)\b/, "draws a random number (crypto): take it as an argument"],
  [/(?<![\w.$"])process\s*(?:\.|\[)/, "opens the environment (process)"],
  [/(?<![\w.$])globalThis\b/, "opens the environment (globalThis)"],
  [/\bimport\s*\.\s*meta\b/, "opens the environment (import.meta)"],
];

const isSql = (name: string): boolean => /^drizzle-orm(?:\/|$)/.test(name);
const isHttp = (name: string): boolean => /^(?:hono|@hono)(?:\/|$)/.test(name);
const isStore = (path: string): boolean => /(?:^|[/-])(?:store|tables)\.ts$/.test(path);
/** SQL in shared/ outside of a store: the way to the database itself, and statements that stores of other rooms batch. */
const sqlBeside = new Set([
  "shared/tenancy/database.ts",
  "shared/tenancy/idempotency.ts",
  "shared/outbox/outbox.ts",
  "shared/pql/condition-sql.ts",
  "shared/pql/slot-sql.ts",
  "shared/pql/templates.ts",
]);

/** `shared/audit`, `workers/api`, `cli`, … for a path of the project; null for what has no walls. */
export function roomOf(path: string): string | null {
  const [first, second] = path.split("/");
  if (first === "shared" || first === "workers")
    return second === undefined || second.includes(".") ? null : `${first}/${second}`;
  return first === "durable-objects" || first === "cli" || first === "policy" ? first : null;
}

export interface SourceFile {
  /** Relative to the project, with slashes. */
  readonly path: string;
  readonly source: string;
}

/** What breaks a wall, a sentence each: `path:line what`. */
export function wallComplaints(files: readonly SourceFile[]): string[] {
  const complaints: string[] = [];
  const edges = new Map<string, { to: string; line: number }[]>();
  const sqlUsers = new Set<string>();
  for (const file of files) {
    const room = roomOf(file.path);
    if (
      room === null ||
      !/\.(?:ts|mts|js|mjs)$/.test(file.path) ||
      file.path.endsWith(".test.ts") ||
      file.path.includes(".generated.")
    )
      continue;
    const { imports, code } = scan(file.source);
    const complain = (line: number, what: string): void => void complaints.push(`${file.path}:${line} ${what}`);
    const targets: { to: string; line: number }[] = [];
    for (const { specifier, line } of imports) {
      if (specifier === null)
        complain(line, "imports something that is not written as a string, and cannot be checked");
      else if (specifier.startsWith(".")) {
        const to = join(dirname(file.path), specifier).replaceAll("\\", "/");
        targets.push({ to, line });
        const other = roomOf(to);
        if (other !== room && (other === null || !(mayImport[room] ?? []).includes(other))) {
          complain(line, `imports ${to}: ${room} may import ${mayImport[room]?.join(", ") || "nothing but itself"}`);
        }
      } else {
        if (isSql(specifier)) sqlUsers.add(file.path);
        for (const what of packageComplaints(file.path, room, specifier)) complain(line, what);
      }
    }
    edges.set(file.path, targets);
    if (room.startsWith("shared/")) {
      for (const [index, text] of code.split("\n").entries()) {
        for (const [pattern, what] of impure) if (pattern.test(text)) complain(index + 1, what);
      }
    }
  }
  return [...complaints, ...storesBehindCli(edges, sqlUsers)];
}

function packageComplaints(path: string, room: string, specifier: string): string[] {
  const complaints: string[] = [];
  if (room.startsWith("shared/")) {
    if (/^(?:node|cloudflare):/.test(specifier)) complaints.push(`imports ${specifier}: shared/ runs on every runtime`);
    if (isSql(specifier) && !isStore(path) && !sqlBeside.has(path)) {
      complaints.push(`imports ${specifier}: SQL is in a room's store.ts and tables.ts`);
    }
    if (isHttp(specifier) && isStore(path)) complaints.push(`imports ${specifier}: a store knows no HTTP`);
  }
  if (/^workers\/[^/]+\/routes\//.test(path) && isSql(specifier))
    complaints.push(`imports ${specifier}: routes hold no SQL`);
  if (room === "cli" && (isSql(specifier) || specifier.startsWith("cloudflare:"))) {
    complaints.push(`imports ${specifier}: the CLI talks to the API through the contract`);
  }
  return complaints;
}

/** The CLI may import pure parts of rooms that also have a store: so the store must not come along. */
function storesBehindCli(
  edges: ReadonlyMap<string, readonly { to: string; line: number }[]>,
  sqlUsers: ReadonlySet<string>,
): string[] {
  const complaints: string[] = [];
  const seen = new Set<string>();
  const visit = (path: string, from: string, line: number): void => {
    const isOutside = !path.startsWith("cli/");
    if (isOutside && (isStore(path) || sqlUsers.has(path)))
      complaints.push(`${from}:${line} brings a store into the CLI: ${path}`);
    if (seen.has(path)) return;
    seen.add(path);
    for (const { to, line: at } of edges.get(path) ?? []) visit(to, path, at);
  };
  for (const path of edges.keys()) if (path.startsWith("cli/")) visit(path, path, 1);
  return complaints;
}

/** The sources that have walls, as they are on disk. */
export function readSources(project: string): SourceFile[] {
  const folders = ["shared", "durable-objects", "workers", "cli"].filter((name) => existsSync(join(project, name)));
  return folders.flatMap((folder) =>
    readdirSync(join(project, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => ({ path: relative(project, path).replaceAll("\\", "/"), source: readFileSync(path, "utf8") })),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const complaints = wallComplaints(readSources(fileURLToPath(new URL("..", import.meta.url))));
  for (const complaint of complaints) console.error(complaint);
  process.exitCode = complaints.length === 0 ? 0 : 1;
}
