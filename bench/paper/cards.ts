// The GPUs that `wgrad bench paper` compiles for, and the figures of one card with each of them. The drivers know the chips; what a
// card does in a second comes from its data sheet. None of it is measured.

/** What bounds a kernel on a card. Rates are peaks. */
export interface Card {
  /** The card that the estimates are about. */
  readonly name: string;
  /** Mesa's driver, and how its shim is told the chip. */
  readonly driver: 'radv' | 'nvk';
  readonly chip: string;
  readonly hertz: number;
  readonly bytesPerSecond: number;
  /** Units that issue instructions, each on its own: a SIMD of AMD, a quarter of an SM of NVIDIA. */
  readonly units: number;
  /** Multiply-adds in f32 a unit finishes in a cycle. */
  readonly multiplyAddsPerCycle: number;
  /** Lanes of a unit; a wave of more takes several cycles an instruction. */
  readonly lanes: number;
  /** Wave64 instructions of some kinds take one cycle on 32 lanes (RDNA 3). */
  readonly dualIssue: boolean;
  /** Waves a unit holds at most. */
  readonly waves: number;
  /** 32-bit registers of a unit, of all lanes together. */
  readonly registers: number;
  /**
   * Units that share workgroup memory, the workgroups that they hold at most, the memory's bytes, and the bytes that each workgroup
   * takes beside its own.
   */
  readonly sharing: number;
  readonly workgroups: number;
  readonly workgroupBytes: number;
  readonly reservedBytes: number;
  /** Bytes a unit moves in a cycle when all units load at once: from workgroup memory, and from the nearest cache. */
  readonly workgroupBytesPerCycle: number;
  readonly cacheBytesPerCycle: number;
}

/** RDNA: 32 lanes a SIMD; two SIMDs share a cache and a port to workgroup memory, four share a memory of 128 KiB. */
const rdna = {
  driver: 'radv',
  lanes: 32,
  waves: 16,
  sharing: 4,
  workgroups: Number.POSITIVE_INFINITY,
  workgroupBytes: 131072,
  reservedBytes: 0,
  workgroupBytesPerCycle: 64,
  cacheBytesPerCycle: 32,
} as const;

export const cards = {
  navi31: {
    ...rdna,
    ...{ name: 'RX 7900 XTX', chip: 'navi31', hertz: 2.5e9, bytesPerSecond: 960e9, units: 192 },
    ...{ multiplyAddsPerCycle: 64, dualIssue: true, registers: 1536 * 32 },
  },
  navi21: {
    ...rdna,
    ...{ name: 'RX 6900 XT', chip: 'navi21', hertz: 2.25e9, bytesPerSecond: 512e9, units: 160 },
    ...{ multiplyAddsPerCycle: 32, dualIssue: false, registers: 1024 * 32 },
  },
  vega10: {
    ...{ name: 'RX Vega 64', driver: 'radv', chip: 'vega10', hertz: 1.546e9, bytesPerSecond: 484e9, units: 256 },
    ...{ multiplyAddsPerCycle: 16, dualIssue: false, registers: 256 * 64, lanes: 16, waves: 10 },
    ...{ sharing: 4, workgroups: Number.POSITIVE_INFINITY, workgroupBytes: 65536, reservedBytes: 0 },
    ...{ workgroupBytesPerCycle: 32, cacheBytesPerCycle: 16 },
  },
  'nvk-172': {
    ...{ name: 'RTX 3090', driver: 'nvk', chip: '172', hertz: 1.695e9, bytesPerSecond: 936e9, units: 328 },
    ...{ multiplyAddsPerCycle: 32, dualIssue: false, registers: 16384, lanes: 32, waves: 12 },
    ...{ sharing: 4, workgroups: 16, workgroupBytes: 102400, reservedBytes: 1024 },
    ...{ workgroupBytesPerCycle: 32, cacheBytesPerCycle: 32 },
  },
} as const satisfies Record<string, Card>;

export type CardName = keyof typeof cards;

