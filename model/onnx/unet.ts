// The UNet as an ONNX file, for other runtimes. The graph is rebuilt from the weights alone, whose names and shapes determine the
// network. The up-path's Resize has scales instead of sizes: an image whose sides the levels do not divide then fails at Concat, whereas
// sizes would silently stretch it.
import { ShapeError } from '../../engine/index.js';
import { axesOf, type NetworkSizes, type OnnxOptions, type OnnxWeights, onnxNetwork } from './network.js';

/**
 * Channels, classes, levels and rank of a UNet, from the shapes of its weights. Throws a ShapeError if they are not a UNet's.
 * @example
 * const { arrays } = decodeSafetensors(await saveState(unet(gpu, { inChannels: 1, classes: 4, features: [8, 16] })));
 * console.log(unetSizes(arrays).features, unetSizes(arrays).multiple); // [8, 16] 2
 */
export function unetSizes(weights: OnnxWeights): NetworkSizes {
  const features: number[] = [];
  for (;;) {
    const outputs = weights.get(`${encoderBlock(features.length)}.conv_conv.0.weight`)?.shape[0];
    if (outputs === undefined) break;
    features.push(outputs);
  }
  const first = weights.get('encoder.in_conv.conv_conv.0.weight')?.shape;
  const classes = weights.get('decoder.out_conv.weight')?.shape[0];
  const rank = (first?.length ?? 0) - 2;
  if (features.length < 2 || !first || classes === undefined || (rank !== 2 && rank !== 3)) {
    throw new ShapeError(
      'unetOnnx: the weights are no UNet of two levels or more — expected encoder.in_conv.conv_conv.0.weight … decoder.out_conv.weight.',
    );
  }
  return { inChannels: first[1]!, classes, features, multiple: 2 ** (features.length - 1), rank };
}

const encoderBlock = (level: number): string =>
  level === 0 ? 'encoder.in_conv' : `encoder.down${level}.maxpool_conv.1`;

/**
 * The bytes of an ONNX file (opset 17) that computes what the UNet of these weights computes in eval mode: from `image`
 * [batch, inChannels, height, width] the `logits` and `probabilities` [batch, classes, height, width] and the `labels`
 * [batch, height, width] (uint8); in 3-D with the depth before the height. Throws a ShapeError that lists what is missing, unknown or of
 * another shape.
 * @example
 * const { arrays } = decodeSafetensors(await saveState(unet(gpu, { inChannels: 1, classes: 4, features: [8, 16] })));
 * console.log(unetOnnx(arrays).length > 20_000); // true
 */
export function unetOnnx(weights: OnnxWeights, options: OnnxOptions = {}): Uint8Array<ArrayBuffer> {
  const sizes = unetSizes(weights);
  const { inChannels, classes, features } = sizes;
  const axes = axesOf(sizes);
  const two = axes.map(() => 2);
  const { graph, image, conv, finish } = onnxNetwork('unetOnnx', weights, sizes, { ...options, name: 'UNet', axes });

  // Places in PyTorch's Sequential: 0 conv, 1 norm, 2 activation, 3 dropout (none here), 4 conv, 5 norm, 6 activation.
  const block = (x: string, name: string, inputs: number, outputs: number): string => {
    const half = (y: string, from: number, at: number): string =>
      graph.node(
        'LeakyRelu',
        `${name}.conv_conv.${at + 2}`,
        [conv(y, `${name}.conv_conv.${at}`, { inputs: from, outputs, kernel: 3, norm: `${name}.conv_conv.${at + 1}` })],
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
      y = graph.node('MaxPool', pool, [y], { kernel_shape: two, strides: two });
    }
    y = block(y, encoderBlock(level), level === 0 ? inChannels : features[level - 1]!, outputs);
  }
  const twice = graph.constant('scales', [2 + two.length], Float32Array.of(1, 1, ...two));
  for (let i = 1; skips.length; i++) {
    const name = `decoder.up${i}`;
    const [inputs, outputs] = [features[skips.length]!, features[skips.length - 1]!];
    const up = graph.node(
      'Resize',
      `${name}.up`,
      [conv(y, `${name}.conv1x1`, { inputs, outputs, kernel: 1 }), '', twice],
      {
        mode: 'linear',
        coordinate_transformation_mode: 'align_corners',
      },
    );
    y = block(
      graph.node('Concat', `${name}.concat`, [skips.pop()!, up], { axis: { int: 1 } }),
      `${name}.conv`,
      2 * outputs,
      outputs,
    );
  }
  return finish(conv(y, 'decoder.out_conv', { inputs: features[0]!, outputs: classes, kernel: 3 }));
}
