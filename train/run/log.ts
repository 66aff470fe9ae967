// A run's log.jsonl: one object per iteration.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import * as v from 'valibot';
import { orSay, writeAtomically } from '../files/atomic-file.js';
import { cut } from '../files/data-error.js';

const logRecord = v.object({ iteration: v.number() });

/** One line of log.jsonl: the iteration, its numbers, and at validations the scores. */
export interface LogRecord {
  iteration: number;
  [name: string]: unknown;
}

/** Appends a record to a log as one line, which survives a crash of this process. */
export const appendRecord = (path: string, record: LogRecord): void =>
  orSay(path, () => appendFileSync(path, `${JSON.stringify(record)}\n`));

/** The records of a log; none without a file. A last line that a crash cut off is left out. */
export function readLog(path: string): LogRecord[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n');
  lines.pop(); // '' after the last line break, or what a crash cut off
  return lines.map((line, i) => {
    try {
      const record: unknown = JSON.parse(line);
      if (v.is(logRecord, record)) return record as LogRecord;
    } catch {} // cut off or overwritten
    throw new Error(
      `log: line ${i + 1} of ${path} is not the record of an iteration — got '${cut(line, 40)}', expected {"iteration": N, …}. Remove that line.`,
    );
  });
}

/** Removes the records of `iteration` and later, which a resumed run will write again. */
export function rewindLog(path: string, iteration: number): void {
  if (!existsSync(path)) return;
  // A validation carries the number of iterations before it, and is finished when they are saved.
  const isKept = (record: LogRecord) => record.iteration < iteration + ('validation' in record ? 1 : 0);
  const kept = readLog(path).filter(isKept);
  const text = kept.map((record) => `${JSON.stringify(record)}\n`).join('');
  writeAtomically(path, [new TextEncoder().encode(text)]);
}
