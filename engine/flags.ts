// Developer switches, read once from the environment (WGRAD_…). In a browser there is no environment: all are off.

const environment: Record<string, string | undefined> =
  (globalThis as { process?: { env?: Record<string, string | undefined> } }).process?.env ?? {};

const on = (name: string, fallback: boolean): boolean => {
  const value = environment[name];
  return value === undefined || value === '' ? fallback : value !== '0';
};

/** The developer switches; they may be set while nothing is recorded. */
export const flags = {
  /** 1: per capture launches, temporaries, bytes · 2: time of every launch · 3: the recorded list and its buffers · 4: WGSL. */
  debug: Number(environment.WGRAD_DEBUG ?? 0),
  /** Submit and check every launch on its own; errors carry the stack of the op call. */
  sync: on('WGRAD_SYNC', false),
  /** 0: captured steps are recorded anew at every call. */
  capture: on('WGRAD_CAPTURE', true),
  /** 0: one buffer per tensor, nothing shared. */
  pool: on('WGRAD_POOL', true),
  /** 0: every op is a launch of its own; nothing rides along with another. */
  fuse: on('WGRAD_FUSE', true),
  /** 0: every kernel family runs its default; nothing measured is looked up. */
  tune: on('WGRAD_TUNE', true),
  /** Fill every buffer of a temporary with NaN before use: finds reads of unwritten memory (use with WGRAD_POOL=0). */
  poison: on('WGRAD_POISON', false),
  /** Check every launch's output; the next read names the first op that produced a NaN or an infinity. */
  checkNan: on('WGRAD_CHECK_NAN', false),
};
