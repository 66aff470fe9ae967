// Optimizers and the teacher's moving average, in place. Packed parameters (`pack`) take one launch, which updates the teacher, too.
// Other parameters go several to a launch, as many as the GPU can bind.
import { adamwCorrectionShader, adamwShader, emaShader, sgdShader } from '../../shaders/optimizer.js';
import { copyRows } from '../../shaders/slice.js';
import { checkOptions, showValue } from '../arguments.js';
import type { Gradients } from '../autograd.js';
import { type Gpu, GpuError } from '../device.js';
import { type Pack, pack, packOf, placesIn } from '../pack.js';
import { ShapeError, sameShape, show } from '../shape.js';
import { isCapturing, run } from '../stream.js';
import { Tensor, tensor } from '../tensor.js';

/** Options of one optimizer step. */
export interface StepOptions {
  /** The loss: if it is NaN or infinite, nothing changes. Default: none, the step is always taken. */
  guard?: Tensor;
  /** Factor of the gradients, one number; if it is 0, nothing changes (see `createLossScale`). Default: 1. */
  unscale?: Tensor;
  /** Teacher tensors, in the order of the parameters, and the decay with which they follow them, as by `ema` after the step. Default: none. */
  average?: { tensors: readonly Tensor[]; decay: Tensor };
}

/** Updates parameters in place; made by `createSgd` and `createAdamW`. */
export interface Optimizer {
  /**
   * Records one update of every parameter with the learning rate `lr`: a tensor of one number, which a captured step reads at each call;
   * outside of captured steps also a number; if not given, `learningRate`. Throws a ShapeError that names a parameter without a
   * gradient, and when there is no rate.
   */
  step(gradients: Gradients, lr?: Tensor | number, options?: StepOptions): void;
  /**
   * The learning rate of steps that get none. Set it between steps, also between the calls of a captured one, which then follows; inside
   * a captured step that throws a GpuError. NaN until it is set.
   */
  learningRate: number;
  /** Tensors that must be saved with the parameters to continue. */
  readonly state: Tensor[];
}

/** A learning rate as data of its own. */
function createRate(op: string, gpu: Gpu, initial: number | undefined) {
  const check = (value: unknown): number => {
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw new ShapeError(`${op}: the learning rate is ${showValue(value)} — expected a finite number.`);
  };
  let value = initial === undefined ? Number.NaN : check(initial);
  const own = tensor(gpu, value, [], { label: `${op}.learningRate` });
  return {
    get: (): number => value,
    set(next: number): void {
      if (isCapturing(gpu)) {
        throw new GpuError(
          `${op}: learningRate was set inside a captured step, which would freeze it. Set it before each call.`,
        );
      }
      own.write(check(next));
      value = next;
    },
    /** What a step binds as its rate. */
    of(lr: Tensor | number | undefined): Tensor | readonly number[] {
      if (lr === undefined) {
        if (!Number.isNaN(value)) return own;
        throw new ShapeError(
          `${op}: there is no learning rate — expected step(gradients, lr), or one that was set. Set optimizer.learningRate.`,
        );
      }
      if (typeof lr !== 'number') return checkNumber(op, 'lr', lr);
      if (isCapturing(gpu)) {
        throw new ShapeError(
          `${op}: lr is the number ${lr} inside a captured step, which would freeze it. Set optimizer.learningRate before each call, or pass a tensor of one number.`,
        );
      }
      return [check(lr)];
    },
  };
}

/** Throws a ShapeError unless `parameters` is a list of at least one f32 leaf. */
function checkParameters(op: string, parameters: unknown): void {
  if (Array.isArray(parameters) && parameters.length === 0) {
    throw new ShapeError(`${op}: got no parameters — expected an array of at least one tensor.`);
  }
  if (!Array.isArray(parameters)) {
    throw new ShapeError(`${op}: got parameters ${showValue(parameters)} — expected an array of tensors.`);
  }
  const bad = parameters.findIndex((p) => !(p instanceof Tensor && p.dtype === 'f32'));
  if (bad >= 0) {
    throw new ShapeError(
      `${op}: parameter ${bad} is ${showValue(parameters[bad])} — expected a tensor f32. Keep f32 masters.`,
    );
  }
}

