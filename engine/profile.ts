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

/** Launch times summed by kernel, slowest first. */
export function summarize(times: readonly LaunchTime[]): ProfileRow[] {
  const total = times.reduce((sum, { ms }) => sum + ms, 0);
  const groups = new Map<string, { calls: number; ms: number; bytes: number }>();
  for (const { label, ms, bytes } of times) {
    const group = groups.get(label) ?? { calls: 0, ms: 0, bytes: 0 };
    groups.set(label, { calls: group.calls + 1, ms: group.ms + ms, bytes: group.bytes + bytes });
  }
  return [...groups]
    .map(([label, { calls, ms, bytes }]) => ({
      label,
      calls,
      ms,
      share: total ? ms / total : 0,
      gigabytesPerSecond: ms ? bytes / ms / 1e6 : 0,
    }))
    .sort((a, b) => b.ms - a.ms);
}

/** The rows of `summarize` as text. */
export function profileTable(rows: readonly ProfileRow[]): string {
  const lines = rows.map(
    ({ label, calls, ms, share, gigabytesPerSecond }) =>
      `${label.padEnd(32)} ${String(calls).padStart(5)} ${ms.toFixed(3).padStart(10)} ${(100 * share).toFixed(1).padStart(6)} ${gigabytesPerSecond.toFixed(2).padStart(8)}`,
  );
  return [
    `${'kernel'.padEnd(32)} ${'calls'.padStart(5)} ${'ms'.padStart(10)} ${'%'.padStart(6)} ${'GB/s'.padStart(8)}`,
    ...lines,
  ].join('\n');
}
