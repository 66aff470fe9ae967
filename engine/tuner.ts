// Measures the candidates of a kernel family on this adapter. A candidate may win only if its output equals the reference kernel's up
// to rounding; its output memory starts as NaN, so a candidate that writes nothing or too little fails, too. An op takes part by
// asking `choose` which candidate to record; the tuner measures what a step has asked:
//
//   const tile = choose(gpu, `scale f32 n${n}`, [{ width: 1 }, { width: 4 }], {
//     reference: { width: 1 },
//     terms: 1,
//     build: ({ width }) => ({
//       launches: [{ source: scaleShader(width), args: { x: { shape: [n] }, y: { shape: [n] } }, grid: { threads: n / width } }],
//       outputs: ['y'],
//     }),
//   });
import { fnv1a, hashOf, type Job, remember, type Trial, type TrialTensor } from './choices.js';
import { type Gpu, GpuError } from './device.js';
import { timeLaunches } from './diagnose.js';
import { type Kernel, kernel } from './kernel.js';
import { type Launch, place, submit, watched } from './launch.js';
import { acquire, trim } from './memory.js';
import { uniformStream } from './random.js';
import { sameShape, show } from './shape.js';
import { flush, isCapturing, recordList, run } from './stream.js';
import { type Dtype, empty, scope, type Tensor, type TypedArray, toHalf } from './tensor.js';
import { upload } from './transfer.js';
import type { Tuning } from './tuning.js';

export {
  askedFor,
  choose,
  type Job,
  type Measure,
  recall,
  type Trial,
  type TrialLaunch,
  type TrialTensor,
} from './choices.js';

/** How long to measure, and what to report. */
export interface TuneOptions {
  /** Turns of each candidate; the median of all its runs counts. 7 if not given. */
  readonly turns?: number;
  /** Approximate length of one turn, in milliseconds; a candidate runs as often as fits. 20 if not given. */
  readonly turnMs?: number;
  /** Called after every job, when its result is already remembered. */
  readonly onResult?: (result: TuneResult) => void;
}

/** The result of one candidate. */
export interface CandidateResult {
  readonly candidate: unknown;
  /** Median milliseconds; undefined if it was not timed. */
  readonly ms: number | undefined;
  /** Why it cannot win; undefined if it could. */
  readonly excluded: string | undefined;
  /** It got only one turn, because its best run was much slower than the best of all. */
  readonly hopeless: boolean;
}

/** The result of one job. */
export interface TuneResult {
  readonly key: string;
  /** What is remembered from now on; undefined if nothing could be measured, and the default stays. */
  readonly tuning: Tuning | undefined;
  /** In the order of the job's candidates. */
  readonly candidates: readonly CandidateResult[];
  /** Why nothing was measured: the reference itself fails. */
  readonly problem: string | undefined;
}

/** Least gain with which a candidate replaces the default: less is noise and would change results for nothing. */
const leastGain = 0.03;
/** A candidate whose best run of the first turn takes this many times as long as the best of all gets no further turn. */
const hopelessAt = 2;

/**
 * Measures every candidate of every job on random data and remembers the winners for this device; steps recorded afterwards use
 * them. Takes the GPU for itself: not inside a captured step, nor beside anything that is timed. A candidate that is wrong, or
 * does not compile, is excluded and reported. Rejects only if the device fails.
 */
export async function tune(gpu: Gpu, jobs: readonly Job[], options: TuneOptions = {}): Promise<TuneResult[]> {
  if (isCapturing(gpu)) throw new GpuError('tune: inside a captured step. Tune before it is recorded.');
  if (gpu.adapter.driver === 'null') throw new GpuError('tune: the null adapter computes nothing. Use another one.');
  flush(gpu);
  const results: TuneResult[] = [];
  for (const job of jobs) {
    const result = await scope(gpu, () => tuneOne(gpu, job, options));
    trim(gpu); // the next shape needs other sizes
    if (result.tuning) remember(gpu, { [job.key]: result.tuning });
    results.push(result);
    options.onResult?.(result);
  }
  return results;
}

