// Opens a GPU under Node through Dawn (npm `webgpu`, loaded when first needed). Order: a real GPU, a software driver of
// the system (lavapipe), the SwiftShader carried by npm; `adapter` or WGRAD_ADAPTER overrides. No global is ever assigned.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { checkOptions } from './arguments.js';
import { type Gpu, GpuError, requestGpu } from './device.js';
import { loadVulkan, swiftShaderManifest, systemDriverFiles, systemManifests } from './drivers.js';
import type { Flags } from './flags.js';
import { setVariable } from './native.js';
import { restWhile } from './node-wait.js';
import { swiftShaderRuns } from './swiftshader.js';
import { loadTuning } from './tuner-cache.js';

export { keepSwiftShader } from './swiftshader.js';
export { saveTuning, tuningFile } from './tuner-cache.js';

/**
 * Dawn's instances by options and drivers, kept for the life of the process: a collected one takes its devices with it (abort
 * or segfault). Each holds its list of adapters, so opening a device again makes no other.
 */
const instances = new Map<string, GPU>();
/** Instances whose GPU was lost: never asked again, but kept for the same reason. */
const retired: GPU[] = [];

type Create = (options: string[]) => GPU;

let dawn: Promise<Create> | undefined;

/**
 * @internal The file of the package `webgpu`: beside wgrad, or where the program runs (wgrad may be installed globally).
 * @example
 * console.log(/webgpu/.test(dawnFile())); // true
 */
export function dawnFile(): string | undefined {
  for (const from of [import.meta.url, join(process.cwd(), 'package.json')]) {
    try {
      return createRequire(from).resolve('webgpu');
    } catch {} // not there
  }
  return undefined;
}

const loadDawn = (): Promise<Create> => {
  if (dawn) return dawn;
  const file = dawnFile();
  if (!file) {
    throw new GpuError(
      "device: the package 'webgpu' (Dawn, WebGPU for Node) is not installed. Run: npm install webgpu" +
        ' (npm install --global webgpu, for a wgrad that is installed so).',
    );
  }
  dawn = import(pathToFileURL(file).href).then(
    ({ create }) => create as Create,
    (error: NodeJS.ErrnoException) => {
      dawn = undefined;
      throw new GpuError(
        `device: Dawn does not load on ${process.platform} ${process.arch} (${error.message}). Reinstall it: npm install webgpu`,
      );
    },
  );
  return dawn;
};

const enabled = 'enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia';
const disabled = 'disable-dawn-features=timestamp_quantization';
/**
 * Lets Dawn clear workgroup memory by a loop. SwiftShader compiles the driver's own clearing store by store: 2.4 s for 16 KiB,
 * against 18 ms for Dawn's loop (2026-11).
 */
const ownClearing = ',use_vulkan_zero_initialize_workgroup_memory_extension';

interface Found {
  readonly adapter: GPUAdapter;
  readonly software: boolean;
  readonly driver: string;
}

/**
 * Asks the Dawn instance of these options for its best adapter; undefined when none fits. `drivers` is VK_DRIVER_FILES for this one
 * request; the environment is restored before anything else runs.
 */
async function ask(
  create: Create,
  options: string[],
  drivers?: string,
  swiftShader = false,
): Promise<Found | undefined> {
  const before = process.env.VK_DRIVER_FILES;
  const key = JSON.stringify([options, drivers ?? before]);
  let gpu = instances.get(key);
  if (!gpu)
    instances.set(key, (gpu = create([enabled, swiftShader ? `${disabled}${ownClearing}` : disabled, ...options])));
  if (drivers !== undefined) setVariable('VK_DRIVER_FILES', drivers);
  let answer: Promise<GPUAdapter | null>;
  try {
    answer = gpu.requestAdapter({ powerPreference: 'high-performance' }); // adapters are listed in the call itself
  } finally {
    if (drivers !== undefined) setVariable('VK_DRIVER_FILES', before);
  }
  const adapter = await answer;
  if (!adapter) return undefined;
  const { info } = adapter;
  const name = `${info.architecture} ${info.device} ${info.description}`.toLowerCase();
  const driver = name.includes('swiftshader') ? 'SwiftShader' : name.includes('llvmpipe') ? 'lavapipe' : '';
  const software = driver !== '' || Boolean((info as { isFallbackAdapter?: boolean }).isFallbackAdapter);
  return { adapter, software, driver: driver || info.description };
}

/** The names of all adapters, as Dawn spells them. Dawn lists them only in its error about an unknown name. */
async function adapterNames(create: Create, drivers: string | undefined): Promise<string[]> {
  const error = await ask(create, ['adapter=\u0001'], drivers).then(
    () => '',
    (reason: unknown) => String((reason as Error)?.message ?? reason),
  );
  return [...error.matchAll(/name: '([^\n]*)'/g)].map(([, name]) => name!);
}

const wording = {
  SwiftShader: 'no GPU found: SwiftShader on the CPU, slow',
  lavapipe: 'no GPU found: lavapipe on the CPU, slow',
};

let announced = false;

/** A worker's environment is a copy that the driver loader does not see. */
const notInWorker = isMainThread
  ? ''
  : ' Or this worker has an environment of its own, which drivers do not see: start it with { env: SHARE_ENV }.';

