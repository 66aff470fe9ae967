// Snippets for kernels that read and write elements of any type.
import { byteAt } from './classes.js';
import { wgsl } from './wgsl.js';

export type ElementType = 'f32' | 'f16' | 'u32' | 'i32' | 'u8';

/** The type that a kernel declares for stored elements: bytes lie four to a word. */
export const storedType = (type: ElementType): string => (type === 'u8' ? 'u32' : type);

/** Expression: element `i` of an array, as f32, i32, or (u32 and u8) u32. */
export const elementAt = (array: string, i: string, type: ElementType): string =>
  type === 'u8' ? byteAt(array, i) : type === 'f16' ? `f32(${array}[${i}])` : `${array}[${i}]`;

/** Body of a thread that stores `value(i)`: one element, or four bytes. Elements after the last of the array may be computed. */
export const storeElements = (array: string, type: ElementType): string =>
  type === 'u8'
    ? wgsl`
  if (i >= arrayLength(&${array})) { return; }
  let first = 4u * i;
  ${array}[i] = value(first) | (value(first + 1u) << 8u) | (value(first + 2u) << 16u) | (value(first + 3u) << 24u);`
    : wgsl`
  if (i >= arrayLength(&${array})) { return; }
  ${array}[i] = ${type}(value(i));`;

/** The type in which `value(i)` gives an element. */
export const valueType = (type: ElementType): string => (type === 'f16' ? 'f32' : storedType(type));

/** The directive that these types need. */
export const enableFor = (types: readonly ElementType[]): string => (types.includes('f16') ? 'enable f16;' : '');