async function tuneOne(gpu: Gpu, job: Job, { turns = 7, turnMs = 20 }: TuneOptions): Promise<TuneResult> {
  const { key, candidates, terms } = job;
  const tensors: Tensors = new Map();
  const failed = (problem: string): TuneResult => ({
    key,
    tuning: undefined,
    problem: `the reference ${problem}`,
    candidates: candidates.map((candidate) => ({ candidate, ms: undefined, excluded: undefined, hopeless: false })),
  });
  const expected = await attempt(gpu, job, job.reference, tensors);
  if (typeof expected === 'string') return failed(expected);
  const flaw = flawOf(expected.outputs);
  if (flaw !== undefined) return failed(flaw);

  await compileTogether(gpu, job);
  const contenders: Contender[] = [];
  const excluded = new Map<unknown, string>();
  for (const candidate of candidates) {
    const got = await attempt(gpu, job, candidate, tensors);
    const wrong = typeof got === 'string' ? got : difference(expected.outputs, got.outputs, terms);
    if (typeof got === 'string' || wrong !== undefined) excluded.set(candidate, wrong!);
    else contenders.push({ candidate, launches: got.launches, runs: [], hopeless: false });
  }
  const standard = candidates[0];
  const resultsOf = (among: readonly Contender[]): CandidateResult[] =>
    candidates.map((candidate) => {
      const contender = among.find((each) => each.candidate === candidate);
      return {
        candidate,
        ms: contender && median(contender.runs),
        excluded: excluded.get(candidate),
        hopeless: contender?.hopeless ?? false,
      };
    });
  await race(gpu, contenders, standard, turns, turnMs);
  let tuning = winner(job, resultsOf(contenders));
  if (tuning && tuning.choice !== standard && !excluded.has(standard)) {
    // The minimum of many noisy timings is biased, so the winner must beat the default again on fresh measurements.
    const duel = contenders.filter(({ candidate }) => candidate === standard || candidate === tuning!.choice);
    for (const { runs } of duel) runs.length = 0;
    await race(gpu, duel, standard, turns, turnMs);
    tuning = winner(job, resultsOf(duel));
  }
  return { key, tuning, problem: undefined, candidates: resultsOf(contenders) };
}

/** @internal The fastest if it beats the default by enough, else the default; undefined if none was timed to the end. */
export function winner(job: Job, results: readonly CandidateResult[]): Tuning | undefined {
  const standard = results[0]!;
  const finalists = results.filter(({ ms, hopeless }) => ms !== undefined && !hopeless);
  if (!finalists.length) return undefined;
  const fastest = finalists.reduce((a, b) => (b.ms! < a.ms! ? b : a));
  const stays = standard.ms !== undefined && fastest.ms! >= (1 - leastGain) * standard.ms;
  const { candidate, ms } = stays ? standard : fastest;
  // An excluded default has no time: the winner's stands for it.
  return {
    choice: candidate,
    ms: ms!,
    defaultMs: standard.ms ?? ms!,
    hash: hashOf(job, standard.candidate, candidate),
  };
}

type Tensors = Map<string, Tensor>;

interface Output {
  readonly values: TypedArray;
  readonly shape: readonly number[];
  readonly dtype: Dtype;
}

type Outputs = ReadonlyMap<string, Output>;

/** Runs a candidate once; resolves with its launches and what they wrote, or with what is wrong with it. */
async function attempt(
  gpu: Gpu,
  job: Job,
  candidate: unknown,
  tensors: Tensors,
): Promise<{ launches: readonly Launch[]; outputs: Outputs } | string> {
  let recorded: { launches: readonly Launch[]; outputs: Map<string, Tensor> };
  try {
    recorded = record(gpu, job.build(candidate), tensors);
  } catch (error) {
    gpu.check(); // a lost device is not the candidate's fault
    return `cannot be launched: ${(error as Error).message}`;
  }
  const { launches } = recorded;
  for (const used of new Set(launches.map((launch) => launch.kernel))) {
    const problem = await compile(gpu, used);
    if (problem !== undefined) return `does not compile: ${problem}`;
  }
  try {
    await watched(gpu, launches, async () => submit(gpu, launches));
  } catch (error) {
    gpu.check();
    return `is refused: ${(error as Error).message}`;
  }
  const outputs = new Map<string, Output>();
  for (const [name, t] of recorded.outputs) {
    outputs.set(name, { values: await t.read(), shape: t.shape, dtype: t.dtype });
  }
  return { launches, outputs };
}

