// Snippets for kernels that hold one pixel's K class values in named scalars (an indexed private array would live in memory).
import { type Float, isNan, isNotFinite, nanFrom, wgsl } from './wgsl.js';

/** Element type of an array of [..., K] values: quads where K allows. */
export const classArray = (dtype: Float, classes: number): string => (classes % 4 === 0 ? `vec4<${dtype}>` : dtype);

const range = (count: number): number[] => Array.from({ length: count }, (_, k) => k);

/** One line per class. */
export const each = (classes: number, line: (k: number) => string): string => range(classes).map(line).join('\n');

/** One expression folded over the classes: `fold(3, (a, b) => `max(${a}, ${b})`, (k) => `x${k}`)`. */
export const fold = (classes: number, join: (a: string, b: string) => string, item: (k: number) => string): string =>
  range(classes)
    .slice(1)
    .reduce((text, k) => join(text, item(k)), item(0));

/** The sum of an expression over the classes, or over those from `first` on. */
export const total = (classes: number, item: (k: number) => string, first = 0): string =>
  `(${range(classes).slice(first).map(item).join(' + ')})`;

/** `let x0 = …` to `x{K−1}`: the class values of pixel `pixel` in `array` (declared with `classArray`). */
export function loadClasses(name: string, array: string, pixel: string, classes: number): string {
  if (classes % 4) return each(classes, (k) => `let ${name}${k} = f32(${array}[(${pixel}) * ${classes}u + ${k}u]);`);
  return range(classes / 4)
    .map((q) => {
      const components = ['x', 'y', 'z', 'w']
        .map((component, k) => `let ${name}${4 * q + k} = ${name}_quad${q}.${component};`)
        .join(' ');
      return `let ${name}_quad${q} = vec4f(${array}[(${pixel}) * ${classes / 4}u + ${q}u]); ${components}`;
    })
    .join('\n');
}

/** Stores `item(k)` for every class of a pixel. */
export function storeClasses(
  array: string,
  pixel: string,
  dtype: Float,
  classes: number,
  item: (k: number) => string,
): string {
  if (classes % 4) return each(classes, (k) => `${array}[(${pixel}) * ${classes}u + ${k}u] = ${dtype}(${item(k)});`);
  return range(classes / 4)
    .map((q) => {
      const items = range(4).map((k) => item(4 * q + k));
      return `${array}[(${pixel}) * ${classes / 4}u + ${q}u] = vec4<${dtype}>(vec4f(${items.join(', ')}));`;
    })
    .join('\n');
}

/**
 * From logits x0…: their maximum `{p}_most`, the logarithm `{p}_log` of Σ exp(x − most), probabilities p0…. Where a logit is NaN or
 * the maximum is infinite, maximum and probabilities are NaN; it comes from Σ x, since not every driver's max, exp and log keep one.
 */
export const softmaxOf = (x: string, p: string, classes: number): string => wgsl`
let ${p}_found = ${fold(
  classes,
  (a, b) => `max(${a}, ${b})`,
  (k) => x + k,
)};
let ${p}_all = ${total(classes, (k) => x + k)};
let ${p}_spoiled = ${isNotFinite(`${p}_found`)} || ${isNan(`${p}_all`, 'f32')};
let ${p}_most = select(${p}_found, ${nanFrom(`${p}_found`)}, ${p}_spoiled);
${each(classes, (k) => `let ${p}_exp${k} = exp(${x}${k} - ${p}_most);`)}
let ${p}_sum = select(${total(classes, (k) => `${p}_exp${k}`)}, ${p}_most, ${p}_spoiled);
let ${p}_log = log(${p}_sum);
${each(classes, (k) => `let ${p}${k} = ${p}_exp${k} / ${p}_sum;`)}`;

/** `var name`: the index of the largest of x0…: the first of equals, or the first NaN if there is one (as argmax.ts). */
export const argmaxOf = (name: string, x: string, classes: number): string => `var ${name} = 0u;
{
var best = ${x}0;
${range(classes)
  .slice(1)
  .map(
    (k) =>
      `if (!${isNan('best', 'f32')} && (${x}${k} > best || ${isNan(x + k, 'f32')})) { best = ${x}${k}; ${name} = ${k}u; }`,
  )
  .join('\n')}
}`;

/** Expression: the value x_k of a class index computed at run time. */
export const pick = (index: string, x: string, classes: number): string =>
  range(classes)
    .slice(1)
    .reduce((text, k) => `select(${text}, ${x}${k}, ${index} == ${k}u)`, `${x}0`);

/** Expression: element `i` of a u8 array packed four to a word. */
export const byteAt = (array: string, i: string): string => `((${array}[(${i}) >> 2u] >> (8u * ((${i}) & 3u))) & 255u)`;

/** How labels are stored. */
export type LabelType = 'u8' | 'u32' | 'i32';

/** Labels of pixels; a pixel whose label is outside 0 … K − 1 is ignored. */
export interface Labels {
  readonly type: LabelType;
  /** A value in 0 … K − 1 that is ignored, too. */
  readonly ignored: number | undefined;
}

/** Element type of an array of labels. */
export const labelArray = ({ type }: Labels): string => (type === 'i32' ? 'i32' : 'u32');

/** Expression: the label of pixel `i` as u32; at least K where the pixel is ignored (255 is what an ignored u8 reads as). */
export function labelAt(array: string, i: string, { type, ignored }: Labels): string {
  const stored = { u8: byteAt(array, i), u32: `${array}[${i}]`, i32: `bitcast<u32>(${array}[${i}])` }[type];
  return ignored === undefined ? stored : `select(${stored}, 4294967295u, ${stored} == ${ignored}u)`;
}

/**
 * Threads of a partial-sum pass over `items`; each takes every threads-th item. One launch adds up to 2048 partial sums; for many
 * items a second launch pays, since more threads fill a large GPU.
 */
export const partialThreads = (items: number): number =>
  items < 2 ** 18 ? Math.min(2048, Math.ceil(items / 16)) : 16384;
