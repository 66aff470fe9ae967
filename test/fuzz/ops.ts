// How every op is drawn: a row for each family. A row makes one call of the op that it is asked for, on what the program has so far,
// and what the op needs beside it; values that have no gradient are joined to some that do.
import { type Draft, isImage, type Value } from './draft.js';
import { attention, gathering, matmul, views } from './draw-axes.js';
import { crops, generalConv, pool, resize } from './draw-images.js';
import {
  axesOf,
  axisOf,
  floats,
  image,
  integers,
  optional,
  positive,
  ranked,
  some,
  turned,
  used,
  wholeTypes,
  written,
} from './draw-operands.js';
import { activation, norm, numbers, partner, small, upsampled } from './layers.js';
import { type Argument, gpu, random } from './program.js';
import type { Real } from './reference.js';
import { same } from './shapes.js';

export interface Row {
  /** How often the row is drawn, beside the moves. */
  readonly weight: number;
  readonly names: readonly string[];
  readonly draw: (d: Draft, name: string) => unknown;
}

function labelled(d: Draft, name: string): Value {
  const x = floats(d, ({ shape }) => shape.length >= 2 && shape.at(-1)! >= 2 && shape.at(-1)! <= 8);
  const classes = d.shape(x).at(-1)!;
  // Some labels are no class.
  const labels = d.leaf('labels', d.shape(x).slice(0, -1), 0, d.of([classes, classes + 1]));
  const options = some(d, {
    ignoreIndex: () => 1,
    ...(name === 'diceLoss'
      ? { classes: () => 'foreground', epsilon: () => 0.5 }
      : { labelSmoothing: () => 0.25, weights: () => d.leaf('input', [classes], 0.5, 1.5) }),
  });
  return d.call(name, x, labels, ...optional(options));
}

function randomized(d: Draft, name: string): Value {
  if (name === 'gaussianNoise') return d.call('gaussianNoise', floats(d), { std: 0.1, clip: 0.2, random });
  if (name === 'dropout') {
    const x = floats(d, ranked(2));
    return d.chance(0.6) ? d.call('dropout', x, 0.5, random, { per: 'channel' }) : d.call('dropout', x, 0.5, random);
  }
  const x = d.pick(({ shape }) => shape.length > 0);
  const limits: { [option: string]: Argument } =
    name === 'randomUniform' ? { low: -1, high: 2 } : { mean: 0.5, std: 0.25 };
  const y = d.call(name, gpu, [...d.shape(x)], { random, ...(d.chance(0.5) && limits) });
  return d.call(d.of(['mul', 'add']), x, y);
}

/** State that the step reads, then writes: its next call reads that. */
function delayed(d: Draft): Value {
  const x = floats(d, ({ shape }) => shape.length > 0);
  const state = d.leaf('running', d.shape(x), -1, 1);
  const y = d.call(d.of(['add', 'sub']), ...turned(d, x, state));
  const next = d.of([
    () => x,
    () => y,
    () => d.call('mul', y, 0.5),
    () => floats(d, (v) => same(v.shape, d.shape(x))),
  ])();
  const assigned = d.call('assign', state, next);
  return d.chance(0.5) ? d.call('mul', d.parameter(d.shape(x), 1), assigned) : y;
}