/** Throws a ShapeError unless an optimizer step got gradients, and tensors for the numbers of its options. */
function checkStep(op: string, gradients: unknown, options: StepOptions): void {
  if (typeof (gradients as Partial<Gradients> | undefined)?.get !== 'function') {
    throw new ShapeError(`${op}: got gradients ${showValue(gradients)} — expected what backward(loss) gives.`);
  }
  checkOptions(op, options, ['guard', 'unscale', 'average']);
  if (options.guard !== undefined) checkNumber(op, 'guard', options.guard);
  if (options.unscale !== undefined) checkNumber(op, 'unscale', options.unscale);
  if (options.average) checkNumber(op, 'the decay of average', options.average.decay);
}

/** The tensor of one number; throws a ShapeError for anything else. */
export function checkNumber(op: string, what: string, value: unknown): Tensor {
  if (value instanceof Tensor && value.dtype === 'f32' && value.size === 1) return value;
  if (value instanceof Tensor) {
    throw new ShapeError(`${op}: ${what} is ${value.dtype} ${show(value.shape)}, expected one f32 number.`);
  }
  const number = typeof value === 'number' ? value : 0.1;
  throw new ShapeError(
    `${op}: ${what} is ${showValue(value)} — expected a tensor of one f32 number. Make it once, tensor(gpu, ${number}), and write() to it when it changes.`,
  );
}

const settings = ['momentum', 'weightDecay', 'learningRate'];
const settingsOfAdam = ['beta1', 'beta2', 'epsilon', 'weightDecay', 'learningRate'];
const hints = { lr: "Write 'learningRate'.", betas: 'Write beta1 and beta2.' };

/** Splits rows of tensors (one row for each parameter) into launches that bind at most what the GPU allows. */
export function inLaunches(
  op: string,
  rows: readonly Tensor[][],
  names: readonly string[],
  scalars: Record<string, Tensor | readonly number[]>,
  shader: (count: number, width: 1 | 4) => string,
): void {
  const gpu = rows[0]?.[0]?.gpu;
  if (!gpu) return;
  for (const t of rows.flat()) {
    if (t.dtype !== 'f32') throw new ShapeError(`${op}: '${t.label}' is ${t.dtype}, expected f32. Keep f32 masters.`);
  }
  const most = Math.min(gpu.limits.maxStorageBuffersPerShaderStage, 32);
  const perLaunch = Math.max(1, Math.floor((most - Object.keys(scalars).length) / names.length));
  const width = gpu.flags.fuse && rows.length === 1 && rows[0]![0]!.size % 4 === 0 ? 4 : 1;
  for (let first = 0; first < rows.length; first += perLaunch) {
    const chunk = rows.slice(first, first + perLaunch);
    const args: Record<string, Tensor> = {};
    chunk.forEach((row, k) => {
      row.forEach((t, n) => {
        args[`${names[n]}${k}`] = t;
      });
    });
    const threads = chunk.reduce((sum, [p]) => sum + p!.size, 0) / width;
    run(shader(chunk.length, width), { ...args, ...scalars }, { threads });
  }
}

function gradientOf(op: string, parameter: Tensor, gradients: Gradients): Tensor {
  const gradient = gradients.get(parameter);
  if (!gradient) {
    throw new ShapeError(
      `${op}: parameter '${parameter.label}' has no gradient. Set its requiresGrad, or leave out what the loss does not depend on.`,
    );
  }
  return gradient;
}

/** Zeros of the parameters' shapes; packed if the parameters are. */
function zerosLike(parameters: readonly Tensor[], label: string): Tensor[] {
  const zeros = parameters.map((t) => tensor(t.gpu, 0, t.shape, { label: `${t.label}.${label}` }));
  if (wholePack(parameters)) pack(zeros, label);
  return zeros;
}

