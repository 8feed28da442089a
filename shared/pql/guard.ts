// What is refused before the parser sees a text: too long, not text, characters that read as others, nesting that a
// recursive parser would die of. One pass, no recursion. Called by parse.ts.

import { utf8 } from "../contract/bytes.ts";
import { limits } from "./limits.ts";
import { refuserOf, type Refuse } from "./pql-error.ts";

/** Characters that change how the text around them is shown: U+061C, U+200B..F, U+202A..E, U+2060..F, U+FEFF. */
const invisible = /[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]/u;
const quotes = /[\u2018-\u201f\u00ab\u00bb\u2032\u2033\uff02\uff07`\u00b4]/u;
const spaces = /[\s\u00a0]/u;

export function guardText(text: string): void {
  const refuse = refuserOf(text);
  if (text.length > limits.queryBytesMax || utf8(text).length > limits.queryBytesMax) {
    refuserOf("")(0, `The query is over ${limits.queryBytesMax} bytes.`, {
      suggestion: "Ask for less at once; an IN list takes up to 1,000 values.",
    });
  }
  if (!text.isWellFormed()) {
    refuse(text.search(/\p{Surrogate}/u), "Half of a surrogate pair is not a character.");
  }
  let depth = 0;
  let pendingNots = 0;
  const opened: number[] = [];
  for (let at = 0; at < text.length;) {
    const start = at;
    const code = text.charCodeAt(at);
    at = tokenEnd(text, at, code, refuse);
    if (code === 0x20 || (code >= 0x09 && code <= 0x0d)) continue;
    if (code === openParenthesis) {
      opened.push(pendingNots + 1);
      depth += pendingNots + 1;
    } else if (code === closeParenthesis) depth -= opened.pop() ?? 0;
    pendingNots = at - start === 3 && text.slice(start, at).toLowerCase() === "not" ? pendingNots + 1 : 0;
    if (depth + pendingNots > limits.depthMax) {
      refuse(start, `Parentheses and NOTs may be ${limits.depthMax} deep.`, {
        suggestion: "NOT NOT x is x; a AND (b AND (c)) is a AND b AND c.",
      });
    }
  }
}

const quote = 0x22;
const openParenthesis = 0x28;
const closeParenthesis = 0x29;
const backslash = 0x5c;
const isWordCode = (code: number): boolean =>
  (code >= 0x61 && code <= 0x7a) || (code >= 0x41 && code <= 0x5a) || (code >= 0x30 && code <= 0x39) || code === 0x5f;

/** The end of the word, the string or the single character that begins at `from` with `code`. */
function tokenEnd(text: string, from: number, code: number, refuse: Refuse): number {
  if (code === quote) return stringEnd(text, from, refuse);
  if (isWordCode(code)) {
    let at = from + 1;
    while (at < text.length && isWordCode(text.charCodeAt(at))) at += 1;
    return at;
  }
  if ((code < 0x20 || code > 0x7e) && code !== 0x09 && code !== 0x0a && code !== 0x0d) {
    const character = String.fromCodePoint(text.codePointAt(from)!);
    refuse(from, `${nameOf(character)} does not belong into a query outside of a string.`, {
      suggestion: adviceOn(character),
    });
  }
  return from + 1;
}

/** After the closing quote; the end of the line where there is none, for the grammar to say so. */
function stringEnd(text: string, from: number, refuse: Refuse): number {
  for (let at = from + 1; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === quote) return at + 1;
    if (code === 0x0a || code === 0x0d) return at;
    if (code === backslash) at += 1;
    else if (code < 0x20 || (code > 0x7e && (code === 0x7f || invisible.test(text[at]!)))) {
      refuse(at, `${nameOf(text[at]!)} does not belong into a string.`, { suggestion: adviceOn(text[at]!) });
    }
  }
  return text.length;
}

function nameOf(character: string): string {
  const code = `U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}`;
  if (character === "\0") return "NUL";
  return character < " " || character === "\x7f" || invisible.test(character) || spaces.test(character)
    ? code
    : `${code} (${character})`;
}

function adviceOn(character: string): string {
  if (character < " " || character === "\x7f") return "Remove the control character.";
  if (invisible.test(character)) return "Remove the invisible character: it can make a query read as another one.";
  if (spaces.test(character)) return "Use a plain space.";
  if (quotes.test(character)) return 'Strings take double quotes, like "deny".';
  return "Keywords, fields and numbers are plain ASCII; type the letter anew.";
}
