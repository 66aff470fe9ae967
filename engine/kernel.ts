// WGSL text → compute pipeline, cached by text. The shader's own `@binding` lines are the contract: the engine reads
// names and access from them, builds the layout, and binds tensors by name.

import { type Gpu, GpuError, type Outcome } from './device.js';
import { WgslSizes, withoutComments } from './wgsl-sizes.js';

type Element = 'f32' | 'f16' | 'u32' | 'i32';

export interface Binding {
  readonly name: string;
  readonly index: number;
  readonly writes: boolean;
  /** Scalar type of its elements, where the text tells. */
  readonly element: Element | undefined;
  /** The kernel reads nothing from it. */
  readonly onlyStores: boolean;
  /** The fewest bytes it may be given; 0 where the text does not tell. */
  readonly leastBytes: number;
  /** Of a binding that is no storage buffer. */
  readonly other?: {
    /** Its type in WGSL. */
    readonly type: string;
    /** Its part of the layout. */
    readonly entry: Partial<GPUBindGroupLayoutEntry>;
    /** Why it takes no tensor. */
    misfit(binding: Binding): string;
  };
}

/** Reads the bindings of a text that are no storage buffers; comes with a launch that binds one (bindable.ts). */
export type ReadOthers = (gpu: Gpu, label: string, text: string) => readonly Binding[];

export interface Kernel {
  /** Name in errors and profiles: the entry function's, without the affix that keeps it apart from WGSL's own `exp`, `max` …. */
  readonly label: string;
  readonly entry: string;
  readonly source: string;
  readonly bindings: readonly Binding[];
  readonly workgroupSize: number;
  readonly layout: GPUBindGroupLayout;
  pipeline: GPUComputePipeline | undefined;
  compiling: Promise<void> | undefined;
  /** What the driver reported about the pipeline. */
  outcome: Outcome | undefined;
  /** Why this text can never run; every launch of it throws that. */
  error: GpuError | undefined;
  /** Bytes of each binding with which the kernel has run; undefined before it has. */
  proven: number[] | undefined;
}

const caches = new WeakMap<Gpu, Map<string, Kernel>>();

/** How many kernels a Gpu remembers. A training step has a few hundred; a driver keeps up to some megabytes for each. */
export const mostKernels = 1024;

/**
 * The kernel of a WGSL text: parsed and laid out, not yet compiled. A Gpu forgets the least recently used one when there are more
 * than `mostKernels`; launches that hold it keep it, and another request makes it anew.
 */
export function kernel(gpu: Gpu, source: string, readOthers?: ReadOthers): Kernel {
  let cache = caches.get(gpu);
  if (!cache) caches.set(gpu, (cache = new Map()));
  let found = cache.get(source);
  if (found)
    cache.delete(source); // to the end: a Map is in the order of insertion
  else found = parse(gpu, source, readOthers);
  cache.set(source, found);
  if (cache.size > mostKernels) cache.delete(cache.keys().next().value!);
  return found;
}

/** How many kernels a Gpu remembers now. */
export const kernelCount = (gpu: Gpu): number => caches.get(gpu)?.size ?? 0;

