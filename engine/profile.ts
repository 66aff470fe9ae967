// Times of launches as a table: calls, milliseconds, share, and bandwidth over the bytes that each launch binds.

/** Time and bytes of one launch. */
export interface LaunchTime {
  readonly label: string;
  readonly ms: number;
  /** Bytes of all bindings: a lower bound of what the launch moves. */
  readonly bytes: number;
  readonly shapes: string;
}

/** All launches of one kernel; `share` of the whole time, from 0 to 1. */
export interface ProfileRow {
  readonly label: string;
  readonly calls: number;
  readonly ms: number;
  readonly share: number;
  readonly gigabytesPerSecond: number;
}

/**
 * Launch times summed by kernel, slowest first.
 * @example
 * const times = [{ label: 'conv', ms: 1, bytes: 2e9, shapes: '' }]; // from step.profile()
 * console.log(summarize(times)[0].gigabytesPerSecond); // 2000
 */
export function summarize(times: readonly LaunchTime[]): ProfileRow[] {
  const total = times.reduce((sum, { ms }) => sum + ms, 0);
  const groups = new Map<string, { calls: number; ms: number; bytes: number }>();
  for (const { label, ms, bytes } of times) {
    const group = groups.get(label) ?? { calls: 0, ms: 0, bytes: 0 };
    group.calls++;
    group.ms += ms;
    group.bytes += bytes;
    groups.set(label, group);
  }
  return [...groups]
    .map(([label, { calls, ms, bytes }]) => ({
      label,
      calls,
      ms,
      share: total && ms / total,
      gigabytesPerSecond: ms && bytes / ms / 1e6,
    }))
    .sort((a, b) => b.ms - a.ms);
}

/**
 * The rows of `summarize` as text.
 * @example
 * const times = [{ label: 'conv', ms: 1, bytes: 2e9, shapes: '' }]; // from step.profile()
 * console.log(profileTable(summarize(times)).split('\n').length); // 2
 */
export const profileTable = (rows: readonly ProfileRow[]): string =>
  [
    ['kernel', 'calls', 'ms', '%', 'GB/s'],
    ...rows.map(({ label, calls, ms, share, gigabytesPerSecond }) => [
      ...[label, `${calls}`, ms.toFixed(3), (100 * share).toFixed(1), gigabytesPerSecond.toFixed(2)],
    ]),
  ]
    .map(([label, ...cells]) => label!.padEnd(32) + cells.map((cell, i) => ` ${cell.padStart(widths[i]!)}`).join(''))
    .join('\n');

const widths = [5, 10, 6, 8];
