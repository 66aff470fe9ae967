// What a tile of a staged convolution costs, for the order of the candidates. A model of a processor (an SM of NVIDIA, a WGP of AMD)
// that issues 128 multiply-adds a cycle and reads 128 bytes of workgroup memory; the tuner measures what the model can only rank.

/** One launch. Counts are of one thread and one phase: staging, a barrier, multiplying what was staged. */
export interface Work {
  readonly workgroups: number;
  readonly threads: number;
  readonly phases: number;
  /** Vectors that it stages: of x, which may need its activation and dropout, and others. */
  readonly stagedX: number;
  readonly stagedOthers: number;
  /** Multiply-adds, and vectors that it reads from workgroup memory for them (a single number is a quarter). */
  readonly products: number;
  readonly loads: number;
  /** About how many registers a thread needs, and bytes of workgroup memory of a workgroup. */
  readonly registers: number;
  readonly storage: number;
}

/** Processors of the GPU, 32-bit registers of each, and bytes of workgroup memory: what large GPUs of several vendors have at least. */
const [processors, registerFile, memory] = [128, 65536, 131072];
/** Cycles: of a round trip to memory, which `batch` loads share; of a barrier; of the start and the end of a workgroup. */
const [roundTrip, batch, barrier, ends] = [700, 4, 100, 3000];

/** Cycles that a launch takes: its workgroups share a processor, and one multiplies while another waits for memory. */
export function cyclesOf({ workgroups, threads, phases, products, loads, registers, storage, ...own }: Work): number {
  const staged = own.stagedX + own.stagedOthers;
  const warps = Math.ceil(threads / 32);
  const room = Math.min(16, Math.floor(registerFile / (32 * warps * registers)), Math.floor(memory / storage));
  const resident = Math.max(1, Math.min(room, Math.ceil(workgroups / processors)));
  // Four schedulers issue an instruction each: about 16 to stage a vector, 300 where dropout is drawn. A vector for each thread of a warp takes four cycles of workgroup memory.
  const issued = (warps / 4) * (products + loads + 80 * own.stagedX + 16 * own.stagedOthers + 40);
  const busy = phases * Math.max(issued, 4 * warps * (loads + staged));
  // Eight warps keep a processor busy; fewer leave gaps.
  const alone = busy * Math.max(1, 8 / warps) + phases * (2 * barrier + roundTrip * Math.ceil(staged / batch)) + ends;
  const rounds = Math.ceil(workgroups / (processors * resident));
  return rounds * resident * Math.max(busy, alone / resident);
}

/** The cheapest of each kind, cheapest first, at most 24: kinds keep the choice diverse where the model is wrong. */
export function cheapest<T>(found: readonly { tile: T; cost: number; kind: string }[]): T[] {
  const kinds = new Map<string, { tile: T; cost: number }>();
  for (const one of [...found].sort((a, b) => a.cost - b.cost)) if (!kinds.has(one.kind)) kinds.set(one.kind, one);
  return [...kinds.values()].slice(0, 24).map(({ tile }) => tile);
}