/** What the compiler made of one kernel, as far as it says. */
export interface Compiled {
  readonly registers: number;
  /** Registers that did not fit, and bytes of memory a thread uses in their place. */
  readonly spills: number;
  /** Values of a whole wave that lie in lanes of its vector registers, for want of scalar ones: no memory is touched. */
  readonly scalarSpills: number;
  readonly scratchBytes: number;
  readonly workgroupBytes: number;
  readonly instructions: number;
  /** Lanes of a wave. */
  readonly wave: number;
  /** The compiler's own count of cycles between waves of 64 on a unit, if nothing waits; it guesses how often loops turn. */
  readonly cycles: number | undefined;
  /** One turn of the loop that multiplies most; of the whole kernel where no loop does. */
  readonly hot: Work | undefined;
}

/** What some instructions ask of a unit, for one wave. */
export interface Work {
  readonly instructions: number;
  /** Multiply-adds of one lane. */
  readonly multiplyAdds: number;
  /** Whether matrix units do them. */
  readonly matrix: boolean;
  /** Cycles in which the unit's arithmetic is busy. */
  readonly arithmetic: number;
  /** Bytes of one lane from and to workgroup memory, and from and to memory. */
  readonly workgroupBytes: number;
  readonly memoryBytes: number;
}

/** Multiply-adds of the hottest loop as a share of the card's peak, and what keeps it from more. Matrix units pass 1. */
export function hotShare(card: Card, { hot, wave }: Compiled): { share: number; by: string } | undefined {
  if (!hot?.multiplyAdds) return undefined;
  const busy: [string, number][] = [
    ['arithmetic', hot.arithmetic],
    ['workgroup memory', (hot.workgroupBytes * wave) / card.workgroupBytesPerCycle],
    ['cache', (hot.memoryBytes * wave) / card.cacheBytesPerCycle],
  ];
  const [by, cycles] = busy.reduce((most, each) => (each[1] > most[1] ? each : most));
  return { share: (hot.multiplyAdds * wave) / (card.multiplyAddsPerCycle * cycles), by };
}

/**
 * Waves that a unit holds, as a share of the most it can: by registers and by whole workgroups in the memory that they share. A
 * workgroup takes as many registers as all its waves do, on all units that share its memory.
 */
export function occupancy(card: Card, { registers, workgroupBytes, wave }: Compiled, threads: number): number {
  const waves = Math.ceil(threads / wave);
  const byRegisters = Math.min(card.waves, Math.floor(card.registers / (Math.max(1, registers) * wave)));
  const byMemory = Math.floor(card.workgroupBytes / (Math.ceil(workgroupBytes / 1024) * 1024 + card.reservedBytes));
  const groups = Math.min(card.workgroups, byMemory, Math.floor((byRegisters * card.sharing) / waves));
  return Math.min(byRegisters, (groups * waves) / card.sharing) / card.waves;
}

/** All launches of one kernel. */
export interface Use {
  /** Workgroups, bytes that are bound and operations of convolutions, of all launches together. */
  readonly groups: number;
  readonly bytes: number;
  readonly flops: number;
  /** Threads of a workgroup. */
  readonly threads: number;
}

/**
 * The least milliseconds that the launches take: the bytes they bind once at the memory's rate, or the multiply-adds of
 * convolutions at the peak times the hottest loop's share, or else the compiler's cycles; whichever is more.
 */
export function leastMs(card: Card, compiled: Compiled, { groups, bytes, flops, threads }: Use): number {
  const memory = bytes / card.bytesPerSecond;
  const hot = hotShare(card, compiled);
  const peak = 2 * card.units * card.multiplyAddsPerCycle * card.hertz;
  const waves = groups * Math.ceil(threads / 64);
  const work =
    flops && hot
      ? flops / (peak * (compiled.hot!.matrix ? hot.share : Math.min(1, hot.share)))
      : (waves * (compiled.cycles ?? 0)) / card.units / card.hertz;
  return 1000 * Math.max(memory, work);
}
