// Scaled dot-product attention as one op: the weights of queries and keys are never stored. Tensors are [N, T, H, d], because that is
// what a linear layer [N, T, H·d] is after a reshape: nothing is transposed.
import {
  type AttentionMask,
  type AttentionSizes,
  attentionForward,
  attentionGroups,
  attentionKeys,
  attentionQueries,
  attentionRows,
} from '../../shaders/attention.js';
import { checkOptions, showValue } from '../arguments.js';
import { record } from '../autograd.js';
import { ShapeError, sameShape, show } from '../shape.js';
import { run } from '../stream.js';
import { empty, Tensor } from '../tensor.js';
import { floatType } from './float-type.js';

/** Options of `attention`. */
export interface AttentionOptions {
  /** Query t sees keys up to t + S − T, so that the last query sees all; default false. */
  causal?: boolean | undefined;
  /** Factor of the products; 1/√d if not given. */
  scale?: number | undefined;
  /**
   * Broadcast to [N, H, T, S]: u8, where 0 hides a key from a query, or f32 or f16, which is added to the scaled products. No gradient
   * goes to it. Default: none.
   */
  mask?: Tensor | undefined;
}

/** Most columns of a head. */
const mostColumns = 128;

function maskOf(mask: unknown, full: readonly [number, number, number, number]): AttentionMask {
  const fits =
    mask instanceof Tensor &&
    mask.shape.length <= 4 &&
    mask.shape.every((n, i) => n === 1 || n === full[i + 4 - mask.shape.length]);
  const type = fits ? mask.dtype : undefined;
  if (!fits || (type !== 'u8' && type !== 'f32' && type !== 'f16')) {
    throw new ShapeError(
      `attention: the mask is ${showValue(mask)} — expected u8, f32 or f16 that broadcasts to [N, H, T, S] = ${show(full)}.`,
    );
  }
  const strides: [number, number, number, number] = [0, 0, 0, 0];
  let stride = 1;
  for (let i = mask.shape.length - 1; i >= 0; i--) {
    if (mask.shape[i]! > 1) strides[i + 4 - mask.shape.length] = stride;
    stride *= mask.shape[i]!;
  }
  return { type, strides };
}

function sizesOf(q: Tensor, k: Tensor, v: Tensor, { causal = false, mask }: AttentionOptions): AttentionSizes {
  const dtype = floatType('attention', q, k, v);
  const [items = 0, queries = 0, heads = 0, columns = 0] = q.shape;
  const keys = k.shape[1] ?? 0;
  const fits = q.shape.length === 4 && sameShape(k.shape, v.shape) && sameShape(k.shape, q.shape.with(1, keys));
  if (!fits || columns > mostColumns) {
    throw new ShapeError(
      `attention: got q ${show(q.shape)}, k ${show(k.shape)}, v ${show(v.shape)}, expected [N, T, H, d] and twice [N, S, H, d] with d up to ${mostColumns}. Reshape [N, T, H·d] to it.`,
    );
  }
  if (typeof causal !== 'boolean') {
    throw new ShapeError(`attention: causal is ${showValue(causal)} — expected true or false.`);
  }
  const sizes = { dtype, items, heads, queries, keys, columns, causal };
  return mask === undefined ? sizes : { ...sizes, mask: maskOf(mask, [items, heads, queries, keys]) };
}

/** A count of workgroups as [x, y] with x ≤ 65 535; x · y may be more than the count. */
const folded = (count: number): [number, number] => {
  const x = Math.min(count, 65535);
  return [x, Math.ceil(count / x)];
};

/**
 * Scaled dot-product attention (Vaswani et al., NeurIPS 2017): softmax over the keys of scale · q · k, times v, for each item and
 * head. q [N, T, H, d], k and v [N, S, H, d], f32 or f16, d up to 128 → [N, T, H, d]. `causal` (false), `scale` (1/√d) and `mask` (none) are
 * described at `AttentionOptions`; a query that sees no key gives 0. Memory is linear in T and S: no [T, S] matrix is stored, in
 * either direction. Throws a ShapeError for other shapes, types and options.
 * @example
 * const x = randomNormal(gpu, [1, 3, 2, 4], { random: createRandom(gpu, 1) }); // [N, T, H, d]
 * console.log(attention(x, x, x, { causal: true }).shape); // [1, 3, 2, 4]
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  checkOptions('attention', options, ['causal', 'scale', 'mask'], { isCausal: "Write 'causal'." });
  const sizes = sizesOf(q, k, v, options);
  const { scale = 1 / Math.sqrt(sizes.columns), mask } = options;
  if (!Number.isFinite(scale)) {
    throw new ShapeError(`attention: scale is ${showValue(scale)} — expected a finite number.`);
  }
  const { gpu } = q;
  const { items, queries, heads, keys, dtype } = sizes;
  const masks: Record<string, Tensor> = mask ? { mask } : {};
  const y = empty(gpu, q.shape, dtype, 'attention');
  const statistics = empty(gpu, [items, queries, heads, 2], 'f32', 'attention.statistics');
  const overQueries = { workgroups: folded(attentionGroups(sizes, queries)) };
  run(attentionForward(sizes), { q, k, v, y, statistics, numbers: [scale], ...masks }, overQueries);

  return record('attention', y, [q, k, v], (dy, [needsQ, needsK, needsV]) => {
    const rows = empty(gpu, [items, queries, heads, 4], 'f32', 'attention.rows');
    run(attentionRows(sizes), { y, dy, statistics, rows, numbers: [scale] }, { threads: items * queries * heads });
    const inputs = { q, k, v, dy, rows, ...masks };
    const gradient = (x: Tensor): Tensor => empty(gpu, x.shape, dtype, `d${x.label}`);
    const dq = needsQ ? gradient(q) : undefined;
    if (dq) run(attentionQueries(sizes), { ...inputs, dq }, overQueries);
    if (!needsK && !needsV) return [dq];
    const [dk, dv] = [gradient(k), gradient(v)];
    run(attentionKeys(sizes), { ...inputs, dk, dv }, { workgroups: folded(attentionGroups(sizes, keys)) });
    return [dq, dk, dv];
  });
}
