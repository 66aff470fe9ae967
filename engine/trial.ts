// Runs trials of candidates (choices.ts) for the tuner and for proofs; comparison.ts holds what they write against the reference. Tensors
// are filled on the GPU (shaders/tuner.ts): at the size of a real step, bringing them from the CPU takes a hundred times as long.
import { repeatShader, tunerWorkgroup } from '../shaders/tuner.js';
import { fnv1a, type Trial, type TrialTensor } from './choices.js';
import { type Gpu, GpuError } from './device.js';
import { type Kernel, kernel } from './kernel.js';
import { type Bindable, type Launch, place, submit, watched } from './launch.js';
import { acquire } from './memory.js';
import { uniformStream } from './random.js';
import { sameShape, show } from './shape.js';
import { recordList, run } from './stream.js';
import { type Dtype, empty, type Tensor, toHalf } from './tensor.js';
import { upload } from './transfer.js';

/** The tensors of a job's trials; all candidates share them. */
export interface Ground {
  readonly gpu: Gpu;
  readonly compiler: Compiler;
  /** By name, type, shape and role. */
  readonly tensors: Map<string, Tensor>;
  /** What was last put into a tensor that launches only read. */
  readonly contents: Map<Tensor, readonly number[]>;
}

export const groundOf = (gpu: Gpu, compiler: Compiler): Ground => ({
  ...{ gpu, compiler, tensors: new Map(), contents: new Map() },
});

/** What a candidate launched, and the tensors that it wrote. */
export interface Attempt {
  readonly launches: readonly Launch[];
  readonly outputs: ReadonlyMap<string, Tensor>;
}

/** Runs a trial once, on tensors with their first contents; resolves with its launches and outputs, or with what is wrong with it. */
export async function attempt(ground: Ground, trial: Trial | string): Promise<Attempt | string> {
  const { gpu, compiler } = ground;
  if (typeof trial === 'string') return trial;
  let recorded: Recorded;
  try {
    recorded = recordTrial(ground, trial);
  } catch (error) {
    gpu.check(); // a lost device is not the candidate's fault
    return cannotBeLaunched(error);
  }
  const { launches, outputs, fills, checks } = recorded;
  for (const used of new Set([...launches, ...checks].map((launch) => launch.kernel))) {
    const problem = await compiler.problemOf(used);
    if (problem !== undefined) return `does not compile: ${problem}`;
  }
  try {
    const all = [...fills, ...launches, ...checks];
    await watched(gpu, all, async () => submit(gpu, all));
  } catch (error) {
    gpu.check();
    return `is refused: ${(error as Error).message}`;
  }
  return { launches, outputs };
}

/** The trial of a candidate, or why there is none. */
export function trialOf(build: () => Trial): Trial | string {
  try {
    return build();
  } catch (error) {
    return cannotBeLaunched(error);
  }
}

const cannotBeLaunched = (error: unknown): string => `cannot be launched: ${(error as Error).message}`;

/** The launches of a trial, those that fill its tensors before, and those that make its outputs comparable. */
export interface Recorded extends Attempt {
  readonly fills: readonly Launch[];
  readonly checks: readonly Launch[];
}

