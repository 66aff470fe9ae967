// What the tuner remembers of a measurement, in memory, on disk and in the shipped table.
/** What was measured for one key. */
export interface Tuning {
  /** The candidate that won: a plain object. */
  readonly choice: unknown;
  /** Its time, and that of the family's default; milliseconds. */
  readonly ms: number;
  readonly defaultMs: number;
  /** Hash of the text of both kernels; a different text invalidates the choice. */
  readonly hash: string;
}

export interface TunedTable {
  /** Vendor, architecture and device, as `adapterFamily` writes them: driver versions may differ. */
  readonly adapter: string;
  readonly choices: Readonly<Record<string, Tuning>>;
}
