// Flags of the commands that read volumes otherwise than by a run's settings: how odd values and headers are taken.

import type { Reading } from '../data/case-volume.js';
import type { Flags } from '../settings/command-line.js';

/** Of intensities. */
export const imageFlags = {
  nan: {
    type: 'string',
    choices: ['least', 'zero', 'refuse'],
    help: 'intensities that are NaN or infinite become the least of the others (default), or 0, or an error',
  },
} as const satisfies Flags;

/** Of labels beside images. */
export const labelFlags = {
  'ignore-label': { type: 'integer', value: 'V', help: 'label value of voxels that are no class, usually 255 or -1' },
  trust: {
    type: 'string',
    choices: ['headers', 'voxels'],
    help: 'headers (default): labels that lie otherwise than their image are an error; voxels: they correspond all the same',
  },
} as const satisfies Flags;

/** What of a reading these flags say; they go before a run's settings. */
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
