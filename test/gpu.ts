// The device of a test process: one, opened at first use, closed when the process has nothing left to do.
import type { Gpu } from '../engine/index.js';
import { openDevice } from '../engine/node.js';

let opened: Promise<Gpu> | undefined;

/** The device all tests of this process share; WGRAD_ADAPTER chooses it. */
export function testGpu(): Promise<Gpu> {
  opened ??= openDevice({}).then((gpu) => {
    process.once('beforeExit', () => gpu.close());
    return gpu;
  });
  return opened;
}