/** Makes the launches of a trial, ready to submit, and fills their tensors. */
function record(
  gpu: Gpu,
  trial: Trial,
  tensors: Tensors,
): { launches: readonly Launch[]; outputs: Map<string, Tensor> } {
  const uses = trial.launches.flatMap(({ source, args }) =>
    kernel(gpu, source).bindings.map(({ name, writes }) => ({ name: args[name]?.name ?? name, writes })),
  );
  const used = new Map<string, Tensor>();
  const bind = (name: string, spec: TrialTensor): Tensor => {
    const found = used.get(name);
    if (found) {
      if (sameShape(found.shape, spec.shape) && found.dtype === (spec.dtype ?? 'f32')) return found;
      throw new GpuError(`'${name}' is bound as ${show(found.shape)} and as ${show(spec.shape)}.`);
    }
    const own = uses.filter((use) => use.name === name);
    const role = own[0]?.writes ? 'result' : own.some(({ writes }) => writes) ? 'updated' : 'input';
    const t = filled(gpu, name, spec, role, tensors);
    used.set(name, t);
    return t;
  };
  // These tensors are made outside the recording, which would own them; they end with this scope.
  const bound = trial.launches.map(({ args }) =>
    Object.fromEntries(Object.entries(args).map(([name, spec]) => [name, bind(spec.name ?? name, spec)])),
  );
  const work = (): void => trial.launches.forEach(({ source, grid }, i) => void run(source, bound[i]!, grid));
  const { recording } = recordList(gpu, work, () => new Set());
  place(gpu, recording.launches, recording.plan);
  const outputs = trial.outputs.map((name) => {
    const t = used.get(name);
    if (!t) throw new GpuError(`no launch binds the output '${name}'.`);
    return [name, t] as const;
  });
  return { launches: recording.launches, outputs: new Map(outputs) };
}

/** What a trial does with a tensor. `updated`: read first, written later. */
type Role = 'input' | 'updated' | 'result';

/** The tensor of a name, shared by all candidates, with its first contents restored. */
function filled(gpu: Gpu, name: string, spec: TrialTensor, role: Role, tensors: Tensors): Tensor {
  const { shape, dtype = 'f32', values } = spec;
  const id = `${name} ${dtype} ${show(shape)} ${role}`;
  let t = tensors.get(id);
  if (t && role === 'input' && !values) return t;
  if (!t) {
    t = empty(gpu, shape, dtype, name);
    t.storage.buffer = acquire(gpu, t.bytes, name);
    tensors.set(id, t);
  }
  const pattern = values ?? (role === 'result' ? undefined : randomValues(name, dtype));
  upload(t, repeated(pattern ? encode(pattern, dtype) : encodeNaN(dtype), t.bytes));
  return t;
}

/** Period of the random values. It is prime, so rows and images are not all filled alike. */
const period = 65521;

