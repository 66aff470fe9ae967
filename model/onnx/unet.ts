// The UNet as an ONNX file, for other runtimes. The graph is rebuilt from the weights alone, whose names and shapes determine the
// network. ONNX uses PyTorch's names and layout, so no number changes. The up-path's Resize has scales instead of sizes: an image whose
// sides the levels do not divide then fails at Concat, whereas sizes would silently stretch it.
import { ShapeError, show } from '../../engine/index.js';
import { Graph } from './graph.js';

/** Weights under PyTorch's names (`encoder.in_conv.conv_conv.0.weight`) in PyTorch's layout ([O, I, kH, kW]). */
export type OnnxWeights = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;

/** Sizes of a UNet, read from its weights. */
export interface UNetSizes {
  readonly inChannels: number;
  readonly classes: number;
  readonly features: readonly number[];
  /** The image's sides must be multiples of this number. */
  readonly multiple: number;
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

/** Channels, classes and levels of a UNet, from the shapes of its weights. Throws a ShapeError if they are not a UNet's. */
export function unetSizes(weights: OnnxWeights): UNetSizes {
  const features: number[] = [];
  for (;;) {
    const outputs = weights.get(`${encoderBlock(features.length)}.conv_conv.0.weight`)?.shape[0];
    if (outputs === undefined) break;
    features.push(outputs);
  }
  const inChannels = weights.get('encoder.in_conv.conv_conv.0.weight')?.shape[1];
  const classes = weights.get('decoder.out_conv.weight')?.shape[0];
  if (features.length < 2 || inChannels === undefined || classes === undefined) {
    throw new ShapeError(
      'unetOnnx: the weights are no UNet of two levels or more — expected encoder.in_conv.conv_conv.0.weight … decoder.out_conv.weight.',
    );
  }
  return { inChannels, classes, features, multiple: 2 ** (features.length - 1) };
}

const encoderBlock = (level: number): string =>
  level === 0 ? 'encoder.in_conv' : `encoder.down${level}.maxpool_conv.1`;

const epsilon = 1e-5;

/**
 * The bytes of an ONNX file (opset 17) that computes what the UNet of these weights computes in eval mode: from `image`
 * [batch, inChannels, height, width] the `logits` and `probabilities` [batch, classes, height, width] and the `labels`
 * [batch, height, width] (uint8). Throws a ShapeError that lists what is missing, unknown or of another shape.
 */
export function unetOnnx(
  weights: OnnxWeights,
  { fold = false, metadata = {}, version = '' }: OnnxOptions = {},
): Uint8Array<ArrayBuffer> {
  const { inChannels, classes, features, multiple } = unetSizes(weights);
  const graph = new Graph('unet');
  const get = checked(weights);
  const sides = `height and width are multiples of ${multiple}`;
  const image = graph.input({
    name: 'image',
    type: 'float',
    shape: ['batch', inChannels, 'height', 'width'],
    doc: `${sides}; values in [0, 1]`,
  });

  const conv = (x: string, name: string, inputs: number, outputs: number, kernel: number, norm?: string): string => {
    let weight = get(`${name}.weight`, [outputs, inputs, kernel, kernel]);
    let bias = get(`${name}.bias`, [outputs]);
    const [gamma, beta, mean, variance] = norm
      ? ['weight', 'bias', 'running_mean', 'running_var'].map((which) => get(`${norm}.${which}`, [outputs]))
      : [];
    if (norm && fold) {
      // γ (W∗x + b − μ)/√(σ² + ε) + β = (s W)∗x + s (b − μ) + β with s = γ/√(σ² + ε)
      const scale = Float64Array.from(gamma!, (g, o) => g / Math.sqrt(variance![o]! + epsilon));
      const perOutput = weight.length / outputs;
      weight = weight.map((w, i) => w * scale[Math.floor(i / perOutput)]!);
      bias = bias.map((b, o) => (b - mean![o]!) * scale[o]! + beta![o]!);
    }
    const constants = [
      graph.constant(`${name}.weight`, [outputs, inputs, kernel, kernel], weight),
      graph.constant(`${name}.bias`, [outputs], bias),
    ];
    const pad = (kernel - 1) / 2;
    const y = graph.node('Conv', name, [x, ...constants], {
      kernel_shape: [kernel, kernel],
      pads: [pad, pad, pad, pad],
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
  // Places in PyTorch's Sequential: 0 conv, 1 norm, 2 activation, 3 dropout (none here), 4 conv, 5 norm, 6 activation.
  const block = (x: string, name: string, inputs: number, outputs: number): string => {
    const half = (y: string, from: number, at: number): string =>
      graph.node(
        'LeakyRelu',
        `${name}.conv_conv.${at + 2}`,
        [conv(y, `${name}.conv_conv.${at}`, from, outputs, 3, `${name}.conv_conv.${at + 1}`)],
        { alpha: { float: 0.01 } },
      );
    return half(half(x, inputs, 0), outputs, 4);
  };

  const skips: string[] = [];
  let y = image;
  for (const [level, outputs] of features.entries()) {
    if (level > 0) {
      skips.push(y);
      const pool = `encoder.down${level}.maxpool_conv.0`;
      y = graph.node('MaxPool', pool, [y], { kernel_shape: [2, 2], strides: [2, 2] });
    }
    y = block(y, encoderBlock(level), level === 0 ? inChannels : features[level - 1]!, outputs);
  }
  const twice = graph.constant('scales', [4], Float32Array.of(1, 1, 2, 2));
  for (let i = 1; skips.length; i++) {
    const name = `decoder.up${i}`;
    const [inputs, outputs] = [features[skips.length]!, features[skips.length - 1]!];
    const up = graph.node('Resize', `${name}.up`, [conv(y, `${name}.conv1x1`, inputs, outputs, 1), '', twice], {
      mode: 'linear',
      coordinate_transformation_mode: 'align_corners',
    });
    y = block(
      graph.node('Concat', `${name}.concat`, [skips.pop()!, up], { axis: { int: 1 } }),
      `${name}.conv`,
      2 * outputs,
      outputs,
    );
  }
  const last = conv(y, 'decoder.out_conv', features[0]!, classes, 3);
  get.finish();

  const logits = graph.node('Identity', 'logits', [last]);
  const probabilities = graph.node('Softmax', 'probabilities', [logits], { axis: { int: 1 } });
  const best = graph.node('ArgMax', 'argmax', [logits], { axis: { int: 1 }, keepdims: { int: 0 } });
  const labels = graph.node('Cast', 'labels', [best], { to: { int: 2 } });
  const shape = ['batch', classes, 'height', 'width'];
  graph.output({ name: logits, type: 'float', shape, doc: 'before the softmax' });
  graph.output({ name: probabilities, type: 'float', shape, doc: 'softmax of the logits over the classes' });
  graph.output({ name: labels, type: 'uint8', shape: ['batch', 'height', 'width'], doc: 'class of the largest logit' });
  return graph.model({
    version,
    doc: `UNet of ${features.length} levels (${features.join(', ')} features); ${sides}.`,
    metadata: { ...metadata },
  });
}

/** Reads weights by name and shape, and collects what does not fit; `finish` throws all of it. */
function checked(weights: OnnxWeights) {
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
    throw new ShapeError(`unetOnnx: the weights are of another architecture — ${wrong.slice(0, 5).join(', ')}${more}.`);
  };
  return Object.assign(get, { finish });
}
