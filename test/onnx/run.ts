// Runs ONNX's node tests through the rows of the table and holds results against what is expected.
import { join } from 'node:path';
import { type Gpu, ShapeError, scope, type Tensor } from '../../engine/index.js';
import { ChannelsLast, dtypeOf, moved, Node, type Result, takeCalls } from './node.js';
import { rows } from './rows.js';
import { type NodeTest, NotOffered, namesIn, notOffered, readNodeTest, type Values } from './vectors.js';

/** What became of one test. */
export interface Verdict {
  readonly name: string;
  readonly op: string;
  /** Of a test that passed: how many of wgrad's functions were called. */
  readonly calls?: number;
  /** Of a test that wgrad does not offer: why. */
  readonly why?: string;
  /** Of a test that failed: what differs. */
  readonly failure?: string;
  /** Whether it needs f16, which this adapter lacks. */
  readonly lacksHalf?: true;
}

/** Relative and absolute tolerance: of f32, and of f16. */
const tolerances = { f32: [1e-5, 1e-6], f16: [2e-3, 1e-6] } as const;

interface Found {
  readonly shape: readonly number[];
  readonly values: readonly number[];
  readonly isFloat: boolean;
}

/** A result in ONNX's layout. */
async function found(result: Result): Promise<Found> {
  if (typeof result === 'number') return { shape: [], values: [result], isFloat: false };
  if (Array.isArray(result)) return { shape: [result.length], values: result, isFloat: false };
  const t = result instanceof ChannelsLast ? result.tensor : (result as Tensor);
  const isFloat = t.dtype === 'f32' || t.dtype === 'f16';
  const read = { shape: t.shape, values: Array.from(await t.read()) };
  const { length } = t.shape;
  if (!(result instanceof ChannelsLast) || length < 3) return { ...read, isFloat };
  return { ...moved(read, [0, length - 1, ...t.shape.slice(2).map((_, i) => i + 1)]), isFloat };
}

/** What is wrong with a result; undefined if nothing. */
export function difference(got: Found, want: Values): string | undefined {
  if (got.shape.join() !== want.shape.join()) return `shape [${got.shape}], expected [${want.shape}]`;
  const type = dtypeOf[want.type]!;
  if (got.isFloat !== (type === 'f32' || type === 'f16'))
    return `${got.isFloat ? 'floats' : 'integers'}, expected ${want.type}`;
  const [relative, absolute] = tolerances[type === 'f16' ? 'f16' : 'f32'];
  const i = want.values.findIndex((value, at) => {
    const other = got.values[at]!;
    if (Object.is(other, value) || other === value) return false;
    return !(Math.abs(other - value) <= absolute + relative * Math.abs(value));
  });
  return i < 0 ? undefined : `element ${i}: ${got.values[i]}, expected ${want.values[i]}`;
}

/** Runs one test. Nothing throws but what is a fault here. */
async function runTest(gpu: Gpu, name: string, op: string, read: () => NodeTest): Promise<Verdict> {
  const row = rows[op];
  if (row === undefined) return { name, op, failure: 'there is no row for it' };
  try {
    if (typeof row === 'string') return notOffered(row);
    const test = read();
    const types = [...test.inputs.flatMap((input) => input?.type ?? []), ...test.outputs.map(({ type }) => type)];
    if (types.includes('float16') && !gpu.features.has('shader-f16')) return { name, op, lacksHalf: true };
    const compute = row[1] ?? notOffered('no program here');
    takeCalls();
    return await scope(gpu, async (): Promise<Verdict> => {
      const node = new Node(gpu, test);
      const computed = compute(node);
      const calls = takeCalls();
      const isList = Array.isArray(computed) && typeof computed[0] !== 'number';
      const results = (isList ? computed : [computed]) as readonly Result[];
      for (const [i, want] of test.outputs.entries()) {
        const result = results[i];
        if (!result) return { name, op, why: `output ${i}` };
        const failure = difference(await found(result), want);
        if (failure) return { name, op, failure: `output ${i}: ${failure}` };
      }
      return { name, op, calls };
    });
  } catch (error) {
    if (error instanceof NotOffered) return { name, op, why: error.message };
    if (error instanceof ShapeError) return { name, op, why: refusal(error) };
    throw new Error(`${name}: ${(error as Error).message}`, { cause: error });
  }
}

/** An op's message without what was given and what to do. */
const refusal = ({ message }: ShapeError): string =>
  message.replace(/^(\w+): /, '`$1`: ').split(/ — got | — expected |, expected |\. [A-Z]/)[0]!;

/** Runs every test of a folder whose name contains `part`. */
export async function runTests(gpu: Gpu, folder: string, part = ''): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  for (const name of namesIn(folder).filter((each) => each.includes(part))) {
    const { op, read } = readNodeTest(join(folder, name));
    verdicts.push(await runTest(gpu, name, op, read));
  }
  return verdicts;
}
