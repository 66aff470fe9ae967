// A program's numbers in float64, step by step, with what the engine's may differ by: some runs have noise of the size of
// rounding in every result, and their spread is the measure.

import { meaningOf } from './meaning.js';
import { changes, hyperparameters, numbersOf, type Program, type Stepping, substitute, weightsOf } from './program.js';
import { type Draws, leafOf, noiseOf, type Real, Tape } from './reference.js';
import { NoMeaning } from './shapes.js';

/** Numbers by name: `value 7`, `gradient of 3`, `state 2`. */
export type Named = Map<string, Float64Array>;

/** What to compare, step by step. */
export interface Expectations {
  readonly steps: readonly ReadonlyMap<string, Bounds>[];
  /** Shapes of the program's outputs. */
  readonly outputs: readonly (readonly number[])[];
}

export interface Bounds {
  readonly data: Float64Array;
  /** Most that each number may differ by. */
  readonly tolerance: Float64Array;
}

interface Step {
  readonly named: Named;
  readonly kinks: readonly Float64Array[];
  /** By id. */
  readonly values: ReadonlyMap<number, Real>;
}

/** Runs one step; `state` (by leaf, and the optimizer's by other keys) goes on in place. */
function runStep(program: Program, step: number, state: Map<string, Float64Array>, noise?: () => number): Step {
  const tape = new Tape(noise);
  const values = new Map<number, Real>();
  const named: Named = new Map();
  for (const leaf of program.leaves) {
    const key = `state ${leaf.id}`;
    let data = numbersOf(program.seed, leaf, step);
    if (!changes(leaf)) {
      data = state.get(key) ?? data;
      state.set(key, data);
    }
    // Steps change state in place: the tape keeps the numbers it has read.
    values.set(leaf.id, leafOf(tape, leaf, leaf.kind === 'parameter' ? data.slice() : data));
  }
  const draws: Draws = { seed: program.seed, step, stream: 0 };
  for (const call of program.calls) {
    const { id, args, untracked } = call;
    tape.tracking = !untracked;
    const given = substitute(
      args,
      (ref) => {
        const value = values.get(ref);
        if (!value) throw new NoMeaning(`value ${ref} is not there`);
        return value;
      },
      { random: draws },
    );
    const y = meaningOf(tape, call, given);
    if (program.wanted.includes(id)) y.wanted = true;
    values.set(id, y);
  }
  tape.tracking = true;
  const loss = lossOf(program, tape, values);
  const gradients = tape.backward(loss.value, loss.seed);
  for (const id of program.reads) named.set(`value ${id}`, values.get(id)!.data.slice());
  for (const id of differentiated(program)) {
    const dx = gradients.get(values.get(id)!);
    if (dx) named.set(`gradient of ${id}`, dx);
  }
  takeStep(program, tape, gradients, values, state);
  for (const { id, kind } of program.leaves) {
    const key = `state ${id}`;
    if (kind === 'running' || kind === 'teacher' || program.stepping?.parameters.includes(id)) {
      named.set(key, state.get(key)!.slice());
    }
  }
  return { named, kinks: tape.kinks, values };
}

/** Everything whose gradient is looked at. */
export const differentiated = (program: Program): number[] => [
  ...program.leaves.filter(({ kind }) => kind === 'parameter').map(({ id }) => id),
  ...program.wanted,
];

function lossOf(program: Program, tape: Tape, values: ReadonlyMap<number, Real>): { value: Real; seed: Float64Array } {
  const outputs = program.outputs.map((id) => values.get(id)!);
  const weights = outputs.map((y, i) => weightsOf(program, i, y.data.length));
  if (program.seeded) return { value: outputs[0]!, seed: weights[0]! };
  const scaled = outputs.map((y, i) => tape.scaled(y, weights[i]!));
  const terms = scaled.map((y) => tape.total(y, [], new Int32Array(y.data.length), 1));
  const value = terms.reduce((a, b) =>
    tape.zip(
      a,
      b,
      [],
      [Int32Array.of(0), Int32Array.of(0)],
      (p, q) => p + q,
      (p, q) => Math.abs(p) + Math.abs(q),
      [() => 1, () => 1],
    ),
  );
  return { value, seed: Float64Array.of(program.stepping?.scaled ? hyperparameters.scale : 1) };
}

/** The gradients of the parameters, times what their common norm asks for. */
function clipped(
  tape: Tape,
  { parameters, clip, scaled }: Stepping,
  gradients: ReadonlyMap<Real, Float64Array>,
  values: ReadonlyMap<number, Real>,
): Float64Array[] {
  const all = parameters.map((id) => {
    const g = gradients.get(values.get(id)!);
    if (!g) throw new NoMeaning(`parameter ${id} has no gradient`);
    return scaled ? g.map((v) => v / hyperparameters.scale) : g;
  });
  if (clip === undefined) return all;
  const whole = tape.settle(Float64Array.of(Math.hypot(...all.map((g) => norm(g)))), false, undefined, 4)[0]!;
  tape.kinks.push(Float64Array.of(whole - clip));
  const factor = whole > clip ? clip / whole : 1;
  return all.map((g) =>
    tape.settle(
      g.map((v) => v * factor),
      false,
      undefined,
      2,
    ),
  );
}

