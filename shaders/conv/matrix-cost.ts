// A model of a GPU with matrix units that ranks the tiles of the matrix kernels, in cycles of one processor as in cost.ts. It ranks;
// only the tuner's measurements decide.
import { launchCycles } from './cost.js';
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

/** Registers of a thread beside sums and operands: indices, and loads under way. */
const otherRegisters = 40;
/** In one cycle: multiply-adds, bytes loaded for them, vectors of activations staged (normalized on the way), numbers stored. */
const [multiplied, loaded, staged, stored] = [2048, 256, 3, 3.5];
/** Bytes that a processor's share of memory and cache moves in a cycle. */
const bytes = 28;
/** Cycles: of a round trip to memory, which `batch` loads share; for each warp at a barrier; of a matrix's store; of a start. */
const [roundTrip, batch, barrier, store, start] = [700, 8, 80, 100, 1000];

/** Registers of a thread that hold sums of `sums` matrices, and operands of about twice its square root. */
const registers = ({ M, N, K, lanes }: MatrixUnit, sums: number): number =>
  (sums * M * N) / lanes + (Math.sqrt(sums) * M * K) / lanes + otherRegisters;

/** Cycles of a launch. */
export function cyclesOf(unit: MatrixUnit, launch: MatrixWork): number {
  const { M, N, K, component, lanes } = unit;
  const { groups, threads, storage, sums, rounds, activations, weights } = launch;
  const bytesOf = component === 'f16' ? 2 : 4;
  const multiply = (launch.products * M * N * K) / multiplied + (launch.loads * M * K * bytesOf) / loaded;
  const stage = (activations + weights / 2) / staged;
  const moved = (8 * activations + 16 * weights) / bytes;
  const trips = Math.ceil(activations / threads / batch) + Math.ceil((2 * weights) / threads / batch);
  const warps = threads / 32;
  const barriers = 2 * barrier * warps;
  // Each sum passes through workgroup memory between two barriers.
  const own = (launch.stores * lanes) / threads;
  // Fewer than eight warps do not keep a processor busy while they are alone.
  const gaps = Math.max(1, 8 / warps) - 1;
  return launchCycles(
    { workgroups: groups, threads, storage, registers: registers(unit, sums) },
    rounds * (multiply + stage + moved) + (launch.stores * M * N) / stored,
    rounds * (gaps * (multiply + stage) + roundTrip * trips + barriers) + own * (store + barriers) + start,
  );
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