/** Numbers in [−1, 1), fixed by the tensor's name; 0 for integers, which may be indices. */
function randomValues(name: string, dtype: Dtype): number[] {
  if (dtype !== 'f32' && dtype !== 'f16') return [0];
  const uniform = uniformStream(Number.parseInt(fnv1a(name), 16));
  return Array.from({ length: period }, () => 2 * uniform() - 1);
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

function repeated({ buffer, byteLength }: ArrayBufferView, bytes: number): Uint8Array<ArrayBuffer> {
  const pattern = new Uint8Array(buffer, 0, byteLength);
  const result = new Uint8Array(bytes);
  for (let at = 0; at < bytes; at += byteLength) result.set(pattern.subarray(0, bytes - at), at);
  return result;
}

/** Compiles a candidate's kernel; resolves with what is wrong with it, if anything. */
async function compile(gpu: Gpu, k: Kernel): Promise<string | undefined> {
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

/** Compiles the kernels of all candidates in parallel. Failures are left to `attempt`, which reports them. */
async function compileTogether(gpu: Gpu, job: Job): Promise<void> {
  const sources = new Set<string>();
  for (const candidate of job.candidates) {
    try {
      for (const { source } of job.build(candidate).launches) sources.add(source);
    } catch {} // cannot be launched
  }
  const kernels = [...sources].flatMap((source) => {
    try {
      return [kernel(gpu, source)];
    } catch {
      return []; // no kernel
    }
  });
  await Promise.all(kernels.map((each) => compile(gpu, each)));
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

/** Why these outputs cannot serve as a reference, or undefined. */
function flawOf(outputs: Outputs): string | undefined {
  for (const [name, { values }] of outputs) {
    if (!values.every(Number.isFinite)) return `leaves a NaN or an infinity in '${name}'`;
    if (values.every((value) => value === 0)) return `writes only zeros to '${name}', which checks nothing`;
  }
  return undefined;
}

/**
 * How an output differs from the reference's by more than rounding. Two orders of summing n products of numbers in [−1, 1) drift
 * apart like a random walk: by about 0.1·√n·2⁻²⁴ of the largest sum, at worst 5 times that; 4·√n·2⁻²⁴ is allowed. A missing product
 * makes a difference of about 0.2/√n of it, which is more than that up to n = 800 000. An f16 output is rounded once more, so one
 * unit in its last place is allowed besides.
 */
function difference(expected: Outputs, got: Outputs, terms: number): string | undefined {
  for (const [name, { values, shape, dtype }] of expected) {
    const output = got.get(name);
    if (!output) return `has no output '${name}'`;
    if (!sameShape(shape, output.shape) || dtype !== output.dtype) {
      return `writes '${name}' as ${output.dtype} ${show(output.shape)}, the reference as ${dtype} ${show(shape)}`;
    }
    const isFloat = dtype === 'f32' || dtype === 'f16';
    let largest = 0;
    for (const value of values) largest = Math.max(largest, Math.abs(value));
    const rounding = isFloat ? 4 * Math.sqrt(terms) * 2 ** -24 * largest : 0;
    const lastPlace = dtype === 'f16' ? 2 ** -10 : 0;
    for (let i = 0; i < values.length; i++) {
      const apart = Math.abs(values[i]! - output.values[i]!);
      const allowed = rounding + lastPlace * Math.abs(values[i]!);
      if (apart <= allowed) continue; // false for NaN
      const figures = `${output.values[i]}, expected ${values[i]} ± ${allowed.toPrecision(2)}`;
      return `is wrong: '${name}'[${i}] is ${figures}`;
    }
  }
  return undefined;
}

interface Contender {
  readonly candidate: unknown;
  readonly launches: readonly Launch[];
  /** Milliseconds, one figure a run. */
  readonly runs: number[];
  hopeless: boolean;
}

/** Times contenders in turns, so that other load on the machine affects all of them alike. The default runs to the end. */
async function race(
  gpu: Gpu,
  contenders: readonly Contender[],
  standard: unknown,
  turns: number,
  turnMs: number,
): Promise<void> {
  const repeats = new Map<Contender, number>();
  for (const contender of contenders) {
    const [estimate] = await timesOf(gpu, contender.launches, 1);
    repeats.set(contender, Math.max(1, Math.min(100, Math.round(turnMs / estimate!))));
  }
  let running = [...contenders];
  for (let turn = 0; turn < turns; turn++) {
    for (const contender of running) {
      contender.runs.push(...(await timesOf(gpu, contender.launches, repeats.get(contender)!)));
    }
    if (turn === 0) {
      const best = (contender: Contender): number => Math.min(...contender.runs); // a hiccup only ever adds time
      const limit = hopelessAt * Math.min(...running.map(best));
      for (const contender of running) contender.hopeless = contender.candidate !== standard && best(contender) > limit;
      running = running.filter(({ hopeless }) => !hopeless);
    }
    running.reverse(); // so that no contender always follows the same one
  }
}

/** Milliseconds of each run of the launches, by timestamps; where the adapter has none, their mean by the clock. */
async function timesOf(gpu: Gpu, launches: readonly Launch[], repeats: number): Promise<number[]> {
  const list = Array.from({ length: repeats }, () => launches).flat();
  if (gpu.features.has('timestamp-query')) {
    const times = (await timeLaunches(gpu, list)).map(({ ms }) => ms);
    return Array.from({ length: repeats }, (_, run) =>
      times.slice(run * launches.length, (run + 1) * launches.length).reduce((sum, ms) => sum + ms),
    );
  }
  const start = performance.now();
  submit(gpu, list);
  await gpu.wait(gpu.device.queue.onSubmittedWorkDone());
  return [(performance.now() - start) / repeats];
}

/** The middle value, the upper of two. */
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;
