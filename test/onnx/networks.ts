// Rows of ONNX's table: layers of networks, losses, random numbers and optimizers. Images and weights of convolutions come with their
// channels last, as wgrad has them; the other layout is a matter of loading, not of an op.
import type { maxPool, Tensor } from '../../engine/index.js';
import { ChannelsLast, type Node, type Result, type Rows, w } from './node.js';
import { notOffered } from './vectors.js';

/** softmax or logSoftmax along any axis. */
function along(n: Node, f: (x: Tensor) => Tensor): Tensor {
  const [x, axis] = [n.x(), n.axis(-1)];
  if (axis === x.shape.length - 1) return f(x);
  return w.transpose(f(w.transpose(x, axis, -1)), axis, -1);
}

/** The axes of pixels of x [N, C, …]. */
const pixelAxes = (x: Tensor): number[] => x.shape.map((_, axis) => axis).slice(2);

/** Stride, dilation and groups of a convolution with a kernel of `rank` axes. */
function convOptions(n: Node, rank: number) {
  const [stride, dilation] = ['strides', 'dilations'].map((name) => n.numbers(name) ?? Array<number>(rank).fill(1));
  return { stride: stride!, dilation: dilation!, groups: n.number('group', 1) };
}

function conv(n: Node): Result {
  const kernel = n.inputs[1]!.shape.slice(2);
  const options = convOptions(n, kernel.length);
  const pads = padding(n, kernel, options.stride, options.dilation);
  const bias = n.has(2) ? n.x(2) : undefined;
  return new ChannelsLast(w.conv(n.channelsLast(0), n.channelsLast(1), bias, { ...options, padding: pads }));
}

/** Pads, or an output's shape, say what is cut off. */
function convTranspose(n: Node): Result {
  const { shape } = n.inputs[1]!;
  const kernel = shape.slice(2);
  const { groups, ...options } = convOptions(n, kernel.length);
  if (groups > 1) notOffered('weights of groups in this order');
  const more = n.numbers('output_padding') ?? kernel.map(() => 0);
  const auto = n.text('auto_pad', 'NOTSET');
  const sizes = n.inputs[0]!.shape.slice(2);
  const wanted =
    n.numbers('output_shape') ?? (auto.startsWith('SAME') && sizes.map((size, i) => size * options.stride[i]!));
  const given = n.numbers('pads') ?? [...kernel, ...kernel].fill(0);
  const whole = kernel.map(
    (k, i) => (sizes[i]! - 1) * options.stride[i]! + more[i]! + (k - 1) * options.dilation[i]! + 1,
  );
  const pads = whole.map((size, i): [number, number] => {
    if (!wanted) return [given[i]!, given[i + kernel.length]!];
    const all = Math.max(0, size - wanted[i]!);
    const half = Math.floor(all / 2);
    return auto === 'SAME_UPPER' ? [half, all - half] : [all - half, half];
  });
  const outputPadding = more.map((size, i) => size + (wanted ? Math.max(0, wanted[i]! - whole[i]!) : 0));
  const weight = n.weightOfTransposed();
  const bias = n.has(2) ? n.x(2) : undefined;
  const result = w.convTranspose(n.channelsLast(0), weight, bias, { ...options, outputPadding, padding: pads });
  return new ChannelsLast(result);
}

/** [before, after] of each axis, as attributes say. */
function padding(n: Node, kernel: readonly number[], strides: readonly number[], dilation: readonly number[]) {
  const pads = n.numbers('pads') ?? kernel.flatMap(() => [0, 0]);
  const auto = n.text('auto_pad', 'NOTSET');
  return kernel.map((k, i): [number, number] => {
    if (!auto.startsWith('SAME')) return [pads[i]!, pads[i + kernel.length]!];
    const [size, stride] = [n.inputs[0]!.shape[i + 2]!, strides[i]!];
    const all = Math.max(0, (Math.ceil(size / stride) - 1) * stride + (k - 1) * dilation[i]! + 1 - size);
    const few = Math.floor(all / 2);
    return auto === 'SAME_UPPER' ? [few, all - few] : [all - few, few];
  });
}

