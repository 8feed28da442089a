// Arguments as a line that a POSIX shell reads back as exactly those arguments. Called where a command is printed for a
// person to copy.

// Nothing in here means anything to sh, bash, zsh or fish; `~` and `=` first in a word mean something to zsh.
const plain = /^[A-Za-z0-9_@%+:,./-][A-Za-z0-9_@%+=:,./-]*$/;

/** POSIX.1-2024, 2.2.2: between single quotes every character stands for itself, but the single quote. */
const quoted = (word: string): string => (plain.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`);

export const shellLine = (words: readonly string[]): string => words.map(quoted).join(" ");
