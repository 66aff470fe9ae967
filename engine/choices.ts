// Chooses the candidate of a kernel family that runs a shape on an adapter: the one that the tuner measured as best
// (engine/tuner.ts), else the family's default. Ops ask while they record, so nothing here waits for the GPU. A remembered choice
// counts only while it is among the candidates and the texts of its kernels are those that were measured.
import type { AdapterDescription, Gpu } from './device.js';
import type { Grid } from './stream.js';
import type { Dtype } from './tensor.js';
import type { Tuning } from './tuning.js';

/** A tensor of a trial. Launches of one trial that use the same name use the same tensor. */
export interface TrialTensor {
  readonly shape: readonly number[];
  /** f32 if not given. */
  readonly dtype?: Dtype;
  /** The name of its binding if not given. */
  readonly name?: string;
  /**
   * What it holds before the first launch, repeated as often as it fits. If not given: random numbers in [−1, 1) (0 for
   * integers) where the first launch that binds it reads it only, and NaN where it writes it.
   */
  readonly values?: readonly number[];
}

/** One launch of a trial, over tensors that the tuner makes. */
export interface TrialLaunch {
  readonly source: string;
  /** By the names of the shader's bindings, as in `run`. */
  readonly args: Readonly<Record<string, TrialTensor>>;
  readonly grid: Grid;
}

/** All launches of one candidate for one shape, second passes included; a candidate's time is their sum. */
export interface Trial {
  readonly launches: readonly TrialLaunch[];
  /** Launches after these that make outputs comparable. They are not timed, and their texts do not count. */
  readonly checks?: readonly TrialLaunch[];
  /** Names of the tensors that must agree with the reference's; the same names and shapes for every candidate. */
  readonly outputs: readonly string[];
}

/** What the tuner needs to measure candidates. */
export interface Measure<T> {
  /** The candidate against which the others are checked, as simple as possible. It need not be one of `candidates`. */
  readonly reference: T;
  /**
   * How many products one element of an output sums, of all outputs or by their names: the more, the further rounding drives two
   * orders of summing apart.
   */
  readonly terms: number | Readonly<Record<string, number>>;
  /** What outputs may differ by besides, as a fraction of their largest values, where candidates round their operands differently. */
  readonly operandRounding?: number;
  /** The launches of a candidate. The engine keeps this function for the life of the device, so it must not hold tensors. */
  build(candidate: T): Trial;
  /** @internal Where some candidates must prove themselves on the device before they may run. */
  readonly proof?: Proof<T>;
}

/** How candidates prove themselves (engine/proof.ts). */
export interface Proof<T> {
  /** Whether a candidate must. */
  needs(candidate: T): boolean;
  /** The candidate that then takes the default's place, where nothing was measured. */
  readonly preferred: T | undefined;
  /** The proof of `candidate`: as `build` of the measurement, and with the same texts, the launches of it and of the reference. */
  of(candidate: T): {
    build(either: T): Trial;
    /** Outputs that must be equal, since the numbers leave nothing to round; the others as in a measurement. */
    readonly exact: readonly string[];
    readonly operandRounding?: number;
  };
  /** Proves claims; resolves with whether all are right. */
  prove(gpu: Gpu, claims: readonly Claim[]): Promise<boolean>;
}

/** A candidate that a recording uses before it is proven. */
export interface Claim<T = unknown> {
  readonly key: string;
  readonly candidate: T;
  readonly measure: Measure<T>;
  /** Of its launches' texts. */
  readonly hash: string;
}

/** What a proof found: right, or what is wrong. */
export type Verdict = true | string;

/** One choice to make. */
export interface Job<T = unknown> extends Measure<T> {
  readonly key: string;
  /** Plain objects of numbers, strings and booleans; the first is the default. */
  readonly candidates: readonly T[];
}

interface Choices {
  readonly table: Map<string, Tuning>;
  readonly asked: Map<string, Job | undefined>;
  /** Keys whose remembered hash was compared with today's kernels. */
  readonly fresh: Map<string, boolean>;
  /** By hash of the launches' texts. */
  readonly verdicts: Map<string, Verdict>;
  /** Texts that could not be proven right or wrong in this process. */
  readonly open: Set<string>;
  /** Hashes of candidates that need a proof, by key and candidate. */
  readonly hashes: Map<string, string>;
  /** Claims of what is being recorded. */
  claims: Claim[];
  /** Keeps verdicts for later processes. */
  keep: ((verdicts: Readonly<Record<string, Verdict>>) => void) | undefined;
}

