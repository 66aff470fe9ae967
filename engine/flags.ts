// Developer switches. Each Gpu has its own, `gpu.flags`, which it takes from the environment (WGRAD_…) when it is opened.
// A browser has no environment; there all are at their defaults.

/** Developer switches of a Gpu (`gpu.flags`). They may be set while nothing is recorded. */
export interface Flags {
  /** 1: per capture launches, temporaries, bytes · 2: time of every launch · 3: the recorded list and its buffers · 4: WGSL. */
  debug: number;
  /** Submit and check every launch on its own; errors carry the stack of the op call. */
  sync: boolean;
  /** 0: captured steps are recorded anew at every call. */
  capture: boolean;
  /** 0: one buffer per tensor, nothing shared. */
  pool: boolean;
  /** 0: every op has its own launch; nothing is fused. */
  fuse: boolean;
  /** 0: every kernel family runs its default; nothing measured is looked up. */
  tune: boolean;
  /** Fill every buffer of a temporary with NaN before use: finds reads of unwritten memory (use with WGRAD_POOL=0). */
  poison: boolean;
  /** Check every launch's output; the next read rejects with the first op that produced a NaN or an infinity. */
  checkNan: boolean;
  /** Check the labels of every loss; reading the loss rejects with the number that are neither a class nor ignored on purpose. */
  checkLabels: boolean;
}

/**
 * The switches that the environment sets now; a new Gpu starts from them.
 * @example
 * console.log(environmentFlags().fuse); // true
 */
export function environmentFlags(): Flags {
  const environment: Record<string, string | undefined> =
    (globalThis as { process?: { env?: Record<string, string | undefined> } }).process?.env ?? {};
  const on = (name: string, fallback: boolean): boolean => {
    const value = environment[name];
    return value === undefined || value === '' ? fallback : value !== '0';
  };
  return {
    debug: Number(environment.WGRAD_DEBUG ?? 0),
    sync: on('WGRAD_SYNC', false),
    capture: on('WGRAD_CAPTURE', true),
    pool: on('WGRAD_POOL', true),
    fuse: on('WGRAD_FUSE', true),
    tune: on('WGRAD_TUNE', true),
    poison: on('WGRAD_POISON', false),
    checkNan: on('WGRAD_CHECK_NAN', false),
    checkLabels: on('WGRAD_CHECK_LABELS', false),
  };
}
