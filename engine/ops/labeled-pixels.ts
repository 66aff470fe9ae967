// What losses over pixels with labels check: logits [..., K] and one label a pixel.
import type { PixelSizes } from '../../shaders/cross-entropy.js';
import { ShapeError, show } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

const mostClasses = 16;

/** Sizes of logits [..., K]; throws unless 2 ≤ K ≤ 16 and every tensor of `perPixel` is u8 with one element a pixel. */
export function pixelSizes(op: string, logits: Tensor, perPixel: Record<string, Tensor>): PixelSizes {
  const classes = logits.shape.at(-1) ?? 0;
  if (classes < 2 || classes > mostClasses) {
    throw new ShapeError(
      `${op}: got logits ${show(logits.shape)}, expected [..., K] with 2 to ${mostClasses} classes.`,
    );
  }
  const pixels = logits.size / classes;
  for (const [name, t] of Object.entries(perPixel)) {
    if (t.dtype !== 'u8' || t.size !== pixels) {
      throw new ShapeError(
        `${op}: got ${name} ${t.dtype} ${show(t.shape)} for logits ${show(logits.shape)}, expected u8 ${show(logits.shape.slice(0, -1))}.`,
      );
    }
  }
  return { dtype: floatType(op, logits), pixels, classes };
}
