// One Gpu wraps one GPUDevice: its limits, its adapter's description and its first failure. There is no module-level
// device, so several can live in one process and an embedder can pass in a device of its own. On such a device others work,
// too: its uncaptured errors are theirs, and what wgrad does there runs in error scopes.

import { environmentFlags, type Flags } from './flags.js';

// WebGPU's names, for programs that are type-checked without them: with TypeScript's DOM library (6 and later), or with
// @webgpu/types, these are merged with the real ones and add nothing.
declare global {
  interface GPU {}
  interface GPUAdapter {}
  interface GPUBindGroup {}
  interface GPUBindGroupLayout {}
  interface GPUBuffer {}
  interface GPUComputePipeline {}
  interface GPUDevice {}
  interface GPUError {}
  interface GPUSupportedLimits {}
}

/** A GPU error: a shader that does not compile, a validation error, out of memory. The message names the op. */
export class GpuError extends Error {
  override name = 'GpuError';
}

/** The device is gone (driver reset, unplugged, destroyed elsewhere); every tensor on it is lost. */
export class GpuLostError extends GpuError {
  override name = 'GpuLostError';
}

/** Which adapter a device came from, in WebGPU's words, and what drives it. */
export interface AdapterDescription {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** What drives it, where known: for instance `SwiftShader` or `lavapipe`. */
  readonly driver: string;
  /** True when it runs on the CPU. */
  readonly software: boolean;
}

/** A product C [M, N] + A [M, K] · B [K, N] that matrix units compute at once; types as WGSL names them. */
export interface MatrixSize {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly componentType: string;
  readonly resultComponentType: string;
}

/** A GPUDevice and what wgrad keeps of it; made by `openDevice` and `fromDevice`, passed to whatever makes tensors. */
export class Gpu {
  readonly device: GPUDevice;
  readonly adapter: AdapterDescription;
  /** Optional features that the device has, such as `shader-f16`. */
  readonly features: ReadonlySet<string>;
  readonly limits: GPUSupportedLimits;
  /** Sizes that this device's matrix units multiply; none without them. */
  readonly matrixSizes: readonly MatrixSize[];
  /** Threads of a subgroup, the fewest and the most; equal where all have the same. */
  readonly subgroupSizes: { readonly min: number; readonly max: number };
  /** Developer switches of this Gpu's own; when it is opened, the environment's. */
  readonly flags: Flags;
  /** The first failure; every later call on this device throws it. */
  failure: Error | undefined;
  /** Whether wgrad opened the device, and so destroys it. */
  readonly owned: boolean;
  readonly #checks = new Set<Promise<void>>();
  readonly #closers: (() => void)[] = [];
  #closed = false;

