// Define-by-run reverse mode. Each op leaves one node on its output: its inputs and a closure that records the launches
// from dy to the inputs' gradients. The closure keeps alive what it needs; nothing is declared twice.
import { accumulateShader } from '../shaders/accumulate.js';
import { fillShader } from '../shaders/fill.js';
import type { Storage } from './memory.js';
import { ShapeError, sameShape, show } from './shape.js';
import { run } from './stream.js';
import { empty, type GradientFlow, packOf, partsOf, type Tensor } from './tensor.js';

let enabled = true;
let nodes = 0;

/** Runs `work` without remembering how results were made (teacher, evaluation, optimizers). */
export function noGrad<T>(work: () => T): T {
  const before = enabled;
  enabled = false;
  try {
    return work();
  } finally {
    enabled = before;
  }
}

const tracks = (x: Tensor): boolean => x.requiresGrad || x.node !== undefined;

/**
 * Says how `y` came from `inputs`. `backward` gets dy and, per input, whether a gradient is wanted; it returns gradients of
 * the inputs' shapes (undefined where none is wanted or none exists). Returns y.
 */
export function record(
  name: string,
  y: Tensor,
  inputs: readonly Tensor[],
  backward: (dy: Tensor, needs: boolean[], flow: GradientFlow) => (Tensor | undefined)[],
): Tensor {
  if (enabled && inputs.some(tracks)) y.node = { id: nodes++, name, inputs, backward };
  return y;
}

/** Packed gradients of the backward pass that is being recorded: by the parameters' storage, the flat tensor and its free parts. */
let packedGradients = new Map<Storage, { flat: Tensor; free: Map<Tensor, Tensor> }>();

/** Where the gradient of x goes: beside the others if x is packed (the first one of it), else a tensor of its own. f32. */
export function gradientLike(x: Tensor): Tensor {
  const pack = packOf(x);
  if (!pack?.tensors.includes(x)) return empty(x.gpu, x.shape, 'f32', `d${x.label}`);
  let gradients = packedGradients.get(x.storage);
  if (!gradients) {
    const flat = empty(x.gpu, pack.flat.shape, 'f32', 'gradients');
    run(fillShader('f32', 0), { y: flat }, { threads: flat.size }); // between the parameters nothing else writes
    const parts = partsOf(flat, pack.tensors);
    gradients = { flat, free: new Map(pack.tensors.map((t, i) => [t, parts[i]!])) };
    packedGradients.set(x.storage, gradients);
  }
  const place = gradients.free.get(x);
  gradients.free.delete(x);
  return place ?? empty(x.gpu, x.shape, 'f32', `d${x.label}`);
}

/** Gradients of leaves, and of results that were marked `requiresGrad`. */
export class Gradients {
  readonly #of = new Map<Tensor, Tensor>();

  /** The gradient of the loss with respect to `x`, of x's shape; undefined when the loss does not depend on it. */
  get(x: Tensor): Tensor | undefined {
    return this.#of.get(x);
  }

  /** @internal By the storage of packed parameters: their gradients as one tensor of the same layout. */
  packed: ReadonlyMap<Storage, { flat: Tensor }> = new Map();

  /** @internal */
  add(x: Tensor, dx: Tensor): void {
    const before = this.#of.get(x);
    if (!before) {
      this.#of.set(x, dx);
      return;
    }
    const sum = empty(x.gpu, x.shape, x.dtype, before.label);
    const width = x.size % 4 === 0 ? 4 : 1;
    run(accumulateShader(x.dtype as 'f32', width), { a: before, b: dx, sum }, { threads: x.size / width });
    this.#of.set(x, sum);
  }

  /** @internal */
  drop(x: Tensor): void {
    this.#of.delete(x);
  }
}

/**
 * Records the gradient of `loss` (shape []) with respect to everything it was made from that leads to a parameter.
 * `seed` replaces d(loss) = 1, and then `loss` may have any shape.
 */
export function backward(loss: Tensor, seed?: Tensor): Gradients {
  if (loss.size !== 1 && !seed) {
    throw new ShapeError(
      `backward: the loss must be one number — got ${show(loss.shape)}. Reduce it with mean() or sum().`,
    );
  }
  if (!tracks(loss)) {
    throw new ShapeError(
      'backward: the loss depends on no parameter. Set requiresGrad, and do not call it under noGrad.',
    );
  }
  const reached = new Set<Tensor>();
  const stack = [loss];
  const uses = new Map<Tensor, number>(); // whose closures have not run yet
  for (let y = stack.pop(); y; y = stack.pop()) {
    if (reached.has(y)) continue;
    reached.add(y);
    for (const x of y.node?.inputs ?? []) {
      if (!tracks(x)) continue;
      stack.push(x);
      uses.set(x, (uses.get(x) ?? 0) + 1);
    }
  }
  const gradients = new Gradients();
  packedGradients = new Map();
  noGrad(() => {
    if (!seed) {
      seed = empty(loss.gpu, loss.shape, loss.dtype, 'dloss');
      run(fillShader(loss.dtype as 'f32', 1), { y: seed }, { threads: 1 });
    }
    gradients.add(loss, seed);
    const ordered = [...reached].filter((y) => y.node).sort((a, b) => b.node!.id - a.node!.id);
    for (const y of ordered) {
      const { name, inputs, backward: closure } = y.node!;
      const dy = gradients.get(y);
      if (!y.requiresGrad) gradients.drop(y);
      const needs = inputs.map(tracks);
      const flow: GradientFlow = {
        last: (i) => uses.get(inputs[i]!) === 1 && !inputs[i]!.requiresGrad,
        take: (i) => {
          const sum = gradients.get(inputs[i]!);
          gradients.drop(inputs[i]!);
          return sum;
        },
      };
      const dxs = dy ? closure(dy, needs, flow) : [];
      for (const x of inputs) if (uses.has(x)) uses.set(x, uses.get(x)! - 1);
      dxs.forEach((dx, i) => {
        const x = inputs[i]!;
        if (!dx || !needs[i]) return;
        if (!sameShape(dx.shape, x.shape)) {
          throw new ShapeError(`${name}: gradient ${i} has shape ${show(dx.shape)}, its input has ${show(x.shape)}.`);
        }
        gradients.add(x, dx);
      });
    }
  });
  gradients.packed = packedGradients;
  packedGradients = new Map();
  return gradients;
}
