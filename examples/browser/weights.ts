// A network's weights outside of the GPU: read from and written to safetensors in memory, in PyTorch's names and layout, as
// the trainer's checkpoints are. They survive a lost device, since the page keeps the last copy.
import { type Gpu, ShapeError } from 'wgrad';
import { type Config, createNetwork, networkSettings, resolveConfig, resolveSaved } from 'wgrad/method';
import {
  decodeSafetensors,
  encodeSafetensors,
  fromPyTorch,
  layoutOf,
  type NamedArray,
  SafetensorsError,
  type Segmenter,
  toPyTorch,
} from 'wgrad/model';

/** The settings that a network's file tells, or its shapes: the network, the grid that its images are brought to, how they are scaled. */
const told = [
  ...(['network', 'classes', 'features', 'patch', 'spacing', 'sample', 'downsample'] as const),
  ...(['intensity', 'intensityPercentiles'] as const),
] as const;

export interface Weights extends Pick<Config, (typeof told)[number]> {
  /** Where they come from, for people. */
  readonly name: string;
  readonly arrays: ReadonlyMap<string, NamedArray>;
}

/** Whether the page can go on training these weights: it learns from whole slices, scaled from the least to the greatest value. */
export const learnsHere = ({ network, patch, sample, intensity }: Weights): boolean =>
  network === 'unet' && patch.length === 2 && sample === 'whole' && intensity === 'minmax';

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

/** The network of the weights' names and shapes, and how the file's configuration, where it has one, says to use it. */
function architectureOf(arrays: Map<string, NamedArray>, text: string | undefined, refuse: (why: string) => never) {
  let shapes: Record<string, unknown>;
  try {
    shapes = networkSettings(arrays);
  } catch (error) {
    if (error instanceof ShapeError) return refuse('its names are neither those of a UNet nor of a V-Net');
    throw error;
  }
  const config = text ? resolveSaved(JSON.parse(text) as Record<string, unknown>) : resolveConfig(shapes);
  const rank = (shapes.patch as readonly number[]).length;
  if (config.patch.length !== rank)
    refuse(`its network takes ${rank === 3 ? 'volumes' : 'slices'}, and its patch is ${config.patch.join('×')}`);
  const { network, features, classes } = resolveConfig(shapes);
  const own = { ...config, network, features, classes };
  return Object.fromEntries(told.map((key) => [key, own[key]])) as Pick<Config, (typeof told)[number]>;
}

/** The bytes of a safetensors file that `wgrad predict --weights` and this page read. */
export const encodeWeights = ({ arrays, name: _, ...config }: Weights): Uint8Array =>
  encodeSafetensors(arrays, { format: 'pt', config: JSON.stringify(config) });

/** Writes weights into a model; an Error lists what does not fit. */
export function writeInto(model: Segmenter, { arrays, name: file }: Weights): void {
  const wrong: string[] = [];
  for (const [name, t] of model.state) {
    const array = arrays.get(name);
    const ours = array && fromPyTorch(array, layoutOf(t));
    if (!ours || ours.shape.join() !== t.shape.join()) wrong.push(name);
    else t.write(ours.data);
  }
  if (wrong.length)
    throw new Error(`${file} does not fit its network — ${wrong.slice(0, 3).join(', ')} missing or of another shape.`);
}

/** A model on the GPU with these weights. */
export function modelOf(gpu: Gpu, weights: Weights): Segmenter {
  const model = createNetwork(gpu, { ...resolveConfig({}), ...weights });
  writeInto(model, weights);
  return model;
}

/** A copy of a model's weights. */
export async function weightsOf(model: Segmenter, like: Weights, name: string): Promise<Weights> {
  const arrays = new Map<string, NamedArray>();
  for (const [key, t] of model.state) {
    arrays.set(key, toPyTorch({ shape: t.shape, data: Float32Array.from(await t.read()) }, layoutOf(t)));
  }
  return { ...like, name, arrays };
}
