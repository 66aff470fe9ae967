// Some drivers accept everything and compute nothing; a training on one ends without an error, with loss 0. One launch with a known
// answer finds them.
import { verifyDeviceShader } from '../shaders/verify-device.js';
import { type Gpu, GpuError } from './device.js';
import { run } from './stream.js';
import { empty, scope, tensor } from './tensor.js';

/**
 * Runs one small launch whose answer is known: sums of squares by workgroups. If the result is wrong, rejects with a GpuError that
 * names adapter, driver and what to do. It takes milliseconds: call it before anything long, or anything whose results are kept.
 * @example
 * await verifyDevice(gpu); // throws where the GPU computes nothing
 */
export async function verifyDevice(gpu: Gpu): Promise<void> {
  const groups = 4;
  const threads = 256;
  const numbers = Float32Array.from({ length: groups * threads }, (_, i) => (i % 61) - 20);
  const got = await scope(gpu, async () => {
    const x = tensor(gpu, numbers, [groups, threads], { label: 'verifyDevice' });
    const y = empty(gpu, [groups], 'f32', 'verifyDevice');
    run(verifyDeviceShader(), { x, y }, { workgroups: [groups] });
    return [...(await y.read())];
  });
  for (let group = 0; group < groups; group++) {
    // Whole numbers below 2²⁴: exact in any order.
    const expected = numbers.slice(group * threads, (group + 1) * threads).reduce((sum, x) => sum + x * x, 0);
    if (got[group] === expected) continue;
    const { adapter } = gpu;
    const name = adapter.description || adapter.device || adapter.vendor || 'this GPU';
    const driver = adapter.driver && adapter.driver !== name ? ` (driver: ${adapter.driver})` : '';
    throw new GpuError(
      `device: '${name}'${driver} computes wrong results — a sum of squares came back as ${got[group]}, expected ${expected}. ` +
        'Update its driver, or use another adapter (--adapter, WGRAD_ADAPTER: swiftshader runs on any CPU).',
    );
  }
}
