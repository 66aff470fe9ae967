// What a run writes down while it trains: log.jsonl, one object an iteration.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { orSay, writeAtomically } from '../files/atomic-file.js';

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
      return JSON.parse(line) as LogRecord;
    } catch {
      throw new Error(`log: line ${i + 1} of ${path} is not JSON — got '${line.slice(0, 40)}'. Remove that line.`);
    }
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
