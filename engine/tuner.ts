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
import { hashOf, type Job, remember, type Trial, verdictOn } from './choices.js';
import { difference, expectationOf } from './comparison.js';
import { type Gpu, GpuError } from './device.js';
import { timeLaunches } from './diagnose.js';
import { type Launch, submit } from './launch.js';
import { trim } from './memory.js';
import { flush, isCapturing } from './stream.js';
import { scope } from './tensor.js';
import { attempt, Compiler, type Ground, groundOf, trialOf } from './trial.js';
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
  /**
   * Approximate length of one turn, in milliseconds; a candidate runs as often as fits. If not given: 20 on a CPU, whose other work
   * disturbs it; 5 on a GPU.
   */
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
  /** It did not get all turns, because its best run was much slower than the best of all. */
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
  /** How long all of it took, waiting for the compiler included. */
  readonly seconds: number;
}

/** Least gain with which a candidate replaces the default: less is noise and would change results for nothing. */
const leastGain = 0.03;
/**
 * A candidate whose best run so far takes more than this many times as long as the best of all gets no further turn: 2 times after
 * its first runs, 1.5 after one turn, 1.33 after two. The more was measured, the less can chance explain.
 */
const hopelessAt = (turn: number): number => 1 + 1 / (1 + turn);

/**
 * Measures every candidate of every job on random data and remembers the winners for this device; steps recorded afterwards use
 * them. Takes the GPU for itself: not inside a captured step, nor beside anything that is timed. A candidate that is wrong, or
 * does not compile, is excluded and reported. Rejects only if the device fails.
 * @example
 * console.log(await tune(gpu, askedFor(gpu).jobs.slice(0, 0))); // []
 */
export async function tune(gpu: Gpu, jobs: readonly Job[], options: TuneOptions = {}): Promise<TuneResult[]> {
  if (isCapturing(gpu)) throw new GpuError('tune: inside a captured step. Tune before it is recorded.');
  if (gpu.adapter.driver === 'null') throw new GpuError('tune: the null adapter computes nothing. Use another one.');
  flush(gpu);
  const results: TuneResult[] = [];
  const compiler = new Compiler(gpu);
  const prepared: Prepared[] = [];
  for (const [i, job] of jobs.entries()) {
    while (prepared.length < Math.min(jobs.length, i + 1 + ahead(gpu))) {
      prepared.push(prepare(jobs[prepared.length]!, compiler));
    }
    const result = await scope(gpu, () => tuneOne(groundOf(gpu, compiler), job, prepared[i]!, options));
    trim(gpu); // the next shape needs other sizes
    if (result.tuning) remember(gpu, { [job.key]: result.tuning });
    results.push(result);
    options.onResult?.(result);
  }
  return results;
}

/** A job whose kernels compile, and when they have. */
interface Prepared {
  readonly reference: Trial | string;
  /** By candidate. */
  readonly trials: ReadonlyMap<unknown, Trial | string>;
  readonly compiled: Promise<void>;
}

function prepare(job: Job, compiler: Compiler): Prepared {
  const reference = trialOf(() => job.build(job.reference));
  const trials = new Map(job.candidates.map((candidate) => [candidate, trialOf(() => job.build(candidate))]));
  const compiled = compiler.compile([reference, ...trials.values()]);
  compiled.catch(() => {}); // awaited when the job's turn comes
  return { reference, trials, compiled };
}

/** Jobs whose kernels compile while another is measured: none on a CPU driver, whose compiler would take the cores that are timed. */
const ahead = ({ adapter }: Gpu): number => (adapter.software ? 0 : 4);

