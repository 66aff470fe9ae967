// The V-Net as an ONNX file, for every other runtime. The graph is rebuilt from the weights alone, whose names and shapes say what
// network it is. An image whose sides the levels do not divide fails where a skip is added.
import { ShapeError } from '../../engine/index.js';
import { vnetBlocks } from '../vnet.js';
import { axesOf, type NetworkSizes, type OnnxOptions, type OnnxWeights, onnxNetwork } from './network.js';

/**
 * Channels, classes, levels and rank of a V-Net, from the shapes of its weights. Throws a ShapeError where they are no V-Net's.
 * @example
 * const { arrays } = decodeSafetensors(await saveState(vnet(gpu, { inChannels: 1, classes: 2, features: [4, 8] })));
 * console.log(vnetSizes(arrays).features, vnetSizes(arrays).rank); // [4, 8] 3
 */
export function vnetSizes(weights: OnnxWeights): NetworkSizes {
  const shapeOf = (name: string) => weights.get(`${name}.weight`)?.shape;
  const features: number[] = [];
  for (const { name } of vnetBlocks(10).slice(0, 10)) {
    const outputs = shapeOf(`${name}.conv.0`)?.[0];
    if (outputs !== undefined) features.push(outputs);
    if (outputs === undefined || !shapeOf(`${name}_dw.conv.0`)) break;
  }
  const first = shapeOf('block_one.conv.0');
  const classes = shapeOf('out_conv')?.[0];
  const rank = (first?.length ?? 0) - 2;
  if (features.length < 2 || !first || classes === undefined || (rank !== 2 && rank !== 3)) {
    throw new ShapeError(
      'vnetOnnx: the weights are no V-Net of two levels or more — expected block_one.conv.0.weight … out_conv.weight.',
    );
  }
  return { inChannels: first[1]!, classes, features, multiple: 2 ** (features.length - 1), rank };
}

/**
 * The bytes of an ONNX file (opset 17) that computes what the V-Net of these weights computes in eval mode: from `image`
 * [batch, inChannels, depth, height, width] the `logits` and `probabilities` [batch, classes, depth, height, width] and the `labels`
 * [batch, depth, height, width] (uint8); without the depth in 2-D. Throws a ShapeError that lists what is missing, unknown or of another
 * shape.
 * @example
 * const { arrays } = decodeSafetensors(await saveState(vnet(gpu, { inChannels: 1, classes: 2, features: [4, 8] })));
 * console.log(vnetOnnx(arrays).length > 20_000); // true
 */
export function vnetOnnx(weights: OnnxWeights, options: OnnxOptions = {}): Uint8Array<ArrayBuffer> {
  const sizes = vnetSizes(weights);
  const { features, inChannels, classes } = sizes;
  const axes = axesOf(sizes);
  const { graph, image, conv, finish } = onnxNetwork('vnetOnnx', weights, sizes, { ...options, name: 'V-Net', axes });
  const deepest = features.length - 1;
  const active = (x: string, at: string, place: number, of: Parameters<typeof conv>[2]): string =>
    graph.node('Relu', `${at}.${place + 2}`, [conv(x, `${at}.${place}`, { ...of, norm: `${at}.${place + 1}` })]);

  const skips: string[] = [];
  let y = image;
  for (const [i, { name, level, convolutions }] of vnetBlocks(features.length).entries()) {
    if (i > deepest) y = graph.node('Add', `${name}.add`, [y, skips.pop()!]);
    const outputs = features[level]!;
    for (let n = 0; n < convolutions; n++) {
      const inputs = i === 0 && n === 0 ? inChannels : outputs;
      y = active(y, `${name}.conv`, 3 * n, { inputs, outputs, kernel: 3 });
    }
    const two = { inputs: outputs, kernel: 2, stride: 2 };
    if (i < deepest) {
      skips.push(y);
      y = active(y, `${name}_dw.conv`, 0, { ...two, outputs: features[level + 1]! });
    } else if (level > 0) {
      y = active(y, `${name}_up.conv`, 0, { ...two, outputs: features[level - 1]!, transposed: true });
    }
  }
  return finish(conv(y, 'out_conv', { inputs: features[0]!, outputs: classes, kernel: 1 }));
}
