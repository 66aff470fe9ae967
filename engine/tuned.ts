// The choices that wgrad ships, for adapters measured so far. Printed by `wgrad bench --tune --print-table`; do not edit by
// hand. What a user measured on the same adapter wins over it.

/** What was measured for one key. */
export interface Tuning {
  /** The candidate that won: a plain object. */
  readonly choice: unknown;
  /** Its time, and that of the family's default; milliseconds. */
  readonly ms: number;
  readonly defaultMs: number;
  /** Of the text of both kernels: another text forgets the choice. */
  readonly hash: string;
}

export interface TunedTable {
  /** Vendor, architecture and device, as `adapterFamily` writes them: driver versions may differ. */
  readonly adapter: string;
  readonly choices: Readonly<Record<string, Tuning>>;
}

export const tuned: readonly TunedTable[] = [];
