// Makes the JSON Schema of the event catalogue: `node scripts/generate/events.ts` writes docs/audit/events.schema.json.
// What is committed there is what was promised: a catalogue under which an event of it would no longer be valid is refused.

import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { catalogueFault, catalogueSchema, type JsonSchema } from "../../shared/contract/event-schema.ts";

export const eventSchemaPath = "docs/audit/events.schema.json";
const file = new URL(`../../${eventSchemaPath}`, import.meta.url);

export const eventSchemaText = (): string => `${JSON.stringify(catalogueSchema(), null, 2)}\n`;

async function committed(): Promise<JsonSchema | null> {
  try {
    return JSON.parse(await readFile(file, "utf8")) as JsonSchema;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const before = await committed();
  const fault = before === null ? null : catalogueFault(before, catalogueSchema());
  if (fault !== null) {
    console.error(`${eventSchemaPath}: events that were logged would not be valid any more: ${fault}`);
    process.exitCode = 1;
  } else {
    await writeFile(file, eventSchemaText());
  }
}
