// WGSL text → compute pipeline, cached by text. The shader's own `@binding` lines are the contract: the engine reads
// names and access from them, builds the layout, and binds tensors by name.

import { type Gpu, GpuError } from './device.js';

export interface Binding {
  readonly name: string;
  readonly slot: number;
  readonly writes: boolean;
}

export interface Kernel {
  /** The entry function's name: it labels errors and profiles. */
  readonly label: string;
  readonly source: string;
  readonly bindings: readonly Binding[];
  readonly workgroupSize: number;
  readonly layout: GPUBindGroupLayout;
  pipeline: GPUComputePipeline | undefined;
  compiling: Promise<void> | undefined;
}

const caches = new WeakMap<Gpu, Map<string, Kernel>>();

/** The kernel of a WGSL text: parsed and laid out, not yet compiled. */
export function kernel(gpu: Gpu, source: string): Kernel {
  let cache = caches.get(gpu);
  if (!cache) caches.set(gpu, (cache = new Map()));
  let found = cache.get(source);
  if (!found) cache.set(source, (found = parse(gpu, source)));
  return found;
}

function parse(gpu: Gpu, source: string): Kernel {
  const text = source.replace(/\/\/[^\n]*/g, '');
  const label = /@compute[\s\S]*?\bfn\s+(\w+)/.exec(text)?.[1];
  const size = /@workgroup_size\(\s*(\d+)/.exec(text)?.[1];
  if (!label || !size) throw new GpuError('kernel: the shader has no `@compute @workgroup_size(n) fn name`.');
  if (/\benable f16\b/.test(text) && !gpu.features.has('shader-f16')) {
    throw new GpuError(`${label}: works on f16, which this adapter cannot (no 'shader-f16'). Use f32.`);
  }
  const declared = [...text.matchAll(/@group\((\d+)\)\s*@binding\((\d+)\)\s*var<storage(?:,\s*(\w+))?>\s*(\w+)/g)];
  const bindings = declared.map(([, group, slot, access, name]) => {
    if (group !== '0')
      throw new GpuError(`${label}: binding '${name}' is in group ${group}; kernels use group 0 only.`);
    return { name: name!, slot: Number(slot), writes: access === 'read_write' };
  });
  if (bindings.length !== text.split('@binding(').length - 1) {
    throw new GpuError(
      `${label}: every binding must be a storage buffer, declared \`var<storage, read|read_write> name\`.`,
    );
  }
  const limit = gpu.limits.maxStorageBuffersPerShaderStage;
  if (bindings.length > limit) {
    throw new GpuError(`${label}: binds ${bindings.length} buffers; this GPU allows ${limit} in one launch.`);
  }
  const layout = gpu.device.createBindGroupLayout({
    label,
    entries: bindings.map(({ slot, writes }) => ({
      binding: slot,
      visibility: 4, // GPUShaderStage.COMPUTE
      buffer: { type: writes ? 'storage' : 'read-only-storage' },
    })),
  });
  return { label, source, bindings, workgroupSize: Number(size), layout, pipeline: undefined, compiling: undefined };
}

function descriptor(gpu: Gpu, kernel: Kernel): { module: GPUShaderModule; pipeline: GPUComputePipelineDescriptor } {
  if (gpu.flags.debug >= 4) console.error(numbered(kernel.source));
  const module = gpu.device.createShaderModule({ label: kernel.label, code: kernel.source });
  const layout = gpu.device.createPipelineLayout({ label: kernel.label, bindGroupLayouts: [kernel.layout] });
  return { module, pipeline: { label: kernel.label, layout, compute: { module, entryPoint: kernel.label } } };
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

/** The pipeline, compiled now if it is not yet; a shader that does not compile becomes the device's failure. */
export function pipelineOf(gpu: Gpu, kernel: Kernel): GPUComputePipeline {
  if (!kernel.pipeline) {
    let module: GPUShaderModule | undefined;
    kernel.pipeline = gpu.guard(
      () => {
        const built = descriptor(gpu, kernel);
        module = built.module;
        return gpu.device.createComputePipeline(built.pipeline);
      },
      (error) => explainCompile(kernel, module, error.message),
    );
  }
  return kernel.pipeline;
}

async function compile(gpu: Gpu, kernel: Kernel): Promise<void> {
  let module: GPUShaderModule | undefined;
  const explain = (error: Error | GPUError) => explainCompile(kernel, module, error.message);
  const built = gpu.guard(() => descriptor(gpu, kernel), explain);
  module = built.module;
  try {
    kernel.pipeline = await gpu.device.createComputePipelineAsync(built.pipeline);
  } catch (error) {
    gpu.fail(new GpuError(await explain(error as Error)));
  }
}

/** Starts compiling on a thread of the driver's, unless that has happened. */
export function startCompiling(gpu: Gpu, kernel: Kernel): Promise<void> | undefined {
  if (kernel.pipeline) return undefined;
  kernel.compiling ??= compile(gpu, kernel);
  return kernel.compiling;
}

/** Compiles kernels side by side on the driver's threads; rejects with the first that does not compile. */
export async function compileAll(gpu: Gpu, kernels: Iterable<Kernel>): Promise<void> {
  await Promise.all([...new Set(kernels)].map((kernel) => startCompiling(gpu, kernel)));
  await gpu.settled();
}