function parse(gpu: Gpu, source: string, readOthers: ReadOthers = () => []): Kernel {
  const text = withoutComments(source);
  const entry = /@compute[\s\S]*?\bfn\s+(\w+)/.exec(text)?.[1];
  if (!entry || !text.includes('@workgroup_size('))
    throw new GpuError('kernel: the shader has no `@compute @workgroup_size(n) fn name`.');
  const label = entry.replace(/^elementwise_/, '');
  if (/\benable f16\b/.test(text) && !gpu.features.has('shader-f16')) {
    throw new GpuError(`${label}: works on f16, which this adapter cannot (no 'shader-f16'). Use f32.`);
  }
  const sizes = new WgslSizes(text);
  const workgroupSize = checkWorkgroup(gpu, label, sizes);
  const declared = [...text.matchAll(/@group\((\d+)\)\s*@binding\((\d+)\)\s*var<storage(?:,\s*(\w+))?>\s*(\w+)/g)];
  const buffers: Binding[] = declared.map(([, group, index, access, name]) => {
    if (group !== '0')
      throw new GpuError(`${label}: binding '${name}' is in group ${group}; kernels use group 0 only.`);
    const writes = access === 'read_write';
    return {
      name: name!,
      index: Number(index),
      writes,
      element: elementOf(text, name!),
      onlyStores: writes && sizes.onlyStores(name!),
      leastBytes: sizes.leastBytes(name!) ?? 0,
    };
  });
  const bindings = [...buffers, ...readOthers(gpu, label, text)];
  if (bindings.length !== text.split('@binding(').length - 1) {
    throw new GpuError(
      `${label}: every binding must be a storage buffer, \`var<storage, read|read_write> name\`, or bindable().`,
    );
  }
  const limit = gpu.limits.maxStorageBuffersPerShaderStage;
  if (buffers.length > limit) {
    throw new GpuError(`${label}: binds ${buffers.length} buffers; this GPU allows ${limit} in one launch.`);
  }
  const layout = gpu.device.createBindGroupLayout({
    label,
    entries: bindings.map(({ index, writes, other }) => ({
      binding: index,
      visibility: 4, // GPUShaderStage.COMPUTE
      ...(other?.entry ?? { buffer: { type: writes ? 'storage' : 'read-only-storage' } }),
    })),
  });
  return {
    label,
    entry,
    source,
    bindings,
    workgroupSize,
    layout,
    pipeline: undefined,
    compiling: undefined,
    outcome: undefined,
    error: undefined,
    proven: undefined,
  };
}

/** The scalars that a binding is made of; undefined for a struct. */
function elementOf(text: string, name: string): Element | undefined {
  const declared = new RegExp(`var<storage[^>]*>\\s*${name}\\s*:\\s*([^;]+);`).exec(text)?.[1];
  let type = declared?.replace(/\s+/g, '').replace(/^array</, '');
  const alias = type && /^\w+/.exec(type)?.[0];
  const meaning = alias && new RegExp(`\\balias\\s+${alias}\\s*=\\s*([^;]+);`).exec(text)?.[1];
  if (meaning) type = meaning.replace(/\s+/g, '').replace(/^array</, '');
  const scalar = type && /^(?:atomic<)?(?:vec[234]<)?(f32|f16|u32|i32)\b/.exec(type)?.[1];
  if (scalar) return scalar as Element;
  const short = type && /^vec[234]([fhui])\b/.exec(type)?.[1];
  return short ? ({ f: 'f32', h: 'f16', u: 'u32', i: 'i32' } as const)[short as 'f'] : undefined;
}

/** Checks a workgroup against the device's limits, as far as the text tells; returns its threads along x. */
function checkWorkgroup({ limits }: Gpu, label: string, sizes: WgslSizes): number {
  const size = sizes.workgroupSize();
  if (!size) throw new GpuError(`${label}: @workgroup_size must be whole numbers or constants of the text.`);
  const most = [limits.maxComputeWorkgroupSizeX, limits.maxComputeWorkgroupSizeY, limits.maxComputeWorkgroupSizeZ];
  const threads = size[0] * size[1] * size[2];
  if (threads > limits.maxComputeInvocationsPerWorkgroup || size.some((n, axis) => n > most[axis]!)) {
    throw new GpuError(
      `${label}: a workgroup of ${size.join('×')} threads — this GPU allows ${limits.maxComputeInvocationsPerWorkgroup}, ` +
        `${most.join('×')} at most. Use smaller workgroups.`,
    );
  }
  const bytes = sizes.workgroupBytes() ?? 0;
  if (bytes > limits.maxComputeWorkgroupStorageSize) {
    throw new GpuError(
      `${label}: ${bytes} bytes of workgroup memory — this GPU has ${limits.maxComputeWorkgroupStorageSize}. Use smaller tiles.`,
    );
  }
  return size[0];
}

