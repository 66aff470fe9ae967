// What is told about files while they are read: each kind once, with the first file, and at the end how many files share it.
import type { Note } from './case-volume.js';

export interface Notices {
  /** Prints those that are of a new kind: numbers do not make a kind. */
  add(notes: readonly Note[]): void;
  /** Prints how many files shared a kind. */
  end(): void;
}

/** Notices that are printed as `command: file: sentence`. */
export function createNotices(command: string, print: (line: string) => void = console.error): Notices {
  const kinds = new Map<string, { what: string; files: Set<string> }>();
  return {
    add(notes) {
      for (const { file, what } of notes) {
        const kind = what.replace(/[-+.\de]*\d/g, '#');
        const known = kinds.get(kind);
        if (known) known.files.add(file);
        else {
          kinds.set(kind, { what, files: new Set([file]) });
          print(`${command}: ${file}: ${what}`);
        }
      }
    },
    end() {
      for (const { what, files } of kinds.values())
        if (files.size > 1) print(`${command}: ${files.size} files in all: ${what.split(':')[0]}`);
    },
  };
}
