// Checks for losses over labelled pixels: logits [..., K] and one label for each pixel. A label outside 0 … K − 1 is not a class, and
// its pixel is ignored: it counts in no sum or mean, and has no gradient.
import { beginFound, type CheckedLabels, checkLabelsShader, foundWords } from '../../shaders/check-labels.js';
import type { Labels } from '../../shaders/classes.js';
import type { LabeledSizes, PixelSizes } from '../../shaders/cross-entropy.js';
import { watch } from '../diagnose.js';
import { ShapeError, show } from '../shape.js';
import { run } from '../stream.js';
import { type Tensor, tensor } from '../tensor.js';
import { floatType } from './float-type.js';

/** Most classes that kernels hold in named scalars. */
export const namedClasses = 16;

/** Options for labels. */
export interface LabelOptions {
  /**
   * A label that is ignored; default 255, unless there are so many classes that 255 is one of them. All other values outside
   * 0 … K − 1 are ignored, too; WGRAD_CHECK_LABELS=1 reports those.
   */
  ignoreIndex?: number | undefined;
}

/** Sizes of logits [..., K]; throws unless 2 ≤ K ≤ `most` and every tensor of `perPixel` is u8 with one element for each pixel. */
export function pixelSizes(
  op: string,
  logits: Tensor,
  perPixel: Record<string, Tensor>,
  most = namedClasses,
): PixelSizes {
  const classes = logits.shape.at(-1) ?? 0;
  if (classes < 2 || classes > most) {
    const range = most === Number.POSITIVE_INFINITY ? 'at least 2 classes' : `2 to ${most} classes`;
    const other = most === namedClasses ? ' crossEntropy and diceLoss take any number.' : '';
    throw new ShapeError(`${op}: got logits ${show(logits.shape)}, expected [..., K] with ${range}.${other}`);
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

/** Sizes of logits [..., K], any K of at least 2, and how their labels are read; throws unless there is one label a pixel. */
export function labeledSizes(op: string, logits: Tensor, labels: Tensor, options: LabelOptions): LabeledSizes {
  const sizes = pixelSizes(op, logits, {}, Number.POSITIVE_INFINITY);
  if (labels.size !== sizes.pixels || !isLabelType(labels.dtype)) {
    throw new ShapeError(
      `${op}: got labels ${labels.dtype} ${show(labels.shape)} for logits ${show(logits.shape)}, expected u8 ${show(logits.shape.slice(0, -1))}, or u32 or i32. Classes are the last axis of logits.`,
    );
  }
  return { ...sizes, labels: labelsOf(op, labels, sizes.classes, options) };
}

/** Whether labels may be of this type. */
export const isLabelType = (dtype: string): dtype is Labels['type'] =>
  dtype === 'u8' || dtype === 'u32' || dtype === 'i32';

/** How kernels read labels; throws unless they are integers. With WGRAD_CHECK_LABELS, reports the first `looked` that are not a class. */
export function labelsOf(
  op: string,
  labels: Tensor,
  classes: number,
  { ignoreIndex: given }: LabelOptions,
  looked = labels.size,
): Labels {
  const { dtype } = labels;
  const ignoreIndex = given ?? 255;
  if (!isLabelType(dtype)) {
    throw new ShapeError(`${op}: got labels ${dtype} ${show(labels.shape)}, expected u8, u32 or i32.`);
  }
  if (!Number.isInteger(ignoreIndex) || ignoreIndex < -(2 ** 31) || ignoreIndex >= 2 ** 32) {
    throw new ShapeError(`${op}: ignoreIndex is a label, a whole number — got ${ignoreIndex}.`);
  }
  // A value outside the classes is ignored anyway; the default 255 is not ignored where it is a class.
  const ignored = given !== undefined && given >= 0 && given < classes ? given : undefined;
  if (labels.gpu.flags.checkLabels && looked > 0)
    report(op, labels, { type: dtype, pixels: looked, classes, ignored: ignoreIndex >>> 0 });
  return { type: dtype, ignored };
}

function report(op: string, labels: Tensor, checked: CheckedLabels): void {
  const { type, pixels, classes, ignored } = checked;
  reportOutside(
    labels,
    checked,
    (count, values) =>
      `${op}: ${count} of ${pixels} labels are no class — got ${values}, expected 0 to ${classes - 1} or ignoreIndex ` +
      `${type === 'i32' ? ignored | 0 : ignored}. Their pixels are ignored; relabel them, or unset WGRAD_CHECK_LABELS.`,
  );
}

/** Makes the next read reject, with a message of how many and which, if labels are neither a class nor ignored on purpose. */
export function reportOutside(
  labels: Tensor,
  checked: CheckedLabels,
  message: (count: number, values: string) => string,
): void {
  const found = tensor(labels.gpu, 0, [foundWords], { dtype: 'u32', label: 'check_labels' });
  run(beginFound(), { found }, { threads: foundWords });
  run(checkLabelsShader(checked), { labels, found }, { threads: checked.pixels });
  watch(found, (bytes) => {
    const words = new Uint32Array(bytes);
    const [count = 0, least = 0, most = 0] = words;
    if (!count) return undefined;
    const shift = checked.type === 'i32' ? 2 ** 31 : 0;
    const small = Array.from({ length: 256 }, (_, v) => v).filter((v) => words[3 + (v >> 5)]! & (1 << (v & 31)));
    const all = small.length > 0 && least - shift === small[0] && most - shift === small.at(-1);
    const values = all
      ? small.slice(0, 8).join(', ') + (small.length > 8 ? ', …' : '')
      : `from ${least - shift} to ${most - shift}`;
    return message(count, values);
  });
}
