// A model of a GPU with matrix units that ranks the tiles of the matrix kernels. It counts cycles of one processor; its figures are
// those of an H100 (132 processors) where it multiplies through subgroup matrices. It ranks; only the tuner's measurements decide.
import type { MatrixUnit } from './matrix-unit.js';

/** What one launch does. */
export interface MatrixWork {
  readonly groups: number;
  /** Threads of a workgroup, bytes of workgroup memory, and sums that a subgroup keeps, in matrices. */
  readonly threads: number;
  readonly storage: number;
  readonly sums: number;
  /** Rounds of staging and multiplying in a workgroup; in each, for all its subgroups together: */
  readonly rounds: number;
  readonly products: number;
  /** Matrices loaded from workgroup memory. */
  readonly loads: number;
  /** Vectors staged of activations (8 bytes in memory) and of weights (16 bytes). */
  readonly activations: number;
  readonly weights: number;
  /** Matrices that a workgroup stores in the end. */
  readonly stores: number;
}

const processors = 132;
const storageOf = 232448;
const registersOf = 65536;
/** Registers of a thread beside sums and operands: indices, and loads under way. */
const otherRegisters = 40;

/** Registers of a thread that hold sums of `sums` matrices, and operands of about twice its square root. */
const registers = ({ M, N, K, lanes }: MatrixUnit, sums: number): number =>
  (sums * M * N) / lanes + (Math.sqrt(sums) * M * K) / lanes + otherRegisters;

/** Cycles of a launch. */
export function cyclesOf(unit: MatrixUnit, work: MatrixWork): number {
  const { M, N, K, component, lanes } = unit;
  const { groups, threads, storage, sums, rounds } = work;
  const multiply = (work.products * M * N * K) / 1280;
  const load = (work.loads * M * K * (component === 'f16' ? 2 : 4)) / 128;
  const issue = (2 * work.activations + work.weights) / 5; // activations are normalized on the way
  const memory = (8 * work.activations + 16 * work.weights) / 24;
  const waits = Math.ceil(work.activations / threads / 4) + Math.ceil(work.weights / threads / 4);
  const store = (work.stores * M * N) / 5;
  const most = Math.floor(
    Math.min(storageOf / (storage + 1024), registersOf / (registers(unit, sums) * threads), 2048 / threads),
  );
  const each = Math.ceil(groups / processors);
  const resident = Math.max(1, Math.min(most, each));
  // Workgroups on one processor share its parts; each alone waits for one part after the other.
  const busy = rounds * Math.max(multiply, load, issue, memory) + store;
  const alone =
    rounds * (Math.max(multiply, load) + Math.max(issue, memory) + 300 + 600 * waits) +
    Math.max(store, ((work.stores * lanes) / threads) * 150) +
    1500;
  return (each / resident) * Math.max(resident * busy, alone);
}

/** The first `count` of `found` by cost, of each kind at most two, which differ in threads. */
export function diverse<Tile>(
  found: readonly { readonly tile: Tile; readonly cost: number; readonly kind: string; readonly threads: number }[],
  count: number,
): Tile[] {
  const kept: (typeof found)[number][] = [];
  for (const next of [...found].sort((a, b) => a.cost - b.cost)) {
    const alike = kept.filter(({ kind }) => kind === next.kind);
    if (alike.length < 2 && alike.every(({ threads }) => threads !== next.threads)) kept.push(next);
    if (kept.length === count) break;
  }
  return kept.map(({ tile }) => tile);
}
