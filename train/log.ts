// What a run says while it trains: log.jsonl (one object an iteration) and a progress line on stderr.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { writeAtomically } from './checkpoint.js';

/** One line of log.jsonl: the iteration, its numbers, and at validations the scores. */
export interface LogRecord {
  iteration: number;
  [name: string]: unknown;
}

/** Appends records to a file, a line each; what was appended survives a crash of this process. */
export const appendRecord = (path: string, record: LogRecord): void =>
  appendFileSync(path, `${JSON.stringify(record)}\n`);

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
  const kept = readLog(path).filter((record) => record.iteration < iteration);
  const text = kept.map((record) => `${JSON.stringify(record)}\n`).join('');
  writeAtomically(path, [new TextEncoder().encode(text)]);
}

/** Seconds as 1:02:03 or 2:03. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number) => String(n).padStart(2, '0');
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export interface Progress {
  /** Called every iteration; prints what is due. */
  update(done: number, text: string): void;
  /** Ends the line. */
  end(): void;
}

/**
 * A progress line: on a terminal one line that rewrites itself, elsewhere a plain line every few seconds. Rate and remaining
 * time come from the last minute or so.
 */
export function createProgress(
  name: string,
  total: number,
  start = 0,
  out: NodeJS.WriteStream = process.stderr,
): Progress {
  const every = out.isTTY ? 200 : 10_000;
  const times: { done: number; at: number }[] = [{ done: start, at: performance.now() }];
  let printed = performance.now();
  return {
    update(done, text) {
      const now = performance.now();
      if (done < total && now - printed < every) return;
      printed = now;
      times.push({ done, at: now });
      while (times.length > 2 && now - times[1]!.at > 60_000) times.shift();
      const first = times[0]!;
      const rate = (done - first.done) / Math.max(1e-9, (now - first.at) / 1000);
      const remaining = rate > 0 ? clock((total - done) / rate) : '?';
      const line = `${name} ${done}/${total}  ${text}  ${rate.toFixed(2)} it/s  ${remaining} left`;
      out.write(out.isTTY ? `\r\x1b[K${line.slice(0, Math.max(20, (out.columns ?? 120) - 1))}` : `${line}\n`);
    },
    end() {
      if (out.isTTY) out.write('\n');
    },
  };
}
