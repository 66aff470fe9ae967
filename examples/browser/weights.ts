// A network's weights outside of the GPU: read from and written to safetensors in memory, in PyTorch's names and layout, as
// the trainer's checkpoints are. They survive a lost device, since the page keeps the last copy.
import type { Gpu } from 'wgrad';
import { type UNet, unet } from 'wgrad/model';
import { fromPyTorch, type NamedArray, toPyTorch } from '../../train/checkpoint.js';
import { resolveConfig } from '../../train/config.js';

export interface Weights {
  /** Where they come from, for people. */
  readonly name: string;
  readonly arrays: ReadonlyMap<string, NamedArray>;
  /** The network's shape and the grid that slices are resized to. */
  readonly classes: number;
  readonly features: readonly number[];
  readonly size: number;
  readonly spacing: readonly number[];
}

interface Entry {
  dtype?: unknown;
  shape?: unknown;
  data_offsets?: unknown;
}

/** Reads the bytes of a safetensors file. Throws an Error that says what is wrong with it. */
export function decodeWeights(bytes: Uint8Array, name: string): Weights {
  const refuse = (why: string): never => {
    throw new Error(`${name} is no checkpoint that can be used here — ${why}. Choose one that wgrad train wrote.`);
  };
  if (bytes.length < 8) refuse(`it has ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = Number(view.getBigUint64(0, true));
  if (headerBytes > bytes.length - 8) refuse('it is cut off, or no safetensors file');
  let header: Record<string, Entry> & { __metadata__?: Record<string, string> };
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(8, 8 + headerBytes)));
  } catch {
    return refuse('its header is not JSON');
  }
  const { __metadata__: metadata, ...entries } = header;
  const body = bytes.subarray(8 + headerBytes);
  const arrays = new Map<string, NamedArray>();
  let total = 0;
  for (const [key, { dtype, shape, data_offsets: offsets }] of Object.entries(entries)) {
    const whole = (list: unknown): list is number[] =>
      Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);
    if (dtype !== 'F32' || !whole(shape) || !whole(offsets)) return refuse(`'${key}' is not float32`);
    const [begin = 0, end = 0] = offsets;
    const count = shape.reduce((a, b) => a * b, 1);
    if (end - begin !== 4 * count || end > body.length) refuse(`it is cut off at '${key}'`);
    arrays.set(key, { shape, data: new Float32Array(body.slice(begin, end).buffer) });
    total += end - begin;
  }
  if (total !== body.length) refuse(`${body.length - total} bytes belong to no tensor`);
  return { name, arrays, ...architectureOf(arrays, metadata?.config, refuse) };
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
  const config = text ? resolveConfig(JSON.parse(text) as Record<string, unknown>) : undefined;
  return { features, classes: last[0]!, size: config?.size ?? 256, spacing: config?.spacing ?? [0, 0] };
}

/** The bytes of a safetensors file that `wgrad predict --weights` and this page read. */
export function encodeWeights({ arrays, classes, features, size, spacing }: Weights): Uint8Array {
  const config = JSON.stringify({ classes, features, size, spacing });
  const header: Record<string, unknown> = { __metadata__: { format: 'pt', config } };
  let end = 0;
  for (const [name, { shape, data }] of arrays) {
    header[name] = { dtype: 'F32', shape, data_offsets: [end, (end += data.byteLength)] };
  }
  let text = new TextEncoder().encode(JSON.stringify(header));
  text = new TextEncoder().encode(new TextDecoder().decode(text) + ' '.repeat(-text.length & 7));
  const bytes = new Uint8Array(8 + text.length + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  let at = 8 + text.length;
  for (const { data } of arrays.values()) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}

/** Writes weights into a model; an Error lists what does not fit. */
export function writeInto(model: UNet, { arrays, name: file }: Weights): void {
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
export function modelOf(gpu: Gpu, weights: Weights): UNet {
  const model = unet(gpu, { inChannels: 1, classes: weights.classes, features: weights.features });
  writeInto(model, weights);
  return model;
}

/** A copy of a model's weights. */
export async function weightsOf(model: UNet, like: Weights, name: string): Promise<Weights> {
  const arrays = new Map<string, NamedArray>();
  for (const [key, t] of model.state) {
    arrays.set(key, toPyTorch({ shape: t.shape, data: Float32Array.from(await t.read()) }));
  }
  return { ...like, name, arrays };
}
