// Flags that override how a run's settings read volumes: what to do with odd values and headers.
import type { Reading } from '../data/case-volume.js';
import type { Flags } from '../settings/command-line.js';

/** Flags for images. */
export const imageFlags = {
  nan: {
    type: 'string',
    choices: ['least', 'zero', 'refuse'],
    help: 'NaN and infinite intensities become the smallest finite one (least, the default) or 0 (zero), or are an error (refuse)',
  },
} as const satisfies Flags;

/** Flags for labels beside images. */
export const labelFlags = {
  'ignore-label': {
    type: 'integer',
    value: 'V',
    help: 'label value of voxels that belong to no class, usually 255 or -1',
  },
  trust: {
    type: 'string',
    choices: ['headers', 'voxels'],
    help: 'headers (default): a label whose header disagrees with its image is an error; voxels: their voxels correspond whatever the headers say',
  },
} as const satisfies Flags;

/** The reading that these flags ask for; it overrides a run's settings. */
export function readingOf(flags: {
  readonly nan?: 'least' | 'zero' | 'refuse';
  readonly 'ignore-label'?: number;
  readonly trust?: 'headers' | 'voxels';
}): Reading {
  const { nan, trust, 'ignore-label': ignoreLabel } = flags;
  return {
    ...(nan !== undefined ? { nan } : {}),
    ...(trust !== undefined ? { trust } : {}),
    ...(ignoreLabel !== undefined ? { ignoreLabel } : {}),
  };
}
