// One Gpu wraps one GPUDevice: its limits and its adapter's description. There is no module-level device, so several can live
// in one process and an embedder can pass in its own device. All work that wgrad gives a device runs in error scopes: what they
// catch belongs to the work inside (engine/fate.ts), and only a lost device ends a Gpu. Uncaptured errors are the embedder's.

import { showValue } from './arguments.js';
import { environmentFlags, type Flags } from './flags.js';

// WebGPU's names, for programs that are type-checked without them: with TypeScript's DOM library (6 and later), or with
// @webgpu/types, these are merged with the real ones and add nothing.
declare global {
  interface GPU {}
  interface GPUAdapter {}
  interface GPUBindGroup {}
  interface GPUBindGroupLayout {}
  interface GPUBindGroupLayoutEntry {}
  interface GPUBuffer {}
  interface GPUBufferBinding {}
  interface GPUComputePassEncoder {}
  interface GPUComputePipeline {}
  interface GPUDevice {}
  interface GPUError {}
  interface GPUSampler {}
  interface GPUSupportedLimits {}
  interface GPUTexture {}
  interface GPUTextureView {}
}

/**
 * A GPU error: a shader that does not compile, a validation error, out of memory. The message names the op.
 * @example
 * try { capture(gpu, () => 1)(); } catch (error) { console.log(error instanceof GpuError); } // true
 */
export class GpuError extends Error {
  override name = 'GpuError';
}

/**
 * The device is gone (driver reset, unplugged, destroyed elsewhere); every tensor on it is lost.
 * @example
 * await gpu.settled().catch((error) => void (error instanceof GpuLostError)); // when the GPU is gone, open it again
 */
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
  /** @internal Plain arithmetic takes the unit's place: for tests where there is none. */
  readonly emulated?: boolean;
}

type InfoWithMatrices = Partial<GPUAdapterInfo> & { readonly subgroupMatrixConfigs?: Iterable<MatrixSize> };

/** A copy: the browser's objects have getters, which neither print nor compare. */
const plainSize = ({ M, N, K, componentType, resultComponentType }: MatrixSize): MatrixSize => ({
  ...{ M, N, K, componentType, resultComponentType },
});

/** What the error scopes around some work report, later. */
export class Outcome {
  known = false;
  error: GpuError | undefined;
  kind: 'out-of-memory' | 'validation' | 'internal' | undefined;
  /** Resolves when the scopes have reported; never rejects. */
  done: Promise<void> = Promise.resolve();
}