/** The pack that consists of exactly these tensors. */
function wholePack(tensors: readonly Tensor[]): Pack | undefined {
  const whole = tensors[0]?.gpu.flags.fuse ? packOf(tensors[0]) : undefined;
  return whole?.tensors.length === tensors.length && tensors.every((t, i) => t === whole.tensors[i])
    ? whole
    : undefined;
}

/**
 * One row of tensors for each parameter, or a single row of flat tensors where all are packed. A gradient that lies elsewhere (a sum
 * of several) is first copied to its place.
 */
export function rowsOf(
  op: string,
  parameters: readonly Tensor[],
  states: readonly (readonly Tensor[])[],
  gradients: Gradients,
): { rows: Tensor[][]; packed: boolean } {
  const dp = parameters.map((p) => gradientOf(op, p, gradients));
  const whole = [parameters, ...states].map(wholePack);
  const flat = parameters[0] && gradients.packed.get(parameters[0].storage)?.flat;
  if (!flat || whole.some((each) => !each)) {
    return { rows: parameters.map((p, i) => [p, dp[i]!, ...states.map((s) => s[i]!)]), packed: false };
  }
  placesIn(flat, parameters).forEach((place, i) => {
    const g = dp[i]!;
    if (g.storage === flat.storage) return;
    const rows = { rows: 1, length: g.size, fromRow: g.size, from: 0, toRow: g.size, to: 0 };
    run(copyRows('f32', rows), { x: g, y: place }, { threads: g.size });
  });
  const [p, ...others] = whole.map((each) => each!.flat);
  return { rows: [[p!, flat, ...others]], packed: true };
}

/**
 * Stochastic gradient descent with momentum and L2 weight decay, as PyTorch's SGD: v ← m·v + g + w·p, p ← p − lr·v. Both are 0 if not
 * given; `learningRate` is that of steps that get none. Throws a ShapeError without parameters, and for unknown options.
 * @example
 * const w = tensor(gpu, [1, 2], [2], { requiresGrad: true });
 * createSgd([w], { learningRate: 0.5 }).step(backward(sum(square(w))));
 * console.log(await w.read()); // [0, 0]
 */
export function createSgd(
  parameters: readonly Tensor[],
  options: { momentum?: number; weightDecay?: number; learningRate?: number } = {},
): Optimizer {
  checkOptions('sgd', options, settings, hints);
  checkParameters('sgd', parameters);
  const { momentum = 0, weightDecay = 0 } = options;
  const velocity = zerosLike(parameters, 'velocity');
  const rate = createRate('sgd', parameters[0]!.gpu, options.learningRate);
  return {
    state: velocity,
    get learningRate() {
      return rate.get();
    },
    set learningRate(value) {
      rate.set(value);
    },
    step(gradients, lr, options = {}) {
      checkStep('sgd', gradients, options);
      const { guard, unscale, average } = options;
      if (average) checkAverage(average.tensors, parameters);
      const follows = average && wholePack(average.tensors) ? [average.tensors] : [];
      const { rows, packed } = rowsOf('sgd', parameters, [velocity, ...follows], gradients);
      const averaged = packed && follows.length > 0;
      const scalars: Record<string, Tensor | readonly number[]> = {
        lr: rate.of(lr),
        ...(unscale && { unscale }),
        ...(averaged && average && { average: average.decay }),
        ...(guard && { guard }),
      };
      inLaunches(
        'sgd',
        packed ? rows : rows.map((row) => row.slice(0, 3)),
        averaged ? ['p', 'g', 'v', 't'] : ['p', 'g', 'v'],
        scalars,
        (count, width) =>
          sgdShader(count, {
            momentum,
            decay: weightDecay,
            guarded: guard !== undefined,
            scaled: unscale !== undefined,
            averaged,
            width,
          }),
      );
      if (average && !averaged) ema(average.tensors, parameters, average.decay, { guard, unscale });
    },
  };
}