function takeStep(
  program: Program,
  tape: Tape,
  gradients: ReadonlyMap<Real, Float64Array>,
  values: ReadonlyMap<number, Real>,
  state: Map<string, Float64Array>,
): void {
  const { stepping } = program;
  if (!stepping) return;
  const { lr, decay, sgd, adamw } = hyperparameters;
  const given = clipped(tape, stepping, gradients, values);
  const kept = (key: string, size: number): Float64Array => {
    if (!state.has(key)) state.set(key, new Float64Array(size));
    return state.get(key)!;
  };
  const time = kept('time', 1);
  time[0]!++;
  stepping.parameters.forEach((id, index) => {
    const p = state.get(`state ${id}`)!;
    const g = given[index]!;
    const size = new Float64Array(p.length);
    if (stepping.kind === 'sgd') {
      const v = kept(`velocity ${id}`, p.length);
      for (let i = 0; i < p.length; i++) {
        size[i] = sgd.momentum * Math.abs(v[i]!) + Math.abs(g[i]!) + sgd.weightDecay * Math.abs(p[i]!);
        v[i] = sgd.momentum * v[i]! + g[i]! + sgd.weightDecay * p[i]!;
      }
      tape.settle(v, false, size);
      for (let i = 0; i < p.length; i++) {
        size[i] = Math.abs(p[i]!) + lr * Math.abs(v[i]!);
        p[i]! -= lr * v[i]!;
      }
    } else {
      const [a, b] = [kept(`mean ${id}`, p.length), kept(`square ${id}`, p.length)];
      const sizes = p.map((_, i) => adamw.beta1 * Math.abs(a[i]!) + (1 - adamw.beta1) * Math.abs(g[i]!));
      for (let i = 0; i < p.length; i++) {
        a[i] = adamw.beta1 * a[i]! + (1 - adamw.beta1) * g[i]!;
        b[i] = adamw.beta2 * b[i]! + (1 - adamw.beta2) * g[i]! ** 2;
      }
      tape.settle(a, false, sizes, 2);
      tape.settle(b, false, undefined, 4);
      for (let i = 0; i < p.length; i++) {
        const mean = a[i]! / (1 - adamw.beta1 ** time[0]!);
        const square = Math.max(0, b[i]!) / (1 - adamw.beta2 ** time[0]!);
        const change = (lr * mean) / (Math.sqrt(square) + adamw.epsilon);
        p[i] = p[i]! * (1 - lr * adamw.weightDecay) - change;
        size[i] = 2 * Math.abs(p[i]!) + 16 * Math.abs(change);
      }
    }
    tape.settle(p, false, size);
    const teacher = stepping.teacher && state.get(`state ${stepping.teacher.ids[index]}`)!;
    if (!teacher) return;
    for (let i = 0; i < p.length; i++) {
      size[i] = Math.abs(teacher[i]!) + Math.abs(p[i]!);
      teacher[i] = decay * teacher[i]! + (1 - decay) * p[i]!;
    }
    tape.settle(teacher, false, size);
  });
}

const norm = (x: Float64Array): number => Math.hypot(...x);

const spread = 16;

/** Of numbers and the same with noise: how far the engine's may be. */
function toleranceOf(exact: Float64Array, noisy: readonly Float64Array[]): Float64Array {
  const tolerance = new Float64Array(exact.length);
  let square = 0;
  for (let i = 0; i < exact.length; i++) {
    for (const other of noisy) {
      const difference = Math.abs(other[i]! - exact[i]!);
      tolerance[i] = Math.max(tolerance[i]!, difference);
      square += (difference * difference) / noisy.length;
    }
  }
  const root = Math.sqrt(square / exact.length);
  return tolerance.map((most) => spread * (most + root) + 1e-30);
}

/** A step without noise and with it; undefined if its numbers are no test of some op. */
function runsOf(program: Program, step: number, states: readonly Map<string, Float64Array>[]): Step[] | undefined {
  try {
    return states.map((state, k) =>
      runStep(program, step, state, k ? noiseOf(977 * program.seed + 31 * step + k) : undefined),
    );
  } catch (error) {
    if (error instanceof NoMeaning && step > 0) return undefined;
    throw error;
  }
}

/**
 * What to compare at each step. It ends before the first step that is no test: one with numbers that are not finite, that
 * rounding may carry over a kink, or that say nothing because rounding alone changes them much.
 */
export function expectations(program: Program, samples: number): Expectations {
  const states = Array.from({ length: samples + 1 }, () => new Map<string, Float64Array>());
  const steps: Map<string, Bounds>[] = [];
  let outputs: (readonly number[])[] = [];
  for (let step = 0; step < program.steps; step++) {
    const runs = runsOf(program, step, states);
    if (!runs) break;
    const [exact, ...noisy] = runs as [Step, ...Step[]];
    outputs = program.outputs.map((id) => exact.values.get(id)!.shape);
    const certain = exact.kinks.every((distances, i) => {
      const tolerance = toleranceOf(
        distances,
        noisy.map(({ kinks }) => kinks[i]!),
      );
      return distances.every((d, k) =>
        d === 0 ? noisy.every(({ kinks }) => kinks[i]![k] === 0) : Math.abs(d) > tolerance[k]!,
      );
    });
    if (!certain) break;
    const bounds = new Map<string, Bounds>();
    let telling = true;
    for (const [name, data] of exact.named) {
      const tolerance = toleranceOf(
        data,
        noisy.map(({ named }) => named.get(name)!),
      );
      bounds.set(name, { data, tolerance });
      if (!(norm(tolerance) <= 1e-3 * Math.sqrt(data.length) + 0.2 * norm(data))) telling = false;
    }
    if (!telling) break;
    steps.push(bounds);
  }
  return { steps, outputs };
}

/** Shapes of a program's values, by id. */
export const shapesOf = (program: Program): ReadonlyMap<number, readonly number[]> =>
  new Map([...runStep(program, 0, new Map()).values].map(([id, { shape }]) => [id, shape]));
