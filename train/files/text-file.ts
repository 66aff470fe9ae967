// The one reader of a user's text files: JSON and lists. Editors and spreadsheets save them in UTF-8 or UTF-16, with or without a byte
// order mark, with various line ends; all of these mean the same here.
import { readFileSync } from 'node:fs';

/** The text in a file's bytes, without its byte order mark: UTF-8, UTF-16 of either byte order, else Windows-1252. */
export function decodeText(bytes: Uint8Array): string {
  const [first = 1, second = 1] = bytes;
  const starts = (...mark: number[]) => mark.every((byte, i) => bytes[i] === byte);
  if (starts(0xff, 0xfe) || (first !== 0 && second === 0)) return new TextDecoder('utf-16le').decode(bytes);
  if (starts(0xfe, 0xff) || (first === 0 && second !== 0)) return new TextDecoder('utf-16be').decode(bytes);
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder('windows-1252').decode(bytes);
  }
}

/** A file's text; throws the system's own error where it cannot be read. */
export const textIn = (file: string): string => decodeText(readFileSync(file));

/** The lines that are not blank, trimmed; they end in LF, CRLF or CR. */
export const linesOf = (text: string): string[] =>
  text
    .split(/\r\n|\n|\r/)
    .map((line) => line.trim())
    .filter(Boolean);
