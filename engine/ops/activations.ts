// Smooth activations. NaN gives NaN; at ±∞ each has its limit, and so has its gradient.
import {
  functionTexts,
  geluFunction,
  geluSlope,
  geluTanhFunction,
  geluTanhSlope,
  type NumberFunction,
  sigmoidFunction,
  sigmoidSlope,
  siluFunction,
  siluSlope,
  softplusFunction,
  tanhFunction,
  tanhSlope,
} from '../../shaders/functions.js';
import { checkOptions, showValue } from '../arguments.js';
import { ShapeError } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { unary } from './unary.js';

/** An activation and its derivative. */
const activation = (name: string, x: Tensor, f: NumberFunction, slope: NumberFunction): Tensor =>
  unary(name, x, `keep_nan(x, ${f.name}(x))`, `keep_nan(x, dy * ${slope.name}(x))`, {
    functions: functionTexts(f),
    gradientFunctions: functionTexts(slope),
  });

/**
 * tanh x.
 * @example
 * console.log(await tanh(tensor(gpu, [0, 1])).read()); // [0, 0.7616]
 */
export const tanh = (x: Tensor): Tensor => activation('tanh', x, tanhFunction, tanhSlope);

/**
 * 1/(1 + e^−x).
 * @example
 * console.log(await sigmoid(tensor(gpu, [0, 1])).read()); // [0.5, 0.7311]
 */
export const sigmoid = (x: Tensor): Tensor => activation('sigmoid', x, sigmoidFunction, sigmoidSlope);

/**
 * x · sigmoid(x), also called swish (Elfwing et al. 2018).
 * @example
 * console.log(await silu(tensor(gpu, [0, 1])).read()); // [0, 0.7311]
 */
export const silu = (x: Tensor): Tensor => activation('silu', x, siluFunction, siluSlope);

/**
 * log(1 + e^x), which nowhere overflows.
 * @example
 * console.log(await softplus(tensor(gpu, [0, 1])).read()); // [0.6931, 1.313]
 */
export const softplus = (x: Tensor): Tensor => activation('softplus', x, softplusFunction, sigmoidFunction);

/** Options of `gelu`. */
export interface GeluOptions {
  /**
   * `'none'` (default): x Φ(x), Φ the normal distribution's function. `'tanh'`: ½x (1 + tanh √(2/π)(x + 0.044715 x³)), which weights of
   * some models were trained with.
   */
  readonly approximate?: 'none' | 'tanh';
}

/**
 * The Gaussian error linear unit (Hendrycks and Gimpel 2016), x Φ(x), exact or in the form with tanh.
 * @example
 * console.log(await gelu(tensor(gpu, [0, 1])).read()); // [0, 0.8413]
 */
export function gelu(x: Tensor, options: GeluOptions = {}): Tensor {
  checkOptions('gelu', options, ['approximate']);
  const { approximate = 'none' } = options;
  if (approximate !== 'none' && approximate !== 'tanh') {
    throw new ShapeError(`gelu: approximate is ${showValue(approximate)} — expected 'none' or 'tanh'.`);
  }
  return approximate === 'none'
    ? activation('gelu', x, geluFunction, geluSlope)
    : activation('gelu_tanh', x, geluTanhFunction, geluTanhSlope);
}