/** Options of `openDevice` in `wgrad/node`. */
export interface OpenOptions {
  /**
   * `'swiftshader'`, `'lavapipe'`, `'null'` (validates, computes nothing) or a part of a GPU's name. Default: the
   * environment's WGRAD_ADAPTER, else the best there is.
   */
  readonly adapter?: string | undefined;
  /** Says nothing when only a software driver was found. */
  readonly quiet?: boolean;
  /** Developer switches that differ from the environment's. */
  readonly flags?: Partial<Flags>;
}

/**
 * Opens a GPU under Node. A software driver is announced in one line on stderr and never chosen over a GPU. To use one in a worker
 * thread, start the worker with `{ env: SHARE_ENV }`. Throws a GpuError that says what to install.
 * @example
 * const device = await openDevice({ adapter: 'null' }); // checks kernels and computes nothing; without options, the best GPU there is
 * device.close(); console.log(device.adapter.driver); // null
 */
export async function openDevice(options: OpenOptions = {}): Promise<Gpu> {
  checkOptions('openDevice', options, ['adapter', 'quiet', 'flags']);
  const wanted = (options.adapter ?? process.env.WGRAD_ADAPTER ?? '').trim();
  const found = wanted === '' ? await best() : await named(wanted);
  if (found.software && wanted === '' && !options.quiet && !announced) {
    announced = true;
    console.error(wording[found.driver as keyof typeof wording] ?? `no GPU found: ${found.driver} on the CPU, slow`);
  }
  const gpu = await requestGpu(found.adapter, { software: found.software, driver: found.driver, flags: options.flags });
  if (found.software) gpu.wait = restWhile;
  void gpu.device.lost.then(({ reason }) => {
    if (reason === 'destroyed') return;
    retired.push(...instances.values());
    instances.clear();
  });
  if (gpu.flags.tune) loadTuning(gpu);
  return gpu;
}

async function best(): Promise<Found> {
  if (process.platform !== 'linux') {
    const found = await ask(await loadDawn(), []);
    if (found) return found;
    throw new GpuError('device: no GPU here that Dawn can drive. Update the graphics driver.');
  }
  const vulkan = loadVulkan();
  const create = await loadDawn();
  if (vulkan) {
    const found = systemManifests().length ? await ask(create, [], systemDriverFiles()) : undefined;
    if (found) return found;
    const manifest = swiftShaderManifest();
    const carried = manifest === undefined ? undefined : await ask(create, [], manifest, true);
    if (carried) return carried;
  }
  throw new GpuError(
    'device: neither a GPU nor a software driver found. Get a driver that runs on the CPU: ' +
      `${swiftShaderRuns ? 'npx wgrad driver (SwiftShader, 7 MB), or ' : ''}` +
      `Mesa 25 or later (mesa-vulkan-drivers).${notInWorker}`,
  );
}

async function named(wanted: string): Promise<Found> {
  const lower = wanted.toLowerCase();
  if (lower === 'null') {
    const found = await ask(await loadDawn(), ['backend=null']);
    if (found) return { ...found, software: true, driver: 'null' };
    throw new GpuError("device: this Dawn was built without its null backend. Reinstall the package 'webgpu'.");
  }
  const linux = process.platform === 'linux';
  const vulkan = linux && loadVulkan();
  if (lower === 'swiftshader') {
    const manifest = swiftShaderManifest();
    if (manifest === undefined) {
      throw new GpuError(
        swiftShaderRuns
          ? 'device: no SwiftShader here. Get it once, for every project: npx wgrad driver'
          : `device: SwiftShader runs on Linux x64 only — this is ${process.platform} ${process.arch}.`,
      );
    }
    const found = await ask(await loadDawn(), [], manifest, true);
    if (found?.driver === 'SwiftShader') return found;
    throw new GpuError(
      `device: SwiftShader does not start. Delete ${manifest} and its folder, and try again.${notInWorker}`,
    );
  }
  if (lower === 'lavapipe' || lower === 'llvmpipe') {
    const manifests = systemManifests().filter((path) => /lvp[^/]*\.json$/.test(path));
    const found = vulkan && manifests.length ? await ask(await loadDawn(), [], manifests.join(':')) : undefined;
    if (found?.driver === 'lavapipe') return found;
    throw new GpuError(
      manifests.length
        ? 'device: Dawn refuses this lavapipe. It needs Mesa 25 or later; use --adapter swiftshader meanwhile.'
        : 'device: no lavapipe here. Install Mesa 25 or later (mesa-vulkan-drivers), or use --adapter swiftshader.',
    );
  }
  const create = await loadDawn();
  const drivers = linux ? systemDriverFiles() : undefined;
  const names = !linux || (vulkan && systemManifests().length) ? await adapterNames(create, drivers) : [];
  const name = names.find((candidate) => candidate.toLowerCase().includes(lower));
  const found = name === undefined ? undefined : await ask(create, [`adapter=${name}`], drivers);
  if (found) return found;
  const known = [...new Set([...names, ...(linux ? ['swiftshader'] : []), 'null'])];
  throw new GpuError(`device: no adapter is called '${wanted}' — there are: ${known.join(', ')}.`);
}