async function tuneOne(ground: Ground, job: Job, prepared: Prepared, options: TuneOptions): Promise<TuneResult> {
  const { gpu } = ground;
  const { key, candidates } = job;
  const { turns = 7, turnMs = gpu.adapter.software ? 20 : 5 } = options;
  const start = performance.now();
  const seconds = (): number => (performance.now() - start) / 1000;
  const failed = (problem: string): TuneResult => ({
    key,
    tuning: undefined,
    problem: `the reference ${problem}`,
    candidates: candidates.map((candidate) => ({ candidate, ms: undefined, excluded: undefined, hopeless: false })),
    seconds: seconds(),
  });
  await prepared.compiled;
  const reference = await attempt(ground, prepared.reference);
  if (typeof reference === 'string') return failed(reference);
  const expected = await expectationOf(ground, reference.outputs, job);
  if (typeof expected === 'string') return failed(expected);

  const contenders: Contender[] = [];
  const excluded = new Map<unknown, string>();
  for (const candidate of candidates) {
    const verdict = verdictOn(gpu, job, candidate);
    if (typeof verdict === 'string') {
      excluded.set(candidate, `has failed its proof: ${verdict}`);
      continue;
    }
    const got = await attempt(ground, prepared.trials.get(candidate)!);
    const wrong = typeof got === 'string' ? got : await difference(gpu, expected, got.outputs);
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
  if (contenders.length && !gpu.adapter.software) await warm(gpu, contenders[0]!.launches);
  await race(gpu, contenders, standard, turns, turnMs);
  let tuning = winner(job, resultsOf(contenders));
  if (tuning && tuning.choice !== standard && !excluded.has(standard)) {
    // The minimum of many noisy timings is biased, so the winner must beat the default again on fresh measurements.
    const duel = contenders.filter(({ candidate }) => candidate === standard || candidate === tuning!.choice);
    await race(gpu, duel, standard, turns, turnMs);
    tuning = winner(job, resultsOf(duel));
  }
  return { key, tuning, problem: undefined, candidates: resultsOf(contenders), seconds: seconds() };
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

interface Contender {
  readonly candidate: unknown;
  readonly launches: readonly Launch[];
  /** Milliseconds, one figure a run. */
  readonly runs: number[];
  hopeless: boolean;
}

/**
 * Times contenders in turns, so that other load on the machine affects all of them alike. After the first two runs, and after every
 * turn, those whose best run took much longer than the best of all get no more. The default runs to the end.
 */
async function race(
  gpu: Gpu,
  contenders: readonly Contender[],
  standard: unknown,
  turns: number,
  turnMs: number,
): Promise<void> {
  const best = ({ runs }: Contender): number => Math.min(...runs); // a hiccup only ever adds time
  const hopeful = (running: readonly Contender[], turn: number): Contender[] => {
    const limit = hopelessAt(turn) * Math.min(...running.map(best));
    for (const contender of running) contender.hopeless = contender.candidate !== standard && best(contender) > limit;
    return running.filter(({ hopeless }) => !hopeless);
  };
  for (const contender of contenders) {
    contender.runs.length = 0;
    contender.runs.push(...(await timesOf(gpu, contender.launches, 2)));
  }
  let running = hopeful(contenders, 0);
  const repeats = new Map(
    running.map((contender) => [contender, Math.max(1, Math.min(100, Math.round(turnMs / best(contender))))]),
  );
  for (const { runs } of running) runs.length = 0; // the first runs found cold caches
  for (let turn = 1; turn <= turns; turn++) {
    for (const contender of running) {
      contender.runs.push(...(await timesOf(gpu, contender.launches, repeats.get(contender)!)));
    }
    running = hopeful(running, turn).reverse(); // so that no contender always follows the same one
  }
}

/**
 * Keeps a GPU busy until its clock has risen: one that waited for the compiler runs at a fraction of it (an H100 took up to 4.5
 * times as long, 2026-11). Ends after 0.1 s and when two batches of about 15 ms took the same time, after a second at most.
 */
async function warm(gpu: Gpu, launches: readonly Launch[]): Promise<void> {
  const start = performance.now();
  let [before, ms] = [Number.POSITIVE_INFINITY, median(await timesOf(gpu, launches, 1))];
  const since = (): number => performance.now() - start;
  while (since() < 100 || (ms < 0.97 * before && since() < 1000)) {
    before = ms;
    ms = median(await timesOf(gpu, launches, Math.max(2, Math.min(500, Math.round(15 / ms)))));
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
