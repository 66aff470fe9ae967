// Builds a graph of nodes over named values from ONNX's messages. Field numbers are those of onnx.proto; operators are those of
// opset 17 and IR 8 (2022), which every current runtime reads.
import { Message } from './protobuf.js';

/** The operator set that the file requires of a runtime. */
export const opset = 17;
const irVersion = 8;

/** Element types, by onnx.proto's numbers. */
const elementTypes = { float: 1, uint8: 2 } as const;

/** An attribute of a node: an array is a list of integers, a single number is marked as int or float. */
export type Attribute = readonly number[] | string | { readonly int: number } | { readonly float: number };

/** An input or output of the graph; axes whose size is known only at run time have names. */
export interface ValueInfo {
  readonly name: string;
  readonly type: keyof typeof elementTypes;
  readonly shape: readonly (number | string)[];
  readonly doc: string;
}

/** Collects nodes and constants. Values have names; each is made once. */
export class Graph {
  readonly #message = new Message();
  readonly #names = new Set<string>();

  constructor(name: string) {
    this.#message.value(2, name);
  }

  /** Adds a node with one output; `name` is the name of both. Returns it. */
  node(operator: string, name: string, inputs: readonly string[], attributes: Record<string, Attribute> = {}): string {
    const node = new Message();
    for (const input of inputs) {
      if (input && !this.#names.has(input))
        throw new Error(`internal: onnx node '${name}' reads '${input}', not made yet.`);
      node.value(1, input);
    }
    node.value(2, this.#make(name)).value(3, name).value(4, operator);
    for (const [key, value] of Object.entries(attributes)) node.value(5, attribute(key, value));
    this.#message.value(1, node);
    return name;
  }

  /** Adds a float32 constant; returns its name. Adding the same name again does nothing. */
  constant(name: string, shape: readonly number[], data: Float32Array): string {
    if (this.#names.has(name)) return name;
    const tensor = new Message();
    for (const n of shape) tensor.integer(1, n);
    tensor.integer(2, elementTypes.float).value(8, this.#make(name));
    this.#message.value(5, tensor.value(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)));
    return name;
  }

  input(info: ValueInfo): string {
    this.#message.value(11, valueInfo(info));
    return this.#make(info.name);
  }

  /** Declares a value that a node has made as an output of the graph. */
  output(info: ValueInfo): void {
    if (!this.#names.has(info.name)) throw new Error(`internal: onnx output '${info.name}' is made by no node.`);
    this.#message.value(12, valueInfo(info));
  }

  /** The file: ModelProto. */
  model({ version, doc, metadata }: { version: string; doc: string; metadata: Record<string, string> }) {
    const model = new Message()
      .integer(1, irVersion)
      .value(2, 'wgrad')
      .value(3, version)
      .value(6, doc)
      .value(7, this.#message)
      .value(8, new Message().value(1, '').integer(2, opset));
    for (const [key, value] of Object.entries(metadata)) model.value(14, new Message().value(1, key).value(2, value));
    return model.encode();
  }

  #make(name: string): string {
    if (this.#names.has(name)) throw new Error(`internal: the onnx value '${name}' is made twice.`);
    this.#names.add(name);
    return name;
  }
}

function attribute(name: string, value: Attribute): Message {
  const message = new Message().value(1, name);
  if (typeof value === 'string') return message.value(4, value).integer(20, 3);
  if ('float' in value) return message.float(2, value.float).integer(20, 1);
  if ('int' in value) return message.integer(3, value.int).integer(20, 2);
  for (const n of value) message.integer(8, n);
  return message.integer(20, 7);
}

function valueInfo({ name, type, shape, doc }: ValueInfo): Message {
  const dimensions = new Message();
  for (const n of shape) {
    const dimension = new Message();
    dimensions.value(1, typeof n === 'number' ? dimension.integer(1, n) : dimension.value(2, n));
  }
  const tensor = new Message().integer(1, elementTypes[type]).value(2, dimensions);
  return new Message().value(1, name).value(2, new Message().value(1, tensor)).value(3, doc);
}