/** Makes the launches of a trial, ready to submit. */
export function recordTrial(ground: Ground, trial: Trial): Recorded {
  const { gpu } = ground;
  const all = [...trial.launches, ...(trial.checks ?? [])];
  const uses = all.flatMap(({ source, args }) =>
    kernel(gpu, source).bindings.map(({ name, writes }) => ({ name: args[name]?.name ?? name, writes })),
  );
  const used = new Map<string, Tensor>();
  const fills: Launch[] = [];
  const bind = (name: string, spec: TrialTensor): Tensor => {
    const found = used.get(name);
    if (found) {
      if (sameShape(found.shape, spec.shape) && found.dtype === (spec.dtype ?? 'f32')) return found;
      throw new GpuError(`'${name}' is bound as ${show(found.shape)} and as ${show(spec.shape)}.`);
    }
    const own = uses.filter((use) => use.name === name);
    const role = own[0]?.writes ? 'result' : own.some(({ writes }) => writes) ? 'updated' : 'input';
    const t = filled(ground, name, spec, role, fills);
    used.set(name, t);
    return t;
  };
  // These tensors are made outside the recording, which would own them; they end with the job's scope.
  const bound = all.map(({ args }) =>
    Object.fromEntries(Object.entries(args).map(([name, spec]) => [name, bind(spec.name ?? name, spec)])),
  );
  const work = (): void => all.forEach(({ source, grid }, i) => void run(source, bound[i]!, grid));
  const { recording } = recordList(gpu, work, () => new Set());
  place(gpu, recording.launches, recording.plan);
  const outputs = trial.outputs.map((name) => {
    const t = used.get(name);
    if (!t) throw new GpuError(`no launch binds the output '${name}'.`);
    return [name, t] as const;
  });
  const timed = recording.launches.slice(0, trial.launches.length);
  const checks = recording.launches.slice(trial.launches.length);
  return { launches: timed, outputs: new Map(outputs), fills, checks };
}

/** What a trial does with a tensor. `updated`: read first, written later. */
type Role = 'input' | 'updated' | 'result';

/** The tensor of a name; adds a launch to `fills` that gives it its first contents, where it does not have them. */
function filled(ground: Ground, name: string, spec: TrialTensor, role: Role, fills: Launch[]): Tensor {
  const { gpu, tensors, contents } = ground;
  const { shape, dtype = 'f32' } = spec;
  const id = `${name} ${dtype} ${show(shape)} ${role}`;
  let t = tensors.get(id);
  if (!t) {
    t = withBuffer(gpu, shape, dtype, name);
    tensors.set(id, t);
  }
  const values = spec.values ?? (role === 'result' ? undefined : randomValues(name, dtype));
  if (role === 'input' && contents.get(t) === values) return t;
  const pattern = inWords(values ? encode(values, dtype) : encodeNaN(dtype));
  const repeated = uploaded(gpu, pattern, 'pattern');
  fills.push(over(gpu, repeatShader, [repeated, t], t.bytes / 4));
  if (role === 'input') contents.set(t, values!);
  return t;
}

function withBuffer(gpu: Gpu, shape: readonly number[], dtype: Dtype, name: string): Tensor {
  const t = empty(gpu, shape, dtype, name);
  t.storage.buffer = acquire(gpu, t.bytes, name);
  return t;
}

export function uploaded(gpu: Gpu, words: Uint32Array<ArrayBuffer>, name: string): Tensor {
  const t = withBuffer(gpu, [words.length], 'u32', name);
  upload(t, words);
  return t;
}

/** A launch of a kernel that reads tensors of any type as `words`. */
export const over = (gpu: Gpu, source: string, args: readonly Bindable[], words: number): Launch => ({
  kernel: kernel(gpu, source),
  args,
  workgroups: [Math.min(1024, Math.ceil(words / tunerWorkgroup)), 1, 1],
  ...{ bindGroup: undefined, outcome: undefined, stack: undefined },
});

/** Period of the random values. It is prime, so rows and images are not all filled alike. */
const period = 65521;
const known = new Map<string, readonly number[]>();

/** Numbers in [−1, 1), fixed by the tensor's name; 0 for integers, which may be indices. */
function randomValues(name: string, dtype: Dtype): readonly number[] {
  const key = dtype === 'f32' || dtype === 'f16' ? name : '';
  let values = known.get(key);
  if (!values) {
    const uniform = uniformStream(Number.parseInt(fnv1a(name), 16));
    values = key ? Array.from({ length: period }, () => 2 * uniform() - 1) : [0];
    known.set(key, values);
  }
  return values;
}

