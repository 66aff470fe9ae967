// Opening the GPU, and plain words where there is none.
import { type Gpu, openDevice } from 'wgrad';

const browsers = 'Chrome or Edge 123, Safari 26, Firefox 141 on Windows, Firefox 145 on Macs, and newer';

/** Why there is no GPU, and what can be done; each line a paragraph. */
export class NoGpuError extends Error {
  override name = 'NoGpuError';
}

/** Opens the browser's GPU. Throws a NoGpuError in plain words. */
export async function openGpu(): Promise<Gpu> {
  if (!globalThis.isSecureContext) {
    throw new NoGpuError(
      'Browsers give WebGPU to secure pages only. Open this page from https://, from localhost, or as a file.',
    );
  }
  if (!navigator.gpu) {
    throw new NoGpuError(
      `This browser has no WebGPU, which the network runs on. It runs in ${browsers}. In Chrome on Linux, switch on “Unsafe WebGPU Support” at chrome://flags/#enable-unsafe-webgpu; in Safari 18, “WebGPU” in the settings’ Feature Flags. Looking at volumes and labelling work without it.`,
    );
  }
  try {
    return await openDevice();
  } catch (error) {
    throw new NoGpuError(
      `This browser knows WebGPU but gives no GPU (${(error as Error).message.replace(/^device: /, '')}) Update the graphics driver, switch hardware acceleration on in the browser's settings, or in Chrome set chrome://flags/#enable-unsafe-webgpu. Looking at volumes and labelling work without it.`,
    );
  }
}

/** What the GPU is called, for people. */
export const nameOf = ({ adapter }: Gpu): string =>
  adapter.description || [adapter.vendor, adapter.architecture].filter(Boolean).join(' ') || 'a GPU';
