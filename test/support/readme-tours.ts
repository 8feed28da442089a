// The tours of README.md as a reader runs them: the commands of their fenced blocks, and what is printed below each. Used by
// test/e2e/readme-tours.test.ts, which runs them.

/** A command as it is typed, continuation lines (`> `) included, and the lines of output that the page shows below it. */
export interface TourStep {
  readonly command: string;
  readonly output: readonly string[];
}

/** The steps below a heading `## …`, up to the next one, in order. */
export function tourOf(readme: string, heading: string): TourStep[] {
  const section = readme.split(/^(?=## )/m).find((part) => part.startsWith(`## ${heading}\n`));
  if (section === undefined) throw new Error(`README has no section "${heading}"`);
  const steps: { command: string; output: string[] }[] = [];
  for (const [, block] of section.matchAll(/^```\n([\s\S]*?)^```$/gm)) {
    for (const line of block!.split("\n").slice(0, -1)) {
      const last = steps.at(-1);
      if (line.startsWith("$ ")) steps.push({ command: line.slice(2), output: [] });
      else if (last === undefined) throw new Error(`"${line}" is below no command`);
      else if (line.startsWith("> ")) last.command += `\n${line.slice(2)}`;
      else last.output.push(line);
    }
  }
  return steps;
}