function encode(values: readonly number[], dtype: Dtype): ArrayBufferView {
  switch (dtype) {
    case 'f32':
      return Float32Array.from(values);
    case 'f16':
      return Uint16Array.from(values, toHalf);
    case 'u32':
      return Uint32Array.from(values);
    case 'i32':
      return Int32Array.from(values);
    case 'u8':
      return Uint8Array.from(values);
  }
}

/** NaN, twice for f16; in an integer tensor just an unlikely number. */
const encodeNaN = (dtype: Dtype): ArrayBufferView => Uint32Array.of(dtype === 'f16' ? 0x7e007e00 : 0x7fc00000);

/** A pattern as whole words: repeated 2 or 4 times where its bytes do not fill them. */
function inWords({ buffer, byteLength }: ArrayBufferView): Uint32Array<ArrayBuffer> {
  const times = [1, 2, 4].find((n) => (n * byteLength) % 4 === 0)!;
  const bytes = new Uint8Array(times * byteLength);
  for (let i = 0; i < times; i++) bytes.set(new Uint8Array(buffer, 0, byteLength), i * byteLength);
  return new Uint32Array(bytes.buffer);
}

/** Compiles the kernels of trials, each once, and several at a time on the driver's threads. */
export class Compiler {
  readonly #gpu: Gpu;
  readonly #problems = new WeakMap<Kernel, Promise<string | undefined>>();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Starts to compile a kernel, if needed; resolves with what is wrong with it, if anything. */
  problemOf(k: Kernel): Promise<string | undefined> {
    let problem = this.#problems.get(k);
    if (!problem) this.#problems.set(k, (problem = compile(this.#gpu, k)));
    return problem;
  }

  /** Compiles the kernels of all these trials. Failures are left to `attempt`, which reports them. */
  async compile(trials: Iterable<Trial | string>): Promise<void> {
    const sources = [...trials].flatMap((trial) =>
      typeof trial === 'string' ? [] : [...trial.launches, ...(trial.checks ?? [])].map(({ source }) => source),
    );
    const problems = [...new Set(sources)].map(async (source) => {
      try {
        await this.problemOf(kernel(this.#gpu, source));
      } catch {} // no kernel
    });
    await Promise.all(problems);
  }
}

async function compile(gpu: Gpu, k: Kernel): Promise<string | undefined> {
  await k.compiling?.catch(() => {}); // a step that is being prepared has begun
  if (k.error) return k.error.message;
  if (k.pipeline) return undefined;
  const { device } = gpu;
  let module: GPUShaderModule | undefined;
  let built: Promise<GPUComputePipeline> | undefined;
  const problem = await refusal(gpu, () => {
    module = device.createShaderModule({ label: k.label, code: k.source });
    const layout = device.createPipelineLayout({ label: k.label, bindGroupLayouts: [k.layout] });
    built = device.createComputePipelineAsync({ label: k.label, layout, compute: { module, entryPoint: k.entry } });
    built.catch(() => {}); // awaited below
  });
  try {
    k.pipeline = await gpu.wait(built!);
    return problem;
  } catch (error) {
    const info = await module?.getCompilationInfo().catch(() => undefined);
    const first = info?.messages.find(({ type }) => type === 'error');
    return first ? `line ${first.lineNum}: ${first.message}` : (problem ?? (error as Error).message);
  }
}

/** What the GPU objects to in `work`. Rejects if the device is lost. */
async function refusal(gpu: Gpu, work: () => void): Promise<string | undefined> {
  const kinds = ['out-of-memory', 'validation', 'internal'] as const;
  for (const kind of kinds) gpu.device.pushErrorScope(kind);
  let scopes: Promise<GPUError | null>[] = [];
  try {
    work();
  } finally {
    scopes = kinds.map(() => gpu.device.popErrorScope());
  }
  const errors = await Promise.all(scopes).catch(() => []);
  gpu.check();
  return errors.find((error) => error !== null)?.message;
}
