// What the ONNX files of all networks share: weights that are checked by name and shape, convolutions with the batch norms behind them,
// and what comes out. ONNX uses PyTorch's names and layout, so no number changes.

import { show } from '../../engine/custom.js';
import { ShapeError } from '../../engine/index.js';
import { Graph } from './graph.js';

/** Weights under PyTorch's names (`encoder.in_conv.conv_conv.0.weight`) in PyTorch's layout ([O, I, kH, kW]). */
export type OnnxWeights = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;

/** Sizes of a network, read from its weights. */
export interface NetworkSizes {
  readonly inChannels: number;
  readonly classes: number;
  readonly features: readonly number[];
  /** The image's sides must be multiples of this number. */
  readonly multiple: number;
  /** 2: images; 3: volumes. */
  readonly rank: 2 | 3;
}

/** Options of the ONNX file. */
export interface OnnxOptions {
  /** Folds batch norms into the convolutions before them; default false, since runtimes do that themselves when they load the file. */
  readonly fold?: boolean;
  /** Named texts that are stored in the file (metadata_props). */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Version of the program that writes the file. */
  readonly version?: string;
}

/** A convolution with bias: kernel and stride along each axis, and the norm that follows it, if one does. */
export interface OnnxConvolution {
  readonly inputs: number;
  readonly outputs: number;
  readonly kernel: number;
  readonly stride?: number;
  readonly transposed?: boolean;
  readonly norm?: string;
}

const epsilon = 1e-5;

/** The axes of an image or a volume, after batch and channels. */
export const axesOf = ({ rank }: Pick<NetworkSizes, 'rank'>): string[] => ['depth', 'height', 'width'].slice(3 - rank);

/** Begins the graph of a network: its input `image` [batch, inChannels, …axes], and the ways to go on. */
export function onnxNetwork(
  op: string,
  weights: OnnxWeights,
  { inChannels, classes, features, multiple }: NetworkSizes,
  { name, axes, fold = false, metadata = {}, version = '' }: OnnxOptions & { name: string; axes: readonly string[] },
) {
  const graph = new Graph(name.toLowerCase().replace('-', ''));
  const get = checked(op, weights);
  const sides = `${axes.slice(0, -1).join(', ')} and ${axes.at(-1)} are multiples of ${multiple}`;
  const image = graph.input({
    name: 'image',
    type: 'float',
    shape: ['batch', inChannels, ...axes],
    doc: `${sides}; values scaled as in training`,
  });

  /** Adds a convolution, and its norm; returns the result's name. */
  const conv = (x: string, at: string, of: OnnxConvolution): string => {
    const { inputs, outputs, kernel, stride = 1, transposed = false, norm } = of;
    const kernels = axes.map(() => kernel);
    const shape = [...(transposed ? [inputs, outputs] : [outputs, inputs]), ...kernels];
    let weight = get(`${at}.weight`, shape);
    let bias = get(`${at}.bias`, [outputs]);
    const [gamma, beta, mean, variance] = norm
      ? ['weight', 'bias', 'running_mean', 'running_var'].map((which) => get(`${norm}.${which}`, [outputs]))
      : [];
    if (norm && fold) {
      // γ (W∗x + b − μ)/√(σ² + ε) + β = (s W)∗x + s (b − μ) + β with s = γ/√(σ² + ε)
      const scale = Float64Array.from(gamma!, (g, o) => g / Math.sqrt(variance![o]! + epsilon));
      const taps = kernel ** axes.length;
      const perOutput = transposed ? taps : taps * inputs;
      weight = weight.map((w, i) => w * scale[Math.floor(i / perOutput) % outputs]!);
      bias = bias.map((b, o) => (b - mean![o]!) * scale[o]! + beta![o]!);
    }
    const constants = [graph.constant(`${at}.weight`, shape, weight), graph.constant(`${at}.bias`, [outputs], bias)];
    const pad = Math.floor((kernel - 1) / 2);
    const y = graph.node(transposed ? 'ConvTranspose' : 'Conv', at, [x, ...constants], {
      kernel_shape: kernels,
      pads: [...axes, ...axes].map(() => pad),
      ...(stride > 1 && { strides: axes.map(() => stride) }),
    });
    if (!norm || fold) return y;
    const statistics = [
      graph.constant(`${norm}.weight`, [outputs], gamma!),
      graph.constant(`${norm}.bias`, [outputs], beta!),
      graph.constant(`${norm}.running_mean`, [outputs], mean!),
      graph.constant(`${norm}.running_var`, [outputs], variance!),
    ];
    return graph.node('BatchNormalization', norm, [y, ...statistics], { epsilon: { float: epsilon } });
  };

  /** Declares what is made of the last convolution's result, and returns the file's bytes. */
  const finish = (last: string): Uint8Array<ArrayBuffer> => {
    get.finish();
    const logits = graph.node('Identity', 'logits', [last]);
    const probabilities = graph.node('Softmax', 'probabilities', [logits], { axis: { int: 1 } });
    const best = graph.node('ArgMax', 'argmax', [logits], { axis: { int: 1 }, keepdims: { int: 0 } });
    const labels = graph.node('Cast', 'labels', [best], { to: { int: 2 } });
    const shape = ['batch', classes, ...axes];
    graph.output({ name: logits, type: 'float', shape, doc: 'before the softmax' });
    graph.output({ name: probabilities, type: 'float', shape, doc: 'softmax of the logits over the classes' });
    graph.output({ name: labels, type: 'uint8', shape: ['batch', ...axes], doc: 'class of the largest logit' });
    return graph.model({
      version,
      doc: `${name} of ${features.length} levels (${features.join(', ')} features); ${sides}.`,
      metadata: { ...metadata },
    });
  };
  return { graph, image, conv, finish };
}

/** Reads weights by name and shape, and collects what does not fit; `finish` throws all of it. */
function checked(op: string, weights: OnnxWeights) {
  const wrong: string[] = [];
  const used = new Set<string>();
  const get = (name: string, shape: readonly number[]): Float32Array => {
    used.add(name);
    const found = weights.get(name);
    if (!found) wrong.push(`'${name}' is missing`);
    else if (found.shape.join() !== shape.join())
      wrong.push(`'${name}' has shape ${show(found.shape)}, expected ${show(shape)}`);
    else return found.data;
    return new Float32Array(shape.reduce((product, n) => product * n, 1));
  };
  const finish = (): void => {
    for (const name of weights.keys()) {
      if (!used.has(name) && !name.endsWith('num_batches_tracked')) wrong.push(`'${name}' is unknown`); // a counter of PyTorch's
    }
    if (!wrong.length) return;
    const more = wrong.length > 5 ? `, and ${wrong.length - 5} more` : '';
    throw new ShapeError(`${op}: the weights are of another architecture — ${wrong.slice(0, 5).join(', ')}${more}.`);
  };
  return Object.assign(get, { finish });
}
