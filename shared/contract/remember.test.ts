import { expect, test } from "vitest";
import { remembered } from "./remember.ts";

test("what was made first is kept, what failed is tried again, and calls at the same time share no promise", async () => {
  const made: (() => void)[] = [];
  let fails = true;
  const read = remembered(async () => {
    await new Promise<void>((resolve) => made.push(resolve));
    if (fails) throw new Error("not yet");
    return { made: made.length };
  });
  const failing = read();
  made[0]!();
  await expect(failing).rejects.toThrow("not yet");
  fails = false;
  const both = [read(), read()];
  expect(made).toHaveLength(3);
  made[1]!();
  const first = await both[0];
  made[2]!();
  await both[1];
  expect(await read()).toBe(await read());
  expect(first).toEqual({ made: 3 });
  expect(made).toHaveLength(3);
});
