// The choices that wgrad ships, for adapters measured so far. Written by `wgrad bench --tune --print-table`: do not edit
// by hand. What a user measured on the same adapter wins over it.
import type { TunedTable } from './tuning.js';

export const tuned: readonly TunedTable[] = [];
