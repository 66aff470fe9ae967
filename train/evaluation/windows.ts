// Where overlapping windows lie in a sample, how they weigh, and how a sample that is too large to hold is cut into slabs.
import type { WindowWeights } from './prediction.js';

/**
 * First positions of windows of `side` along an axis of `length`, `stride` apart; the last one ends with the axis. A window that is longer
 * than the axis has it in its middle.
 */
export function windowPositions(length: number, side: number, stride: number): number[] {
  if (length <= side) return [-Math.floor((side - length) / 2) || 0];
  return Array.from({ length: Math.ceil((length - side) / stride) + 1 }, (_, i) => Math.min(i * stride, length - side));
}

/** Planes of a sample along its first axis that are predicted at once, and the windows that say anything of them. */
export interface Slab {
  /** The planes that its windows reach. */
  readonly first: number;
  readonly end: number;
  /** Positions of its windows along the axis. */
  readonly positions: readonly number[];
  /** The planes of which it holds every window: no other slab has them. */
  readonly firstWhole: number;
  readonly endWhole: number;
}

/** Cuts an axis of `length` with windows at `positions` into slabs of at most `most` planes, or of what one window more than the last needs. */
export function slabsOf(length: number, side: number, positions: readonly number[], most: number): Slab[] {
  const slabs: Slab[] = [];
  for (let whole = 0; whole < length; whole = slabs.at(-1)!.endWhole) {
    const from = positions.findIndex((at) => at + side > whole);
    const first = Math.max(0, positions[from]!);
    const endOf = (i: number): number => Math.min(length, positions[i]! + side);
    const wholeTo = (i: number): number => positions[i + 1] ?? length;
    let to = from;
    while (to + 1 < positions.length && (endOf(to + 1) - first <= most || wholeTo(to) <= whole)) to++;
    slabs.push({
      ...{ first, end: endOf(to), positions: positions.slice(from, to + 1) },
      ...{ firstWhole: whole, endWhole: wholeTo(to) },
    });
  }
  return slabs;
}

/** Weights of a window's places along an axis: 1, or a Gaussian about its middle with nnU-Net's σ, an eighth of the side. */
export function weightsAlong(side: number, weights: WindowWeights): number[] {
  return Array.from({ length: side }, (_, i) =>
    weights === 'uniform' ? 1 : Math.fround(Math.exp(-0.5 * ((i - (side - 1) / 2) / (side / 8)) ** 2)),
  );
}

/** For each place of an axis, the weights of all windows that lie over it. */
export function totalsAlong(length: number, positions: readonly number[], weights: readonly number[]): Float64Array {
  const totals = new Float64Array(length);
  for (const at of positions)
    for (const [i, weight] of weights.entries()) if (totals[at + i] !== undefined) totals[at + i]! += weight;
  return totals;
}