const known = new WeakMap<Gpu, Choices>();

function choicesOf(gpu: Gpu): Choices {
  let choices = known.get(gpu);
  if (!choices) {
    known.set(
      gpu,
      (choices = {
        ...{ table: new Map(), asked: new Map(), fresh: new Map(), verdicts: new Map(), open: new Set() },
        ...{ hashes: new Map(), claims: [], keep: undefined },
      }),
    );
  }
  return choices;
}

/**
 * The candidate to run: the remembered one, else the one that a proof prefers, else the first. `key` names family, types and geometry
 * (`conv.forward f32 b8 64x64 16>16 k3 s1`); the same key must always come with the same kernels. With `measure`, the choice
 * can be tuned (`askedFor`), and is forgotten when the text of its kernels changes.
 * @example
 * console.log(choose(gpu, 'mine f32 64', [{ tile: 8 }, { tile: 16 }]).tile); // 8
 */
export function choose<T>(gpu: Gpu, key: string, candidates: readonly T[], measure?: Measure<T>): T {
  const standard = candidates[0];
  if (standard === undefined) throw new Error(`internal: choose: '${key}' has no candidates.`);
  if (!gpu.flags.tune) return standard;
  const { asked } = choicesOf(gpu);
  if (!asked.get(key)) asked.set(key, measure && ({ key, candidates, ...measure } as Job));
  const choice = rememberedOf(gpu, key, candidates, measure);
  const wanted = choice ?? measure?.proof?.preferred ?? standard;
  if (!measure?.proof?.needs(wanted)) return wanted;
  const verdict = verdictOf(gpu, { key, candidate: wanted, measure });
  if (verdict === true) return wanted;
  // What was measured on a GPU of this kind runs until a proof has failed; a default runs only where it has passed, or will be asked for.
  return verdict === undefined && (choice !== undefined || gpu.trusting) ? wanted : standard;
}

/** The choice that is remembered for a key, while it is a candidate and the kernels are those that were measured. */
function rememberedOf<T>(gpu: Gpu, key: string, candidates: readonly T[], measure?: Measure<T>): T | undefined {
  const { table, fresh } = choicesOf(gpu);
  const remembered = table.get(key);
  if (!remembered) return undefined;
  const wanted = canonical(remembered.choice);
  const choice = candidates.find((candidate) => canonical(candidate) === wanted);
  if (choice === undefined) return undefined;
  if (measure && !fresh.has(key)) fresh.set(key, hashOf(measure, candidates[0]!, choice) === remembered.hash);
  return fresh.get(key) === false ? undefined : choice;
}

/** The verdict on a candidate; undefined where there is none, and then a recording that trusts asks for a proof of it. */
function verdictOf<T>(gpu: Gpu, claim: Omit<Claim<T>, 'hash'>): Verdict | undefined {
  const { hashes, verdicts, open } = choicesOf(gpu);
  const id = `${claim.key} ${canonical(claim.candidate)}`;
  let hash = hashes.get(id);
  if (hash === undefined) {
    const text = textOf(claim.measure, claim.candidate);
    hashes.set(id, (hash = `${fnv1a(text)}-${text.length}`));
  }
  const verdict = verdicts.get(hash) ?? (open.has(hash) ? 'could not be checked' : undefined);
  if (verdict !== undefined || !gpu.trusting) return verdict;
  if (!gpu.prove) {
    const own: Claim[] = (choicesOf(gpu).claims = []);
    const { prove } = claim.measure.proof!;
    gpu.prove = () => prove(gpu, own);
  }
  choicesOf(gpu).claims.push({ ...claim, hash } as Claim);
  return undefined;
}

/** What is known of a candidate that must prove itself; undefined for the others. */
export function verdictOn<T>(gpu: Gpu, { key, ...measure }: Job<T>, candidate: T): Verdict | undefined {
  return measure.proof?.needs(candidate) ? verdictOf(gpu, { key, candidate, measure }) : undefined;
}

