// What the peers need of a browser: `navigator.gpu` and WebGPU's constants. Only benchmarks ever set globals.
import type { Gpu } from '../engine/index.js';
import { openDevice } from '../engine/node.js';

/** Installs `navigator.gpu` for an adapter; every device that somebody requests from it is added to the list it returns. */
export async function pretendBrowser(adapter: string | undefined): Promise<Gpu[]> {
  const { globals } = (await import('webgpu')) as unknown as { globals: Record<string, unknown> };
  Object.assign(globalThis, globals);
  const opened: Gpu[] = [];
  const first = await openDevice({ adapter, quiet: true });
  const { features, limits } = first.device;
  const info = first.device.adapterInfo;
  const requestDevice = async (): Promise<GPUDevice> => {
    const gpu = await openDevice({ adapter, quiet: true });
    opened.push(gpu);
    return gpu.device;
  };
  const gpu = {
    requestAdapter: async () => ({ features, limits, info, requestDevice, requestAdapterInfo: async () => info }),
    getPreferredCanvasFormat: () => 'bgra8unorm',
    wgslLanguageFeatures: new Set(),
  };
  Object.defineProperty(globalThis, 'navigator', { value: { gpu, userAgent: 'Node' }, configurable: true });
  first.close();
  return opened;
}
