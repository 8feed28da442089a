// `node scripts/gate-table.ts [--write]`: simulates the health gate's rollouts, 10,000 a scenario, seeded, and prints the
// tables of docs/market/HEALTH_GATE.md, or writes them between the page's markers. A minute or two on one core.

import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { rolloutsOfTable, simulate } from "../test/simulation/gate-rollouts.ts";
import { gateTables, tableRow } from "../test/simulation/gate-report.ts";

const page = new URL("../docs/market/HEALTH_GATE.md", import.meta.url);
const between = /(?<=<!-- gate-table -->\n)[^]*(?=\n<!-- \/gate-table -->)/;

const { values } = parseArgs({ options: { write: { type: "boolean", default: false } } });
const tables = gateTables((scenario) => tableRow(scenario, simulate(scenario, rolloutsOfTable)));
if (values.write) {
  const text = readFileSync(page, "utf8");
  if (!between.test(text)) throw new Error("docs/market/HEALTH_GATE.md has no markers for the tables");
  writeFileSync(
    page,
    text.replace(between, () => tables),
  );
} else console.log(tables);
