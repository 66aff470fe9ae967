// What a run writes down while it trains: log.jsonl, one object an iteration.
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

/** Appends records to a file, a line each; what was appended survives a crash of this process. */
export const appendRecord = (path: string, record: LogRecord): void =>
  orSay(path, () => appendFileSync(path, `${JSON.stringify(record)}\n`));

/** The records of a log, none where there is no file; a last line that a crash cut off is left out. */
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
      `log: line ${i + 1} of ${path} is no record of an iteration — got '${cut(line, 40)}', expected {"iteration": N, …}. Remove that line.`,
    );
  });
}

/** Cuts a log after the records of iterations before `iteration`: what a resumed run will write again is removed. */
export function rewindLog(path: string, iteration: number): void {
  if (!existsSync(path)) return;
  // A validation is numbered by the iterations before it, and is over when they are saved.
  const isKept = (record: LogRecord) => record.iteration < iteration + ('validation' in record ? 1 : 0);
  const kept = readLog(path).filter(isKept);
  const text = kept.map((record) => `${JSON.stringify(record)}\n`).join('');
  writeAtomically(path, [new TextEncoder().encode(text)]);
}