/**
 * Adam with decoupled weight decay (Loshchilov & Hutter 2019), as PyTorch's AdamW: beta1 0.9, beta2 0.999, epsilon 1e-8, weightDecay
 * 0.01 if not given; `learningRate` is that of steps that get none. Groups of parameters with settings of their own are optimizers of
 * their own, which take the same gradients. Throws a ShapeError without parameters, and for unknown options.
 * @example
 * const w = tensor(gpu, [1, 2], [2], { requiresGrad: true });
 * createAdamW([w], { learningRate: 0.5, weightDecay: 0 }).step(backward(sum(square(w))));
 * console.log(await w.read()); // [0.5, 1.5]
 */
export function createAdamW(
  parameters: readonly Tensor[],
  options: { beta1?: number; beta2?: number; epsilon?: number; weightDecay?: number; learningRate?: number } = {},
): Optimizer {
  checkOptions('adamw', options, settingsOfAdam, hints);
  checkParameters('adamw', parameters);
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0.01 } = options;
  const numbers = { beta1, beta2, epsilon, decay: weightDecay };
  const { gpu } = parameters[0]!;
  const [means, squares] = [zerosLike(parameters, 'mean'), zerosLike(parameters, 'square')];
  const correction = tensor(gpu, [0, 0], [2], { label: 'adamw.correction' });
  const rate = createRate('adamw', gpu, options.learningRate);
  return {
    state: [...means, ...squares, correction],
    get learningRate() {
      return rate.get();
    },
    set learningRate(value) {
      rate.set(value);
    },
    step(gradients, lr, options = {}) {
      checkStep('adamw', gradients, options);
      const { guard, unscale, average } = options;
      if (average) checkAverage(average.tensors, parameters);
      const scalars = { lr: rate.of(lr), correction };
      const { rows } = rowsOf('adamw', parameters, [means, squares], gradients);
      const [guarded, scaled] = [guard !== undefined, unscale !== undefined];
      const unless: Record<string, Tensor> = { ...(unscale && { unscale }), ...(guard && { guard }) };
      run(adamwCorrectionShader(numbers, guarded, scaled), { correction, ...unless }, { threads: 1 });
      inLaunches('adamw', rows, ['p', 'g', 'a', 'b'], { ...scalars, ...unless }, (count, width) =>
        adamwShader(count, numbers, guarded, width, scaled),
      );
      if (average) ema(average.tensors, parameters, average.decay, { guard, unscale });
    },
  };
}

function checkAverage(teacher: readonly Tensor[], student: readonly Tensor[]): void {
  if (teacher.length < student.length) {
    throw new ShapeError(`ema: got ${teacher.length} teacher and ${student.length} student tensors, expected as many.`);
  }
  teacher.forEach((t, i) => {
    const s = student[i];
    if (!s || !sameShape(t.shape, s.shape)) {
      throw new ShapeError(
        `ema: '${t.label}' ${show(t.shape)} has no counterpart of its shape — got ${s ? show(s.shape) : 'none'}.`,
      );
    }
  });
}

/**
 * Exponential moving average in place: teacher ← decay·teacher + (1 − decay)·student; `decay` is a tensor of one number.
 * @example
 * const [teacher, student] = [tensor(gpu, [1]), tensor(gpu, [3])];
 * ema([teacher], [student], tensor(gpu, 0.5));
 * console.log(await teacher.read()); // [2]
 */
export function ema(
  teacher: readonly Tensor[],
  student: readonly Tensor[],
  decay: Tensor,
  { guard, unscale }: { guard?: Tensor | undefined; unscale?: Tensor | undefined } = {},
): void {
  checkAverage(teacher, student);
  checkNumber('ema', 'decay', decay);
  if (guard) checkNumber('ema', 'guard', guard);
  if (unscale) checkNumber('ema', 'unscale', unscale);
  const [flatTeacher, flatStudent] = [wholePack(teacher)?.flat, wholePack(student)?.flat];
  const rows = flatTeacher && flatStudent ? [[flatTeacher, flatStudent]] : teacher.map((t, i) => [t, student[i]!]);
  const scalars: Record<string, Tensor> = { decay, ...(unscale && { unscale }), ...(guard && { guard }) };
  inLaunches('ema', rows, ['p', 'q'], scalars, (count, width) =>
    emaShader(count, { guarded: guard !== undefined, scaled: unscale !== undefined, width }),
  );
}