  constructor(device: GPUDevice, adapter: AdapterDescription, owned: boolean, switches: Partial<Flags> = {}) {
    this.device = device;
    this.adapter = adapter;
    this.features = device.features as ReadonlySet<string>;
    this.limits = device.limits;
    const info = device.adapterInfo as Partial<GPUAdapterInfo> & { subgroupMatrixConfigs?: Iterable<MatrixSize> };
    this.matrixSizes = this.features.has('chromium-experimental-subgroup-matrix')
      ? [...(info?.subgroupMatrixConfigs ?? [])]
      : [];
    this.subgroupSizes = { min: info?.subgroupMinSize ?? 4, max: info?.subgroupMaxSize ?? 128 };
    this.owned = owned;
    this.flags = { ...environmentFlags(), ...switches };
    const uncaptured = (event: GPUUncapturedErrorEvent): void => {
      event.preventDefault();
      const error = new GpuError(`device: ${event.error.message} Run with WGRAD_SYNC=1 to see the op call.`);
      // Error scopes that are still open know the cause; what follows from it is reported after them.
      this.track(Promise.all(this.#checks).then(() => this.fail(error)));
    };
    if (owned) device.addEventListener('uncapturederror', uncaptured);
    tellWhenLost(device, new WeakRef(this));
  }

  /** @internal The device is gone. */
  lost({ message, reason }: { message: string; reason: string }): void {
    if (this.#closed) return;
    const why = message || reason || 'no reason given';
    this.fail(
      new GpuLostError(`device: the GPU was lost (${why}). Everything on it is gone; open it again and resume.`),
    );
  }

  /** Remembers the first failure; a lost device replaces any other. */
  fail(error: Error): void {
    if (!this.failure || (error instanceof GpuLostError && !(this.failure instanceof GpuLostError))) {
      this.failure = error;
    }
  }

  /** Throws the first failure, if there was one. */
  check(): void {
    if (this.failure) throw this.failure;
    if (this.#closed) throw new GpuError('device: this Gpu was closed. Open another one.');
  }

  /**
   * Runs `work` inside error scopes; what they catch becomes this device's failure, in the words of `explain`.
   * The scopes report later: `settled()` waits for them.
   */
  guard<T>(work: () => T, explain: (error: GPUError) => string | Promise<string>): T {
    this.device.pushErrorScope('out-of-memory');
    this.device.pushErrorScope('validation');
    this.device.pushErrorScope('internal');
    try {
      return work();
    } finally {
      const scopes = [this.device.popErrorScope(), this.device.popErrorScope(), this.device.popErrorScope()];
      this.track(
        Promise.all(scopes).then(async (errors) => {
          const error = errors.find((candidate) => candidate !== null);
          if (error) this.fail(new GpuError(await explain(error)));
        }),
      );
    }
  }

  /** Runs `work`, which encodes, submits or copies. On an embedder's device it is guarded; on one of wgrad's own nobody else errs. */
  enqueue<T>(work: () => T): T {
    return this.owned
      ? work()
      : this.guard(work, (error) => `device: ${error.message} Run with WGRAD_SYNC=1 to see the op call.`);
  }

  /** Makes `settled()` wait for a check that is under way. A lost device rejects its scopes; `lost` reports that. */
  track(check: Promise<void>): void {
    const tracked = check.catch(() => {}).finally(() => this.#checks.delete(tracked));
    this.#checks.add(tracked);
  }

  /** Waits until every error scope opened so far has reported, then throws the failure if there is one. */
  async settled(): Promise<void> {
    while (this.#checks.size) await Promise.all(this.#checks);
    this.check();
  }

  /** @internal Has `work` run when this Gpu is closed. */
  onClose(work: () => void): void {
    this.#closers.push(work);
  }

  /**
   * Ends the use of this device: every later call throws, and all buffers that wgrad made are destroyed. So is the device if
   * wgrad opened it, and then the process can end; a device passed in is left alone.
   */
  close(): void {
    this.#closed = true;
    for (const work of this.#closers.splice(0)) work();
    if (this.owned) this.device.destroy();
  }
}

/** An embedder's device may outlive many a Gpu: its promise must not keep them (nor may a closure made beside one). */
function tellWhenLost(device: GPUDevice, gpu: WeakRef<Gpu>): void {
  void device.lost.then((info) => gpu.deref()?.lost(info));
}

/** Optional features that are asked for wherever the adapter has them; none is required. */
const wantedFeatures = [
  'shader-f16',
  'timestamp-query',
  'subgroups',
  'subgroup-size-control',
  'chromium-experimental-subgroup-matrix',
];

/** Limits raised to what the adapter has: WebGPU's defaults bind 128 MiB and 8 buffers only. */
const wantedLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
] as const;

const describe = (
  info: GPUAdapterInfo | undefined,
  about: { software?: boolean; driver?: string },
): AdapterDescription => ({
  vendor: info?.vendor ?? '',
  architecture: info?.architecture ?? '',
  device: info?.device ?? '',
  description: info?.description ?? '',
  driver: about.driver ?? '',
  software: about.software ?? Boolean((info as { isFallbackAdapter?: boolean } | undefined)?.isFallbackAdapter),
});

/** What a device does not tell of itself, and developer switches that differ from the environment's. */
export interface GpuOptions {
  readonly software?: boolean;
  readonly driver?: string;
  readonly flags?: Partial<Flags> | undefined;
}

/** Opens the adapter's device with the adapter's own limits and every optional feature wgrad can use. */
export async function requestGpu(adapter: GPUAdapter, about: GpuOptions = {}): Promise<Gpu> {
  const device = await adapter.requestDevice({
    label: 'wgrad',
    requiredFeatures: wantedFeatures.filter((name) => adapter.features.has(name)) as GPUFeatureName[],
    requiredLimits: Object.fromEntries(wantedLimits.map((name) => [name, adapter.limits[name]])),
  });
  return new Gpu(device, describe(adapter.info, about), true, about.flags);
}

/**
 * Wraps a GPUDevice of the embedder's. wgrad never destroys it, assigns it no handlers, and shares its queue: what either side
 * submits runs in the order of submission. `about` fills in what a device does not tell of itself. Ask the adapter for the
 * limits and features you want (`requestGpu` asks for all that wgrad can use).
 */
export function fromDevice(device: GPUDevice, about: GpuOptions = {}): Gpu {
  return new Gpu(device, describe(device.adapterInfo, about), false, about.flags);
}

/** Opens the browser's GPU. Under Node use `openDevice` of `wgrad/node`. */
export async function openDevice(options: { gpu?: GPU } = {}): Promise<Gpu> {
  const gpu = options.gpu ?? (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  const adapter = await gpu?.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    throw new GpuError(
      'device: no WebGPU here. Use a browser with WebGPU, or `openDevice` of `wgrad/node` under Node.',
    );
  }
  return requestGpu(adapter);
}
