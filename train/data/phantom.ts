// Short-axis cardiac MR phantoms with ground truth, written in ACDC's layout.

export interface PhantomOptions {
  readonly patients?: number;
  /** In-plane pixels. */
  readonly size?: number;
  readonly seed?: number;
}

/** Writes patientNNN folders and splits.json; the same options give the same bytes. */
export function writePhantoms(outDir: string, options: PhantomOptions = {}): void {
  throw new Error(`not yet ${outDir} ${options}`);
}
