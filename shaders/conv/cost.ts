// What a tile of a staged convolution costs, for the order of the candidates; the tuner measures what a model can only rank. It counts
// cycles of one processor of an H100 (132 of them), and is fitted to its times of 47 choices, by which two things decide:
// work of several kinds hardly overlaps, so times add up; and workgroups share a processor only as far as their workgroup memory
// takes 51 KiB together, as if the driver left the rest of the 228 KiB to the cache.

const processors = 132;
/** What workgroups on one processor share: bytes of workgroup memory, 32-bit registers, warps, and places. */
const [memory, registerFile, mostWarps, mostWorkgroups] = [51 * 1024, 65536, 64, 32];
/** Bytes that the driver takes from workgroup memory for each workgroup. */
const reserved = 1024;

/** One launch: its workgroups, threads of each, registers of a thread and bytes of workgroup memory. */
export interface Occupancy {
  readonly workgroups: number;
  readonly threads: number;
  readonly registers: number;
  readonly storage: number;
}

/** Cycles of a launch whose workgroups each keep a processor busy for `busy` cycles and wait for `waits`, which others fill. */
export function launchCycles(
  { workgroups, threads, registers, storage }: Occupancy,
  busy: number,
  waits: number,
): number {
  const warps = Math.ceil(threads / 32);
  const room = Math.min(
    Math.floor(memory / (storage + reserved)),
    Math.floor(registerFile / (32 * warps * registers)),
    Math.floor(mostWarps / warps),
    mostWorkgroups,
  );
  const each = workgroups / processors;
  const resident = Math.max(1, Math.min(room, Math.ceil(each)));
  const rounds = Math.max(1, each / resident);
  // Few rounds are whole ones; of many, the last is half full on average.
  return (rounds < 4 ? Math.ceil(rounds) : rounds + 0.5) * (resident * busy + waits);
}

/** A launch of a tiled kernel. Counts are of one thread and one phase: staging, a barrier, multiplying what was staged. */
export interface Work extends Occupancy {
  readonly phases: number;
  /** Vectors that it stages: of x, which may need its activation, and others. */
  readonly stagedX: number;
  readonly stagedOthers: number;
  /** Multiply-adds, and vectors that it reads from workgroup memory for them (a single number is a quarter). */
  readonly products: number;
  readonly loads: number;
  /** Vectors of 4 sums that it finishes, after all phases. */
  readonly sums: number;
}

/** Cycles: of a round trip to memory, which `batch` loads share; for each warp at the barriers of a phase; of a start. */
const [roundTrip, batch, barrier, start] = [700, 4, 50, 2000];
/** Cycles of a vector of sums: its epilogue waits for what it reads. */
const finish = 1500;
/** Bytes that a processor's share of the memory moves in a cycle. */
const bytes = 20;

export function cyclesOf({ phases, products, loads, sums, stagedX, stagedOthers, ...launch }: Work): number {
  const { threads } = launch;
  const warps = Math.ceil(threads / 32);
  // Four schedulers issue an instruction each: 80 to stage a vector of x, 16 one of the others, 30 around them. A warp's vectors take
  // four cycles of workgroup memory to store, and two to load, where threads share them.
  const issued = (warps / 4) * (products + loads + 80 * stagedX + 16 * stagedOthers + 30);
  const shared = warps * (2 * loads + 4 * (stagedX + stagedOthers));
  const moved = (16 * threads * (phases * (stagedX + stagedOthers) + sums)) / bytes;
  const trips = Math.ceil(stagedX / batch) + Math.ceil(stagedOthers / batch);
  return launchCycles(
    launch,
    phases * (issued + shared) + moved,
    phases * (roundTrip * trips + barrier * warps) + finish * sums + start,
  );
}

/** Cycles in which the memory takes the partial sums of all slices of a weight gradient, and gives them to the launch that adds them. */
export const sliceCycles = (sums: number): number => (2 * sums) / 500;

/** The cheapest of each kind, cheapest first, at most `count`: kinds keep the choice diverse where the model is wrong. */
export function cheapest<T>(found: readonly { tile: T; cost: number; kind: string }[], count = 24): T[] {
  const kinds = new Map<string, { tile: T; cost: number }>();
  for (const one of [...found].sort((a, b) => a.cost - b.cost)) if (!kinds.has(one.kind)) kinds.set(one.kind, one);
  return [...kinds.values()].slice(0, count).map(({ tile }) => tile);
}