function pool(n: Node, f: typeof maxPool): Result {
  const window = n.numbers('kernel_shape')!;
  const [stride, dilation] = [n.numbers('strides'), n.numbers('dilations')].map((list) => list ?? window.map(() => 1));
  const options = { window, stride: stride!, dilation: dilation!, padding: padding(n, window, stride!, dilation!) };
  if (n.outputs.length > 1) notOffered('indices of the maxima');
  const x = n.channelsLast();
  const isFloat = x.dtype === 'f32';
  const y = f(isFloat ? x : w.cast(x, 'f32'), { ...options, ceil: n.number('ceil_mode', 0) === 1 });
  return new ChannelsLast(isFloat ? y : w.cast(y, x.dtype));
}

/** Any size, where ONNX's positions, weights and ties are those of `resize`. */
function resize(n: Node): Result {
  const [mode, where] = [n.text('mode', 'nearest'), n.text('coordinate_transformation_mode', 'half_pixel')];
  const [scales, sizes] = [n.given(2), n.given(3)].map((list) => (list?.length ? list.slice(2) : undefined));
  const inputs = n.inputs[0]!.shape.slice(2);
  const outputs = sizes ?? scales!.map((scale, i) => Math.floor(inputs[i]! * scale));
  const isAligned = where === 'align_corners';
  if (!isAligned && !where.endsWith('half_pixel')) notOffered(`positions '${where}'`);
  if (where.startsWith('pytorch') && outputs.includes(1)) notOffered('the first pixel as the position of a single one');
  if (isAligned && scales?.some((scale, i) => outputs[i] !== inputs[i]! * scale)) {
    notOffered('corners aligned to a size that is no whole number');
  }
  const nearest = n.text('nearest_mode', 'round_prefer_floor');
  const hasTies = outputs.some((m, i) => {
    const ratio = scales ? 1 / scales[i]! : inputs[i]! / m;
    const positions = Array.from({ length: m }, (_, at) => (at + 0.5) * ratio);
    return !isAligned && positions.some((position) => Number.isInteger(position));
  });
  if (mode === 'nearest' && nearest !== 'round_prefer_ceil') {
    if (nearest !== 'round_prefer_floor') notOffered(`pixels by '${nearest}'`);
    if (hasTies || isAligned) notOffered('the earlier of two pixels as near');
  }
  if (n.number('exclude_outside', 0)) notOffered('weights that leave out what lies outside');
  if (mode === 'cubic' && n.number('cubic_coeff_a', -0.75) !== -0.75) notOffered('another coefficient than −0.75');
  const options = { mode: mode as 'nearest' | 'linear' | 'cubic', alignCorners: isAligned };
  return new ChannelsLast(w.resize(n.channelsLast(), sizes ?? { scale: scales! }, options));
}

function gemm(n: Node): Tensor {
  const transposed = { transposeA: n.number('transA', 0) === 1, transposeB: n.number('transB', 0) === 1 };
  const [alpha, beta] = [n.number('alpha', 1), n.number('beta', 1)];
  const product = w.matmul(n.x(0), n.x(1), transposed);
  const scaled = alpha === 1 ? product : w.mul(product, alpha);
  if (!n.has(2)) return scaled;
  return w.add(scaled, beta === 1 ? n.x(2) : w.mul(n.x(2), beta));
}

/** Cross-entropy of x [N, C, …]: the loss, and log softmax where it is asked for. */
function crossEntropy(n: Node): Result[] {
  if (n.text('reduction', 'mean') !== 'mean') notOffered('other reductions than the mean');
  const ignoreIndex = n.number('ignore_index', -1);
  const [logits, labels] = [n.channelsLast(0), n.x(1)];
  const loss = w.crossEntropy(logits, labels, n.has(2) ? { ignoreIndex, weights: n.x(2) } : { ignoreIndex });
  return n.outputs.length > 1 ? [loss, new ChannelsLast(w.logSoftmax(logits))] : [loss];
}

/** Layer norm over the axes from `axis` on, its mean and the reciprocal of its deviation. */
function layerNorm(n: Node): Tensor[] {
  const [x, axis, epsilon] = [n.x(), n.axis(-1), n.number('epsilon', 1e-5)];
  const [lead, axes] = [x.shape.slice(0, axis), x.shape.map((_, i) => i).slice(axis)];
  const isLast = axes.length === 1;
  const flat = (t: Tensor, shape: readonly number[]): Tensor => (isLast ? t : w.reshape(t, shape));
  const y = w.layerNorm(flat(x, [...lead, -1]), flat(n.x(1), [-1]), flat(n.x(2), [-1]), { epsilon });
  const variance = w.variance(x, axes, { correction: 0, keepDims: true });
  return [flat(y, x.shape), w.mean(x, axes, { keepDims: true }), w.rsqrt(w.add(variance, epsilon))];
}

