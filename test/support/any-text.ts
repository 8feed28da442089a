// Text of any characters for properties. fast-check's own `unit: "binary"` maps each of a million characters back, two
// seconds of processor in each process that asks for it once.

import fc from "fast-check";

const surrogateFrom = 0xd800;
const surrogateCount = 0x800;
const characterCount = 0x11_0000 - surrogateCount;

/** Any character of Unicode, none a half of a surrogate pair; as often as not one of UTF-8's first two lengths. */
const character = fc
  .oneof(
    fc.nat({ max: 0x7f }),
    fc.nat({ max: 0x7ff }),
    fc.nat({ max: 0xffff - surrogateCount }),
    fc.nat({ max: characterCount - 1 }),
  )
  .map((at) => String.fromCodePoint(at < surrogateFrom ? at : at + surrogateCount));

/** At most `lengthMax` characters. */
export const anyText = (lengthMax: number): fc.Arbitrary<string> =>
  fc.array(character, { maxLength: lengthMax }).map((characters) => characters.join(""));
