// Tensors from what a browser draws: bitmaps, canvases, video. The browser copies the picture to a texture, from there it goes to a
// buffer, and one launch makes the elements; nothing passes through the CPU.
import { fromImageShader } from '../../shaders/from-image.js';
import { checkOptions, showValue } from '../arguments.js';
import { expectGpu, type Gpu, GpuError } from '../device.js';
import { acquire } from '../memory.js';
import { ShapeError } from '../shape.js';
import { isCapturing, run } from '../stream.js';
import { empty, type Tensor, tensor } from '../tensor.js';
import { uploadImage } from '../transfer.js';

// The browser's names, for programs that are type-checked without its library.
declare global {
  interface ImageBitmap {}
  interface HTMLImageElement {}
  interface HTMLVideoElement {}
  interface HTMLCanvasElement {}
  interface OffscreenCanvas {}
  interface VideoFrame {}
}

/** Pixels in rows from the top, four bytes each: red, green, blue, alpha. A browser's ImageData is one. */
export interface Pixels {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray;
}

/** A picture that `fromImage` takes. */
export type ImageSource =
  | Pixels
  | ImageBitmap
  | HTMLImageElement
  | HTMLVideoElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | VideoFrame;

/** Options of `fromImage`. */
export interface FromImageOptions<D extends 'f32' | 'u8' = 'f32' | 'u8'> {
  /** 1: luma; 3: red, green, blue; 4: with alpha. Default 3. */
  readonly channels?: 1 | 3 | 4;
  /** 'f32': from 0 to 1, normalised; 'u8': 0 to 255. Default 'f32'. */
  readonly dtype?: D;
  /** Subtracted from values in 0 … 1, one for all channels or one each; of f32 alone. Default 0. */
  readonly mean?: number | readonly number[];
  /** Divides what is left, likewise. Default 1. */
  readonly std?: number | readonly number[];
}

interface Sizes {
  readonly width?: number;
  readonly height?: number;
  readonly naturalWidth?: number;
  readonly naturalHeight?: number;
  readonly videoWidth?: number;
  readonly videoHeight?: number;
  readonly displayWidth?: number;
  readonly displayHeight?: number;
  readonly data?: unknown;
}

function each(name: string, value: number | readonly number[], channels: number): readonly number[] {
  const values = typeof value === 'number' ? new Array<number>(channels).fill(value) : value;
  const isGood = Array.isArray(values) && values.length === channels && values.every(Number.isFinite);
  if (isGood && (name !== 'std' || values.every((v) => v !== 0))) return values;
  throw new ShapeError(
    `fromImage: ${name} is ${showValue(value)} — expected a finite number${name === 'std' ? ' other than 0' : ''}, or ${channels} of them.`,
  );
}

/** The pixels as words, and how many words a row takes. */
function pixelsOf(gpu: Gpu, source: ImageSource, width: number, height: number): { x: Tensor; pitch: number } {
  const { data } = source as Sizes;
  if (data instanceof Uint8ClampedArray) {
    const words = new Uint32Array(data.slice().buffer);
    return { x: tensor(gpu, words, [height, width], { dtype: 'u32', label: 'image' }), pitch: width };
  }
  const pitch = Math.ceil(width / 64) * 64; // rows of a copy from a texture begin at multiples of 256 bytes
  const x = empty(gpu, [height, pitch], 'u32', 'image');
  x.storage.buffer = acquire(gpu, x.bytes, 'image');
  uploadImage(x, source as GPUCopyExternalImageSource, [width, height], 4 * pitch);
  return { x, pitch };
}

/**
 * A tensor [H, W, C] of a picture as it is now: an ImageBitmap, ImageData, a canvas, an image or a video element, a VideoFrame. Values are
 * sRGB as stored, not multiplied by alpha; rows go from the top. f32: (v/255 − mean)/std; u8: v. No gradient. Not inside a captured step:
 * give the tensor to it as an argument. Throws a GpuError for a picture that the browser does not let out (of another origin) or
 * that has no pixels yet, and a ShapeError for what is no picture. A VideoFrame takes the path of a canvas, but no test covers it: a copy of
 * one, made of a canvas or of bytes, ends the software GPU (SwiftShader) of headless Chromium 143; the read rejects with a GpuLostError.
 * @example
 * const pixels = { width: 1, height: 1, data: Uint8ClampedArray.of(255, 0, 51, 255) }; // as ImageData, or a canvas, a video, …
 * console.log(await fromImage(gpu, pixels).read()); // [1, 0, 0.2]
 */
export function fromImage<D extends 'f32' | 'u8' = 'f32'>(
  gpu: Gpu,
  source: ImageSource,
  options: FromImageOptions<D> = {},
): Tensor<D> {
  expectGpu('fromImage', gpu);
  checkOptions('fromImage', options, ['channels', 'dtype', 'mean', 'std']);
  const { channels = 3, dtype = 'f32', mean, std } = options;
  if (![1, 3, 4].includes(channels)) {
    throw new ShapeError(`fromImage: channels is ${showValue(channels)} — expected 1 (luma), 3 (RGB) or 4 (RGBA).`);
  }
  if (dtype !== 'f32' && dtype !== 'u8') {
    throw new ShapeError(`fromImage: dtype is ${showValue(dtype)} — expected 'f32' or 'u8'. Use cast for others.`);
  }
  if (dtype === 'u8' && (mean !== undefined || std !== undefined)) {
    throw new ShapeError("fromImage: mean and std are for f32 — got dtype 'u8'. Leave them out.");
  }
  if (isCapturing(gpu)) {
    throw new GpuError(
      'capture: fromImage inside a captured step would freeze the picture. Pass its tensor to the step.',
    );
  }
  const sizes = (source ?? {}) as Sizes;
  const width = sizes.videoWidth ?? sizes.displayWidth ?? sizes.naturalWidth ?? sizes.width;
  const height = sizes.videoHeight ?? sizes.displayHeight ?? sizes.naturalHeight ?? sizes.height;
  if (typeof width !== 'number' || typeof height !== 'number') {
    throw new ShapeError(
      `fromImage: got ${showValue(source)} — expected an ImageBitmap, ImageData, canvas, image or video.`,
    );
  }
  if (!(width > 0 && height > 0)) {
    throw new GpuError(`fromImage: the picture is ${width}×${height} — it has no pixels yet. Wait until it is loaded.`);
  }
  const [means, stds] = [each('mean', mean ?? 0, channels), each('std', std ?? 1, channels)];
  const { x, pitch } = pixelsOf(gpu, source, width, height);
  const y = empty(gpu, [height, width, channels], dtype as D, 'image');
  const norms = means.flatMap((m, c) => [m, stds[c]!]);
  run(
    fromImageShader(dtype, channels),
    { x, numbers: [height, width, pitch, ...norms], y },
    { threads: dtype === 'u8' ? Math.ceil(y.size / 4) : y.size },
  );
  return y;
}