/** Response normalisation over neighbouring channels: their squares are summed by a product with a band of ones. */
function responseNorm(n: Node): ChannelsLast {
  const x = n.channelsLast();
  const [channels, size] = [x.shape.at(-1)!, n.number('size', 1)];
  const [before, behind] = [Math.floor((size - 1) / 2), Math.ceil((size - 1) / 2)];
  const band = Array.from({ length: channels * channels }, (_, i) => {
    const [from, to] = [Math.floor(i / channels), i % channels];
    return from >= to - before && from <= to + behind ? 1 : 0;
  });
  const sums = w.matmul(w.square(x), n.constant(band, [channels, channels]));
  const base = w.add(w.mul(sums, n.number('alpha', 1e-4) / size), n.number('bias', 1));
  return new ChannelsLast(w.div(x, w.pow(base, n.number('beta', 0.75))));
}

/** Scales and zero points along an axis of x, as a shape that broadcasts. */
function perAxis(n: Node, i: number): Tensor {
  const t = n.x(i);
  return t.shape.length
    ? w.reshape(
        t,
        n.x().shape.map((size, axis) => (axis === n.axis(1) ? size : 1)),
      )
    : t;
}

const noKernel = 'no kernel for it';
const recurrent = 'no recurrent cell: write the loop in JavaScript, with `matmul`, `sigmoid`, `tanh`';
const quantised = 'no kernels of quantised numbers';

