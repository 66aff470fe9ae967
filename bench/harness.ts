// How everything here is timed: contenders in turns, so that whatever else the machine does meets all of them alike, and
// medians, so that a hiccup counts for nothing.

/** The middle value (the mean of the two middle ones). */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

export const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, v) => sum + Math.log(v), 0) / values.length);

export interface Contender {
  readonly name: string;
  /** Queues the work once. */
  queue(): void;
  /** Resolves when everything queued has run on the device. */
  done(): Promise<void>;
}

/**
 * Milliseconds of one `queue()` of each contender: medians of `rounds` turns. In one turn a contender queues its work so often
 * that it takes about `turnMs`, then waits for the device once.
 */
export async function race(
  contenders: readonly Contender[],
  { rounds = 9, turnMs = 20 }: { rounds?: number; turnMs?: number } = {},
): Promise<number[]> {
  const turn = async ({ queue, done }: Contender, times: number): Promise<number> => {
    const start = performance.now();
    for (let i = 0; i < times; i++) queue();
    await done();
    return (performance.now() - start) / times;
  };
  const times: number[] = [];
  for (const contender of contenders) {
    await turn(contender, 1); // compiles
    const estimate = Math.min(await turn(contender, 1), await turn(contender, 1));
    times.push(Math.max(1, Math.min(100, Math.round(turnMs / estimate))));
  }
  const results: number[][] = contenders.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, contender] of contenders.entries()) results[i]!.push(await turn(contender, times[i]!));
  }
  return results.map(median);
}

/** Largest difference of two results relative to the largest value. */
export function disagreement(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < a.length; i++) {
    difference = Math.max(difference, Math.abs(a[i]! - b[i]!));
    scale = Math.max(scale, Math.abs(a[i]!));
    if (Number.isNaN(a[i]! - b[i]!)) return Number.POSITIVE_INFINITY;
  }
  return scale ? difference / scale : difference;
}

/** Columns padded to one width each; numbers go to the right. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const cells = rows.map((row) => row.map((cell) => (typeof cell === 'number' ? cell.toFixed(2) : cell)));
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  return cells
    .map((row, r) =>
      row
        .map((cell, c) =>
          typeof rows[Math.max(r, 1)]?.[c] === 'number' ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
