// A network's weights outside of the GPU: read from and written to safetensors in memory, in PyTorch's names and layout, as
// the trainer's checkpoints are. They survive a lost device, since the page keeps the last copy.
import type { Gpu } from 'wgrad';
import { resolveConfig, resolveSaved } from 'wgrad/method';
import {
  decodeSafetensors,
  encodeSafetensors,
  fromPyTorch,
  type NamedArray,
  SafetensorsError,
  type Segmenter,
  toPyTorch,
  unet,
} from 'wgrad/model';

export interface Weights {
  /** Where they come from, for people. */
  readonly name: string;
  readonly arrays: ReadonlyMap<string, NamedArray>;
  /** The network's shape and the grid that slices, or volumes, are resized to or cut at. */
  readonly classes: number;
  readonly features: readonly number[];
  readonly patch: readonly number[];
  readonly spacing: readonly number[];
  readonly sample: 'whole' | 'patches';
  readonly downsample: number;
  /** How the network's images are scaled. */
  readonly intensity: 'minmax' | 'percentile' | 'zscore' | 'stored';
  readonly intensityPercentiles: readonly number[];
}

/** Whether the page can go on training these weights: it learns from whole slices, scaled from the least to the greatest value. */
export const learnsHere = ({ patch, sample, intensity }: Weights): boolean =>
  patch.length === 2 && sample === 'whole' && intensity === 'minmax';

/** Reads the bytes of a safetensors file. Throws an Error that says what is wrong with it. */
export function decodeWeights(bytes: Uint8Array, name: string): Weights {
  const refuse = (why: string): never => {
    throw new Error(`${name} is no checkpoint that can be used here — ${why}. Choose one that wgrad train wrote.`);
  };
  try {
    const { arrays, metadata } = decodeSafetensors(bytes);
    return { name, arrays, ...architectureOf(arrays, metadata.config, refuse) };
  } catch (error) {
    if (error instanceof SafetensorsError) return refuse(error.message);
    throw error;
  }
}

/** Channels by level, classes and input size: from the weights' shapes, and the configuration where the file has one. */
function architectureOf(arrays: Map<string, NamedArray>, text: string | undefined, refuse: (why: string) => never) {
  const shapeOf = (name: string) => arrays.get(name)?.shape;
  const first = shapeOf('encoder.in_conv.conv_conv.0.weight');
  const last = shapeOf('decoder.out_conv.weight');
  if (!first || !last) return refuse('its names are not those of a UNet');
  if (first[1] !== 1) refuse(`its network takes ${first[1]} channels, images here have one`);
  const features = [first[0]!];
  for (let level = 1; ; level++) {
    const shape = shapeOf(`encoder.down${level}.maxpool_conv.1.conv_conv.0.weight`);
    if (!shape) break;
    features.push(shape[0]!);
  }
  const config = text ? resolveSaved(JSON.parse(text) as Record<string, unknown>) : undefined;
  const rank = first.length - 2;
  const { patch, spacing, sample, downsample, intensity, intensityPercentiles } = config ?? resolveConfig({});
  if (patch.length !== rank)
    refuse(
      `its network takes ${rank === 3 ? 'volumes' : 'slices'}, and its patch is ${config ? patch.join('×') : 'not told'}`,
    );
  return { features, classes: last[0]!, patch, spacing, sample, downsample, intensity, intensityPercentiles };
}

/** The bytes of a safetensors file that `wgrad predict --weights` and this page read. */
export const encodeWeights = ({ arrays, name: _, ...config }: Weights): Uint8Array =>
  encodeSafetensors(arrays, { format: 'pt', config: JSON.stringify(config) });

/** Writes weights into a model; an Error lists what does not fit. */
export function writeInto(model: Segmenter, { arrays, name: file }: Weights): void {
  const wrong: string[] = [];
  for (const [name, t] of model.state) {
    const array = arrays.get(name);
    const ours = array && fromPyTorch(array);
    if (!ours || ours.shape.join() !== t.shape.join()) wrong.push(name);
    else t.write(ours.data);
  }
  if (wrong.length)
    throw new Error(`${file} does not fit a UNet — ${wrong.slice(0, 3).join(', ')} missing or of another shape.`);
}

/** A model on the GPU with these weights. */
export function modelOf(gpu: Gpu, weights: Weights): Segmenter {
  const model = unet(gpu, {
    inChannels: 1,
    classes: weights.classes,
    features: weights.features,
    rank: weights.patch.length === 3 ? 3 : 2,
  });
  writeInto(model, weights);
  return model;
}

/** A copy of a model's weights. */
export async function weightsOf(model: Segmenter, like: Weights, name: string): Promise<Weights> {
  const arrays = new Map<string, NamedArray>();
  for (const [key, t] of model.state) {
    arrays.set(key, toPyTorch({ shape: t.shape, data: Float32Array.from(await t.read()) }));
  }
  return { ...like, name, arrays };
}