export const networks: Rows = {
  Adagrad: 'another optimizer',
  Adam: '`createAdamW` decouples the decay: another formula',
  AveragePool: [
    '`averagePool(x, { window, stride, padding, ceil, countPadding })`',
    (n) =>
      pool(n, (x, options) => w.averagePool(x, { ...options, countPadding: n.number('count_include_pad', 0) === 1 })),
  ],
  BatchNormalization: [
    '`batchNorm(x, γ, β, { mode, running })`',
    (n) => {
      if (n.number('training_mode', 0))
        notOffered('running variance by the biased one: wgrad has the unbiased one, as PyTorch');
      const running = { mean: n.x(3), variance: n.x(4) };
      const options = { mode: 'eval', running, epsilon: n.number('epsilon', 1e-5) } as const;
      return new ChannelsLast(w.batchNorm(n.channelsLast(), n.x(1), n.x(2), options));
    },
  ],
  Bernoulli: [
    '`less(randomUniform(gpu, x.shape, { random }), x)`',
    () => notOffered("the expected numbers are another generator's"),
  ],
  Conv: ['`conv(x, weight, bias, { stride, padding, dilation, groups })`', conv],
  ConvInteger: quantised,
  ConvTranspose: ['`convTranspose(x, weight, bias, { stride, padding, outputPadding, dilation })`', convTranspose],
  DequantizeLinear: [
    "`mul(sub(cast(x, 'f32'), cast(zero, 'f32')), scale)`; scales of an axis through `reshape`",
    (n) => {
      const zero = n.has(2) ? w.cast(perAxis(n, 2), 'f32') : 0;
      return w.mul(w.sub(w.cast(n.x(), 'f32'), zero), perAxis(n, 1));
    },
  ],
  Dropout: [
    '`detach(x)`, or x itself; in training `dropout(x, rate, random)`',
    (n) => {
      if (n.outputs.length > 1) notOffered('the mask');
      if (n.given(2)?.[0] && n.given(1)?.[0] !== 0) notOffered("the expected numbers are another generator's");
      return w.detach(n.x());
    },
  ],
  DynamicQuantizeLinear: quantised,
  Gemm: ['`add(matmul(a, b, { transposeA, transposeB }), c)`; factors with `mul`', gemm],
  GlobalAveragePool: [
    '`mean(x, pixelAxes, { keepDims: true })`',
    (n) => w.mean(n.x(), pixelAxes(n.x()), { keepDims: true }),
  ],
  GlobalLpPool: ['`pow(sum(pow(abs(x), p), pixelAxes, { keepDims: true }), 1 / p)`'],
  GlobalMaxPool: ['`max(x, pixelAxes, { keepDims: true })`', (n) => w.max(n.x(), pixelAxes(n.x()), { keepDims: true })],
  Gradient: ['`backward(y).get(x)`'],
  GridSample: noKernel,
  GRU: recurrent,
  InstanceNormalization: [
    '`instanceNorm(x, γ, β)`',
    (n) => new ChannelsLast(w.instanceNorm(n.channelsLast(), n.x(1), n.x(2), { epsilon: n.number('epsilon', 1e-5) })),
  ],
  LayerNormalization: [
    '`layerNorm(x, γ, β)`; over several axes with `reshape`; mean and deviation with `mean` and `variance`',
    layerNorm,
  ],
  LogSoftmax: ['`logSoftmax(x)`; along another axis with `transpose`', (n) => along(n, (x) => w.logSoftmax(x))],
  LpNormalization: ['`div(x, sqrt(sum(square(x), axis, { keepDims: true })))`'],
  LpPool: ['`pow(mul(averagePool(pow(abs(x), p), { window, countPadding: true }), count), 1 / p)`'],
  LRN: ['`div(x, pow(add(mul(matmul(square(x), band), α / n), k), β))`', responseNorm],
  LSTM: recurrent,
  MatMul: ['`matmul(a, b)`', (n) => w.matmul(n.x(0), n.x(1))],
  MatMulInteger: quantised,
  MaxPool: [
    '`maxPool(x, { window, stride, padding, dilation, ceil })`; integers through `cast`',
    (n) => pool(n, (x, options) => w.maxPool(x, options)),
  ],
  MaxRoiPool: noKernel,
  MaxUnpool: noKernel,
  MeanVarianceNormalization: [
    '`div(sub(x, mean(x, axes, { keepDims: true })), std(x, axes, { correction: 0, keepDims: true }))`',
    (n) => {
      const [x, axes] = [n.x(), n.numbers('axes') ?? [0, 2, 3]];
      const centred = w.sub(x, w.mean(x, axes, { keepDims: true }));
      return w.div(centred, w.std(x, axes, { correction: 0, keepDims: true }));
    },
  ],
  Momentum: '`createSgd(parameters, { momentum })`: takes the gradients of `backward`, not tensors',
  Multinomial: 'no draws of classes',
  NegativeLogLikelihoodLoss: [
    '`crossEntropy(x, labels)`: log-probabilities are their own log softmax',
    () => notOffered('inputs that are no log-probabilities'),
  ],
  QLinearConv: quantised,
  QLinearMatMul: quantised,
  QuantizeLinear: [
    "`cast(add(round(div(x, scale)), zero), 'u8')`; scales of an axis through `reshape`",
    (n) => {
      const steps = w.round(w.div(n.x(), perAxis(n, 1)));
      return w.cast(n.has(2) ? w.add(steps, w.cast(perAxis(n, 2), 'f32')) : steps, 'u8');
    },
  ],
  RandomNormal: ['`randomNormal(gpu, shape, { random, mean, std })`'],
  RandomNormalLike: ['`randomNormal(gpu, x.shape, { random, mean, std })`'],
  RandomUniform: ['`randomUniform(gpu, shape, { random, low, high })`'],
  RandomUniformLike: ['`randomUniform(gpu, x.shape, { random, low, high })`'],
  Resize: ['`resize(x, size, { mode, alignCorners })`', resize],
  RNN: recurrent,
  RoiAlign: noKernel,
  Softmax: ['`softmax(x)`; along another axis with `transpose`', (n) => along(n, (x) => w.softmax(x))],
  SoftmaxCrossEntropyLoss: ['`crossEntropy(logits, labels, { ignoreIndex, weights })`', crossEntropy],
  Upsample: [
    "`resize(x, { scale }, { mode: 'nearest' })`",
    (n) => {
      const mode = n.text('mode', 'nearest') as 'nearest' | 'linear';
      return new ChannelsLast(w.resize(n.channelsLast(), { scale: n.given(1)!.slice(2) }, { mode }));
    },
  ],
};
