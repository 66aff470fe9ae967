// The table that users read (engine/ONNX.md): rows, and what became of the tests.
import { rowHead, rows } from './rows.js';
import type { Verdict } from './run.js';

const counted = (values: readonly string[]): string => {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].map(([value, count]) => `${count} ${value}`).join('; ');
};

function cellsOf(op: string, verdicts: readonly Verdict[]): string {
  const own = verdicts.filter((verdict) => verdict.op === op);
  const calls = own.flatMap((verdict) => verdict.calls ?? []);
  const [least, most] = [Math.min(...calls), Math.max(...calls)];
  const range = calls.length ? (least === most ? `${least}` : `${least}–${most}`) : '';
  const isOffered = typeof rows[op] !== 'string';
  const reasons = own.flatMap(({ why, failure, lacksHalf }) => {
    if (failure) return `FAILED: ${failure}`;
    if (lacksHalf) return 'needs f16, which this adapter lacks';
    return why && isOffered ? why : [];
  });
  return ` ${own.length ? `${calls.length} of ${own.length}` : 'none'} | ${range} | ${counted(reasons)} |`;
}

/** How many tests passed by so many calls, and how many did not. */
export function summary(verdicts: readonly Verdict[]): string {
  const count = (is: (verdict: Verdict) => boolean | undefined): number => verdicts.filter(is).length;
  const [one, few, many] = [
    count(({ calls }) => calls !== undefined && calls <= 1),
    count(({ calls }) => calls === 2 || calls === 3),
    count(({ calls }) => calls !== undefined && calls > 3),
  ];
  const half = count(({ lacksHalf }) => lacksHalf);
  return [
    `Of ${verdicts.length} tests ${one} pass with one call at most, ${few} with two or three, ${many} with more;`,
    `${count(({ why }) => why !== undefined)} are not offered, ${count(({ failure }) => failure !== undefined)} fail${half ? `, ${half} need f16, which this adapter lacks` : ''}.`,
  ].join(' ');
}

/** The table, as Markdown. */
export const tableOf = (verdicts: readonly Verdict[]): string =>
  [
    '| ONNX | wgrad | tests passed | calls | of the others |',
    '|---|---|---|---|---|',
    ...Object.keys(rows).map((op) => rowHead(op) + cellsOf(op, verdicts)),
  ].join('\n');