export const rows: readonly Row[] = [
  {
    ...{ weight: 4, names: ['neg', 'abs', 'square', 'sin', 'cos', 'erf', 'tanh', 'sigmoid', 'silu', 'softplus'] },
    draw: (d, name) => d.call(name, floats(d)),
  },
  {
    ...{ weight: 1, names: ['floor', 'ceil', 'round', 'sign'] },
    draw: (d, name) => {
      const x = floats(d);
      return d.call('mul', d.call(name, d.chance(0.5) ? x : d.call('mul', x, 2)), x);
    },
  },
  {
    ...{ weight: 2, names: ['log', 'sqrt', 'rsqrt', 'reciprocal'] },
    draw: (d, name) => d.call(name, positive(d, floats(d))),
  },
  {
    ...{ weight: 2, names: ['clamp', 'exp'] },
    draw: (d, name) => {
      const y = d.call('clamp', floats(d), -0.75, 1.25);
      return name === 'exp' ? d.call('exp', y) : y;
    },
  },
  {
    ...{ weight: 1, names: ['gelu'] },
    draw: (d) => d.call('gelu', floats(d), ...(d.chance(0.5) ? [{ approximate: 'tanh' }] : [])),
  },
  {
    weight: 3,
    names: ['relu', 'leakyRelu'],
    draw: (d, name) => d.call(name, d.pick(isImage), ...(name === 'relu' ? [] : [0.2])),
  },
  {
    ...{ weight: 6, names: ['add', 'sub', 'mul', 'minimum', 'maximum'] },
    draw: (d, name) => {
      const x = floats(d);
      return d.call(name, ...turned(d, x, d.chance(0.3) ? d.of(numbers) : partner(d, x)));
    },
  },
  {
    ...{ weight: 2, names: ['div', 'pow'] },
    draw: (d, name) => {
      const x = d.pick();
      const y = d.chance(0.4) ? d.of(numbers) : partner(d, x);
      if (name === 'div') return d.call('div', y, positive(d, x));
      return d.call('pow', positive(d, x), typeof y === 'number' ? y : d.call('clamp', y, -1.5, 1.5));
    },
  },
  {
    ...{ weight: 3, names: ['equal', 'notEqual', 'less', 'lessEqual', 'greater', 'greaterEqual'] },
    draw: (d, name) => {
      const x = d.chance(0.3) ? d.pickInteger() : floats(d);
      const y = d.real(x).integer ? d.below(4) : d.chance(0.4) ? d.of(numbers) : partner(d, x);
      return used(d, d.call(name, ...turned(d, x, y)));
    },
  },
  {
    ...{ weight: 2, names: ['where'] },
    draw: (d) => {
      const x = floats(d);
      const mask = d.call(
        'greater',
        d.pick((v) => same(v.shape, d.shape(x))),
        0,
      );
      return d.call('where', mask, ...turned(d, x, d.chance(0.3) ? d.of(numbers) : partner(d, x)));
    },
  },
  {
    ...{ weight: 2, names: ['bitAnd', 'bitOr', 'bitXor', 'remainder', 'shiftLeft', 'shiftRight'] },
    draw: (d, name) => {
      const x = integers(d, name.startsWith('bit') ? wholeTypes : ['u32', 'i32']);
      const { integer, shape } = d.real(x);
      const like = (v: Real): boolean => v.integer === integer && same(v.shape, shape);
      const y = d.chance(0.5) || name.startsWith('shift') ? 1 + d.below(5) : d.pickInteger(like);
      const z = d.call(name, ...(name.startsWith('bit') ? turned(d, x, y) : [x, y]));
      return used(d, name === 'shiftLeft' ? d.call('remainder', z, 7) : z);
    },
  },
  {
    ...{ weight: 1, names: ['cast'] },
    draw: (d) => {
      const x = integers(d, ['u32', 'i32']);
      const { integer, shape } = d.real(x);
      const y = d.chance(0.5) ? 3 : d.pickInteger((v) => v.integer === integer && same(v.shape, shape));
      const z = d.call(d.of(['add', 'sub', 'mul', 'div', 'minimum', 'maximum']), x, y);
      const rank = shape.length;
      const w = rank && d.chance(0.4) ? d.call(d.of(['sum', 'max', 'min', 'prod']), z, [d.below(rank)]) : z;
      return used(d, d.call('cast', w, d.of(['u8', 'i32', 'u32'])));
    },
  },
  {
    ...{ weight: 4, names: ['sum', 'mean', 'max', 'min', 'prod', 'variance', 'std'] },
    draw: (d, name) => {
      const x = floats(d, ranked(1));
      const options = some(d, {
        keepDims: () => true,
        ...((name === 'variance' || name === 'std') && { correction: () => 0 }),
      });
      if (name === 'prod')
        return d.call('prod', d.call('clamp', x, -1.25, 1.25), d.below(d.shape(x).length), ...optional(options));
      return d.call(name, x, ...axesOf(d, x), ...optional(options));
    },
  },
  {
    ...{ weight: 2, names: ['cumsum'] },
    draw: (d) => {
      const x = floats(d, ranked(1));
      const options = some(d, { exclusive: () => true, reverse: () => true });
      return d.call('cumsum', x, written(d, x, axisOf(d, x)), ...optional(options));
    },
  },
  {
    ...{ weight: 2, names: ['topK'] },
    draw: (d) => {
      const x = floats(d, ranked(1));
      const axis = axisOf(d, x);
      const k = 1 + d.below(d.shape(x)[axis]!);
      const options = { axis, ...some(d, { largest: () => false }) };
      const indices = d.part('indices', 'topK', x, k, options);
      const values = d.part('values', 'topK', x, k, options);
      return d.chance(0.5) ? values : d.call('mul', values, d.call('cast', indices, 'f32'));
    },
  },
  {
    ...{ weight: 1, names: ['argmax', 'argmin'] },
    draw: (d, name) => {
      const x = floats(d, ranked(2));
      return used(d, d.call(name, x, ...(d.chance(0.5) ? [] : [axisOf(d, x)])));
    },
  },
  { weight: 6, names: Object.keys(views), draw: (d, name) => views[name]!(d) },
  { weight: 3, names: ['gather', 'embedding', 'scatterAdd', 'oneHot'], draw: gathering },
  { weight: 3, names: ['matmul'], draw: matmul },
  { weight: 2, names: ['attention'], draw: attention },
  {
    ...{ weight: 2, names: ['softmax', 'logSoftmax'] },
    draw: (d, name) =>
      d.call(
        name,
        floats(d, (x) => x.shape.length >= 1 && x.shape.at(-1)! > 1),
      ),
  },
  {
    ...{ weight: 6, names: ['conv', 'convTranspose'] },
    draw: (d, name) => {
      const y = generalConv(d, name);
      return d.chance(0.4) && isImage(d.real(y)) ? activation(d, y) : y;
    },
  },
  { weight: 5, names: ['maxPool', 'averagePool'], draw: pool },
  {
    weight: 3,
    names: ['upsample'],
    draw: (d) =>
      upsampled(
        d,
        d.pick((x) => isImage(x) && small(x)),
      ),
  },
  { weight: 3, names: ['resize'], draw: resize },
  { weight: 1, names: ['crop', 'addCrops'], draw: crops },
  { weight: 4, names: ['batchNorm', 'instanceNorm', 'normActivation'], draw: (d, name) => norm(d, image(d), name) },
  {
    ...{ weight: 3, names: ['layerNorm', 'groupNorm'] },
    draw: (d, name) => {
      const x = floats(d, ranked(2));
      const channels = d.shape(x).at(-1)!;
      const [gamma, beta] = [d.parameter([channels], 0.5, 1), d.parameter([channels], 0.5)];
      if (name === 'layerNorm') return d.call(name, x, gamma, beta);
      return d.call(name, x, d.of([1, 2, 4].filter((g) => channels % g === 0)), gamma, beta);
    },
  },
  { weight: 2, names: ['crossEntropy', 'diceLoss'], draw: labelled },
  {
    ...{ weight: 2, names: ['meanSquaredError', 'huberLoss', 'binaryCrossEntropy'] },
    draw: (d, name) => {
      const x = floats(d);
      const y = d.pick((v) => same(v.shape, d.shape(x)));
      const options = name === 'huberLoss' && d.chance(0.5) ? [{ delta: 0.5 }] : [];
      return d.call(name, x, name === 'binaryCrossEntropy' ? d.call('sigmoid', y) : y, ...options);
    },
  },
  { weight: 3, names: ['dropout', 'gaussianNoise', 'randomUniform', 'randomNormal'], draw: randomized },
  { weight: 2, names: ['assign'], draw: delayed },
  {
    ...{ weight: 1, names: ['detach'] },
    draw: (d) => {
      const x = floats(d);
      return d.call(d.of(['sub', 'mul']), d.call('detach', x), partner(d, x));
    },
  },
];

/** Ops that are no calls of a program: what steps its parameters, and what it draws from. */
export const around = ['createSgd', 'createAdamW', 'clipGradients', 'createLossScale', 'ema', 'createRandom'] as const;

/** Ops that no program has, and why. */
export const left: Readonly<Record<string, string>> = {
  cropTable: 'makes the numbers of a table on the CPU, from which crops are drawn here',
  fromImage: 'needs a picture of the browser; it has no gradient',
  cosineSchedule: 'computes a JavaScript number',
  polynomialSchedule: 'computes a JavaScript number',
};