function descriptor(gpu: Gpu, kernel: Kernel): { module: GPUShaderModule; pipeline: GPUComputePipelineDescriptor } {
  if (gpu.flags.debug >= 4) console.error(numbered(kernel.source));
  const module = gpu.device.createShaderModule({ label: kernel.label, code: kernel.source });
  const layout = gpu.device.createPipelineLayout({ label: kernel.label, bindGroupLayouts: [kernel.layout] });
  return { module, pipeline: { label: kernel.label, layout, compute: { module, entryPoint: kernel.entry } } };
}

const numbered = (source: string): string =>
  source
    .split('\n')
    .map((line, i) => `${String(i + 1).padStart(4)} ${line}`)
    .join('\n');

async function explainCompile(kernel: Kernel, module: GPUShaderModule | undefined, message: string): Promise<string> {
  const info = await module?.getCompilationInfo().catch(() => undefined);
  const errors = info?.messages.filter(({ type }) => type === 'error') ?? [];
  const lines = kernel.source.split('\n');
  const where = errors
    .slice(0, 3)
    .map((e) => `  line ${e.lineNum}:${e.linePos} ${e.message}\n    ${lines[e.lineNum - 1]?.trim()}`);
  const detail = where.length ? `\n${where.join('\n')}` : ` ${message}`;
  return `${kernel.label}: the shader does not compile.${detail}\nWGRAD_DEBUG=4 prints the whole shader.`;
}

/** The pipeline, compiled now if needed. If the text does not compile, the kernel's `error` says so once that is known. */
export function pipelineOf(gpu: Gpu, kernel: Kernel): GPUComputePipeline {
  if (!kernel.pipeline) {
    let module: GPUShaderModule | undefined;
    const { value, outcome } = gpu.guard(
      () => {
        const built = descriptor(gpu, kernel);
        module = built.module;
        return gpu.device.createComputePipeline(built.pipeline);
      },
      (error) => explainCompile(kernel, module, error.message),
    );
    kernel.pipeline = value;
    kernel.outcome = outcome;
    void outcome.done.then(() => {
      if (!outcome.error) return;
      if (outcome.kind === 'validation') kernel.error = outcome.error;
      else kernel.pipeline = undefined; // out of memory, or the driver's fault: another try may succeed
    });
  }
  return kernel.pipeline;
}

async function compile(gpu: Gpu, kernel: Kernel): Promise<void> {
  let module: GPUShaderModule | undefined;
  const explain = (error: Error | GPUError) => explainCompile(kernel, module, error.message);
  const { value: built, outcome } = gpu.guard(() => descriptor(gpu, kernel), explain);
  module = built.module;
  try {
    kernel.pipeline = await gpu.wait(gpu.device.createComputePipelineAsync(built.pipeline));
    kernel.outcome = outcome;
  } catch (error) {
    const problem = new GpuError(await explain(error as Error));
    await gpu.reported(); // a lost device compiles nothing
    if ((error as { reason?: string }).reason === 'internal') throw problem;
    kernel.error = problem;
  } finally {
    kernel.compiling = undefined;
  }
}

/** Compiles on one of the driver's threads, if needed. Rejects when the text does not compile. */
export async function startCompiling(gpu: Gpu, kernel: Kernel): Promise<void> {
  if (!kernel.pipeline && !kernel.error) await (kernel.compiling ??= compile(gpu, kernel));
  if (kernel.error) throw kernel.error;
}

/** Gets the number of compiled kernels and of all kernels: once at the start, then whenever the first number grows. */
export type OnProgress = (compiled: number, total: number) => void;

/** Compiles kernels in parallel on the driver's threads. When all are done, rejects with the first that does not compile. */
export async function compileAll(gpu: Gpu, kernels: Iterable<Kernel>, onProgress?: OnProgress): Promise<void> {
  const different = [...new Set(kernels)];
  let done = different.filter(({ pipeline }) => pipeline).length;
  onProgress?.(done, different.length);
  const compileOne = async (kernel: Kernel): Promise<void> => {
    const isNew = !kernel.pipeline;
    await startCompiling(gpu, kernel);
    if (isNew) onProgress?.(++done, different.length);
  };
  const outcomes = await Promise.allSettled(different.map(compileOne));
  await gpu.reported();
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}
