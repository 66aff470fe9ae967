// Runs a program on a GPU and holds every number against the float64 ones.

import { sizeOf } from '../../engine/custom.js';
import type { Gpu, Gradients, Random, Tensor } from '../../engine/index.js';
import * as engine from '../../engine/index.js';
import { type Bounds, differentiated, type Expectations } from './expected.js';
import {
  type Api,
  changes,
  hyperparameters,
  invoke,
  type Leaf,
  type Mode,
  numbersOf,
  type Program,
  showMode,
  substitute,
  weightsOf,
} from './program.js';

const { add, backward, capture, clipGradients, createAdamW, createLossScale, createRandom, createSgd, ema } = engine;
const { mul, noGrad, pack, scope, sum, tensor } = engine;

/** The public API. */
export const wholeApi = engine as unknown as Api;

/** What is wrong with a program in a mode. */
export interface Fault {
  readonly mode: Mode;
  readonly step: number;
  /** Which number, or the error that was thrown. */
  readonly what: string;
  /** The worst element, unless something was thrown. */
  readonly at?: { readonly name: string; readonly index: number; readonly got: number; readonly expected: number };
}

/** How near to its tolerance the worst number came, of everything that was compared. */
export interface Verdict {
  readonly fault?: Fault;
  readonly nearest: number;
}

const optimizers = {
  sgd: (parameters: readonly Tensor[]) => createSgd(parameters, hyperparameters.sgd),
  adamw: (parameters: readonly Tensor[]) => createAdamW(parameters, hyperparameters.adamw),
};

function compare(got: ArrayLike<number>, { data, tolerance }: Bounds): { index: number; ratio: number } {
  let worst = { index: 0, ratio: 0 };
  for (let i = 0; i < data.length; i++) {
    const difference = Math.abs(got[i]! - data[i]!);
    const ratio = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference / tolerance[i]!;
    if (ratio > worst.ratio) worst = { index: i, ratio };
  }
  return worst;
}

/** Runs `program` in a mode, as many steps as there are expectations; eagerly at most two. */
export async function runProgram(
  gpu: Gpu,
  program: Program,
  mode: Mode,
  expected: Expectations,
  api: Api = wholeApi,
): Promise<Verdict> {
  const before = { ...gpu.flags };
  const { fuse, pool, poison } = mode;
  Object.assign(gpu.flags, { fuse, pool, poison });
  let nearest = 0;
  let step = 0;
  try {
    const fault = await scope(gpu, async (): Promise<Fault | undefined> => {
      const setting = settingOf(gpu, program, expected.outputs);
      const random = createRandom(gpu, program.seed);
      const passed = program.passed ? program.leaves.filter(changes) : [];
      const work = (...given: Tensor[]): Result => {
        const [lr = setting.lr, ...inputs] = given;
        const leaves = new Map([...setting.leaves, ...inputs.map((x, i) => [passed[i]!.id, x] as const)]);
        return callsOf(program, { ...setting, leaves, lr }, random, api).finish();
      };
      // A step is called with as many arguments as its function names.
      const recorded = capture(
        gpu,
        Object.defineProperty(work, 'length', { value: program.passed ? 1 + passed.length : 0 }),
      );
      const steps = expected.steps.slice(0, mode.captured ? 3 : 2);
      for (const bounds of steps) {
        if (step > 0 && !(mode.captured && program.passed)) setting.write(step);
        const found: Result = await scope(gpu, async () => {
          if (mode.captured) {
            random.setStep(step);
            const fresh = passed.map((leaf) => tensorOf(gpu, program, leaf, step));
            return program.passed ? recorded(hyperparameters.lr, ...fresh) : recorded();
          }
          const fresh = createRandom(gpu, program.seed); // its streams begin anew
          fresh.setStep(step);
          const { values, finish } = callsOf(program, setting, fresh, api);
          if (program.early) for (const id of program.reads) await values.get(id)!.read();
          return finish();
        });
        for (const [name, want] of bounds) {
          const t = found.get(name) ?? setting.state.get(name);
          if (!t) return { mode, step, what: `there is no ${name}` };
          const got = await t.read();
          if (got.length !== want.data.length) return { mode, step, what: `${name} has ${got.length} elements` };
          const { index, ratio } = compare(got, want);
          nearest = Math.max(nearest, ratio);
          if (ratio > 1) {
            const at = { name, index, got: got[index]!, expected: want.data[index]! };
            return {
              mode,
              step,
              what: `${name}[${index}] is ${at.got}, expected ${at.expected} ± ${want.tolerance[index]}`,
              at,
            };
          }
        }
        step++;
      }
      return undefined;
    });
    return { nearest, ...(fault && { fault }) };
  } catch (error) {
    return { nearest, fault: { mode, step, what: `throws ${String(error).slice(0, 400)}` } };
  } finally {
    Object.assign(gpu.flags, before);
  }
}

export const showFault = ({ mode, step, what }: Fault): string => `${showMode(mode)}, step ${step}: ${what}`;

