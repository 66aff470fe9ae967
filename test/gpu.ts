// One device per test process: WGRAD_ADAPTER if set, else the best adapter there is.

import { verifyDevice } from '../engine/debug.js';
import type { Gpu } from '../engine/index.js';
import { openDevice } from '../engine/node.js';

let opened: Promise<Gpu> | undefined;

/** The device all tests of this process share; closed when nothing is left to do. */
export function testGpu(): Promise<Gpu> {
  opened ??= openDevice({ quiet: true }).then(async (gpu) => {
    await verifyDevice(gpu); // some right answers are zeros, which a GPU that computes nothing gives, too
    process.once('beforeExit', () => gpu.close());
    return gpu;
  });
  return opened;
}

/** Why a test that needs a feature cannot run on the shared device, for `unless`; undefined where it can. */
export const lacking = async (feature: GPUFeatureName): Promise<string | undefined> =>
  (await testGpu()).features.has(feature) ? undefined : `this adapter has no ${feature}`;
