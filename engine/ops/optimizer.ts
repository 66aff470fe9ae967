// Optimizers and the teacher's moving average: in place, several parameters a launch, as many as the GPU binds buffers.
import { adamwCorrectionShader, adamwShader, emaShader, sgdShader } from '../../shaders/optimizer.js';
import type { Gradients } from '../autograd.js';
import { ShapeError, sameShape, show } from '../shape.js';
import { run } from '../stream.js';
import { type Tensor, tensor } from '../tensor.js';

export interface Optimizer {
  /**
   * Records one update of every parameter. `lr` is a tensor of one number. With `guard` (the loss), nothing changes when
   * that number is NaN or infinite. Throws a ShapeError that names a parameter without a gradient.
   */
  step(gradients: Gradients, lr: Tensor, guard?: Tensor): void;
  /** What must be saved, beside the parameters, to continue. */
  readonly state: Tensor[];
}

/** Splits rows of tensors (one row a parameter) into launches that bind at most what the GPU allows. */
function inLaunches(
  op: string,
  rows: readonly Tensor[][],
  names: readonly string[],
  scalars: Record<string, Tensor>,
  shader: (count: number) => string,
): void {
  const gpu = rows[0]?.[0]?.gpu;
  if (!gpu) return;
  for (const [name, t] of Object.entries(scalars)) {
    if (t.dtype !== 'f32' || (t.size !== 1 && name !== 'correction')) {
      throw new ShapeError(`${op}: ${name} is ${t.dtype} ${show(t.shape)}, expected one f32 number.`);
    }
  }
  for (const t of rows.flat()) {
    if (t.dtype !== 'f32') throw new ShapeError(`${op}: '${t.label}' is ${t.dtype}, expected f32. Keep f32 masters.`);
  }
  const most = Math.min(gpu.limits.maxStorageBuffersPerShaderStage, 32);
  const perLaunch = Math.max(1, Math.floor((most - Object.keys(scalars).length) / names.length));
  for (let first = 0; first < rows.length; first += perLaunch) {
    const part = rows.slice(first, first + perLaunch);
    const args: Record<string, Tensor> = {};
    part.forEach((row, k) => {
      row.forEach((t, n) => {
        args[`${names[n]}${k}`] = t;
      });
    });
    const threads = part.reduce((sum, [p]) => sum + p!.size, 0);
    run(shader(part.length), { ...args, ...scalars }, { threads });
  }
}

function gradientOf(op: string, parameter: Tensor, gradients: Gradients): Tensor {
  const gradient = gradients.get(parameter);
  if (!gradient) {
    throw new ShapeError(
      `${op}: parameter '${parameter.label}' has no gradient. The loss does not depend on it; leave it out.`,
    );
  }
  return gradient;
}

const zerosLike = (t: Tensor, label: string): Tensor => tensor(t.gpu, 0, t.shape, { label: `${t.label}.${label}` });

/** Stochastic gradient descent with momentum and L2 weight decay, as PyTorch's SGD: v ← m·v + g + w·p, p ← p − lr·v. */
export function createSgd(
  parameters: readonly Tensor[],
  options: { momentum?: number; weightDecay?: number } = {},
): Optimizer {
  const { momentum = 0, weightDecay = 0 } = options;
  const velocity = parameters.map((p) => zerosLike(p, 'velocity'));
  return {
    state: velocity,
    step(gradients, lr, guard) {
      const rows = parameters.map((p, i) => [p, velocity[i]!, gradientOf('sgd', p, gradients)]);
      const scalars: Record<string, Tensor> = guard ? { lr, guard } : { lr };
      inLaunches('sgd', rows, ['p', 'v', 'g'], scalars, (count) =>
        sgdShader(count, momentum, weightDecay, Boolean(guard)),
      );
    },
  };
}

/** Adam with decoupled weight decay (Loshchilov & Hutter 2019), as PyTorch's AdamW. */
export function createAdamW(
  parameters: readonly Tensor[],
  options: { beta1?: number; beta2?: number; epsilon?: number; weightDecay?: number } = {},
): Optimizer {
  const { beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weightDecay = 0.01 } = options;
  const numbers = { beta1, beta2, epsilon, decay: weightDecay };
  const [first] = parameters;
  if (!first) throw new ShapeError('adamw: got no parameters.');
  const means = parameters.map((p) => zerosLike(p, 'mean'));
  const squares = parameters.map((p) => zerosLike(p, 'square'));
  const correction = tensor(first.gpu, [0, 0], [2], { label: 'adamw.correction' });
  return {
    state: [...means, ...squares, correction],
    step(gradients, lr, guard) {
      const rows = parameters.map((p, i) => [p, means[i]!, squares[i]!, gradientOf('adamw', p, gradients)]);
      const guards: Record<string, Tensor> = guard ? { guard } : {};
      run(adamwCorrectionShader(numbers, Boolean(guard)), { correction, ...guards }, { threads: 1 });
      inLaunches('adamw', rows, ['p', 'a', 'b', 'g'], { lr, correction, ...guards }, (count) =>
        adamwShader(count, numbers, Boolean(guard)),
      );
    },
  };
}

/** Exponential moving average in place: teacher ← decay·teacher + (1 − decay)·student; `decay` is a tensor of one number. */
export function ema(teacher: readonly Tensor[], student: readonly Tensor[], decay: Tensor, guard?: Tensor): void {
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
  const scalars: Record<string, Tensor> = guard ? { decay, guard } : { decay };
  const rows = teacher.map((t, i) => [t, student[i]!]);
  inLaunches('ema', rows, ['p', 'q'], scalars, (count) => emaShader(count, Boolean(guard)));
}