interface Setting {
  readonly leaves: ReadonlyMap<number, Tensor>;
  readonly weights: readonly Tensor[];
  /** Named as the float64 run names it. */
  readonly state: ReadonlyMap<string, Tensor>;
  readonly optimizer: engine.Optimizer | undefined;
  readonly lossScale: engine.LossScale | undefined;
  readonly teacher: readonly Tensor[] | undefined;
  readonly lr: Tensor;
  readonly decay: Tensor;
  /** Writes the inputs' numbers of a step. */
  write(step: number): void;
}

type Result = Map<string, Tensor>;

/** A leaf with its numbers of a step. */
const tensorOf = (gpu: Gpu, program: Program, leaf: Leaf, step: number): Tensor =>
  tensor(gpu, numbersOf(program.seed, leaf, step), leaf.shape, {
    label: `${leaf.kind} ${leaf.id}`,
    requiresGrad: leaf.kind === 'parameter',
    ...(leaf.kind === 'labels' && { dtype: 'u8' }),
    ...(leaf.kind === 'table' && { dtype: 'i32' }),
  });

/** The leaves, the outputs' weights, and what steps the parameters. */
function settingOf(gpu: Gpu, program: Program, outputs: Expectations['outputs']): Setting {
  const leaves = new Map<number, Tensor>();
  const state = new Map<string, Tensor>();
  for (const leaf of program.leaves) {
    const t = tensorOf(gpu, program, leaf, 0);
    leaves.set(leaf.id, t);
    state.set(`state ${leaf.id}`, t);
  }
  const { stepping } = program;
  const parameters = stepping?.parameters.map((id) => leaves.get(id)!) ?? [];
  if (stepping?.packed) pack(parameters);
  const teacher = stepping?.teacher?.ids.map((id) => leaves.get(id)!);
  if (teacher && stepping?.teacher?.packed) pack(teacher);
  const optimizer = stepping && optimizers[stepping.kind](parameters);
  return {
    leaves,
    state,
    weights: outputs.map((shape, i) =>
      tensor(gpu, weightsOf(program, i, sizeOf(shape)), shape, { label: `weights ${i}` }),
    ),
    optimizer,
    lossScale: stepping?.scaled ? createLossScale(gpu, { initial: hyperparameters.scale }) : undefined,
    teacher,
    lr: tensor(gpu, hyperparameters.lr),
    decay: tensor(gpu, hyperparameters.decay),
    write: (step) => {
      for (const leaf of program.leaves) {
        if (changes(leaf)) leaves.get(leaf.id)!.write(numbersOf(program.seed, leaf, step));
      }
    },
  };
}

/** Calls the program's functions; `finish` differentiates and steps, and gives what is compared. */
function callsOf(
  program: Program,
  setting: Setting,
  random: Random,
  api: Api,
): { values: ReadonlyMap<number, Tensor>; finish: () => Result } {
  const values = new Map(setting.leaves);
  for (const call of program.calls) {
    const { gpu } = random.state;
    const args = substitute(call.args, (id) => values.get(id), { random, gpu });
    const y = call.untracked ? noGrad(gpu, () => invoke(api, call, args)) : invoke(api, call, args);
    if (program.wanted.includes(call.id)) y.requiresGrad = true;
    values.set(call.id, y);
  }
  const finish = (): Result => {
    const result: Result = new Map(program.reads.map((id) => [`value ${id}`, values.get(id)!]));
    const outputs = program.outputs.map((id) => values.get(id)!);
    const { gradients, loss } = differentiate(program, outputs, setting);
    for (const id of differentiated(program)) {
      const dx = gradients.get(values.get(id)!);
      if (dx) result.set(`gradient of ${id}`, dx);
    }
    step(program, setting, gradients, loss);
    return result;
  };
  return { values, finish };
}

function differentiate(
  program: Program,
  outputs: readonly Tensor[],
  { weights, lossScale }: Setting,
): { gradients: Gradients; loss?: Tensor } {
  if (program.seeded) return { gradients: backward(outputs[0]!, weights[0]!) };
  const loss = outputs.map((y, i) => sum(mul(y, weights[i]!))).reduce((a, b) => add(a, b));
  return { gradients: backward(loss, lossScale?.scale), loss };
}

function step(program: Program, setting: Setting, gradients: Gradients, loss: Tensor | undefined): void {
  const { stepping } = program;
  if (!stepping) return;
  const { optimizer, lossScale, teacher, lr, decay } = setting;
  const parameters = stepping.parameters.map((id) => setting.leaves.get(id)!);
  const unscale = lossScale?.unscale(gradients, parameters);
  const clipped =
    stepping.clip === undefined
      ? gradients
      : clipGradients(gradients, parameters, stepping.clip, { unscale }).gradients;
  const average = teacher && stepping.teacher?.by === 'average' ? { average: { tensors: teacher, decay } } : {};
  const guard = stepping.guarded && loss ? { guard: loss } : {};
  optimizer!.step(clipped, lr, { ...average, ...guard, ...(unscale && { unscale }) });
  if (teacher && stepping.teacher?.by === 'ema') {
    ema(teacher, parameters, decay);
  }
}
