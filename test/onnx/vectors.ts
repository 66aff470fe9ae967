// ONNX's node tests: a folder holds a model of one node, inputs and outputs (github.com/onnx/onnx, onnx/backend/test/data/node; numbers of
// fields are those of onnx.proto). Read as plain numbers; nothing here knows wgrad's ops.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fromHalf } from '../../engine/custom.js';
import { fieldsOf, floats, integers, messages, texts } from './protobuf.js';

/** Why a set cannot be asked of wgrad. */
export class NotOffered extends Error {
  override name = 'NotOffered';
}

export const notOffered = (why: string): never => {
  throw new NotOffered(why);
};

/** A tensor of the vectors, in ONNX's layout. */
export interface Values {
  /** As ONNX names it: 'float', 'int64', … */
  readonly type: string;
  readonly shape: readonly number[];
  readonly values: readonly number[];
}

type Attribute = number | string | readonly number[] | Values;

/** One test: a node, what goes in, and what must come out. */
export interface NodeTest {
  readonly op: string;
  readonly attributes: ReadonlyMap<string, Attribute>;
  /** In the node's order; undefined where an optional one is left out. */
  readonly inputs: readonly (Values | undefined)[];
  readonly outputs: readonly Values[];
}

/** TensorProto.DataType. */
const types: Record<number, string> = {
  ...{ 1: 'float', 2: 'uint8', 3: 'int8', 4: 'uint16', 5: 'int16', 6: 'int32', 7: 'int64', 8: 'string', 9: 'bool' },
  ...{ 10: 'float16', 11: 'double', 12: 'uint32', 13: 'uint64', 14: 'complex64', 16: 'bfloat16' },
};

/** The name of an ONNX element type. */
export const typeNamed = (code: number): string => types[code] ?? notOffered(`element type ${code}`);

const arrays: Record<string, new (bytes: ArrayBuffer) => Iterable<number | bigint>> = {
  ...{ float: Float32Array, double: Float64Array, float16: Uint16Array, bool: Uint8Array },
  ...{ uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array },
  ...{ int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array },
};

function readValues(bytes: Uint8Array): Values {
  const fields = fieldsOf(bytes);
  const [code = 0] = integers(fields, 2);
  const type = typeNamed(code);
  const [raw] = messages(fields, 9);
  const array = arrays[type];
  let values = [...floats(fields, 4), ...integers(fields, 5), ...integers(fields, 7), ...integers(fields, 11)];
  if (raw && array) values = Array.from(new array(Uint8Array.from(raw).buffer), Number);
  return { type, shape: integers(fields, 1), values: type === 'float16' ? values.map(fromHalf) : values };
}

function readAttribute(bytes: Uint8Array): [string, Attribute] {
  const fields = fieldsOf(bytes);
  const [single, whole, text, tensor] = [
    floats(fields, 2),
    integers(fields, 3),
    texts(fields, 4),
    messages(fields, 5).map(readValues),
  ];
  const list = [...floats(fields, 7), ...integers(fields, 8)];
  return [texts(fields, 1)[0]!, single[0] ?? whole[0] ?? text[0] ?? tensor[0] ?? list];
}

/** The type that a model gives its input or output, and its name; sequences and optional values have no type of elements. */
function readDeclared(bytes: Uint8Array): { name: string; type: string } {
  const fields = fieldsOf(bytes);
  const declared = fieldsOf(messages(fields, 2)[0]!);
  const [tensor] = messages(declared, 1);
  const [name = ''] = texts(fields, 1);
  if (tensor) return { name, type: typeNamed(integers(fieldsOf(tensor), 1)[0]!) };
  return { name, type: messages(declared, 4).length ? 'sequence' : 'optional' };
}

/** The node's op, and what its test holds. `read` throws a NotOffered where there is a value that is no tensor of numbers. */
export function readNodeTest(folder: string): { op: string; read(): NodeTest } {
  const graph = fieldsOf(messages(fieldsOf(readFileSync(join(folder, 'model.onnx'))), 7)[0]!);
  // Constants stand before the node that they are for, in one test.
  const nodes = messages(graph, 1).map(fieldsOf);
  const node = nodes.at(-1)!;
  const [op = ''] = texts(node, 4);
  const constants = new Map(
    nodes.slice(0, -1).map((each) => {
      const attributes = messages(each, 5).map(readAttribute);
      return [texts(each, 2)[0]!, attributes[0]![1] as Values];
    }),
  );
  const load = (kind: 'input' | 'output', field: number): Map<string, Values> =>
    new Map(
      messages(graph, field)
        .map(readDeclared)
        .map(({ name, type }, i) => {
          if (['string', 'bfloat16', 'complex64', 'sequence', 'optional'].includes(type)) notOffered(`type ${type}`);
          const file = join(folder, 'test_data_set_0', `${kind}_${i}.pb`);
          return [name, readValues(readFileSync(file))];
        }),
    );
  return {
    op,
    read() {
      const given = new Map([...constants, ...load('input', 11)]);
      const expected = load('output', 12);
      return {
        op,
        attributes: new Map(messages(node, 5).map(readAttribute)),
        inputs: texts(node, 1).map((name) => given.get(name)),
        outputs: texts(node, 2).flatMap((name) => expected.get(name) ?? []),
      };
    },
  };
}

/** Names of the tests in a folder, without those that spell an op's definition out in others. */
export const namesIn = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => !name.includes('_expanded') && existsSync(join(folder, name, 'model.onnx')))
    .sort();