/**
 * A GPUDevice and what wgrad keeps of it; made by `openDevice` and `fromDevice`, passed to whatever makes tensors.
 * @example
 * console.log(gpu instanceof Gpu, gpu.features.has('no such feature')); // true false
 */
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
  /** Developer switches of this Gpu; they start as the environment's. */
  readonly flags: Flags;
  /** Set when the device is lost; every later call throws it. */
  failure: GpuLostError | undefined;
  /** @internal What is being recorded is checked before it runs, so it may use kernels that this device has yet to prove right. */
  trusting = false;
  /** @internal Proves the kernels that a trusting recording has used; resolves with whether all are right. Undefined: it used none. */
  prove: (() => Promise<boolean>) | undefined;
  /** Whether wgrad opened the device, and so destroys it. */
  readonly owned: boolean;
  /** @internal Waits for the GPU. Whoever opens the device may know a better way than plain `await`. */
  wait: <T>(promise: Promise<T>) => Promise<T> = (promise) => promise;
  readonly #checks = new Set<Promise<void>>();
  readonly #closers: (() => void)[] = [];
  /** An uncaptured error of other code that uses the device. */
  #stray: GpuError | undefined;
  /** The first error of a launch that no caller has received. */
  #unheard: GpuError | undefined;
  readonly #heard = new WeakSet<GpuError>();
  /** Number of holders of this Gpu: `fromDevice` gives one Gpu for one device. */
  #holders = 1;
  #closed = false;

  constructor(device: GPUDevice, adapter: AdapterDescription, owned: boolean, about: GpuOptions = {}) {
    this.device = device;
    this.adapter = adapter;
    this.features = device.features as ReadonlySet<string>;
    this.limits = device.limits;
    const info = device.adapterInfo as InfoWithMatrices | undefined;
    this.matrixSizes = this.features.has('chromium-experimental-subgroup-matrix')
      ? [...(about.matrixSizes ?? info?.subgroupMatrixConfigs ?? [])].map(plainSize)
      : [];
    this.subgroupSizes = { min: info?.subgroupMinSize ?? 4, max: info?.subgroupMaxSize ?? 128 };
    this.owned = owned;
    this.flags = { ...environmentFlags(), ...about.flags };
    const uncaptured = (event: GPUUncapturedErrorEvent): void => {
      event.preventDefault();
      this.#stray ??= new GpuError(`device: ${event.error.message} No launch of wgrad's is at fault.`);
    };
    if (owned) device.addEventListener('uncapturederror', uncaptured);
    tellWhenLost(device, new WeakRef(this));
  }

  /** @internal The device is gone. */
  lost({ message, reason }: { message: string; reason: string }): void {
    if (this.#closed) return;
    const why = message || reason || 'no reason given';
    this.failure ??= new GpuLostError(
      `device: the GPU was lost (${why}). Everything on it is gone; open it again and resume.`,
    );
  }

  /** Throws if the device was lost or this Gpu closed. Any other error belongs to a launch and appears when its results are read. */
  check(): void {
    if (this.failure) throw this.failure;
    if (this.#closed) throw new GpuError('device: this Gpu was closed. Open another one.');
  }

  /**
   * @internal Runs `work` inside error scopes. What they catch becomes the outcome's error, worded by `explain`. The scopes report
   * later; `reported()` waits for them.
   */
  guard<T>(
    work: () => T,
    explain: (error: GPUError) => string | GpuError | Promise<string | GpuError>,
  ): { value: T; outcome: Outcome } {
    const kinds = ['out-of-memory', 'validation', 'internal'] as const;
    for (const kind of kinds) this.device.pushErrorScope(kind);
    const outcome = new Outcome();
    let value: T;
    try {
      value = work();
    } finally {
      const scopes = kinds.map(() => this.device.popErrorScope());
      outcome.done = this.track(
        Promise.all(scopes)
          .then(async (errors) => {
            const at = errors.findIndex((candidate) => candidate !== null);
            if (at < 0) return;
            outcome.kind = kinds[kinds.length - 1 - at];
            const why = await explain(errors[at]!);
            outcome.error = why instanceof GpuError ? why : new GpuError(why);
          })
          .catch(() => {}) // a lost device rejects its scopes; `lost` reports that
          .finally(() => {
            outcome.known = true;
          }),
      );
    }
    return { value, outcome };
  }

  /** @internal Makes `reported()` wait for a check that is under way. */
  track(check: Promise<void>): Promise<void> {
    const tracked: Promise<void> = check.catch(() => {}).finally(() => this.#checks.delete(tracked));
    this.#checks.add(tracked);
    return tracked;
  }

  /** @internal Waits until everything that was given to the GPU so far has reported; throws if the device was lost. */
  async reported(): Promise<void> {
    while (this.#checks.size) await Promise.all(this.#checks);
    this.check();
    const stray = this.#stray;
    this.#stray = undefined;
    if (stray) throw stray;
  }

  /** @internal Notes that a launch failed; the first such error is kept until a caller receives it. */
  failed(error: GpuError): void {
    if (!this.#unheard || this.isHeard(this.#unheard)) this.#unheard = error;
  }

  /** @internal Marks an error as received by a caller. */
  hear(error: GpuError): GpuError {
    this.#heard.add(error);
    return error;
  }

  /** @internal Whether a caller has received an error. */
  isHeard(error: GpuError): boolean {
    return this.#heard.has(error);
  }

  /**
   * Waits until everything that was given to the GPU so far has reported. Throws if the device was lost; otherwise throws the first
   * error that has not been thrown yet, each once.
   */
  async settled(): Promise<void> {
    await this.reported();
    const error = this.#unheard;
    this.#unheard = undefined;
    if (error && !this.isHeard(error)) throw this.hear(error);
  }

  /** @internal Registers `work` to run when this Gpu is closed. */
  onClose(work: () => void): void {
    this.#closers.push(work);
  }

  /** @internal Adds a holder of this Gpu, which will close it. */
  hold(): this {
    this.#holders++;
    return this;
  }

  /** @internal */
  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Ends the use of this device: every later call throws, and all buffers that wgrad made are destroyed. A device that wgrad opened
   * is destroyed, too, so that the process can end; a device passed in is left alone. If `fromDevice` gave this Gpu several times,
   * the last of as many calls ends it.
   */
  close(): void {
    if (this.#closed || --this.#holders > 0) return;
    this.#closed = true;
    for (const work of this.#closers.splice(0)) work();
    if (this.owned) this.device.destroy();
  }
}

/** @internal Throws a GpuError unless an op's first argument is a Gpu. */
export function expectGpu(op: string, gpu: unknown): asserts gpu is Gpu {
  if (gpu instanceof Gpu) return;
  throw new GpuError(
    `${op}: the first argument is ${showValue(gpu)} — expected the Gpu. Pass what openDevice() or fromDevice() gave: ${op}(gpu, …).`,
  );
}

/** An embedder's device may outlive many Gpus, so neither its promise nor a closure made beside one may keep them alive. */
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

/** Limits raised to what the adapter has: by default WebGPU binds only 128 MiB and 8 buffers. */
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

/** Facts that a device does not report about itself, and developer switches that differ from the environment's. */
export interface GpuOptions {
  /** Whether it runs on the CPU. Default: whether it is WebGPU's fallback adapter. */
  readonly software?: boolean;
  /** What drives it. Default: '', not known. */
  readonly driver?: string;
  /**
   * Sizes of the matrix units, as the adapter's `info.subgroupMatrixConfigs` lists them. Default: the device's own list, which Dawn
   * leaves empty under Node.
   */
  readonly matrixSizes?: Iterable<MatrixSize> | undefined;
  /** Developer switches. Default: the environment's, each. */
  readonly flags?: Partial<Flags> | undefined;
}

/**
 * Opens the adapter's device with the adapter's own limits and every optional feature wgrad can use.
 * @example
 * const adapter = await globalThis.navigator?.gpu?.requestAdapter(); // a page's
 * const own = adapter && (await requestGpu(adapter));
 */
export async function requestGpu(adapter: GPUAdapter, about: GpuOptions = {}): Promise<Gpu> {
  const device = await adapter.requestDevice({
    label: 'wgrad',
    requiredFeatures: wantedFeatures.filter((name) => adapter.features.has(name)) as GPUFeatureName[],
    requiredLimits: Object.fromEntries(wantedLimits.map((name) => [name, adapter.limits[name]])),
  });
  const { subgroupMatrixConfigs: matrixSizes } = adapter.info as InfoWithMatrices;
  return new Gpu(device, describe(adapter.info, about), true, { matrixSizes, ...about });
}

/** The open Gpu of an embedder's device; neither keeps the other alive. */
const wrapped = new WeakMap<GPUDevice, WeakRef<Gpu>>();

/**
 * Wraps an embedder's GPUDevice. wgrad never destroys it, assigns it no handlers, and shares its queue: work of both sides runs in
 * the order of submission. `about` fills in what a device does not report about itself. Ask the adapter for the limits and features
 * you want (`requestGpu` asks for all that wgrad can use). One device has one Gpu: a second call returns the first one's Gpu (with
 * its options), so that two libraries on a page can pass tensors to each other. Each of them closes what it was given.
 * @example
 * console.log(fromDevice(gpu.device) instanceof Gpu); // true
 */
export function fromDevice(device: GPUDevice, about: GpuOptions = {}): Gpu {
  const known = wrapped.get(device)?.deref();
  if (known && !known.closed) return known.hold();
  const gpu = new Gpu(device, describe(device.adapterInfo, about), false, about);
  wrapped.set(device, new WeakRef(gpu));
  return gpu;
}

/**
 * Opens the browser's GPU. Under Node use `openDevice` of `wgrad/node`.
 * @example
 * const own = globalThis.navigator?.gpu && (await openDevice()); // in a page
 */
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