/** Whether a claim is known to be right, or not; undefined where that is still to be found. */
export function isRight(gpu: Gpu, { hash }: Claim): boolean | undefined {
  const { verdicts, open } = choicesOf(gpu);
  return verdicts.has(hash) ? verdicts.get(hash) === true : open.has(hash) ? false : undefined;
}

/** Notes that a claim could be proven neither right nor wrong; it does not count as long as this device is open. */
export const leaveOpen = (gpu: Gpu, { hash }: Claim): void => void choicesOf(gpu).open.add(hash);

/** Remembers verdicts, by hash, and keeps them where `keepVerdicts` said how. */
export function rememberVerdicts(gpu: Gpu, found: Readonly<Record<string, Verdict>>): void {
  const { verdicts, keep } = choicesOf(gpu);
  for (const [hash, verdict] of Object.entries(found)) verdicts.set(hash, verdict);
  keep?.(found);
}

/** Has every verdict from now on given to `keep`. */
export function keepVerdicts(gpu: Gpu, keep: (found: Readonly<Record<string, Verdict>>) => void): void {
  choicesOf(gpu).keep = keep;
}

/**
 * What `choose` was asked on this device so far: all keys, and the jobs that can be measured.
 * @example
 * choose(gpu, 'mine f32 64', [{ tile: 8 }, { tile: 16 }]);
 * console.log(askedFor(gpu).keys.includes('mine f32 64')); // true
 */
export function askedFor(gpu: Gpu): { keys: string[]; jobs: Job[] } {
  const { asked } = choicesOf(gpu);
  return { keys: [...asked.keys()], jobs: [...asked.values()].filter((job) => job !== undefined) };
}

/**
 * What is remembered for a key, if it still fits the job: neither its candidates nor its kernels have changed.
 * @example
 * console.log(askedFor(gpu).jobs.every((job) => recall(gpu, job) === undefined)); // true
 */
export function recall<T>(gpu: Gpu, { key, candidates, ...measure }: Job<T>): Tuning | undefined {
  const tuning = choicesOf(gpu).table.get(key);
  const choice = candidates.find((candidate) => tuning && canonical(candidate) === canonical(tuning.choice));
  return choice !== undefined && hashOf(measure, candidates[0]!, choice) === tuning!.hash ? tuning : undefined;
}

/** Remembers measurements and replaces earlier ones of the same keys. Steps recorded from now on use them. */
export function remember(gpu: Gpu, choices: Readonly<Record<string, Tuning>>): void {
  const { table, fresh } = choicesOf(gpu);
  for (const [key, tuning] of Object.entries(choices)) {
    table.set(key, tuning);
    fresh.delete(key);
  }
}

/** Everything that is remembered on this device, shipped choices included. */
export const remembered = (gpu: Gpu): Record<string, Tuning> => Object.fromEntries(choicesOf(gpu).table);

/** An adapter and the version of its driver: what a measurement belongs to. */
export const adapterIdentity = (adapter: AdapterDescription): string =>
  [adapterFamily(adapter), adapter.description, adapter.driver].join(' · ');

/** An adapter whatever the version of its driver. */
export const adapterFamily = ({ vendor, architecture, device }: AdapterDescription): string =>
  [vendor, architecture, device].join(' · ');

/** A hash of the kernels of a default and a choice. */
export const hashOf = <T>(measure: Pick<Measure<T>, 'build'>, standard: T, choice: T): string =>
  fnv1a(textOf(measure, standard, choice));

/** The texts of all launches of candidates. */
const textOf = <T>({ build }: Pick<Measure<T>, 'build'>, ...candidates: readonly T[]): string =>
  candidates.flatMap((each) => build(each).launches.map(({ source }) => source)).join('\0');

/** FNV-1a with 32 bits, over UTF-16 units: tells texts apart, protects nothing. */
export function fnv1a(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, '0');
}

/** JSON with sorted names: equal for equal candidates. */
export const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, v: unknown) =>
    typeof v === 'object' && v !== null && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v,
  );
