// Writing files so that a crash at any moment leaves the old file or the new one.
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { whyNot } from './data-error.js';

/** A file or folder cannot be written; the message names it and the reason. */
export class FileError extends Error {
  override name = 'FileError';
}

/** Changes a file or folder; where the system refuses, throws a FileError with the reason. */
export function orSay<T>(path: string, change: () => T): T {
  try {
    return change();
  } catch (error) {
    throw new FileError(`cannot write ${path} — ${whyNot(error)}. What was there before is kept.`, {
      cause: error,
    });
  }
}

/** Writes a file in one piece: a temporary beside it, fsync, rename, fsync of the folder. */
export function writeAtomically(path: string, parts: readonly Uint8Array[]): void {
  const temporary = `${path}.${process.pid}.tmp`;
  orSay(path, () => {
    try {
      const file = openSync(temporary, 'w');
      try {
        for (const part of parts) for (let done = 0; done < part.length; ) done += writeSync(file, part, done);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
  });
  const folder = openSync(dirname(path), 'r');
  fsyncSync(folder);
  closeSync(folder);
}
